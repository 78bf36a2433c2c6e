"""`course restore`: labs solved before, back in seconds: for whoever skips a lab, and for tests.

What is kept is a whole cluster on which exactly these labs were started, solved by their solutions
and graded PASS, with the journals of that grade. It lies in the cache under the hash of all that made
it, so that a change of a solution, a manifest or the course's own code asks for it to be made anew.
The node's part is root's, the journals are the user's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helpers.errors import EnvironmentFault
from helpers.settings import REPOSITORY, home_dir, kubeconfig_path
from helpers.terminal import LABS

if TYPE_CHECKING:
    from helpers.cluster import ClusterView, Resource
    from helpers.embedded.steps import Steps

# The cluster on which labs are solved to be kept; deleted as soon as they are.
SOLVING = "solving"
READY_S = 240.0
# What `grade` and the experiments of the labs wrote about the cluster, by its uid.
RECORDS = ("journals", "experiments")
RECORDS_KIND, RECORDS_KEPT = "solved-records", 8
_CHOICES = ("COURSE_KUBECONFIG", "COURSE_CONTEXT", "COURSE_SCOPE", "KUBECONFIG")


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
        if make:
            ensure_kept(numbers, steps)
        bring_back(numbers, chosen, steps, replace=replace)
    other = f" (export COURSE_CLUSTER={chosen})" if chosen != cluster_name() else ""
    typer.echo(f"{chosen}: solved {', '.join(numbers)}. Next: course grade {' '.join(numbers)}{other}")


def kept(labs: Sequence[str]) -> str:
    """The key under which a cluster with these labs solved is kept.

    Raises:
        NotKept: there is none that this version of the course made.
    """
    from helpers.embedded import cache, entry

    key = _key(labs)
    if cache.lookup(RECORDS_KIND, key) is None or not entry.is_kept(key):
        words = " ".join(labs)
        raise NotKept(
            f"no cluster is kept on which this version of the course has solved {words}",
            next_command=f"course restore {words} --make, which solves it now and keeps it for the next time",
        )
    return key


def ensure_kept(labs: Sequence[str], steps: Steps) -> str:
    """The same, solved and graded now on a cluster of its own where there is none."""
    from helpers.embedded import entry

    home_dir().mkdir(parents=True, exist_ok=True)
    with (home_dir() / "solving.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return kept(labs)
        except NotKept:
            entry.down(SOLVING, steps, delete=True)  # what a killed run left
        try:
            _solve(labs, steps)
            return keep(labs, SOLVING, steps)
        finally:
            entry.down(SOLVING, steps, delete=True)


def keep(labs: Sequence[str], name: str, steps: Steps) -> str:
    """Keep a copy of this cluster, on which these labs and no others were solved and graded PASS.

    It is stopped for that. A copy that was kept before gives way. Returns the key.
    """
    from helpers.cluster import Cluster, Scope
    from helpers.embedded import cache, entry

    key = _key(labs)
    uid = Cluster.connect(kubeconfig=kubeconfig_path(name), scope=Scope()).identity().uid
    entry.down(name, steps)
    entry.keep(name, key, steps, label=" ".join(labs))

    def fill(content: Path) -> None:
        for records in RECORDS:
            for source in (home_dir() / records).glob(f"*{uid}*"):
                shutil.copytree(source, content / records / source.name)

    cache.renew(RECORDS_KIND, key, fill)
    cache.keep_newest(RECORDS_KIND, RECORDS_KEPT)
    return key


def bring_back(labs: Sequence[str], name: str, steps: Steps, *, replace: bool = False) -> None:
    """Start a copy of the kept cluster, with its journals; returns when all its workloads are ready.

    Raises:
        NotKept: there is none that this version of the course made.
    """
    from helpers.cluster import Cluster, Scope
    from helpers.embedded import cache, entry

    key = kept(labs)
    began = time.time()
    entry.put_back(name, key, steps, replace=replace)
    content = cache.lookup(RECORDS_KIND, key)
    for records in RECORDS:
        for source in (content / records).glob("*") if content else ():
            shutil.copytree(source, home_dir() / records / source.name, dirs_exist_ok=True)
    cluster = Cluster.connect(kubeconfig=kubeconfig_path(name), scope=Scope())
    with steps.step("Waiting for the workloads to be ready again"):
        cluster.wait_until(
            "the workloads are ready again", lambda view: _ready(view, began), timeout_s=READY_S
        )


def _ready(view: ClusterView, started: float) -> bool:
    """Whether every container runs that should, since this start, and every Service leads to its pods.

    The API still shows the former pods and addresses, until kubelet and controllers have looked again.
    """
    from helpers.cluster.resource import OVER
    from helpers.cluster.waits import NotYet

    pods = [
        pod
        for pod in view.list("Pod", all_namespaces=True)
        if pod.path("status.phase") not in OVER and pod.path("spec.nodeName")
    ]
    for pod in pods:
        if not _runs_since(pod, started):
            raise NotYet(f"{pod} is not ready again")
    for service in view.list("Service", all_namespaces=True):
        selector = (service.path("spec.selector") or {}).items()
        behind = {
            pod.path("status.podIP")
            for pod in pods
            if pod.namespace == service.namespace and selector and selector <= pod.labels.items()
        }
        if selector and set(view.endpoint_slices(service.name, str(service.namespace))) != behind:
            raise NotYet(f"{service} does not lead to its pods again")
    return True


def _runs_since(pod: Resource, started: float) -> bool:
    from datetime import datetime

    conditions = {item["type"]: item["status"] for item in pod.path("status.conditions") or ()}
    states = [item["state"].get("running") for item in pod.path("status.containerStatuses") or ()]
    since = [datetime.fromisoformat(state["startedAt"]).timestamp() for state in states if state]
    return conditions.get("Ready") == "True" and all(second >= started - 1 for second in since)


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


def _solve(labs: Sequence[str], steps: Steps) -> None:
    """Solve these labs and grade them PASS, on a new cluster of their own."""
    words = " ".join(labs)
    for title, *command in (
        ("Starting a cluster of its own", "up", "--name", SOLVING),
        *((f"Solving lab {lab}", "solve", lab) for lab in labs),
        (f"Grading {words}", "grade", *labs),
    ):
        _course(command, title, steps)


def _course(command: Sequence[str], title: str, steps: Steps) -> None:
    from helpers.embedded.steps import run

    environment = {name: value for name, value in os.environ.items() if name not in _CHOICES}
    with steps.step(title) as step:
        run(
            [sys.executable, "-m", "helpers.cli", *command],
            step=step,
            env=environment | {"COURSE_CLUSTER": SOLVING},
            cwd=REPOSITORY,
            next_command=f"course {' '.join(command)}, on a cluster of your own",
        )
