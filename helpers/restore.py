"""`course restore`: labs solved before, back in seconds: for whoever skips a lab, and for tests.

What is kept is a whole cluster on which exactly these labs were started, solved by their solutions
and graded PASS, with the journals of that grade. It lies in the cache under the hash of all that made
it, so that a change of a solution, a manifest or the course's own code asks for it to be made anew.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helpers.errors import EnvironmentFault
from helpers.settings import REPOSITORY, cluster_dir, home_dir, kubeconfig_path
from helpers.terminal import LABS

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.embedded.sandbox import Sandbox
    from helpers.embedded.steps import Steps

KIND = "solved"
CLUSTER = "solved"
READY_S = 240.0
# What `grade` and the experiments of the labs wrote about the cluster, by its uid.
RECORDS = ("journals", "experiments")
_CHOICES = ("COURSE_KUBECONFIG", "COURSE_CONTEXT", "COURSE_SCOPE", "KUBECONFIG")
_ENDED = {"Succeeded", "Failed"}


class NotKept(EnvironmentFault):
    """No cluster with these labs solved is kept for this version of the course."""


def register(app: typer.Typer) -> None:
    """Add `course restore` to the command line."""
    app.command(rich_help_panel=LABS)(restore)


def restore(
    labs: Annotated[list[str], typer.Argument(metavar="LAB...", help="The labs' numbers, such as 01 02.")],
    make: Annotated[
        bool,
        typer.Option("--make", help="Solve them now, on a cluster apart, where no solved cluster is kept."),
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete the cluster that is there, with all work on it.")
    ] = False,
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="Which cluster it becomes.", show_default="lab")
    ] = "",
) -> None:
    """Start a cluster on which these labs are solved already: a kept copy, in seconds.

    Nothing else is on it: name all labs that you want solved, in their order.
    """
    from helpers.embedded.steps import Steps
    from helpers.grading.solution import notebook_of
    from helpers.settings import cluster_name

    numbers = [notebook_of(lab, "solutions").name[:2] for lab in dict.fromkeys(labs)]
    chosen, steps = name or cluster_name(), Steps()
    with steps.total():
        home = ensure_kept(numbers, steps) if make else kept(numbers)
        bring_back(home, chosen, steps, replace=replace)
    other = f" (export COURSE_CLUSTER={chosen})" if chosen != cluster_name() else ""
    typer.echo(f"{chosen}: solved {', '.join(numbers)}. Next: course grade {' '.join(numbers)}{other}")


def kept(labs: Sequence[str]) -> Path:
    """The home in which a cluster with these labs solved is kept.

    Raises:
        NotKept: there is none that this version of the course made.
    """
    from helpers.embedded import cache

    found = cache.lookup(KIND, _key(labs))
    if found is None:
        words = " ".join(labs)
        raise NotKept(
            f"no cluster is kept on which this version of the course has solved {words}",
            next_command=f"course restore {words} --make, which solves it now and keeps it for the next time",
        )
    return found


def ensure_kept(labs: Sequence[str], steps: Steps) -> Path:
    """The same, solved and graded now on a cluster of its own where there is none."""
    from helpers.embedded import cache

    key = _key(labs)
    if cache.lookup(KIND, key) is None:
        cache.sweep(KIND, _stop)
    home = cache.ensure(KIND, key, lambda content: _solve(labs, content, steps))
    _forget_older(labs, home)
    return home


def keep(labs: Sequence[str], name: str, steps: Steps) -> Path:
    """Keep a copy of this cluster, on which these labs and no others were solved and graded PASS.

    It is stopped for that. A copy that was kept before gives way.
    """
    from helpers.embedded import cache, kept, launch

    key, folder = _key(labs), cluster_dir(name)
    shutil.rmtree(cache.cache_dir() / KIND / key, ignore_errors=True)
    launch.down(name, steps)

    def fill(home: Path) -> None:
        with steps.step("Copying the cluster's state"):
            kept.copy_state(kept.state_of(folder), home / "clusters" / CLUSTER / "data")
        for records in RECORDS:
            if (home_dir() / records).is_dir():
                shutil.copytree(home_dir() / records, home / records)
        (home / "labs").write_text(f"{' '.join(labs)}\n")

    home = cache.ensure(KIND, key, fill)
    _forget_older(labs, home)
    return home


def bring_back(home: Path, name: str, steps: Steps, *, replace: bool = False) -> Sandbox:
    """Start a copy of the kept cluster, with its journals; returns when all its workloads are ready."""
    from helpers.cluster import Cluster, Scope
    from helpers.embedded import kept, observe

    state = home / "clusters" / CLUSTER / "data"
    sandbox = kept.place(name, state, steps, label=home.parent.name, replace=replace)
    pid = sandbox.pid()
    if pid is None:
        raise EnvironmentFault(f"the cluster {name} ended", next_command="course up")
    for records in RECORDS:
        for source in (home / records).glob("*"):
            target = home_dir() / records / source.name
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
    cluster = Cluster.connect(kubeconfig=kubeconfig_path(name), scope=Scope())
    started = observe.started_at(pid)
    with steps.step("Waiting for the workloads to be ready again"):
        cluster.wait_until(
            "the workloads are ready again", lambda view: _ready(view, started), timeout_s=READY_S
        )
    return sandbox


def _ready(view: ClusterView, started: float) -> bool:
    """Whether every container runs that should, since this start: the API still shows the former one."""
    from datetime import datetime

    from helpers.cluster.waits import NotYet

    for pod in view.list("Pod", all_namespaces=True):
        if pod.path("status.phase") in _ENDED or not pod.path("spec.nodeName"):
            continue
        conditions = {item["type"]: item["status"] for item in pod.path("status.conditions") or ()}
        states = [item["state"].get("running") for item in pod.path("status.containerStatuses") or ()]
        since = [datetime.fromisoformat(state["startedAt"]).timestamp() for state in states if state]
        if conditions.get("Ready") != "True" or any(second < started - 1 for second in since):
            raise NotYet(f"{pod} is not ready again")
    return True


def _key(labs: Sequence[str]) -> str:
    from helpers.embedded import cache

    return cache.key_of([" ".join(labs), *_made_from(labs)])


def _made_from(labs: Sequence[str]) -> Iterator[str | Path]:
    """All files that have a part in solving and grading these labs: their names and their content."""
    from helpers.grading.solution import notebook_of

    trees = [path for tree in ("helpers", "manifests") for path in (REPOSITORY / tree).rglob("*")]
    files = [path for path in trees if path.is_file() and "__pycache__" not in path.parts]
    solutions = [notebook_of(lab, "solutions") for lab in labs]
    for path in (REPOSITORY / "requirements.lock", *solutions, *sorted(files)):
        yield str(path.relative_to(REPOSITORY))
        yield path


def _solve(labs: Sequence[str], home: Path, steps: Steps) -> None:
    """Fill an empty home with a stopped cluster on which these labs are solved and graded PASS."""
    from helpers.embedded import kept

    folder = home / "clusters" / CLUSTER
    words = " ".join(labs)
    try:
        for title, *command in (
            ("Starting a cluster of its own", "up"),
            *((f"Solving lab {lab}", "solve", lab) for lab in labs),
            (f"Grading {words}", "grade", *labs),
        ):
            _course(home, command, title, steps)
    finally:
        _stop(home)
    kept.state_of(folder)
    (home / "labs").write_text(f"{words}\n")
    for path in (*home.glob("*"), *home.glob("clusters/.*"), *folder.glob("*")):
        if path.name not in (*RECORDS, "labs", "clusters", "data"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _course(home: Path, command: Sequence[str], title: str, steps: Steps) -> None:
    from helpers.embedded.steps import run

    environment = {name: value for name, value in os.environ.items() if name not in _CHOICES}
    environment |= {"COURSE_HOME": str(home), "COURSE_CLUSTER": CLUSTER}
    with steps.step(title) as step:
        run(
            [sys.executable, "-m", "helpers.cli", *command],
            step=step,
            env=environment,
            cwd=REPOSITORY,
            next_command=f"course {' '.join(command)}, on a cluster of your own",
        )


def _stop(home: Path) -> None:
    """End the node of a home in the cache, if it runs."""
    from helpers.embedded import addresses
    from helpers.embedded.sandbox import Sandbox

    folder = (home / "clusters" / CLUSTER).absolute()
    known = addresses.stored(folder)
    if known is not None:
        Sandbox(folder, known).stop()


def _forget_older(labs: Sequence[str], home: Path) -> None:
    """Keep two of each: another checkout may be using one of its own."""
    entries = [path.parent.parent for path in home.parent.parent.glob("*/content/labs")]
    mine = [entry for entry in entries if (entry / "content/labs").read_text().split() == list(labs)]
    mine.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in mine[2:]:
        shutil.rmtree(entry, ignore_errors=True)
