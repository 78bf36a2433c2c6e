"""What a learner may see of an instructor's Report: hidden checks stay closed until they are opened.

Closed, a learner learns that hidden checks exist and what they are worth. Opened, they see each
one's verdict and reasons. They never see a hidden check's code, and so not the traceback, the file
or the words of an exception either.
"""

from __future__ import annotations

from dataclasses import replace

from helpers.grading.observe import NOT_YOU
from helpers.grading.report import CheckResult, HiddenChecks, Report
from helpers.grading.verdict import Status

NOT_JUDGED = "this hidden check could not be judged; your instructor can see why"


def redact(report: Report, *, opened: bool) -> Report:
    """A copy for the learner.

    Args:
        opened: whether the instructor has opened the hidden checks. Where they are closed their
            verdicts are left out, and `pending` says how many there are.
    """
    if opened:
        return replace(report, verdicts=tuple(_without_code(result) for result in report.verdicts))
    hidden = [result for result in report.verdicts if result.hidden]
    known = report.pending or HiddenChecks(0, 0)
    pending = HiddenChecks(
        known.count + len(hidden), round(known.points + sum(result.points for result in hidden), 2)
    )
    return replace(
        report,
        verdicts=tuple(result for result in report.verdicts if not result.hidden),
        pending=pending if pending.count else None,
    )


def _without_code(result: CheckResult) -> CheckResult:
    """A hidden check that broke says so, and nothing of what Python said about it."""
    if not result.hidden or result.status is not Status.ENV_ERROR:
        return result
    message = f"{result.status}: {NOT_JUDGED}. Why: {NOT_YOU}"
    return replace(result, observed=NOT_JUDGED, message=message, why=NOT_YOU, hint="", next="")
