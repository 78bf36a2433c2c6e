"""A worker: it reads, takes over what others left, renews what it holds, and ends without losing any of it.

Entries that nobody has had yet are worked on side by side. One whose worker was lost may be what ended it: it is
worked on alone, so that it takes nothing with it when it does so again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import time

from helpers.apps.jobs import decisions as plug
from helpers.apps.jobs import defaults
from helpers.apps.jobs.answering import Answering
from helpers.apps.jobs.cache import Cache
from helpers.apps.jobs.delivery import Delivery
from helpers.apps.jobs.metrics import Metrics
from helpers.apps.jobs.settings import JobsSettings
from helpers.apps.jobs.store import CANCELLED, Entry, StoreUnavailable
from helpers.apps.jobs.upkeep import every, queue_of, show_depth
from helpers.apps.orchestrator.backends import Backends
from helpers.apps.orchestrator.errors import BackendFailed
from helpers.apps.orchestrator.metrics import give_back_memory
from helpers.apps.orchestrator.mounted import Decisions
from helpers.apps.orchestrator.tracing import tracing
from helpers.stack.embeddings import Embedder

log = logging.getLogger("jobs")
BLOCK_MS = 500
SHOW_S = 1.0
AGAIN_S = 0.5
LEARN_S = 30.0


def decisions_of(settings: JobsSettings, metrics: Metrics) -> Decisions:
    """The decisions in force, told in the metrics."""
    found = Decisions(
        settings.decisions_dir,
        lambda name: metrics.decision_errors.labels(name).inc(),
        points=plug.PLUG_POINTS,
        own=defaults,
        types=plug.TYPES,
    )
    for file, sha256 in found.sources.items():
        source = "mounted" if sha256 else "course"
        metrics.decision_info.labels(file.removesuffix(".py"), source, sha256).set(1)
    return found


class Worker:
    """One worker with everything it needs."""

    def __init__(self, settings: JobsSettings) -> None:
        self._settings, self.metrics = settings, Metrics()
        self.decisions = decisions_of(settings, self.metrics)
        self.queue = queue_of(settings)
        self._tracing = tracing(settings, self.decisions)
        self._backends = Backends(settings, self.metrics, self._tracing)
        prepared = settings.embedding_dir if settings.embedding_dir.name else None
        self._embedder = Embedder(prepared=prepared)
        cache = Cache(
            self.queue.redis,
            self.decisions,
            prefix=settings.cache_prefix or settings.queue_prefix,
            base_ttl_s=settings.cache_ttl_s,
            floor=settings.cache_floor,
        )
        answering = Answering(
            settings,
            backends=self._backends,
            cache=cache,
            decisions=self.decisions,
            embedder=self._embedder,
            metrics=self.metrics,
            tracing=self._tracing,
        )
        self._delivery = Delivery(
            settings,
            queue=self.queue,
            answering=answering,
            decisions=self.decisions,
            metrics=self.metrics,
            tracing=self._tracing,
        )
        self._held: dict[str, tuple[Entry, asyncio.Task[None] | None]] = {}
        self._ending = asyncio.Event()
        self._looked_at = 0.0
        self.queue.before_moving(self._let_go)
        self.state_problem = "Redis has not been asked yet"

    def problems(self) -> list[str]:
        """Why this pod is not ready; nothing where it is."""
        found = list(self.decisions.problems)
        found += [self.state_problem] if self.state_problem else []
        return [*found, *(["this pod ends"] if self._ending.is_set() else [])]

    def end(self) -> None:
        """Begin nothing more."""
        self._ending.set()

    # -- the life of the process --------------------------------------------------------------

    async def run(self) -> None:
        """Until `end` was called, and what is in hand is done or handed over."""
        await asyncio.to_thread(self._embedder.embed, ["ready"])
        renew_s = self._settings.claim_idle_ms / 3000
        work = ((self._renew, renew_s), (self._show, SHOW_S), (self._learn, LEARN_S))
        upkeep = [asyncio.create_task(every(seconds, step)) for step, seconds in work]
        gc.collect()
        gc.freeze()
        give_back_memory()
        try:
            await self._until_ended()
            await self._let_go()
        finally:
            for task in upkeep:
                task.cancel()
            await self._backends.close()
            await self.queue.close()
            self._tracing.close()

    async def _until_ended(self) -> None:
        while not self._ending.is_set():
            try:
                if self.state_problem:
                    await self.queue.prepare()
                    self.state_problem = ""
                await self._turn()
            except StoreUnavailable as error:
                self.state_problem = str(error)
                log.warning("%s", error)
                await asyncio.sleep(AGAIN_S)

    async def _turn(self) -> None:
        """Take what there is room for: first what others left, alone; then what nobody has had yet."""
        if time.monotonic() - self._looked_at >= min(1.0, self._settings.claim_idle_ms / 2000):
            left = await self.queue.claim(self._held)
            if left is not None:
                await self._alone(left)
                return  # and look again at once
            self._looked_at = time.monotonic()
        room = self._settings.worker_concurrency - len(self._held)
        if room <= 0:
            await self._first_done()
            return
        for entry in await self.queue.read(room, BLOCK_MS):
            self._begin(entry)

    async def _alone(self, entry: Entry) -> None:
        """Work on an entry with nothing beside it."""
        self._held[entry.id] = entry, None
        while self._tasks() and not self._ending.is_set():
            await self._first_done()
        if not self._ending.is_set() and entry.id in self._held:
            self._begin(entry)
            await self._first_done()

    async def _first_done(self) -> None:
        """Until one of those in hand is done, or this process is to end."""
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait({*self._tasks(), ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ending.cancel()

    def _begin(self, entry: Entry) -> None:
        task = asyncio.create_task(self._work(entry))
        self._held[entry.id] = entry, task
        self.metrics.held.set(len(self._held))

    async def _work(self, entry: Entry) -> None:
        try:
            await self._delivery.deliver(entry)
        except Exception:
            log.exception("entry %s comes again", entry.id)
        finally:
            self._held.pop(entry.id, None)
            self.metrics.held.set(len(self._held))

    def _tasks(self) -> set[asyncio.Task[None]]:
        return {task for _, task in self._held.values() if task is not None}

    async def _let_go(self) -> None:
        """Finish what is in hand, for some time; hand over the rest."""
        deadline_s = self._settings.drain_deadline_s
        log.info("letting go: %.0f s for %d entries", deadline_s, len(self._held))
        if tasks := self._tasks():
            await asyncio.wait(tasks, timeout=deadline_s)
        left = list(self._held.values())
        for _, task in left:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for _, task in left if task), return_exceptions=True)
        for entry, _ in left:
            self._held.pop(entry.id, None)
            try:
                await self.queue.hand_over(entry)
            except StoreUnavailable as error:
                log.warning("entry %s not handed over: %s", entry.id, error)

    # -- upkeep -------------------------------------------------------------------------------

    async def _renew(self) -> None:
        """Say what is held, and let go of what is another's or was cancelled."""
        held = list(self._held)
        if not held:
            return
        for name in await self.queue.renew(held):
            entry, task = self._held.get(name, (None, None))
            log.warning("entry %s is another worker's now", name)
            if task is not None:
                task.cancel()
                self._held.pop(name, None)
        for entry, task in list(self._held.values()):
            if task and entry.job and (await self.queue.job(entry.job)).get("status") == CANCELLED:
                task.cancel()
                self._held.pop(entry.id, None)
                await self.queue.acknowledge(entry)

    async def _show(self) -> None:
        await show_depth(self.queue, self.metrics)

    async def _learn(self) -> None:
        """What vLLM serves, and how long its context is."""
        try:
            await self._backends.learn_model()
        except BackendFailed as failed:
            log.info("%s", failed)


async def _run(settings: JobsSettings) -> None:
    worker = Worker(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.end)
    worker.metrics.serve(settings.host, settings.metrics_port, worker.problems)
    await worker.run()


def serve(settings: JobsSettings) -> None:
    """Work until SIGTERM, and until what is in hand then is done or handed over."""
    asyncio.run(_run(settings))
