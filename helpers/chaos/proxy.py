"""A recording proxy: whoever calls through it is judged by the attempts it made, not by its text.

It listens on loopback, writes down every request, and answers from a script (a status, a reset, a
silence) or passes the request on to the real backend. Where the backend cannot be reached the client
gets a reset connection, as it would from a pod that is going away.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.errors import LabError

RESET, HANG, FORWARD = "reset", "hang", "forward"
HANG_S = 30.0
UPSTREAM_TIMEOUT_S = 5.0
Answer = int | str


@dataclass(frozen=True)
class Attempt:
    """One request as the proxy saw it: when (monotonic seconds), and how it ended."""

    t: float
    path: str
    outcome: str


@dataclass
class Script:
    """What to answer, request by request; the last item repeats."""

    answers: Sequence[Answer]
    _next: int = field(default=0, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def take(self) -> Answer:
        with self._lock:
            answer = self.answers[min(self._next, len(self.answers) - 1)]
            self._next += 1
            return answer


class RecordingProxy:
    """A context manager; `url` is where clients call, `attempts` what they did.

    Args:
        script: the answers; `FORWARD` passes a request on to `upstream`.
        upstream: where to, as (host, port), asked again for each request; LabError when there is none.
    """

    def __init__(self, script: Script, upstream: Callable[[], tuple[str, int]] | None = None) -> None:
        self.script, self.upstream = script, upstream
        self._attempts: list[Attempt] = []
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))

    def __enter__(self) -> RecordingProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def attempts(self) -> list[Attempt]:
        with self._lock:
            return list(self._attempts)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Record one request and answer it."""
        began = time.monotonic()
        with self._lock:
            # Written down at once: a client that gives up on a silence has made its attempt all the same.
            number = len(self._attempts)
            self._attempts.append(Attempt(began, handler.path, HANG))
        outcome, reply = self._decide(handler)
        with self._lock:
            # And how it ends, before the client knows: whoever looks after the answer must find it.
            self._attempts[number] = Attempt(began, handler.path, outcome)
        reply()

    def _decide(self, handler: BaseHTTPRequestHandler) -> tuple[str, Callable[[], None]]:
        """How a request ends, and what makes it end so."""
        wanted = self.script.take()
        if wanted == HANG:
            return HANG, partial(_wait, self._closing)
        if wanted == RESET:
            return RESET, partial(_reset, handler)
        if wanted != FORWARD:
            return str(wanted), partial(_reply, handler, int(wanted), b"{}")
        try:
            status, body = self._forward(handler)
        except (OSError, http.client.HTTPException, LabError):
            return RESET, partial(_reset, handler)
        return str(status), partial(_reply, handler, status, body)

    def _forward(self, handler: BaseHTTPRequestHandler) -> tuple[int, bytes]:
        if self.upstream is None:
            raise OSError("no upstream")
        host, port = self.upstream()
        connection = http.client.HTTPConnection(host, port, timeout=UPSTREAM_TIMEOUT_S)
        try:
            length = int(handler.headers.get("content-length") or 0)
            body = handler.rfile.read(length) if length else None
            connection.request(handler.command, handler.path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _wait(closing: threading.Event) -> None:
    closing.wait(HANG_S)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what this proxy is for: no traceback."""


def _handler(proxy: RecordingProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            proxy.answer(self)

        do_POST = do_GET
        do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            return

    return Handler


def _reply(handler: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    with suppress(OSError):
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)


def _reset(handler: BaseHTTPRequestHandler) -> None:
    """Close with a TCP reset: linger on, with no time to linger."""
    with suppress(OSError):
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
    handler.close_connection = True
