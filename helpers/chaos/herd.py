"""A thundering herd: many clients that lost the same backend at the same moment, and want it back.

All of them retry with the same doubling delays. Without jitter they come back in the same instant,
again and again; with it they spread. vLLM's own queue (`vllm:num_requests_waiting`) tells which.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from helpers.chaos.clients import NAMESPACE, POD
from helpers.chaos.experiment import Finished, Progress, run
from helpers.chaos.faults import SYSTEM, VLLM, fault, pods_of

if TYPE_CHECKING:
    from helpers.cluster import Cluster

CLIENTS = 24
BASE_S = 1.0
ATTEMPTS = 5
# Long enough answers that the queue outlasts the second that a busy node needs to start 24 clients.
TOKENS = 12
# The outage ends between the third attempt (at 3 s) and the fourth (at 7 s).
OUTAGE_S = 4.0
WATCH_S = 12.0
SAMPLE_S = 0.25
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"

# $RANDOM is not in every shell; awk is in all of ours. `full` is uniform between 0 and twice the plain
# delay, so that both herds wait equally long on average.
_SCRIPT = r"""
trap "" HUP
now() { if [ -n "$EPOCHREALTIME" ]; then echo "$EPOCHREALTIME"; else date +%s.%N; fi; }
client() {
  n=0; delay=$BASE; due=$START
  while [ $n -lt $ATTEMPTS ]; do
    t=$(now)
    status=$(curl -s -o /dev/null --noproxy '*' --connect-timeout 0.5 --max-time 40 -w '%{http_code}' \
      -H content-type:application/json -d "$PROMPT" "$VLLM/v1/completions")
    echo "$t $1 $n $status $(now)" >> $LOG
    [ "$status" = 200 ] && return
    if [ "$JITTER" = full ]; then
      wait=$(awk -v d=$delay -v s=$1$n$SEED 'BEGIN { srand(s); print 2 * d * rand() }')
    else
      wait=$delay
    fi
    # Pauses add up from the common start: what an attempt or a busy node takes does not accumulate.
    due=$(awk -v d=$due -v w=$wait 'BEGIN { printf "%.3f", d + w }')
    sleep $(awk -v d=$due -v now=$(now) 'BEGIN { w = d - now; print (w > 0 ? w : 0) }')
    n=$((n + 1)); delay=$(awk -v d=$delay 'BEGIN { print 2 * d }')
  done
}
: > $LOG
START=$(now)
i=0; while [ $i -lt $CLIENTS ]; do client $i & i=$((i + 1)); done; wait
"""


def herd(cluster: Cluster, jitter: str, *, on_progress: Progress | None = None, **options: Any) -> Finished:
    """Take vLLM's Service away for four seconds from 24 clients, and watch its queue as they return.

    Args:
        jitter: "none" or "full"; the journal is named "herd-none" or "herd-full".
    """
    if jitter not in ("none", "full"):
        raise ValueError(f"jitter is none or full, not {jitter!r}")
    outage = dataclasses.replace(fault("service-vllm"), watch_s=OUTAGE_S)
    log = f"/tmp/course-herd-{time.time_ns()}"
    queue = _QueueWatch(cluster)

    def start() -> dict[str, Any]:
        queue.start()
        _start_clients(cluster, jitter, log)
        return {"clients": CLIENTS, "jitter": jitter, "base_s": BASE_S}

    def after() -> dict[str, Any]:
        time.sleep(WATCH_S)
        samples = queue.stop()
        printed = cluster.exec(NAMESPACE, POD, ["cat", log], timeout_s=15).stdout
        return {"jitter": jitter, "queue": samples, "arrivals": _arrivals(printed)}

    try:
        return run(
            cluster,
            outage,
            name=f"herd-{jitter}",
            on_progress=on_progress,
            during=start,
            after=after,
            **options,
        )
    finally:
        queue.stop()


def _start_clients(cluster: Cluster, jitter: str, log: str) -> None:
    profile = cluster.profile()
    prompt = {
        "model": profile.served_model_name,
        "prompt": "Count:",
        "max_tokens": TOKENS,
        "ignore_eos": True,
    }
    values = {
        "CLIENTS": CLIENTS,
        "BASE": BASE_S,
        "ATTEMPTS": ATTEMPTS,
        "JITTER": jitter,
        "LOG": log,
        "SEED": time.time_ns() % 10000,
        "PROMPT": json.dumps(prompt),
        "VLLM": f"http://vllm.{cluster.scope.namespace(SYSTEM)}:8000",
    }
    exports = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in values.items())
    shell = "$(command -v bash || command -v sh)"
    command = f"export {exports}; {shell} -c {shlex.quote(_SCRIPT)} >/dev/null 2>&1 &"
    cluster.exec(NAMESPACE, POD, ["sh", "-c", command], timeout_s=10)


def _arrivals(printed: str) -> list[list[float]]:
    """[began, client, attempt, HTTP status, ended] of every attempt."""
    rows = [line.split() for line in printed.splitlines()]
    return [[float(field) for field in row] for row in rows if len(row) == 5]


class _QueueWatch:
    """Reads vLLM's queue metrics through its pod: its Service is what the experiment takes away."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._samples: list[list[float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[list[float]]:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)
        return list(self._samples)

    def _work(self) -> None:
        pod = pods_of(self._cluster.view(), VLLM)[0]
        with (
            self._cluster.port_forward(SYSTEM, f"pod/{pod.name}", 8000) as forward,
            httpx.Client(base_url=forward.url, timeout=5) as client,
        ):
            while not self._stop.is_set():
                began = time.time()
                # A busy engine answers late; a hole in the series is shown as a hole.
                with suppress(httpx.HTTPError):
                    self._samples.append([round(began, 3), *queue_of(client.get("/metrics").text)])
                self._stop.wait(max(0.0, began + SAMPLE_S - time.time()))


def queue_of(metrics: str) -> tuple[float, float]:
    """Running and waiting requests, summed over engines, from vLLM's metrics text."""
    wanted = {RUNNING: 0.0, WAITING: 0.0}
    lines = "\n".join(line for line in metrics.splitlines() if line.startswith(tuple(wanted)))
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            if sample.name in wanted:
                wanted[sample.name] += sample.value
    return wanted[RUNNING], wanted[WAITING]
