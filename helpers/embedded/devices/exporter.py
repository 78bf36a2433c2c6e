"""`/metrics` over HTTP, computed when it is asked for and at no other time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

log = logging.getLogger(__name__)

# A client that connects and says nothing must not keep its thread.
REQUEST_TIMEOUT_S = 5.0
TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Exporter:
    """An HTTP server for what `read` returns: `/metrics`, and `/health` for a probe."""

    def __init__(self, address: tuple[str, int], read: Callable[[], str]) -> None:
        self._server = ThreadingHTTPServer(address, _handler(read))
        self._server.daemon_threads = True

    @property
    def port(self) -> int:
        """Where it listens, also when it was told to choose."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Answer from a thread of its own."""
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


def started(address: str, read: Callable[[], str]) -> Exporter | None:
    """An exporter that answers at `HOST:PORT`; None where the port is taken: GPUs matter more than figures."""
    host, _, port = address.rpartition(":")
    try:
        exporter = Exporter((host, int(port)), read)
    except OSError as fault:
        log.error("no metrics at %s: %s", address, fault)
        return None
    exporter.start()
    return exporter


def _handler(read: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/health":
                self._answer(200, "OK\n")
            elif path == "/metrics":
                self._answer(*_scraped(read))
            else:
                self._answer(404, "/metrics and /health are here\n")

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", TEXT)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A line for each scrape would be all that the log holds."""

    return Handler


def _scraped(read: Callable[[], str]) -> tuple[int, str]:
    try:
        return 200, read()
    except grpc.RpcError as fault:
        return 503, f"the kubelet or the container runtime does not answer: {fault.code()}\n"
