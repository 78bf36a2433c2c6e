"""Virtual time for tests of checks and of the engine: no threads, no sleeping, the same every time."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class VirtualRuntime:
    """A discrete-event simulation of `ThreadRuntime`.

    Work runs when it is spawned; what it sleeps moves only its own clock, and its answer arrives at
    the virtual moment when it would have ended.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._in_work = 0.0
        self._answers: list[tuple[float, int, Any]] = []
        self._spawned = 0

    def monotonic(self) -> float:
        return self._now + self._in_work

    def sleep(self, seconds: float) -> None:
        self._in_work += seconds

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self.monotonic())

    def spawn(self, work: Callable[[], Any]) -> None:
        self._in_work = 0.0
        answer = work()
        self._spawned += 1
        heapq.heappush(self._answers, (self._now + self._in_work, self._spawned, answer))
        self._in_work = 0.0

    def receive(self, timeout_s: float) -> Any | None:
        until = self._now + max(0.0, timeout_s)
        if self._answers and self._answers[0][0] <= until:
            self._now, _, answer = heapq.heappop(self._answers)
            return answer
        self._now = until
        return None
