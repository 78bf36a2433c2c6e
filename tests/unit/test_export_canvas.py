"""Canvas: what it exported comes back with the grades in it, and nothing else changed.

The templates below have the shape that Canvas writes (lib/gradebook_exporter.rb): identity columns,
an instructor's column, assignments with their numbers, read-only totals, a row for manual posting,
the row of points, the test student.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from helpers.grading.export.canvas import merge_canvas
from helpers.grading.export.results import Result
from helpers.grading.export.template import TemplateInvalid, read_template
from helpers.grading.verdict import Status
from tests.unit import export_data as data

HEADER = [
    *("Student", "ID", "SIS User ID", "SIS Login ID", "Section", "Notes"),
    *("Essay (41)", "Lab 01 (12345)", "Lab 02: Inference (12346)"),
    *("Assignments Current Score", "Current Score", "Final Score"),
]
ROWS = [
    HEADER,
    ["", "", "", "", "", "", "", "Manual Posting", "", "", "", ""],
    ["    Points Possible", "", "", "", "", "", "5.00", "10.00", "8.00", *["(read only)"] * 3],
    ["The first, Ada", "101", "S-1", "ada", "01", "says\nhello", "4.50", "", "", "90", "90", "50"],
    ["林, 小", "102", "S-2", "LIN@example.org", "01", "", "", "3.00", "N/A", "", "", ""],
    ['="=HYPERLINK(""x"")"', "103", "S-3", "eve", "01", "=1+1", "", "", "", "", "", ""],
    ["Absent, Abe", "104", "S-4", "abe", "01", "", "", "7", "", "", "", ""],
    ["Student, Test", "105", "", "6d9f", "01", "", "", "", "", "", "", ""],
]


def written(rows: list[list[str]] = ROWS, *, delimiter: str = ",", end: str = "\n", bom: str = "") -> str:
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=delimiter, lineterminator=end).writerows(rows)
    return bom + out.getvalue()


def read(text: str, delimiter: str = ",") -> list[list[str]]:
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter))


def test_grades_are_filled_and_every_other_cell_stays() -> None:
    merged = merge_canvas(written(), data.CLASS)
    expected = [list(row) for row in ROWS]
    expected[3][7], expected[4][7] = "10", "2"
    assert read(merged.text) == expected
    assert merged.filled == 2


def test_who_was_not_graded_is_named_with_the_reason() -> None:
    merged = merge_canvas(written(), data.CLASS)
    assert merged.not_graded == (
        '="=HYPERLINK(""x"")" (eve), lab 01: the environment failed, so this is not a grade',
        "Absent, Abe (abe): no result",
        "Student, Test (6d9f): no result",
    )


def test_learners_whom_canvas_does_not_have_are_named() -> None:
    stranger = data.Learner("zoe", "Zoe", "zoe@example.org")
    assert merge_canvas(written(), [*data.CLASS, Result(stranger, data.PASSED)]).not_in_template == ("zoe",)


def test_an_excused_or_unassigned_learner_stays_so() -> None:
    rows = [list(row) for row in ROWS]
    rows[3][7] = "EX"
    inference = data.report(data.result("gateway", Status.PASS, 8, lab="02"))
    merged = merge_canvas(
        written(rows), [*data.CLASS, Result(data.ADA, inference), Result(data.LIN, inference)]
    )
    assert read(merged.text)[3][7:9] == ["EX", "8"] and read(merged.text)[4][7:9] == ["2", "N/A"]
    assert "The first, Ada (ada), lab 01: excused in Canvas" in merged.not_graded
    assert "林, 小 (LIN@example.org), lab 02: not assigned in Canvas" in merged.not_graded


def test_grades_are_scaled_to_what_the_assignment_is_worth_in_canvas() -> None:
    rows = [list(row) for row in ROWS]
    rows[2][7] = "100.00"
    merged = merge_canvas(written(rows), data.CLASS)
    assert [row[7] for row in read(merged.text)[2:5]] == ["100.00", "100", "20"]
    assert merged.notes == ("lab 01: 10 points are scaled to the 100 of “Lab 01 (12345)”",)


def test_an_assignment_that_canvas_does_not_have_is_added_before_the_totals() -> None:
    rows = [[cell for place, cell in enumerate(row) if place != 7] for row in ROWS]
    merged = merge_canvas(written(rows), data.CLASS)
    found = read(merged.text)
    assert found[0] == [*rows[0][:8], "Lab 01", *rows[0][8:]]
    assert [row[8] for row in found] == ["Lab 01", "", "10", "10", "2", "", "", ""]
    assert [[cell for place, cell in enumerate(row) if place != 8] for row in found] == rows
    assert "Canvas will offer to create the assignment" in merged.notes[0]


def test_merging_twice_changes_nothing_more() -> None:
    once = merge_canvas(written(), data.CLASS)
    assert merge_canvas(once.text, data.CLASS).text == once.text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_file_is_written_as_canvas_wrote_it(delimiter: str, bom: str, end: str, tmp_path: Path) -> None:
    path = tmp_path / "gradebook.csv"
    path.write_bytes(written(delimiter=delimiter, bom=bom, end=end).encode())
    text = merge_canvas(read_template(path), []).text
    assert text.encode() == path.read_bytes()


def test_a_language_with_decimal_commas_is_read() -> None:
    rows = [list(row) for row in ROWS]
    rows[2][7] = "12,50"
    merged = merge_canvas(written(rows, delimiter=";"), data.CLASS)
    assert read(merged.text, ";")[3][7] == "12.5"


def test_first_and_last_names_in_two_columns_are_known_too() -> None:
    rows = [["Last", "First", *row[1:]] for row in ROWS]
    rows[0][:2], rows[2][:2] = ["LastName", "FirstName"], ["    Points Possible", ""]
    assert merge_canvas(written(rows), data.CLASS).filled == 2


def test_the_column_can_be_named() -> None:
    merged = merge_canvas(written(), data.CLASS, columns={"01": "Essay (41)"})
    assert [row[6] for row in read(merged.text)[3:5]] == ["5", "1"], "scaled to the essay's 5 points"


def test_two_columns_that_could_be_meant_are_refused_by_name() -> None:
    rows = [[*row, "Lab 1 again (7)" if row is HEADER else ""] for row in ROWS]
    with pytest.raises(TemplateInvalid, match=r"“Lab 01 \(12345\)” and “Lab 1 again \(7\)”") as refused:
        merge_canvas(written(rows), data.CLASS)
    assert refused.value.next_command == "add --column '01=TITLE' with one of them"


def test_lab_10_is_not_lab_1() -> None:
    rows = [[*row, "Lab 10 (7)" if row is HEADER else ""] for row in ROWS]
    assert merge_canvas(written(rows), data.CLASS).filled == 2


def test_a_learner_in_two_rows_is_graded_in_neither_and_named() -> None:
    rows = [*ROWS, ["Again, Ada", "106", "S-6", "ada", "02", *[""] * 7]]
    merged = merge_canvas(written(rows), data.CLASS)
    assert (read(merged.text)[3][7], read(merged.text)[-1][7]) == ("", "")
    assert "The first, Ada (ada): the learner fits several rows" in merged.not_graded
    assert merged.not_graded[-1] == "Again, Ada (ada): the learner fits several rows"
    assert merged.not_in_template == ()


NUMBERS = """\
Student,ID,SIS User ID,SIS Login ID,Section,Lab 01 (777)
    Points Possible,,,,,10
"Stranger, Bob",42,900,bob,A,
"Real, Ada",1001,42,ada,A,
"""


def test_one_persons_number_is_not_anothers_login() -> None:
    fortytwo = Result(data.Learner("42", "Ada", ""), data.PASSED)
    merged = merge_canvas(NUMBERS, [fortytwo])
    assert [row[5] for row in read(merged.text)[2:]] == ["", "10"]
    assert merged.notes == ("“SIS User ID” says who a row is; “ID” would have said otherwise of 42",)
    assert merged.not_graded == ("Stranger, Bob (bob): no result",)


def test_the_column_in_which_most_learners_are_found_says_who_all_of_them_are() -> None:
    others = [Result(data.Learner(name, name, ""), data.HALF) for name in ("900", "7001")]
    text = NUMBERS.replace('"Real, Ada",1001,42', '"Real, Ada",1001,7001').replace(",ada,A", ",42,A")
    merged = merge_canvas(text, [Result(data.Learner("42", "Bob?", ""), data.PASSED), *others])
    assert [row[5] for row in read(merged.text)[2:]] == ["4", "4"], (
        "by SIS User ID, not one of them by another"
    )
    assert merged.not_in_template == ("42",)


def test_an_instructor_can_say_which_column_it_is() -> None:
    fortytwo = Result(data.Learner("42", "Bob", ""), data.PASSED)
    merged = merge_canvas(NUMBERS, [fortytwo], identity="id")
    assert [row[5] for row in read(merged.text)[2:]] == ["10", ""]
    with pytest.raises(TemplateInvalid, match="there is no column Matrikel"):
        merge_canvas(NUMBERS, [fortytwo], identity="Matrikel")


def test_numbers_that_a_spreadsheet_rewrote_are_refused_with_their_row() -> None:
    text = NUMBERS.replace(",1001,42,", ",1001,2.02613E+10,").replace(",42,900,", ",8,900,")
    with pytest.raises(
        TemplateInvalid, match=r"row 4: a spreadsheet made the number 2\.02613E\+10 of “SIS User ID”"
    ):
        merge_canvas(text, [Result(data.Learner("900", "Bob", ""), data.PASSED)])


def test_an_id_that_is_another_learners_address_finds_neither() -> None:
    twin = data.Learner("ada@example.org", "Twin", "twin@example.org")
    rows = [list(row) for row in ROWS]
    rows[3][3] = "ada@example.org"
    merged = merge_canvas(written(rows), [*data.CLASS, Result(twin, data.HALF)])
    assert read(merged.text)[3][7] == "" and {"ada", "ada@example.org"} <= set(merged.not_in_template)


def test_pending_hidden_checks_are_said() -> None:
    merged = merge_canvas(written(), [Result(data.ADA, data.PENDING)])
    assert merged.notes == ("hidden checks are pending: 1 grades are of the public checks",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("name,grade\nada,1\n", "needs the columns Student, ID and Section"),
        (written([HEADER]), "no row “Points Possible”"),
        ('Student,ID,Section\n"x', "not a CSV"),
        ("Student,ID,Section\n    Points Possible,,\na,b,c,d\n", "row 3 has 4 cells"),
        (written([["Lab 01" if name == "Final Score" else name for name in HEADER], *ROWS[1:]]), "could be"),
    ],
)
def test_what_is_no_gradebook_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(TemplateInvalid, match=reason):
        merge_canvas(text, data.CLASS)


def test_a_file_of_another_encoding_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("Student,ID,Section\nJosé,1,1\n".encode("latin-1"))
    with pytest.raises(TemplateInvalid, match="CSV UTF-8"):
        read_template(tmp_path / "latin.csv")
    with pytest.raises(TemplateInvalid, match="cannot read"):
        read_template(tmp_path / "nowhere.csv")
