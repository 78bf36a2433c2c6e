"""`course recover`, `course game-day`, `course incident`, `course experiment` and `course backoff`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from helpers.terminal import EXPERIMENTS, answer


def register(app: typer.Typer) -> None:
    """Add the commands to the `course` command."""
    app.command("recover", rich_help_panel=EXPERIMENTS)(recover)
    app.command("game-day", rich_help_panel=EXPERIMENTS)(game_day)
    app.command("incident", rich_help_panel=EXPERIMENTS)(incident)
    app.command("experiment", rich_help_panel=EXPERIMENTS)(experiment)
    app.command("backoff", rich_help_panel=EXPERIMENTS)(backoff)


def recover(
    force: Annotated[
        bool, typer.Option("--force", help="Also undo what a process is still running.")
    ] = False,
    show: Annotated[bool, typer.Option("--list", help="Only show what is left.")] = False,
) -> None:
    """Undo the faults that an interrupted experiment left in the cluster."""
    from helpers.chaos.experiment import recover as undo_all
    from helpers.chaos.undo import pending
    from helpers.cluster import Cluster
    from helpers.errors import Forbidden
    from helpers.stack.scaling import lent

    cluster = Cluster.connect()
    if show:
        for entry in pending(cluster.identity().uid):
            state = f"running in process {entry.owner}" if entry.is_running else "interrupted"
            typer.echo(f"{entry.shown}: {state}, {len(entry.steps)} steps to undo")
        with suppress(Forbidden):
            for found in lent(cluster.view()):
                typer.echo(f"Prometheus {found.name}: away, to come back")
        return
    undone = undo_all(cluster, on_progress=typer.echo, force=force)
    typer.echo(f"Undone: {', '.join(undone)}." if undone else "Nothing was left to undo.")


def game_day(
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same fault.")] = None,
    minutes: Annotated[float, typer.Option(min=1, help="When the fault is undone without you.")] = 15,
) -> None:
    """Break something, drawn from a seed; you find out what, repair it, and commit your diagnosis."""
    import random

    from helpers.chaos import gameday
    from helpers.chaos.faults import CAUSES, LAYERS
    from helpers.cluster import Cluster

    chosen = seed if seed is not None else random.SystemRandom().randrange(10_000)
    typer.echo(f"Seed {chosen}. Commit your answer while this runs, in another terminal:")
    typer.echo(
        f"  kubectl create configmap {gameday.ANSWER} -n {gameday.ANSWER_NAMESPACE} "
        f"--from-literal=seed={chosen} --from-literal=layer=LAYER --from-literal=cause=CAUSE"
    )
    typer.echo(f"Layers: {', '.join(LAYERS)}.\nCauses:")
    for cause, meaning in CAUSES.items():
        typer.echo(f"  {cause:18} {meaning}")
    finished = gameday.game_day(Cluster.connect(), chosen, timeout_s=minutes * 60, on_progress=_line())
    answer(f"\nOver after {finished.seconds:.0f} s. Next: course grade 05")


def incident(
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same incident.")] = None,
    minutes: Annotated[float, typer.Option(min=1, help="When it is undone without a diagnosis.")] = 10,
) -> None:
    """One of six incidents, by its figures alone: you commit what it is, then it is undone and named."""
    from helpers.chaos import incident as incidents
    from helpers.chaos.incident_figures import BY_NAME, typical
    from helpers.chaos.journal import parse
    from helpers.cluster import Cluster

    cluster = Cluster.connect()
    chosen = seed if seed is not None else incidents.fresh_seed(cluster)
    if chosen in [item["seed"] for item in incidents.told(cluster)]:
        answer(
            f"The name of seed {chosen} was told before: a diagnosis does not count. Without --seed another is drawn."
        )
    answer(f"Seed {chosen}. Commit your diagnosis while this runs, in another terminal:")
    answer(
        f"  kubectl create configmap {incidents.ANSWER} -n {incidents.APPS} "
        f"--from-literal=seed={chosen} --from-literal=cause=CAUSE --from-literal=figure=FIGURE"
    )
    typer.echo("Causes:")
    for item in incidents.INCIDENTS.values():
        typer.echo(f"  {item.name:16} {item.title}")
    typer.echo("Figures:")
    for figure in BY_NAME.values():
        typer.echo(f"  {figure.name:16} {figure.title}")
    finished = incidents.incident(
        cluster,
        chosen,
        timeout_s=minutes * 60,
        on_progress=_line(),
        on_figures=lambda seen: typer.echo(_in_a_line(seen)),
    )
    record = parse(finished.path.read_text())
    named, said = record.last("reveal"), record.last("diagnosis")
    before, now = map(typical, incidents.before_and_now(record))
    for name in BY_NAME:
        typer.echo(f"  {BY_NAME[name].title:36} {_value(before[name]):>8} → {_value(now[name]):>8}")
    cause = str((named or {}).get("cause", ""))
    right = bool(said) and incidents.is_right((said or {})["answer"], cause)
    word = "right" if right else ("another" if said else "missing")
    if right and incidents.was_told(record):
        word = "right, and does not count: the name of this seed had been told before"
    answer(
        f"It was {cause}: {incidents.SIGNS[cause].says}. Your diagnosis is {word}. "
        f"{'All is undone' if finished.steady_after else 'NOT all serves again: kubectl get pods -A'}. "
        "Next: course grade 08"
    )


def _in_a_line(seen: Mapping[str, float | None]) -> str:
    return "  ".join(f"{name} {_value(value)}" for name, value in seen.items())


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".rstrip("0").rstrip(".")


def experiment(
    name: Annotated[str, typer.Argument(help="A fault such as delete-vllm, or herd-none, herd-full.")] = "",
    status: Annotated[int, typer.Option(help="With refuse-…: what is answered, 400 to 599.")] = 503,
    share: Annotated[int, typer.Option(help="With refuse-…: to how many in a hundred.")] = 100,
    seconds: Annotated[float, typer.Option(min=0, help="How long it lasts; the fault's own time if 0.")] = 0,
) -> None:
    """Run one experiment: steady state, fault, undo, steady state, journal. Without a name: the list."""
    from dataclasses import replace

    from helpers.chaos.experiment import run
    from helpers.chaos.faults import FAULTS
    from helpers.chaos.front_faults import FRONT_FAULTS, fault, refuse
    from helpers.chaos.herd import herd
    from helpers.cluster import Cluster

    if not name:
        for item in (*FAULTS.values(), *FRONT_FAULTS.values()):
            typer.echo(f"{item.name:18} {item.layer:13} {item.title}")
        return
    cluster = Cluster.connect()
    if name.startswith("herd-"):
        finished = herd(cluster, name.removeprefix("herd-"), on_progress=_line())
    else:
        chosen = fault(name)
        if name.startswith("refuse-"):
            chosen = replace(chosen, plan=refuse(chosen.backend, status=status, share=share))
        if seconds:
            chosen = replace(chosen, watch_s=seconds)
        finished = run(cluster, chosen, on_progress=_line())
    after = "steady again" if finished.steady_after else "NOT steady: kubectl get pods -n llm-system"
    typer.echo(f"\n{name}: {finished.seconds:.0f} s, {after}. Journal: {finished.path}")


def backoff(
    file: Annotated[Path, typer.Argument(help="A Python file or notebook that defines call_with_backoff.")],
) -> None:
    """Judge a retry function against a real restart of Qdrant and against scripted trouble."""
    from helpers.chaos.backoff import judge, load_function
    from helpers.cluster import Cluster

    function = load_function(file)
    finished = judge(Cluster.connect(), function, on_progress=_line())
    answer(f"\nJudged in {finished.seconds:.0f} s. Next: course grade 05")


def _line() -> Callable[[str], None]:
    """Progress in one line on a terminal; elsewhere each new text once, without the seconds' ticking."""
    import sys

    if sys.stdout.isatty():
        return lambda line: typer.echo(f"\r\033[K{line}", nl=False)
    seen: set[str] = set()

    def once(line: str) -> None:
        text = line.lstrip("0123456789 s:")
        if text not in seen:
            seen.add(text)
            typer.echo(line)

    return once
