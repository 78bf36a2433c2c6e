"""The undo, on disk before the fault is in the cluster.

Faults left behind are the first complaint about every chaos tool. Here an experiment writes how to
undo itself, flushes it to the disk, and only then injects. Whoever comes after a `kill -9` (`course
recover`, or the next experiment) finds the file and carries it out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.chaos.journal import experiments_dir
from helpers.chaos.steps import Step, carry_out
from helpers.errors import ClusterUnreachable, LabError

if TYPE_CHECKING:
    from helpers.cluster import Cluster

UNDO = "undo.json"
DONE = "undone.json"


class UndoFailed(LabError):
    """Part of the undo could not be carried out; it stays on disk."""


@dataclass(frozen=True)
class Undo:
    """One experiment's undo as it lies on disk; `owner` is the process that may still be running it."""

    folder: Path
    experiment: str
    steps: tuple[Step, ...]
    owner: int
    secret: bool = False

    @property
    def shown(self) -> str:
        """How it is called before somebody who may not know what was broken."""
        return (
            f"a{'n' if self.experiment[:1] in 'aeiou' else ''} {self.experiment.replace('-', ' ')}"
            if self.secret
            else self.experiment
        )

    @property
    def is_running(self) -> bool:
        """Whether the process that injected the fault is still there to undo it."""
        try:
            started = _started(self.owner)
        except OSError:
            return False
        return started <= (self.folder / UNDO).stat().st_mtime + 1 and self.owner != os.getpid()


def write_undo(folder: Path, experiment: str, steps: Sequence[Step], *, secret: bool = False) -> Undo:
    """Write the undo and flush it, folder included, so that it survives a power cut."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "experiment": experiment,
        "owner": os.getpid(),
        "secret": secret,
        "steps": [step.to_json() for step in steps],
    }
    temporary = folder / f".{UNDO}"
    with temporary.open("w") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / UNDO)
    _sync_folder(folder)
    return Undo(folder, experiment, tuple(steps), os.getpid(), secret)


def read_undo(folder: Path) -> Undo:
    """Read an undo back; LabError when the file is not one of ours."""
    try:
        data = json.loads((folder / UNDO).read_text())
        steps = tuple(Step.from_json(item) for item in data["steps"])
        return Undo(folder, data["experiment"], steps, int(data["owner"]), bool(data.get("secret")))
    except (ValueError, KeyError, TypeError) as error:
        raise LabError(f"{folder / UNDO} cannot be read: {error}") from error


def pending(cluster_uid: str) -> list[Undo]:
    """Every undo of this cluster that was written and not carried out, oldest first."""
    folders = sorted(path.parent for path in experiments_dir(cluster_uid).glob(f"*/{UNDO}"))
    return [read_undo(folder) for folder in folders if not (folder / DONE).exists()]


def undo(cluster: Cluster, entry: Undo, *, before: Callable[[Step], None] = lambda step: None) -> None:
    """Carry out every step, also after one failed, and mark it done only when all succeeded.

    Args:
        before: called with each step before it is carried out.

    Raises:
        ClusterUnreachable: at once; everything is still on disk.
        UndoFailed: naming the steps that failed.
    """
    failed = []
    for step in entry.steps:
        try:
            before(step)
            carry_out(cluster, step)
        except ClusterUnreachable:
            raise
        except LabError as error:
            failed.append(f"{step}: {error}")
    if failed:
        raise UndoFailed("; ".join(failed), next_command="course recover")
    (entry.folder / DONE).write_text("{}")
    _sync_folder(entry.folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _started(pid: int) -> float:
    """When a process started (seconds since the epoch): a reused process id is not the owner."""
    text = Path(f"/proc/{pid}/stat").read_text()
    ticks = int(text.rpartition(")")[2].split()[19])
    boot = next(
        int(line.split()[1])
        for line in Path("/proc/stat").read_text().splitlines()
        if line.startswith("btime")
    )
    return boot + ticks / os.sysconf("SC_CLK_TCK")
