"""Each node's two addresses on this machine: 198.18.N.1 here, 198.18.N.2 in the node.

198.18.0.0/15 is set aside for tests inside one network (RFC 2544), so no real host has them.
"""

from __future__ import annotations

import fcntl
import json
import subprocess
import zlib
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path

from helpers.errors import EnvironmentFault

SLOTS = 256
FILE = "subnet"
# In the state itself: it goes where a copy of the state goes.
BORN_INSIDE = "etc/course/born"
BORN = f"data/{BORN_INSIDE}"


class NoSubnetFree(EnvironmentFault):
    """Every subnet that a node could use is taken on this machine."""


@dataclass(frozen=True)
class Addresses:
    """One node's place in 198.18.0.0/16."""

    slot: int
    # The slot that the state was made in, where it was restored into another one.
    born: int | None = None

    @property
    def host(self) -> str:
        return f"198.18.{self.slot}.1"

    @property
    def node(self) -> str:
        return f"198.18.{self.slot}.2"

    @property
    def inside(self) -> str:
        """The address by which the node's own parts know it: its certificates and etcd carry it."""
        return f"198.18.{self.slot if self.born is None else self.born}.2"

    @property
    def interface(self) -> str:
        return f"course{self.slot}"

    def in_use(self) -> bool:
        """Whether this machine has the node's interface now."""
        return Path("/sys/class/net", self.interface).exists()

    def release(self) -> None:
        """Remove the interface that a killed node left: its network may outlive it for a minute."""
        subprocess.run(["ip", "link", "delete", self.interface], capture_output=True, check=False)


def stored(folder: Path) -> Addresses | None:
    """The addresses a cluster has had since it was made or restored here."""
    slot = _number(folder / FILE)
    return None if slot is None else Addresses(slot, _number(folder / BORN))


def choose(folder: Path) -> Addresses:
    """The cluster's addresses: the ones it has, or free ones, which are then remembered."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".subnets.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return stored(folder) or _choose(folder)


def _choose(folder: Path) -> Addresses:
    taken = _taken_by_clusters(folder.parent) | taken_by_routes()
    # A name's first choice is always the same, so that a cluster usually keeps its address when made anew.
    first = 0 if folder.name == "lab" else 1 + zlib.crc32(folder.name.encode()) % (SLOTS - 1)
    for offset in range(SLOTS):
        slot = (first + offset) % SLOTS
        if slot not in taken and not Addresses(slot).in_use():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FILE).write_text(f"{slot}\n")
            return Addresses(slot, _number(folder / BORN))
    raise NoSubnetFree("no 198.18.N.0/30 is free on this machine", next_command="ip route")


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _taken_by_clusters(clusters: Path) -> set[int]:
    return {found.slot for folder in clusters.glob("*") if (found := stored(folder)) is not None}


def taken_by_routes() -> set[int]:
    """Slots whose addresses this machine routes somewhere already."""
    output = subprocess.run(["ip", "-json", "route"], capture_output=True, text=True, check=True).stdout
    taken = set()
    for route in json.loads(output or "[]"):
        if route["dst"] == "default":
            continue
        network = ip_network(route["dst"], strict=False)
        taken |= {slot for slot in range(SLOTS) if network.overlaps(ip_network(f"198.18.{slot}.0/30"))}
    return taken
