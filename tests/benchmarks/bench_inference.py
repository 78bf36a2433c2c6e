"""How fast the inference layer is, on the cluster in use with lab 02 solved.

    .venv/bin/python -m tests.benchmarks.bench_inference [--cold]

Prints one Markdown table. `--cold` also builds the images in an empty cache (two minutes, 6 GiB).
Figures are of the machine it runs on: give its cores and load beside them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from helpers.cluster import Cluster
from helpers.stack import serving
from helpers.stack.inference import InferenceClient
from helpers.stack.load import QueueSampler, closed_loop, open_loop

RESTARTS = 5
LEVELS = (1, 4, 16)
RATES, OFFERED_S = (0.5, 1.0, 2.0), 20
TOKENS = 64
Row = tuple[str, str]


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _build(environment: dict[str, str] | None = None) -> float:
    script = "from helpers.embedded.images import image\nfor n in ('vllm', 'model'): image(n).build(lambda text: None)"
    command = [sys.executable, "-c", script]
    return _timed(lambda: subprocess.run(command, check=True, env={**os.environ, **(environment or {})}))


def _builds(*, cold: bool) -> Iterator[Row]:
    if cold:
        with tempfile.TemporaryDirectory() as folder:
            yield "images of vLLM and model, nothing cached", f"{_build({'COURSE_CACHE': folder}):.0f} s"
    yield "images of vLLM and model, cached", f"{_build():.1f} s"


def _restart(cluster: Cluster) -> float:
    """From deleting the pod to the Service's new endpoint."""
    (pod,) = cluster.view().pods(serving.NAMESPACE, labels=serving.LABELS)

    def replaced() -> None:
        cluster.delete("Pod", pod.name, serving.NAMESPACE, grace_s=1)
        serving.watch(
            cluster,
            timeout_s=300,
            until=lambda now: serving.is_serving(now) and now[0].pod != pod.name,
            period_s=0.2,
        )

    return _timed(replaced)


def _memory_mib(cluster: Cluster) -> float:
    """Memory of all processes in vLLM's container; pages that they share count once (proportional set size)."""
    (pod,) = cluster.view().pods(serving.NAMESPACE, labels=serving.LABELS)
    command = ["sh", "-c", "cat /proc/[0-9]*/smaps_rollup | grep ^Pss:"]
    said = cluster.exec(serving.NAMESPACE, pod.name, command, container=serving.CONTAINER)
    return sum(int(line.split()[1]) for line in said.stdout.splitlines()) / 1024


def _throughput(cluster: Cluster) -> Iterator[Row]:
    target = f"service/{serving.SERVICE}"
    with (
        cluster.port_forward(serving.NAMESPACE, target, serving.PORT) as forward,
        InferenceClient(forward.url) as client,
    ):
        closed_loop(client, clients=2, max_tokens=8)
        for clients in LEVELS:
            result = closed_loop(client, clients=clients, max_tokens=TOKENS)
            first = f"first token {result.ttft_s(0.5):.2f} s, p95 {result.ttft_s(0.95):.2f} s"
            yield f"{clients} clients, {TOKENS} tokens each", f"{result.tokens_per_s:.0f} tokens/s, {first}"
        for rate in RATES:
            with QueueSampler(client, period_s=0.25) as queue:
                result = open_loop(client, rate_per_s=rate, count=int(OFFERED_S * rate), max_tokens=TOKENS)
            waiting = max((sample.waiting for sample in queue.samples), default=0)
            yield (
                f"{rate:g} requests a second offered, {TOKENS} tokens each",
                f"first token {result.ttft_s(0.5):.2f} s, p95 {result.ttft_s(0.95):.2f} s, {waiting:.0f} waiting at the peak",
            )


def _grade() -> float:
    command = [sys.executable, "-m", "helpers.cli", "grade", "02"]
    return _timed(lambda: subprocess.run(command, capture_output=True, check=False))


def main() -> None:
    cluster = Cluster.connect()
    load = os.getloadavg()[0]
    rows = list(_builds(cold="--cold" in sys.argv))
    restarts = sorted(_restart(cluster) for _ in range(RESTARTS))
    rows.append((f"pod deleted to Ready again, middle of {RESTARTS}", f"{restarts[RESTARTS // 2]:.1f} s"))
    rows.append(("memory of the serving pod", f"{_memory_mib(cluster):,.0f} MiB"))
    rows += _throughput(cluster)
    rows.append(("`course grade 02`, whole process", f"{_grade():.1f} s"))
    print(f"{os.cpu_count()} cores, load {load:.1f}\n\n| what | measured |\n| --- | --- |")
    for what, measured in rows:
        print(f"| {what} | {measured} |")


if __name__ == "__main__":
    main()
