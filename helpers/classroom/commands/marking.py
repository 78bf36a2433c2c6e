"""`course class grade`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helpers.classroom.commands.options import (
    ClassName,
    Hidden,
    Labs,
    LearnerIds,
    bar,
    chosen_members,
    lab_numbers,
)
from helpers.errors import LabError
from helpers.terminal import ENVIRONMENT_FAILED, FELL_SHORT, console, say

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.marking.marking import Marked
    from helpers.classroom.marking.runs import Run


def register(class_app: typer.Typer) -> None:
    """Add `grade` to `course class`."""
    class_app.command("grade")(grade)


def grade(
    labs: Labs = "",
    learner: LearnerIds = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="A row for each learner and lab.")] = None,
    checks_csv: Annotated[Path | None, typer.Option(metavar="FILE", help="A row for each check.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="JUnit XML.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="The signed Reports.")] = None,
    hidden: Hidden = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the last unfinished run.")] = False,
    in_cluster: Annotated[bool, typer.Option("--in-cluster", help="As a Job on the shared cluster.")] = False,
    shards: Annotated[int, typer.Option(min=1, help="How many pods the Job has.")] = 2,
    deadline_s: Annotated[float | None, typer.Option(min=1, help="One learner's deadline.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Learners looked at together.")] = 12,
    per_server: Annotated[int, typer.Option(min=1, help="Of them, on one API server.")] = 4,
    name: ClassName = "class",
) -> None:
    """Grade the class from the clusters' state, with your credentials: attested, signed, kept.

    Exit code 0 everybody passed everything, 1 something fell short, 2 an environment failed.
    """
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.marking.marking import labs_for, mark
    from helpers.classroom.marking.runs import only_grader

    folder = ClassFolder.open(name)
    with only_grader(folder.path):
        run = _run(folder, labs, learner, hidden, resume=resume)
        labs_of = labs_for(run.labs, _hidden_of(run))
        members = [folder.member(identity) for identity in run.left()]
        skipped = len(run.learners) - len(members)
        if skipped:
            say(f"{skipped} of {len(run.learners)} learners are graded already in this run")
        with _kept(run), bar(len(members), "graded") as tell:
            if in_cluster:
                from helpers.classroom.marking.jobs import mark_in_cluster

                marking = mark_in_cluster(
                    folder, run, members, labs_of, shards=shards, deadline_s=deadline_s, on_progress=tell
                )
            else:
                marking = mark(
                    folder,
                    run,
                    members,
                    labs_of,
                    deadline_s=deadline_s,
                    jobs=jobs,
                    per_server=per_server,
                    on_progress=tell,
                )
            marked = list(marking)
    _export(folder, run, csv=csv, checks_csv=checks_csv, junit=junit, json_=json)
    _print_marked(folder, run, marked)
    raise typer.Exit(_exit_code(marked))


def _run(
    folder: ClassFolder, labs: str, learners: list[str] | None, hidden: Path | None, *, resume: bool
) -> Run:
    from helpers.classroom.marking.runs import Run
    from helpers.labs.registry import load_lab

    if resume:
        run = Run.last_unfinished(folder.path)
        if labs and lab_numbers(labs) != list(run.labs):
            raise LabError(
                f"the unfinished run is of labs {','.join(run.labs)}, not {labs}",
                next_command="course class grade --resume",
            )
        return run
    if not labs:
        raise typer.BadParameter("give --labs 01,02, or --resume")
    numbers = [load_lab(number).id for number in lab_numbers(labs)]
    members = chosen_members(folder, learners)
    if not members:
        raise LabError(f"class {folder.name} has no learners", next_command="course class create --help")
    options = {"hidden": str(hidden.resolve()) if hidden else ""}
    return Run.begin(folder.path, numbers, [member.learner.id for member in members], options)


def _hidden_of(run: Run) -> Path | None:
    return Path(run.options["hidden"]) if run.options.get("hidden") else None


@contextmanager
def _kept(run: Run) -> Iterator[None]:
    """Say what an interruption leaves: everything that was graded, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        done = len(run.learners) - len(run.left())
        say(f"{done} of {len(run.learners)} learners are graded and kept.")
        say("Next: course class grade --resume")
        raise


def _exit_code(marked: Sequence[Marked]) -> int:
    """The worst of all: an environment that failed, then a check that fell short."""
    codes = {item.report.exit_code for item in marked}
    if not codes or ENVIRONMENT_FAILED in codes:
        return ENVIRONMENT_FAILED
    return FELL_SHORT if FELL_SHORT in codes else 0


def _print_marked(folder: ClassFolder, run: Run, marked: Sequence[Marked]) -> None:
    from helpers.classroom.commands.tables import print_grades
    from helpers.classroom.records.gradebook import standings

    order = {identity: place for place, identity in enumerate(run.learners)}
    ordered = sorted(marked, key=lambda item: order[item.member.learner.id])
    screen = console()
    print_grades([(item, standings(folder, item.member, run.labs)) for item in ordered], screen)
    new = sum(item.is_new for item in marked)
    broken = [item.member.learner.id for item in marked if item.is_broken]
    screen.print(f"{len(marked)} learners graded, {new} new attempts, {len(marked) - new} unchanged")
    if broken:
        some = ", ".join(broken[:5]) + (" …" if len(broken) > 5 else "")
        screen.print(f"not judged, because of the environment: {len(broken)} ({some})")
        screen.print("Next: course class grade --resume")


def _export(
    folder: ClassFolder,
    run: Run,
    *,
    csv: Path | None,
    checks_csv: Path | None,
    junit: Path | None,
    json_: Path | None,
) -> None:
    """Write what was asked for, from the attempts of this run that count, as they were kept."""
    if not (csv or checks_csv or junit or json_):
        return
    from helpers.atomic_file import write_atomically
    from helpers.classroom.records import gradebook
    from helpers.grading.export import csvfile
    from helpers.grading.export.junit import class_junit
    from helpers.grading.export.results import save

    members = [folder.member(identity) for identity in run.learners]
    results = gradebook.results(folder, members, run.labs)
    try:
        if csv:
            save(csv, csvfile.to_summary_csv(results))
        if checks_csv:
            save(checks_csv, csvfile.to_csv(results))
        if junit:
            write_atomically(junit, class_junit(results))
        if json_:
            write_atomically(json_, gradebook.to_json(folder, members, run.labs))
    except OSError as problem:
        raise LabError(f"cannot write {problem.filename}: {problem.strerror}") from problem
