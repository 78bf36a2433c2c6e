"""The node: a tree of processes in namespaces of its own, started and stopped as one thing.

Nothing about a running node is stored: it is found again among the machine's processes by its
state folder, which its PID 1 carries in its arguments.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from helpers.embedded.addresses import Addresses
from helpers.embedded.elevate import as_root
from helpers.embedded.steps import StepFailed
from helpers.errors import EnvironmentFault

SCRIPTS = Path(__file__).parent / "node"
CGROUP_ROOT = Path("/sys/fs/cgroup")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("--mount", "--net", "--pid", "--uts", "--ipc", "--cgroup")
SOCKET = Path("run/containerd/containerd.sock")
INIT = "/usr/bin/catatonit"
BOOT = "/opt/course/node/boot.sh"


class StillRunning(EnvironmentFault):
    """Something cannot be done while a cluster runs."""


@dataclass(frozen=True)
class Sandbox:
    """One node: its state folder and its addresses on this machine."""

    folder: Path
    addresses: Addresses

    @property
    def cgroup(self) -> str:
        """The node's folder below `course/` in every cgroup hierarchy."""
        return self.addresses.interface

    def pid(self) -> int | None:
        """The node's PID 1 as this machine numbers it, or None when it does not run."""
        for pid, words in _processes():
            if words[-1:] == [str(self.folder)] and words[:1] == [INIT]:
                return pid
        return None

    def start(self, layers: Sequence[Path]) -> int:
        """Start the node over read-only `layers` (the uppermost first), and return its PID 1."""
        addresses = self.addresses
        for scratch in ("upper", "work"):
            shutil.rmtree(self.folder / scratch, ignore_errors=True)
            (self.folder / scratch).mkdir(parents=True)
        command = [
            SCRIPTS / "keeper.sh",
            self.folder,
            self.cgroup,
            addresses.interface,
            addresses.host,
            addresses.node,
            addresses.inside,
            ":".join(str(layer) for layer in layers),
        ]
        with (self.folder / "keeper.log").open("w") as log:
            keeper = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={"PATH": PATH},
            )
        return self._wait_for_pid(keeper)

    def stop(self, *, timeout_s: float = 20.0) -> None:
        """Kill the node; its processes, mounts, interfaces and rules go with its namespaces."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            alive = [pid for pid, words in _processes() if self._owns(words)]
            if not alive and not self.addresses.in_use() and not _cgroups(self.cgroup):
                remove_cgroups(self.cgroup)  # the keeper may have been killed before its last step
                return
            for pid in alive:
                self._kill(pid)
            if not alive:
                self.addresses.release()
                remove_cgroups(self.cgroup)
            time.sleep(0.05)
        raise StepFailed(
            f"the node in {self.folder} did not end in {timeout_s:.0f} s", next_command="course doctor"
        )

    def run(self, command: Sequence[str], *, pid: int | None = None) -> list[str]:
        """The words that run `command` inside the node."""
        target = pid or self.pid()
        if target is None:
            raise StepFailed("the node does not run", next_command="course up")
        entered = ["nsenter", "--target", str(target), *NAMESPACES]
        return as_root([*entered, "env", "-i", f"PATH={PATH}", "HOME=/root", *command])

    def path(self, inside: str | Path, *, pid: int) -> Path:
        """A path of the running node as this machine reaches it."""
        return Path(f"/proc/{pid}/root") / str(inside).lstrip("/")

    def data(self, inside: str) -> Path:
        """A folder of the node that is a real folder here, running or not."""
        return self.folder / "data" / inside.lstrip("/")

    def log_tails(self, patterns: Sequence[str], lines: int = 6) -> str:
        """The last lines of the newest log that each pattern below `/var/log` finds, running or not."""
        tails = []
        for pattern in patterns:
            found = sorted(self.data("var/log").glob(pattern), key=lambda path: path.stat().st_mtime)
            if found:
                last = found[-1].read_text(errors="replace").splitlines()[-lines:]
                tails.append("\n".join([f"== {found[-1]}", *last]))
        return "\n".join(tails)

    def _owns(self, words: Sequence[str]) -> bool:
        """PID 1 and the keeper carry the state folder; everything else is inside PID 1's namespace."""
        first = Path(words[0]).name
        if str(self.folder) not in words:
            return False
        return first in {"catatonit", "unshare"} or any(
            word.endswith(("keeper.sh", "enter.sh")) for word in words
        )

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError, FileNotFoundError):  # it has ended by itself meanwhile
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            # The keeper outlives the node to remove its cgroup.
            if any(word.endswith(b"/keeper.sh") for word in words) and self.pid() is not None:
                return
            os.kill(pid, signal.SIGKILL)

    def _wait_for_pid(self, keeper: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            pid = self.pid()
            if pid is not None:
                return pid
            if keeper.poll() is not None:
                break
            time.sleep(0.02)
        log = (self.folder / "keeper.log").read_text(errors="replace")
        raise StepFailed(f"the node did not start\n{log}", next_command="course doctor")


def require_none_running() -> None:
    """Running nodes lie on the cache's folders: raises StillRunning when there is one."""
    for _, words in _processes():
        if words[:1] == [INIT] and BOOT in words:
            name = Path(words[-1]).name
            raise StillRunning(f"the cluster {name} runs on it", next_command=f"course down --name {name}")


def remove_cgroups(name: str) -> None:
    """Remove one node's cgroups, deepest first: stale ones cost the next start seconds each.

    The folder `course` above them goes with the last node.
    """
    for top in _cgroups(name):
        for folder, _, _ in os.walk(top, topdown=False):
            _remove_if_idle(Path(folder))
    for parent in cgroup_parents():
        _remove_if_idle(parent)


def _remove_if_idle(cgroup: Path) -> None:
    with suppress(OSError):  # still busy: a process in it is ending, or another node's cgroup is in it
        cgroup.rmdir()


def cgroup_parents() -> list[Path]:
    """The folder `course` of each cgroup hierarchy in which a node runs: one in v2, several in v1."""
    candidates = [CGROUP_ROOT / "course", *CGROUP_ROOT.glob("*/course")]
    return [folder for folder in candidates if folder.is_dir()]


def _cgroups(name: str) -> list[Path]:
    return [folder / name for folder in cgroup_parents() if (folder / name).is_dir()]


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            words = _words(entry)
            if words:
                yield int(entry.name), words


def _words(process: Path) -> list[str]:
    try:
        raw = (process / "cmdline").read_bytes()
    except OSError:  # it ended meanwhile
        return []
    return [word.decode(errors="replace") for word in _trimmed(raw.split(b"\0"))]


def _trimmed(words: Iterable[bytes]) -> list[bytes]:
    kept = list(words)
    return kept[:-1] if kept and not kept[-1] else kept
