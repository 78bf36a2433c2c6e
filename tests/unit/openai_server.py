"""A small OpenAI-compatible server on loopback, for tests of the client: it behaves, or misbehaves as told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

METRICS = 'vllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_waiting{engine="0"} 3.0\n'
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class OpenAIServer(ThreadingHTTPServer):
    """What to do is set from outside: `status` and `body` for errors, `break_after` for streams.

    With a `meeting`, nobody who asks for a completion is answered before all are there.
    """

    daemon_threads = True
    block_on_close = False
    status = 200
    body = ""
    break_after: int | None = None
    delay_s = 0.0
    token_gap_s = 0.0
    context_tokens = 64
    meeting: threading.Barrier | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, Any, str | None]] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up is what some tests are about: no trace of it on the console."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: OpenAIServer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._handle(None)

    def do_POST(self) -> None:
        self._handle(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _handle(self, body: Any) -> None:
        self.server.requests.append((self.path, body, self.headers.get("Authorization")))
        time.sleep(self.server.delay_s)
        if self.server.status != 200:
            return self._send(self.server.status, self.server.body)
        if self.path == "/health":
            return self._send(200, "")
        if self.path == "/metrics":
            return self._send(200, METRICS)
        if self.path == "/v1/models":
            model = {"id": "small", "max_model_len": self.server.context_tokens, "root": "/m"}
            return self._send(200, json.dumps({"data": [model]}))
        if self.path == "/tokenize":
            return self._send(200, json.dumps({"count": 5, "max_model_len": 64}))
        if self.server.meeting:
            self.server.meeting.wait()
        if body.get("stream"):
            return self._stream()
        message = {"role": "assistant", "content": "Hello there"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": "small", "choices": [choice]}
        return self._send(200, json.dumps({**whole, "usage": USAGE}))

    def _send(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if text.startswith("{") else "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        pieces = ["One", " two", " three"]
        for number, piece in enumerate(pieces):
            if number == self.server.break_after:
                return
            last = number == len(pieces) - 1
            choice = {"delta": {"content": piece}, "finish_reason": "length" if last else None}
            self._event({"model": "small", "choices": [choice]})
            time.sleep(self.server.token_gap_s)
        self._event({"model": "small", "choices": [], "usage": USAGE})
        self.wfile.write(b"data: [DONE]\n\n")

    def _event(self, event: dict[str, Any]) -> None:
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()


@contextmanager
def running() -> Iterator[OpenAIServer]:
    """The server, for as long as the block lasts."""
    server = OpenAIServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
