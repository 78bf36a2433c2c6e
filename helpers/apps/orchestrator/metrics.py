"""The service's counters and gauges, on a port of their own."""

from __future__ import annotations

import ctypes
from threading import Thread

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)

PREFIX = "llm_orchestrator"
HOP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 180)
BACKENDS = ("vllm", "qdrant")


class Metrics:
    """One registry with everything that this process counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.inflight = self._gauge("inflight_requests", "Requests being answered", "class")
        self.queue_waiting = self._gauge("queue_waiting", "Admitted requests that wait for a place", "class")
        self.queue_wait = self._histogram("queue_wait_seconds", "How long a place was waited for")
        self.hop = self._histogram("hop_seconds", "Time spent in a hop", "hop")
        self.requests = self._counter("requests", "Requests by answer", "class", "status")
        self.attempts = self._counter(
            "attempts", "Searches and generations asked for, each try counted", "backend"
        )
        self.retries = self._counter("retries", "Calls that the graph repeated", "backend")
        self.circuit_state = self._gauge("circuit_state", "0 closed, 1 half-open, 2 open", "backend")
        self.short_circuited = self._counter("short_circuited", "Calls not made: circuit open", "backend")
        self.fallbacks = self._counter("fallbacks", "Degraded answers by kind", "kind")
        self.tokens = self._counter("tokens", "Tokens of answered requests", "class", "direction")
        self.decision_errors = self._counter("decision_errors", "Decisions that failed", "decision")
        self.decision_info = self._gauge(
            "decision_info", "Where a decision comes from", "decision", "source", "sha256"
        )
        self.resumed = self._counter("resumed", "Threads taken over from another holder")
        self.replayed = self._counter("replayed", "Answers given again for the same key")
        self.shed = self._counter("shed", "Requests turned away", "reason")
        self._preset()

    def _preset(self) -> None:
        """Series that a reader looks for are there before anything happens: 0 is a statement."""
        for backend in BACKENDS:
            for metric in (self.attempts, self.retries, self.short_circuited, self.circuit_state):
                metric.labels(backend)
        for kind in ("refuse", "general_answer", "stored_answer", "continue"):
            self.fallbacks.labels(kind)
        for name in ("fast", "standard", "background"):
            self.inflight.labels(name)
            self.queue_waiting.labels(name)
        self.shed.labels("queue_full")

    def serve(self, port: int, host: str) -> tuple[object, Thread]:
        """Answer GET /metrics in a thread of its own."""
        server, thread = start_http_server(port, addr=host, registry=self.registry)
        return server, thread

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", about, labels, registry=self.registry, buckets=HOP_SECONDS)


def give_back_memory() -> None:
    """Return to the system what start-up has freed: glibc keeps it otherwise."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
