"""`course class grade`, `status`, `board`, `policy`, `submit`, `history` and `key`, and `course verify`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helpers.errors import LabError

if TYPE_CHECKING:
    from rich.console import Console

    from helpers.classroom.folder import ClassFolder, Member
    from helpers.classroom.history import Standing
    from helpers.classroom.marking import Marked, Progress
    from helpers.classroom.runs import Run
    from helpers.grading.declare import Lab

FELL_SHORT, ENVIRONMENT_FAILED = 1, 2

ClassName = Annotated[str, typer.Option("--name", metavar="CLASS", help="The class, if there are several.")]
LearnerIds = Annotated[
    list[str] | None, typer.Option("--learner", metavar="ID", help="Only these (repeatable).")
]
Labs = Annotated[str, typer.Option(metavar="01,02", help="The labs' numbers.")]
Hidden = Annotated[Path | None, typer.Option(metavar="PATH", help="Your package of hidden checks.")]


def register(class_app: typer.Typer, app: typer.Typer) -> None:
    """Add the commands to `course class`, and `verify` to `course`."""
    class_app.command("grade")(grade)
    class_app.command("status")(status)
    class_app.command("board")(board)
    class_app.command("policy")(policy)
    class_app.command("submit")(submit)
    class_app.command("history")(history)
    class_app.command("key")(key)
    app.command("verify")(verify)


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
    from helpers.classroom.marking import labs_for, mark
    from helpers.classroom.runs import only_grader

    folder = ClassFolder.open(name)
    with only_grader(folder.path):
        run = _run(folder, labs, learner, hidden, resume=resume)
        labs_of = labs_for(run.labs, _hidden_of(run))
        members = [folder.member(identity) for identity in run.left()]
        skipped = len(run.learners) - len(members)
        if skipped:
            _say(f"{skipped} of {len(run.learners)} learners are graded already in this run")
        with _kept(run), _bar(len(members), "graded") as tell:
            if in_cluster:
                from helpers.classroom.jobs import mark_in_cluster

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
    from helpers.checks import load_lab
    from helpers.classroom.runs import Run

    if resume:
        run = Run.last_unfinished(folder.path)
        if labs and _numbers(labs) != list(run.labs):
            raise LabError(
                f"the unfinished run is of labs {','.join(run.labs)}, not {labs}",
                next_command="course class grade --resume",
            )
        return run
    if not labs:
        raise typer.BadParameter("give --labs 01,02, or --resume")
    numbers = [load_lab(number).id for number in _numbers(labs)]
    members = _members(folder, learners)
    if not members:
        raise LabError(f"class {folder.name} has no learners", next_command="course class create --help")
    options = {"hidden": str(hidden.resolve()) if hidden else ""}
    return Run.begin(folder.path, numbers, [member.learner.id for member in members], options)


def _hidden_of(run: Run) -> Path | None:
    return Path(run.options["hidden"]) if run.options.get("hidden") else None


def _numbers(labs: str) -> list[str]:
    return [part.strip().zfill(2) for part in labs.split(",") if part.strip()]


def _members(folder: ClassFolder, learners: Sequence[str] | None) -> list[Member]:
    if learners:
        return list(dict.fromkeys(folder.member(identity) for identity in learners))
    return list(folder.active)


@contextmanager
def _kept(run: Run) -> Iterator[None]:
    """Say what an interruption leaves: everything that was graded, and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        done = len(run.learners) - len(run.left())
        _say(f"{done} of {len(run.learners)} learners are graded and kept.")
        _say("Next: course class grade --resume")
        raise


@contextmanager
def _bar(total: int, word: str) -> Iterator[Callable[[Progress], None]]:
    """A bar in a terminal; a line for every tenth learner or so where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda progress: _tell_now_and_then(progress, word)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(word), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bar(*columns, TimeElapsedColumn(), console=_console(stderr=True), transient=True) as bar:
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
        _say(f"{word} {progress.done} of {progress.total}")


def _exit_code(marked: Sequence[Marked]) -> int:
    """The worst of all: an environment that failed, then a check that fell short."""
    codes = {item.report.exit_code for item in marked}
    if not codes or ENVIRONMENT_FAILED in codes:
        return ENVIRONMENT_FAILED
    return FELL_SHORT if FELL_SHORT in codes else 0


def _standings(folder: ClassFolder, member: Member, labs: Sequence[str]) -> list[Standing]:
    from helpers.classroom.history import History, standing
    from helpers.classroom.policy import load_policy

    rules = load_policy(folder.path / "policy.toml")
    attempts = History(folder.history_dir(member)).attempts()
    return [standing(attempts, lab, rules) for lab in labs]


def _print_marked(folder: ClassFolder, run: Run, marked: Sequence[Marked]) -> None:
    from helpers.classroom.tables import print_grades

    order = {identity: place for place, identity in enumerate(run.learners)}
    ordered = sorted(marked, key=lambda item: order[item.member.learner.id])
    console = _console()
    print_grades([(item, _standings(folder, item.member, run.labs)) for item in ordered], console)
    new = sum(item.is_new for item in marked)
    broken = [item.member.learner.id for item in marked if item.is_broken]
    console.print(f"{len(marked)} learners graded, {new} new attempts, {len(marked) - new} unchanged")
    if broken:
        some = ", ".join(broken[:5]) + (" …" if len(broken) > 5 else "")
        console.print(f"not judged, because of the environment: {len(broken)} ({some})")
        console.print("Next: course class grade --resume")


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
    from helpers.classroom import gradebook
    from helpers.grading.export import csvfile
    from helpers.grading.export.junit import class_junit
    from helpers.grading.export.results import save
    from helpers.grading.statefile import write_atomically

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
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.looking import look_at

    folder = ClassFolder.open(name)
    members, chosen = _members(folder, learner), _labs_to_watch(folder, labs)

    def look() -> None:
        if not last:
            with _bar(len(members), "looked at") as tell:
                look_at(folder, members, chosen, on_progress=tell)

    if watch:
        _watch(folder, members, chosen, look, every_s, stuck_minutes, everyone=all_)
        return
    look()
    _show(folder, members, chosen, stuck_minutes, everyone=all_, csv=csv, json_=json)


def _labs_to_watch(folder: ClassFolder, labs: str) -> list[Lab]:
    """The labs asked for; else those of the policy and of the last run; else the first."""
    from helpers.checks import load_lab
    from helpers.classroom.policy import load_policy
    from helpers.classroom.runs import Run

    numbers = _numbers(labs)
    if not numbers:
        known = set(load_policy(folder.path / "policy.toml").labs)
        runs = sorted((folder.path / "runs").glob("*.jsonl"))
        run = Run.read(runs[-1]) if runs else None
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

    from helpers.classroom.status import class_status, to_csv, to_dict
    from helpers.classroom.tables import print_status

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
        print_status(found, _console(), everyone=everyone)


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
    import time

    from helpers.classroom.status import class_status
    from helpers.classroom.tables import print_status

    console = _console()
    while True:
        started = time.monotonic()
        look()
        console.clear()
        found = class_status(folder, members, labs, now=datetime.now(UTC), stuck_minutes=stuck_minutes)
        print_status(found, console, everyone=everyone)
        console.print(
            f"looked at {datetime.now():%H:%M:%S}; again in {every_s:g} s; Ctrl-C ends", style="dim"
        )
        time.sleep(max(0.0, every_s - (time.monotonic() - started)))


def board(
    labs: Labs = "",
    look: Annotated[bool, typer.Option(help="Look at the class again and again while it is open.")] = True,
    port: Annotated[int | None, typer.Option(help="The port on this machine.")] = None,
    headless: Annotated[bool, typer.Option("--headless", help="Do not open a browser.")] = False,
    name: ClassName = "class",
) -> None:
    """The class as a page in your browser, on this machine only: who is stuck, on what, and what was seen."""
    import os

    from helpers.classroom.folder import ClassFolder

    folder = ClassFolder.open(name)
    os.environ["COURSE_CLASS"] = folder.name
    os.environ["COURSE_CLASS_LABS"] = ",".join(lab.id for lab in _labs_to_watch(folder, labs))
    os.environ["COURSE_CLASS_LOOK"] = "1" if look else "0"
    page = Path(__file__).with_name("board.py")
    command = [sys.executable, "-m", "marimo", "run", str(page), "--host", "127.0.0.1"]
    command += ["--port", str(port)] if port else []
    command += ["--headless"] if headless else []
    sys.stdout.flush()
    os.execv(command[0], command)


def policy(
    lab: Annotated[str | None, typer.Option(metavar="01", help="The lab whose dates to set.")] = None,
    due: Annotated[str | None, typer.Option(metavar="TIME", help='Such as 2026-12-01T23:59; "none".')] = None,
    cutoff: Annotated[str | None, typer.Option(metavar="TIME", help="Nothing counts after it.")] = None,
    penalty_per_day: Annotated[float | None, typer.Option(min=0, help="Percent a day begun.")] = None,
    grace_minutes: Annotated[float | None, typer.Option(min=0, help="Not late within it.")] = None,
    count: Annotated[str | None, typer.Option(metavar="best|latest", help="Which attempt counts.")] = None,
    name: ClassName = "class",
) -> None:
    """Due dates, penalties and cut-offs, and which attempt counts; without options: what is set."""
    from dataclasses import replace

    from helpers.checks import load_lab
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.policy import load_policy, save_policy

    folder = ClassFolder.open(name)
    path = folder.path / "policy.toml"
    rules = load_policy(path)
    dates: dict[str, Any] = {
        "due": _moment(due),
        "cutoff": _moment(cutoff),
        "penalty_per_day": penalty_per_day,
        "grace_minutes": grace_minutes,
    }
    changes = {key: value for key, value in dates.items() if value is not None}
    if changes and lab is None:
        raise typer.BadParameter("dates and penalties belong to a lab: give --lab 01")
    if count is not None:
        if count not in ("best", "latest"):
            raise typer.BadParameter('count is "best" or "latest"')
        rules = replace(rules, count="best" if count == "best" else "latest")
    if lab is not None and changes:
        number = load_lab(lab).id
        changes = {key: None if value == "none" else value for key, value in changes.items()}
        rules = rules.with_lab(number, replace(rules.of(number), **changes))
    if changes or count is not None:
        save_policy(path, rules)
        rules = load_policy(path)
    _print_policy(path)


def _moment(text: str | None) -> datetime | str | None:
    from helpers.classroom.policy import moment

    return text if text in (None, "none") else moment(str(text))


def _print_policy(path: Path) -> None:
    typer.echo(
        path.read_text() if path.exists() else 'count = "best"\n# no due dates: everything counts in full'
    )


def submit(
    learner: Annotated[str, typer.Argument(metavar="ID", help="Whose report it is.")],
    report: Annotated[
        Path, typer.Argument(metavar="REPORT", help="The learner's own `course grade --json`.")
    ],
    at: Annotated[str | None, typer.Option(metavar="TIME", help="When it was handed in, if not now.")] = None,
    name: ClassName = "class",
) -> None:
    """Take a learner's own report in as a claim. It is never graded: it can only show what was there when."""
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.history import History
    from helpers.classroom.policy import moment
    from helpers.classroom.verify import read_document

    folder = ClassFolder.open(name)
    member = folder.member(learner)
    document, found = read_document(report)
    handed_in = moment(at) if at else datetime.now(UTC)
    if handed_in > datetime.now(UTC):
        raise LabError(f"{at} is still to come")
    kept = History(folder.history_dir(member)).add("claim", document, submitted_at=handed_in)
    typer.echo(
        f"Claim {kept.number} of {member.learner.id}: lab {found.lab}, it says {found.earned:g} of "
        f"{found.possible:g} points. Nothing is attested by it."
    )
    typer.echo(f"Next: course class grade --labs {found.lab} --learner {member.learner.id}")


def history(
    learner: Annotated[str, typer.Argument(metavar="ID", help="Whose attempts.")],
    name: ClassName = "class",
) -> None:
    """A learner's attempts, all of them: when handed in, when observed, and what counts."""
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.history import History
    from helpers.classroom.tables import print_history

    folder = ClassFolder.open(name)
    member = folder.member(learner)
    kept = History(folder.history_dir(member))
    attempts = kept.attempts()
    labs = sorted({result.lab for item in attempts for result in item.report.verdicts})
    print_history(
        member.learner.id,
        [(item, kept.last_seen(item)) for item in attempts],
        _standings(folder, member, labs),
        _console(),
    )


def key(
    rotate: Annotated[
        bool, typer.Option("--rotate", help="A new key; the old private one is forgotten.")
    ] = False,
    name: ClassName = "class",
) -> None:
    """The class's public key, to hand out: `course verify report.json --key KEY` checks a grade with it."""
    from helpers.classroom.attest import KeyRing
    from helpers.classroom.folder import ClassFolder

    ring = KeyRing(ClassFolder.open(name).path)
    current = ring.rotate() if rotate else ring.current()
    typer.echo(str(current))
    for known in ring.public_keys():
        use = f"retired {known.retired_at}" if known.retired_at else "in use"
        _say(f"{known.id}  made {known.created_at}, {use}")


def verify(
    report: Annotated[Path, typer.Argument(metavar="REPORT", help="A Report, or an attempt of a class.")],
    key: Annotated[list[str] | None, typer.Option(metavar="KEY|FILE", help="A public key to trust.")] = None,
    learner: Annotated[str | None, typer.Option(metavar="ID", help="Whose result it should be.")] = None,
    signature_only: Annotated[bool, typer.Option("--signature-only", help="Ask no cluster.")] = False,
    hidden: Hidden = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
    name: ClassName = "class",
) -> None:
    """Check a Report: its signature, whose it is, and the cluster's own answer, verdict by verdict.

    Exit code 0 attested and the cluster agrees, 1 something speaks against it, 2 the cluster did not answer.
    """
    from json import dumps

    from helpers.classroom.tables import print_verification

    found = _verified(report, key, learner, hidden, name, offline=signature_only)
    if json:
        print(dumps(found.to_dict(), ensure_ascii=False, indent=2))
    else:
        print_verification(found, _console())
    raise typer.Exit(found.exit_code)


def _verified(
    path: Path, keys: list[str] | None, learner: str | None, hidden: Path | None, name: str, *, offline: bool
) -> Any:
    """With the class's own keys, members and journals where it is on this machine; else the cluster in use."""
    from helpers.classroom.attest import KeyRing, PublicKey
    from helpers.classroom.folder import ClassFolder, class_names
    from helpers.classroom.marking import binding_of, labs_for
    from helpers.classroom.verify import read_document
    from helpers.classroom.verify import verify as verify_report
    from helpers.cluster import Cluster, Scope

    document, report = read_document(path)
    trusted = [PublicKey.given(item) for item in keys or ()]
    bound = report.binding
    wanted = learner or (bound.learner if bound else "")
    class_name = bound.class_name if bound and name == "class" else name
    folder = ClassFolder.open(class_name) if learner or class_name in class_names() else None
    member = None
    if folder:
        trusted = trusted or KeyRing(folder.path).public_keys()
        ids = {item.learner.id.lower(): item for item in folder.members}
        member = folder.member(learner) if learner else ids.get(wanted.lower())

    def connect() -> Cluster:
        if folder and member:
            return folder.instructor_cluster(member)
        return Cluster.connect(scope=Scope(bound.scope) if bound else None)

    numbers = [part for part in report.lab.split(",") if part]
    return verify_report(
        document,
        trusted=trusted,
        belongs_to=binding_of(folder, member) if folder and member else None,
        cluster=None if offline else connect,
        labs=list(labs_for(numbers, hidden)(member)) if hidden and member else None,
        journals=folder.journals_dir(member) if folder and member else None,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _console(*, stderr: bool = False) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)
