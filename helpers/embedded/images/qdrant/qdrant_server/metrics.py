"""`/metrics` in the Prometheus format, under the names that Qdrant 1.20 documents."""

from __future__ import annotations

import resource
import threading
from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from . import API_VERSION
from .collection import Collection
from .errors import NotFound
from .storage import Storage

LABELS = ["method", "endpoint", "status"]
BUCKETS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5, 10, 50)


class _Answers:
    """Count, mean, extremes and distribution of the answers of one endpoint since the server started."""

    def __init__(self) -> None:
        self.count, self.total_s, self.min_s, self.max_s = 0, 0.0, float("inf"), 0.0
        self._within = [0] * (len(BUCKETS) + 1)

    def add(self, duration_s: float) -> None:
        self.count += 1
        self.total_s += duration_s
        self.min_s, self.max_s = min(self.min_s, duration_s), max(self.max_s, duration_s)
        self._within[bisect_left(BUCKETS, duration_s)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """How many took at most so long, for each of the bounds."""
        bounds = [*map(str, map(float, BUCKETS)), "+Inf"]
        return list(zip(bounds, map(float, accumulate(self._within)), strict=True))


class Metrics:
    """A registry of this server's own; nothing is registered globally."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._answers: dict[tuple[str, str, str], _Answers] = {}
        self._snapshots_created: dict[str, int] = {}
        self._lock = threading.Lock()
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def answered(self, method: str, endpoint: str, status: int, duration_s: float) -> None:
        labels = (method, endpoint, str(status))
        with self._lock:
            self._answers.setdefault(labels, _Answers()).add(duration_s)

    def snapshot_created(self, collection: str) -> None:
        with self._lock:
            self._snapshots_created[collection] = self._snapshots_created.get(collection, 0) + 1

    def render(self) -> bytes:
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Registration asks for names only; the collections may not be loaded yet."""
        return ()

    def collect(self) -> Iterable[Metric]:
        collections = self._storage.collections()
        info = GaugeMetricFamily("app_info", "information about qdrant server", labels=["name", "version"])
        info.add_metric(["qdrant", API_VERSION], 1)
        yield info
        yield GaugeMetricFamily("app_status_recovery_mode", "is recovery mode enabled", 0)
        yield GaugeMetricFamily("cluster_enabled", "is cluster support enabled", 0)
        yield GaugeMetricFamily("collections_total", "number of collections", len(collections))
        yield from _collection_metrics(collections)
        with self._lock:
            yield from self._rest_metrics()
            created = CounterMetricFamily(
                "snapshot_created", "total amount of snapshots created", labels=["id"]
            )
            for name, count in self._snapshots_created.items():
                created.add_metric([name], count)
        yield created
        yield from _process_metrics()

    def _rest_metrics(self) -> Iterable[Metric]:
        total = CounterMetricFamily("rest_responses", "total number of responses", labels=LABELS)
        families = {
            "avg": GaugeMetricFamily(
                "rest_responses_avg_duration_seconds", "average response duration", labels=LABELS
            ),
            "min": GaugeMetricFamily(
                "rest_responses_min_duration_seconds", "minimum response duration", labels=LABELS
            ),
            "max": GaugeMetricFamily(
                "rest_responses_max_duration_seconds", "maximum response duration", labels=LABELS
            ),
        }
        durations = HistogramMetricFamily(
            "rest_responses_duration_seconds", "response duration histogram", labels=LABELS
        )
        for labels, answers in self._answers.items():
            durations.add_metric(labels, answers.buckets(), answers.total_s)
            total.add_metric(labels, answers.count)
            families["avg"].add_metric(labels, answers.total_s / answers.count)
            families["min"].add_metric(labels, answers.min_s)
            families["max"].add_metric(labels, answers.max_s)
        yield total
        yield from families.values()
        yield durations


def _collection_metrics(collections: list[Collection]) -> Iterable[Metric]:
    points = GaugeMetricFamily(
        "collection_points", "approximate amount of points per collection", labels=["id"]
    )
    vectors = GaugeMetricFamily(
        "collection_vectors",
        "amount of vectors per collection and vector name",
        labels=["collection", "vector"],
    )
    running = GaugeMetricFamily(
        "collection_running_optimizations", "number of currently running optimization tasks", labels=["id"]
    )
    total = 0
    for collection in collections:
        try:
            count = collection.points_count()
        except NotFound:  # deleted since the list was made
            continue
        points.add_metric([collection.name], count)
        running.add_metric([collection.name], int(collection.optimizing))
        dense = collection.config.get("vectors") or {}
        for name in [""] if "size" in dense else dense:
            vectors.add_metric([collection.name, name], count)
            total += count
    yield GaugeMetricFamily("collections_vector_total", "total number of vectors in all collections", total)
    yield from (points, vectors, running)


def _process_metrics() -> Iterable[Metric]:
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line
    )
    resident = int(status["VmRSS"].split()[0]) * 1024
    yield GaugeMetricFamily(
        "memory_resident_bytes", "total bytes in physically resident data pages", resident
    )
    yield GaugeMetricFamily("process_threads", "count of active threads", int(status["Threads"]))
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    yield GaugeMetricFamily("process_open_fds", "count of currently open file descriptors", open_files)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    yield GaugeMetricFamily("process_max_fds", "limit for open file descriptors", limit)
