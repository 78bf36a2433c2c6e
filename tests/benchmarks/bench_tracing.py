"""What tracing costs an answer: the same service without it, with batches, and with each span sent at once.

    .venv/bin/python -m tests.benchmarks.bench_tracing

The services, Redis and Qdrant's embedded server run as processes of this machine; a server that takes half a second
stands where vLLM does, and one that takes 2 ms where the Collector does. The services are asked in turn, so that a
busy moment is everybody's. Prints one Markdown table: give the machine's cores and load beside its figures.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from helpers.labs.lab07_gates.proof_state import functions_text
from helpers.stack.embeddings import Embedder, prepare
from helpers.stack.memory import Memory, corpus
from tests.contract.orchestrator_process import OrchestratorProcess
from tests.contract.qdrant_process import QdrantProcess
from tests.contract.redis_process import RedisProcess
from tests.unit import openai_server

ROUNDS = 120
GENERATION_S, COLLECTOR_S = 0.5, 0.002
QUESTION = {"question": "Why does a quota refuse my pod?"}
WAYS = {
    "no tracing": {},
    "batches": {"OTEL_SPAN_PROCESSOR": "batch"},
    "each span at once": {"OTEL_SPAN_PROCESSOR": "simple"},
}


class Collector(BaseHTTPRequestHandler):
    """Takes spans."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(COLLECTOR_S)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def collector() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def _ms(service: OrchestratorProcess) -> float:
    with service.client() as client:
        began = time.perf_counter()
        client.post("/v1/chat", json=QUESTION).raise_for_status()
        return 1000 * (time.perf_counter() - began)


def _cpu_s(service: OrchestratorProcess) -> float:
    assert service.process is not None
    return sum(psutil.Process(service.process.pid).cpu_times()[:2])


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="bench-tracing-"))
    (folder / "qdrant").mkdir()
    prepare(folder / "embedding")
    state, memory = RedisProcess(folder / "redis"), QdrantProcess(folder / "qdrant")
    services: dict[str, OrchestratorProcess] = {}
    with openai_server.running() as engine, collector() as endpoint:
        engine.context_tokens, engine.delay_s = 4096, GENERATION_S
        state.start()
        memory.start()
        library = Memory(memory.url)
        library.create_collection()
        library.ingest(corpus(), Embedder())
        library.close()
        try:
            for name, settings in WAYS.items():
                traced = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint} if settings else {}
                services[name] = OrchestratorProcess(
                    folder,
                    name.replace(" ", "-"),
                    VLLM_BASE_URL=f"{engine.url}/v1",
                    QDRANT_BASE_URL=memory.url,
                    REDIS_URL=state.url,
                    THREAD_TTL_MINUTES="60",
                    EMBEDDING_DIR=str(folder / "embedding"),
                    MALLOC_ARENA_MAX="2",
                    **settings,
                    **traced,
                )
                services[name].decide(
                    "budget.py", "def hop_deadline_ms(budget, hop, left_ms): return left_ms"
                )
                services[name].decide("trace.py", functions_text("trace.py"))
                services[name].start()
                _ms(services[name])
            before = {name: _cpu_s(service) for name, service in services.items()}
            seen: dict[str, list[float]] = {name: [] for name in services}
            for _ in range(ROUNDS):
                for name, service in services.items():
                    seen[name].append(_ms(service))
            cpu = {
                name: 1000 * (_cpu_s(service) - before[name]) / ROUNDS for name, service in services.items()
            }
            sizes = {
                name: psutil.Process(service.process.pid).memory_full_info().uss / 2**20
                for name, service in services.items()
                if service.process
            }
        finally:
            for service in services.values():
                service.kill()
            memory.kill()
            state.kill()
    print(
        f"| tracing ({os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}) | median | more | processor | memory |"
    )
    print("| --- | --- | --- | --- | --- |")
    least = statistics.median(seen["no tracing"])
    for name, values in seen.items():
        median = statistics.median(values)
        more = f"{median - least:+.1f} ms, {100 * (median / least - 1):+.1f} %"
        print(f"| {name} | {median:.0f} ms | {more} | {cpu[name]:.1f} ms | {sizes[name]:.0f} MiB |")


if __name__ == "__main__":
    main()
