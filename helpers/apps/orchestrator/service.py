"""The parts put together, and the life of the process: start, serve, drain, end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette

from helpers.apps.orchestrator import prompts
from helpers.apps.orchestrator.admission import Admission
from helpers.apps.orchestrator.api import Api
from helpers.apps.orchestrator.backends import Backends
from helpers.apps.orchestrator.circuit import Circuits
from helpers.apps.orchestrator.graph import Graph
from helpers.apps.orchestrator.metrics import Metrics, give_back_memory
from helpers.apps.orchestrator.mounted import Decisions
from helpers.apps.orchestrator.runs import Runs
from helpers.apps.orchestrator.settings import Settings
from helpers.apps.orchestrator.state import Store
from helpers.apps.orchestrator.tracing import tracing
from helpers.stack.embeddings import Embedder

log = logging.getLogger("orchestrator")
SHOW_S = 1.0


class Service:
    """One orchestrator with everything it needs."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.decisions = Decisions(
            settings.decisions_dir, lambda name: self.metrics.decision_errors.labels(name).inc()
        )
        for file, sha256 in self.decisions.sources.items():
            source = "mounted" if sha256 else "course"
            self.metrics.decision_info.labels(file.removesuffix(".py"), source, sha256).set(1)
        self.store = Store(
            settings.redis_url,
            group=settings.run_group,
            lease_s=settings.idempotency_lease_s,
            thread_ttl_minutes=settings.thread_ttl_minutes,
            answer_ttl_s=settings.idempotency_ttl_s,
        )
        self.tracing = tracing(settings, self.decisions)
        self.backends = Backends(settings, self.metrics, self.tracing)
        self.admission = Admission(
            self.decisions,
            self.metrics,
            generation=settings.generation_concurrency,
            retrieval=settings.retrieval_concurrency,
            queue_limit=settings.request_queue_limit,
        )
        self.circuits = Circuits(self.decisions, self.metrics, open_s=settings.circuit_open_s)
        self.embedder = Embedder(prepared=settings.embedding_dir if settings.embedding_dir.name else None)
        systems = prompts.versions(settings.prompts)
        graph = Graph(
            backends=self.backends,
            store=self.store,
            embedder=self.embedder,
            decisions=self.decisions,
            circuits=self.circuits,
            admission=self.admission,
            metrics=self.metrics,
            systems=systems,
            retrieves=settings.retrieval == "on",
            tracing=self.tracing,
            collection=settings.qdrant_collection,
        )
        self.runs = Runs(
            settings,
            store=self.store,
            backends=self.backends,
            graph=graph,
            admission=self.admission,
            decisions=self.decisions,
            metrics=self.metrics,
            tracing=self.tracing,
        )
        api = Api(
            settings,
            runs=self.runs,
            backends=self.backends,
            admission=self.admission,
            decisions=self.decisions,
            metrics=self.metrics,
            systems=systems,
            tracing=self.tracing,
        )
        self.app: Starlette = api.app(lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        await asyncio.to_thread(self.embedder.embed, ["ready"])
        await self.runs.start()
        showing = asyncio.create_task(self._show_circuits())
        gc.collect()
        gc.freeze()
        give_back_memory()
        yield
        showing.cancel()
        await self.runs.close()
        self.tracing.close()

    async def _show_circuits(self) -> None:
        """An open circuit becomes half-open by time alone."""
        while True:
            self.circuits.show()
            await asyncio.sleep(SHOW_S)


class _Server(uvicorn.Server):
    """uvicorn, which drains before it closes: SIGTERM first ends readiness, then the runs, then the connections."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._ending: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        yield

    def _end(self) -> None:
        if self._ending is None:
            log.info("ending: %.0f s for what is in flight", self._service.settings.drain_deadline_s)
            self.should_exit = True  # uvicorn stops accepting and waits for open requests
            self._ending = asyncio.create_task(
                self._service.runs.drain(self._service.settings.drain_deadline_s)
            )


def serve(settings: Settings) -> None:
    """Serve until SIGTERM, and until what is in flight then has ended."""
    service = Service(settings)
    service.metrics.serve(settings.metrics_port, settings.host)
    config = uvicorn.Config(
        service.app,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=int(settings.drain_deadline_s) + 4,
        timeout_keep_alive=75,
    )
    _Server(config, service).run()
