"""The cluster's side of an experiment: pods, endpoints and events, sampled four times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from helpers.chaos.clients import INTERVAL_S, Attempt, Clients
from helpers.chaos.faults import BACKENDS, SYSTEM, Backend
from helpers.cluster.deadline import Deadline
from helpers.errors import LabError

if TYPE_CHECKING:
    from helpers.chaos.journal import JournalWriter
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Endpoint, Event

EVENTS_EVERY_S = 1.5
COLLECT_EVERY_S = 1.0
RECENT = 200


def sample(view: ClusterView, hit: Backend | None = None) -> dict[str, Any]:
    """Pods with UID, readiness, restarts and reasons, and the endpoints of both Services, and of what is hit.

    The endpoints come first: a pod that becomes Ready between the reads has then no address before its readiness.
    """
    watched = BACKENDS if hit is None else {**BACKENDS, hit.name: hit}
    endpoints = {name: _addresses(view.endpoints(name, item.namespace)) for name, item in watched.items()}
    pods = []
    for namespace in dict.fromkeys(item.namespace for item in watched.values()):
        for pod in view.pods(namespace):
            backend = next(
                (
                    name
                    for name, item in watched.items()
                    if item.namespace == namespace and _has(pod.labels, item.labels)
                ),
                "",
            )
            if backend:
                pods.append(_pod(pod, backend))
    return {"pods": pods, "endpoints": endpoints}


def _addresses(found: Sequence[Endpoint]) -> dict[str, int]:
    """How many are ready, how many of the others end and serve meanwhile, and how many there are."""
    of_each = {item.address: item for item in found}.values()
    ending = sum(item.serving and item.terminating and not item.ready for item in of_each)
    return {"ready": sum(item.ready for item in of_each), "ending": ending, "all": len(of_each)}


def _has(labels: dict[str, str], selector: str) -> bool:
    key, _, value = selector.partition("=")
    return labels.get(key) == value


def _pod(pod: Any, backend: str) -> dict[str, Any]:
    states = pod.container_states
    return {
        "backend": backend,
        "name": pod.name,
        "uid": pod.uid,
        "phase": "Terminating" if pod.is_terminating else pod.phase,
        "ready": pod.is_ready,
        "restarts": sum(state.restarts for state in states),
        "started": all(bool(item.get("started")) for item in pod.path("status.containerStatuses", [])),
        "reason": next(
            (state.reason or state.last_reason for state in states if state.reason or state.last_reason), ""
        ),
    }


class Watch:
    """Samples in a thread of its own until it is stopped; a lost API server is written down, not raised."""

    def __init__(
        self,
        cluster: Cluster,
        journal: JournalWriter,
        clients: Clients,
        *,
        on_sample: Callable[[dict[str, Any]], None] | None = None,
        hit: Backend | None = None,
    ) -> None:
        self._hit = hit
        self._cluster, self._journal, self._clients, self._on_sample = cluster, journal, clients, on_sample
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._samples, self._slow)]
        self._seen: set[tuple[str, int]] = set()
        self.latest: dict[str, Any] = {}
        self.recent: list[Attempt] = []
        self.failed_once = False

    def __enter__(self) -> Watch:
        self._known_events()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=15)
        self._once(self._collect)
        self._once(self._events)

    def both_served(self) -> bool:
        """Whether both clients have been served and nothing failed lately: they belong to the steady state."""
        served = {item.client for item in self.recent if item.ok}
        return len(served) == 2 and all(item.ok for item in self.recent[-6:])

    def _view(self) -> ClusterView:
        return self._cluster.view(Deadline(5, self._cluster.clock))

    def _samples(self) -> None:
        next_tick = time.monotonic()
        while not self._stop.is_set():
            self._once(self._sample)
            next_tick = max(next_tick + INTERVAL_S, time.monotonic())
            self._stop.wait(next_tick - time.monotonic())

    def _slow(self) -> None:
        events_at = 0.0
        while not self._stop.wait(COLLECT_EVERY_S):
            self._once(self._collect)
            if time.monotonic() >= events_at:
                self._once(self._events)
                events_at = time.monotonic() + EVENTS_EVERY_S

    def _once(self, work: Callable[[], None]) -> None:
        try:
            work()
        except LabError as error:
            self._journal.add("lost", t=time.time(), what=work.__name__.strip("_"), error=str(error)[:300])

    def _sample(self) -> None:
        began = time.time()
        self.latest = sample(self._view(), self._hit)
        self._journal.add("sample", t=round(began, 3), **self.latest)
        if self._on_sample:
            self._on_sample(self.latest)

    def _collect(self) -> None:
        attempts = self._clients.collect()
        if attempts:
            self.recent = (self.recent + attempts)[-RECENT:]
            self.failed_once = self.failed_once or not all(item.ok for item in attempts)
            rows = [[round(a.t, 3), a.client, a.outcome, a.status, a.ms] for a in attempts]
            self._journal.add("clients", t=time.time(), attempts=rows)

    def _known_events(self) -> None:
        """Events from before the experiment are not its own."""
        for event in self._all_events():
            self._seen.add((str(event.uid), _count(event)))

    def _all_events(self) -> list[Event]:
        view = self._view()
        namespaces = {SYSTEM, self._hit.namespace if self._hit else SYSTEM}
        return [event for namespace in sorted(namespaces) for event in view.events(namespace)]

    def _events(self) -> None:
        for event in self._all_events():
            key = (str(event.uid), _count(event))
            if key in self._seen:
                continue
            self._seen.add(key)
            kind, name = event.involved
            self._journal.add(
                "event",
                t=time.time(),
                type=event.type,
                reason=event.reason,
                message=event.message[:400],
                about=f"{kind}/{name}",
                uid=event.path("involvedObject.uid"),
                event_uid=event.uid,
                at=event.last_seen,
            )


def _count(event: Any) -> int:
    return int(event.path("count") or event.path("series.count") or 1)
