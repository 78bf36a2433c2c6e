"""What happens to one entry of the stream: the steps in the order that the decision `order` gives.

An entry whose worker ended without a word comes again, and so does one whose backend failed: the decision
`after_failure` says how often. What cannot be helped goes to the dead letters, with its reason.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from helpers.apps.jobs.answering import Answer, Answering
from helpers.apps.jobs.decisions import DEAD_LETTER
from helpers.apps.jobs.metrics import Metrics
from helpers.apps.jobs.settings import JobsSettings
from helpers.apps.jobs.store import Entry, Queue, Started, StoreUnavailable
from helpers.apps.orchestrator.errors import BackendFailed
from helpers.apps.orchestrator.mounted import Decisions
from helpers.apps.orchestrator.tracing import Tracing

log = logging.getLogger("jobs")
T = TypeVar("T")
AGAIN_S = 0.5
# What no other try makes better: the question's own fault, or the operator's.
REFUSED = (
    *("context_exceeded", "unsupported", "model_missing", "budget_spent"),
    *("refused", "wrong_dimension", "collection_missing"),
)


class Delivery:
    """One entry after another, as a worker gets them."""

    def __init__(
        self,
        settings: JobsSettings,
        *,
        queue: Queue,
        answering: Answering,
        decisions: Decisions,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._settings, self._queue, self._answering = settings, queue, answering
        self._decisions, self._metrics, self._tracing = decisions, metrics, tracing

    async def deliver(self, entry: Entry) -> None:
        """Work on an entry until it is done with, or has to come again."""
        if entry.fault:
            log.warning("entry %s: %s", entry.id, entry.fault)
            await self._bury(entry, entry.fault, "format", 1)
            return
        started = await insist(lambda: self._queue.start(entry.job))
        self._metrics.deliveries.inc()
        if started.outcome == "unknown":
            await self._bury(entry, "there is no such job", "format", 1)
        elif started.outcome != "start":  # done, failed or cancelled by now
            await insist(lambda: self._queue.acknowledge(entry))
        elif not await self._given_up(entry, started):
            await self._steps(entry, started)

    async def _given_up(self, entry: Entry, started: Started) -> bool:
        """Whether the deliveries before this one were enough, where their worker ended without a word."""
        before = started.attempts - 1
        if not before or started.last_failure:
            return False
        if self._decisions.ask("after_failure", "worker_lost", before) != DEAD_LETTER:
            return False
        reason = f"its worker ended without a word, {before} times"
        await self._bury(entry, reason, "worker_lost", before, started)
        return True

    async def _steps(self, entry: Entry, started: Started) -> None:
        answer = Answer("")
        try:
            for step in self._decisions.ask("order"):
                if step == "acknowledge":
                    await insist(lambda: self._queue.acknowledge(entry))
                elif step == "answer":
                    answer = await self._answering.answer(entry.job, started.fields)
                else:
                    await self._store(entry, started, answer)
        except (BackendFailed, StoreUnavailable) as failed:
            await self._after(entry, started, failed)

    async def _store(self, entry: Entry, started: Started, answer: Answer) -> None:
        tenant = started.fields["tenant"]
        told = {
            "answer": answer.text,
            "citations": json.dumps(answer.citations),
            "model": answer.model,
            "tokens": str(answer.tokens),
            "cached": answer.cached,
            "similarity": f"{answer.similarity:g}",
            "worker": self._settings.pod,
        }
        with self._tracing.span("record"):
            outcome, seconds = await insist(lambda: self._queue.store(entry.job, tenant, told))
        if outcome == "stored":
            self._metrics.job.observe(seconds)
        self._metrics.jobs.labels({"stored": "done"}.get(outcome, outcome), tenant).inc()

    async def _after(self, entry: Entry, started: Started, failed: Exception) -> None:
        """The delivery failed: once more, or never again."""
        kind = (
            "refused"
            if isinstance(failed, BackendFailed) and failed.failure.kind in REFUSED
            else "backend_failed"
        )
        log.warning("job %s, delivery %d: %s", entry.job, started.attempts, failed)
        if self._decisions.ask("after_failure", kind, started.attempts) == DEAD_LETTER:
            await self._bury(entry, str(failed), kind, started.attempts, started)
            return
        self._metrics.jobs.labels("again", started.fields["tenant"]).inc()
        await insist(lambda: self._queue.failed(entry.job, kind))  # it stays pending, and is claimed later

    async def _bury(
        self, entry: Entry, reason: str, kind: str, deliveries: int, started: Started | None = None
    ) -> None:
        tenant = started.fields["tenant"] if started else entry.fields.get("tenant", "")
        await insist(
            lambda: self._queue.bury(
                entry, reason, kind=kind, deliveries=deliveries, tenant=tenant, is_known=started is not None
            )
        )
        self._metrics.jobs.labels("dead_letter", tenant if started else "none").inc()


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask Redis until it answers: what a worker has in hand is worth the wait, and ends with its process."""
    while True:
        try:
            return await ask()
        except StoreUnavailable as error:
            log.warning("%s: asked again in %g s", error, AGAIN_S)
        await asyncio.sleep(AGAIN_S)
