"""The live board: the verdicts of `course grade`, drawn; the engine is the same, so is the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import marimo as mo

from helpers.notebook.html import course, esc, inline, next_step, problem_card, word
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
    return course(
        images_line(live) + "".join(_verdict(result, criteria) for result in live.task(task)), live=True
    )


def passed(lab: LabSession, task: str) -> bool:
    """Whether every check of a task holds now, for what a page shows only then."""
    results = lab.report.task(task)
    return bool(results) and all(result.status.value == "PASS" for result in results)


def once_passed(lab: LabSession, task: str, text: str, *, until_then: str) -> mo.Html:
    """Markdown that appears once a task's checks hold, and a sentence until then."""
    if lab.pressed or passed(lab, task):
        return mo.md(text)
    return course(f"<small>{inline(until_then)}</small>")


def scoreboard(lab: LabSession, titles: dict[str, str] | None = None) -> mo.Html:
    """The whole lab at a glance: points, a tile for each check, and what is next."""
    live = lab.report
    trouble = _trouble(live)
    if trouble is not None or live.report is None:
        return trouble or waiting_card()
    report = live.report
    share = 100 * report.earned / report.possible if report.possible else 0
    standing = f"<small>{esc(report.standing)}</small>" if report.pending else ""
    counts = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in report.counts.items())
    tiles = "".join(_tile(result) for result in report.verdicts)
    return course(
        f'<div class="card"><div class="row"><b>{report.earned:g} of {report.possible:g} points</b>'
        f'<small>{esc(counts)}</small>{standing}<small class="points">graded in {report.duration_s:.1f} s</small></div>'
        f'<div class="meter"><i style="width:{share:.0f}%"></i></div><div class="tiles">{tiles}</div>'
        f"{_next_step(report, titles or {})}{images_line(live)}</div>",
        live=True,
    )


def images_line(live: LiveReport) -> str:
    """How far the lab's images are on their way into the cluster; empty once they are there."""
    now = live.images
    if now is None or now.exit_code == 0:
        return ""
    named = ", ".join(f"<code>{esc(name)}</code>" for name in now.names)
    if now.failed:
        cure = f"<code>course images load {esc(' '.join(now.names))}</code>"
        return f"<div>{word('ENV_ERROR', 'images')} {named} could not be loaded: {esc(now.said)}. Next: {cure}</div>"
    said = f" {esc(now.said)}" if now.said else ""
    return f"<div>{word('open', 'loading images')} {named}, {now.elapsed_s:.0f} s so far. <small>{said}</small></div>"


def _trouble(live: LiveReport) -> mo.Html | None:
    if not live.connected:
        return waiting_card()
    if live.problem is not None:
        return problem_card(str(live.problem), live.problem.next_command, title="Nothing can be graded now.")
    return None


def _tile(result: CheckResult) -> str:
    status = result.status.value
    return f'<span class="tile is-{status}"><b>{esc(result.check)}</b> {esc(status.replace("_", " ").lower())}</span>'


def _next_step(report: Report, titles: dict[str, str]) -> str:
    waiting = next((item for item in report.verdicts if item.status.value not in ("PASS", "BLOCKED")), None)
    if waiting is None and report.pending:
        return (
            "<div>Every public check holds in the cluster; your instructor's hidden checks are pending.</div>"
        )
    if waiting is None:
        return "<div>Everything this lab asks for holds in the cluster.</div>"
    place = titles.get(waiting.task, waiting.task)
    return f"<div><small>Next:</small> <b>{esc(place)}</b>: {inline(waiting.criterion)}</div>"


def _verdict(result: CheckResult, criteria: dict[str, str]) -> str:
    status = result.status.value
    points = f"{result.earned:g} / {result.points:g}" if result.points else ""
    head = (
        f'<div class="row">{word(status)}<span>{inline(result.criterion)}</span>'
        f'<span class="points">{points}</span></div>'
    )
    return f'<section class="verdict is-{status}">{head}{_detail(result, criteria)}</section>'


def _detail(result: CheckResult, criteria: dict[str, str]) -> str:
    status = result.status.value
    if status == "BLOCKED":
        return f"<dl><dt>waits for</dt><dd>{inline(_awaited(result, criteria))}</dd></dl>"
    rows = [("observed", result.observed)]
    # Where nothing was attempted the expectation is the criterion, which stands above already.
    if status != "PASS" and result.expected != result.criterion:
        rows.insert(0, ("expected", result.expected))
    if status in _SPOKEN:
        rows.append(("why", result.why))
    if status != "PASS":
        rows.append(("next", next_step(result.next)))
    listed = "".join(f"<dt>{name}</dt><dd>{inline(text)}</dd>" for name, text in rows if text)
    return f"<dl>{listed}</dl>{_hint(result)}"


def _awaited(result: CheckResult, criteria: dict[str, str]) -> str:
    """What a blocked check waits for, in the words of the board and not by its identifier."""
    awaited = [criteria[name] for name in criteria if name in result.observed.replace(",", " ").split()]
    return "; ".join(f"“{criterion}”" for criterion in awaited) or result.observed


def _hint(result: CheckResult) -> str:
    if not result.hint or result.status.value in ("PASS", "BLOCKED", "ENV_ERROR"):
        return ""
    return f"<details><summary>Hint</summary><div>{inline(result.hint)}</div></details>"
