"""The commands of the embedded cluster: `course up | down | status | doctor | kubeconfig | gpu`."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Annotated, ParamSpec

import typer

from helpers.errors import LabError
from helpers.settings import cluster_name

P = ParamSpec("P")
Name = Annotated[
    str, typer.Option("--name", help="Which cluster; several can run side by side.", show_default="lab")
]


def register(app: typer.Typer) -> None:
    """Add the embedded cluster's commands to the command line."""
    for command in (up, down, kubeconfig, gpu):
        app.command()(command)


def _plainly(command: Callable[P, None]) -> Callable[P, None]:
    """Errors as a sentence and the next command; Ctrl-C as a word and not a traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except LabError as fault:
            typer.secho(str(fault), fg=typer.colors.RED, err=True)
            if fault.next_command:
                typer.secho(f"Next: {fault.next_command}", err=True)
            raise typer.Exit(2) from fault
        except KeyboardInterrupt:
            typer.secho("Interrupted. `course up` goes on from here.", err=True)
            raise typer.Exit(130) from None

    return wrapped


@_plainly
def up(name: Name = "") -> None:
    """Start the embedded cluster, new or as it was left; harmless when it runs already."""
    from helpers.embedded.launch import up as launch
    from helpers.embedded.steps import Steps

    steps = Steps()
    with steps.total():
        launch(name or cluster_name(), steps)


@_plainly
def down(
    name: Name = "",
    delete: Annotated[bool, typer.Option("--delete", help="Forget its state too.")] = False,
) -> None:
    """Stop the embedded cluster without a trace; its state is kept unless --delete."""
    from helpers.embedded.launch import down as stop

    chosen = name or cluster_name()
    ran = stop(chosen, delete=delete)
    typer.echo(f"{chosen}: {'stopped' if ran else 'was not running'}{', state deleted' if delete else ''}")


@_plainly
def kubeconfig(name: Name = "") -> None:
    """Print the path of the cluster's kubeconfig: `export KUBECONFIG=$(course kubeconfig)`."""
    from helpers.errors import NoClusterChosen
    from helpers.settings import kubeconfig_path

    path = kubeconfig_path(name or cluster_name())
    if not path.exists():
        raise NoClusterChosen("no embedded cluster of that name", next_command="course up")
    typer.echo(path)


@_plainly
def gpu(
    shape: Annotated[str, typer.Option(help="full, mig or time-slicing.")] = "",
    replicas: Annotated[int, typer.Option(help="Time slices of the GPU.", min=2, max=64)] = 4,
    unhealthy: Annotated[list[str] | None, typer.Option(help="Mark a device unhealthy, or `all`.")] = None,
    healthy: Annotated[list[str] | None, typer.Option(help="Mark a device healthy again, or `all`.")] = None,
    name: Name = "",
) -> None:
    """Change what the node's device plugin advertises, as an administrator would."""
    from helpers.embedded.launch import change_gpus
    from helpers.embedded.steps import Steps

    seen = change_gpus(
        name or cluster_name(),
        Steps(),
        shape=shape,
        replicas=replicas,
        unhealthy=unhealthy or [],
        healthy=healthy or [],
    )
    typer.echo(f"The node advertises {seen} (simulated).")
