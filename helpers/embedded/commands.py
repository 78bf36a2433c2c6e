"""The embedded cluster's commands: `course up`, `prefetch`, `down`, `status`, `doctor`, `kubeconfig`, `gpu`, `cache`, `images`."""

from __future__ import annotations

from typing import Annotated

import typer

from helpers.settings import cluster_name
from helpers.terminal import CLUSTERS, answer, say

Name = Annotated[
    str,
    typer.Option(
        "--name", metavar="NAME", help="Which cluster; several can run side by side.", show_default="lab"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the embedded cluster's commands to the command line."""
    for command in (up, lab, prefetch, down, status, doctor, kubeconfig, gpu, cache):
        app.command(rich_help_panel=CLUSTERS)(command)
    images = typer.Typer(no_args_is_help=True, help="The images of the labs' workloads.")
    images.command("list")(images_list)
    images.command("load")(images_load)
    app.add_typer(images, name="images", rich_help_panel=CLUSTERS)


def up(
    name: Name = "",
    images: Annotated[
        str,
        typer.Option(
            metavar="SOURCE",
            help="Workload images: local (made here), official (pulled) or auto (pulled where a registry answers).",
            show_default="as the cluster was made; local for a new one",
        ),
    ] = "",
) -> None:
    """Start the embedded cluster, new or as it was left; harmless when it runs already."""
    from helpers.embedded.entry import up as launch
    from helpers.embedded.registry import source_named
    from helpers.embedded.steps import Steps

    steps = Steps()
    with steps.total():
        launch(name or cluster_name(), steps, source=source_named(images))


def lab(
    number: Annotated[str, typer.Argument(metavar="LAB", help="The lab's number, such as 01.")],
    headless: Annotated[bool, typer.Option("--headless", help="Start no browser.")] = False,
) -> None:
    """What `make lab` runs: the cluster and the notebook; while a first build takes minutes, the page first."""
    import os
    import sys

    from helpers.embedded import behind
    from helpers.embedded.steps import Steps

    if behind.is_built():
        steps = Steps()
        with steps.total():
            behind.up_then_fetch(cluster_name(), steps)
    elif behind.begin(cluster_name()):
        say("The cluster is being built; the page shows the progress. Ctrl-C ends both.")
    else:
        say("A build of this cluster is running; the page shows the progress.")
    # In this very process: the build ends with it.
    words = [sys.executable, "-m", "helpers.cli", "open", number, *(["--headless"] if headless else [])]
    os.execv(words[0], words)


def prefetch(name: Name = "") -> None:
    """Fetch and build now what the cluster is made of, and what later labs need: images, model, packages, Helm.

    `course lab` does it behind the page, at the lowest priority.
    """
    from helpers.embedded.ahead import everything, fetch
    from helpers.embedded.entry import helper_of_root
    from helpers.embedded.steps import Steps

    steps = Steps()
    with steps.total(), helper_of_root() as helper:
        fetch(everything(name or cluster_name(), helper), steps)


def down(
    name: Name = "",
    delete: Annotated[bool, typer.Option("--delete", help="Delete its state too.")] = False,
) -> None:
    """Stop the embedded cluster and leave nothing running; its state is kept unless --delete."""
    from helpers.embedded.entry import down as stop
    from helpers.embedded.steps import Steps

    chosen = name or cluster_name()
    ran = stop(chosen, Steps(), delete=delete)
    typer.echo(f"{chosen}: {'stopped' if ran else 'was not running'}{', state deleted' if delete else ''}")


def status(
    name: Name = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else.")] = False,
) -> None:
    """What runs: the cluster's parts, each asked now, and what it uses."""
    from dataclasses import asdict
    from json import dumps

    from helpers.embedded.doctor import uses_embedded
    from helpers.embedded.entry import state

    found = state(name or cluster_name())
    if json:
        typer.echo(dumps(asdict(found)))
        return
    typer.echo(f"{found.name}: {found.word}")
    for title, fact in found.facts.items():
        typer.echo(f"  {title:<22} {fact}")
    if found.word != "running":
        answer("Next: course up")
    if not name and not uses_embedded():
        answer("The labs work against another cluster now. Next: course doctor, or course use embedded")


def doctor(
    name: Name = "",
    quick: Annotated[bool, typer.Option("--quick", help="Do not start test pods.")] = False,
) -> None:
    """What is wrong or missing, for which labs, and the next command for each.

    Exit code 2 when something is.
    """
    from helpers.embedded.doctor import diagnose_chosen, uses_embedded
    from helpers.embedded.entry import diagnose

    embedded = bool(name) or uses_embedded()
    findings = diagnose(name or cluster_name()) if embedded else diagnose_chosen(experiment=not quick)
    for finding in findings:
        labs = f" ({finding.labs})" if finding.labs and not finding.fine else ""
        typer.echo(f"{'ok     ' if finding.fine else 'PROBLEM'}  {finding.text}{labs}")
        if finding.next_command:
            answer(f"         Next: {finding.next_command}")
    if not all(finding.fine for finding in findings):
        raise typer.Exit(2)


def cache(
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete everything; the next `up` builds it again.")
    ] = False,
) -> None:
    """What was built for the embedded cluster, where, and how much disk it takes."""
    from helpers.embedded.entry import cache_sizes

    for folder, size in cache_sizes(delete=delete).items():
        typer.echo(f"{size:8.0f} MiB  {folder}")
    if delete:
        typer.echo("deleted")


def images_list() -> None:
    """The images that labs use, and what each is."""
    from helpers.embedded.images import IMAGES

    for spec in IMAGES:
        typer.echo(f"{spec.name:<10} {spec.reference:<40} {spec.about}")


def images_load(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="All when none is named.")
    ] = None,
    name: Name = "",
) -> None:
    """Make images and import them into the running cluster; what is there already is skipped."""
    from helpers.embedded.entry import load
    from helpers.embedded.steps import Steps

    loaded = load(name or cluster_name(), names or [], Steps())
    typer.echo(f"loaded: {', '.join(loaded)}" if loaded else "the cluster has them already")


def kubeconfig(name: Name = "") -> None:
    """Print the path of the kubeconfig in use: `export KUBECONFIG=$(course kubeconfig)`."""
    from helpers.cluster.connection import chosen_kubeconfig
    from helpers.cluster.kubeconfig import is_there
    from helpers.errors import NoClusterChosen
    from helpers.settings import kubeconfig_path

    path = kubeconfig_path(name) if name else chosen_kubeconfig()
    if path is None or not is_there(path):
        raise NoClusterChosen(f"there is no embedded cluster {name}", next_command="course up")
    typer.echo(path)


def gpu(
    shape: Annotated[str, typer.Option(metavar="SHAPE", help="full, mig or time-slicing.")] = "",
    replicas: Annotated[int, typer.Option(help="Time slices of the GPU.", min=2, max=64)] = 4,
    second_card: Annotated[
        bool | None,
        typer.Option(
            "--second-card/--one-card", help="A second card beside the first, in two halves, or none."
        ),
    ] = None,
    unhealthy: Annotated[
        list[str] | None,
        typer.Option(metavar="DEVICE", help="Mark a device unhealthy, or `all` (repeatable)."),
    ] = None,
    healthy: Annotated[
        list[str] | None,
        typer.Option(metavar="DEVICE", help="Mark a device healthy again, or `all` (repeatable)."),
    ] = None,
    name: Name = "",
) -> None:
    """Change what the node's device plugin advertises, as an administrator would."""
    from helpers.embedded.entry import change_gpus
    from helpers.embedded.steps import Steps

    seen = change_gpus(
        name or cluster_name(),
        Steps(),
        shape=shape,
        replicas=replicas,
        second_card=second_card,
        unhealthy=unhealthy or [],
        healthy=healthy or [],
    )
    typer.echo(f"The node advertises {seen} (simulated).")
