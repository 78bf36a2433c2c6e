"""What runs, in facts that are each read from the machine or the cluster now."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.embedded import launch, observe
from helpers.settings import kubeconfig_path

CONTROL_PLANE = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "containerd",
    "coredns",
)
MIB = 1 << 20


@dataclass(frozen=True)
class State:
    """One cluster: none, kept (it can be started again) or running."""

    name: str
    word: str
    facts: dict[str, str]


def state(name: str) -> State:
    """What there is of the cluster of that name."""
    sandbox = launch.existing(name)
    if sandbox is None:
        return State(name, "none", {})
    pid = sandbox.pid()
    if pid is None:
        return State(name, "kept", {"state": str(sandbox.folder)})
    answers = {
        one.title: one.answer() or "no answer"
        for one in observe.observations(sandbox, pid, started=observe.started_at(pid))
    }
    memory = control_plane_memory_mib(pid)
    facts = {
        **answers,
        **{title: f"{answers[title]} (simulated)" for title in ("GPU devices", "GPU metrics")},
        "address": sandbox.addresses.node,
        "control plane memory": f"{sum(memory.values()):.0f} MiB",
        "kubeconfig": str(kubeconfig_path(name)),
        "state": str(sandbox.folder),
    }
    return State(name, "running", facts)


def control_plane_memory_mib(pid: int) -> dict[str, float]:
    """Resident memory of each part of the node whose PID 1 is `pid`."""
    parents = dict(_parents())
    sizes: dict[str, float] = {}
    for process in parents:
        if _descends(process, pid, parents):
            with contextlib.suppress(OSError):
                command, size = _command_and_size(process)
                if command in CONTROL_PLANE:
                    sizes[command] = sizes.get(command, 0.0) + size
    return sizes


def _parents() -> Iterator[tuple[int, int]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                yield int(entry.name), int((entry / "stat").read_text().rpartition(")")[2].split()[1])


def _descends(process: int, ancestor: int, parents: dict[int, int]) -> bool:
    while process in parents and process != ancestor:
        process = parents[process]
    return process == ancestor


def _command_and_size(process: int) -> tuple[str, float]:
    folder = Path(f"/proc/{process}")
    command = (folder / "cmdline").read_bytes().split(b"\0")[0].decode().rsplit("/", 1)[-1]
    pages = int((folder / "statm").read_text().split()[1])
    return command, pages * os.sysconf("SC_PAGE_SIZE") / MIB
