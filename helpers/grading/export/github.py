"""GitHub Classroom: the result that the autograding reporter takes from a runner.

The format is the one of classroom-resources: a runner's output `result` is base64 of JSON with
version 1, status, max_score and tests (autograding-command-grader, src/main.js), which
autograding-grading-reporter reads from the environment variable RUNNER_RESULTS (src/main.js) and sums
up as the tests' `score` of `max_score` (src/notify-classroom.js). Its console table counts passed
tests instead, so its figure differs from ours where checks have different points.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from helpers.grading.report import CheckResult, Report
from helpers.grading.verdict import Status

VERSION = 1


def to_github(report: Report) -> str:
    """The result as JSON; `standing` is ours, and says what is pending (the reporter ignores it)."""
    return json.dumps(_result(report), ensure_ascii=False, indent=2)


def to_github_output(report: Report) -> str:
    """The same as a step hands it on: base64 of the JSON, for `echo "result=…" >> $GITHUB_OUTPUT`."""
    return base64.b64encode(json.dumps(_result(report)).encode()).decode()


def _result(report: Report) -> dict[str, Any]:
    statuses = {_status(result) for result in report.verdicts}
    worst = next((word for word in ("error", "fail", "pass") if word in statuses), "error")
    return {
        "version": VERSION,
        "status": worst,
        "max_score": report.possible,
        "tests": [_test(result) for result in report.verdicts],
        "standing": report.standing,
    }


def _test(result: CheckResult) -> dict[str, Any]:
    return {
        "name": f"{result.lab} {result.check}",
        "status": _status(result),
        "score": result.earned,
        "message": result.message,
        "test_code": "" if result.hidden else f"course grade {result.lab} --only {result.check}",
        "filename": "",
        "line_no": 0,
        "duration": round(result.duration_s * 1000),
    }


def _status(result: CheckResult) -> str:
    if result.status is Status.ENV_ERROR:
        return "error"
    return "pass" if result.status is Status.PASS else "fail"
