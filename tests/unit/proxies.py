"""Small proxies for tests: HTTP with CONNECT, and SOCKS 5; each counts whom it led where."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit


class Proxy:
    """A listening proxy; `asked` are the host:port pairs that clients wanted to reach."""

    def __init__(self, kind: str) -> None:
        self.kind, self.asked, self.logins = kind, list[str](), list[str]()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"{kind}://127.0.0.1:{self._server.getsockname()[1]}"

    def run(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            host, port, first = self._socks(client) if self.kind.startswith("socks") else self._http(client)
            self.asked.append(f"{host}:{port}")
            with socket.create_connection((host, port), 10) as server:
                server.sendall(first)
                _both_ways(client, server)

    def _http(self, client: socket.socket) -> tuple[str, int, bytes]:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split()
        self.logins += [
            line.decode() for line in head.split(b"\r\n") if line.lower().startswith(b"proxy-auth")
        ]
        if method == "CONNECT":
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            host, _, port = target.rpartition(":")
            return host.strip("[]"), int(port), b""
        parts = urlsplit(target)
        return parts.hostname or "", parts.port or 80, head.replace(target.encode(), parts.path.encode(), 1)

    def _socks(self, client: socket.socket) -> tuple[str, int, bytes]:
        methods = client.recv(2)
        client.recv(methods[1])
        client.sendall(b"\x05\x00")
        kind = client.recv(4)[3]
        if kind == 3:
            host = client.recv(client.recv(1)[0]).decode()
        else:
            host = socket.inet_ntop(
                *((socket.AF_INET, client.recv(4)) if kind == 1 else (socket.AF_INET6, client.recv(16)))
            )
        (port,) = struct.unpack(">H", client.recv(2))
        client.sendall(b"\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00")
        return host, port, b""


def _both_ways(client: socket.socket, server: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([client, server], [], [], 30)
        for one in ready:
            data = one.recv(65536)
            if not data:
                return
            (server if one is client else client).sendall(data)
        if not ready:
            return


@contextmanager
def proxy(kind: str) -> Iterator[Proxy]:
    """A proxy of this kind: http or socks5."""
    running = Proxy(kind)
    threading.Thread(target=running.run, daemon=True).start()
    try:
        yield running
    finally:
        running.close()
