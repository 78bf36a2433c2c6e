"""What lab 06 draws: settings and decisions on their way to the pods, witnesses at work, and what they saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import altair as alt
import marimo as mo
import pandas as pd
from markupsafe import Markup

from helpers import kubeyaml
from helpers.cluster import shapes
from helpers.errors import InvalidInput, InvalidManifest, ObjectMissing
from helpers.labs.draw_settings import settings_change
from helpers.labs.draw_witness import Panels
from helpers.labs.draw_witness import run_or_stop as run_or_stop
from helpers.labs.lab06_orchestration import ground
from helpers.labs.lab06_orchestration.run import run, run_all
from helpers.labs.lab06_orchestration.witness import BOOK, WITNESSES
from helpers.notebook.charts import AMBER, BLUE, GREEN, GREY, RED, TEAL, look
from helpers.notebook.html import card, course, cut, inline, note, spinner, word
from helpers.notebook.panel import applied, apply_panel, preview
from helpers.notebook.reset import reset_button, reset_part
from helpers.notebook.session import LabSession, needs_cluster
from helpers.stack import gateway, orchestrator, state
from helpers.stack.orchestrator import CONFIG, DECISIONS

if TYPE_CHECKING:
    from helpers.cluster import Cluster

APPS = orchestrator.NAMESPACE
HOPS = ("load", "retrieve", "assemble", "generate", "record")
HOP_COLOURS = {
    "load": GREY,
    "retrieve": TEAL,
    "assemble": AMBER,
    "generate": BLUE,
    "record": GREEN,
    "left": "#7f8a9944",
}
STEPS = ("retrieve", "assemble", "generate", "record", "done")
QUESTION = "Why is my pod Pending although the node has a free GPU?"
_REDRAW_S = 0.5
_SHOWN_THREADS = 6


# Settings


def settings_of(text: object) -> dict[str, str]:
    """The settings in a learner's text.

    Raises:
        InvalidInput: it is no mapping of names to texts.
    """
    try:
        documents = kubeyaml.load_all(text) if isinstance(text, str) else []
    except kubeyaml.NotYaml as error:
        raise InvalidInput(f"this is not YAML: {error}") from error
    if len(documents) != 1 or not isinstance(documents[0], dict) or not documents[0]:
        raise InvalidInput("settings are one mapping: in each line a name, a colon and a value")
    wrong = [name for name, value in documents[0].items() if not isinstance(value, str)]
    if wrong:
        raise InvalidInput(
            f"`{wrong[0]}` is {documents[0][wrong[0]]!r}: a ConfigMap holds texts, put it in quotes"
        )
    return dict(documents[0])


@needs_cluster
def settings_preview(lab: LabSession, text: str) -> mo.Html:
    """Which settings would change, and from what."""
    assert lab.cluster is not None
    return settings_change(CONFIG, settings_of(text), orchestrator.settings_in(lab.cluster.view()))


@needs_cluster
def settings_panel(lab: LabSession, text: str, button: Any) -> Any:
    """A button that delivers settings; the first one also creates the orchestrator."""
    wanted = settings_of(text)
    first = {name: value for name, value in ground.prototype_settings().items() if name in wanted}

    def back() -> str:
        assert lab.cluster is not None
        orchestrator.deliver(lab.cluster, CONFIG, {**dict.fromkeys(wanted, None), **first})
        return "The settings are the prototype's again."

    row = mo.hstack(
        [button, reset_button(lab, back, tooltip="Puts back what the prototype has.")], justify="start"
    )
    said = [_placed(lab, wanted)] if lab.asked(button) else []
    return mo.vstack([row, *said], gap=0.5)


@needs_cluster
def _placed(lab: LabSession, wanted: Mapping[str, str]) -> mo.Html:
    assert lab.cluster is not None
    with spinner("Delivering", ", ".join(wanted)):
        done = ground.place(lab.cluster, wanted)
    lines = Markup("").join(Markup("<div>{} {}</div>").format(word("PASS", "done"), line) for line in done)
    return course(lines + Markup("<small>A rollout brings them to the pods.</small>"), live=True)


# Decisions


@needs_cluster
def decision_panel(lab: LabSession, name: str, button: Any, *functions: Callable[..., Any]) -> Any:
    """A button that puts functions of the page into the ConfigMap of decisions, and whether they are there."""
    assert lab.cluster is not None
    text = orchestrator.decision_text(*functions)
    file = f"{name}.py"

    def back() -> str:
        assert lab.cluster is not None
        orchestrator.deliver(lab.cluster, DECISIONS, {file: None})
        return f"{file} is gone: the course's own cautious decision is in force."

    undo = reset_button(lab, back, tooltip="Takes this file out of the ConfigMap.")
    row = mo.hstack([button, undo], justify="start")
    if lab.asked(button):
        with spinner("Delivering", file):
            # Where a solution runs, one rollout at the end brings all of them.
            orchestrator.deliver(lab.cluster, DECISIONS, {file: text}, at_once=not lab.pressed)
    there = orchestrator.decisions_in(lab.cluster.view()).get(name)
    is_there = there == orchestrator.short_hash(text)
    state_word = word("PASS", "delivered") if is_there else word("open", "not delivered")
    said = f"ConfigMap `{DECISIONS}` holds this `{file}`." if is_there else _other(there, file)
    return mo.vstack([row, course(Markup("{} {}").format(state_word, inline(said)), live=True)], gap=0.5)


def _other(there: str | None, file: str) -> str:
    if there is None:
        return f"The pods use the course's own cautious decision in place of `{file}`."
    return f"ConfigMap `{DECISIONS}` holds another `{file}`."


# Redis, the Deployment and the gateway


def _text(objects: Sequence[Mapping[str, Any]]) -> str:
    """Objects as one text for a panel."""
    return "---\n".join(kubeyaml.dump(item) for item in objects)


def _with_class(lab: LabSession) -> LabSession:
    """The session with `$STORAGE_CLASS` among the names for manifests."""
    storage = lab.profile.storage_class if lab.profile else ""
    return replace(lab, images={**lab.images, "storage_class": storage})


@needs_cluster
def redis_preview(lab: LabSession, text: str) -> mo.Html:
    """What would change in Redis; a StatefulSet with other claims is made anew."""
    return preview(_with_class(lab), text)


@needs_cluster
def redis_panel(lab: LabSession, text: str, button: Any) -> Any:
    """Apply Redis, and wait until it answers again."""
    assert lab.cluster is not None
    first = _text([item for item in ground.prototype_redis(lab.cluster) if item["kind"] == "StatefulSet"])
    panel = apply_panel(_with_class(lab), text, button, first=first)
    if lab.asked(button):
        with spinner("Redis", "waiting until it is ready"):
            lab.cluster.wait_rollout("StatefulSet", orchestrator.REDIS, orchestrator.SYSTEM)
    return panel


def _deployment_text(lab: LabSession, fragment: str) -> str:
    assert lab.cluster is not None
    trees = kubeyaml.load_all(fragment)
    if len(trees) != 1 or not isinstance(trees[0], Mapping):
        raise InvalidManifest("the fragment is not a mapping: it begins with `spec:`")
    deployment = ground.with_fragment(lab.cluster, trees[0])
    shapes.check(deployment, shapes.DEPLOYMENT)
    return kubeyaml.dump(deployment)


@needs_cluster
def deployment_preview(lab: LabSession, fragment: str) -> mo.Html:
    """What Apply would change in the Deployment with this fragment."""
    return preview(lab, _deployment_text(lab, fragment))


@needs_cluster
def deployment_panel(lab: LabSession, fragment: str, button: Any) -> Any:
    """Apply the Deployment with a fragment of the learner's, and the way back to the prototype's."""
    text = _deployment_text(lab, fragment)
    first = _deployment_text(lab, (ground.MANIFESTS / "prototype" / "deployment.yaml").read_text())
    row = mo.hstack([button, reset_part(lab, text, first=first)], justify="start")
    said = [applied(lab, text)] if lab.asked(button) else []
    return mo.vstack([row, *said, _whole(text, "The whole Deployment")], gap=0.5)


def _whole(text: str, title: str) -> Any:
    return mo.accordion({title: mo.md(f"```yaml\n{text}\n```")})


def _gateway_text(lab: LabSession, limits: str) -> str:
    assert lab.cluster is not None
    trees = kubeyaml.load_all(limits)
    return _text(ground.gateway_objects(lab.cluster, trees[0] if len(trees) == 1 else None))


@needs_cluster
def gateway_preview(lab: LabSession, limits: str) -> mo.Html:
    """What Apply would change in the gateway with these limits."""
    return preview(lab, _gateway_text(lab, limits))


@needs_cluster
def gateway_panel(lab: LabSession, limits: str, button: Any) -> Any:
    """Apply the gateway with a learner's limits."""
    assert lab.cluster is not None
    panel = apply_panel(lab, _gateway_text(lab, limits), button)
    if lab.asked(button):
        with spinner("The gateway", "waiting until it is ready"):
            for name in (gateway.RATELIMIT, gateway.NAME):
                lab.cluster.wait_rollout("Deployment", name, gateway.NAMESPACE)
    return panel


# Asking


@needs_cluster
def ask_panel(lab: LabSession, button: Any) -> Any:
    """One question to the Service, its answer, and where its time went."""
    assert lab.cluster is not None
    if not lab.asked(button, by_hand=True):
        return mo.vstack([button, note(f"It asks: {QUESTION}")], gap=0.3)
    with spinner("Asking", QUESTION):
        said = orchestrator.ask(lab.cluster, QUESTION)
    if said.error:
        return mo.vstack(
            [button, course(Markup("{} {}").format(word("FAIL", str(said.status)), inline(said.error)))]
        )
    documents = Markup("{} documents").format(len(said.body.get("citations") or []))
    head = Markup('<div class="row">{} <small>{}, {} tokens</small></div>').format(
        word("PASS", "answered"), documents, said.body["usage"]["total_tokens"]
    )
    shown = card(head + Markup("<div>{}</div>").format(cut(str(said.body["answer"]), 600)), live=True)
    deadline = said.body["budget"]["deadline_ms"]
    return mo.vstack([button, shown, budget_bar({"this answer": said.spent_ms}, deadline)], gap=0.5)


def budget_bar(spent: Mapping[str, Mapping[str, float]], deadline_ms: float) -> Any:
    """A budget as a bar of which each hop takes its part, one bar for each name."""
    rows = []
    for name, hops in spent.items():
        at = 0.0
        for hop in HOPS:
            took = float(hops.get(hop) or 0)
            rows.append((name, hop, at, at + took, took))
            at += took
        rows.append((name, "left", at, max(at, deadline_ms), max(0.0, deadline_ms - at)))
    frame = pd.DataFrame(rows, columns=["answer", "hop", "from", "to", "ms"])
    bars = (
        alt.Chart(frame)
        .mark_bar(height=22)
        .encode(
            x=alt.X("from:Q", title="milliseconds of the budget"),
            x2="to:Q",
            y=alt.Y("answer:N", title=None, sort=list(spent)),
            color=alt.Color(
                "hop:N",
                title=None,
                sort=list(HOP_COLOURS),
                scale=alt.Scale(domain=list(HOP_COLOURS), range=list(HOP_COLOURS.values())),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["answer", "hop", alt.Tooltip("ms:Q", format=".0f")],
        )
    )
    return look(bars.properties(height=34 * max(1, len(spent))))


# Witnesses


_PANELS = Panels(BOOK, run)


def witness_panel(lab: LabSession, name: str, buttons: Any) -> Any:
    """Buttons that run a witness in the background, and what its record says."""
    return _PANELS.panel(lab, name, buttons)


def all_witnesses(lab: LabSession) -> Any:
    """Where a solution runs: the decisions are brought to the pods, and every witness looks."""
    if lab.cluster is None or not lab.pressed:
        return note("")
    orchestrator.roll_out(lab.cluster)
    with spinner("Witnesses") as say:
        run_all(lab.cluster, list(WITNESSES), on_progress=say)
    return note("Every witness has looked.")


def seen_by(cluster: Cluster, name: str) -> Mapping[str, Any]:
    """What a witness saw; empty where it has no record that counts."""
    return _PANELS.seen(cluster, name)


# What they saw


@needs_cluster
def threads(lab: LabSession) -> mo.Html:
    """The newest threads in Redis, and the step at which each stands."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    store = state.read(view)
    names = [name for name in store.threads if not name.startswith("witness/")] or list(store.threads)
    if not names:
        return note("No thread in Redis yet: ask a question.")
    paths = [_path(name, _step(view, name)) for name in names[-_SHOWN_THREADS:]]
    for_ever = len([key for key in store.keys if key.ttl_s is None])
    summary = (
        f"{len(store.threads)} threads, {for_ever} of {len(store.keys)} keys of the service without an end"
    )
    return card(Markup("<small>{}</small>").format(summary) + Markup("").join(paths), live=True)


def _step(view: Any, name: str) -> str:
    """The node that comes next in this thread, as the service says."""
    tenant, _, thread = name.partition("/")
    headers = {"X-Internal-Token": orchestrator.token(view), "X-Tenant-Id": tenant}
    answer = view.http(
        APPS, orchestrator.SERVICE, orchestrator.PORT, f"/v1/threads/{thread}", headers=headers
    )
    return str(answer.json().get("step", "")) if answer.ok else ""


def _path(name: str, at: str) -> Markup:
    """One thread as the graph, with the step it stands at."""
    chips = []
    for step in STEPS:
        done = at in STEPS and STEPS.index(step) < STEPS.index(at)
        state_ = "PASS" if done or at == step == "done" else "open" if step == at else "none"
        chips.append(word(state_, step))
    return Markup('<div class="row"><code>{}</code> {}</div>').format(
        cut(name, 40), Markup(" → ").join(chips)
    )


@needs_cluster
def pressure_chart(lab: LabSession) -> Any:
    """Question by question, whether Qdrant was reached; and what each tenant heard in the crowd."""
    assert lab.cluster is not None
    seen = seen_by(lab.cluster, "pressure")
    if not seen:
        return note("The time line appears when the witness has looked.")
    return mo.vstack([circuit_line(seen), crowd_bars(seen)], gap=0)


def circuit_line(seen: Mapping[str, Any]) -> Any:
    """Each question of the failing time as a bar: how often Qdrant was still asked; none where the circuit is open."""
    rows = [
        (number, count, "asked" if count else "left alone: circuit open")
        for number, count in enumerate(seen["reached"], 1)
    ]
    frame = pd.DataFrame(rows, columns=["question", "calls", "Qdrant"])
    scale = alt.Scale(domain=["asked", "left alone: circuit open"], range=[RED, GREEN])
    bars = (
        alt.Chart(frame.assign(shown=frame["calls"].clip(lower=0.12)))
        .mark_bar(width=22)
        .encode(
            x=alt.X("question:O", title="question while Qdrant fails", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("shown:Q", title="calls to Qdrant", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color("Qdrant:N", scale=scale, legend=alt.Legend(orient="top", title=None)),
            tooltip=["question", "calls", "Qdrant"],
        )
    )
    return look(bars.properties(height=130))


def crowd_bars(seen: Mapping[str, Any]) -> Any:
    """How many of each tenant's questions were served, and how many were told to come back."""
    words = {"200": "served", "429": "429, come back"}
    rows = [
        (tenant, words.get(status, f"status {status}"), count)
        for tenant in ("greedy", "quiet")
        for status, count in seen[tenant].items()
    ]
    frame = pd.DataFrame(rows, columns=["tenant", "heard", "questions"])
    domain = [*words.values(), *sorted(set(frame["heard"]) - set(words.values()))]
    scale = alt.Scale(domain=domain, range=[GREEN, AMBER, *[RED] * (len(domain) - 2)])
    bars = (
        alt.Chart(frame)
        .mark_bar(height=20)
        .encode(
            x=alt.X("questions:Q", title="questions at once"),
            y=alt.Y("tenant:N", title=None),
            color=alt.Color("heard:N", scale=scale, legend=alt.Legend(orient="top", title=None)),
            tooltip=["tenant", "heard", "questions"],
        )
    )
    return look(bars.properties(height=76))


@needs_cluster
def tokens_chart(lab: LabSession) -> Any:
    """What each key has spent of its tokens, as the gateway says now; asking costs none."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    try:
        keys = gateway.keys(view)
        answers = {tenant: gateway.left(view, key) for tenant, key in keys.items()}
    except (ObjectMissing, gateway.GatewaySilent):
        return note("The tokens appear when the gateway answers.")
    rows = [
        (tenant, 100 * (1 - (answer.left or 0) / answer.limit), answer.left or 0, answer.limit)
        for tenant, answer in answers.items()
        if answer.limit
    ]
    if not rows:
        return note("The gateway counts no tokens for any key.")
    return spent_bars(pd.DataFrame(rows, columns=["tenant", "spent", "left", "limit"]))


def spent_bars(frame: pd.DataFrame) -> Any:
    """The share of each key's tokens that is spent; red where none is left."""
    frame = frame.assign(state=["spent" if left == 0 else "some left" for left in frame["left"]])
    bars = (
        alt.Chart(frame)
        .mark_bar(height=20)
        .encode(
            x=alt.X("spent:Q", title="per cent of the tokens spent", scale=alt.Scale(domain=[0, 100])),
            y=alt.Y("tenant:N", title=None),
            color=alt.Color(
                "state:N",
                title=None,
                scale=alt.Scale(domain=["some left", "spent"], range=[BLUE, RED]),
                legend=None,
            ),
            tooltip=["tenant", "left", "limit", alt.Tooltip("spent:Q", format=".0f")],
        )
    )
    return look(bars.properties(height=34 * len(frame)))
