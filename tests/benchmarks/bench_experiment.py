"""What an experiment itself costs: CPU of the watch and of its clients, and how well both keep 0.25 s.

.venv/bin/python tests/benchmarks/bench_experiment.py [SECONDS]   # on the cluster in use, after `course start 05`

Nothing is broken: the same clients, samples and journal as in an experiment, over a steady state.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from helpers.chaos import evidence
from helpers.chaos.clients import INTERVAL_S, NAMESPACE, POD, Clients
from helpers.chaos.experiment import steady_state
from helpers.chaos.journal import JournalWriter, Record, journal_key, parse, verify
from helpers.chaos.watch import Watch
from helpers.cluster import Cluster

SECONDS = 60.0
SETTLE_S = 3.0


def main(seconds: float = SECONDS) -> None:
    """Watch a steady state for a while, and say what that took."""
    cluster = Cluster.connect()
    steady_state(cluster.view())
    run = uuid.uuid4().hex[:8]
    header = {"experiment": "bench", "cluster": cluster.identity().uid, "run": run, "t": time.time()}
    key = journal_key(cluster)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        journal = JournalWriter(Path(folder) / "journal.jsonl", key, header)
        clients = Clients(cluster, run)
        clients.start()
        with Watch(cluster, journal, clients):
            time.sleep(SETTLE_S)
            began, cpu, pods = time.monotonic(), time.process_time(), cpu_of(cluster, POD)
            time.sleep(seconds)
            wall = time.monotonic() - began
            cpu, pods = time.process_time() - cpu, cpu_of(cluster, POD) - pods
        clients.stop()
        journal.add("end", t=time.time(), steady=True)
        journal.close()
        text = journal.path.read_text()
    report(parse(text), len(text), wall, cpu, pods)
    began = time.perf_counter()
    verify(parse(text), key, cluster.identity().uid)
    print(f"reading and verifying the journal     {1000 * (time.perf_counter() - began):8.0f} ms")


def report(record: Record, size: int, wall: float, cpu: float, pod_cpu: float) -> None:
    """The figures, one a line."""
    print(f"watch and journal, in this process    {100 * cpu / wall:8.1f} % of a core")
    print(f"both clients, in the probe pod        {100 * pod_cpu / wall:8.1f} % of a core")
    print(
        f"journal                               {size / wall / 1000:8.1f} kB/s, {len(record.entries)} entries"
    )
    pace("samples", [entry["t"] for entry in record.of("sample")])
    for client in ("inference", "retrieval"):
        seen = evidence.attempts(record, client)
        pace(f"{client} attempts", [item.t for item in seen])
        slow = statistics.quantiles([item.ms for item in seen], n=20)[-1]
        print(f"{client:10} served {evidence.availability(seen):7.1%}, 95th percentile {slow:.0f} ms")


def pace(what: str, times: Sequence[float]) -> None:
    """The distance of neighbouring points of time from the interval that was asked for."""
    gaps = sorted(1000 * (later - earlier) for earlier, later in pairwise(times))
    middle, most = statistics.median(gaps), statistics.quantiles(gaps, n=20)[-1]
    wanted = 1000 * INTERVAL_S
    print(
        f"{what:22} every {middle:4.0f} ms (wanted {wanted:.0f}), 95th percentile {most:.0f} ms, most {gaps[-1]:.0f} ms"
    )


def cpu_of(cluster: Cluster, pod: str) -> float:
    """CPU seconds that a pod has used, as its kernel group counts them."""
    both = "cat /sys/fs/cgroup/cpu.stat 2>/dev/null || cat /sys/fs/cgroup/cpuacct/cpuacct.usage"
    words = cluster.exec(NAMESPACE, pod, ["sh", "-c", both], timeout_s=10).stdout.split()
    # Version 2 counts microseconds in a table, version 1 nanoseconds in a file of their own.
    return int(words[words.index("usage_usec") + 1]) / 1e6 if "usage_usec" in words else int(words[0]) / 1e9


if __name__ == "__main__":
    main(*map(float, sys.argv[1:2]))
