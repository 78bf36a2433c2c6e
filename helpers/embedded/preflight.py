"""What this machine must be for a node to run on it; each fault is one sentence and the next command.

Missing system packages are installed, not complained about: the course runs as root on Debian or
Ubuntu, and a fresh machine is the usual case.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.embedded.addresses import Addresses, taken_by_routes
from helpers.embedded.steps import Steps, run
from helpers.errors import EnvironmentFault
from helpers.settings import cache_dir, node_cache_dir, node_home

# A command that the course runs on the host -> the Debian package that has it.
HOST_PACKAGES = {
    "ar": "binutils",
    "gcc": "gcc",
    "ip": "iproute2",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "unshare": "util-linux",
    "zstd": "zstd",
}
GIB = 1 << 30
BUILD_DISK_GIB = 6
RUN_DISK_GIB = 2
MEMORY_GIB = 1.5
# An overlay's upper layer cannot lie on these.
NOT_UPPER = {"overlay", "nfs", "nfs4", "vfat", "9p", "fuse", "fuseblk"}
_NETLINK_NETFILTER = 12


class BadGround(EnvironmentFault):
    """This machine cannot run a node as it is."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with the machine, and what to do about it."""

    problem: str
    next_command: str


def require(steps: Steps) -> None:
    """Make the machine ready for a node, or raise BadGround with the first thing that is wrong."""
    for fault in _platform_faults():
        raise BadGround(fault.problem, next_command=fault.next_command)
    install_packages(steps)
    for fault in machine_faults():
        raise BadGround(fault.problem, next_command=fault.next_command)


def machine_faults() -> list[Fault]:
    """Everything that is wrong with the machine itself, apart from packages that `up` installs."""
    checks: tuple[Callable[[], Iterator[Fault]], ...] = (
        _platform_faults,
        _kernel_faults,
        _folder_faults,
        _space_faults,
    )
    return [fault for check in checks for fault in check()]


def require_subnet(addresses: Addresses) -> None:
    """A node that is about to start needs its two addresses and its interface's name for itself."""
    if addresses.in_use():
        raise BadGround(
            f"the interface {addresses.interface} exists and belongs to no cluster known here",
            next_command=f"ip address show {addresses.interface}",
        )
    if addresses.slot in taken_by_routes():
        raise BadGround(
            f"the network 198.18.{addresses.slot}.0/30 is in use on this machine",
            next_command="ip route; then: course down --delete, course up",
        )


def other_kubelets() -> list[int]:
    """Kubelets outside any node of ours. They do no harm: a node shares no folder, port or cgroup."""
    ours = Path("/proc/self/ns/pid").stat().st_ino
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text().strip() == "kubelet":
                found += [int(entry.name)] if (entry / "ns/pid").stat().st_ino == ours else []
        except OSError:  # it ended meanwhile
            continue
    return found


def missing_packages() -> list[str]:
    """Debian packages whose commands this machine lacks."""
    return sorted({package for command, package in HOST_PACKAGES.items() if shutil.which(command) is None})


def install_packages(steps: Steps) -> None:
    """Install what is missing through apt-get."""
    missing = missing_packages()
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise BadGround(
            f"these packages are missing, and there is no apt-get to install them: {' '.join(missing)}",
            next_command="install them, then: course up",
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with steps.step(f"Installing {', '.join(missing)}") as step:
        log = node_cache_dir() / "logs" / "apt.log"
        run(["apt-get", "update", "-q"], step=step, env=environment, log=log)
        command = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing]
        run(command, step=step, env=environment, log=log, next_command=f"apt-get install {' '.join(missing)}")


def _platform_faults() -> Iterator[Fault]:
    elsewhere = "course use --context NAME works against any Kubernetes"
    if platform.system() != "Linux":
        yield Fault(f"the embedded cluster needs Linux, this is {platform.system()}", elsewhere)
        return
    if os.geteuid() != 0:
        yield Fault(
            "a node needs root: it makes namespaces and mounts",
            "course up, as root or as a user who may use sudo",
        )


def _kernel_faults() -> Iterator[Fault]:
    for module, known in (("overlay", _has_overlay), ("nf_tables", _has_nf_tables)):
        if not known() and not (_modprobe(module) and known()):
            yield Fault(f"this kernel lacks {module}", f"modprobe {module}")
    for namespace in ("mnt", "net", "pid", "uts", "ipc", "cgroup"):
        if not Path("/proc/self/ns", namespace).exists():
            yield Fault(f"this kernel lacks {namespace} namespaces", "uname -r")
    absent = [name for name in ("cpu", "memory", "pids") if name not in _controllers()]
    if absent:
        yield Fault(
            f"no cgroup controller for {', '.join(absent)}", "mount -t cgroup,cgroup2; cat /proc/cgroups"
        )


def _space_faults() -> Iterator[Fault]:
    built = (node_cache_dir() / "seeds").exists()
    need = RUN_DISK_GIB if built else BUILD_DISK_GIB
    for folder in dict.fromkeys((cache_dir(), node_cache_dir(), node_home())):
        free = shutil.disk_usage(_existing(folder)).free / GIB
        if free < need:
            yield Fault(
                f"{folder} has {free:.1f} GiB free, {need} GiB are needed", f"df -h {_existing(folder)}"
            )
    available = _memory_available_gib()
    if available < MEMORY_GIB:
        yield Fault(f"{available:.1f} GiB of memory are available, a node needs {MEMORY_GIB}", "free -h")


def _folder_faults() -> Iterator[Fault]:
    """The node's root is an overlay mount of folders of the cache and the home."""
    for folder, variable in ((cache_dir(), "COURSE_CACHE"), (node_home(), "COURSE_HOME")):
        if set(str(folder.absolute())) & set(":,\\"):
            yield Fault(
                f"{folder} cannot be mounted: its name has a colon or a comma", f"export {variable}=DIR"
            )
    kind = _file_system(node_home())
    if kind in NOT_UPPER:
        problem = f"{node_home()} is on {kind}, which cannot hold a node's state"
        yield Fault(problem, "export COURSE_HOME=DIR (on a disk); then: course up")


def _file_system(folder: Path) -> str:
    """The type of the file system that a folder is on, by the longest mount point above it."""
    place = str(_existing(folder.absolute()).resolve())
    best, kind = "", ""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4]
        if (place + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
            best, kind = point, after.split()[0]
    return kind


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())


def _memory_available_gib() -> float:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / GIB
    return 0.0


def _has_overlay() -> bool:
    return "\toverlay\n" in Path("/proc/filesystems").read_text()


def _has_nf_tables() -> bool:
    """Ask the kernel for its ruleset's generation: only nf_tables answers (NFT_MSG_GETGEN)."""
    request = (
        (20).to_bytes(4, "little") + (0x0A10).to_bytes(2, "little") + (5).to_bytes(2, "little") + bytes(12)
    )
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as link:
            link.settimeout(1)
            link.send(request)
            return link.recv(4096)[4:6] == (0x0A0F).to_bytes(2, "little")
    except OSError:
        return False


def _modprobe(module: str) -> bool:
    try:
        return subprocess.run(["modprobe", module], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


def _controllers() -> set[str]:
    unified = Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        return set(unified.read_text().split())
    rows = [line.split() for line in Path("/proc/cgroups").read_text().splitlines() if line[:1] != "#"]
    return {name for name, _, _, enabled in rows if enabled == "1"}
