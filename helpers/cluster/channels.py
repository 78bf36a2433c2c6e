"""Commands in containers, over the WebSocket channels that kubectl uses.

The official client's `stream()` replaces a method of the client that everybody shares, connects
without a time limit, gives partial output for whole when its time is up, and fails with a TypeError
or KeyError where the command could not run. So each command gets a connection of its own here, its
deadline covers the handshake too, and its result is a result or an error that says why there is none.
"""

from __future__ import annotations

import json
import ssl
from typing import Any
from urllib.parse import urlencode

import websocket
from urllib3.util.ssltransport import SSLTransport

from helpers.cluster.backend import ExecResult
from helpers.cluster.connection import Connection
from helpers.cluster.deadline import Deadline
from helpers.cluster.faults import Asked, Response, error_of
from helpers.cluster.proxies import open_socket as connect
from helpers.errors import ClusterUnreachable, ProbeInconclusive, Refused

STDIN, STDOUT, STDERR, RESULT, CLOSE = 0, 1, 2, 3, 255
EXEC_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
_FRAME = 1 << 15


def open_socket(
    connection: Connection,
    path: str,
    query: list[tuple[str, str]],
    protocols: list[str],
    timeout_s: float,
    asked: Asked,
) -> websocket.WebSocket:
    """A WebSocket to the API server, or the error that its answer stands for."""
    login = [f"{name}: {value}" for name, value in connection.headers()]
    carrier = None
    try:
        carrier = connect(
            connection.server,
            connection.proxy,
            tls=connection.tls,
            server_name=connection.tls_server_name,
            timeout_s=timeout_s,
        )
        return websocket.create_connection(
            f"{connection.server.replace('http', 'ws', 1)}{path}?{urlencode(query)}",
            socket=carrier,
            timeout=timeout_s,
            subprotocols=protocols,
            header=login,
            suppress_origin=True,
        )
    except websocket.WebSocketBadStatusException as error:
        _close(carrier)
        raise error_of(Response(error.status_code, error.resp_body or b""), asked) from error
    except (websocket.WebSocketException, OSError) as error:
        _close(carrier)
        raise ClusterUnreachable(
            f"no connection to the API server at {connection.server} for {asked.doing}: {error}",
            next_command=connection.remedy,
        ) from error


def _close(carrier: Any) -> None:
    if carrier is not None:
        carrier.close()


def run(
    connection: Connection,
    namespace: str,
    pod: str,
    command: list[str],
    container: str | None,
    stdin: str | None,
    deadline: Deadline,
) -> ExecResult:
    """Run a command in a container and collect its exit code and both streams.

    `stdin` is sent whole before anything is read. ProbeInconclusive when the deadline passes or the
    command could not be started; ObjectMissing when there is no such pod.
    """
    what = f"{command[0]} in pod {namespace}/{pod}"
    asked = Asked(f"exec of {what}", "Pod", pod, namespace)
    query = [("command", word) for word in command]
    query += [("stdout", "true"), ("stderr", "true"), ("stdin", "true" if stdin is not None else "false")]
    if container:
        query.append(("container", container))
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/exec"
    try:
        socket = open_socket(
            connection, path, query, EXEC_PROTOCOLS, deadline.grant(deadline.seconds, what), asked
        )
    except Refused as error:
        raise ProbeInconclusive(f"{what} did not start: {error}") from error
    collected = _Collected(what, deadline)
    try:
        if stdin is not None:
            _send(socket, stdin.encode(), deadline, what)
        return collected.read(socket)
    except websocket.WebSocketTimeoutException as error:
        raise collected.out_of_time() from error
    except (websocket.WebSocketException, OSError) as error:
        raise ProbeInconclusive(f"the connection to {what} broke: {error}") from error
    finally:
        # No closing handshake: the other side may be the one that hangs.
        socket.shutdown()


def _send(socket: websocket.WebSocket, data: bytes, deadline: Deadline, what: str) -> None:
    for start in range(0, len(data), _FRAME):
        socket.settimeout(deadline.grant(deadline.seconds, what))
        socket.send_binary(bytes([STDIN]) + data[start : start + _FRAME])
    # Only version 5 of the protocol can tell the command that its input has ended.
    if socket.subprotocol == EXEC_PROTOCOLS[0]:
        socket.send_binary(bytes([CLOSE, STDIN]))


class _Collected:
    """What came over the channels of one command so far."""

    def __init__(self, what: str, deadline: Deadline) -> None:
        self.what, self.deadline = what, deadline
        self.parts: dict[int, list[bytes]] = {STDOUT: [], STDERR: [], RESULT: []}

    def text(self, channel: int) -> str:
        return b"".join(self.parts[channel]).decode("utf-8", "replace")

    def read(self, socket: websocket.WebSocket) -> ExecResult:
        """Read until the result is there or the connection ends."""
        while True:
            if self.deadline.is_over:
                raise self.out_of_time()
            socket.settimeout(self.deadline.remaining_s)
            opcode, data = socket.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return self.result()
            if opcode in (websocket.ABNF.OPCODE_BINARY, websocket.ABNF.OPCODE_TEXT) and data:
                self.parts.get(data[0], []).append(data[1:])

    def result(self) -> ExecResult:
        """The exit code from the result channel, which holds a Status."""
        try:
            status = json.loads(self.text(RESULT))
        except ValueError:
            raise ProbeInconclusive(
                f"{self.what} ended without a result: the pod or the API server went away"
            ) from None
        if status.get("status") == "Success":
            return ExecResult(0, self.text(STDOUT), self.text(STDERR))
        causes = (status.get("details") or {}).get("causes") or []
        codes = [cause["message"] for cause in causes if cause.get("reason") == "ExitCode"]
        if not codes:
            raise ProbeInconclusive(f"{self.what} could not run: {status.get('message', 'no reason given')}")
        return ExecResult(int(codes[0]), self.text(STDOUT), self.text(STDERR))

    def out_of_time(self) -> ProbeInconclusive:
        """The error for a command that did not end: what it printed is part of no result."""
        printed = len(self.text(STDOUT)) + len(self.text(STDERR))
        return ProbeInconclusive(
            f"{self.what} did not end within {self.deadline.seconds:g} s ({printed} characters printed)"
        )


def has_more(socket: websocket.WebSocket) -> bool:
    """Whether decrypted bytes wait inside the TLS layer, where select cannot see them."""
    inner = socket.sock
    if isinstance(inner, SSLTransport):  # TLS inside the TLS to a proxy
        return inner.sslobj.pending() > 0 or has_pending(inner.socket)
    return has_pending(inner)


def has_pending(inner: Any) -> bool:
    """Whether a TLS socket holds decrypted bytes."""
    return isinstance(inner, ssl.SSLSocket) and inner.pending() > 0
