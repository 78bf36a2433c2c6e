"""Moodle: the gradebook's import, and an assignment's worksheet filled in place."""

from __future__ import annotations

import csv
import io

import pytest

from helpers.errors import LabError
from helpers.grading.export.moodle import merge_worksheet, to_moodle
from helpers.grading.export.results import Result
from helpers.grading.export.template import TemplateInvalid
from helpers.grading.verdict import Status
from tests.unit import export_data as data

# As Moodle writes it: mod/assign's grading table, downloaded with feedback comments.
HEADER = [
    *("Identifier", "Full name", "ID number", "Email address", "Status", "Grade", "Maximum Grade"),
    *("Grade can be changed", "Last modified (submission)", "Last modified (grade)", "Feedback comments"),
]
SHEET = [
    HEADER,
    [
        "Participant 11",
        "Ada, the first",
        "",
        "ada@example.org",
        "Submitted",
        "",
        "100.00",
        "Yes",
        "-",
        "-",
        "",
    ],
    [
        "Participant 12",
        "林",
        "lin",
        "lin@example.org",
        "No submission",
        "1.00",
        "100.00",
        "Yes",
        "-",
        "Monday, 5 January",
        "old",
    ],
    [
        "Participant 13",
        "=eve",
        "eve",
        "eve@example.org",
        "No submission",
        "",
        "100.00",
        "Yes",
        "-",
        "-",
        "a\nb",
    ],
    ["Participant 14", "Abe", "abe", "abe@example.org", "No submission", "", "100.00", "No", "-", "-", ""],
]


def written(rows: list[list[str]] = SHEET) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_the_import_has_a_column_for_each_lab_and_its_feedback() -> None:
    merged = to_moodle(data.CLASS)
    head, ada, lin, eve = read(merged.text)
    assert head == ["ID number", "Email address", "Lab 01", "Lab 01 (Feedback)"]
    assert ada == ["ada", "ada@example.org", "10", "Lab 01: 2 of 2 checks passed."]
    assert lin[2] == "2" and lin[3].endswith("Fell short: quota.fits. Handed in late: 50 % of the points.")
    assert eve == ["eve", "eve@example.org", "", ""], "no grade, which Moodle leaves as it is"
    assert (merged.filled, merged.not_graded) == (
        2,
        ("eve, lab 01: the environment failed, so this is not a grade",),
    )


def test_a_learner_whose_address_is_a_formula_is_left_out_and_named() -> None:
    plus = data.Learner("s01", "Plus", "+plus@example.org")
    merged = to_moodle([Result(plus, data.PASSED), Result(data.ADA, data.PASSED)])
    assert [row[0] for row in read(merged.text)] == ["ID number", "ada"]
    assert "s01: a spreadsheet would run" in merged.not_graded[0]


def test_more_points_than_moodle_takes_are_said() -> None:
    many = data.report(data.result("quota.gpu", Status.PASS, 120))
    assert to_moodle([Result(data.ADA, many)]).notes == (
        "lab 01 has 120 points: Moodle refuses more than 100",
    )


def test_pending_hidden_checks_stand_in_the_feedback() -> None:
    (_, row) = read(to_moodle([Result(data.ADA, data.PENDING)]).text)
    assert row[3] == "Lab 01: 2 of 2 checks passed. Hidden checks pending: 2."


def test_a_worksheet_is_filled_and_every_other_cell_stays() -> None:
    merged = merge_worksheet(written(), data.CLASS)
    found = read(merged.text)
    expected = [list(row) for row in SHEET]
    expected[1][5], expected[1][10] = "100", "Lab 01: 2 of 2 checks passed."
    expected[2][5], expected[2][10] = "20", found[2][10]
    assert found == expected and "Fell short: quota.fits." in found[2][10]
    assert merged.filled == 2 and merged.not_graded == (
        "Participant 13: the environment failed, so this is not a grade",
        "Participant 14: no result",
    )


def test_a_grade_that_moodle_keeps_is_named() -> None:
    abe = Result(data.Learner("abe", "Abe", "abe@example.org"), data.PASSED)
    merged = merge_worksheet(written(), [*data.CLASS, abe])
    assert "Participant 14: Moodle says that this grade cannot be changed" in merged.not_graded


def test_one_column_says_who_a_row_is() -> None:
    rows = [list(row) for row in SHEET]
    rows[4][2] = "ada@example.org"
    merged = merge_worksheet(written(rows), data.CLASS)
    assert [row[5] for row in read(merged.text)[1:]] == ["100", "20", "", ""]
    assert merge_worksheet(written(rows), data.CLASS, identity="ID number").filled == 1
    twice = [*rows, [*rows[1][:4], *rows[4][4:]]]
    merged = merge_worksheet(written(twice), data.CLASS)
    assert merged.not_graded.count("Participant 11: the learner fits several rows") == 2
    assert read(merged.text)[1][5] == ""


@pytest.mark.parametrize(
    ("maximum", "grade"),
    [
        ("10,00", "10"),
        ("1.000,00", "1000"),
        ("1 000,00", "1000"),
        ("1,000", "1000"),
        ("7.5", "7.5"),
        ("0,125", "0.12"),
    ],
)
def test_a_maximum_is_read_as_its_language_writes_it(maximum: str, grade: str) -> None:
    rows = [[cell if cell != "100.00" else maximum for cell in row] for row in SHEET]
    assert read(merge_worksheet(written(rows), data.CLASS).text)[1][5] == grade


def test_a_maximum_that_is_no_number_gets_no_grade() -> None:
    rows = [[cell if cell != "100.00" else "-" for cell in row] for row in SHEET]
    merged = merge_worksheet(written(rows), data.CLASS)
    assert merged.filled == 0 and read(merged.text)[1][5] == ""
    assert merged.not_graded[0] == "Participant 11: its maximum grade “-” is not a number"


def test_a_scale_takes_the_name_of_its_nearest_step() -> None:
    rows = [["Scale" if cell == "Maximum Grade" else cell for cell in row] for row in SHEET]
    rows = [[cell if cell != "100.00" else "Not yet, Nearly, Done" for cell in row] for row in rows]
    merged = merge_worksheet(written(rows), data.CLASS)
    assert [row[5] for row in read(merged.text)[1:3]] == ["Done", "Not yet"]
    assert merged.notes == (
        "the assignment has a scale: each grade is the nearest of its 3 steps, full points are “Done”",
    )


def test_a_worksheet_is_one_lab() -> None:
    both = [*data.CLASS, Result(data.ADA, data.report(data.result("x", Status.PASS, lab="02")))]
    with pytest.raises(LabError, match="which lab is it"):
        merge_worksheet(written(), both)
    assert read(merge_worksheet(written(), both, lab="02").text)[1][5] == "100"
    with pytest.raises(LabError, match="Graded: 01, 02"):
        merge_worksheet(written(), both, lab="05")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Student,ID,Section\n", "needs Identifier, Grade"),
        ("Identifier,Grade,Last modified (grade)\n", "submissions are anonymous"),
    ],
)
def test_what_is_no_worksheet_is_refused(text: str, reason: str) -> None:
    with pytest.raises(TemplateInvalid, match=reason):
        merge_worksheet(text, data.CLASS)
