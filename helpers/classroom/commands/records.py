"""`course class policy`, `hidden`, `submit`, `history`, `key`; `course verify`: what grades rest on."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from helpers.classroom.commands.options import ClassName, Hidden
from helpers.errors import LabError
from helpers.terminal import CLASSES, ENVIRONMENT_FAILED, answer, console, say

if TYPE_CHECKING:
    from helpers.classroom.records.late_policy import LabPolicy
    from helpers.cluster import Cluster


def register(class_app: typer.Typer, app: typer.Typer) -> None:
    """Add the commands to `course class`, and `verify` to `course`."""
    class_app.command("policy")(policy)
    class_app.command("submit")(submit)
    class_app.command("history")(history)
    class_app.command("key")(key)
    class_app.command("hidden")(hidden)
    app.command("verify", rich_help_panel=CLASSES)(verify)


def policy(
    lab: Annotated[str | None, typer.Option(metavar="01", help="The lab whose dates to set.")] = None,
    due: Annotated[
        str | None,
        typer.Option(metavar="TIME", help='2026-12-01 (the end of that day), 2026-12-01T18:00, or "none".'),
    ] = None,
    cutoff: Annotated[str | None, typer.Option(metavar="TIME", help="Nothing counts after it.")] = None,
    penalty_per_day: Annotated[float | None, typer.Option(min=0, help="Percent a day begun.")] = None,
    grace_minutes: Annotated[float | None, typer.Option(min=0, help="Not late within it.")] = None,
    count: Annotated[str | None, typer.Option(metavar="best|latest", help="Which attempt counts.")] = None,
    time_zone: Annotated[
        str | None, typer.Option(metavar="Europe/Rome", help="The class's; this machine's unless it is said.")
    ] = None,
    name: ClassName = "class",
) -> None:
    """Due dates, penalties and cut-offs, and which attempt counts; without options: what is set."""
    from dataclasses import replace

    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.records.late_policy import load_policy, save_policy, zone_of
    from helpers.labs.registry import load_lab

    folder = ClassFolder.open(name)
    path = folder.policy_file
    rules = load_policy(path)
    if time_zone is not None:
        zone_of(time_zone)
        rules = replace(rules, time_zone=time_zone)
    dates: dict[str, Any] = {
        "due": _moment(due, rules.time_zone),
        "cutoff": _moment(cutoff, rules.time_zone),
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
    if changes or count is not None or time_zone is not None:
        save_policy(path, rules)
    _print_policy(path)
    if lab is not None:
        number = load_lab(lab).id
        _say_dates(number, load_policy(path).of(number), end_of_day=(due, cutoff))


def _moment(text: str | None, time_zone: str) -> datetime | str | None:
    from helpers.classroom.records.late_policy import moment

    return text if text in (None, "none") else moment(str(text), time_zone=time_zone)


def _say_dates(lab: str, dates: LabPolicy, *, end_of_day: tuple[str | None, str | None]) -> None:
    """The dates of a lab in words, as they were understood."""
    from helpers.classroom.records.late_policy import is_date, said

    for words, moment, typed in zip(
        ("is due", "is cut off"), (dates.due, dates.cutoff), end_of_day, strict=True
    ):
        if moment is not None:
            meant = f": the end of {typed}" if typed and is_date(typed) else ""
            say(f"Lab {lab} {words} {said(moment)}{meant}.")


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
    from helpers.classroom.records.history import History
    from helpers.classroom.records.late_policy import is_date, load_policy, moment
    from helpers.classroom.records.verify import read_document

    folder = ClassFolder.open(name)
    member = folder.member(learner)
    document, found = read_document(report)
    if at and is_date(at):
        raise LabError(f"{at} has no time of day: write when it was handed in, such as {at.strip()}T18:00")
    zone = load_policy(folder.policy_file).time_zone
    handed_in = moment(at, time_zone=zone) if at else datetime.now(UTC)
    if handed_in > datetime.now(UTC):
        raise LabError(f"{at} is still to come")
    kept = History(folder.history_dir(member)).add("claim", document, submitted_at=handed_in)
    typer.echo(
        f"Claim {kept.number} of {member.learner.id}: lab {found.lab}, it says {found.earned:g} of "
        f"{found.possible:g} points. Nothing is attested by it."
    )
    answer(f"Next: course class grade --labs {found.lab} --learner {member.learner.id}")


def history(
    learner: Annotated[str, typer.Argument(metavar="ID", help="Whose attempts.")],
    name: ClassName = "class",
) -> None:
    """A learner's attempts, all of them: when handed in, when observed, and what counts."""
    from helpers.classroom.commands.tables import print_history
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.records.gradebook import standings
    from helpers.classroom.records.history import History

    folder = ClassFolder.open(name)
    member = folder.member(learner)
    kept = History(folder.history_dir(member))
    attempts = kept.attempts()
    labs = sorted({result.lab for item in attempts for result in item.report.verdicts})
    print_history(
        member.learner.id,
        [(item, kept.last_seen(item)) for item in attempts],
        standings(folder, member, labs),
        console(),
    )


def key(
    rotate: Annotated[
        bool, typer.Option("--rotate", help="A new key; the old private one is forgotten.")
    ] = False,
    name: ClassName = "class",
) -> None:
    """The class's public key, to hand out: `course verify report.json --key KEY` checks a grade with it."""
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.records.attest import KeyRing

    ring = KeyRing(ClassFolder.open(name).path)
    current = ring.rotate() if rotate else ring.current()
    typer.echo(str(current))
    for known in ring.public_keys():
        use = f"retired {known.retired_at}" if known.retired_at else "in use"
        say(f"{known.id}  made {known.created_at}, {use}")


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

    from helpers.classroom.commands.tables import print_verification

    found = _verified(report, key, learner, hidden, name, offline=signature_only)
    if json:
        print(dumps(found.to_dict(), ensure_ascii=False, indent=2))
    else:
        print_verification(found, console())
    raise typer.Exit(found.exit_code)


def _verified(
    path: Path, keys: list[str] | None, learner: str | None, hidden: Path | None, name: str, *, offline: bool
) -> Any:
    """With the class's own keys, members and journals where it is on this machine; else the cluster in use."""
    from helpers.classroom.folder import ClassFolder, class_names
    from helpers.classroom.marking.marking import binding_of, labs_for
    from helpers.classroom.records.attest import KeyRing, PublicKey
    from helpers.classroom.records.verify import read_document
    from helpers.classroom.records.verify import verify as verify_report
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


def hidden(
    package: Annotated[Path | None, typer.Argument(metavar="FOLDER", help="Your hidden checks.")] = None,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Say that there are none.")] = False,
    tell: Annotated[bool, typer.Option("--tell", help="Tell the class how many there are.")] = False,
    name: ClassName = "class",
) -> None:
    """Check a package of hidden checks; with --tell, let every learner's seat say that they exist.

    Learners are told how many and how many points, nothing else.
    """
    from helpers.classroom.marking.hidden import load_hidden

    if (package is None) != withdraw:
        raise typer.BadParameter("give the folder of your hidden checks, or --withdraw")
    loaded = load_hidden(package) if package else None
    for lab, checks in loaded.summary().items() if loaded else ():
        typer.echo(f"lab {lab}: {checks.count} hidden checks, {checks.points:g} points")
    if not (tell or withdraw):
        answer(f"Nobody was told. Next: course class grade --labs … --hidden {package}")
        return
    _tell(name, loaded)


def _tell(name: str, package: Any) -> None:
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.marking.feedback import announce

    folder = ClassFolder.open(name)
    told = list(announce(folder, folder.active, package))
    failed = [item for item in told if item.problem]
    for item in failed:
        say(f"{item.learner}: {item.problem}")
    typer.echo(f"{len(told) - len(failed)} of {len(told)} seats say it now.")
    raise typer.Exit(ENVIRONMENT_FAILED if failed else 0)
