"""How soon the pool follows a step of load, and how often it changes its mind in ten minutes of a square wave.

    .venv/bin/python tests/benchmarks/bench_scaler.py

On the chosen cluster, after `course start 08`: the solution's monitors and ScaledObject are applied, and stay. Sixteen
callers for 45 s, two for 45 s, for ten minutes; COURSE_BENCH_WAVE=high_s,low_s,whole_s sets another wave.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from helpers.cluster import Cluster
from helpers.grading.changes import solved
from helpers.labs import witnessing
from helpers.labs.lab08_scale import witness_scale
from helpers.labs.witnessing import Witness
from helpers.stack import scaling

WAVE = os.environ.get("COURSE_BENCH_WAVE", "45,45,600")
NAME = "square"
MOST_S, MOST_UPS, MOST_DOWNS = 30, 2, 1


def main() -> int:
    """Print what was seen; 1 where it is more than the lab promises."""
    cluster = Cluster.connect()
    cluster.apply(solved("08", "monitors_yaml", "scaled_pool_yaml"))
    runner = witness_scale.Runner(cluster, "wave", say)
    job = square(cluster)
    with runner.watch:
        runner.rest("")
        cluster.delete("Job", job["metadata"]["name"], scaling.APPS, wait_s=30, grace_s=1)
        cluster.apply(job)
        began = time.time()
        runner.watch.begin()
        record, log = until_over(cluster, runner)
        changes = [(began + at, before, after) for at, before, after in runner.watch.changes]
    steps = [
        (int(words[1]), float(words[2]))
        for line in log.splitlines()
        if (words := line.split())[:1] == ["STEP"]
    ]
    up = [at for at, before, after in changes if after > before]
    down = [at for at, before, after in changes if after < before]
    first = steps[0][1]
    reaction_s = up[0] - first if up else float("nan")
    seen = record["seen"]
    print(
        f"wave {WAVE}: {len(steps)} steps, {seen['asked']} answers asked, {seen['lost']} lost {seen['how']}"
    )
    print(f"second replica asked for {reaction_s:.1f} s after the first step (at most {MOST_S} s)")
    print(f"up {len(up)} times (at most {MOST_UPS}), down {len(down)} times (at most {MOST_DOWNS})")
    print("changes: " + ", ".join(f"{at - first:.0f} s: {a} to {b}" for at, a, b in changes))
    right = reaction_s <= MOST_S and len(up) <= MOST_UPS and len(down) <= MOST_DOWNS and not seen["lost"]
    return 0 if right else 1


def square(cluster: Cluster) -> dict[str, Any]:
    """The wave's Job with another program's part, and time for it."""
    job = witness_scale.make(cluster.view(), "wave")
    job["metadata"]["name"] = f"witness-{NAME}"
    job["spec"]["activeDeadlineSeconds"] = 3600
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["command"] = witnessing.command(witness_scale.PROGRAM, NAME)
    container["env"].append({"name": "SQUARE", "value": WAVE})
    return job


def until_over(cluster: Cluster, runner: witness_scale.Runner) -> tuple[dict[str, Any], str]:
    """The Job's record and its log; what it asks for at its end is answered."""
    witness, told = Witness(NAME, "", scaling.APPS), False
    job = cluster.view().get("Job", witness.job, scaling.APPS)
    while True:
        pod = witnessing.own_pod(cluster.view(), witness, job)
        if pod is not None and pod.path("status.phase") in ("Running", "Succeeded", "Failed"):
            log = cluster.logs(scaling.APPS, pod.name)
            if "WITNESS down" in log and not told:
                told = True
                runner.asked["down"](pod, "")
            for status in pod.path("status.containerStatuses", []) or []:
                ended = (status.get("state") or {}).get("terminated")
                if ended:
                    return json.loads(ended["message"]), log
        time.sleep(1)


def say(line: str) -> None:
    """Progress, on one line."""
    print(f"\r{line:<100}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
