"""Clusters of these tests' own, and what they leave on the machine."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from helpers.embedded import launch, observe
from helpers.embedded.sandbox import Sandbox, cgroup_parents
from helpers.embedded.steps import Steps
from helpers.settings import cluster_dir

PATIENCE_S = 90.0


@dataclass(frozen=True)
class Node:
    """A running cluster and what the tests ask of it."""

    name: str
    sandbox: Sandbox

    @property
    def pid(self) -> int:
        pid = self.sandbox.pid()
        assert pid is not None, "the node does not run"
        return pid

    def run(self, *command: str) -> str:
        """Run a command inside the node."""
        words = self.sandbox.run(list(command), pid=self.pid)
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()

    def kubectl(self, *words: str) -> str:
        return self.run("kubectl", f"--kubeconfig=/{observe.ADMINISTRATOR}", *words)

    def process(self, pattern: str) -> int:
        """The oldest process of the node whose command line matches, as the node numbers it."""
        return int(self.run("pgrep", "--oldest", "--full", pattern))

    def healthy(self) -> bool:
        pid = self.pid
        seen = observe.observations(self.sandbox, pid, observe.started_at(pid))
        return all(one.answer() for one in seen)


def quiet() -> Steps:
    return Steps(console=Console(file=io.StringIO()))


def bring_up(name: str) -> Node:
    return Node(name, launch.up(name, quiet()))


def eventually(condition: Callable[[], object], what: str) -> None:
    """Observe until it holds; there is no event to wait for when processes die."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (subprocess.CalledProcessError, AssertionError, OSError):
            pass
        time.sleep(0.1)
    pytest.fail(f"not within {PATIENCE_S:.0f} s: {what}")


def traces(sandbox: Sandbox) -> list[str]:
    """Everything of a cluster that is on the machine now: processes, mounts, interface, routes, cgroups."""
    folder, addresses = str(sandbox.folder), sandbox.addresses
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                if folder.encode() in (entry / "cmdline").read_bytes():
                    found.append(f"process {entry.name}")
            except OSError:
                continue
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if folder in line]
    routes = subprocess.run(["ip", "route"], capture_output=True, text=True, check=True).stdout.splitlines()
    found += [line for line in routes if addresses.interface in line]
    found += [addresses.interface] if addresses.in_use() else []
    found += [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/course/{sandbox.cgroup}")]
    # The folder above goes with the last node: it is never there without one in it.
    found += [str(path) for path in cgroup_parents() if not any(item.is_dir() for item in path.iterdir())]
    return found


def host_tables() -> str:
    """The machine's own nftables ruleset, as text."""
    tool = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True)
    return tool.stdout


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """A cluster for tests that leave it running and healthy."""
    name = f"embedded-{os.getpid()}"
    try:
        yield bring_up(name)
    finally:
        launch.down(name, quiet(), delete=True)


@pytest.fixture
def fresh_name() -> Iterator[str]:
    """A name for a cluster that one test makes and breaks."""
    name = f"fresh-{os.getpid()}"
    yield name
    if cluster_dir(name).exists():
        launch.down(name, quiet(), delete=True)
