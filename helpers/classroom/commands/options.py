"""What several of the class's commands need: options, the learners and labs chosen, a bar."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helpers.errors import LabError
from helpers.terminal import console, say

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.classroom.marking.marking import Progress

ClassName = Annotated[str, typer.Option("--name", metavar="CLASS", help="The class, if there are several.")]
LearnerIds = Annotated[
    list[str] | None, typer.Option("--learner", metavar="ID", help="Only these (repeatable).")
]
Keys = Annotated[list[str] | None, typer.Option("--key", metavar="KEY|FILE", help="A public key to trust.")]
Labs = Annotated[str, typer.Option(metavar="01,02", help="The labs' numbers.")]
Hidden = Annotated[Path | None, typer.Option(metavar="PATH", help="Your package of hidden checks.")]


def lab_numbers(labs: str) -> list[str]:
    """The numbers in an option such as `01,02`, two digits each."""
    return [part.strip().zfill(2) for part in labs.split(",") if part.strip()]


def chosen_members(folder: ClassFolder, learners: Sequence[str] | None) -> list[Member]:
    """The learners asked for, each once; without any, all who are in the class."""
    if learners:
        return list(dict.fromkeys(folder.member(identity) for identity in learners))
    return list(folder.active)


@contextmanager
def bar(total: int, word: str) -> Iterator[Callable[[Progress], None]]:
    """A bar in a terminal; a line for every tenth learner or so where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda progress: _tell_now_and_then(progress, word)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(word), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns, TimeElapsedColumn(), console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("connecting", total=total)

        def tell(progress: Progress) -> None:
            words = f"{progress.running} under way"
            if progress.away:
                words += f"; waiting for {len(progress.away)} API servers to come back"
            bar.update(task, completed=progress.done, description=words)

        yield tell


def _tell_now_and_then(progress: Progress, word: str) -> None:
    step = max(1, progress.total // 10)
    if progress.done % step == 0 or progress.done == progress.total:
        say(f"{word} {progress.done} of {progress.total}")


def read_text(path: Path) -> str:
    """The text of a file that was named on the command line."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise LabError(f"{path} cannot be read: {problem}") from problem
