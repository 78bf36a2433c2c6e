"""The card as a picture: in which shape it is offered, who holds it, and what an idle hour costs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import altair as alt
import marimo as mo
import pandas as pd
from markupsafe import Markup

from helpers.notebook.charts import AMBER, look, words_beside
from helpers.notebook.html import card, code, course, inline, note, table, word
from helpers.notebook.session import LabSession, needs_cluster
from helpers.stack import gpu

_SLOTS = 8
_WEEK_H = 168


@needs_cluster
def gpu_picture(lab: LabSession, namespaces: Sequence[str]) -> mo.Html:
    """Every GPU resource that nodes offer, with who holds it and who waits for it."""
    assert lab.cluster is not None and lab.identity is not None
    view = lab.cluster.view()
    pods = [pod for name in namespaces for pod in view.pods(name)]
    held = gpu.holders(pods)
    waiting = [
        pod for pod in pods if pod.phase == "Pending" and not pod.node and gpu.requested(pod.path("spec", {}))
    ]
    simulated = lab.identity.gpu == "simulated"
    offers = gpu.offers(view.nodes())
    body = Markup("").join(_offer(offer, held, simulated=simulated) for offer in offers)
    nothing = word("none", "no GPU") + " No node offers a GPU now."
    queue = Markup("<div>{} {}</div>").format(word("open", "waiting"), _names(waiting)) if waiting else ""
    return card((body or nothing) + queue)


def _names(pods: Sequence[Any]) -> Markup:
    return code(*(pod.name for pod in pods[:4])) + (f" and {len(pods) - 4} more" if len(pods) > 4 else "")


def _offer(offer: gpu.Offer, held: Sequence[gpu.Holder], *, simulated: bool) -> Markup:
    shape = gpu.SHAPES[offer.shape]
    users = [item for item in held if item.resource == offer.resource and item.node == offer.node]
    names = [user.pod for user in users for _ in range(user.count)]
    slots = Markup("").join(
        Markup('<span class="slot busy" title="{}">{}</span>').format(names[index], _short(names[index]))
        if index < len(names)
        else Markup('<span class="slot">free</span>')
        for index in range(min(offer.count, _SLOTS))
    )
    return Markup(
        '<div style="--tone: var(--c-substrate)"><div class="row"><b>{shape.title}</b>{said}'
        "<span>node <code>{offer.node}</code> offers <code>{offer.resource}: {offer.count}</code></span></div>"
        '<div class="slots" style="margin:.4rem 0">{slots}</div>'
        "<small>Isolation: {isolation}. Price: {price}.</small></div>"
    ).format(
        shape=shape,
        said=Markup(" <small>(simulated)</small>") if simulated else "",
        offer=offer,
        slots=slots,
        isolation=inline(shape.isolation),
        price=inline(shape.price),
    )


@needs_cluster
def mig_strategies(lab: LabSession) -> mo.Html:
    """What a node advertises for a card in seven slices under each of MIG's strategies, and which this node has."""
    assert lab.cluster is not None and lab.profile is not None
    nodes = lab.cluster.view().nodes()
    now = {node.labels[gpu.MIG_STRATEGY] for node in nodes if gpu.MIG_STRATEGY in node.labels}
    rows = [
        (
            code(item.key) + (word("fits", "this node, now") if item.key in now else ""),
            code(f"{item.resource}: {item.count}"),
            code(f"{item.resource}: 1"),
            inline(item.told_by),
            inline(item.needs),
        )
        for item in gpu.STRATEGIES.values()
    ]
    head = (
        "strategy",
        "the node advertises",
        "a pod asks for a slice with",
        "how a slice shows",
        "what it means",
    )
    here = [
        f"node `{node.name}`: `{gpu.MIG_STRATEGY}: {node.labels.get(gpu.MIG_STRATEGY, 'no such label')}`, offers "
        + (", ".join(f"`{item.resource}: {item.count}`" for item in gpu.offers([node])) or "no GPU")
        for node in nodes
        if gpu.offers([node]) or gpu.MIG_STRATEGY in node.labels
    ]
    own = (
        "This course's node uses `mixed` for its slices, and `none` for the other two shapes."
        if _is_own(lab)
        else ""
    )
    said = f"Now: {'; '.join(here) or 'no node offers a GPU'}. {own}"
    return card(table(head, rows) + Markup("<div>{}</div>").format(inline(said)), live=True)


def _is_own(lab: LabSession) -> bool:
    return lab.profile is not None and lab.profile.name == "embedded"


def _short(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:14]}…"


@needs_cluster
def waiting_meter(lab: LabSession, namespace: str, pod: str, price_per_hour: float) -> mo.Html:
    """How long a pod has waited for its GPU, by the cluster's own times, and what that cost."""
    assert lab.cluster is not None
    found = lab.cluster.view().find("Pod", pod, namespace)
    if found is None:
        return note(code(pod) + " is not there yet.")
    seconds = gpu.waited_s(found, datetime.now(UTC)) or 0.0
    state = word("fits", "placed") if gpu.placed_at(found) else word("open", "waiting")
    cost = gpu.price_text(gpu.idle_cost(seconds / 3600, price_per_hour))
    return course(
        Markup(
            '<div class="card row">{state}<span><code>{pod}</code> waited <b>{seconds:.0f} s</b> for a card '
            "that did nothing: <b>{cost}</b> at {price} an hour.</span></div>"
        ).format(state=state, pod=pod, seconds=seconds, cost=cost, price=gpu.price_text(price_per_hour)),
        live=True,
    )


def idle_cost_chart(price_per_hour: float, cards: int) -> Any:
    """What held, unused cards cost as the week goes by."""
    moments = pd.DataFrame(
        [
            {"hours": hours, "cost": cost, "label": f"{what}: {gpu.price_text(cost)}"}
            for hours, what in ((14, "one night"), (62, "one weekend"), (_WEEK_H, "one week"))
            for cost in (gpu.idle_cost(hours, price_per_hour, cards=cards),)
        ]
    )
    line = pd.DataFrame(
        [
            {"hours": hours, "cost": gpu.idle_cost(hours, price_per_hour, cards=cards)}
            for hours in range(0, _WEEK_H + 1, 4)
        ]
    )
    x = alt.X("hours:Q", title="hours held and idle", axis=alt.Axis(values=list(range(0, _WEEK_H + 1, 24))))
    y = alt.Y("cost:Q", title="cost in $", axis=alt.Axis(format="~s"))
    base = alt.Chart(line).mark_area(line={"color": AMBER}, color=AMBER, opacity=0.18).encode(x=x, y=y)
    points = alt.Chart(moments).mark_point(size=70, filled=True, color=AMBER)
    words = words_beside(moments, "hours", _WEEK_H / 2, dx=10, dy=8, fontSize=12)
    told = [layer.encode(x=x, y=y, text="label:N") for layer in words]
    shown = points.encode(x=x, y=y, tooltip=["label:N"])
    return look(alt.layer(base, shown, *told).properties(height=220))
