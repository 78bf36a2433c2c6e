"""A lab's images: which of them the cluster's nodes lack, and bringing them in beside everything else.

On a cluster of one's own they are made and imported by `course images load`, which is known to the
command line alone; it runs as a process of its own, so that a page can be read meanwhile. What it
says goes to a file, from which every page and every command sees how far it is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.errors import Forbidden
from helpers.settings import REPOSITORY, cluster_name, home_dir

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

# What the kubelet calls an image that it cannot get.
PULL_FAULTS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_ENDED = "exit "


@dataclass(frozen=True)
class PullFault:
    """A container that waits for an image which cannot be pulled."""

    pod: str
    namespace: str
    container: str
    image: str
    reason: str


@dataclass(frozen=True)
class Bringing:
    """Images on their way into the cluster: since when, the latest word, and how it ended."""

    names: tuple[str, ...]
    elapsed_s: float
    said: str
    exit_code: int | None = None

    @property
    def is_running(self) -> bool:
        return self.exit_code is None

    @property
    def failed(self) -> bool:
        return bool(self.exit_code)


def pull_faults(view: ClusterView, namespace: str, *, labels: str | None = None) -> Iterator[PullFault]:
    """The containers of a namespace, init containers too, whose image cannot be pulled."""
    for pod in view.pods(namespace, labels=labels):
        images = {
            item["name"]: item.get("image", "")
            for item in [*pod.containers, *(pod.path("spec.initContainers", []) or [])]
        }
        for state in pod.container_states:
            if state.reason in PULL_FAULTS:
                yield PullFault(pod.name, namespace, state.name, images.get(state.name, ""), state.reason)


def missing(cluster: Cluster, names: Sequence[str]) -> list[str]:
    """Which of these images no node holds, by the kubelets' own lists; none where those may not be read.

    A kubelet lists what it holds every half minute: what came in just now may still be called missing.
    """
    profile = cluster.profile()
    if profile.name != "embedded" or cluster.scope.suffix:
        return []  # elsewhere nodes pull, and a class's images are its instructor's
    try:
        nodes = cluster.view().nodes()
    except Forbidden:
        return []
    held = {
        name
        for node in nodes
        for image in node.path("status.images", []) or []
        for name in image.get("names") or []
    }
    return [name for name in names if profile.images.get(name) not in held]


def bring_in(cluster: Cluster, names: Sequence[str]) -> Bringing | None:
    """Begin to bring in what is missing, unless that is under way; None where nothing is missing."""
    wanted = missing(cluster, names)
    if not wanted:
        return None
    now = bringing()
    if now is not None and now.is_running and set(wanted) <= set(now.names):
        return now
    _start(tuple(wanted))
    return bringing()


def bringing() -> Bringing | None:
    """The latest bringing-in for this cluster; None where there was none."""
    file = _file()
    try:
        lines = [_ANSI.sub("", line).strip() for line in file.read_text().splitlines()]
        began, pid, *names = lines[0].split()
        elapsed_s = time.time() - float(began)
    except (OSError, ValueError, IndexError):
        return None
    said = [line for line in lines[1:] if line and not line.startswith(_ENDED)]
    ended = next((int(line.removeprefix(_ENDED)) for line in lines if line.startswith(_ENDED)), None)
    if ended is None and not _is_alive(int(pid)):
        ended = 1
    return Bringing(tuple(names), elapsed_s, said[-1] if said else "", ended)


def _file() -> Path:
    return home_dir() / "images" / f"{cluster_name()}.log"


def _start(names: tuple[str, ...]) -> None:
    """A process that outlives the page that began it; its last line is its exit code."""
    file = _file()
    file.parent.mkdir(parents=True, exist_ok=True)
    load = [sys.executable, "-m", "helpers.cli", "images", "load", *names]
    script = f'echo {time.time():.1f} $$ {" ".join(names)}; "$@" 2>&1; echo "{_ENDED}$?"'
    with file.open("w") as log:
        process = subprocess.Popen(
            ["nice", "-n", "5", "sh", "-c", script, "sh", *load],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    until = time.monotonic() + 2
    while not file.read_text().strip() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A process that has ended and was not waited for still has a number.
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
