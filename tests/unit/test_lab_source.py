"""A lab is made from its solution: the committed file is what its source gives, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import cli
from helpers.notebook.lab_source import SourceFault, lab_text
from helpers.settings import REPOSITORY

SOLUTIONS = sorted((REPOSITORY / "solutions").glob("[0-9][0-9]_*.py"))
NOTEBOOK = """import marimo

app = marimo.App(app_title="A lab, solved")


@app.cell
def {name}():
    text = 2
    return (text,)


@app.cell
def why_text():
    "Two, because."
    return
"""


def source(folder: Path, name: str = "text") -> Path:
    (folder / "given").mkdir()
    file = folder / "99_lab.py"
    file.write_text(NOTEBOOK.format(name=name))
    return file


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda file: file.stem)
def test_a_lab_is_what_its_solution_gives(solution: Path) -> None:
    assert lab_text(solution) == (REPOSITORY / "labs" / solution.name).read_text()


def test_an_exercise_takes_its_draft_and_reasons_stay_out(tmp_path: Path) -> None:
    solution = source(tmp_path)
    (tmp_path / "given" / "text.py.txt").write_text("text = 1\n")
    made = lab_text(solution, tmp_path / "given")
    assert "text = 1" in made and "text = 2" not in made and "because" not in made and "solved" not in made


def test_a_cell_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceFault, match="1 cells have no name; the first is at line") as refused:
        lab_text(source(tmp_path, name="_"), tmp_path / "given")
    assert refused.value.next_command


def test_a_draft_that_no_cell_uses_is_refused(tmp_path: Path) -> None:
    solution = source(tmp_path)
    (tmp_path / "given" / "txet.yaml").write_text("a: 1\n")
    with pytest.raises(SourceFault, match="no such cell") as refused:
        lab_text(solution, tmp_path / "given")
    assert refused.value.next_command


def test_an_exercise_whose_draft_is_lost_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceFault, match="the exercise 'text' has no draft") as refused:
        lab_text(source(tmp_path), tmp_path / "given")
    assert refused.value.next_command


def test_code_that_is_only_shown_is_the_same_in_both(tmp_path: Path) -> None:
    assert "text = 2" in lab_text(source(tmp_path, name="shown_text"), tmp_path / "given")


def test_course_author_lab_names_a_lab_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["author", "lab", "99"]) == 2
    said = capsys.readouterr().err
    assert "there is no solutions/99_" in said and "Next: " in said
