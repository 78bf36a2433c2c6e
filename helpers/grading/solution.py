"""`course solve`: the solution notebook from top to bottom, with its buttons pressed.

A solution takes all button values from one definition, `pressed = False` in a cell of its own; a run
from here overrides it. The run proves nothing by itself (marimo skips a stopped cell silently and
still ends well): grade afterwards.
"""

from __future__ import annotations

import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import FrameType
from typing import Any

from helpers.errors import EnvironmentFault, LabError
from helpers.progress import Progress
from helpers.settings import REPOSITORY

LOOK_EVERY_S = 1.0
# The file name that marimo gives to a cell's code in tracebacks and frames.
_CELL_FILE = re.compile(r"__marimo__cell_(\w+?)_(?:\.py)?$")
_CELL_START = re.compile(r"^@app\.(cell|function|class_definition)\b|^with app\.setup\b")


class NotebookMissing(LabError):
    """The lab has no notebook of this kind."""


class SolutionFailed(LabError):
    """A cell of the solution notebook raised."""


def notebook_of(lab: str, folder: str) -> Path:
    """The lab's notebook in `labs` or `solutions`.

    Raises:
        NotebookMissing: no file `NN_….py` lies there.
    """
    wanted = lab.zfill(2) if lab.isdigit() else lab
    found = sorted((REPOSITORY / folder).glob(f"{wanted}_*.py"))
    if not found:
        have = ", ".join(file.stem[:2] for file in sorted((REPOSITORY / folder).glob("[0-9][0-9]_*.py")))
        raise NotebookMissing(
            f"there is no {folder}/{wanted}_….py; {folder}: {have or 'none yet'}",
            next_command="course open --help",
        )
    return found[0]


def solve(notebook: Path, progress: Progress = lambda text: None) -> None:
    """Run a solution; `progress` is told every second which cell runs and for how long.

    Raises:
        SolutionFailed: names the cell that raised, its line and its error.
        EnvironmentFault: the cluster, not the solution, failed.
    """
    app = _load_app(notebook)
    places = _places(app, notebook)
    try:
        with _watched(places, progress):
            app.run(defs={"pressed": True})
    except EnvironmentFault:
        raise
    except Exception as error:
        raise SolutionFailed(
            f"{notebook.name}: {_failing_cell(places, error)} raised {type(error).__name__}: {error}",
            next_command=getattr(error, "next_command", "") or f"marimo edit {notebook}",
        ) from error


def _load_app(notebook: Path) -> Any:
    if not re.search(r"^ *pressed = ", notebook.read_text(), re.MULTILINE):
        message = "no cell defines `pressed`, so its buttons cannot be pressed from here"
        raise SolutionFailed(f"{notebook.name}: {message}", next_command=f"marimo edit {notebook}")
    spec = spec_from_file_location(f"solution_{notebook.stem}", notebook)
    assert spec and spec.loader
    module = module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        message = f"{notebook.name}: line {error.lineno}: {error.msg}"
        raise SolutionFailed(message, next_command=f"marimo edit {notebook}") from error
    return module.app


def _places(app: Any, notebook: Path) -> dict[str, str]:
    """Where each cell is, by marimo's cell id: its name where it has one, and its line in the file."""
    lines = [
        number for number, line in enumerate(notebook.read_text().splitlines(), 1) if _CELL_START.search(line)
    ]
    try:
        cells = [(str(data.cell_id), data.name) for data in app._cell_manager.cell_data()]
    except AttributeError:  # marimo's own names may move; the failing line is enough then
        return {}
    if len(cells) != len(lines):
        return {}
    return {
        cell: f"the cell at line {line}" if name == "_" else f"cell {name!r} at line {line}"
        for (cell, name), line in zip(cells, lines, strict=True)
    }


def _failing_cell(places: dict[str, str], error: Exception) -> str:
    """The cell in the traceback, and its failing line."""
    for frame in traceback.extract_tb(error.__traceback__):
        match = _CELL_FILE.search(frame.filename)
        if match:
            return f"{places.get(match[1], 'a cell')} (`{frame.line}`)"
    return "the notebook itself"  # no cell ran: two cells define one name, or need each other


@contextmanager
def _watched(places: dict[str, str], progress: Progress) -> Iterator[None]:
    """Tell every second which cell this thread is in: a solution waits for real pods."""
    over, thread, started = threading.Event(), threading.get_ident(), time.monotonic()

    def watch() -> None:
        while not over.wait(LOOK_EVERY_S):
            place = _running_cell(places, sys._current_frames().get(thread))
            progress(f"{place}, {time.monotonic() - started:.0f} s")

    threading.Thread(target=watch, daemon=True, name="progress").start()
    try:
        yield
    finally:
        over.set()


def _running_cell(places: dict[str, str], frame: FrameType | None) -> str:
    while frame is not None:
        match = _CELL_FILE.search(frame.f_code.co_filename)
        if match:
            return places.get(match[1], "a cell")
        frame = frame.f_back
    return "between two cells"
