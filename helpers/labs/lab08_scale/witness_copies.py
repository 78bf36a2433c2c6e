"""Copies of the worker in a queue of their own, with the learner's decisions, for the witnesses `delivery` and `storm`.

Their model server is one of this program's, which counts and waits, and between a copy and Redis may stand a proxy
that ends the copy at a step.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.labs.lab08_scale.witness_asking import FINISHED, ME, ONE, Stream, Unseen, database
from helpers.labs.witness_base import Record

READY_S = 90.0


class Engine(ThreadingHTTPServer):
    """A model server, and a Qdrant, that count; `fails` says how often a question is answered with a status first."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Engine)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.hold_s = 0.2
        self.asked: list[str] = []
        self.fails: dict[str, tuple[int, int]] = {}
        self.lock = threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def count(self, text: str) -> int:
        """How many generations were begun for this question."""
        with self.lock:
            return sum(text in asked for asked in self.asked)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A copy that is killed leaves its calls."""


class _Engine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Engine

    def do_GET(self) -> None:
        model = {"id": "a-model", "object": "model", "created": 1, "owned_by": "w", "max_model_len": 4096}
        self._say(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        if self.path.endswith("/points/query"):
            point = {"id": "p-1", "score": 0.9, "payload": {"title": "A page", "text": "A passage."}}
            self._say(200, {"result": {"points": [point]}})
        elif self.path == "/tokenize":
            self._say(200, {"count": 50})
        else:
            self._complete(str(body["messages"][-1]["content"]))

    def _complete(self, text: str) -> None:
        server = self.server
        with server.lock:
            server.asked.append(text)
            number = len(server.asked)
            tries = sum(asked == text for asked in server.asked)
        status, times = next((rule for mark, rule in server.fails.items() if mark in text), (200, 0))
        time.sleep(server.hold_s)
        if tries <= times:
            said = "maximum context length is exceeded" if status == 400 else "not now"
            self._say(status, {"error": {"message": said, "code": status}})
            return
        message = {"role": "assistant", "content": f"Answer {number}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}
        about = {"id": "c", "object": "chat.completion", "created": 1, "model": "a-model", "usage": usage}
        self._say(200, {**about, "choices": [choice]})

    def _say(self, status: int, body: Record) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """The witness's own log has no place for calls."""


class Cutter:
    """Stands between a copy and Redis; ends the copy when Redis has carried out a command that has `mark` in it."""

    def __init__(self, url: str) -> None:
        place = urllib.parse.urlsplit(url)
        self._upstream = (place.hostname or "", place.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        self.mark, self.end = b"", threading.Event()
        self.is_late: Callable[[], bool] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            with suppress(OSError):
                server = socket.create_connection(self._upstream)
                held = threading.Event()
                for source, target, watched in ((client, server, True), (server, client, False)):
                    work = (source, target, watched, held)
                    threading.Thread(target=self._pass, args=work, daemon=True).start()

    def _pass(
        self, source: socket.socket, target: socket.socket, watched: bool, held: threading.Event
    ) -> None:
        with suppress(OSError):
            while piece := source.recv(65536):
                if watched and self.mark and self.mark in piece:
                    if self.is_late is None:
                        held.set()  # what Redis says to this, the copy never hears
                    elif self.is_late():
                        self.end.set()
                        return
                if held.is_set() and not watched and not piece.startswith(b"-NOSCRIPT"):
                    self.mark = b""
                    self.end.set()
                    return
                target.sendall(piece)
        for end in (source, target):
            with suppress(OSError):
                end.close()


class Copies:
    """Copies of the worker in a queue of their own."""

    def __init__(self, name: str, **settings: str) -> None:
        self.engine, self.prefix = Engine(), f"{name}-{ME}:"
        self.client = database()
        self._settings = settings
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._streams: dict[str, Stream] = {}

    def start(self, name: str, *, ready: bool = True, **settings: str) -> subprocess.Popen[bytes]:
        """One more copy, ready unless it ends before.

        Raises:
            Unseen: it does not become ready, in the words of its probe.
        """
        port = _free_port()
        environment = {
            **os.environ,
            "POD": name,
            "HOST": "127.0.0.1",
            "METRICS_PORT": str(port),
            "MODEL": "a-model",
            "VLLM_BASE_URL": f"{self.engine.url}/v1",
            "QDRANT_BASE_URL": self.engine.url,
            "QUEUE_PREFIX": self.prefix,
            "CACHE_PREFIX": self.prefix,
            "CLAIM_IDLE_MS": "600",
            "LOG_LEVEL": "ERROR",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "",
            **self._settings,
            **settings,
        }
        command = [sys.executable, "-m", "helpers.apps.jobs", "worker"]
        copy = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        self._running[name] = copy
        if ready:
            _ready(port, copy)
        return copy

    def kill(self, name: str) -> None:
        """End a copy as the kernel does."""
        with suppress(ProcessLookupError):
            self._running[name].send_signal(signal.SIGKILL)
        self._running[name].wait()

    def submit(self, text: str, **how: str) -> str:
        """A job straight into the queue; its id."""
        (name,) = self.submit_at_once(1, text, **how)
        return name

    def submit_at_once(
        self,
        count: int,
        text: str,
        *,
        tenant: str = ONE,
        to: str = "",
        version: str = "v1",
        cache: str = "on",
        **of: str,
    ) -> list[str]:
        """As many jobs that ask the same, none of which waits for another to be accepted."""
        stream = self.stream(to)
        fields = {"tenant": tenant, "question": text, "prompt_version": version, "retrieve": "off"}
        fields |= {"cache": cache, "max_tokens": "8", **of}
        names = [f"j-{os.urandom(8).hex()}" for _ in range(count)]

        async def all_of_them() -> None:
            await asyncio.gather(*(stream.queue.enqueue(name, fields, limit=10_000) for name in names))

        stream.wait(all_of_them())
        return names

    def look(self, name: str, to: str = "") -> Record:
        found: Record = self.client.hgetall(f"{to or self.prefix}job:{name}")
        return found

    def finished(self, names: Iterable[str], within_s: float = 30.0, to: str = "") -> dict[str, Record]:
        """These jobs, when they are finished or the time is over."""
        wanted, end = list(names), time.monotonic() + within_s
        while True:
            found = {name: self.look(name, to) for name in wanted}
            if all(job.get("status") in FINISHED for job in found.values()) or time.monotonic() > end:
                return found
            time.sleep(0.05)

    def close(self) -> None:
        """End all, and leave nothing in the learner's Redis."""
        for name in self._running:
            self.kill(name)
        for stream in self._streams.values():
            stream.wait(stream.queue.drop())
            stream.close()
        keys = [key for prefix in self._streams for key in self.client.scan_iter(f"{prefix}*", count=500)]
        for key in {*keys, *self.client.scan_iter(f"{self.prefix}*", count=500)}:
            self.client.delete(key)

    def stream(self, prefix: str = "") -> Stream:
        """The stream of these copies, or of those that have another prefix."""
        prefix = prefix or self.prefix
        if prefix not in self._streams:
            self._streams[prefix] = Stream(prefix)
            self._streams[prefix].wait(self._streams[prefix].queue.prepare())
        return self._streams[prefix]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _ready(port: int, copy: subprocess.Popen[bytes]) -> None:
    end, said = time.monotonic() + READY_S, "it does not answer"
    while time.monotonic() < end and copy.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            response = connection.getresponse()
            told = json.loads(response.read())
            if response.status == 200:
                return
            said = "; ".join(told["problems"])
            if ".py" in said:
                break  # a decision that cannot be used is no matter of time
        except (OSError, http.client.HTTPException, ValueError):
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise Unseen(f"a worker does not become ready: {said}"[:400])
