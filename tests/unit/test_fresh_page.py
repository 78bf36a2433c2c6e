"""A page from which a cell was deleted is whole again, and nothing that was written in it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from marimo._ast.parse import parse_notebook

from helpers import cli
from helpers.notebook.fresh_page import renew
from helpers.settings import REPOSITORY

SOLUTION = REPOSITORY / "solutions" / "02_inference.py"
GIVEN = (REPOSITORY / "labs" / "02_inference.py").read_text()
ANSWER = 'MAX_MODEL_LEN: "8192"'


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A learner's copy of lab 02, as it was given."""
    (tmp_path / "labs").mkdir()
    page = tmp_path / "labs" / "02_inference.py"
    page.write_text(GIVEN)
    return page


def without(text: str, variable: str) -> str:
    """The page after a click deleted the exercise that defines this variable."""
    begin = text.index(f"@app.cell\ndef _():\n    {variable} =")
    return text[:begin] + text[text.index("@app.cell", begin + 1) :]


def answered(text: str) -> str:
    draft = text[text.index("MAX_MODEL_LEN:") :].partition("\n")[0]
    return text.replace(draft, ANSWER, 1)


def kept(page: Path) -> list[str]:
    return [file.read_text() for file in sorted((page.parent / "kept").glob("*"))]


def test_a_deleted_exercise_is_put_back_and_answers_elsewhere_stay(page: Path) -> None:
    former = without(answered(GIVEN), "start_yaml")
    page.write_text(former)
    said = str(renew(page, SOLUTION, keep_answers=True))
    assert page.read_text() == answered(GIVEN)
    assert "Put back: start_yaml." in said and "What you wrote stays in: policy_yaml." in said
    assert kept(page) == [former] and "labs/kept/02_inference." in said


def test_a_page_as_it_was_given_says_whose_text_it_replaced_and_keeps_it(page: Path) -> None:
    former = without(answered(GIVEN), "start_yaml")
    page.write_text(former)
    said = str(renew(page, SOLUTION, keep_answers=False))
    assert page.read_text() == GIVEN and kept(page) == [former]
    assert "was replaced by the draft in: policy_yaml." in said and "Put back: start_yaml." in said


@pytest.mark.parametrize("keep_answers", [True, False])
def test_a_page_that_lacks_nothing_is_left_as_it_is(page: Path, keep_answers: bool) -> None:
    assert (
        str(renew(page, SOLUTION, keep_answers=keep_answers))
        == "labs/02_inference.py has all that was given."
    )
    assert page.read_text() == GIVEN and not kept(page)


def test_a_hidden_cell_that_was_deleted_is_put_back_too(page: Path) -> None:
    hidden = 'lab.live(nb.board, "policy")'
    begin = GIVEN.rindex("@app.cell", 0, GIVEN.index(hidden))
    page.write_text(GIVEN[:begin] + GIVEN[GIVEN.index("@app.cell", begin + 1) :])
    assert hidden not in page.read_text()
    renew(page, SOLUTION, keep_answers=True)
    assert page.read_text() == GIVEN


def test_an_answer_that_python_cannot_read_is_an_answer(page: Path) -> None:
    begin = GIVEN.index("@app.cell\ndef _():\n    policy_yaml =")
    broken = 'app._unparsable_cell(\n    r"""\n    policy_yaml = (\n    """,\n    name="_"\n)\n\n\n'
    page.write_text(
        without(GIVEN[:begin] + broken + GIVEN[GIVEN.index("@app.cell", begin + 1) :], "start_yaml")
    )
    said = str(renew(page, SOLUTION, keep_answers=True))
    assert "What you wrote stays in: policy_yaml." in said
    found = parse_notebook(page.read_text())
    assert found and any(cell.code.strip() == "policy_yaml = (" for cell in found.cells)


@pytest.mark.parametrize("text", ["", "x = (", "print(1)", "import marimo\n"])
def test_a_file_that_is_no_notebook_any_more_is_replaced_and_kept(page: Path, text: str) -> None:
    page.write_text(text)
    renew(page, SOLUTION, keep_answers=True)
    assert page.read_text() == GIVEN and kept(page) == ([text] if text else [])


def test_each_lab_is_whole_again_without_any_of_its_exercises(tmp_path: Path) -> None:
    for lab in sorted((REPOSITORY / "labs").glob("[0-9][0-9]_*.py")):
        given = lab.read_text()
        cells = given.split("\n\n\n@app.")
        bare = [cell for cell in cells if not cell.startswith(("cell\n", "function\n"))]
        assert len(bare) < len(cells)
        page = tmp_path / "labs" / lab.name
        page.parent.mkdir(exist_ok=True)
        page.write_text("\n\n\n@app.".join(bare))
        renew(page, REPOSITORY / "solutions" / lab.name, keep_answers=True)
        assert page.read_text() == given


def test_a_kept_page_is_no_lab_and_git_leaves_it_alone(page: Path) -> None:
    page.write_text(answered(GIVEN))
    renew(page, SOLUTION, keep_answers=False)
    assert [file.name for file in page.parent.glob("[0-9][0-9]_*.py")] == [page.name]
    (file,) = (page.parent / "kept").iterdir()
    assert ".local." in file.name and "*.local.*" in (REPOSITORY / ".gitignore").read_text()


def test_mending_and_a_fresh_page_are_one_or_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["open", "02", "--mend", "--fresh"]) == 2
    assert "--mend keeps your answers" in capsys.readouterr().err
