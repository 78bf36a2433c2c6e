"""Jobs before a real vLLM, while workers are killed every five seconds and Redis once.

A hundred of them; as many as COURSE_TEST_JOBS says, where that is set: five hundred take some minutes more.

Front, workers and Redis are processes of this machine, so that they can be killed and started within a second.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.cluster import Cluster
from helpers.stack.bring_up import bring_up_with_probes, load_images
from tests.contract.jobs_process import JobsProcess
from tests.contract.redis_process import RedisProcess

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.stack]
JOBS, WORKERS, KILL_EVERY_S = int(os.environ.get("COURSE_TEST_JOBS", "100")), 3, 5.0
POISON, MARK = 2, "POISON-PILL"
# A limit and no aim: on two busy cores a real vLLM takes its time, and workers are killed all the while.
SETTLED_S = 1500.0


@pytest.fixture(scope="module")
def engine(cluster: Cluster) -> Iterator[str]:
    """Where vLLM is reached from here."""
    load_images("vllm", "model", "qdrant")
    bring_up_with_probes(cluster, print)
    with cluster.port_forward("llm-system", "service/vllm", 8000) as vllm:
        yield f"{vllm.url}/v1"


@dataclass
class Outcome:
    """What became of all jobs."""

    found: dict[str, dict[str, Any]]
    poison: set[str]
    dead: dict[str, dict[str, str]]
    second: int
    kills: int
    seconds: float


class Siege:
    """Workers that are killed at random and started again, as a kubelet does; Redis that is killed once."""

    def __init__(self, folder: Path, engine: str, **settings: str) -> None:
        self.state = RedisProcess(folder / "redis")
        self.state.start()
        common = {
            "VLLM_BASE_URL": engine,
            "REDIS_URL": self.state.url,
            "CLAIM_IDLE_MS": "3000",
            "POISON": MARK,
            "RETRIEVAL": "off",
            **settings,
        }
        self.front = JobsProcess(folder, "front", "front", **common)
        self.workers = [JobsProcess(folder, "worker", f"worker-{n}", **common) for n in range(WORKERS)]
        self.kills = 0
        self._over = threading.Event()

    def __enter__(self) -> Siege:
        self.front.start()
        for worker in self.workers:
            worker.start(until_ready=False)
        for work in (self._kill, self._revive):
            threading.Thread(target=work, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        time.sleep(0.5)  # the threads that start workers see it
        for process in (self.front, *self.workers):
            if process.is_running:
                process.kill()
        self.state.kill()

    def _kill(self) -> None:
        while not self._over.wait(KILL_EVERY_S):
            victim = random.choice(self.workers)
            if victim.is_running:
                victim.kill()
                self.kills += 1

    def _revive(self) -> None:
        while not self._over.wait(0.1):
            for worker in self.workers:
                if not worker.is_running and not self._over.is_set():
                    worker.start(until_ready=False)

    def submit(self, number: int) -> str:
        """Leave a job until it is accepted: whatever breaks, the same key is the same job."""
        text = f"{MARK} {number}" if number < POISON else f"In two words: what is number {number}?"
        with self.front.client() as client:
            while True:
                try:
                    answer = client.post(
                        "/v1/jobs",
                        json={"question": text, "max_tokens": 2, "cache": "off"},
                        headers={"Idempotency-Key": f"job-{number}"},
                    )
                except httpx.TransportError:
                    continue
                if answer.status_code == 202:
                    return str(answer.json()["job_id"])
                assert answer.status_code in (429, 503), answer.text
                time.sleep(0.2)  # as Retry-After asks, in a hurry

    def run(self, jobs: int) -> Outcome:
        began = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            names = list(pool.map(self.submit, range(jobs)))
            time.sleep(KILL_EVERY_S)
            self.state.kill()
            self.state.start()
        assert len(set(names)) == jobs
        end = time.monotonic() + SETTLED_S
        with self.front.client() as client, self.state.client() as redis:
            left, found = set(names), dict[str, dict[str, Any]]()
            while left and time.monotonic() < end:
                for name in list(left):
                    job = client.get(f"/v1/jobs/{name}").json()
                    found[name] = job
                    if job["status"] in ("done", "failed"):
                        left.discard(name)
                time.sleep(0.5)
            dead = {letter["job"]: letter for _, letter in redis.xrange("jobs:dead")}
            second = sum(int(redis.hget(f"job:{name}", "second_results") or 0) for name in names)
        seconds = time.monotonic() - began
        return Outcome(found, set(names[:POISON]), dead, second, self.kills, seconds)


def check(outcome: Outcome, jobs: int) -> None:
    statuses = Counter(job["status"] for job in outcome.found.values())
    assert statuses == {"done": jobs - POISON, "failed": POISON}, statuses
    assert set(outcome.dead) == outcome.poison
    assert all(letter["reason"] and int(letter["deliveries"]) <= 8 for letter in outcome.dead.values())
    good = [job for name, job in outcome.found.items() if name not in outcome.poison]
    assert all(job["answer"] for job in good)
    again = Counter(job["attempts"] for job in good)
    print(
        f"{jobs} jobs in {outcome.seconds:.0f} s, {outcome.kills} workers killed, Redis once: "
        f"deliveries {dict(sorted(again.items()))}, results thrown away {outcome.second}"
    )
    assert outcome.kills > 3


def test_every_job_is_answered_once_whatever_is_killed(tmp_path: Path, engine: str) -> None:
    with Siege(tmp_path, engine, QUEUE_LIMIT="1000") as siege:
        check(siege.run(JOBS), JOBS)
