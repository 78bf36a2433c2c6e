"""What lab 08 draws of jobs and of the cache: decisions on their way to the pods, witnesses, and what they saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers.labs.draw_settings import settings_change
from helpers.labs.draw_witness import Panels
from helpers.labs.draw_witness import run_or_stop as run_or_stop
from helpers.labs.lab06_orchestration.draw import settings_of
from helpers.labs.lab08_scale import draw_pictures
from helpers.labs.lab08_scale.run import BOOK, run, run_all
from helpers.labs.witnessing import NoRecord
from helpers.notebook.html import course, inline, note, spinner, word
from helpers.notebook.reset import reset_button
from helpers.notebook.session import LabSession, needs_cluster
from helpers.review.criteria import review
from helpers.stack import jobs, kafka
from helpers.stack.orchestrator import decision_text, short_hash

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.progress import Progress

REVIEWED_S, REVIEW_EVERY_S = 120.0, 5.0
_PANELS = Panels(BOOK, run)


# Decisions


@needs_cluster
def decision_panel(lab: LabSession, name: str, button: Any, *functions: Callable[..., Any]) -> Any:
    """A button that puts functions of the page into the ConfigMap of decisions, and whether they are there."""
    assert lab.cluster is not None
    cluster, file = lab.cluster, f"{name}.py"
    text = decision_text(*functions, head=jobs.HEAD)

    def back() -> str:
        jobs.deliver(cluster, {file: None})
        return f"{file} is gone: the course's own cautious decision is in force."

    undo = reset_button(lab, back, tooltip="Takes this file out of the ConfigMap.")
    row = mo.hstack([button, undo], justify="start")
    if lab.asked(button):
        with spinner("Delivering", file):
            # Where a solution runs, one rollout at the end brings all of them.
            jobs.deliver(cluster, {file: text}, at_once=not lab.pressed)
    there = jobs.decisions_in(cluster.view()).get(name)
    is_there = there == short_hash(text)
    state_word = word("PASS", "delivered") if is_there else word("open", "not delivered")
    said = f"ConfigMap `{jobs.DECISIONS}` holds this `{file}`." if is_there else _other(there, file)
    return mo.vstack([row, course(Markup("{} {}").format(state_word, inline(said)), live=True)], gap=0.5)


def _other(there: str | None, file: str) -> str:
    if there is None:
        return f"The pods use the course's own cautious decision in place of `{file}`."
    return f"ConfigMap `{jobs.DECISIONS}` holds another `{file}`."


# Settings


@needs_cluster
def settings_preview(lab: LabSession, text: str) -> mo.Html:
    """Which settings of the jobs would change, and from what."""
    assert lab.cluster is not None
    return settings_change(jobs.CONFIG, settings_of(text), jobs.settings_in(lab.cluster.view()))


@needs_cluster
def settings_panel(lab: LabSession, text: str, button: Any) -> Any:
    """A button that delivers settings of the jobs, and the way back to those of the start."""
    assert lab.cluster is not None
    cluster, wanted = lab.cluster, settings_of(text)

    def back() -> str:
        jobs.configure(cluster, {name: first_settings(cluster).get(name) for name in wanted})
        return "The settings are those of the start again."

    undo = reset_button(lab, back, tooltip="Puts back what the start has.")
    row = mo.hstack([button, undo], justify="start")
    if lab.asked(button):
        with spinner("Delivering", ", ".join(wanted)):
            jobs.configure(cluster, wanted, at_once=not lab.pressed)
    is_there = wanted.items() <= jobs.settings_in(cluster.view()).items()
    said = word("PASS", "delivered") if is_there else word("open", "not delivered")
    about = f"ConfigMap `{jobs.CONFIG}` holds {'these' if is_there else 'other'} settings."
    return mo.vstack([row, course(Markup("{} {}").format(said, inline(about)), live=True)], gap=0.5)


def first_settings(cluster: Cluster) -> dict[str, str]:
    """The jobs' settings as the start has them."""
    found = next(
        item
        for item in jobs.manifests(cluster)
        if (item["kind"], item["metadata"]["name"]) == ("ConfigMap", jobs.CONFIG)
    )
    return dict(found.get("data") or {})


# Kafka


@needs_cluster
def kafka_panel(lab: LabSession, on: Any, off: Any) -> Any:
    """Buttons that move the queue to Kafka and back, and where it is; a solution leaves it where it is."""
    assert lab.cluster is not None
    cluster = lab.cluster
    for button, move in ((on, kafka.switch_on), (off, kafka.switch_off)):
        if lab.asked(button, by_hand=True):
            with spinner("Moving the queue") as say:
                move(cluster, say)
    is_on = kafka.is_on(cluster.view())
    state = word("PASS", "Kafka") if is_on else word("open", "Redis")
    next_words = (
        "`course witness jobs delivery faults` looks anew." if is_on else "`course queue kafka` moves it."
    )
    said = Markup("The queue is on {}. {}").format(state, inline(next_words))
    return mo.vstack([mo.hstack([on, off], justify="start"), course(said, live=True)], gap=0.5)


# Witnesses


def witness_panel(lab: LabSession, name: str, buttons: Any) -> Any:
    """Buttons that run a witness in the background, and what its record says."""
    return _PANELS.panel(lab, name, buttons)


def seen_by(cluster: Cluster, name: str) -> Mapping[str, Any]:
    """What a witness saw; empty where it has no record that counts."""
    return _PANELS.seen(cluster, name)


def all_witnesses(lab: LabSession) -> Any:
    """Where a solution runs: the decisions are brought to the pods, and every witness looks that has not looked."""
    if lab.cluster is None or not lab.pressed:
        return note("")
    with spinner("Witnesses") as say:
        jobs.roll_out(lab.cluster)
        jobs.wait_ready(lab.cluster)
        view = lab.cluster.view()
        missing = [name for name in BOOK.witnesses if not _has_looked(view, name)]
        run_all(lab.cluster, missing, on_progress=say)
        _wait_for_review(lab.cluster, say)
    return note("Every witness has looked.")


def _wait_for_review(cluster: Cluster, say: Progress) -> None:
    """Until what was applied is in force: Prometheus reads a new monitor within a minute, pods come and go."""
    until = time.monotonic() + REVIEWED_S
    while time.monotonic() < until:
        missing = [line.criterion.id for line in review(cluster.view()) if not line.is_met]
        if not missing:
            return
        say(f"the review: {', '.join(missing)}")
        time.sleep(REVIEW_EVERY_S)


def _has_looked(view: ClusterView, name: str) -> bool:
    try:
        return not BOOK.record(view, name).error
    except NoRecord:
        return False


# What they saw


@needs_cluster
def faults_picture(lab: LabSession) -> Any:
    """What became of the jobs while workers and the queue were killed."""
    assert lab.cluster is not None
    seen = seen_by(lab.cluster, "faults")
    if "jobs" not in seen:
        return note("The picture appears when the witness has broken workers and the queue.")
    return mo.vstack([faults_chart(seen), course(inline(faults_words(seen)), live=True)], gap=0)


def faults_chart(seen: Mapping[str, Any]) -> Any:
    """How many jobs there were, and what became of them."""
    said = seen["jobs"]
    counts = {
        "accepted": said["accepted"],
        "answered": said["done"],
        "delivered more than once": said["redelivered"],
        "answered a second time, thrown away": said["second"],
        "put aside as dead letters": said["dead"],
        "never finished": said["unfinished"],
    }
    return draw_pictures.outcome_bars(counts, title="jobs", good=("accepted", "answered"))


def faults_words(seen: Mapping[str, Any]) -> str:
    """The same in a sentence or two."""
    said, kills = seen["jobs"], seen.get("kills") or {}
    lost = said["accepted"] - said["done"]
    first = f"{kills.get('killed', 0)} workers were killed, with {kills.get('held', 0)} jobs in their hands."
    return f"{first} Of {said['accepted']} jobs **{lost or 'none'}** had no answer."


@needs_cluster
def storm_picture(lab: LabSession) -> Any:
    """How many askers of one question there were, and how often it was generated."""
    assert lab.cluster is not None
    seen = seen_by(lab.cluster, "storm")
    if "storm" not in seen:
        return note("The picture appears when fifty have asked at once.")
    return storm_chart(seen)


def storm_chart(seen: Mapping[str, Any]) -> Any:
    """Askers and generations: once when all goes well, once when the one that generates is killed."""
    counts = {"asked at once": seen["storm"]["askers"], "generations": seen["storm"]["generations"]}
    if "generations" in (seen.get("holder") or {}):
        counts["generations, the first worker killed"] = seen["holder"]["generations"]
    return draw_pictures.outcome_bars(counts, title="of one question", good=("asked at once",))
