"""The Report's JSON: exactly the published shape, and read back as it was written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers.evidence import Evidence
from helpers.grading.declare import Check
from helpers.grading.report import (
    CheckResult,
    ClusterFacts,
    CourseVersion,
    Report,
    ReportUnreadable,
    head_commit,
)
from helpers.grading.verdict import Status, Verdict

CHECK = Check("quota.gpu", "01", lambda cluster: Verdict(Status.PASS), "One GPU.", points=4, task="quota")
FAILED = Verdict(
    Status.FAIL,
    expected="1",
    observed="2",
    why_text="Because.",
    hint_text="Look.",
    next_command="kubectl get quota",
    evidence=(Evidence("ResourceQuota", "q", "llm-system", "u", "7"),),
)


def report(*verdicts: Verdict) -> Report:
    return Report(
        lab="01",
        cluster=ClusterFacts("uid", "v1.36.3", "embedded", "simulated"),
        graded_at="2026-01-01T00:00:00+00:00",
        duration_s=0.8,
        verdicts=tuple(CheckResult.of(CHECK, verdict, 0.05) for verdict in verdicts),
        course=CourseVersion("0.1.0", "abc"),
    )


def test_the_json_has_the_keys_of_course_report_v1() -> None:
    data = json.loads(report(FAILED).to_json())
    assert list(data) == [
        *(
            "schema",
            "course",
            "lab",
            "cluster",
            "graded_at",
            "duration_s",
            "attested_by",
            "summary",
            "verdicts",
        )
    ]
    assert data["schema"] == "course.report/v1" and data["attested_by"] is None
    assert set(data["cluster"]) == {"uid", "server_version", "profile", "gpu"}
    assert data["summary"] == {"earned": 0, "possible": 4, "counts": {"FAIL": 1}}
    (verdict,) = data["verdicts"]
    assert list(verdict)[:14] == [
        *("check", "task", "status", "earned", "points", "mode", "expected", "observed", "message", "why"),
        *("hint", "next", "duration_s", "evidence"),
    ]
    assert verdict["evidence"][0]["resource_version"] == "7"


def test_a_report_survives_its_own_json() -> None:
    original = report(FAILED, Verdict(Status.PASS, credit=1.0))
    assert Report.from_json(original.to_json()) == original


def test_keys_of_a_later_course_are_ignored() -> None:
    data = json.loads(report(FAILED).to_json())
    data["mood"] = data["verdicts"][0]["mood"] = data["cluster"]["mood"] = "fine"
    assert Report.from_json(json.dumps(data)) == report(FAILED)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not a Report"),
        ("[]", "schema is None"),
        ('{"schema": "course.report/v2"}', "'course.report/v2'"),
        ('{"schema": "course.report/v1"}', "incomplete: 'lab'"),
    ],
)
def test_what_is_no_report_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ReportUnreadable, match=reason):
        Report.from_json(text)


def test_a_status_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ReportUnreadable, match="GREAT"):
        Report.from_json(report(FAILED).to_json().replace('"FAIL"', '"GREAT"'))


def test_the_message_speaks_in_the_courses_order_and_holds_no_hint() -> None:
    (result,) = report(FAILED).verdicts
    assert result.message == "FAIL: expected 1; observed 2. Why: Because. Next: kubectl get quota"


@pytest.mark.parametrize(
    ("statuses", "code"),
    [
        ([], 2),
        (["PASS"], 0),
        (["PASS", "PASS"], 0),
        (["PASS", "FAIL"], 1),
        (["PASS", "PARTIAL"], 1),
        (["NOT_ATTEMPTED"], 1),
        (["FAIL", "BLOCKED"], 1),
        (["PASS", "ENV_ERROR"], 2),
        (["FAIL", "ENV_ERROR"], 2),
    ],
)
def test_exit_codes(statuses: list[str], code: int) -> None:
    assert report(*(Verdict(Status(word)) for word in statuses)).exit_code == code


def test_the_commit_is_read_from_a_branch_from_packed_refs_and_from_a_detached_head(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "packed-refs").write_text("# pack-refs\nbbb refs/heads/main\n")
    assert head_commit(tmp_path) == "bbb"
    (git / "refs/heads/main").write_text("aaa\n")
    assert head_commit(tmp_path) == "aaa"
    (git / "HEAD").write_text("ccc\n")
    assert head_commit(tmp_path) == "ccc"
    assert head_commit(tmp_path / "nowhere") is None
