"""`course witness`: what a button of a lab's page does, for whoever works in a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from helpers.terminal import EXPERIMENTS, answer

if TYPE_CHECKING:
    from helpers.labs.witnessing import Book

# Modules with `BOOK` and `run_all(cluster, names, on_progress=…)`; a name stands in one book alone.
RUNS = (
    "helpers.labs.lab06_orchestration.run",
    "helpers.labs.lab07_gates.run",
    "helpers.labs.lab08_scale.run",
)


def register(app: typer.Typer) -> None:
    """Add the command to the `course` command."""
    app.command("witness", rich_help_panel=EXPERIMENTS)(witness)


def witness(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME...]", help="Or a lab's number, for all of its.")
    ] = None,
) -> None:
    """Put a service into a situation and keep what became of it, for `course grade`. Without a name: the list."""
    books = {run.BOOK.lab: run for run in map(import_module, RUNS)}
    if not names:
        for lab, run in books.items():
            for item in run.BOOK.witnesses.values():
                typer.echo(f"{lab}  {item.name:10} {item.shows}, about {item.seconds} s")
        return
    from helpers.cluster import Cluster

    chosen = {lab: _chosen(run.BOOK, names) for lab, run in books.items()}
    known = {name for found in chosen.values() for name in found} | books.keys() | {"all"}
    if unknown := [name for name in names if name not in known]:
        every = ", ".join(name for run in books.values() for name in run.BOOK.witnesses)
        raise typer.BadParameter(f"there is no witness {unknown[0]}: {every}; or a lab's number")
    began, cluster, once = time.monotonic(), Cluster.connect(), _once()
    for lab, found in chosen.items():
        if found:
            books[lab].run_all(cluster, found, on_progress=once)
    labs = " ".join(lab for lab, found in chosen.items() if found)
    answer(f"{', '.join(names)}: {time.monotonic() - began:.0f} s. Next: course grade {labs}")


def _chosen(book: Book, names: list[str]) -> list[str]:
    """The witnesses of this book that are meant, in its order."""
    every = book.lab in names or "all" in names
    return [name for name in book.witnesses if every or name in names]


def _once() -> Callable[[str], None]:
    """Says each new text once, without the seconds' ticking."""
    from helpers.terminal import say

    told = set[str]()

    def once(line: str) -> None:
        text = line.partition(" s of about ")[0].rstrip("0123456789 ")
        if text not in told:
            told.add(text)
            say(line)

    return once
