"""Port-forward with a real listener on loopback, for httpx, openai and qdrant-client.

The official client's port-forward is one socket pair; clients of HTTP services open many
connections and need an address. Each connection accepted here gets a WebSocket of its own to a pod
that is asked for at that moment, so a service outlives its pods. When there is no way through, a
client that speaks HTTP is answered 502 with the reason, and `error` keeps it.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import websocket

from helpers.cluster.channels import has_more, open_socket
from helpers.cluster.connection import Connection
from helpers.cluster.faults import Asked
from helpers.errors import LabError, ProbeInconclusive

Target = Callable[[], tuple[str, str, int]]
LOOPBACK = "127.0.0.1"
DATA, ERROR = 0, 1
PROTOCOLS = ["v4.channel.k8s.io"]
CONNECT_S = 10.0
# How long a client that closed its side may still wait for the rest of the answer.
LINGER_S = 1.0
_TICK_S = 0.5
_CHUNK = 1 << 16
_HEAD = 16
_HTTP = (b"GET ", b"POST ", b"PUT ", b"HEAD ", b"DELETE ", b"PATCH ", b"OPTIONS ")


class Listener:
    """A listening socket, and one thread for each connection through it."""

    def __init__(self, connection: Connection, target: Target, port: int = 0) -> None:
        self._connection, self._target = connection, target
        self._server = socket.create_server((LOOPBACK, port), backlog=64)
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self.host, self.port = LOOPBACK, int(self._server.getsockname()[1])
        self.error: LabError | None = None

    @property
    def url(self) -> str:
        """For HTTP clients."""
        return f"http://{self.host}:{self.port}"

    def start(self) -> None:
        """Accept connections until `close`."""
        self._run(self._accept)

    def close(self) -> None:
        """Stop listening, end all connections and wait for their threads."""
        self._closing.set()
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for thread in list(self._threads):
            thread.join(CONNECT_S + 1)

    def _run(self, work: Callable[[], None]) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=work, name=f"forward-{self.port}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._run(lambda client=client: self._serve(client))  # type: ignore[misc]

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pipe = _Pipe(client, self._closing)
            try:
                pipe.run(self._open())
            except LabError as error:
                self.error = error
            except (websocket.WebSocketException, OSError) as error:
                self.error = ProbeInconclusive(f"the forwarded connection broke: {error}")
                self.error.__cause__ = error
            else:
                return
            if not pipe.answered:
                _refuse(client, str(self.error), pipe.asked)

    def _open(self) -> websocket.WebSocket:
        namespace, pod, port = self._target()
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
        asked = Asked(f"port-forward to pod {pod}", "Pod", pod, namespace)
        return open_socket(self._connection, path, [("ports", str(port))], PROTOCOLS, CONNECT_S, asked)


@contextmanager
def listen(connection: Connection, target: Target, port: int = 0) -> Iterator[Listener]:
    """A listener while the context lasts; fails at once when there is nothing to forward to.

    Raises:
        OSError: somebody else listens on `port`; 0 is any that is free.
    """
    target()
    listener = Listener(connection, target, port)
    listener.start()
    try:
        yield listener
    finally:
        listener.close()


class _Pipe:
    """Bytes between a local client and one port of a pod."""

    def __init__(self, client: socket.socket, closing: threading.Event) -> None:
        self.client, self.closing = client, closing
        # The start of what the client sent, and whether anything came back.
        self.asked, self.answered = b"", False
        # Each channel starts with a frame that repeats the port number.
        self.greeted: set[int] = set()
        self.client_done = False

    def run(self, remote: websocket.WebSocket) -> None:
        """Carry bytes until either side ends, or the listener closes; closes the remote side."""
        try:
            self._carry(remote)
        finally:
            remote.shutdown()
        if self.asked and not self.answered and not self.closing.is_set() and not self.client_done:
            raise ProbeInconclusive("the pod closed the connection without an answer")

    def _carry(self, remote: websocket.WebSocket) -> None:
        inner = remote.sock
        assert inner is not None
        idle_s = 0.0
        while not self.closing.is_set():
            watched = [inner] if self.client_done else [inner, self.client]
            ready = [inner] if has_more(remote) else select.select(watched, [], [], _TICK_S)[0]
            idle_s = 0.0 if ready else idle_s + _TICK_S
            if self.client_done and idle_s >= LINGER_S:
                return
            if self.client in ready:
                self._send(remote)
            if inner in ready and not self._receive(remote):
                return

    def _send(self, remote: websocket.WebSocket) -> None:
        data = self.client.recv(_CHUNK)
        if data:
            self.asked = self.asked or data[:_HEAD]
            remote.send_binary(bytes([DATA]) + data)
        else:
            self.client_done = True

    def _receive(self, remote: websocket.WebSocket) -> bool:
        opcode, frame = remote.recv_data(control_frame=True)
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return False
        if opcode != websocket.ABNF.OPCODE_BINARY or not frame:
            return True
        channel, data = frame[0], frame[1:]
        if channel not in self.greeted:
            self.greeted.add(channel)
        elif channel == ERROR:
            raise ProbeInconclusive(
                f"the pod does not take the connection: {data.decode('utf-8', 'replace').strip()}"
            )
        elif data:
            self.answered = True
            self.client.sendall(data)
        return True


def _refuse(client: socket.socket, reason: str, asked: bytes) -> None:
    """Tell a client that speaks HTTP why there is no way through; others just see the end."""
    with suppress(OSError):
        client.settimeout(1.0)
        if (asked or client.recv(_CHUNK)).startswith(_HTTP):
            body = f"port-forward: {reason}\n".encode()
            head = f"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
            client.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
