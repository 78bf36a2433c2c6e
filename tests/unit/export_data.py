"""Reports and learners for the exporters' tests."""

from __future__ import annotations

from dataclasses import replace

from helpers.classroom.roster import Learner
from helpers.evidence import Evidence
from helpers.grading.declare import Check
from helpers.grading.export.results import Result
from helpers.grading.report import CheckResult, ClusterFacts, CourseVersion, HiddenChecks, Report
from helpers.grading.verdict import Status, Verdict

EVIL = "=cmd|'/c calc'!A1 \"quoted\"\n<b>bold</b> | @everyone `code` \u202e naïve 模型 \x1b[31m"

ADA = Learner("ada", "Ada, the first", "ada@example.org")
LIN = Learner("lin", "林 – ünïcode", "lin@example.org")
EVE = Learner("eve", '=HYPERLINK("http://evil.example","x")', "eve@example.org")


def result(
    check: str,
    status: Status,
    points: float = 4,
    *,
    lab: str = "01",
    hidden: bool = False,
    observed: str = "2",
) -> CheckResult:
    """One verdict; PARTIAL earns half."""
    declared = Check(
        check, lab, lambda cluster: Verdict(status), f"The {check} holds.", points=points, hidden=hidden
    )
    verdict = Verdict(
        status,
        expected="1",
        observed=observed,
        why_text="Because.",
        next_command="kubectl get quota",
        credit={Status.PASS: 1.0, Status.PARTIAL: 0.5}.get(status, 0.0),
        evidence=(Evidence("ResourceQuota", "q", "llm-system", "u", "7"),),
    )
    return CheckResult.of(declared, verdict, 0.05)


def report(*verdicts: CheckResult, pending: HiddenChecks | None = None, by: str | None = "class") -> Report:
    """A Report of these verdicts."""
    return Report(
        lab=",".join(dict.fromkeys(item.lab for item in verdicts)),
        cluster=ClusterFacts("uid", "v1.36.3", "embedded", "simulated"),
        graded_at="2026-01-01T00:00:00+00:00",
        duration_s=0.8,
        verdicts=verdicts,
        course=CourseVersion("0.1.0", "abc"),
        attested_by=by,
        pending=pending,
    )


PASSED = report(result("quota.gpu", Status.PASS), result("quota.fits", Status.PASS, 6))
HALF = report(result("quota.gpu", Status.PASS), result("quota.fits", Status.FAIL, 6, observed=EVIL))
BROKEN = report(result("quota.gpu", Status.PASS), result("quota.fits", Status.ENV_ERROR, 6))
PENDING = replace(PASSED, pending=HiddenChecks(2, 4))
CLASS = [Result(ADA, PASSED), Result(LIN, HALF, share=0.5, submitted_at="2026-01-02"), Result(EVE, BROKEN)]
