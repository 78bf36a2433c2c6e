"""CSV for spreadsheets and scripts: RFC 4180, one row a check, or one row a learner and lab.

Cells that a spreadsheet would run as a formula are defused. What hidden checks found stands here only
in the instructor's own export; a redacted Report has `pending` in its place.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from helpers.grading.export.results import LabScore, Result, defused, lab_scores, number
from helpers.grading.report import CheckResult, Report

CHECK_COLUMNS = (
    *("learner", "name", "email", "lab", "check", "task", "status", "earned", "points", "hidden"),
    *("expected", "observed", "submitted_at", "graded_at", "attested_by", "cluster", "gpu"),
)
LAB_COLUMNS = (
    *("learner", "name", "email", "lab", "earned", "possible", "passed", "checks", "environment_errors"),
    *("hidden_pending", "share", "submitted_at", "graded_at", "attested_by", "cluster", "gpu"),
)


def to_csv(results: Iterable[Result]) -> str:
    """A row for each learner and check: what was expected, what was observed, what it earned.

    Points are those of the check itself; a late policy changes a lab's points, not a check's.
    """
    rows = ((result, verdict) for result in results for verdict in result.report.verdicts)
    return _text(CHECK_COLUMNS, (_check_row(result, verdict) for result, verdict in rows))


def to_summary_csv(results: Iterable[Result]) -> str:
    """A row for each learner and lab, with the late policy applied.

    `earned` is empty where the environment kept checks from being judged: that is no zero.
    """
    return _text(LAB_COLUMNS, map(_lab_row, lab_scores(results)))


def report_csv(report: Report) -> str:
    """One Report of nobody in particular: the same columns, the learner's left empty."""
    return to_csv([Result(_Nobody(), report)])


class _Nobody:
    id = name = email = ""


def _check_row(result: Result, verdict: CheckResult) -> list[str]:
    learner, report = result.learner, result.report
    return [
        *(learner.id, learner.name, learner.email, verdict.lab, verdict.check, verdict.task),
        *(verdict.status.value, number(verdict.earned), number(verdict.points)),
        *("yes" if verdict.hidden else "no", verdict.expected, verdict.observed),
        *_provenance(result, report),
    ]


def _lab_row(score: LabScore) -> list[str]:
    learner, report = score.learner, score.result.report
    pending = report.pending.count if report.pending else 0
    return [
        *(learner.id, learner.name, learner.email, score.lab),
        number(score.earned) if score.is_gradable else "",
        *(number(score.possible), str(score.passed), str(score.checks), str(score.broken), str(pending)),
        *(number(score.result.share), *_provenance(score.result, report)),
    ]


def _provenance(result: Result, report: Report) -> Iterator[str]:
    yield from (result.submitted_at, report.graded_at, report.attested_by or "")
    yield from (report.cluster.uid or "", report.cluster.gpu or "")


def _text(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(head)
    for row in rows:
        writer.writerow([defused(cell) for cell in row])
    return out.getvalue()
