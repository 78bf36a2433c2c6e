"""How commands speak to a shell: exit codes, words on standard error, a console for tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

FELL_SHORT, ENVIRONMENT_FAILED, INTERRUPTED = 1, 2, 130
# Under which heading `course --help` lists a command.
LABS, CLUSTERS, EXPERIMENTS, CLASSES, AUTHORS = "Labs", "Clusters", "Experiments", "Classes", "Authors"


def say(text: str) -> None:
    """A line on standard error: standard output belongs to what was asked for."""
    print(text, file=sys.stderr)


def console(*, stderr: bool = False) -> Console:
    """Rich's console; it colours nothing by guessing, and nothing at all where NO_COLOR is set."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


@contextmanager
def spinner(doing: str) -> Iterator[Callable[[str], None]]:
    """A line at the bottom of a terminal: what is done, and how far it is; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda how_far: None
        return
    with console(stderr=True).status(doing) as status:
        yield lambda how_far: status.update(f"{doing}: {how_far}")
