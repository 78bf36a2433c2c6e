"""The card of a lab that is open before its cluster is: what is being built, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import marimo as mo
from markupsafe import Markup

from helpers import building, settings
from helpers.building import Build, BuildStep
from helpers.notebook.html import course, note, word
from helpers.notebook.session import LabSession

LOOK_EVERY_S = 2.0


def connection_card(lab: LabSession, reconnect: Any, answers: Callable[[Any], None]) -> Any:
    """Which cluster the page speaks to; while one is being built, how far it is.

    Args:
        reconnect: the button that connects again.
        answers: called once the cluster answers; the page then connects by itself.
    """
    build = None if lab.cluster is not None else building.read(settings.cluster_name())
    if build is None or build.state == "done":
        return mo.vstack([lab.card(), _ways(lab, reconnect)])
    if build.state == "running":
        mo.Thread(target=_follow, args=(build.cluster, reconnect, answers), daemon=True).start()
    return mo.vstack([build_card(build), reconnect])


def _ways(lab: LabSession, reconnect: Any) -> Any:
    """Back to the cluster, and back to a whole page where a click deleted a cell."""
    said = f"A cell of this page is gone? Close the page; `course open {lab.id} --mend` puts back what is missing."
    return mo.hstack([reconnect, note(said)], justify="start", align="center")


def build_card(build: Build, now: float | None = None) -> mo.Html:
    """The build's steps, and the time left; or why it ended, and the next command."""
    now = time.time() if now is None else now
    if build.state == "done":
        return _card(word("PASS", "ready"), "The cluster is ready.")
    if build.state != "running":
        said = Markup(
            "<b>The cluster was not built.</b> <pre>{build.message}</pre>"
            "<div>In a terminal: <code>{build.next_command}</code>. What was built until then is kept.</div>"
        )
        return _card(word("FAIL", build.state), said.format(build=build))
    said = Markup(
        "<b>Your cluster is being built, {}.</b><table>{}</table><small>Read on meanwhile: the story, the "
        "predictions and the quiz need no cluster. This page connects by itself.</small>"
    )
    rows = Markup("").join(_row(step, now) for step in build.steps)
    return _card(word("none", "being built"), said.format(_left(build, now), rows))


def _card(state: Markup, said: str) -> mo.Html:
    return course(Markup('<div class="card" role="status">{} {}</div>').format(state, said))


def _left(build: Build, now: float) -> str:
    minutes = build.left_s(now) / 60
    return "less than a minute left" if minutes < 1 else f"about {minutes:.0f} min left"


def _row(step: BuildStep, now: float) -> Markup:
    if step.took_s is not None:
        return Markup("<tr><td>✓ {}</td><td>{:.0f} s</td></tr>").format(step.title, step.took_s)
    if step.began is not None:
        row = Markup("<tr><td>▸ <b>{}</b></td><td>{:.0f} s</td></tr>")
        return row.format(step.title, step.elapsed_s(now))
    return Markup("<tr><td><small>· {}</small></td><td></td></tr>").format(step.title)


def _follow(cluster: str, reconnect: Any, answers: Callable[[Any], None]) -> None:
    """Redraw the card until the build is over; then let the page connect."""
    thread = mo.current_thread()
    while not thread.should_exit:
        build = building.read(cluster)
        if build is None or build.state == "done":
            answers(time.time())
            return
        mo.output.replace(mo.vstack([build_card(build), reconnect]))
        if build.state != "running":
            return
        time.sleep(LOOK_EVERY_S)
