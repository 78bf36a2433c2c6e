"""What the orchestrator costs beside its backends: time added to an answer, time to the first one, memory.

    .venv/bin/python -m tests.benchmarks.bench_orchestrator

The service, Redis and Qdrant's embedded server run as processes of this machine; a server that answers at once stands
where vLLM does, because what is measured is everything else. Prints one Markdown table. Figures are of the machine it
runs on: give its cores and load beside them.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from helpers.stack.embeddings import Embedder, prepare
from helpers.stack.memory import Memory, corpus
from tests.contract.orchestrator_process import OrchestratorProcess
from tests.contract.qdrant_process import QdrantProcess
from tests.contract.redis_process import RedisProcess
from tests.unit import openai_server

ANSWERS, CLIENTS = 200, 8
QUESTION = {"question": "Why does a quota refuse my pod?"}


def _added_ms(service: OrchestratorProcess, answers: int) -> list[float]:
    """For each answer, the time a caller waited without the hops retrieve and generate."""
    added = []
    with service.client() as client:
        for _ in range(answers):
            began = time.perf_counter()
            answer = client.post("/v1/chat", json=QUESTION)
            seconds = time.perf_counter() - began
            spent = answer.raise_for_status().json()["budget"]["spent_ms"]
            added.append(1000 * seconds - spent["retrieve"] - spent["generate"])
    return added


def _first_answer_s(service: OrchestratorProcess) -> float:
    began = time.perf_counter()
    service.start()
    _added_ms(service, 1)
    return time.perf_counter() - began


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-orchestrator-"))
    (folder / "qdrant").mkdir()
    prepare(folder / "embedding")
    state, memory = RedisProcess(folder / "redis"), QdrantProcess(folder / "qdrant")
    with openai_server.running() as engine:
        engine.context_tokens = 4096
        state.start()
        memory.start()
        library = Memory(memory.url)
        library.create_collection()
        library.ingest(corpus(), Embedder())
        library.close()
        service = OrchestratorProcess(
            folder,
            VLLM_BASE_URL=f"{engine.url}/v1",
            QDRANT_BASE_URL=memory.url,
            REDIS_URL=state.url,
            THREAD_TTL_MINUTES="60",
            EMBEDDING_DIR=str(folder / "embedding"),
            MALLOC_ARENA_MAX="2",
        )
        # The course's own hops are for a service that has a core to itself.
        service.decide("budget.py", "def hop_deadline_ms(budget, hop, left_ms): return left_ms")
        try:
            first_s = _first_answer_s(service)
            assert service.process is not None
            process = psutil.Process(service.process.pid)
            cpu_s = sum(process.cpu_times()[:2])
            alone = _added_ms(service, ANSWERS)
            cpu_ms = 1000 * (sum(process.cpu_times()[:2]) - cpu_s) / ANSWERS
            with state.client() as client:
                client.config_resetstat()
                _added_ms(service, 20)
                commands = client.info("stats")["total_commands_processed"] / 20
            began = time.perf_counter()
            with ThreadPoolExecutor(CLIENTS) as pool:
                rates = list(pool.map(lambda _: _added_ms(service, ANSWERS // CLIENTS), range(CLIENTS)))
            per_s = ANSWERS / (time.perf_counter() - began)
            memory_mib = process.memory_full_info().uss / 2**20
        finally:
            service.kill()
            memory.kill()
            state.kill()
    together = [item for some in rates for item in some]
    print(f"| what | seen ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}) |\n| --- | --- |")
    print(f"| added to an answer beside retrieval and generation: median; 95 of 100 | {statistics.median(alone):.1f} ms; "
          f"{statistics.quantiles(alone, n=20)[-1]:.1f} ms |")  # fmt: skip
    print(
        f"| the same, {CLIENTS} clients at once: median; answers a second | {statistics.median(together):.1f} ms; {per_s:.0f} |"
    )
    print(f"| processor time for an answer, embedding included | {cpu_ms:.1f} ms |")
    print(f"| commands that Redis was sent for an answer | {commands:.0f} |")
    print(f"| from the start of the process to its first answer | {first_s:.1f} s |")
    print(f"| memory of its own | {memory_mib:.0f} MiB |")


if __name__ == "__main__":
    main()
