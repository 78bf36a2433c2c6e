"""`course release`, `course baseline`, `course break-glass`: what buttons of lab 07's page do, in a terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from helpers.terminal import EXPERIMENTS, answer


def register(app: typer.Typer) -> None:
    """Add the commands to the `course` command."""
    app.command("release", rich_help_panel=EXPERIMENTS)(release)
    app.command("baseline", rich_help_panel=EXPERIMENTS)(baseline)
    app.command("break-glass", rich_help_panel=EXPERIMENTS)(break_glass)


def release(
    name: Annotated[str | None, typer.Argument(help="Without it: the list.")] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is through or stopped.")] = True,
) -> None:
    """Release a candidate of the assistant, and say what became of it. Without a name: the list."""
    from helpers.cluster import Cluster
    from helpers.stack import releases, rollouts
    from helpers.terminal import say

    if name is None:
        for item in releases.RELEASES.values():
            typer.echo(f"{item.name:18} {item.about}")
        return
    if name not in releases.RELEASES:
        raise typer.BadParameter(f"there is no release {name}: {', '.join(releases.RELEASES)}")
    cluster = Cluster.connect()
    rollouts.release(cluster, name)
    if not wait:
        answer(f"{name} released. Next: kubectl get rollout {rollouts.ROLLOUT} -n {rollouts.NAMESPACE}")
        return
    told: set[str] = set()

    def once(line: str) -> None:
        if line not in told:
            told.add(line)
            say(line)

    now = rollouts.wait_decided(cluster, on_progress=once)
    gate = rollouts.gate_of(cluster.view(), now.current)
    said = str(gate.said.get("message") or gate.phase) if gate else "no analysis"
    answer(f"{name} is {'through' if now.is_through else 'stopped'}: {said}")


def baseline(
    runs: Annotated[int, typer.Option(min=1, max=10, help="How often every row is asked.")] = 1,
    keep: Annotated[
        bool, typer.Option(help="Put it into ConfigMap llm-eval-baseline; else print it.")
    ] = True,
) -> None:
    """Measure the release that users have, with your rows and metrics: what drops are counted from."""
    from helpers.cluster import Cluster
    from helpers.stack import assistant, evals

    cluster = Cluster.connect()
    text = evals.measure_baseline(cluster, runs=runs)
    if not keep:
        typer.echo(text)
        return
    assistant.put_data(cluster, assistant.BASELINE, {evals.BASELINE_FILE: text})
    answer(f"{evals.BASELINE_FILE} in ConfigMap {assistant.BASELINE}. Next: course witness gate")


def break_glass(
    ticket: Annotated[str, typer.Option(help="Where the decision is discussed.")],
    approver: Annotated[str, typer.Option(help="Who answers for it.")],
    why: Annotated[str, typer.Option(help="In one sentence.")],
) -> None:
    """Let a release through that its gate has stopped, and leave a record of who, why, and against which figures."""
    from helpers.cluster import Cluster
    from helpers.stack import rollouts

    record = rollouts.break_glass(Cluster.connect(), ticket=ticket, approver=approver, why=why)
    failed = ", ".join(record.figures.get("failed") or []) or "no figures"
    answer(f"{record.release} goes through against {failed}: ConfigMap {record.name}")
