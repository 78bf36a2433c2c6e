"""What the page says: the button before the command, how much is left, and what would become of what."""

from __future__ import annotations

from typing import Any

from helpers.cluster.fake import FakeCluster
from helpers.errors import ProbeInconclusive
from helpers.grading import Lab, Verdict, all_of, expect, grade
from helpers.labs.lab04_isolation.draw import _forecast_cell
from helpers.notebook.board import board, passed
from helpers.notebook.html import next_step, problem_card
from helpers.notebook.looks import LiveReport, Looks
from helpers.notebook.session import LabSession, needs_cluster
from helpers.stack.policy_forecast import Decision

MADE = Lab("01", "Words", namespaces=())


@MADE.check("words.three", task="words", next="course start 04")
def three(cluster: Any) -> Verdict:
    """Three figures are right."""
    inner = all_of(expect(2, equals=2), expect(5, equals=2, observed="5"))
    return all_of(expect(3, equals=1, observed="3"), expect(4, equals=1, observed="4"), inner)


def test_two_mistakes_behind_the_one_that_is_named_are_counted(tmp_path: Any) -> None:
    report = grade([MADE], FakeCluster(), journals=tmp_path)
    (result,) = report.verdicts
    assert result.observed == "3 (and 2 more to mend)"
    lab = LabSession("01", looks=Looks(lambda: LiveReport(report)))
    shown = str(board(lab, "words").text)
    assert "and 2 more to mend" in shown
    assert shown.index("Put backends and probes in place") < shown.index("course start 04")
    assert not passed(lab, "words") and not passed(LabSession("01"), "words")


def test_a_single_mistake_is_not_counted() -> None:
    assert all_of(expect(1, equals=1), expect(2, equals=1)).left == 0


def test_a_button_of_the_page_comes_before_the_command_that_does_the_same() -> None:
    assert next_step("course start 05").startswith("press **Put backends and probes in place**")
    assert next_step("kubectl get pods") == "`kubectl get pods`"
    assert next_step("") == ""
    assert "<b>Put backends and probes in place</b>" in str(problem_card("x", "course start 04").text)


def test_what_a_button_cures_is_no_failure_of_the_environment() -> None:
    @needs_cluster
    def draw(lab: LabSession) -> None:
        raise ProbeInconclusive("a probe pod is not running", next_command="course start 04")

    cluster = FakeCluster()
    shown = str(draw(LabSession("04", cluster, cluster.identity(), cluster.profile())).text)
    assert "Another step comes first." in shown and "failed" not in shown


def test_a_forecast_names_before_and_after_in_this_order() -> None:
    pair = ("app", "qdrant")
    open_, closed = Decision(True, "allowed"), Decision(False, "denied")
    cell: Any = _forecast_cell({pair: open_}, {pair: closed}, {})
    assert "<b>open → closed</b>" in cell(*pair) and "now" not in cell(*pair)
    same: Any = _forecast_cell({pair: open_}, {pair: open_}, {})
    assert "<b>open</b>" in same(*pair)
