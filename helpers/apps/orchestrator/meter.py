"""The time of one run: a deadline made once and handed down, and what each hop took of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from helpers.apps.orchestrator.decisions import HOPS, Budget
from helpers.apps.orchestrator.errors import DeadlinePassed
from helpers.apps.orchestrator.metrics import Metrics
from helpers.apps.orchestrator.mounted import Decisions


class HopTimedOut(Exception):
    """A hop used up its own share of the time."""

    def __init__(self, hop: str, limit_ms: int) -> None:
        super().__init__(f"{hop} took more than its {limit_ms} ms")
        self.hop = hop


class Meter:
    """What one run may spend, and has spent."""

    def __init__(self, budget: Budget, decisions: Decisions, metrics: Metrics) -> None:
        self.budget = budget
        self._decisions, self._metrics = decisions, metrics
        self._began = time.monotonic()
        self.spent_ms: dict[str, int] = dict.fromkeys(HOPS, 0)

    @property
    def left_ms(self) -> int:
        return self.budget.deadline_ms - int(1000 * (time.monotonic() - self._began))

    @asynccontextmanager
    async def hop(self, name: str) -> AsyncIterator[None]:
        """Do something within a hop's share of what is left.

        Raises:
            DeadlinePassed: nothing was left to begin with.
            HopTimedOut: the share was used up.
        """
        left_ms = self.left_ms
        if left_ms <= 0:
            raise self.passed()
        limit_ms = min(left_ms, self._decisions.ask("hop_deadline_ms", self.budget, name, left_ms))
        began = time.monotonic()
        try:
            async with asyncio.timeout(limit_ms / 1000) as timeout:
                yield
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise HopTimedOut(name, limit_ms) from error
        finally:
            seconds = time.monotonic() - began
            self.spent_ms[name] += round(1000 * seconds)
            self._metrics.hop.labels(name).observe(seconds)

    def passed(self) -> DeadlinePassed:
        return DeadlinePassed(f"the {self.budget.deadline_ms} ms of class {self.budget.name} are used up")

    def report(self) -> dict[str, object]:
        """The answer's `budget`."""
        return {
            "class": self.budget.name,
            "deadline_ms": self.budget.deadline_ms,
            "spent_ms": dict(self.spent_ms),
            "left_ms": max(0, self.left_ms),
        }
