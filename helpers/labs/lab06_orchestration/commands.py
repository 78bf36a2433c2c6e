"""`course witness`: what a button of lab 06's page does, for whoever works in a terminal."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from helpers.terminal import EXPERIMENTS, answer


def register(app: typer.Typer) -> None:
    """Add the command to the `course` command."""
    app.command("witness", rich_help_panel=EXPERIMENTS)(witness)


def witness(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME...]", help="Or `all`.")] = None,
) -> None:
    """Put the orchestrator into a situation and keep what became of it, for `course grade 06`. Without a name: the list."""
    from helpers.cluster import Cluster
    from helpers.labs.lab06_orchestration.run import run_all
    from helpers.labs.lab06_orchestration.witness import WITNESSES
    from helpers.terminal import say

    if not names:
        for item in WITNESSES.values():
            typer.echo(f"{item.name:10} {item.shows}, about {item.seconds} s")
        return
    chosen = list(WITNESSES) if names == ["all"] else names
    if unknown := [name for name in chosen if name not in WITNESSES]:
        raise typer.BadParameter(f"there is no witness {unknown[0]}: {', '.join(WITNESSES)}, or all")
    began, told = time.monotonic(), set[str]()

    def once(line: str) -> None:
        """Each new text once, without the seconds' ticking."""
        text = line.partition(" s of about ")[0].rstrip("0123456789 ")
        if text not in told:
            told.add(text)
            say(line)

    run_all(Cluster.connect(), chosen, on_progress=once)
    answer(f"{', '.join(chosen)}: {time.monotonic() - began:.0f} s. Next: course grade 06")
