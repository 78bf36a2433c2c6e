"""`course author lab`: makes the notebook that a learner edits from its solution.

The solution is the source, and the name of a cell says what becomes of it:

- `why_…`, `solve_…` and `solved_…` explain or carry out the solution: the lab goes without them.
- A cell with a draft in `solutions/given/NN/` is an exercise: the lab shows the draft. `NAME.yaml` is the text
  that the cell assigns to a variable, `NAME.py.txt` is the code of the whole cell.
- `shown_…` is code that learners see and need not change: the same in both.
- Every other cell whose code is visible is an exercise, and must have a draft; every other hidden one is the
  same in both. Names stay in the solution; a learner's cells have none.

marimo itself reads and writes the notebooks.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from marimo._ast.app_config import _AppConfig
from marimo._ast.cell import CellConfig
from marimo._ast.codegen import generate_filecontents
from marimo._ast.names import SETUP_CELL_NAME, TOPLEVEL_CELL_PREFIX
from marimo._ast.parse import parse_notebook
from marimo._schemas.serialization import CellDef, ClassCell, FunctionCell, NotebookSerialization

from helpers.errors import LabError
from helpers.settings import REPOSITORY

GIVEN = REPOSITORY / "solutions" / "given"
SOLVED = ", solved"
LEFT_OUT = ("why_", "solve_", "solved_")
SHOWN = "shown_"
UNNAMED = "_"


class SourceFault(LabError):
    """No lab can be made from this solution."""


@dataclass(frozen=True)
class Draft:
    """What a learner finds in an exercise cell."""

    file: Path

    @property
    def cell(self) -> str:
        """The name of the cell that it stands in for."""
        return self.file.name.split(".")[0]

    def code(self, solved: str) -> str:
        """The lab's code of a cell whose code in the solution is `solved`."""
        text = self.file.read_text()
        if self.file.suffix != ".yaml":
            return text.rstrip("\n")
        return f'{_variable(self.file, solved)} = """\n{text.rstrip()}\n"""'


def lab_text(solution: Path, given: Path | None = None) -> str:
    """The lab that belongs to a solution, as the text of its file.

    Raises:
        SourceFault: a cell has no name, two have one, a draft has no cell, or an exercise has no draft.
    """
    notebook = _read(solution)
    drafts = _drafts(given or GIVEN / solution.stem[:2], notebook, solution)
    _refuse_bare_exercises(notebook, drafts, solution)
    cells = [cell for cell in notebook.cells if cell.name in drafts or not cell.name.startswith(LEFT_OUT)]
    codes = [drafts[cell.name].code(cell.code) if cell.name in drafts else cell.code for cell in cells]
    return written(notebook, cells, codes)


def written(notebook: NotebookSerialization, cells: Sequence[CellDef], codes: Sequence[str]) -> str:
    """A lab with these cells of a notebook, and in each of them this code."""
    return generate_filecontents(
        codes=list(codes),
        names=[_name(cell, code) for cell, code in zip(cells, codes, strict=True)],
        cell_configs=[CellConfig.from_dict(cell.options) for cell in cells],
        config=_config(notebook),
    )


def _read(solution: Path) -> NotebookSerialization:
    notebook = parse_notebook(solution.read_text(), filepath=str(solution))
    if notebook is None or not notebook.cells:
        raise SourceFault(f"{solution.name} is not a notebook", next_command=f"marimo edit {solution}")
    names = [cell.name for cell in notebook.cells]
    if UNNAMED in names:
        place = next(cell.lineno for cell in notebook.cells if cell.name == UNNAMED)
        raise SourceFault(
            f"{solution.name}: {names.count(UNNAMED)} cells have no name; the first is at line {place}",
            next_command=f"marimo edit {solution}",
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SourceFault(
            f"{solution.name}: two cells are named {twice[0]!r}", next_command=f"marimo edit {solution}"
        )
    return notebook


def _drafts(given: Path, notebook: NotebookSerialization, solution: Path) -> dict[str, Draft]:
    drafts = [Draft(file) for file in sorted(given.glob("*"))]
    names = {cell.name for cell in notebook.cells}
    for draft in drafts:
        if draft.cell not in names:
            raise SourceFault(
                f"{draft.file.name} is a draft for a cell {draft.cell!r}, and {solution.name} has no such cell",
                next_command=f"rm {draft.file}",
            )
    return {draft.cell: draft for draft in drafts}


def _refuse_bare_exercises(
    notebook: NotebookSerialization, drafts: Mapping[str, Draft], solution: Path
) -> None:
    """Without this, a draft that is lost would put the answer into the lab."""
    for cell in notebook.cells:
        visible = not cell.options.get("hide_code")
        if visible and cell.name not in drafts and not cell.name.startswith((*LEFT_OUT, SHOWN)):
            raise SourceFault(
                f"{solution.name}: the exercise {cell.name!r} has no draft in solutions/given/{solution.stem[:2]}; "
                f"write one, or name the cell {SHOWN}{cell.name}",
                next_command=f"marimo edit {solution}",
            )


def _variable(file: Path, solved: str) -> str:
    """The variable that the first statement of an exercise cell assigns."""
    match ast.parse(solved).body:
        case [ast.Assign(targets=[ast.Name(id=name)]), *_]:
            return name
    raise SourceFault(
        f"the cell {file.stem!r} does not begin with an assignment, so its draft must be code",
        next_command=f"mv {file} {file.with_suffix('.py.txt')}",
    )


def _name(cell: CellDef, code: str) -> str:
    """A function that other cells call keeps its name, as long as its cell is only that function."""
    if cell.name == SETUP_CELL_NAME:
        return cell.name
    if isinstance(cell, FunctionCell | ClassCell) and (code == cell.code or _is_function(cell.name, code)):
        return f"{TOPLEVEL_CELL_PREFIX}{cell.name}"
    return UNNAMED


def _is_function(name: str, code: str) -> bool:
    try:
        return code.startswith(f"def {name}(") and len(ast.parse(code).body) == 1
    except SyntaxError:
        return False


def _config(notebook: NotebookSerialization) -> _AppConfig:
    options = dict(notebook.app.options)
    options["app_title"] = str(options.get("app_title", "")).removesuffix(SOLVED)
    return _AppConfig.from_untrusted_dict(options)
