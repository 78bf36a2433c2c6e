"""The reachability matrix: what connects, what the policies would allow, and what should be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers.cluster.manifests import load
from helpers.labs.lab04_isolation.doors import OF_OTHER_LABS
from helpers.notebook.html import card, code, course, inline, note, problem_card, table, with_outcome, word
from helpers.notebook.session import LabSession, needs_cluster, waiting_card
from helpers.stack.bring_up import SYSTEM, first_policy

if TYPE_CHECKING:
    from helpers.stack.network import Pair, Reachability
    from helpers.stack.policy_forecast import Decision

Cell = Callable[[str, str], Markup]

# Colours come from the course's variables, so that light and dark both work; every cell says its state in words.
_STYLE = Markup("""<style>
.course .reach { overflow-x: auto; }
.course .reach table { border-collapse: separate; border-spacing: 4px; width: 100%; font-size: 0.8rem; }
.course .reach th { font-weight: 600; color: var(--muted-foreground); padding: 0.2rem 0.3rem; text-align: left; vertical-align: bottom; }
.course .reach th small { display: block; font-weight: 400; }
.course .reach td { border: 1px solid var(--c-line); border-radius: 7px; padding: 0.25rem 0.45rem; vertical-align: top;
  min-width: 5.2rem; background: var(--background); }
.course .reach td b { display: block; font-weight: 700; }
.course .reach td small { display: block; line-height: 1.25; }
.course .reach .open { background: color-mix(in srgb, var(--c-inference) 13%, var(--background)); }
.course .reach .closed { background: color-mix(in srgb, var(--c-idle) 20%, var(--background)); }
.course .reach .unclear { border-style: dashed; }
.course .reach .off { border: 2px solid var(--c-fail); }
.course .reach .change { border: 2px solid var(--c-partial); }
.course .reach em { font-style: normal; font-weight: 700; color: var(--c-fail); }
.course .reach u { text-decoration: none; font-weight: 700; color: var(--c-partial); }
</style>""")


@needs_cluster
def observed_matrix(lab: LabSession) -> mo.Html:
    """Who can connect to what, right now, beside what should be and what the stored policies say."""
    from helpers.labs.lab04_isolation.checks import EXPECTED, table_of

    assert lab.cluster is not None
    table = table_of(lab.cluster.view())
    wrong = [pair for pair, goal in EXPECTED.items() if table.answer(*pair) is not goal]
    differences = table.differences()
    said = f"{len(EXPECTED) - len(wrong)} of {len(EXPECTED)} judged pairs are as they should be. "
    if differences:
        cells = ", ".join(f"{caller} to {target}" for caller, target in differences)
        said += f"**The cluster and the policies' text disagree** about {cells}."
    else:
        said += "The cluster does what the policies' text says."
    shown = [
        target
        for target in table.targets
        if not table.target(target.name).down or any(target.name == pair[1] for pair in EXPECTED)
    ]
    return _draw(replace(table, targets=tuple(shown)), _observed_cell(table, EXPECTED), said, legend=_SEEN)


@needs_cluster
def forecast_matrix(lab: LabSession, manifests: str) -> mo.Html:
    """What the cell's policies would allow on top of those in the cluster: computed, nothing is sent."""
    from helpers.labs.lab04_isolation.checks import EXPECTED
    from helpers.stack.network import Reachability
    from helpers.stack.stage import read_stage

    assert lab.cluster is not None
    stage = read_stage(lab.cluster.view())
    now, then = stage.forecast(), stage.forecast(lab.render(manifests))
    table = Reachability(stage.callers, stage.targets, {}, then)
    changes = [pair for pair in then if then[pair].allowed != now[pair].allowed]
    wrong = [pair for pair, goal in EXPECTED.items() if pair in then and then[pair].allowed is not goal]
    said = f"Forecast, from the specification: this text would change **{len(changes)} cells**; "
    said += f"{len(wrong)} judged pairs would not be as they should be."
    judged = {target for _, target in then}
    shown = tuple(target for target in stage.targets if target.name in judged)
    return _draw(replace(table, targets=shown), _forecast_cell(now, then, EXPECTED), said, legend=_MEANT)


_SEEN = Markup(
    "Rows are callers, columns are targets. <b>open</b> and <b>closed</b> are what was seen; <em>red</em>: not as it should be. "
    "A target that does not even answer its own node is <b>down</b>, not closed."
)
_MEANT = Markup(
    "Rows are callers, columns are targets. <b>open</b> and <b>closed</b> are what the text means; nothing was sent. "
    "<em>red</em>: not as it should be; <u>amber</u>: would change, from what is now to what the text means."
)


def _draw(found: Reachability, cell: Cell, said: str, *, legend: Markup) -> mo.Html:
    named = Markup("<th>{}<small>{}</small></th>")
    head = (named.format(target.name, _port(target)) for target in found.targets)
    rows = (
        Markup("<tr>{}{}</tr>").format(
            named.format(caller.name, caller.namespace),
            Markup("").join(cell(caller.name, target.name) for target in found.targets),
        )
        for caller in found.callers
    )
    return course(
        Markup(
            '{style}<div class="card"><div>{said}</div><div class="reach">'
            "<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"
            "<small>{legend}</small></div></div>"
        ).format(
            style=_STYLE,
            said=inline(said),
            head=Markup("").join(head),
            rows=Markup("").join(rows),
            legend=legend,
        ),
        live=True,
    )


def _port(target: object) -> str:
    scheme, port = getattr(target, "scheme", ""), getattr(target, "port", "")
    return f"{port} {'UDP+TCP' if port == 53 else 'https' if scheme == 'https' else 'TCP'}"


def _observed_cell(table: Reachability, goals: Mapping[Pair, bool]) -> Cell:
    def cell(caller: str, target: str) -> Markup:
        answer, goal = table.answer(caller, target), goals.get((caller, target))
        state = {True: "open", False: "closed", None: "unclear"}[answer]
        shown = state if answer is not None else ("down" if table.target(target).down else "not proven")
        off = goal is not None and answer is not goal
        decision = table.forecast.get((caller, target))
        lines = [Markup("<b>{}</b><small>{}</small>").format(shown, table.words(caller, target))]
        if off:
            lines.append(_should_be(goal))
        if decision is not None and answer is not None and decision.allowed != answer:
            say = Markup("<small><u>the policies say {}</u></small>")
            lines.append(say.format("open" if decision.allowed else "closed"))
        return _cell(state, "off" if off else "", decision.reason if decision else "", lines)

    return cell


def _forecast_cell(
    now: Mapping[Pair, Decision], then: Mapping[Pair, Decision], goals: Mapping[Pair, bool]
) -> Cell:
    def cell(caller: str, target: str) -> Markup:
        decision = then.get((caller, target))
        if decision is None:
            return Markup('<td class="unclear"><b>no pod</b><small>nothing to judge</small></td>')
        state = "open" if decision.allowed else "closed"
        changes = now[(caller, target)].allowed != decision.allowed
        goal = goals.get((caller, target))
        off = goal is not None and decision.allowed is not goal
        before = "closed" if decision.allowed else "open"
        lines = [Markup("<b>{}</b>").format(f"{before} → {state}" if changes else state)]
        if off:
            lines.append(_should_be(goal))
        return _cell(state, "change" if changes else "off" if off else "", decision.reason, lines)

    return cell


def _cell(state: str, border: str, reason: str, lines: Sequence[Markup]) -> Markup:
    return Markup('<td class="{} {}" title="{}">{}</td>').format(
        state, border, reason, Markup("").join(lines)
    )


def _should_be(goal: bool | None) -> Markup:
    return Markup("<small><em>should be {}</em></small>").format("open" if goal else "closed")


@needs_cluster
def three_noes(lab: LabSession, *_triggers: object) -> mo.Html:
    """Dropped, refused and forbidden, seen from the application's probe pod in this cluster."""
    from helpers.stack.network import Target, observe
    from helpers.stack.probes import SEALED
    from helpers.stack.stage import read_stage

    assert lab.cluster is not None
    view = lab.cluster.view()
    stage = read_stage(view)
    app = [caller for caller in stage.callers if caller.name == "app"]
    by_name = {target.name: target for target in stage.targets}
    outsider = stage.parties.get("outsider")
    asked = [by_name[name] for name in (SEALED, "api-server") if name in by_name]
    # /readyz is open to everybody; what needs a role answers 403 without a token.
    asked = [replace(item, path="/api/v1/nodes") if item.name == "api-server" else item for item in asked]
    if outsider and outsider.ip:
        asked.append(Target("nobody", outsider.ip, 81))
    seen = observe(
        lambda namespace, pod, command, limit_s: view.exec(namespace, pod, command, timeout_s=limit_s),
        app,
        asked,
    )
    meanings = {
        SEALED: ("a pod that a policy seals", "the packet was **dropped**: a policy, or a host that is off"),
        "nobody": (
            "a port where nobody listens",
            "the kernel of the other side **refused**: the host is alive, but nothing listens there",
        ),
        "api-server": (
            "the API server without a token",
            "connected, then **forbidden**: no policy is in the way",
        ),
    }
    rows = [
        (
            meanings[target.name][0],
            word("none", seen.words("app", target.name).split(",")[0]),
            f"{seen.seen[('app', target.name)].duration_s:.2f} s",
            inline(meanings[target.name][1]),
        )
        for target in asked
    ]
    return card(table(("asked", "answer", "after", "what it means"), rows))


@needs_cluster
def enforcement_card(lab: LabSession) -> mo.Html:
    """Whether this cluster enforces policy, before anybody debugs a policy that nobody enforces."""
    from helpers.labs.lab04_isolation.checks import table_of
    from helpers.stack.stage import enforcement

    assert lab.cluster is not None
    found = enforcement(table_of(lab.cluster.view()))
    if found.enforced is None:
        return problem_card(
            found.observed, "course start 04", title="Whether policy is enforced here is not known yet."
        )
    tone, shown = ("PASS", "enforced") if found.enforced else ("FAIL", "stored, not enforced")
    said = Markup('<div class="card row">{}<span>{}</span></div>')
    return course(said.format(word(tone, shown), inline(found.observed)), live=True)


@needs_cluster
def other_policies(lab: LabSession, *texts: str) -> mo.Html:
    """Which policies of llm-system no text of the page names any more: renamed ones stay, and go on allowing."""
    found = _others(lab, texts)
    if not found:
        return note(f"Every policy in `{SYSTEM}` is named by a text on this page.", live=True)
    said = Markup(
        "No text on this page names {}. A policy that you renamed stays under its old name, and what it allows "
        "stays allowed."
    )
    return card(said.format(code(*found)), live=True)


def delete_other_policies(lab: LabSession, button: Any, *texts: str) -> Any:
    """The button that deletes them, and which it deleted."""
    if lab.cluster is None:
        return waiting_card(lab)
    return with_outcome(button, _deleted(lab, texts) if lab.asked(button, by_hand=True) else None)


@needs_cluster
def _deleted(lab: LabSession, texts: Sequence[str]) -> mo.Html:
    assert lab.cluster is not None
    gone = [name for name in _others(lab, texts) if lab.cluster.delete("NetworkPolicy", name, SYSTEM)]
    shown = Markup("{} Deleted: {}").format(word("PASS", "done"), code(*gone)) if gone else "There is none."
    return course(shown, live=True)


def _others(lab: LabSession, texts: Sequence[str]) -> list[str]:
    assert lab.cluster is not None
    named = {item["metadata"]["name"] for text in (first_policy(), *texts) for item in load(lab.render(text))}
    known = {*named, *OF_OTHER_LABS}
    return [item.name for item in lab.cluster.view().network_policies(SYSTEM) if item.name not in known]
