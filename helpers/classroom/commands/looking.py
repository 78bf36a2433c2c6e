"""`course class status` and `board`: who is where, looked at without an attempt being counted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helpers.classroom.commands.options import ClassName, Labs, LearnerIds, bar, chosen_members, lab_numbers
from helpers.terminal import console

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.grading.declare import Lab


def register(class_app: typer.Typer) -> None:
    """Add the commands to `course class`."""
    class_app.command("status")(status)
    class_app.command("board")(board)


def status(
    labs: Labs = "",
    learner: LearnerIds = None,
    last: Annotated[bool, typer.Option("--last", help="What was seen last; look at nobody now.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    every_s: Annotated[float, typer.Option(min=5, help="With --watch: how often.")] = 30.0,
    stuck_minutes: Annotated[float, typer.Option(min=0, help="A check failing so long: stuck.")] = 15.0,
    all_: Annotated[bool, typer.Option("--all", help="Every learner's row, however many.")] = False,
    csv: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write CSV too; - for the terminal.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    name: ClassName = "class",
) -> None:
    """Who is where: passed, stuck, working, not started, environment broken. Adds no attempt."""
    from helpers.classroom.board.ungraded_look import look_at
    from helpers.classroom.folder import ClassFolder

    folder = ClassFolder.open(name)
    members, chosen = chosen_members(folder, learner), _labs_to_watch(folder, labs)

    def look() -> None:
        if not last:
            with bar(len(members), "looked at") as tell:
                look_at(folder, members, chosen, on_progress=tell)

    if watch:
        _watch(folder, members, chosen, look, every_s, stuck_minutes, everyone=all_)
        return
    look()
    _show(folder, members, chosen, stuck_minutes, everyone=all_, csv=csv, json_=json)


def _labs_to_watch(folder: ClassFolder, labs: str) -> list[Lab]:
    """The labs asked for; else those of the policy and of the last run; else the first."""
    from helpers.classroom.marking.runs import Run
    from helpers.classroom.records.late_policy import load_policy
    from helpers.labs.registry import load_lab

    numbers = lab_numbers(labs)
    if not numbers:
        known = set(load_policy(folder.policy_file).labs)
        run = Run.newest(folder.path)
        numbers = sorted(known | set(run.labs if run else ())) or ["01"]
    return [load_lab(number) for number in numbers]


def _show(
    folder: ClassFolder,
    members: Sequence[Member],
    labs: Sequence[Lab],
    stuck_minutes: float,
    *,
    everyone: bool,
    csv: Path | None,
    json_: bool,
) -> None:
    from json import dumps

    from helpers.classroom.board.status import class_status, to_csv, to_dict
    from helpers.classroom.commands.tables import print_status

    found = class_status(folder, members, labs, now=datetime.now(UTC), stuck_minutes=stuck_minutes)
    if csv and str(csv) == "-":
        print(to_csv(found), end="")
        return
    if csv:
        from helpers.grading.export.results import save

        save(csv, to_csv(found))
    if json_:
        print(dumps(to_dict(found), ensure_ascii=False, indent=2))
    else:
        print_status(found, console(), everyone=everyone)


def _watch(
    folder: ClassFolder,
    members: Sequence[Member],
    labs: Sequence[Lab],
    look: Callable[[], None],
    every_s: float,
    stuck_minutes: float,
    *,
    everyone: bool,
) -> None:
    """Look, show, wait; the last picture stays when it is interrupted."""
    from helpers.classroom.board.status import class_status
    from helpers.classroom.commands.tables import print_status

    screen = console()
    while True:
        started = time.monotonic()
        look()
        screen.clear()
        found = class_status(folder, members, labs, now=datetime.now(UTC), stuck_minutes=stuck_minutes)
        print_status(found, screen, everyone=everyone)
        screen.print(f"looked at {datetime.now():%H:%M:%S}; again in {every_s:g} s; Ctrl-C ends", style="dim")
        time.sleep(max(0.0, every_s - (time.monotonic() - started)))


def board(
    labs: Labs = "",
    look: Annotated[bool, typer.Option(help="Look at the class again and again while it is open.")] = True,
    port: Annotated[int | None, typer.Option(help="The port on this machine.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Do not open a browser.")] = False,
    name: ClassName = "class",
) -> None:
    """The class as a page in your browser, on this machine only: who is stuck, on what, and what was seen."""
    from helpers.classroom.folder import ClassFolder

    folder = ClassFolder.open(name)
    os.environ["COURSE_CLASS"] = folder.name
    os.environ["COURSE_CLASS_LABS"] = ",".join(lab.id for lab in _labs_to_watch(folder, labs))
    os.environ["COURSE_CLASS_LOOK"] = "1" if look else "0"
    page = Path(__file__).parents[1] / "board" / "notebook.py"
    command = [sys.executable, "-m", "marimo", "run", str(page), "--host", "127.0.0.1"]
    command += ["--port", str(port)] if port else []
    command += ["--headless"] if headless else []
    sys.stdout.flush()
    os.execv(command[0], command)
