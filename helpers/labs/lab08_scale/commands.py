"""`course queue`: what the buttons under *With Kafka* on lab 08's page do, in a terminal."""

from __future__ import annotations

from typing import Annotated

import typer

from helpers.terminal import EXPERIMENTS, answer


def register(app: typer.Typer) -> None:
    """Add the command to the `course` command."""
    app.command("queue", rich_help_panel=EXPERIMENTS)(queue)


def queue(
    where: Annotated[str, typer.Argument(metavar="[redis|kafka]", help="Without it: where it is.")] = "",
) -> None:
    """Move the stream of jobs to Kafka, or back to Redis, which takes Kafka away again."""
    from helpers.cluster import Cluster
    from helpers.stack import kafka
    from helpers.terminal import say

    cluster = Cluster.connect()
    if where == "kafka":
        kafka.switch_on(cluster, say)
    elif where == "redis":
        kafka.switch_off(cluster, say)
    elif where:
        raise typer.BadParameter(f"the queue is on redis or on kafka, not on {where}")
    there = "kafka" if kafka.is_on(cluster.view()) else "redis"
    answer(f"The queue is on {there}." + (" Next: course witness jobs delivery faults" if where else ""))
