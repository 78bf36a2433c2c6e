"""`course class create`, `list`, `add-cluster`, `probes` and `remove`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helpers.classroom.commands.options import ClassName
from helpers.errors import LabError
from helpers.terminal import answer, console, spinner

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.classroom.seats.membership import Plan


def register(class_app: typer.Typer) -> None:
    """Add the commands to `course class`."""
    class_app.command("create")(create)
    class_app.command("list")(list_members)
    class_app.command("add-cluster")(add_cluster)
    class_app.command("probes")(probes)
    class_app.command("remove")(remove)


def create(
    roster: Annotated[Path, typer.Option(metavar="FILE", help="CSV with the columns id, name, email.")],
    name: ClassName = "class",
    readmit: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Take a removed learner in again (repeatable).")
    ] = None,
    own_clusters: Annotated[
        bool, typer.Option("--own-clusters", help="Nobody is on a shared cluster: see add-cluster.")
    ] = False,
    days: Annotated[int, typer.Option(min=1, help="How long the handouts' tokens are valid.")] = 180,
    server: Annotated[
        str, typer.Option(metavar="URL", help="The API server's address for learners, if not yours.")
    ] = "",
) -> None:
    """Make a class of a roster on the cluster in use; again: adds who is new, mends what is missing.

    Each learner gets namespaces, quotas, a ServiceAccount with just the rights the labs need, and a
    kubeconfig to be handed out. Nobody is removed because a row is missing: that is reported.
    """
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.roster import read_roster
    from helpers.classroom.seats import membership

    learners = read_roster(roster)
    folder = ClassFolder.at(name)
    planned = membership.plan(folder, learners, readmit or ())
    if own_clusters:
        _create_apart(folder, planned)
        return
    with folder.changing():
        _create_shared(folder, planned, days, server)


def _create_shared(folder: ClassFolder, planned: Plan, days: int, server: str) -> None:
    from helpers.classroom.seats import membership
    from helpers.cluster import Cluster, Scope
    from helpers.cluster.connection import choose_connection

    fresh = not folder.active or folder.kubeconfig is None
    cluster = Cluster.connect(scope=Scope()) if fresh else folder.shared_cluster()
    connection = choose_connection() if fresh else cluster.backend.connection  # type: ignore[attr-defined]
    uid = membership.check_cluster(folder, cluster)
    # Written before the cluster is touched: an interrupted run is continued with the same nonces.
    folder = membership.with_cluster(folder, uid, connection).with_members(planned.members).save()
    shared = sum(member.kubeconfig is None for member in folder.active)
    with spinner(f"building {shared} seats") as tell:
        outcome = membership.build(folder, cluster, tell, days=days, server=server)
    _report(folder, planned)
    typer.echo(
        f"On the cluster: {outcome.created} objects created, {outcome.changed} changed, "
        f"{outcome.unchanged} as they were. Handouts written: {len(outcome.handouts)}."
    )
    _warn_of_short_tokens(folder)
    typer.echo(f"Handouts: {folder.path / 'kubeconfigs'} (give each learner the file of their id)")
    answer(f"Next: course class status{_option(folder)}")


def _warn_of_short_tokens(folder: ClassFolder) -> None:
    """Some providers' API servers shorten every token, to a day or two."""
    from helpers.classroom.seats.handout import RENEW_BEFORE, ends_at

    ends = [found for member in folder.active if (found := ends_at(folder.handout(member)))]
    if ends and min(ends) - datetime.now(UTC) < RENEW_BEFORE:
        typer.echo(
            f"The first handout expires {min(ends):%Y-%m-%d %H:%M} UTC: run this command again to renew them."
        )


def _create_apart(folder: ClassFolder, planned: Plan) -> None:
    apart = [
        replace(member, suffix="") if member.kubeconfig is None else member for member in planned.members
    ]
    if any(member.suffix and member.kubeconfig is None for member in folder.active):
        raise LabError(
            f"class {folder.name} is on a shared cluster", next_command="course class create --name ANOTHER"
        )
    with folder.changing():
        folder = folder.with_members(apart).save()
    _report(folder, planned)
    waiting = [member.learner.id for member in folder.active if member.kubeconfig is None]
    if waiting:
        typer.echo(f"Without a cluster yet: {_few(waiting)}")
        answer(f"Next: course class add-cluster {waiting[0]} --kubeconfig FILE{_option(folder)}")


def _report(folder: ClassFolder, planned: Plan) -> None:
    added = len(planned.added)
    typer.echo(f"Class {folder.name}: {len(folder.active)} learners, {added} new.")
    for member in planned.renamed:
        typer.echo(f"  changed: {member.learner.id} is now {member.learner.name} {member.learner.email}")
    for member in planned.gone:
        typer.echo(
            f"  not in the roster any more, and kept: {member.learner.id}"
            f" (course class remove --learner {member.learner.id}{_option(folder)})"
        )
    for member in planned.stay_removed:
        typer.echo(
            f"  was removed before and stays removed: {member.learner.id} (--readmit {member.learner.id})"
        )


def list_members(name: ClassName = "class") -> None:
    """Who is in the class, where each works, and until when their handout is good."""
    from rich.table import Table

    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.seats.handout import ends_at

    folder = ClassFolder.open(name)
    table = Table(box=None, pad_edge=False)
    for title in ("id", "name", "works in", "handout until"):
        table.add_column(title, overflow="fold")
    for member in folder.members:
        ends = ends_at(folder.handout(member))
        until = ends.date().isoformat() if ends else "none"
        table.add_row(
            member.learner.id, member.learner.name, _place(member), "" if not member.suffix else until
        )
    console().print(table)
    typer.echo(f"{len(folder.active)} learners, {len(folder.members) - len(folder.active)} removed")


def _place(member: Member) -> str:
    if member.removed:
        return "removed"
    if member.kubeconfig is not None:
        return "a cluster of their own"
    return f"llm-…-{member.suffix}" if member.suffix else "no cluster yet"


def add_cluster(
    learner: Annotated[str, typer.Argument(metavar="ID", help="The learner, who must be in the class.")],
    kubeconfig: Annotated[Path, typer.Option(metavar="FILE", help="Your way in, as an administrator.")],
    context: Annotated[
        str | None, typer.Option(metavar="NAME", help="Its context, if not the current.")
    ] = None,
    name: ClassName = "class",
    move: Annotated[
        bool, typer.Option("--move", help="Delete the learner's namespaces on the shared cluster.")
    ] = False,
) -> None:
    """Let a learner work in a cluster of their own, by a kubeconfig; the file is copied into the class."""
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.seats import membership

    folder = ClassFolder.open(name)
    member = folder.member(learner)
    has_seat = bool(member.suffix) and member.kubeconfig is None and not member.removed
    if has_seat and not move:
        raise LabError(
            f"{learner} has namespaces on the shared cluster, with their work",
            next_command=f"course class add-cluster {learner} --kubeconfig {kubeconfig} --move{_option(folder)}",
        )
    with folder.changing():
        folder = membership.add_cluster(folder, member, kubeconfig, context).save()
        if has_seat:
            with spinner(f"removing the namespaces of {learner}") as tell:
                membership.remove_member(folder, member, folder.shared_cluster(), tell)
    typer.echo(
        f"{learner} works in the cluster behind {kubeconfig}. Next: course class status{_option(folder)}"
    )


def probes(
    learner: Annotated[
        list[str] | None, typer.Option("--learner", metavar="ID", help="Only these (repeatable).")
    ] = None,
    name: ClassName = "class",
    take: Annotated[bool, typer.Option("--remove", help="Take them away instead.")] = False,
) -> None:
    """Place the grader's probe pods of lab 04: seven small pods a learner, two of them yours alone.

    The learner's own `course start 04` places the others. On one node of 110 pods there is room for
    twelve learners at a time: place, grade, --remove.
    """
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.seats import membership

    folder = ClassFolder.open(name)
    members = [folder.member(identity) for identity in learner] if learner else list(folder.active)
    with spinner("probe pods") as tell:
        for member, said in membership.place_probes(folder, members, tell, take=take):
            typer.echo(f"{member.learner.id}: {said}")


def remove(
    learner: Annotated[
        list[str] | None, typer.Option("--learner", metavar="ID", help="Only these (repeatable).")
    ] = None,
    name: ClassName = "class",
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    forget: Annotated[
        bool, typer.Option("--forget", help="The cluster is gone for good: ask it nothing.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete the grades and the class's folder too.")
    ] = False,
) -> None:
    """Take learners, or the whole class, off the cluster: namespaces, rights, tokens, handouts.

    What was graded stays in the class's folder, so that grades can still be defended; --purge ends that too.
    """
    from helpers.classroom.folder import ClassFolder

    folder = ClassFolder.open(name)
    if learner:
        if purge or forget:
            raise typer.BadParameter("--purge and --forget are for the whole class")
        _remove_some(folder, [folder.member(identity) for identity in learner], yes=yes)
    else:
        _remove_all(folder, yes=yes, forget=forget, purge=purge)


def _remove_some(folder: ClassFolder, members: list[Member], *, yes: bool) -> None:
    from helpers.classroom.seats import membership

    for member in members:
        if member.removed:
            typer.echo(f"{member.learner.id} was removed before: nothing to do")
    active = [member for member in members if not member.removed]
    if not active:
        return
    _confirm(f"Delete all work of {_few([member.learner.id for member in active])}", yes=yes)
    with folder.changing():
        for member in active:
            with spinner(f"removing {member.learner.id}") as tell:
                if member.kubeconfig is not None:
                    done = membership.leave_own_cluster(folder, member)
                elif member.suffix:
                    done = membership.remove_member(folder, member, folder.shared_cluster(), tell)
                else:
                    done = []
            folder = folder.with_members([replace(member, removed=True)]).save()
            typer.echo(f"{member.learner.id} is removed: {len(done)} objects deleted")


def _remove_all(folder: ClassFolder, *, yes: bool, forget: bool, purge: bool) -> None:
    from helpers.classroom.seats import membership

    _confirm(f"Delete all work of the {len(folder.active)} learners of class {folder.name}", yes=yes)
    with folder.changing():
        done = [] if forget else _off_the_clusters(folder)
        settings = {**folder.settings, membership.REMOVED_AT: datetime.now(UTC).isoformat()}
        for member in folder.members:
            folder.handout(member).unlink(missing_ok=True)
        gone = [replace(member, removed=True) for member in folder.active]
        folder = replace(folder, settings=settings).with_members(gone).save()
        typer.echo(
            f"Class {folder.name} is forgotten; no cluster was asked."
            if forget
            else f"Class {folder.name} is off the cluster: {len(done)} objects deleted, none left."
        )
        if purge:
            shutil.rmtree(folder.path)
            typer.echo(f"Its folder is deleted too: {folder.path}")
        else:
            typer.echo(f"What was graded stays in {folder.path} (--purge deletes it)")


def _off_the_clusters(folder: ClassFolder) -> list[str]:
    """Everything of the class on every cluster; an error where the shared one does not answer."""
    from helpers.classroom.seats import membership

    done: list[str] = []
    for member in folder.active:
        if member.kubeconfig is not None:
            done += membership.leave_own_cluster(folder, member)
    if folder.cluster_uid:
        cluster = folder.shared_cluster()
        _same_cluster(folder, cluster.identity().uid)
        with spinner(f"removing class {folder.name}") as tell:
            done += membership.remove_class(folder, cluster, tell)
    return done


def _same_cluster(folder: ClassFolder, uid: str) -> None:
    if uid != folder.cluster_uid:
        raise LabError(
            f"class {folder.name} lives on another cluster (uid {folder.cluster_uid[:8]}…, this one is {uid[:8]}…)",
            next_command=f"course class remove --forget{_option(folder)}, if that cluster is gone for good",
        )


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and not typer.confirm(f"{question}?"):
        raise typer.Exit(1)


def _few(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def _option(folder: ClassFolder) -> str:
    from helpers.classroom.folder import name_option

    return name_option(folder.name)
