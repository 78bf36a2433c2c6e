"""The counters and gauges of front and workers, and the little server that shows them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

PREFIX = "llm"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 180, 600)
OUTCOMES = ("done", "dead_letter", "cancelled", "second_result", "again")
CACHED = ("exact", "similar", "miss", "waited")
REFUSED = ("tenant_full", "queue_full")


class Metrics:
    """One registry with everything that this process counts.

    `jobs_waiting` and `jobs_pending` are the queue's, told by every pod alike: take one, never their sum.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.waiting = self._gauge("jobs_waiting", "Entries that no worker has read yet: the group's lag")
        self.pending = self._gauge("jobs_pending", "Entries that a worker has read and not acknowledged")
        self.length = self._gauge("jobs_stream_length", "Entries in the stream, done or not")
        self.dead = self._gauge("jobs_dead_letters", "Entries among the dead letters")
        self.held = self._gauge("jobs_held", "Entries that this worker works on")
        self.accepted = self._counter("jobs_accepted", "Jobs accepted", "tenant")
        self.refused = self._counter("jobs_refused", "Jobs refused because too many wait", "reason", "tenant")
        self.jobs = self._counter("jobs", "Deliveries by how they ended", "outcome", "tenant")
        self.deliveries = self._counter("jobs_deliveries", "Entries that this worker began with")
        self.cache = self._counter("cache", "Answers by where they came from", "result")
        self.generations = self._counter("generations", "Generations asked for")
        self.attempts = self._counter(
            "attempts", "Searches and generations sent, each try counted", "backend"
        )
        self.job = self._histogram("job_seconds", "From accepted to done")
        self.retrieval = self._histogram("retrieval_seconds", "Time at Qdrant")
        self.generation = self._histogram("generation_seconds", "Time at vLLM")
        self.decision_errors = self._counter("jobs_decision_errors", "Decisions that failed", "decision")
        self.decision_info = self._gauge(
            "jobs_decision_info", "Where a decision comes from", "decision", "source", "sha256"
        )
        for result in CACHED:  # 0 is a statement, too
            self.cache.labels(result)
        for backend in ("vllm", "qdrant"):
            self.attempts.labels(backend)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"{PREFIX}_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", about, registry=self.registry, buckets=SECONDS)

    def serve(self, host: str, port: int, problems: Callable[[], list[str]]) -> None:
        """Answer /metrics, /livez and /readyz in a thread of its own."""
        handler = type("Handler", (_Handler,), {"metrics": self, "problems": staticmethod(problems)})
        server = ThreadingHTTPServer((host, port), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    metrics: Metrics
    problems: Callable[[], list[str]]

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._say(200, "text/plain; version=0.0.4", generate_latest(self.metrics.registry))
        elif path == "/livez":
            self._say(200, "application/json", b'{"alive": true}')
        elif path == "/readyz":
            problems = type(self).problems()
            body = json.dumps({"ready": not problems, "problems": problems}).encode()
            self._say(503 if problems else 200, "application/json", body)
        else:
            self._say(404, "application/json", b'{"error": {"code": "not_found"}}')

    def _say(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Probes and scrapes are no news."""
