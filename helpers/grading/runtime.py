"""Threads and time for the engine, behind one small seam so that tests can bring virtual time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol


class Runtime(Protocol):
    """Runs work beside the caller and hands its answers back; also a `helpers.cluster` Clock."""

    def monotonic(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...

    def now(self) -> datetime: ...

    def spawn(self, work: Callable[[], Any]) -> None:
        """Run `work` beside the caller; its result can be received."""

    def receive(self, timeout_s: float) -> Any | None:
        """The next result, or None when none came within `timeout_s`."""


class ThreadRuntime:
    """Real threads and the machine's clock.

    The threads are daemons: a check that hangs past its deadline is left behind, and must not keep
    the process alive.
    """

    def __init__(self) -> None:
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def spawn(self, work: Callable[[], Any]) -> None:
        threading.Thread(target=lambda: self._inbox.put(work()), daemon=True, name="check").start()

    def receive(self, timeout_s: float) -> Any | None:
        try:
            return self._inbox.get(timeout=max(0.0, timeout_s))
        except queue.Empty:
            return None
