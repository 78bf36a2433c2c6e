"""The live board: the verdicts of `course grade`, drawn; the engine is the same, so is the result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
from helpers.notebook.parts import Part, part_of
from helpers.notebook.session import LabSession, of_report, waiting_card

if TYPE_CHECKING:
    from helpers.grading import CheckResult

_SPOKEN = ("FAIL", "PARTIAL", "ENV_ERROR")


def refresh(default: str = "3s") -> Any:
    """How often the boards look again; its cell shows it."""
    return mo.ui.refresh(options=["2s", "3s", "10s"], default_interval=default, label="look again every")


@of_report
def board(lab: LabSession, task: str) -> mo.Html:
    """The verdicts of one task in words: expected, observed, why, a folded hint, the next command."""
    live = lab.report
    trouble = _trouble(lab, live)
    if trouble is not None:
        return trouble
    results = _results(lab, live)
    criteria = {result.check: result.criterion for result in results}
    verdicts = Markup("").join(
        _verdict(result, criteria) if live.is_measured(result.check) else _awaits(result)
        for result in results
        if result.task == task
    )
    return course(images_line(live) + verdicts, live=True)


def passed(lab: LabSession, task: str) -> bool:
    """Whether every check of a task holds now, for what a page shows only then."""
    results = lab.report.task(task)
    return bool(results) and all(result.status.value == "PASS" for result in results)


@of_report
def once_passed(lab: LabSession, task: str, text: str, *, until_then: str) -> mo.Html:
    """Markdown that appears once a task's checks hold, and a sentence until then."""
    if lab.pressed or passed(lab, task):
        return mo.md(text)
    return note(until_then)


@of_report
def scoreboard(lab: LabSession, parts: Sequence[Part] = ()) -> mo.Html:
    """The whole lab at a glance: points, a tile for each check, and what is next."""
    live = lab.report
    trouble = _trouble(lab, live)
    if trouble is not None:
        return trouble
    results = _results(lab, live)
    earned, possible = _points(results)
    report = live.report
    standing = Markup("<small>{}</small>").format(report.standing) if report and report.pending else ""
    shown = Markup(
        '<div class="row"><b>{earned:g} of {possible:g} points</b>'
        '<small>{counts}</small>{standing}<small class="points">{graded}</small></div>'
        '<div class="meter"><i style="width:{share:.0f}%"></i></div><div class="tiles">{tiles}</div>'
        "{next_step}{images}"
    ).format(
        earned=earned,
        possible=possible,
        counts=_counts(live, results),
        standing=standing,
        graded=f"graded in {report.duration_s:.1f} s" if report and live.measured is None else "measuring",
        share=100 * earned / possible if possible else 0,
        tiles=Markup("").join(_tile(live, result) for result in results),
        next_step=_next_step(live, results, parts),
        images=images_line(live),
    )
    return card(shown, live=True)


@of_report
def bar(lab: LabSession, parts: Sequence[Part]) -> mo.Html:
    """One line that stays in sight: points, the parts, and the way to the next one that is open."""
    live = lab.report
    if live.problem is not None or not live.is_known:
        points, open_part = Markup("<b>no points yet</b>"), None
        results: list[CheckResult] = []
    else:
        results = _results(lab, live)
        points = Markup("<b>{:g} of {:g} points</b>").format(*_points(results))
        waiting = _waiting(live, results, parts)
        open_part = part_of(parts, waiting.task) if waiting else None
    line = Markup('<div class="bar row" role="navigation" aria-label="Parts of this lab">{}{}{}</div>')
    ways = Markup("").join(_way(part, live, results, is_next=part is open_part) for part in parts)
    return course(
        line.format(points, Markup('<span class="ways">{}</span>').format(ways), _onward(open_part))
    )


def _way(part: Part, live: LiveReport, results: Sequence[CheckResult], *, is_next: bool) -> Markup:
    own = [result for result in results if result.task in part.tasks]
    measured = [result for result in own if live.is_measured(result.check)]
    done = bool(own) and all(result.status.value == "PASS" for result in own) and len(measured) == len(own)
    state = "PASS" if done else "open" if is_next else "none"
    said = "" if not own else ", done" if done else ", measuring" if len(measured) < len(own) else ", open"
    return Markup('<span class="is-{}"><a href="#{}" title="{}, about {} min{}">{}{}</a></span>').format(
        state, part.anchor, part.title, part.minutes, said, part.number, "✓" if done else ""
    )


def _onward(part: Part | None) -> Markup:
    if part is None:
        return Markup()
    return Markup(
        '<span class="onward"><small>Next:</small> <a href="#{}">{}</a> <small>about {} min</small></span>'
    ).format(part.anchor, part.title, part.minutes)


def _results(lab: LabSession, live: LiveReport) -> list[CheckResult]:
    """Each check's latest verdict; of one that has none yet only what is asked for."""
    from helpers.grading import CheckResult, Status, Verdict
    from helpers.labs.registry import load_lab

    latest = {result.check: result for result in live.latest}
    if live.report is not None:
        return list(latest.values())
    unseen = Verdict(Status.NOT_ATTEMPTED)
    return [latest.get(check.id) or CheckResult.of(check, unseen, 0.0) for check in load_lab(lab.id).checks]


def _points(results: Sequence[CheckResult]) -> tuple[float, float]:
    earned, possible = (sum(getattr(result, name) for result in results) for name in ("earned", "points"))
    return round(earned, 2), round(possible, 2)


def _counts(live: LiveReport, results: Sequence[CheckResult]) -> str:
    """How many checks have each status, the statuses in their own order; those without one come last."""
    from helpers.grading import Status

    order = [status.value for status in Status]
    measured = [result for result in results if live.is_measured(result.check)]
    said = Counter(map(_status, sorted(measured, key=lambda item: order.index(item.status.value))))
    if left := len(results) - len(measured):
        said["measuring"] = left
    return ", ".join(f"{number} {status}" for status, number in said.items())


def _waiting(live: LiveReport, results: Sequence[CheckResult], parts: Sequence[Part]) -> CheckResult | None:
    """The first check, in the order of the page, that was measured and asks for something."""
    tasks = [task for part in parts for task in part.tasks]
    measured = [result for result in results if live.is_measured(result.check)]
    if tasks:
        measured.sort(key=lambda item: tasks.index(item.task) if item.task in tasks else len(tasks))
    return next((item for item in measured if item.status.value not in ("PASS", "BLOCKED")), None)


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


def _trouble(lab: LabSession, live: LiveReport) -> mo.Html | None:
    if live.problem is not None:
        return problem_card(str(live.problem), live.problem.next_command, title="Nothing can be graded now.")
    return None if live.is_known else waiting_card(lab)


def _is_step_missing(result: CheckResult) -> bool:
    """Whether nothing failed: what the check looks with is put in place by a button of the page."""
    return result.status.value == "ENV_ERROR" and has_button(result.next)


def _status(result: CheckResult) -> str:
    return "A STEP COMES FIRST" if _is_step_missing(result) else result.status.value.replace("_", " ")


def _colour(result: CheckResult) -> str:
    return "NOT_ATTEMPTED" if _is_step_missing(result) else result.status.value


def _tile(live: LiveReport, result: CheckResult) -> Markup:
    is_measured = live.is_measured(result.check)
    return Markup('<span class="tile is-{}"><b>{}</b> {}</span>').format(
        _colour(result) if is_measured else "none",
        result.check,
        _status(result).lower() if is_measured else "measuring",
    )


def _next_step(live: LiveReport, results: Sequence[CheckResult], parts: Sequence[Part]) -> Markup:
    waiting = _waiting(live, results, parts)
    if waiting is None and live.measured is not None:
        return Markup("<div>The cluster is being asked; the verdicts come one by one.</div>")
    if waiting is None and live.report is not None and live.report.pending:
        return Markup(
            "<div>Every public check holds in the cluster; your instructor's hidden checks are pending.</div>"
        )
    if waiting is None:
        return Markup("<div>Everything this lab asks for holds in the cluster.</div>")
    part = part_of(parts, waiting.task)
    place = part.title if part else waiting.task
    said = next_step(waiting.next) if _is_step_missing(waiting) else waiting.criterion
    return Markup("<div><small>Next:</small> <b>{}</b>: {}</div>").format(place, inline(said))


def _awaits(result: CheckResult) -> Markup:
    """A check whose verdict has not come yet, or is older than the last change."""
    before = definitions([("before", result.observed)]) if result.observed else ""
    return Markup(
        '<section class="verdict is-none"><div class="row">{}<span>{}</span>'
        '<span class="points">{}</span></div>{}</section>'
    ).format(
        word("none", "measuring"),
        inline(result.criterion),
        f"– / {result.points:g}" if result.points else "",
        before,
    )


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
