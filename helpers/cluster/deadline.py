"""One monotonic deadline, made at the top and handed down: each call gets what remains."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Protocol

from helpers.errors import ProbeInconclusive


class Clock(Protocol):
    """Time that only moves forward; tests put their own in its place."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's monotonic clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


@dataclass(frozen=True)
class Deadline:
    """A moment after which nothing more is started; `Deadline(5)` is five seconds from now."""

    seconds: float
    clock: Clock = SYSTEM_CLOCK
    started_at: float = field(default=-1.0)

    def __post_init__(self) -> None:
        if self.started_at < 0:
            object.__setattr__(self, "started_at", self.clock.monotonic())

    @property
    def elapsed_s(self) -> float:
        """Seconds since the deadline was set."""
        return self.clock.monotonic() - self.started_at

    @property
    def remaining_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.seconds - self.elapsed_s)

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return self.remaining_s <= 0

    def grant(self, most_s: float, doing: str) -> float:
        """Seconds that one call may take; ProbeInconclusive when none are left."""
        remaining_s = self.remaining_s
        if remaining_s <= 0:
            raise ProbeInconclusive(f"the {self.seconds:g} s ran out before {doing}")
        return min(most_s, remaining_s)
