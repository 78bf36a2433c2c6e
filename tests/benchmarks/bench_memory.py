"""How fast the memory layer is: the embedded server beside qdrant-client's local mode, and embeddings.

    .venv/bin/python -m tests.benchmarks.bench_memory

Prints one Markdown table. Figures are of the machine it runs on: give its cores and load beside them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from qdrant_client import QdrantClient, models

from helpers.stack import memory
from helpers.stack.embeddings import DIMENSIONS, Embedder
from tests.contract.qdrant_process import QdrantProcess

POINTS, BATCH, QUERIES = 5000, 250, 200


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _fill(client: QdrantClient, rows: list[list[float]]) -> None:
    client.create_collection("bench", models.VectorParams(size=DIMENSIONS, distance=models.Distance.COSINE))
    for start in range(0, POINTS, BATCH):
        chosen = range(start, start + BATCH)
        payloads = [{"n": n, "even": n % 2 == 0} for n in chosen]
        client.upsert(
            "bench", models.Batch(ids=list(chosen), vectors=[rows[n] for n in chosen], payloads=payloads)
        )


def _query(client: QdrantClient, rows: list[list[float]], *, filtered: bool) -> float:
    """The median of a query, in milliseconds."""
    only = models.Filter(must=[models.FieldCondition(key="even", match=models.MatchValue(value=True))])
    times = [
        _timed(
            lambda n=n: client.query_points(
                "bench", query=rows[n], limit=5, query_filter=only if filtered else None
            )
        )  # type: ignore[misc]
        for n in range(QUERIES)
    ]
    return 1000 * statistics.median(times)


def _measure(client: QdrantClient, rows: list[list[float]]) -> list[str]:
    upsert_s = _timed(lambda: _fill(client, rows))
    plain, filtered = (_query(client, rows, filtered=flag) for flag in (False, True))
    return [f"{POINTS / upsert_s:,.0f} points/s", f"{plain:.1f} ms", f"{filtered:.1f} ms"]


def main() -> None:
    rows = np.random.default_rng(0).normal(size=(POINTS, DIMENSIONS)).astype("float32").tolist()
    with tempfile.TemporaryDirectory() as folder:
        process = QdrantProcess(Path(folder))
        start_s = _timed(process.start)
        remote = QdrantClient(url=process.url, trust_env=False, check_compatibility=False, timeout=60)
        server = _measure(remote, rows)
        snapshot_s = _timed(lambda: remote.create_snapshot("bench"))
        process.kill()
        again_s = _timed(process.start)
        process.stop()
    local = _measure(QdrantClient(":memory:"), rows)
    embedder = Embedder()
    load_s = _timed(lambda: embedder.embed(["warm"]))
    corpus_s = _timed(lambda: embedder.embed([passage.embedded_text for passage in memory.corpus()]))
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {POINTS} x {DIMENSIONS}, batches of {BATCH}\n"
    )
    print("| what | embedded server | qdrant-client's local mode |\n| --- | --- | --- |")
    for what, left, right in zip(
        ("upsert", "query, median", "filtered query, median"), server, local, strict=True
    ):
        print(f"| {what} | {left} | {right} |")
    print(f"| start to ready, empty | {start_s:.2f} s | |")
    print(f"| start to ready, {POINTS} points, after kill -9 | {again_s:.2f} s | |")
    print(f"| snapshot | {snapshot_s:.2f} s | |")
    print(
        f"| embeddings: load, one passage | {load_s:.2f} s, {1000 * corpus_s / len(memory.corpus()):.1f} ms | |"
    )


if __name__ == "__main__":
    main()
