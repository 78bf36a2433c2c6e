"""What lab 08 draws of incidents and of the review: figures without a name, a diagnosis, and twelve lines."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers import kubeyaml
from helpers.chaos import incident as incidents
from helpers.chaos.incident_figures import BY_NAME, SIGNS, typical
from helpers.errors import LabError
from helpers.labs.draw_witness import beside_the_page, run_or_stop
from helpers.labs.lab07_gates import ground as ground_of_lab_07
from helpers.notebook.html import card, code, course, inline, note, spinner, table, with_outcome, word
from helpers.notebook.panel import applied, apply_button, preview
from helpers.notebook.reset import reset_button
from helpers.notebook.session import LabSession, needs_cluster, waiting_card
from helpers.review.criteria import review
from helpers.stack import assistant, traces

if TYPE_CHECKING:
    from helpers.cluster import Cluster
    from helpers.progress import Progress
    from helpers.review.answers import Line

# The incident that `course solve` draws first.
SEED = 5
# What the workers' settings call themselves in Phoenix.
PROJECT = "llm-jobs"
TRACES_S, MOST_SPANS = 120.0, 400
_WORD = {"met": "PASS", "missing": "FAIL", "unknown": "ENV_ERROR"}


# Incidents


def incident_buttons() -> Any:
    """The two buttons of `incident_panel`."""
    return run_or_stop("Let something happen")


def incident_panel(lab: LabSession, buttons: Any) -> Any:
    """Let one of six happen; it waits for a diagnosis, then is undone and named.

    Each press draws another. Where a solution runs, it is the one of `SEED`, unless its name was told already.
    """
    if lab.cluster is None:
        return waiting_card(lab)
    if lab.pressed:
        known = [item["seed"] for item in incidents.told(lab.cluster)]
        seed = incidents.fresh_seed(lab.cluster) if SEED in known else SEED
        eye = incidents.ByTheTable(lab.cluster, seed)
        incidents.incident(lab.cluster, seed, on_progress=eye.progress, on_figures=eye.figures)

    def work(cluster: Cluster, say: Progress, should_stop: Callable[[], bool]) -> object:
        return incidents.incident(
            cluster, incidents.fresh_seed(cluster), on_progress=say, should_stop=should_stop
        )

    return beside_the_page(
        lab, buttons, work, lambda: _named(lab), failed="The incident did not come to its end."
    )


def _named(lab: LabSession) -> mo.Html:
    """What it was, once it is over."""
    assert lab.cluster is not None
    record = incidents.newest(lab.cluster.identity().uid)
    named = record.last("reveal") if record else None
    if record is None or named is None:
        return note(
            "For 40 s users ask and nothing happens: that is what figures are compared with. Then something does. In a "
            "terminal: `course incident`"
        )
    said = record.last("diagnosis")
    cause = str(named["cause"])
    right = bool(said) and incidents.is_right((said or {})["answer"], cause)
    verdict = word("PASS", "right") if right else word("FAIL", "another" if said else "no diagnosis")
    told = Markup("{} It was {}: {}, which {} shows.").format(
        verdict, code(cause), inline(SIGNS[cause].says), code(SIGNS[cause].figure)
    )
    if incidents.was_told(record):
        told += Markup(" Its name had been told before, so it does not count: press again for another.")
    return course(told, live=True)


@needs_cluster
def incident_figures(lab: LabSession) -> mo.Html:
    """The figures of the newest incident: before it, and lately."""
    assert lab.cluster is not None
    record = incidents.newest(lab.cluster.identity().uid)
    if record is None:
        return note("The figures appear when something has happened.", live=True)
    before, now = incidents.before_and_now(record)
    was, is_ = typical(before), typical(now)
    rows = [
        (code(name), item.title, _value(was[name]), _value(is_[name]) if now else "", item.unit)
        for name, item in BY_NAME.items()
    ]
    over = record.first("undo") is not None
    head = "at its end" if over else "now"
    return card(table(("figure", "", "before", head, ""), rows), live=True)


@needs_cluster
def incident_traces(lab: LabSession) -> mo.Html:
    """The workers' spans of the last two minutes, by name: how many, how long, how many failed."""
    assert lab.cluster is not None
    since = datetime.now(UTC) - timedelta(seconds=TRACES_S)
    try:
        spans = traces.read(lab.cluster.view(), since=since, most=MOST_SPANS, project=PROJECT)
    except LabError as problem:
        return note(str(problem), live=True)
    if not spans:
        return note("No worker has sent a span within two minutes.", live=True)
    by_name: dict[str, list[traces.Span]] = {}
    for span in spans:
        by_name.setdefault(span.name, []).append(span)
    rows = [
        (
            code(name),
            f"{len(found)}",
            f"{median(span.ms for span in found) / 1000:.2f} s",
            str(sum(span.failed for span in found)),
        )
        for name, found in sorted(by_name.items())
    ]
    head = Markup(
        "<small>Spans of the last two minutes, as far as the Collector keeps them. All of one: {}</small>"
    )
    return card(
        head.format(code("course open phoenix")) + table(("span", "seen", "takes", "failed"), rows), live=True
    )


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def diagnosis_form() -> Any:
    """Two lists and a button, for `diagnosis_panel`: in a cell of their own, so that choosing stops no incident."""
    causes = {item.title: name for name, item in incidents.INCIDENTS.items()}
    figures = {item.title: name for name, item in BY_NAME.items()}
    return mo.ui.dictionary(
        {
            "cause": mo.ui.dropdown(causes, label="It is:"),
            "figure": mo.ui.dropdown(figures, label="The figure that tells it:"),
            "commit": apply_button("Commit the diagnosis"),
        }
    )


@needs_cluster
def diagnosis_panel(lab: LabSession, form: Any) -> Any:
    """Commit what was chosen, for the incident that runs."""
    assert lab.cluster is not None
    row = mo.hstack(list(form.values()), justify="start", wrap=True)
    if not lab.asked(form["commit"], by_hand=True):
        return row
    record = incidents.newest(lab.cluster.identity().uid)
    cause, figure = form["cause"].value, form["figure"].value
    if record is None or record.first("reveal") or not record.first("inject"):
        return with_outcome(row, note("Nothing has happened that waits for a diagnosis."))
    if not cause or not figure:
        return with_outcome(row, note("A diagnosis has both: what it is, and the figure that tells it."))
    seed = int(record.header.get("seed", SEED))
    lab.cluster.apply([incidents.answer_manifest(seed, cause, figure)])
    said = Markup("{} ConfigMap {} holds it; it counts as it was first read.").format(
        word("PASS", "committed"), code(incidents.ANSWER)
    )
    return with_outcome(row, course(said, live=True))


# The review


@needs_cluster
def review_panel(lab: LabSession, button: Any) -> Any:
    """Ask all twelve when the button is pressed, and show what was seen."""
    assert lab.cluster is not None
    if not lab.asked(button):
        return with_outcome(button, note("It reads and changes nothing. In a terminal: `course review`"))
    with spinner("The review", "asking the stack") as say:
        lines = review(lab.cluster.view(), on_line=lambda line: say(line.criterion.title))
    met = sum(line.is_met for line in lines)
    head = Markup("<p><b>{} of {}</b> criteria are met.</p>").format(met, len(lines))
    return with_outcome(
        button, card(head + table(("", "what is asked", "what was seen"), map(_row, lines)), live=True)
    )


def _row(line: Line) -> tuple[str, Markup, Markup]:
    about, answer = line.criterion, line.answer
    asked = Markup("<b>{}</b> <small>lab {}</small><br>{}").format(about.title, about.lab, about.asks)
    seen = inline(answer.seen)
    if not line.is_met and answer.next:
        seen += Markup("<br><small>{}</small>").format(code(answer.next))
    return word(_WORD[answer.standing], answer.standing), asked, seen


# The gate


@needs_cluster
def gate_panel(lab: LabSession, text: str, button: Any) -> Any:
    """Put a gate before the assistant's releases; one that has a gate, such as lab 07's, keeps it."""
    assert lab.cluster is not None
    found = kubeyaml.load_all(text)
    others = [item for item in found if item["kind"] != "Rollout"]
    fragment = next((item for item in found if item["kind"] == "Rollout"), None)
    there = lab.cluster.view().find("Rollout", assistant.ROLLOUT, assistant.NAMESPACE)
    if there is None:
        return note(f"There is no Rollout {assistant.ROLLOUT}: `course start 08` puts it there.")
    if is_judged(there.path("spec.strategy", {}) or {}) and not _is_ours(there.raw, others):
        said = Markup("{} {} has a gate of its own, and keeps it.").format(
            word("PASS", "as it is"), code(assistant.ROLLOUT)
        )
        return course(said, live=True)
    wanted = list(others)
    if fragment is not None:
        wanted.append(ground_of_lab_07.with_strategy(lab.cluster, fragment))
    whole = "---\n".join(kubeyaml.dump(item) for item in wanted)
    row = mo.hstack([button, reset_button(lab, lambda: _no_gate(lab, others), tooltip="By the clock again.")])
    if lab.asked(button):
        return with_outcome(row, applied(lab, whole))
    return mo.vstack([row, preview(lab, whole)])


def is_judged(strategy: Any) -> bool:
    """Whether a Rollout's strategy has an analysis anywhere."""
    canary = strategy.get("canary") or {}
    steps = [item for item in canary.get("steps") or [] if "analysis" in item]
    return bool(
        steps or canary.get("analysis") or (strategy.get("blueGreen") or {}).get("prePromotionAnalysis")
    )


def _is_ours(rollout: Any, others: list[Any]) -> bool:
    """Whether the analysis of a Rollout is the one of this page."""
    names = {item["metadata"]["name"] for item in others if item["kind"] == "AnalysisTemplate"}
    steps = ((rollout["spec"].get("strategy") or {}).get("canary") or {}).get("steps") or []
    used = {
        found.get("templateName")
        for step in steps
        for found in (step.get("analysis") or {}).get("templates") or []
    }
    return bool(used) and used <= names


def _no_gate(lab: LabSession, others: list[Any]) -> str:
    assert lab.cluster is not None
    first = deepcopy(ground_of_lab_07.first_strategy())
    lab.cluster.apply_or_replace(ground_of_lab_07.with_strategy(lab.cluster, first))
    for item in others:
        lab.cluster.delete(item["kind"], item["metadata"]["name"], item["metadata"]["namespace"])
    return "Releases go by the clock again."
