"""The bar of a page: points, its parts with their minutes, and the way to the next one that is open."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import marimo as mo
import pytest

from helpers import notebook as nb
from helpers.cluster.fake import FakeCluster
from helpers.grading import Report, Status, grade
from helpers.labs.registry import load_lab
from helpers.notebook.looks import Looks
from helpers.notebook.parts import Part
from helpers.settings import REPOSITORY

LABS = sorted((REPOSITORY / "labs").glob("[0-9][0-9]_*.py"))
each_lab = pytest.mark.parametrize("lab", LABS, ids=lambda path: path.stem)


def parts_of(lab: Path) -> tuple[Part, ...]:
    """The parts that a page declares."""
    for node in ast.walk(ast.parse(lab.read_text())):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PARTS":
            return tuple(eval(ast.unparse(node.value), {"nb": nb}))
    raise AssertionError(f"{lab.name} declares no PARTS")


@each_lab
def test_the_parts_are_the_headings_of_the_page_and_marimo_gives_them_these_ids(lab: Path) -> None:
    headings = re.findall(r"^ *## (\d+ · .+)$", lab.read_text(), re.MULTILINE)
    parts = parts_of(lab)
    assert [part.title for part in parts] == headings
    for part in parts:
        assert f'id="{part.anchor}"' in mo.md(f"## {part.title}").text
        assert part.number.isdigit() and part.anchor.startswith(f"{part.number}-")


@each_lab
def test_every_task_is_in_one_part_and_its_board_stands_there(lab: Path) -> None:
    parts = parts_of(lab)
    tasks = [task for part in parts for task in part.tasks]
    assert sorted(tasks) == sorted({check.task for check in load_lab(lab.stem[:2]).checks})
    text = lab.read_text()
    for part in parts:
        begin = text.index(f"## {part.title}")
        end = min(
            (at for other in parts if (at := text.find(f"## {other.title}")) > begin), default=len(text)
        )
        for task in part.tasks:
            assert f'lab.live(nb.board, "{task}")' in text[begin:end], task


@each_lab
def test_the_minutes_of_the_parts_leave_time_for_the_story_and_the_quiz(lab: Path) -> None:
    found = re.search(r"^ *\*(\d+) minutes\.", lab.read_text(), re.MULTILINE)
    assert found
    whole, planned = int(found[1]), sum(part.minutes for part in parts_of(lab))
    assert 0.75 * whole <= planned < whole


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return grade([load_lab("02")], FakeCluster(), journals=tmp_path_factory.mktemp("journals"))


def shown(report: Report, *passed: str, **live: Any) -> str:
    """The bar of lab 02 where the checks of these tasks hold and all others were not attempted."""
    verdicts = tuple(
        replace(item, status=Status.PASS, earned=item.points)
        if item.task in passed
        else replace(item, status=Status.NOT_ATTEMPTED, earned=0)
        for item in report.verdicts
    )
    seen = nb.LiveReport(replace(report, verdicts=verdicts), **live)
    lab = nb.LabSession("02", looks=Looks(lambda _: seen))
    return str(nb.bar(lab, parts_of(LABS[1])).text)


def test_the_bar_counts_points_and_leads_to_the_next_open_part(report: Report) -> None:
    bar = shown(report, "policy")
    assert f"4 of {report.possible:g} points" in bar
    assert 'Next:</small> <a href="#2-a-model-needs-time">2 · A model needs time</a>' in bar
    assert "about 22 min" in bar
    assert '<span class="is-PASS"><a href="#1-serving-policy"' in bar and "1✓" in bar


def test_the_next_part_is_the_next_on_the_page_and_not_in_the_order_of_checks(report: Report) -> None:
    tasks = list(dict.fromkeys(check.task for check in load_lab("02").checks))
    assert tasks.index("queue") < tasks.index("rollout"), "otherwise this test shows nothing"
    assert "4 · Rolling out, losing nothing</a>" in shown(report, "policy", "start", "serving")


def test_a_lab_that_is_done_has_no_next_part(report: Report) -> None:
    tasks = {check.task for check in load_lab("02").checks}
    bar = shown(report, *tasks)
    assert "Next:" not in bar and bar.count("✓") == len(tasks)


def test_an_old_verdict_marks_no_part_as_done(report: Report) -> None:
    bar = shown(report, "policy", measured={})
    assert "✓" not in bar and "measuring" in bar


def test_without_a_cluster_the_bar_still_leads_to_every_part() -> None:
    lab = nb.LabSession("02", looks=Looks(lambda _: nb.LiveReport(connected=False)))
    bar = str(nb.bar(lab, parts_of(LABS[1])).text)
    assert "no points yet" in bar and bar.count("<a href=") == 6


@each_lab
def test_the_bar_is_the_second_thing_on_the_page(lab: Path) -> None:
    cells = [node for node in ast.parse(lab.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert "nb.bar" in ast.unparse(cells[1])


def test_the_style_keeps_the_bar_in_sight_and_headings_clear_of_it() -> None:
    css = (REPOSITORY / "helpers" / "notebook" / "course.css").read_text()
    rule = re.search(
        r'\[data-testid="cell-column"\] > div:has\(> \.marimo-cell \.course > \.bar\) \{([^}]*)\}', css
    )
    assert rule and "position: sticky !important" in rule[1] and "top: 0" in rule[1]
    assert "h2[id]" in css and "scroll-margin-top" in css


@each_lab
def test_what_a_page_reads_from_the_cluster_is_drawn_beside_its_cells(lab: Path) -> None:
    """Panels without a button: one that asks the cluster in its cell would hold up the page, and grow old."""
    asking = {
        "preview",
        "event_table",
        "pod_table",
        "job_table",
        "board",
        "scoreboard",
        "bar",
        "forecast_matrix",
    }
    asking |= {"kv_picture", "observed_matrix", "enforcement_card", "vital_signs", "releases", "herd_chart"}
    calls = [node for node in ast.walk(ast.parse(lab.read_text())) if isinstance(node, ast.Call)]
    named = [node.func.attr for node in calls if isinstance(node.func, ast.Attribute)]
    assert not asking & set(named), "give it to lab.live"
