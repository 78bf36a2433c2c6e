"""`course`: the one command under `make lab` and `make test`.

Every command imports what it needs when it runs: grading a lab takes two seconds in all, and most
of what the other commands need is slower to import than that.

Exit codes: 0 done, 1 something fell short, 2 the environment failed, nothing ran or the command was
wrong, 130 interrupted. A learner never sees a traceback: it goes to a log that the message names.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helpers.errors import EnvironmentFault, LabError, WaitFailed
from helpers.terminal import (
    AUTHORS,
    CLUSTERS,
    ENVIRONMENT_FAILED,
    FELL_SHORT,
    INTERRUPTED,
    LABS,
    answer,
    console,
    say,
    spinner,
)

if TYPE_CHECKING:
    from helpers.cluster import Cluster
    from helpers.grading import Report
    from helpers.grading.seat import Seat

PARTS = (
    "helpers.embedded.commands",
    "helpers.chaos.commands",
    "helpers.review.commands",
    "helpers.labs.witness_command",
    "helpers.labs.lab07_gates.commands",
    "helpers.labs.lab08_scale.commands",
    "helpers.classroom.commands",
    "helpers.restore",
)

app = typer.Typer(
    name="course",
    help="Interactive labs: run an LLM stack on Kubernetes, graded from the live cluster's state.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

author_commands = typer.Typer(help="Make what learners get from what authors write.", no_args_is_help=True)
app.add_typer(author_commands, name="author", rich_help_panel="Authors")

LabArgument = Annotated[str, typer.Argument(metavar="LAB", help="The lab's number, such as 01.")]


def main() -> None:
    """The `course` command."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    try:
        code = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has what they wanted (`| head -1`): Python must not try to flush the rest.
        null = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                os.dup2(null, stream.fileno())
        code = 128 + signal.SIGPIPE
    sys.exit(code)


def helm_main() -> None:
    """The `helm` command beside `course`: there before Helm is built, so that what a text says to type works."""
    sys.argv.insert(1, "helm")
    main()


def _end(number: int, _frame: object) -> None:
    """Told to end: what is under way undoes itself, as it does after Ctrl-C; told again, it ends at once."""
    signal.signal(number, signal.SIG_DFL)
    raise SystemExit(128 + number)


def run(arguments: list[str]) -> int:
    """Run one command; its exit code. Errors become a sentence on stderr and the next command."""
    try:
        if not arguments or arguments[0] not in _own_commands():
            _register_parts()
        app(arguments, prog_name="course")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else FELL_SHORT
    except KeyboardInterrupt:
        say("Interrupted.")
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except LabError as error:
        return _explain(error, arguments)
    except Exception as bug:  # noqa: BLE001 - the last place where a learner can be spared a traceback
        from helpers.grading.faultlog import log_fault

        say(f"The course itself failed: {type(bug).__name__}: {bug}".splitlines()[0])
        say(f"The traceback is in {log_fault(bug)}")
        return ENVIRONMENT_FAILED
    return 0


def _explain(error: LabError, arguments: list[str]) -> int:
    from helpers.grading.solution import SolutionFailed

    say(f"{error}")
    for line in error.diagnostics if isinstance(error, WaitFailed) else ():
        say(f"  {line}")
    say(f"Next: {error.next_command or _next(error, arguments)}")
    return FELL_SHORT if isinstance(error, SolutionFailed) else ENVIRONMENT_FAILED


def _next(error: LabError, arguments: list[str]) -> str:
    """Where the error names no command: `course doctor` for the environment, `--help` for a wrong call."""
    if isinstance(error, EnvironmentFault | WaitFailed):
        return "course doctor"
    words = ["course"]
    command: Any = typer.main.get_command(app)
    for word in arguments:
        command = getattr(command, "commands", {}).get(word)
        if command is None:
            break
        words.append(word)
    return " ".join([*words, "--help"])


@cache
def _register_parts() -> None:
    """Add the commands of the other packages."""
    for part in PARTS:
        import_module(part).register(app)


def _own_commands() -> set[str]:
    return {item.name or item.callback.__name__ for item in app.registered_commands if item.callback}


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from helpers.grading.report import course_version

        found = course_version()
        typer.echo(f"{found.version} {found.commit or ''}".rstrip())
        raise typer.Exit


@app.command(rich_help_panel=LABS)
def grade(
    labs: Annotated[list[str], typer.Argument(metavar="LAB...", help="The labs' numbers, such as 01 02.")],
    json: Annotated[bool, typer.Option("--json", help="Print one Report, and nothing else.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML too.")] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this check or task (repeatable).")
    ] = None,
    hints: Annotated[bool, typer.Option("--hints", help="Show each check's hint.")] = False,
) -> None:
    """Grade labs from the cluster's state.

    Exit code 0 all passed, 1 something fell short, 2 the environment failed or nothing ran.
    """
    from helpers.grading.progress import take_up
    from helpers.grading.seat import with_pending

    report, seat = _graded(labs, set(only) if only else None, quiet=json)
    problem = take_up(report, seat, whole=not only)
    if problem:
        say(f"progress could not be kept: {problem}")
    report = with_pending(report, seat)
    if junit:
        _write_junit(junit, report)
    if json:
        print(report.to_json())
    else:
        from helpers.grading.render import print_report
        from helpers.labs.registry import load_lab

        titles = {lab.id: lab.title for lab in map(load_lab, labs)}
        print_report(report, console(), titles=titles, hints=hints)
    raise typer.Exit(report.exit_code)


def _graded(labs: list[str], only: set[str] | None, *, quiet: bool) -> tuple[Report, Seat | None]:
    from helpers.cluster import Cluster
    from helpers.grading.engine import environment_report, select
    from helpers.grading.engine import grade as grade_labs
    from helpers.grading.seat import seat_of
    from helpers.labs.registry import load_lab

    chosen = list(dict.fromkeys(map(load_lab, labs)))
    total = len(select(chosen, only))
    try:
        cluster = Cluster.connect()
    except EnvironmentFault as fault:
        return environment_report(chosen, fault, only=only), None
    if quiet:
        return grade_labs(chosen, cluster, only=only), seat_of(cluster)
    with spinner("grading") as tell:
        numbers = itertools.count(1)
        report = grade_labs(
            chosen,
            cluster,
            only=only,
            on_verdict=lambda result: tell(f"{next(numbers)} of {total} checks"),
        )
        return report, seat_of(cluster)


def _write_junit(path: Path, report: Report) -> None:
    from helpers.atomic_file import write_atomically
    from helpers.grading.export.junit import to_junit

    try:
        write_atomically(path, to_junit(report))
    except OSError as problem:
        raise LabError(f"cannot write {path}: {problem.strerror}") from problem


@app.command(rich_help_panel=LABS)
def start(lab: LabArgument) -> None:
    """Check prerequisites and put the cluster in the lab's start state; existing work stays."""
    from helpers.cluster import Cluster
    from helpers.grading import lifecycle
    from helpers.grading.progress import Progress
    from helpers.labs.registry import load_lab

    chosen = load_lab(lab)
    done = lifecycle.start(chosen, Cluster.connect(), say)
    Progress().started(chosen.id, datetime.now(UTC))
    _report_done(done, f"lab {chosen.id}: the start state was already there")
    answer(f"Lab {chosen.id} ({chosen.title}) is ready. Next: course open {chosen.id}")


@app.command(rich_help_panel=LABS)
def reset(lab: LabArgument) -> None:
    """Back to the lab's start state; a second reset changes nothing."""
    from helpers.cluster import Cluster
    from helpers.grading import lifecycle
    from helpers.labs.registry import load_lab

    chosen = load_lab(lab)
    done = lifecycle.reset(chosen, Cluster.connect(), say)
    _report_done(done, f"lab {chosen.id}: nothing to change, this is the start state")


def _report_done(done: list[str], nothing: str) -> None:
    for line in done or [nothing]:
        typer.echo(line)


@app.command(rich_help_panel=LABS)
def solve(
    labs: Annotated[list[str], typer.Argument(metavar="LAB...", help="The labs' numbers, such as 01 02.")],
) -> None:
    """Start each lab and run its solution notebook headless, with its buttons pressed."""
    from helpers.cluster import Cluster
    from helpers.grading.solution import notebook_of

    notebooks = [notebook_of(lab, "solutions") for lab in labs]
    cluster = Cluster.connect()
    cluster.identity()  # without a cluster a notebook would run to its end and do nothing
    for notebook in notebooks:
        _solve(notebook, cluster)


def _solve(notebook: Path, cluster: Cluster) -> None:
    from helpers.grading import lifecycle
    from helpers.grading.solution import solve as run_solution
    from helpers.labs.registry import load_lab

    number = notebook.name[:2]
    lifecycle.start(load_lab(number), cluster, say)
    say(f"running {notebook.name} with its buttons pressed")
    with spinner(notebook.name) as tell:
        run_solution(notebook, tell)
    answer(f"{notebook.name} is done. Next: course grade {number}")


@app.command(rich_help_panel=LABS)
def progress() -> None:
    """What is done, what is next, and how long it took: from your own runs of `course grade`."""
    from helpers.grading.progress import Progress
    from helpers.grading.render import print_progress
    from helpers.labs.registry import lab_ids, load_lab

    print_progress(Progress().labs(), [load_lab(number) for number in lab_ids()], console())


@author_commands.command(name="lab")
def author_lab(lab: LabArgument) -> None:
    """Make the notebook that a learner edits from its solution and its drafts."""
    from helpers.grading.solution import notebook_of
    from helpers.notebook.lab_source import lab_text

    solution = notebook_of(lab, "solutions")
    notebook = solution.parent.parent / "labs" / solution.name
    notebook.write_text(lab_text(solution))
    typer.echo(f"labs/{notebook.name} is made from solutions/{solution.name}. Next: git diff labs")


@app.command(name="check-author", rich_help_panel=AUTHORS)
def check_author(
    lab: LabArgument,
    live: Annotated[
        bool, typer.Option("--live", help="On the cluster in use, in namespaces made for it.")
    ] = False,
    observed: Annotated[
        bool, typer.Option("--observed", help="Show what every check observed in every state.")
    ] = False,
) -> None:
    """Run every check on the lab's start, its solution and its wrong clusters: alone, in a class, and beside the other labs.

    Exit code 1 if a check judges one of them wrongly, or lacks wrong clusters.
    """
    from helpers.classroom.seats.rehearsal import in_a_class
    from helpers.grading import author
    from helpers.grading.render import print_proofs
    from helpers.labs.registry import load_lab, load_proofs
    from helpers.labs.rehearsal import beside_other_labs

    chosen, proofs = load_lab(lab), load_proofs(lab)
    if live:
        from helpers.grading.author_live import prove_live

        findings = prove_live(chosen, proofs, say)
    else:
        findings = author.prove_on_fakes(
            chosen, proofs, [author.ALONE, in_a_class(), beside_other_labs(chosen.id)]
        )
    print_proofs(findings, console(), observed=observed)
    owed = author.missing_proofs(chosen, proofs)
    for line in owed:
        typer.echo(f"owed: {line}")
    wrong = sum(bool(finding.problem) for finding in findings)
    typer.echo(f"{len(findings) - wrong} of {len(findings)} proofs hold, {len(owed)} owed")
    raise typer.Exit(FELL_SHORT if wrong or owed else 0)


@app.command(
    name="open",
    rich_help_panel=LABS,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def open_notebook(
    lab: Annotated[
        str, typer.Argument(metavar="LAB", help="The lab's number, such as 01; or a service's page: phoenix.")
    ],
    context: typer.Context,
    mend: Annotated[
        bool, typer.Option("--mend", help="First put back what is missing from the page; your answers stay.")
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="First put all of the page back as it was given; the former is kept."),
    ] = False,
) -> None:
    """Open the notebook in the browser; further options go to `marimo edit` (--headless, --port)."""
    from helpers.grading.solution import notebook_of
    from helpers.shell import variables
    from helpers.stack.pages import PAGES

    if lab in PAGES:
        _show_page(lab, in_browser="--headless" not in context.args and sys.stdout.isatty())
        return
    if mend and fresh:
        raise typer.BadParameter("--mend keeps your answers and --fresh replaces them: give one of the two")
    notebook = notebook_of(lab, "labs")
    if mend or fresh:
        from helpers.notebook.fresh_page import renew

        say(str(renew(notebook, notebook_of(lab, "solutions"), keep_answers=mend)))
        say("Close the tab of the former page, if it is open: what it saves would replace this one.")
    _bring_in_images(lab)
    command = [sys.executable, "-m", "marimo", "edit", str(notebook), *context.args]
    sys.stdout.flush()
    # The page's terminal has the course in it, as `course shell` does. Unbuffered: into a file or a pipe, the
    # address would else be printed when the server ends.
    os.execve(command[0], command, {**os.environ, **variables(), "PYTHONUNBUFFERED": "1"})


def _show_page(name: str, *, in_browser: bool) -> None:
    """A service's own page on an address of this machine, until Ctrl-C."""
    import threading

    from helpers.cluster import Cluster
    from helpers.stack.pages import show

    show(Cluster.connect(), name, answer, in_browser=in_browser, over=threading.Event())


def _bring_in_images(lab: str) -> None:
    """Begin to bring in what the lab's exercises run from; the page shows how far it is."""
    from helpers.cluster import Cluster
    from helpers.labs.registry import load_lab
    from helpers.stack.images import bring_in

    try:
        begun = bring_in(Cluster.connect(), load_lab(lab).images)
    except LabError:
        return  # without a cluster the page says what comes first
    if begun is not None and begun.is_running:
        say(f"Meanwhile the images of {', '.join(begun.names)} are loaded; the page shows the progress.")


# Also the `--` before a command that kubectl runs in a pod: Click leaves everything after the first word alone.
_AS_TYPED = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


@app.command(rich_help_panel=CLUSTERS)
def shell(
    command: Annotated[
        str, typer.Option("-c", metavar="COMMAND", help="Run one command there, and nothing else.")
    ] = "",
) -> None:
    """A shell in which `course`, `kubectl` and `helm` are on the PATH and KUBECONFIG is the cluster's in use."""
    from helpers.shell import enter

    enter(command)


@app.command(
    rich_help_panel=CLUSTERS,
    context_settings=_AS_TYPED,
    add_help_option=False,
)
def kubectl(context: typer.Context) -> None:
    """kubectl on the cluster in use: `course kubectl get pods -A`."""
    from helpers.shell import kubectl as run_kubectl

    run_kubectl(context.args)


@app.command(
    rich_help_panel=CLUSTERS,
    context_settings=_AS_TYPED,
    add_help_option=False,
)
def helm(context: typer.Context) -> None:
    """Helm on the cluster in use, built at its first use: `course helm list -A`."""
    from helpers.embedded.helm import ensure_helm
    from helpers.embedded.steps import Steps
    from helpers.embedded.turns import first
    from helpers.shell import helm as run_helm

    with first():
        command = ensure_helm(Steps())
    run_helm(command, context.args)


@app.command(rich_help_panel=CLUSTERS)
def use(
    target: Annotated[
        str | None, typer.Argument(metavar="embedded", help="Back to the embedded cluster.")
    ] = None,
    context: Annotated[str | None, typer.Option(metavar="NAME", help="A kubeconfig context.")] = None,
    kubeconfig: Annotated[Path | None, typer.Option(metavar="FILE", help="Where the context is.")] = None,
) -> None:
    """Work against another cluster from now on: `course use --context NAME`, or `course use embedded`."""
    from helpers.cluster.use_context import choose_context, choose_embedded

    if (target is None) == (context is None) or target not in (None, "embedded"):
        raise typer.BadParameter('give --context NAME, or the word "embedded"')
    typer.echo(choose_embedded() if context is None else choose_context(context, kubeconfig))
    for variable in ("COURSE_KUBECONFIG", "COURSE_CONTEXT", "COURSE_CLUSTER"):
        if os.environ.get(variable):
            say(f"{variable} is set in this shell and takes precedence: unset {variable}")


if __name__ == "__main__":
    main()
