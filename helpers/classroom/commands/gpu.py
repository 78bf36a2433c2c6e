"""`course class gpu`: one card for a class, in turns; and the switches that are the instructor's."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from helpers.classroom.commands.options import ClassName
from helpers.errors import LabError
from helpers.terminal import answer

if TYPE_CHECKING:
    from helpers.classroom.seats.gpu_turns import Queue
    from helpers.cluster import Cluster


HELP = (
    "One GPU for a class.\n\n"
    "In turns: `course class gpu run` closes the GPU quota of every learner but one. Learners join with `course "
    "class gpu join` and give the card back with `leave`; a card that lies idle goes to the next.\n\n"
    "Side by side: time-slicing lets several learners on the card at once, without any isolation of memory or "
    "faults (`course class gpu shape time-slicing`); MIG cuts it in hardware, where the card can do that and the "
    "model fits a slice (`course class gpu shape mig`). Both need no queue while there are enough shares, and a "
    "card is then no longer offered whole: labs 01 and 02 ask for a whole one."
)


def register(class_app: typer.Typer) -> None:
    """Add `gpu` to `course class`."""
    gpu_app = typer.Typer(name="gpu", help=HELP, invoke_without_command=True)
    gpu_app.callback()(show)
    for command in (join, leave, run, off, shape, guard):
        gpu_app.command(command.__name__)(command)
    class_app.add_typer(gpu_app)


def show(context: typer.Context, name: ClassName = "class") -> None:
    """Who has the card, since when, and who is next."""
    from helpers.classroom.seats import gpu_turns

    if context.invoked_subcommand:
        return
    cluster, class_name = _either(name)
    for line in _lines(gpu_turns.read(cluster, class_name), cluster.scope.suffix, datetime.now(UTC)):
        typer.echo(line)


def join() -> None:
    """Get in line for the card (learners)."""
    from helpers.classroom.seats import gpu_turns

    cluster = _learner()
    found = gpu_turns.read(cluster, gpu_turns.class_of(cluster))
    new = gpu_turns.join(cluster)
    typer.echo("You are in line." if new else "You were in line already.")
    for line in _lines(found, cluster.scope.suffix, datetime.now(UTC)):
        typer.echo(line)
    answer("Next: course class gpu")


def leave() -> None:
    """Give the card, or your place in line, to the next (learners)."""
    from helpers.classroom.seats import gpu_turns

    cluster = _learner()
    typer.echo("The next one can have it." if gpu_turns.leave(cluster) else "You had neither card nor place.")


def run(
    name: ClassName = "class",
    idle: Annotated[
        float | None, typer.Option(min=0.1, metavar="MIN", help="A turn ends when nothing holds the card.")
    ] = None,
    turn: Annotated[
        float | None, typer.Option(min=0.1, metavar="MIN", help="The longest turn while others wait.")
    ] = None,
    every: Annotated[float, typer.Option(min=1, metavar="S", help="Seconds between two looks.")] = 10,
    once: Annotated[bool, typer.Option("--once", help="Look, decide, and end: for a timer.")] = False,
) -> None:
    """Run the queue until Ctrl+C (instructors). It goes on where it stood; `off` ends it for good."""
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.seats import gpu_turns
    from helpers.errors import EnvironmentFault

    while True:
        folder = ClassFolder.open(name)
        try:
            look = gpu_turns.advance(
                folder.shared_cluster(), folder.name, folder.active, idle_min=idle, turn_min=turn
            )
            for line in look.done:
                typer.echo(f"{datetime.now(UTC):%H:%M:%S} {line}")
        except EnvironmentFault as fault:
            if once:
                raise
            typer.echo(f"{datetime.now(UTC):%H:%M:%S} {fault}; looking again in {every:g} s")
        if once:
            return
        time.sleep(every)


def off(name: ClassName = "class") -> None:
    """End the queue and open everybody's quota (instructors)."""
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.seats import gpu_turns

    folder = ClassFolder.open(name)
    done = gpu_turns.turn_off(folder.shared_cluster(), folder.name, folder.active)
    typer.echo(f"The queue is off: {len(done)} objects deleted." if done else "There was no queue.")


def shape(
    wanted: Annotated[str, typer.Argument(metavar="full|mig|time-slicing")], name: ClassName = "class"
) -> None:
    """Offer the class's card whole, in slices or in turns of milliseconds (instructors, embedded cluster)."""
    from helpers.classroom.folder import ClassFolder
    from helpers.stack import gpu

    if wanted not in gpu.SHAPES:
        raise typer.BadParameter(f"one of {', '.join(gpu.SHAPES)}")
    cluster = ClassFolder.open(name).shared_cluster()
    if cluster.profile().name != "embedded":
        raise LabError(
            "the shape of this cluster's cards is set in its GPU operator: the device plugin's configuration, "
            "or the node label nvidia.com/mig.config",
            next_command="kubectl get nodes -L nvidia.com/gpu.sharing-strategy,nvidia.com/mig.config",
        )
    typer.echo(gpu.change_shape(wanted))


def guard(state: Annotated[str, typer.Argument(metavar="on|off")], name: ClassName = "class") -> None:
    """Set or remove lab 01's taint on the GPU nodes: it concerns the whole class (instructors)."""
    from helpers.classroom.folder import ClassFolder
    from helpers.stack import gpu

    if state not in ("on", "off"):
        raise typer.BadParameter("on or off")
    changed = gpu.set_guard(ClassFolder.open(name).shared_cluster(), on=state == "on")
    word = "up" if state == "on" else "down"
    typer.echo(
        f"The guard is {word} on {', '.join(changed)}." if changed else f"The guard was {word} already."
    )


def _either(name: str) -> tuple[Cluster, str]:
    """The cluster and class of whoever asks: a learner by their handout, the instructor by their class."""
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.seats import gpu_turns
    from helpers.cluster import Cluster

    cluster = Cluster.connect()
    if cluster.scope.suffix:
        return cluster, gpu_turns.class_of(cluster)
    folder = ClassFolder.open(name)
    return folder.shared_cluster(), folder.name


def _learner() -> Cluster:
    from helpers.cluster import Cluster

    cluster = Cluster.connect()
    if not cluster.scope.suffix:
        raise LabError(
            "joining is for learners, with the kubeconfig that they were handed",
            next_command="COURSE_KUBECONFIG=HANDOUT course class gpu join",
        )
    return cluster


def _lines(queue: Queue, own: str, now: datetime) -> list[str]:
    def named(suffix: str) -> str:
        return f"{suffix} (you)" if suffix == own else suffix

    if not queue.holder:
        lines = ["Nobody has the card."]
    else:
        since = (now - datetime.fromisoformat(queue.since)).total_seconds() / 60
        lines = [f"{named(queue.holder)} has the card, for {since:.0f} min."]
        if queue.idle_since:
            idle = (now - datetime.fromisoformat(queue.idle_since)).total_seconds() / 60
            lines.append(
                f"Nothing holds it since {idle:.0f} min; after {queue.idle_min:g} the next one has it."
            )
    if queue.waiting:
        lines.append(f"Next: {', '.join(map(named, queue.waiting))}")
    return lines
