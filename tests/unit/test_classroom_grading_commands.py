"""`course class grade`, `status`, `policy`, `submit`, `history`, `key` and `course verify`, as typed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers import cli
from helpers.classroom.folder import ClassFolder
from helpers.classroom.marking import marking
from helpers.classroom.marking.runs import Run, only_grader
from helpers.classroom.records.history import History
from helpers.cluster.fake import FakeCluster
from helpers.grading import grade
from helpers.terminal import ENVIRONMENT_FAILED
from tests.unit.class_world import Room, do, room, tiny_lab


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A class of two, one of them done; lab 01 stands for a lab of three checks."""
    made = room(tmp_path / "classes" / "class", "ada", "lin")
    do(made.of("ada"), "yes", moment="now")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(ClassFolder, "open", classmethod(lambda cls, name="class": made))
    monkeypatch.setattr("helpers.classroom.folder.class_names", lambda: ["class"])
    monkeypatch.setattr(
        "helpers.classroom.marking.marking.labs_for", lambda numbers, hidden=None: lambda _: [tiny_lab()]
    )
    monkeypatch.setattr("helpers.labs.registry.load_lab", lambda number: tiny_lab())
    return made


def course(*words: str | Path) -> int:
    return cli.run([str(word) for word in words])


def test_grade_prints_everybody_and_says_that_somebody_fell_short(
    folder: Room, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert (
        course("class", "grade", "--labs", "1", "--csv", tmp_path / "out.csv", "--junit", tmp_path / "o.xml")
        == 1
    )
    said = capsys.readouterr()
    assert "4/4" in said.out and "3 PASS" in said.out and "2 new attempts, 0 unchanged" in said.out
    assert "graded 2 of 2" in said.err
    assert [row.split(",")[0] for row in (tmp_path / "out.csv").read_text("utf-8-sig").splitlines()] == [
        "learner",
        "ada",
        "lin",
    ]
    assert "<testsuites" in (tmp_path / "o.xml").read_text()


def test_exit_code_0_when_everybody_passed_and_2_when_an_environment_failed(folder: Room) -> None:
    assert course("class", "grade", "--labs", "01", "--learner", "ada") == 0
    folder.shared.go_down()
    assert course("class", "grade", "--labs", "01") == 2


def test_what_the_environment_broke_is_named_with_the_next_command(
    folder: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.shared.go_down()
    course("class", "grade", "--labs", "01")
    said = capsys.readouterr().out
    assert "not graded" in said and "the fake cluster is down" in said
    assert "Next: course class grade --resume" in said


def test_ctrl_c_keeps_what_is_graded_and_resume_goes_on(
    folder: Room, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = marking.mark

    def interrupted(*arguments: Any, **options: Any) -> Iterator[Any]:
        found = whole(*arguments, **options, runtime=None)
        yield next(found)
        raise KeyboardInterrupt

    monkeypatch.setattr("helpers.classroom.marking.marking.mark", interrupted)
    assert course("class", "grade", "--labs", "01", "--jobs", "1") == cli.INTERRUPTED
    said = capsys.readouterr().err
    assert "1 of 2 learners are graded and kept." in said and "course class grade --resume" in said
    monkeypatch.setattr("helpers.classroom.marking.marking.mark", whole)
    assert course("class", "grade", "--resume") in (0, 1)
    assert "1 of 2 learners are graded already" in capsys.readouterr().err
    assert [len(History(folder.history_dir(item)).attempts()) for item in folder.members] == [1, 1]
    assert course("class", "grade", "--resume") == 2
    assert "no unfinished run" in capsys.readouterr().err


def test_resume_of_other_labs_and_a_second_grader_are_refused(
    folder: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    Run.begin(folder.path, ["01"], ["ada"], {})
    assert course("class", "grade", "--resume", "--labs", "02") == 2
    assert "is of labs 01, not 02" in capsys.readouterr().err
    with only_grader(folder.path):
        assert course("class", "grade", "--labs", "01") == 2
    assert "another command is grading" in capsys.readouterr().err
    assert course("class", "grade") == 2


def test_status_looks_and_adds_no_attempt(folder: Room, capsys: pytest.CaptureFixture[str]) -> None:
    assert course("class", "status", "--labs", "01", "--json") == 0
    (lab,) = json.loads(capsys.readouterr().out)["labs"]
    assert {item["learner"]: item["state"] for item in lab["learners"]} == {
        "ada": "passed",
        "lin": "not started",
    }
    assert not any(History(folder.history_dir(item)).attempts() for item in folder.members)
    folder.shared.go_down()
    assert course("class", "status", "--labs", "01", "--last", "--csv", "-") == 0
    assert "ada,Ada,01,passed,4,4" in capsys.readouterr().out


def test_the_policy_is_set_shown_and_followed(folder: Room, capsys: pytest.CaptureFixture[str]) -> None:
    assert course("class", "policy") == 0
    assert "everything counts in full" in capsys.readouterr().out
    dates = ["--due", "2020-01-01T00:00+00:00", "--penalty-per-day", "0.01"]
    assert course("class", "policy", "--lab", "01", *dates, "--count", "latest") == 0
    said = capsys.readouterr().out
    assert 'count = "latest"' in said and "penalty_per_day = 0.01" in said
    course("class", "grade", "--labs", "01", "--learner", "ada")
    assert "days late" in capsys.readouterr().out
    assert course("class", "policy", "--lab", "01", "--due", "none") == 0
    assert "due" not in capsys.readouterr().out
    capsys.readouterr()
    zone = ["--time-zone", "Europe/Rome"]
    assert course("class", "policy", "--lab", "01", "--due", "2026-12-01", *zone) == 0
    printed = capsys.readouterr()
    assert "due = 2026-12-01T23:59:59+01:00" in printed.out
    assert "Lab 01 is due Tuesday, 2026-12-01 23:59:59 UTC+01:00: the end of 2026-12-01." in printed.err
    assert course("class", "policy", "--lab", "01", "--cutoff", "2026-11-30") == 2
    assert course("class", "policy") == 0, "what was refused is not kept"
    assert course("class", "policy", "--due", "2020-01-01") == 2
    assert course("class", "policy", "--lab", "01", "--due", "soon") == 2


def test_a_report_that_is_handed_in_is_a_claim(
    folder: Room, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    claim = tmp_path / "claim.json"
    claim.write_text(grade([tiny_lab()], folder.of("ada"), journals=tmp_path).to_json())
    assert course("class", "submit", "ada", claim) == 0
    assert "Nothing is attested by it." in capsys.readouterr().out
    course("class", "grade", "--labs", "01")
    capsys.readouterr()
    assert course("class", "history", "ada") == 0
    said = capsys.readouterr().out
    assert "claim" in said and "attested" in said and "best 4/4 (attempt 2)" in said
    assert course("class", "submit", "ada", claim, "--at", "2999-01-01") == 2
    assert course("class", "submit", "nobody", claim) == 2


def kept(folder: Room, learner: str, path: Path) -> Path:
    attempt = History(folder.history_dir(folder.member(learner))).attempts()[-1]
    path.write_text(json.dumps(dict(attempt.document)))
    return path


def test_verify_says_attested_and_every_other_thing_in_a_sentence(
    folder: Room, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("helpers.classroom.records.verify.grade", graded_as_tiny)
    course("class", "grade", "--labs", "01")
    capsys.readouterr()
    path = kept(folder, "ada", tmp_path / "report.json")
    assert course("verify", path) == 0
    assert "Attested, and the cluster agrees." in capsys.readouterr().out
    assert course("class", "key", "--rotate") == 0
    key = capsys.readouterr().out.strip()
    assert course("verify", path) == 0, "what a retired key signed stays signed"
    assert course("verify", path, "--key", key) == 1
    assert "which is not trusted here" in capsys.readouterr().out
    assert course("verify", path, "--learner", "lin") == 1
    assert "the result of ada, not of lin" in capsys.readouterr().out
    assert course("verify", path, "--signature-only", "--json") == 0
    assert json.loads(capsys.readouterr().out)["attested"] is True
    folder.shared.go_down()
    assert course("verify", path) == 2
    path.write_text("{}")
    assert course("verify", path) == 2


def graded_as_tiny(labs: Any, cluster: Any, **options: Any) -> Any:
    return grade([tiny_lab()], cluster, **options)


def test_the_key_that_is_printed_is_the_one_to_hand_out(
    folder: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    assert course("class", "key") == 0
    said = capsys.readouterr()
    assert said.out.startswith("ed25519:") and len(said.out.splitlines()) == 1 and "in use" in said.err


def test_a_class_without_learners_grades_nobody(folder: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Room("class", folder.path, shared=FakeCluster())
    monkeypatch.setattr(ClassFolder, "open", classmethod(lambda cls, name="class": empty))
    assert course("class", "grade", "--labs", "01") == ENVIRONMENT_FAILED
