"""What a command puts into a cluster for a moment: gone with the command, however it ends.

A command that ends, fails, is interrupted or told to end takes its namespace away itself. One that is
killed cannot: so each such namespace says whose it is and until when, and whoever makes the next one,
or runs `course doctor`, sweeps those whose process is gone or whose time is over.
"""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import LabError

if TYPE_CHECKING:
    from helpers.cluster.cluster import Cluster

LABEL = "course.llm-stack/temporary"
OWNER, UNTIL = "course.llm-stack/owner", "course.llm-stack/until"
LONGEST = timedelta(minutes=15)


@contextmanager
def temporary_namespace(cluster: Cluster, prefix: str) -> Iterator[str]:
    """A namespace of this command's own, whose name begins with the prefix; earlier ones are swept first."""
    sweep(cluster)
    name = f"{prefix}-{uuid.uuid4().hex[:6]}"
    until = datetime.now(UTC) + LONGEST
    metadata: dict[str, Any] = {
        "name": name,
        "labels": {LABEL: "true"},
        "annotations": {OWNER: _this_process(), UNTIL: until.isoformat(timespec="seconds")},
    }
    try:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        yield name
    finally:
        # Nothing is said before this: whoever listens may be gone, and that must not keep it here.
        with suppress(LabError):  # a cluster that is away keeps it for the next sweep
            cluster.delete_namespace(name, wait_s=0)


def sweep(cluster: Cluster) -> list[str]:
    """Take away what killed commands left; the names of those namespaces."""
    try:
        found = cluster.view().list("Namespace", labels=LABEL)
        return [
            item.name
            for item in found
            if _is_over(item.metadata.get("annotations") or {})
            and not item.is_terminating
            and cluster.delete_namespace(item.name, wait_s=0)
        ]
    except LabError:
        return []  # who may not look may not make one either


def _this_process(pid: int | None = None) -> str:
    """This boot of this machine, and one process of it, told from a later one of the same number."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        place = f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        place = f"{platform.node()}/"  # no Linux: only the time tells
    return f"{place}/{pid or os.getpid()}/{_began(pid or os.getpid())}"


def _began(pid: int) -> str:
    """When a process started, in ticks since boot; empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _is_over(annotations: dict[str, Any]) -> bool:
    try:
        if datetime.fromisoformat(str(annotations.get(UNTIL))) < datetime.now(UTC):
            return True
        here, theirs = _this_process().split("/"), str(annotations.get(OWNER)).split("/")
        of_this_machine = len(theirs) == len(here) and theirs[:-2] == here[:-2]
        return of_this_machine and _began(int(theirs[-2])) != theirs[-1]
    except (ValueError, TypeError):
        return True  # not what this course writes
