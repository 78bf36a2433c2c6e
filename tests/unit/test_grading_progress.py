"""A learner's progress: facts from Reports, kept over restarts, written only when something is new."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from helpers.grading.progress import Progress, next_lab
from helpers.grading.report import CheckResult, ClusterFacts, CourseVersion, Report
from helpers.grading.testing import EPOCH
from helpers.grading.verdict import Status


def result(check: str, status: str, lab: str = "01") -> CheckResult:
    return CheckResult(
        check=check,
        task="",
        status=Status(status),
        earned=2 if status == "PASS" else 0,
        points=2,
        mode="level",
        expected="",
        observed="",
        message="",
        why="",
        hint="",
        next="",
        duration_s=0,
        lab=lab,
    )


def report(minute: int, *results: CheckResult) -> Report:
    return Report(
        lab="01",
        cluster=ClusterFacts("uid", "v1.36.3", "embedded", "simulated"),
        graded_at=(EPOCH + timedelta(minutes=minute)).isoformat(),
        duration_s=0.1,
        verdicts=results,
        course=CourseVersion("0.1.0"),
    )


@pytest.fixture
def progress(tmp_path: Path) -> Progress:
    return Progress(tmp_path / "progress.json")


def test_a_lab_is_done_when_all_its_checks_passed_together(progress: Progress) -> None:
    progress.started("01", EPOCH)
    progress.record(report(10, result("a", "PASS"), result("b", "FAIL")))
    half = progress.labs()["01"]
    assert (half.done_at, half.took, half.earned, half.possible) == (None, None, 2, 4)
    progress.record(report(30, result("a", "PASS"), result("b", "PASS")))
    done = Progress(progress.path).labs()["01"]
    assert (done.took, done.cluster, done.gpu) == (timedelta(minutes=30), "uid", "simulated")
    assert [datetime.fromisoformat(stamp).minute for stamp in done.passed.values()] == [10, 30]


def test_checks_that_passed_at_different_times_do_not_make_a_lab_done(progress: Progress) -> None:
    progress.record(report(1, result("a", "PASS"), result("b", "FAIL")))
    progress.record(report(2, result("a", "FAIL"), result("b", "PASS")))
    assert progress.labs()["01"].done_at is None


def test_a_run_of_some_checks_never_makes_a_lab_done(progress: Progress) -> None:
    progress.record(report(1, result("a", "PASS")), whole=False)
    lab = progress.labs()["01"]
    assert (lab.done_at, lab.earned, list(lab.passed)) == (None, 0, ["a"])


def test_nothing_is_written_when_nothing_is_new(progress: Progress) -> None:
    assert progress.record(report(1, result("a", "PASS"), result("b", "FAIL")))
    before = progress.path.stat()
    assert not progress.record(report(2, result("a", "PASS"), result("b", "FAIL")))
    assert progress.path.stat().st_mtime_ns == before.st_mtime_ns


def test_a_broken_environment_is_no_progress_and_no_start(progress: Progress) -> None:
    assert not progress.record(report(1, result("a", "ENV_ERROR")))
    assert progress.labs() == {}


def test_the_first_start_and_the_first_end_stay(progress: Progress) -> None:
    progress.started("01", EPOCH)
    progress.started("01", EPOCH + timedelta(days=1))
    progress.record(report(5, result("a", "PASS")))
    progress.record(report(9, result("a", "FAIL")))
    assert progress.labs()["01"].took == timedelta(minutes=5)


def test_several_labs_in_one_report_are_kept_apart(progress: Progress) -> None:
    progress.record(report(1, result("a", "PASS"), result("b", "FAIL", lab="02")))
    labs = progress.labs()
    assert (labs["01"].done_at is None, labs["02"].done_at is None) == (False, True)
    assert next_lab(labs, ["01", "02", "03"]) == "02"


@pytest.mark.parametrize("text", ['{"schema": "course.progress/v1", "labs": 3}', "{", "[]"])
def test_an_unreadable_file_is_set_aside_and_work_goes_on(progress: Progress, text: str) -> None:
    progress.path.write_text(text)
    assert progress.labs() == {}
    assert progress.path.with_suffix(".unreadable").read_text() == text
    assert progress.record(report(1, result("a", "PASS")))


def test_a_writer_that_dies_leaves_the_old_file_whole(
    progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    progress.record(report(1, result("a", "PASS"), result("b", "FAIL")))
    before = progress.path.read_text()

    def die(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        progress.record(report(2, result("a", "PASS"), result("b", "PASS")))
    assert progress.path.read_text() == before
    assert sorted(file.name for file in progress.path.parent.iterdir()) == ["progress.json", "progress.lock"]


def test_a_notebook_and_a_terminal_that_write_at_once_lose_nothing(progress: Progress) -> None:
    reports = [report(number, result(f"c{number}", "PASS", lab=f"{number:02d}")) for number in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: Progress(progress.path).record(one), reports))
    assert sorted(progress.labs()) == [f"{number:02d}" for number in range(1, 9)]
