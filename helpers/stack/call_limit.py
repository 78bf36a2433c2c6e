"""A limit on a whole HTTP call, which the time-outs of httpx are not.

Those bound each read: a server that sends a byte now and then could hold a call for ever, and one
that stalls half-way takes twice the limit. Here a timer ends the connection when the call's time is up.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

_OPENED = ("connection.connect_tcp.complete", "connection.start_tls.complete")


class CallLimit:
    """Around one call: `extensions={"trace": limit.watch}` tells it which connection to end.

    Args:
        limit_s: what the call may take as a whole.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s, self.is_over = limit_s, False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(limit_s, self._end)
        self._timer.daemon = True

    def __enter__(self) -> CallLimit:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def watch(self, event: str, info: dict[str, Any]) -> None:
        """The `trace` extension of httpcore: each connection is seen when it opens."""
        if event in _OPENED:
            with self._lock:
                self._socket = info["return_value"].get_extra_info("socket")
                if self.is_over:
                    self._cut()

    def _end(self) -> None:
        with self._lock:
            self.is_over = True
            self._cut()

    def _cut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # closed already: whoever reads from it knows
                self._socket.shutdown(socket.SHUT_RDWR)
