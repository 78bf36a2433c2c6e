"""Asking at once against leaving a job: answers a second and waiting at 1, 4, 16 and 64 askers; what a kept answer costs.

    .venv/bin/python -m tests.benchmarks.bench_jobs [VLLM_URL]

Front, workers and Redis run as processes of this machine. Without a URL a server stands in vLLM's place that takes
ENGINE_S for an answer, for as many at once as there are places; with one, answers are of 4 tokens. Prints two Markdown
tables. Figures are of the machine it runs on: give its cores and load beside them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.contract.jobs_process import JobsProcess
from tests.contract.redis_process import RedisProcess
from tests.unit import openai_server

ASKERS, WORKERS, PLACES, ENGINE_S = (1, 4, 16, 64), 2, 8, 0.25
MOST_TOKENS = 4
UNLIMITED = httpx.Limits(max_connections=None)


class Slow(openai_server.OpenAIServer):
    """As many at once as it has places; the others wait, as in vLLM's own queue."""

    # As many may knock in one moment as there are askers.
    request_queue_size = 2 * max(ASKERS)
    places = threading.Semaphore(PLACES)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        with self.places:
            time.sleep(ENGINE_S)
            super().process_request_thread(request, client_address)


def _asked_at_once(url: str, askers: int, number: int) -> float:
    """Everybody holds a connection until the answer is there; seconds until the last one has it."""
    with httpx.Client(timeout=300, trust_env=False, limits=UNLIMITED) as client:

        def ask(asker: int) -> None:
            text = f"In two words: what is {number}-{asker}?"
            body = {
                "model": MODEL,
                "messages": [{"role": "user", "content": text}],
                "max_tokens": MOST_TOKENS,
            }
            client.post(f"{url}/chat/completions", json=body).raise_for_status()

        began = time.perf_counter()
        with ThreadPoolExecutor(askers) as pool:
            list(pool.map(ask, range(askers)))
        return time.perf_counter() - began


def _left_as_jobs(front: JobsProcess, askers: int, number: int) -> tuple[float, float]:
    """Seconds until the last one was told 202, and until the last answer was there."""
    with front.client() as client:

        def leave(asker: int) -> str:
            text = f"In two words: what is {number}-{asker}?"
            body = {"question": text, "max_tokens": MOST_TOKENS, "cache": "off"}
            return str(client.post("/v1/jobs", json=body).raise_for_status().json()["job_id"])

        began = time.perf_counter()
        with ThreadPoolExecutor(askers) as pool:
            names = list(pool.map(leave, range(askers)))
        accepted = time.perf_counter() - began
    _seconds_of(front, names)
    return accepted, time.perf_counter() - began


def _seconds_of(front: JobsProcess, names: list[str]) -> list[float]:
    """From accepted to done, by the jobs themselves."""
    found = []
    with front.client() as client:
        for name in names:
            while (job := client.get(f"/v1/jobs/{name}").json())["status"] in ("waiting", "running"):
                time.sleep(0.02)
            assert job["status"] == "done", job
            found.append(float(job["seconds"]))
    return found


def _kept(front: JobsProcess, jobs: int = 50) -> tuple[float, list[float]]:
    """Seconds of the first asker of a question, and of those who get what was kept."""

    def one() -> float:
        with front.client() as client:
            said = client.post("/v1/jobs", json={"question": "What is kept?", "max_tokens": MOST_TOKENS})
        return _seconds_of(front, [said.json()["job_id"]])[0]

    first = one()
    return first, [one() for _ in range(jobs)]


MODEL = "small"


def main() -> None:
    global MODEL
    folder = Path(tempfile.mkdtemp(prefix="bench-jobs-"))
    state = RedisProcess(folder / "redis")
    state.start()
    server = Slow()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = sys.argv[1] if len(sys.argv) > 1 else f"{server.url}/v1"
    MODEL = httpx.get(f"{url}/models", trust_env=False).json()["data"][0]["id"]
    settings = {
        "VLLM_BASE_URL": url,
        "MODEL": MODEL,
        "REDIS_URL": state.url,
        "RETRIEVAL": "off",
        "GENERATION_DEADLINE_S": "300",
    }
    front = JobsProcess(folder, "front", "front", **settings)
    workers = [JobsProcess(folder, "worker", f"worker-{number}", **settings) for number in range(WORKERS)]
    try:
        for process in (front, *workers):
            process.start()
        print(f"{psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}\n")
        print("| askers | at once: last answer, answers/s | last 202 | as jobs: last answer, answers/s |")
        print("| --- | --- | --- | --- |")
        for number, askers in enumerate(ASKERS):
            direct = _asked_at_once(url, askers, number)
            accepted, done = _left_as_jobs(front, askers, number + 100)
            print(
                f"| {askers} | {direct:.2f} s, {askers / direct:.1f} | {1000 * accepted:.0f} ms "
                f"| {done:.2f} s, {askers / done:.1f} |"
            )
        first, again = _kept(front)
        print("\n| | seconds from accepted to done |\n| --- | --- |")
        print(
            f"| generated | {first:.3f} |\n| kept, median of {len(again)} | {statistics.median(again):.3f} |"
        )
        memory = [psutil.Process(item.process.pid).memory_info().rss for item in workers if item.process]
        print(f"\nA worker's memory: {max(memory) / 2**20:.0f} MiB")
    finally:
        for process in (front, *workers):
            if process.is_running:
                process.kill()
        state.kill()


if __name__ == "__main__":
    main()
