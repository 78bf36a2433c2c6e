"""Circuit breakers: a backend that fails is left alone for a while, then asked once."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from helpers.apps.orchestrator.metrics import BACKENDS, Metrics
from helpers.apps.orchestrator.mounted import Decisions

REMEMBERED = 20
CLOSED, HALF_OPEN, OPEN = 0, 1, 2


@dataclass
class Circuit:
    """What is remembered of one circuit: the latest outcomes, and since when it is open."""

    outcomes: deque[bool] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    opened_at: float | None = None
    is_tried: bool = False


class Circuits:
    """The circuits by the name that the decision `circuit_of` gives a backend's."""

    def __init__(
        self,
        decisions: Decisions,
        metrics: Metrics,
        *,
        open_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._decisions, self._metrics, self._clock, self.open_s = decisions, metrics, clock, open_s
        self._circuits: dict[str, Circuit] = {}

    def state(self, backend: str) -> int:
        circuit = self._of(backend)
        if circuit.opened_at is None:
            return CLOSED
        return HALF_OPEN if self._clock() - circuit.opened_at >= self.open_s else OPEN

    def wait_s(self, backend: str) -> float:
        """How long to wait before the next call; 0 lets the caller through.

        When the time is over one caller goes first, and the others wait for what it finds.
        """
        circuit, state = self._of(backend), self.state(backend)
        if state == CLOSED or (state == HALF_OPEN and not circuit.is_tried):
            circuit.is_tried = state == HALF_OPEN
            self.show()
            return 0.0
        self._metrics.short_circuited.labels(backend).inc()
        opened_at = self._clock() if circuit.opened_at is None else circuit.opened_at
        return max(1.0, opened_at + self.open_s - self._clock())

    def outcome(self, backend: str, ok: bool | None) -> None:
        """How a call ended; None when it was given up by the caller, which says nothing."""
        circuit = self._of(backend)
        was_tried, circuit.is_tried = circuit.is_tried, False
        if ok is None:
            return
        circuit.outcomes.append(ok)
        is_open = circuit.opened_at is not None
        if ok and was_tried:
            circuit.opened_at = None
            circuit.outcomes.clear()
        elif not ok and (is_open or self._decisions.ask("opens", list(circuit.outcomes))):
            circuit.opened_at = self._clock()
        self.show()

    def show(self) -> None:
        """Bring the gauges up to date."""
        for backend in BACKENDS:
            self._metrics.circuit_state.labels(backend).set(self.state(backend))

    def _of(self, backend: str) -> Circuit:
        return self._circuits.setdefault(self._decisions.ask("circuit_of", backend), Circuit())
