"""The daemon's loop: follow the cluster, compile, load; from a change to the kernel in milliseconds."""

from __future__ import annotations

import json
import logging
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from helpers.embedded.kubeapi import Api, follow
from helpers.embedded.policy.attachments import follow_attachments
from helpers.embedded.policy.compile import TABLE, compile_ruleset
from helpers.embedded.policy.model import State, namespace_of, pod_of, policy_of

log = logging.getLogger(__name__)

# Changes come in bursts (a Deployment's pods): wait this long for the rest of one.
GATHER_S = 0.01
# How often the table is looked for when nothing changes, in case someone flushed the rules.
PATROL_S = 15.0
RETRY_S = 1.0
NFT_TIMEOUT_S = 20.0

COLLECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], Any]]] = {
    "pods": ("/api/v1/pods", pod_of),
    "namespaces": ("/api/v1/namespaces", namespace_of),
    "policies": ("/apis/networking.k8s.io/v1/networkpolicies", policy_of),
}


class LoadFailed(Exception):
    """nft refused the ruleset; the one in the kernel is unchanged."""


@dataclass(frozen=True)
class Status:
    """What the daemon did last, for `course status` and the benchmarks."""

    applied_at: str
    compile_ms: float
    load_ms: float
    pods: int
    policies: int
    error: str | None = None


class Collection:
    """One kind of object, by UID; tells of changes that matter."""

    def __init__(self, told: threading.Event) -> None:
        self._told = told
        self._lock = threading.Lock()
        self._items: dict[str, Any] = {}
        self.is_listed = False

    def items(self) -> tuple[Any, ...]:
        """A consistent copy."""
        with self._lock:
            return tuple(self._items.values())

    def replace(self, items: list[Any]) -> None:
        """A fresh list: what is not in it is gone."""
        with self._lock:
            self._items = {item.uid: item for item in items}
            self.is_listed = True
        self._told.set()

    def changed(self, item: Any) -> None:
        """Added or modified."""
        with self._lock:
            if self._items.get(item.uid) == item:
                return
            self._items[item.uid] = item
        self._told.set()

    def deleted(self, uid: str) -> None:
        """Deleted."""
        with self._lock:
            self._items.pop(uid, None)
        self._told.set()


class Store:
    """Everything the ruleset depends on, and one event that says it changed."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.collections = {name: Collection(self.told) for name in COLLECTIONS}
        self._attached: dict[str, str] = {}

    def attach(self, addresses: dict[str, str]) -> None:
        """Replace what the CNI says about addresses."""
        if addresses != self._attached:
            self._attached = addresses
            self.told.set()

    def state(self) -> State | None:
        """The state to compile; None until all three collections were listed once: fail closed."""
        if not all(collection.is_listed for collection in self.collections.values()):
            return None
        pods, namespaces, policies = (self.collections[name].items() for name in COLLECTIONS)
        return State(pods, namespaces, policies, self._attached)


def nft(script: str) -> None:
    """Run one nft transaction; raises LoadFailed with nft's first words."""
    try:
        subprocess.run(
            ["nft", "-f", "-"],
            input=script,
            text=True,
            capture_output=True,
            check=True,
            timeout=NFT_TIMEOUT_S,
        )
    except subprocess.CalledProcessError as cause:
        raise LoadFailed(cause.stderr[:500]) from cause
    except subprocess.TimeoutExpired as cause:
        raise LoadFailed(f"nft did not answer in {NFT_TIMEOUT_S:.0f} s") from cause


def is_loaded() -> bool:
    """Whether the table is in the kernel."""
    command = ["nft", "list", "chain", *TABLE.split(), "forward"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Engine:
    """Compiles and loads what the store holds, when it changes."""

    def __init__(self, store: Store, pod_range: str, status_file: Path | None = None) -> None:
        self._store = store
        self._pod_range = pod_range
        self._status_file = status_file
        self._loaded: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Step at each change and each patrol, until `stop` is set."""
        wait_s = PATROL_S
        while not stop.is_set():
            if not self._store.told.wait(wait_s) and not is_loaded():
                self._loaded = None
            if stop.wait(GATHER_S):
                return
            self._store.told.clear()
            wait_s = PATROL_S if self.step() else RETRY_S

    def step(self) -> bool:
        """Compile, and load if the ruleset is another; False when it has to be tried again."""
        state = self._store.state()
        if state is None:
            return True
        begun = time.perf_counter()
        error = None
        try:
            script = compile_ruleset(state, self._pod_range)
            compiled = time.perf_counter()
            if script == self._loaded:
                return True
            nft(script)
            self._loaded = script
        except (LoadFailed, ValueError, KeyError, TypeError) as fault:
            compiled, error = time.perf_counter(), f"{type(fault).__name__}: {fault}"
            log.exception("ruleset not loaded, the former one stays")
        loaded = time.perf_counter()
        self._report(
            Status(
                applied_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
                compile_ms=round((compiled - begun) * 1000, 1),
                load_ms=round((loaded - compiled) * 1000, 1),
                pods=len(state.pods),
                policies=len(state.policies),
                error=error,
            )
        )
        return error is None

    def _report(self, status: Status) -> None:
        log.info("%s", status)
        if self._status_file is None:
            return
        self._status_file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._status_file.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(status)))
        fresh.replace(self._status_file)


def start_following(api: Api, store: Store, cni_results: Path | None, stop: threading.Event) -> None:
    """One thread a collection, and one for the CNI's results."""
    for name, (path, project) in COLLECTIONS.items():
        arguments = (api, path, project, store.collections[name], stop)
        threading.Thread(target=follow, args=arguments, name=name, daemon=True).start()
    if cni_results is not None:
        arguments_cni = (cni_results, store.attach, stop)
        threading.Thread(target=follow_attachments, args=arguments_cni, name="cni", daemon=True).start()
