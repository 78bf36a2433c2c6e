"""The live board: the verdicts of `course grade`, drawn; the engine is the same, so is the result."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers.notebook.html import (
    card,
    code,
    course,
    definitions,
    has_button,
    inline,
    next_step,
    note,
    problem_card,
    word,
)
from helpers.notebook.looks import LiveReport
from helpers.notebook.session import LabSession, waiting_card

if TYPE_CHECKING:
    from helpers.grading import CheckResult, Report

_SPOKEN = ("FAIL", "PARTIAL", "ENV_ERROR")


def refresh(default: str = "3s") -> Any:
    """How often the boards look again; its cell shows it."""
    return mo.ui.refresh(options=["2s", "3s", "10s"], default_interval=default, label="look again every")


def board(lab: LabSession, task: str) -> mo.Html:
    """The verdicts of one task in words: expected, observed, why, a folded hint, the next command."""
    live = lab.report
    trouble = _trouble(live)
    if trouble is not None or live.report is None:
        return trouble or waiting_card()
    criteria = {result.check: result.criterion for result in live.report.verdicts}
    verdicts = Markup("").join(_verdict(result, criteria) for result in live.task(task))
    return course(images_line(live) + verdicts, live=True)


def passed(lab: LabSession, task: str) -> bool:
    """Whether every check of a task holds now, for what a page shows only then."""
    results = lab.report.task(task)
    return bool(results) and all(result.status.value == "PASS" for result in results)


def once_passed(lab: LabSession, task: str, text: str, *, until_then: str) -> mo.Html:
    """Markdown that appears once a task's checks hold, and a sentence until then."""
    if lab.pressed or passed(lab, task):
        return mo.md(text)
    return note(until_then)


def scoreboard(lab: LabSession, titles: dict[str, str] | None = None) -> mo.Html:
    """The whole lab at a glance: points, a tile for each check, and what is next."""
    live = lab.report
    trouble = _trouble(live)
    if trouble is not None or live.report is None:
        return trouble or waiting_card()
    report = live.report
    share = 100 * report.earned / report.possible if report.possible else 0
    standing = Markup("<small>{}</small>").format(report.standing) if report.pending else ""
    order = list(report.counts)
    said = Counter(map(_status, sorted(report.verdicts, key=lambda item: order.index(item.status.value))))
    shown = Markup(
        '<div class="row"><b>{report.earned:g} of {report.possible:g} points</b>'
        '<small>{counts}</small>{standing}<small class="points">graded in {report.duration_s:.1f} s</small></div>'
        '<div class="meter"><i style="width:{share:.0f}%"></i></div><div class="tiles">{tiles}</div>'
        "{next_step}{images}"
    ).format(
        report=report,
        counts=", ".join(f"{number} {status}" for status, number in said.items()),
        standing=standing,
        share=share,
        tiles=Markup("").join(map(_tile, report.verdicts)),
        next_step=_next_step(report, titles or {}),
        images=images_line(live),
    )
    return card(shown, live=True)


def images_line(live: LiveReport) -> Markup:
    """How far the lab's images are on their way into the cluster; empty once they are there."""
    now = live.images
    if now is None or now.exit_code == 0:
        return Markup()
    named = code(*now.names)
    if now.failed:
        cure = code(f"course images load {' '.join(now.names)}")
        line = Markup("<div>{} {} could not be loaded: {}. Next: {}</div>")
        return line.format(word("ENV_ERROR", "images"), named, now.said, cure)
    said = f" {now.said}" if now.said else ""
    line = Markup("<div>{} {}, {:.0f} s so far. <small>{}</small></div>")
    return line.format(word("open", "loading images"), named, now.elapsed_s, said)


def _trouble(live: LiveReport) -> mo.Html | None:
    if not live.connected:
        return waiting_card()
    if live.problem is not None:
        return problem_card(str(live.problem), live.problem.next_command, title="Nothing can be graded now.")
    return None


def _is_step_missing(result: CheckResult) -> bool:
    """Whether nothing failed: what the check looks with is put in place by a button of the page."""
    return result.status.value == "ENV_ERROR" and has_button(result.next)


def _status(result: CheckResult) -> str:
    return "A STEP COMES FIRST" if _is_step_missing(result) else result.status.value.replace("_", " ")


def _colour(result: CheckResult) -> str:
    return "NOT_ATTEMPTED" if _is_step_missing(result) else result.status.value


def _tile(result: CheckResult) -> Markup:
    return Markup('<span class="tile is-{}"><b>{}</b> {}</span>').format(
        _colour(result), result.check, _status(result).lower()
    )


def _next_step(report: Report, titles: dict[str, str]) -> Markup:
    waiting = next((item for item in report.verdicts if item.status.value not in ("PASS", "BLOCKED")), None)
    if waiting is None and report.pending:
        return Markup(
            "<div>Every public check holds in the cluster; your instructor's hidden checks are pending.</div>"
        )
    if waiting is None:
        return Markup("<div>Everything this lab asks for holds in the cluster.</div>")
    place = titles.get(waiting.task, waiting.task)
    said = next_step(waiting.next) if _is_step_missing(waiting) else waiting.criterion
    return Markup("<div><small>Next:</small> <b>{}</b>: {}</div>").format(place, inline(said))


def _verdict(result: CheckResult, criteria: dict[str, str]) -> Markup:
    return Markup(
        '<section class="verdict is-{colour}"><div class="row">{word}<span>{criterion}</span>'
        '<span class="points">{points}</span></div>{detail}</section>'
    ).format(
        colour=_colour(result),
        word=word(_colour(result), _status(result)),
        criterion=inline(result.criterion),
        points=f"{result.earned:g} / {result.points:g}" if result.points else "",
        detail=_detail(result, criteria),
    )


def _detail(result: CheckResult, criteria: dict[str, str]) -> Markup:
    status = result.status.value
    if status == "BLOCKED":
        return definitions([("waits for", _awaited(result, criteria))])
    rows = [("observed", result.observed)]
    # Where nothing was attempted the expectation is the criterion, which stands above already.
    if status != "PASS" and result.expected != result.criterion:
        rows.insert(0, ("expected", result.expected))
    if status in _SPOKEN and not _is_step_missing(result):
        rows.append(("why", result.why))
    if status != "PASS":
        rows.append(("next", next_step(result.next)))
    return definitions(rows) + _hint(result)


def _awaited(result: CheckResult, criteria: dict[str, str]) -> str:
    """What a blocked check waits for, in the words of the board and not by its identifier."""
    awaited = [criteria[name] for name in criteria if name in result.observed.replace(",", " ").split()]
    return "; ".join(f"“{criterion}”" for criterion in awaited) or result.observed


def _hint(result: CheckResult) -> Markup:
    if not result.hint or result.status.value in ("PASS", "BLOCKED", "ENV_ERROR"):
        return Markup()
    return Markup("<details><summary>Hint</summary><div>{}</div></details>").format(inline(result.hint))
