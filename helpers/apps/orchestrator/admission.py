"""Who may come in, who waits, and whose turn it is.

`GENERATION_CONCURRENCY` requests are worked on at once, from the first read of their thread to the
answer; `RETRIEVAL_CONCURRENCY` of them may be at Qdrant. Who finds all places taken waits, if the
decision `admit` lets them, and turns go round the tenants: a tenant with ninety requests delays
another by one.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from helpers.apps.orchestrator.decisions import CLASSES
from helpers.apps.orchestrator.errors import QueueFull
from helpers.apps.orchestrator.meter import Meter
from helpers.apps.orchestrator.metrics import Metrics
from helpers.apps.orchestrator.mounted import Decisions

RETRY_AFTER_S = 2
_RANK = {name: rank for rank, name in enumerate(CLASSES)}


@dataclass(eq=False)
class Ticket:
    """One admitted request; it `waits` until it has a place."""

    tenant: str
    budget_class: str
    waits: bool = False


class Places:
    """A semaphore whose waiters take turns by tenant, and in a tenant by class, then by arrival."""

    def __init__(self, limit: int) -> None:
        self.free = limit
        self._waiting: OrderedDict[str, list[tuple[int, asyncio.Future[None]]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, tenant: str, budget_class: str) -> AsyncIterator[None]:
        """Hold a place for as long as the block lasts."""
        await self._take(tenant, _RANK.get(budget_class, len(_RANK)))
        try:
            yield
        finally:
            self._give_back()

    async def _take(self, tenant: str, rank: int) -> None:
        if self.free > 0 and not self._waiting:
            self.free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._waiting.setdefault(tenant, [])
        queue.append((rank, turn))
        queue.sort(key=lambda item: item[0])
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back()
            else:
                self._leave(tenant, turn)
            raise

    def _give_back(self) -> None:
        self.free += 1
        while self._waiting and self.free > 0:
            tenant, queue = self._waiting.popitem(last=False)
            _, turn = queue.pop(0)
            if queue:
                self._waiting[tenant] = queue  # at the end: the others come first
            if not turn.done():
                self.free -= 1
                turn.set_result(None)

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        queue = [item for item in self._waiting.get(tenant, []) if item[1] is not turn]
        if queue:
            self._waiting[tenant] = queue
        else:
            self._waiting.pop(tenant, None)


class Admission:
    """The door: how many are in, how many of them wait, and the places."""

    def __init__(
        self, decisions: Decisions, metrics: Metrics, *, generation: int, retrieval: int, queue_limit: int
    ) -> None:
        self._decisions, self._metrics = decisions, metrics
        self._generation_limit, self._queue_limit = generation, queue_limit
        self._generation, self._retrieval = Places(generation), Places(retrieval)
        self._inside: set[Ticket] = set()

    @property
    def waiting(self) -> dict[str, int]:
        """By tenant, how many wait."""
        return dict(Counter(ticket.tenant for ticket in self._inside if ticket.waits))

    @property
    def has_room(self) -> bool:
        """Whether a request that came now would find a place, free or to wait in."""
        return len(self._inside) < self._generation_limit or sum(self.waiting.values()) < self._queue_limit

    @contextmanager
    def enter(self, tenant: str, budget_class: str, *, unasked: bool = False) -> Iterator[Ticket]:
        """Let a request in for as long as the block lasts; `unasked` is for one that was admitted elsewhere.

        Raises:
            QueueFull: all places are taken, and the decision does not let it wait.
        """
        ticket = Ticket(tenant, budget_class)
        if len(self._inside) >= self._generation_limit:
            if not unasked and not self._decisions.ask("admit", tenant, self.waiting, self._queue_limit):
                self._metrics.shed.labels("queue_full").inc()
                raise QueueFull(
                    f"{sum(self.waiting.values())} requests wait already", retry_after_s=RETRY_AFTER_S
                )
            self._set_waiting(ticket, True)
        self._inside.add(ticket)
        self._metrics.inflight.labels(budget_class).inc()
        try:
            yield ticket
        finally:
            self._inside.discard(ticket)
            self._metrics.inflight.labels(budget_class).dec()
            self._set_waiting(ticket, False)

    @asynccontextmanager
    async def place(self, ticket: Ticket, meter: Meter) -> AsyncIterator[None]:
        """A place among those who are worked on.

        Raises:
            DeadlinePassed: none became free in time.
        """
        began = time.monotonic()
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(meter.left_ms / 1000):
                    await held.enter_async_context(self._generation.place(ticket.tenant, ticket.budget_class))
            except TimeoutError as error:
                raise meter.passed() from error
            self._metrics.queue_wait.observe(time.monotonic() - began)
            self._set_waiting(ticket, False)
            yield

    @asynccontextmanager
    async def retrieval(self, ticket: Ticket) -> AsyncIterator[None]:
        """A place at Qdrant."""
        async with self._retrieval.place(ticket.tenant, ticket.budget_class):
            yield

    def _set_waiting(self, ticket: Ticket, waits: bool) -> None:
        if ticket.waits != waits:
            ticket.waits = waits
            self._metrics.queue_waiting.labels(ticket.budget_class).inc(1 if waits else -1)
