"""What the page says: the button before the command, how much is left, and what would become of what."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.chaos.experiment import NotSteady, steady_state
from helpers.cluster.fake import FakeCluster
from helpers.errors import ProbeInconclusive
from helpers.grading import Lab, Verdict, all_of, expect, grade
from helpers.labs.lab03_memory.draw import plan_in_words
from helpers.labs.lab03_memory.sizing import Collection
from helpers.labs.lab04_isolation.draw import (
    _forecast_cell,
    enforcement_card,
    forecast_matrix,
    observed_matrix,
    three_noes,
)
from helpers.labs.registry import load_lab
from helpers.notebook.board import board, passed, scoreboard
from helpers.notebook.hints import task_hints
from helpers.notebook.html import next_step, problem_card
from helpers.notebook.looks import LiveReport, Looks
from helpers.notebook.panel import applied, preview
from helpers.notebook.session import LabSession, needs_cluster
from helpers.settings import REPOSITORY
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
    lab = LabSession("01", looks=Looks(lambda _: LiveReport(report)))
    shown = str(board(lab, "words").text)
    assert "and 2 more to mend" in shown
    assert shown.index("Put backends and probes in place") < shown.index("course start 04")
    assert not passed(lab, "words") and not passed(LabSession("01"), "words")


def test_the_first_hint_begins_with_what_the_check_saw_of_the_learners(tmp_path: Any) -> None:
    report = grade([MADE], FakeCluster(), journals=tmp_path)
    lab = LabSession("01", looks=Looks(lambda _: LiveReport(report)))
    shown = str(task_hints(lab, "words", "a nudge", "the way").text)
    yours = "Yours: 3 (and 2 more to mend); expected: 1."
    assert shown.count(yours) == 1 and shown.index(yours) < shown.index("a nudge") < shown.index("the way")
    right = str(task_hints(LabSession("01"), "words", "a nudge", "the way").text)
    assert "Yours" not in right
    assert re.findall("<[^>]*>", right) == re.findall("<[^>]*>", shown), (
        "an open hint stays open when values change"
    )


@pytest.mark.parametrize(
    "solution", sorted((REPOSITORY / "solutions").glob("0*.py")), ids=lambda path: path.stem
)
def test_every_cell_of_hints_begins_with_the_learners_own(solution: Path) -> None:
    tasks = {check.task for check in load_lab(solution.stem[:2]).checks}
    cells = [node for node in ast.parse(solution.read_text()).body if isinstance(node, ast.FunctionDef)]
    hinted = [ast.unparse(node) for node in cells if node.name.startswith("hints_")]
    assert hinted
    for text in hinted:
        found = re.search(r"lab\.live\(nb\.task_hints, '(\w+)'", text)
        assert (found and found[1] in tasks) or "yours=" in text, text


def test_a_plan_that_is_too_large_is_told_in_its_own_figures() -> None:
    plan = Collection(vectors=2_000_000, dimensions=384, payload_bytes=512, snapshots=2)
    said = plan_in_words(plan, "10Gi")
    assert "`10Gi` is 4.2 GiB too small" in said and "8.1 GiB: snapshots" in said
    assert plan_in_words(plan, "16Gi") == plan_in_words(plan, "lots") == ""


def test_a_single_mistake_is_not_counted() -> None:
    assert all_of(expect(1, equals=1), expect(2, equals=1)).left == 0


def test_a_button_of_the_page_comes_before_the_command_that_does_the_same() -> None:
    assert next_step("course start 05").startswith("press **Put backends and probes in place**")
    assert next_step("course start 05; kubectl get pods").endswith("`course start 05; kubectl get pods`")
    assert next_step("kubectl get pods") == "`kubectl get pods`"
    assert next_step("") == ""
    assert "<b>Put backends and probes in place</b>" in str(problem_card("x", "course start 04").text)


CONFIG = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: llm-system}}"


@pytest.mark.parametrize("number", ["02", "03"])
def test_a_lab_that_is_opened_first_says_how_its_namespaces_are_made(number: str) -> None:
    cluster = FakeCluster()
    lab = LabSession(number, cluster, cluster.identity(), cluster.profile())
    button = next_step(f"course start {number}").split("**")[1]
    source = next((REPOSITORY / "labs").glob(f"{number}_*.py")).read_text()
    assert f'nb.apply_button("{button}"' in source and "nb.start_panel(lab, place)" in source
    for panel in (preview(lab, CONFIG), applied(lab, CONFIG)):
        shown = str(panel.text)
        assert "no Namespace named llm-system" in shown
        assert f"press <b>{button}</b> above" in shown and f"course start {number}" in shown
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}})
    assert "course start" not in str(preview(lab, CONFIG).text)


def test_a_lab_whose_exercise_makes_the_namespaces_names_no_other_way() -> None:
    cluster = FakeCluster()
    lab = LabSession("01", cluster, cluster.identity(), cluster.profile())
    assert "course start" not in str(preview(lab, CONFIG).text)


def test_what_a_button_cures_is_no_failure_of_the_environment() -> None:
    @needs_cluster
    def draw(lab: LabSession) -> None:
        raise ProbeInconclusive("a probe pod is not running", next_command="course start 04")

    cluster = FakeCluster()
    shown = str(draw(LabSession("04", cluster, cluster.identity(), cluster.profile())).text)
    assert "Another step comes first." in shown and "failed" not in shown


def test_a_page_before_its_first_button_speaks_of_a_step_and_of_no_error(tmp_path: Any) -> None:
    cluster = FakeCluster()
    report = grade([load_lab("04")], cluster, journals=tmp_path)
    lab = LabSession(
        "04", cluster, cluster.identity(), cluster.profile(), looks=Looks(lambda _: LiveReport(report))
    )
    panels = [board(lab, "isolation"), scoreboard(lab), forecast_matrix(lab, ""), observed_matrix(lab)]
    for panel in [*panels, three_noes(lab), enforcement_card(lab)]:
        shown = str(panel.text)
        assert "ENV" not in shown and "nvironment" not in shown and "env error" not in shown
        assert shown.index("press <b>Put backends and probes in place</b> above") < shown.find(
            "course start 04"
        )


def test_a_backend_that_is_down_is_put_in_place_by_the_pages_button_too() -> None:
    with pytest.raises(NotSteady) as problem:
        steady_state(FakeCluster().view())
    shown = str(problem_card(str(problem.value), problem.value.next_command).text)
    assert shown.index("<b>Put backends and probes in place</b>") < shown.index("kubectl get pods")


def test_a_forecast_names_before_and_after_in_this_order() -> None:
    pair = ("app", "qdrant")
    open_, closed = Decision(True, "allowed"), Decision(False, "denied")
    cell: Any = _forecast_cell({pair: open_}, {pair: closed}, {})
    assert "<b>open → closed</b>" in cell(*pair) and "now" not in cell(*pair)
    same: Any = _forecast_cell({pair: open_}, {pair: open_}, {})
    assert "<b>open</b>" in same(*pair)
