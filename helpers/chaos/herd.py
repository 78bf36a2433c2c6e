"""A thundering herd: many clients that lost the same backend at the same moment, and want it back.

All of them retry with the same doubling delays. Without jitter they come back in the same instant,
again and again; with it they spread. What the clients write down tells which, and vLLM's own queue
(`vllm:num_requests_waiting`) shows what it is like inside.

Nothing here is judged by how fast the machine is. The clock decides who calls when, and all who are
due call from one process: twenty-four processes on a busy node start seconds apart, and would spread
without any jitter. The outage begins when the first client feels it, and the watch ends when the
herd is served.
"""

from __future__ import annotations

import dataclasses
import json
import random
import shlex
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from helpers.chaos.clients import NAMESPACE, POD
from helpers.chaos.experiment import Finished, Progress, run
from helpers.chaos.faults import SYSTEM, VLLM, fault, pods_of
from helpers.errors import LabError, ProbeInconclusive

if TYPE_CHECKING:
    from helpers.cluster import Cluster

CLIENTS = 24
BASE_S = 1.0
ATTEMPTS = 6
# Long enough answers that 24 of them queue for seconds.
TOKENS = 12
# The outage ends between the third attempt (at 3 s) and the fourth (at 7 s).
OUTAGE_S = 4.0
START_TIMEOUT_S = 30.0
SERVED_TIMEOUT_S = 60.0
LOOK_EVERY_S = 0.5
SAMPLE_S = 0.25
# Less than the second after which a lost SYN is sent again: clients that hang until the outage ends
# would all be let in together, jitter or not.
PATIENCE_S = 0.9
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"

# A file in $dir is a client that is served, or that waits for its answer: it does not call now.
_SCRIPT = r"""
trap "" HUP
dir=$LOG.clients; mkdir -p $dir
ms() { if [ -n "$EPOCHREALTIME" ]; then t=${EPOCHREALTIME%???}; echo ${t%.*}${t#*.}; else date +%s%3N; fi; }
call() { curl -s -o /dev/null --noproxy '*' --connect-timeout $PATIENCE "$@"; }
fire() {
  attempt=$1 due=; shift
  for client; do [ -e $dir/$client ] || { : > $dir/$client; due=$due,$client; }; done
  [ -n "$due" ] || return
  began=$(ms)
  answer "$began" "$attempt" "${due#,}" &
}
answer() {
  call --parallel --parallel-immediate --max-time 60 -w '%{url_effective} %{http_code} %{time_connect} %{time_total}\n' \
    -H content-type:application/json -d "$PROMPT" "$VLLM/v1/completions?client={$3}" | {
    again=
    while read -r url status connected total; do
      client=${url##*=}
      [ "$status" = 200 ] || again="$again $dir/$client"
      echo "$1 $client $2 $status $connected $total" >> $LOG
    done
    [ -z "$again" ] || rm -f $again
  }
}
watch() {
  samples=0
  while [ $samples -lt 400 ] && [ ! -e $LOG.stop ]; do
    figures=$(curl -s --noproxy '*' --max-time 5 "$POD/metrics" | grep -E '^vllm:num_requests_(running|waiting)[{ ]') &&
      printf 'queue %s\n%s\n' "$(ms)" "$figures" >> $LOG.queue
    sleep $EVERY; samples=$((samples + 1))
  done
}
watch &
tries=0
while [ $tries -lt 50 ] && call --max-time 3 "$VLLM/health"; do sleep 0.2; tries=$((tries + 1)); done
start=$(ms); echo "start $start" > $LOG
while read -r due attempt clients; do
  wait=$((start + due - $(ms)))
  [ $wait -le 0 ] || sleep $(printf '%d.%03d' $((wait / 1000)) $((wait % 1000)))
  [ ! -e $LOG.stop ] || break
  fire $attempt $clients
done <<END
$SCHEDULE
END
wait
"""


def herd(
    cluster: Cluster,
    jitter: str,
    *,
    on_progress: Progress | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Finished:
    """Take vLLM's Service away for four seconds from 24 clients, and watch its queue as they return.

    Args:
        jitter: "none" or "full"; the journal is named "herd-none" or "herd-full".
    """
    if jitter not in ("none", "full"):
        raise ValueError(f"jitter is none or full, not {jitter!r}")
    outage = dataclasses.replace(fault("service-vllm"), watch_s=OUTAGE_S)
    clients = _Herd(cluster, jitter, should_stop)

    def start() -> dict[str, Any]:
        clients.start()
        return {"clients": CLIENTS, "jitter": jitter, "base_s": BASE_S}

    def after() -> dict[str, Any]:
        arrivals = clients.until_served()
        return {"jitter": jitter, "queue": clients.queue(), "arrivals": arrivals}

    try:
        return run(
            cluster,
            outage,
            name=f"herd-{jitter}",
            on_progress=on_progress,
            should_stop=should_stop,
            during=start,
            after=after,
        )
    finally:
        clients.stop()


def schedule(jitter: str, draw: random.Random) -> str:
    """Who calls when, one line for each moment: milliseconds from the start, attempt, clients.

    `full` is uniform between 0 and twice the plain delay, so that both herds wait equally long on
    average. Pauses add up from the common start: what an attempt takes does not accumulate.
    """
    moments: dict[tuple[int, int], list[int]] = defaultdict(list)
    for client in range(CLIENTS):
        due_s, delay_s = 0.0, BASE_S
        for attempt in range(ATTEMPTS):
            moments[round(due_s * 1000), attempt].append(client)
            due_s += draw.uniform(0, 2 * delay_s) if jitter == "full" else delay_s
            delay_s *= 2
    return "\n".join(
        f"{due} {attempt} {' '.join(map(str, clients))}"
        for (due, attempt), clients in sorted(moments.items())
    )


class _Herd:
    """The 24 clients in the probe pod, and what they wrote down."""

    def __init__(self, cluster: Cluster, jitter: str, should_stop: Callable[[], bool]) -> None:
        self._cluster, self._jitter, self._should_stop = cluster, jitter, should_stop
        self._log = f"/tmp/course-herd-{time.time_ns()}"
        self._started = False

    def start(self) -> None:
        """Start them, and wait until the first one has felt the outage: from then on it is counted."""
        profile = self._cluster.profile()
        # vLLM's Service is what the experiment takes away: its queue is read at its pod.
        pod = pods_of(self._cluster.view(), VLLM)[0]
        prompt = {
            "model": profile.served_model_name,
            "prompt": "Count:",
            "max_tokens": TOKENS,
            "ignore_eos": True,
        }
        values = {
            "LOG": self._log,
            "SCHEDULE": schedule(self._jitter, random.Random()),
            "PROMPT": json.dumps(prompt),
            "PATIENCE": f"{PATIENCE_S:g}",
            "EVERY": f"{SAMPLE_S:g}",
            "VLLM": f"http://{self._address()}:8000",
            "POD": f"http://{_bracketed(pod.path('status.podIP', ''))}:8000",
        }
        exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in values.items())
        shell = "$(command -v bash || command -v sh)"
        self._started = True
        self._sh(f"export {exports}; {shell} -c {shlex.quote(_SCRIPT)} >/dev/null 2>&1 &")
        until = time.monotonic() + START_TIMEOUT_S
        while not self._printed().startswith("start "):
            if time.monotonic() > until:
                raise ProbeInconclusive("the herd's clients did not start in the probe pod")
            time.sleep(0.1)

    def until_served(self) -> list[list[float]]:
        """Wait for the last of the herd, whenever the node lets it come; every attempt."""
        until = time.monotonic() + SERVED_TIMEOUT_S
        while True:
            arrivals = read_arrivals(self._printed())
            served = {row[1] for row in arrivals if row[3] == 200}
            if len(served) == CLIENTS or time.monotonic() > until or self._should_stop():
                return arrivals
            time.sleep(LOOK_EVERY_S)

    def stop(self) -> None:
        """Nobody calls any more; whoever waits for an answer gets it."""
        if self._started:
            self._started = False
            # Where the API server is lost the herd ends by itself, after its last attempt.
            with suppress(LabError):
                self._sh(f"touch {self._log}.stop")

    def _address(self) -> str:
        """The Service's address: a name that is looked up late on a busy node is not what is tried here."""
        address = str(self._cluster.view().service("vllm", SYSTEM).path("spec.clusterIP", ""))
        if address in ("", "None"):
            return f"vllm.{self._cluster.scope.namespace(SYSTEM)}"
        return _bracketed(address)

    def queue(self) -> list[list[float]]:
        """[time, running, waiting] as vLLM told it, four times a second where the node has time for it."""
        return read_queue(self._sh(f"cat {self._log}.queue 2>/dev/null"))

    def _printed(self) -> str:
        return self._sh(f"cat {self._log} 2>/dev/null")

    def _sh(self, command: str) -> str:
        return self._cluster.exec(NAMESPACE, POD, ["sh", "-c", command], timeout_s=15).stdout


def read_arrivals(printed: str) -> list[list[float]]:
    """[arrived, client, attempt, HTTP status, ended] of every attempt, from what the clients wrote.

    Each line is: when it began (ms since the epoch), client, attempt, HTTP status, seconds until it was
    connected, seconds until it ended.
    """
    rows = []
    for line in printed.splitlines():
        fields = line.split()
        if len(fields) == 6:
            began, client, attempt, status, connected, took = map(float, fields)
            arrived, ended = round(began / 1000 + connected, 3), round(began / 1000 + took, 3)
            rows.append([arrived, client, attempt, status, ended])
    return rows


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def read_queue(printed: str) -> list[list[float]]:
    """[time, running, waiting] of every sample: a line with its time, then vLLM's own lines."""
    samples = []
    for block in printed.split("queue ")[1:]:
        moment, _, metrics = block.partition("\n")
        samples.append([int(moment) / 1000, *queue_of(metrics)])
    return samples


def queue_of(metrics: str) -> tuple[float, float]:
    """Running and waiting requests, summed over engines, from vLLM's metrics text."""
    wanted = {RUNNING: 0.0, WAITING: 0.0}
    lines = "\n".join(line for line in metrics.splitlines() if line.startswith(tuple(wanted)))
    for family in text_string_to_metric_families(lines + "\n"):
        for sample in family.samples:
            if sample.name in wanted:
                wanted[sample.name] += sample.value
    return wanted[RUNNING], wanted[WAITING]
