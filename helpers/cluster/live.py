"""A real API server over HTTP: one pool of kept connections, true deadlines, errors by cause."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from http.client import BadStatusLine, RemoteDisconnected
from typing import Any

import urllib3
from urllib3 import HTTPHeaderDict
from urllib3 import exceptions as wire

from helpers.cluster.backend import APPLY, JSON, ExecResult, Forward, encode, with_query
from helpers.cluster.connection import Connection
from helpers.cluster.deadline import Deadline
from helpers.cluster.faults import Response, is_transient
from helpers.cluster.proxies import pool
from helpers.errors import ClusterUnreachable, Forbidden, LabError, NoClusterChosen, ServerFault

# Checks run in parallel threads, each with a connection of its own.
POOL_SIZE = 32
CONNECT_S = 3.0
CALL_S = 20.0
_RETRY_PAUSES_S = (0.1, 0.4)
_CHUNK = 1 << 16


class LiveBackend:
    """A cluster reached over the network; safe to share between threads."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        if not connection.server.startswith(("http://", "https://")):
            raise NoClusterChosen(f"{connection.source} names no API server")
        options: dict[str, Any] = {"maxsize": POOL_SIZE, "retries": False}
        if connection.tls:
            options["ssl_context"] = connection.tls
        if connection.tls_server_name:
            options["server_hostname"] = connection.tls_server_name
            options["assert_hostname"] = connection.tls_server_name
        if connection.tls and connection.tls.verify_mode == ssl.CERT_NONE:
            # The kubeconfig says so; a warning for each request would tell nobody anything.
            urllib3.disable_warnings(wire.InsecureRequestWarning)
        self._pool = pool(connection.proxy, options)

    @property
    def address(self) -> str:
        """The API server's address."""
        return self.connection.server

    def close(self) -> None:
        """Close the kept connections."""
        self._pool.clear()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        headers: Mapping[str, str] | None = None,
        deadline: Deadline | None = None,
    ) -> Response:
        """One exchange within the deadline (20 s without one).

        What may be repeated is, after a lost connection, 429 or 5xx; never after another refusal.
        """
        deadline = deadline or Deadline(CALL_S)
        query = query or {}
        # What a service answers through the proxy is the answer, also when it is a 503.
        safe = method == "GET" and "/proxy/" not in path
        repeatable = safe or content_type == APPLY or query.get("dryRun") == "All"
        pauses_s = list(_RETRY_PAUSES_S) if repeatable else []
        sent = {**(headers or {}), "Accept": accept, "User-Agent": "llm-stack-labs"}
        if body is not None:
            sent["Content-Type"] = content_type
        target, renewed = with_query(path, query), False
        while True:
            try:
                response = self._once(method, target, encode(body), sent, deadline)
            except _Lost as lost:
                if not pauses_s or deadline.remaining_s <= pauses_s[0]:
                    raise self._unreachable(f"lost the connection: {lost}") from lost.__cause__
            else:
                if response.status == 401 and response.is_status:
                    if renewed or not self.connection.login.renew():
                        raise self._not_accepted(response)
                    renewed = True
                    continue
                if not is_transient(response) or not pauses_s or deadline.remaining_s <= pauses_s[0]:
                    return response
            deadline.clock.sleep(pauses_s.pop(0))

    def _once(
        self, method: str, target: str, body: bytes | None, headers: dict[str, str], deadline: Deadline
    ) -> Response:
        doing = f"{method} {target}"
        left_s = deadline.grant(CALL_S, doing)
        timeout = urllib3.Timeout(connect=min(CONNECT_S, left_s), read=left_s)
        try:
            answer = self._pool.urlopen(
                method,
                f"{self.connection.server}{target}",
                body=body,
                headers=HTTPHeaderDict([*headers.items(), *self.connection.headers()]),
                timeout=timeout,
                preload_content=False,
                redirect=False,
            )
            said = {name.lower(): value for name, value in answer.headers.items()}
            return Response(answer.status, self._read(answer, deadline, left_s), said)
        except (wire.HTTPError, OSError) as error:
            raise self._fault(error, doing, left_s) from error

    def _read(self, answer: urllib3.BaseHTTPResponse, deadline: Deadline, left_s: float) -> bytes:
        """The whole body; a server that sends a byte now and then does not get more time for it."""
        parts: list[bytes] = []
        while True:
            part = answer.read1(_CHUNK)
            if not part:
                answer.release_conn()
                return b"".join(parts)
            parts.append(part)
            if deadline.is_over:
                answer.close()
                raise self._unreachable(f"did not finish its answer within {left_s:.3g} s")

    def _fault(self, error: Exception, doing: str, left_s: float) -> Exception:
        cause: BaseException = error
        while isinstance(cause, wire.MaxRetryError | wire.ProtocolError) and len(cause.args) > 1:
            inner = cause.args[1]
            if not isinstance(inner, BaseException):
                break
            cause = inner
        if isinstance(cause, BadStatusLine) and not isinstance(cause, RemoteDisconnected):
            return ServerFault(f"what answers at {self.address} does not speak HTTP: {cause}")
        if isinstance(cause, wire.ReadTimeoutError | TimeoutError):
            return self._unreachable(f"did not answer {doing} within {left_s:.3g} s")
        if isinstance(cause, wire.SSLError | ssl.SSLError):
            return self._unreachable(self._tls_fault(cause))
        # NewConnectionError is one kind of ConnectTimeoutError to urllib3.
        if isinstance(cause, wire.NewConnectionError | wire.NameResolutionError):
            return self._unreachable(_reason(cause))
        if isinstance(cause, wire.ConnectTimeoutError):
            return self._unreachable("does not answer")
        if isinstance(cause, wire.LocationValueError | wire.ProxyError):
            return self._unreachable(str(cause))
        if isinstance(cause, _socks_errors()):
            return self._unreachable(f"cannot be reached through the proxy: {cause}")
        lost = _Lost(str(cause))
        lost.__cause__ = cause
        return lost

    def _tls_fault(self, cause: BaseException) -> str:
        text = str(cause)
        if "alert" in text and self.connection.login.certificate:
            return f"refused {self.connection.login.what}: {text}"
        return f"could not be verified by its TLS certificate: {text}"

    def _not_accepted(self, response: Response) -> Forbidden:
        login = self.connection.login
        return Forbidden(
            f"the cluster does not accept {login.what}: {response.json('its refusal').get('message')}",
            next_command=login.next_command or "course doctor",
        )

    def _unreachable(self, what: str) -> ClusterUnreachable:
        message = f"the API server at {self.address} {what}"
        return ClusterUnreachable(message, next_command=self.connection.remedy)

    def exec(
        self,
        namespace: str,
        pod: str,
        command: list[str],
        container: str | None,
        stdin: str | None,
        deadline: Deadline,
    ) -> ExecResult:
        """Run a command over a connection of its own."""
        from helpers.cluster.channels import run

        return run(self.connection, namespace, pod, command, container, stdin, deadline)

    def forward(
        self, target: Callable[[], tuple[str, str, int]], local_port: int = 0
    ) -> AbstractContextManager[Forward]:
        """Listen on loopback and lead each connection to the pod that `target` names."""
        from helpers.cluster.forwarding import listen

        return listen(self.connection, target, local_port)


def _socks_errors() -> tuple[type[BaseException], ...]:
    """What the SOCKS client raises, where it was needed."""
    module = sys.modules.get("socks")
    return (module.ProxyError,) if module else ()


class _Lost(LabError):
    """The connection ended before the answer did."""


def _reason(error: BaseException) -> str:
    text = str(error)
    for sign, words in (
        ("refused", "refuses connections: it is not running"),
        ("resolve", "has a name that cannot be resolved"),
        ("unreachable", "is not reachable over the network"),
        ("No route", "is not reachable over the network"),
    ):
        if sign in text:
            return words
    return f"cannot be reached: {text}"
