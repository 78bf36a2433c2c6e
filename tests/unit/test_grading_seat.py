"""A learner's seat in a class: read from the cluster, shown, and never believed by a grader."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.classroom.seats.variables import variables
from helpers.cluster import Scope
from helpers.cluster.fake import FakeCluster
from helpers.grading.progress import LastReports, take_up
from helpers.grading.report import HiddenChecks
from helpers.grading.seat import Seat, own_figures, read_seat, seat_of, with_pending
from helpers.grading.verdict import Status
from helpers.notebook.session import LabSession
from tests.unit import export_data as data

HIDDEN = {"01": {"count": 2, "points": 4}, "03": {"count": 1, "points": 2.5}}


def seated(suffix: str = "ada", **changes: Any) -> FakeCluster:
    cluster = FakeCluster(scope=Scope(suffix))
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-apps"}})
    written = {
        "learner": "ada",
        "class": "autumn",
        "nonce": "0" * 32,
        "variables": json.dumps(variables("0" * 32).to_dict()),
        "hidden": json.dumps(HIDDEN),
    }
    metadata = {"name": "course-seat", "namespace": "llm-apps"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {**written, **changes}}
    )
    return cluster


def test_a_seat_is_read_from_the_learners_own_namespace() -> None:
    seat = seat_of(seated())
    assert seat is not None
    assert (seat.learner, seat.class_name, seat.variables["limits_cpu"]) == ("ada", "autumn", 17)
    assert seat.hidden == {"01": HiddenChecks(2, 4), "03": HiddenChecks(1, 2.5)}
    assert read_seat(seated("lin").view()) is not None


def test_outside_a_class_and_without_a_cluster_there_is_no_seat() -> None:
    cluster = FakeCluster()
    assert seat_of(cluster) is None
    cluster.go_down()
    assert seat_of(cluster) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "17", '{"01": {"count": "many"}}', '{"01": 3}'])
def test_a_seat_that_was_spoiled_is_still_a_seat(text: str) -> None:
    seat = seat_of(seated(hidden=text, variables=text))
    assert seat is not None and seat.hidden == {}


def test_a_learners_own_report_says_what_is_pending_for_its_labs() -> None:
    seat = Seat("ada", "autumn", "n", hidden={"01": HiddenChecks(2, 4), "03": HiddenChecks(1, 2.5)})
    assert with_pending(data.PASSED, seat).standing == "public 2/2, hidden 2 pending"
    both = data.report(data.result("a", Status.PASS), data.result("b", Status.PASS, lab="03"))
    assert with_pending(both, seat).pending == HiddenChecks(3, 6.5)
    assert with_pending(data.report(data.result("a", Status.PASS, lab="02")), seat).pending is None
    assert with_pending(data.PASSED, None) == data.PASSED


def test_figures_are_shown_with_what_they_belong_to() -> None:
    shown = own_figures({**variables("0" * 32).to_dict(), "new": 3})
    assert ("quota limits.memory", "111Gi") in shown and ("label course.dev/seat", "seat-6bdff5c2") in shown
    assert shown[-1] == ("new", "3")


def test_the_page_of_a_lab_shows_the_seat_and_nothing_from_it_as_html() -> None:
    cluster = seated(learner="<script>alert(1)</script>")
    session = LabSession("01", cluster, cluster.identity(), cluster.profile(), seat=seat_of(cluster))
    html = session.card().text
    assert "&lt;script&gt;" in html and "<script>" not in html and "seat-6bdff5c2" in html


@pytest.fixture
def home(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    return tmp_path


def test_the_latest_report_of_each_lab_is_kept_with_its_evidence(home: Any) -> None:
    both = data.report(data.result("a", Status.PASS), data.result("b", Status.FAIL, lab="03"))
    assert take_up(both) is None
    kept = LastReports().all()
    assert list(kept) == ["01", "03"] and kept["03"].verdicts == both.verdicts[1:]
    take_up(data.report(data.result("a", Status.FAIL)))
    assert LastReports().all()["01"].verdicts[0].status is Status.FAIL


def test_a_run_of_some_checks_is_no_labs_report(home: Any) -> None:
    take_up(data.PASSED, whole=False)
    assert LastReports().all() == {}


def test_a_board_that_sees_the_same_again_writes_nothing(home: Any) -> None:
    take_up(data.PASSED)
    before = (home / "reports" / "01.json").stat().st_mtime_ns
    take_up(data.PASSED)
    assert (home / "reports" / "01.json").stat().st_mtime_ns == before


def test_a_report_that_cannot_be_read_is_set_aside(home: Any) -> None:
    take_up(data.PASSED)
    (home / "reports" / "01.json").write_text("{")
    assert LastReports().all() == {} and (home / "reports" / "01.unreadable").exists()


def test_a_home_that_cannot_be_written_is_a_reason_and_no_error(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "file"))
    assert "file" in str(take_up(data.PASSED))
