"""A learner's page as it was given: all of it, or only what is missing from it. The former page is kept.

A click deletes a cell of a notebook, and with an exercise goes the text that the rest of the page needs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from marimo._ast.parse import MarimoFileError, NonMarimoPythonScriptError, parse_notebook
from marimo._schemas.serialization import CellDef, NotebookSerialization

from helpers.atomic_file import write_atomically
from helpers.notebook.lab_source import lab_text, written

KEPT = "kept"
# What an exercise is known by, also where its code cannot be read as Python.
_DEFINES = re.compile(r"^(?:def |class )?(\w+)\s*(?:=[^=]|[,(:])", re.MULTILINE)


@dataclass(frozen=True)
class Renewed:
    """What became of a page; `kept` is where the former one is, None where nothing changed."""

    page: Path
    kept: Path | None
    answered: tuple[str, ...]
    missing: tuple[str, ...]
    are_answers_kept: bool

    def __str__(self) -> str:
        if self.kept is None:
            return f"{_shown(self.page)} has all that was given."
        said = [f"{_shown(self.page)} has all that was given."]
        if self.missing:
            said.append(f"Put back: {', '.join(self.missing)}.")
        if self.answered:
            where = "stays in" if self.are_answers_kept else "was replaced by the draft in"
            said.append(f"What you wrote {where}: {', '.join(self.answered)}.")
        said.append(f"The former page is {_shown(self.kept)}, with all that was in it.")
        return " ".join(said)


def renew(page: Path, solution: Path, *, keep_answers: bool, given: Path | None = None) -> Renewed:
    """Write a lab's page anew, and keep the former one in a folder beside it.

    Args:
        keep_answers: what the learner wrote stays in its cells; only what is missing is put back.
        given: where the drafts are.
    """
    fresh, former = lab_text(solution, given), page.read_text() if page.exists() else ""
    drafts = {_known_by(cell.code): cell.code for cell in _cells(fresh) if not cell.options.get("hide_code")}
    own = {_known_by(cell.code): cell.code for cell in _cells(former)}
    missing = tuple(name for name in drafts if name not in own)
    answered = tuple(name for name in drafts if name in own and own[name].strip() != drafts[name].strip())
    text = _with_answers(fresh, {name: own[name] for name in answered}) if keep_answers else fresh
    if text == former:
        return Renewed(page, None, answered, missing, keep_answers)
    kept = _keep(page, former) if former else None
    write_atomically(page, text)
    return Renewed(page, kept, answered, missing, keep_answers)


def _notebook(text: str) -> NotebookSerialization | None:
    """None where the text is no notebook any more: then nothing of it can be told apart."""
    try:
        return parse_notebook(text)
    except (MarimoFileError, NonMarimoPythonScriptError, SyntaxError):
        return None


def _cells(text: str) -> list[CellDef]:
    notebook = _notebook(text)
    return list(notebook.cells) if notebook else []


def _known_by(code: str) -> str:
    """The first name that a cell defines; empty where it defines none."""
    try:
        return next(_names(ast.parse(code)), "")
    except SyntaxError:
        found = _DEFINES.search(code)
        return found[1] if found else ""


def _names(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        if isinstance(node, ast.Assign):
            yield from (item.id for item in ast.walk(node.targets[0]) if isinstance(item, ast.Name))


def _with_answers(fresh: str, answers: Mapping[str, str]) -> str:
    """The page as it is given, with what the learner wrote in the cells of these names."""
    notebook = _notebook(fresh)
    assert notebook is not None
    return written(
        notebook, notebook.cells, [answers.get(_known_by(cell.code), cell.code) for cell in notebook.cells]
    )


def _keep(page: Path, former: str) -> Path:
    """Where no lab is looked for, under a name that git leaves alone."""
    now = datetime.now().strftime("%Y-%m-%d-%H%M%S")
    kept = page.parent / KEPT / f"{page.stem}.{now}.local.py"
    write_atomically(kept, former)
    return kept


def _shown(path: Path) -> str:
    return str(path.relative_to(path.parents[2 if path.parent.name == KEPT else 1]))
