"""CSV: read back as it was meant, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas
import pytest

from helpers.errors import LabError
from helpers.grading.export import results
from helpers.grading.export.csvfile import CHECK_COLUMNS, LAB_COLUMNS, report_csv, to_csv, to_summary_csv
from helpers.grading.export.results import Result, defused, is_formula, lab_scores, number
from helpers.grading.verdict import Status
from tests.unit import export_data as data


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_a_row_for_each_learner_and_check() -> None:
    found = rows(to_csv(data.CLASS))
    assert [(row["learner"], row["check"], row["status"]) for row in found[:3]] == [
        ("ada", "quota.gpu", "PASS"),
        ("ada", "quota.fits", "PASS"),
        ("lin", "quota.gpu", "PASS"),
    ]
    assert tuple(found[0]) == CHECK_COLUMNS and len(found) == 6
    assert (found[0]["name"], found[2]["name"]) == ("Ada, the first", "林 – ünïcode")


def test_an_observation_with_anything_in_it_comes_back_whole_behind_an_apostrophe() -> None:
    assert rows(to_csv(data.CLASS))[3]["observed"] == f"'{data.EVIL}"


def test_a_row_for_each_learner_and_lab_with_the_late_policy_applied() -> None:
    ada, lin, eve = rows(to_summary_csv(data.CLASS))
    assert tuple(ada) == LAB_COLUMNS
    assert (ada["earned"], ada["possible"], ada["passed"], ada["checks"]) == ("10", "10", "2", "2")
    assert (lin["earned"], lin["share"], lin["submitted_at"]) == ("2", "0.5", "2026-01-02")
    assert (eve["earned"], eve["environment_errors"]) == ("", "1"), "a broken cluster is no zero"


def test_no_cell_is_a_formula() -> None:
    for text in (to_csv(data.CLASS), to_summary_csv(data.CLASS), report_csv(data.HALF)):
        assert not [
            cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row if is_formula(cell)
        ]


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "- nothing"]
)
def test_what_a_spreadsheet_would_run_is_defused(text: str) -> None:
    assert defused(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "-5", "+2.5", "1=1", "ada", "a@b", "'=1"])
def test_everything_else_stays(text: str) -> None:
    assert defused(text) == text


def test_a_saved_file_is_read_by_excel_and_pandas_with_its_names(tmp_path: Path) -> None:
    path = tmp_path / "class.csv"
    results.save(path, to_csv(data.CLASS))
    assert path.read_bytes().startswith(b"\xef\xbb\xbflearner,") and b"\r\n" in path.read_bytes()
    frame = pandas.read_csv(path)
    assert list(frame.columns) == list(CHECK_COLUMNS) and frame["name"][2] == "林 – ünïcode"


def test_a_file_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LabError, match="cannot write"):
        results.save(tmp_path / "file" / "class.csv", "x")


def test_what_is_pending_stands_beside_the_points() -> None:
    (row,) = rows(to_summary_csv([Result(data.ADA, data.PENDING)]))
    assert row["hidden_pending"] == "2"


def test_a_later_report_of_the_same_lab_replaces_the_earlier_one() -> None:
    other = data.report(data.result("memory.size", Status.PASS, lab="03"))
    scores = lab_scores([Result(data.ADA, data.HALF), Result(data.ADA, other), Result(data.ADA, data.PASSED)])
    assert {(score.lab, score.earned) for score in scores} == {("01", 10), ("03", 4)}


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (10, "10"), (2.5, "2.5"), (1 / 3, "0.33"), (1e6, "1000000")]
)
def test_numbers_are_written_as_gradebooks_read_them(value: float, text: str) -> None:
    assert number(value) == text
