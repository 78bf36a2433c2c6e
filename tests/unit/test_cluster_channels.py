"""Commands and forwarded ports against a small WebSocket server that misbehaves as real ones do."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from helpers.cluster import Deadline
from helpers.cluster.channels import run
from helpers.cluster.connection import Connection
from helpers.cluster.forwarding import listen
from helpers.errors import ClusterUnreachable, Forbidden, ObjectMissing, ProbeInconclusive

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
Handler = Callable[[ServerConnection], None]


@contextmanager
def serving(
    handler: Handler, *, protocols: tuple[str, ...] = (V5, V4), refuse: tuple[int, Any] | None = None
) -> Iterator[Connection]:
    def process(connection: ServerConnection, request: Any) -> Any:
        if refuse is None:
            return None
        code, body = refuse
        return connection.respond(HTTPStatus(code), json.dumps(body))

    def guarded(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            handler(connection)

    with serve(
        guarded,
        "127.0.0.1",
        0,
        subprotocols=list(protocols),  # type: ignore[arg-type]
        process_request=process,
        close_timeout=1,
    ) as server:
        port = server.socket.getsockname()[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Connection(server=f"http://127.0.0.1:{port}", source="test")
        finally:
            server.shutdown()
            thread.join(5)


def result(**status: Any) -> bytes:
    return b"\x03" + json.dumps({"kind": "Status", **status}).encode()


def exit_code(code: int) -> bytes:
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return result(status="Failure", reason="NonZeroExitCode", details={"causes": causes})


def execute(connection: Connection, *command: str, stdin: str | None = None, timeout_s: float = 30) -> Any:
    return run(connection, "space", "pod", list(command) or ["true"], None, stdin, Deadline(timeout_s))


# Commands


def test_streams_come_apart_and_whole() -> None:
    def handler(connection: ServerConnection) -> None:
        for frame in (b"\x01one ", b"\x02wrong ", b"\x01", b"\x01two", b"\x02again"):
            connection.send(frame)
        connection.send(result(status="Success"))

    with serving(handler) as connection:
        done = execute(connection)
    assert (done.exit_code, done.stdout, done.stderr) == (0, "one two", "wrong again")


def test_a_letter_split_between_frames_is_one_letter() -> None:
    def handler(connection: ServerConnection) -> None:
        letter = "ü".encode()
        connection.send(b"\x01" + letter[:1])
        connection.send(b"\x01" + letter[1:])
        connection.send(result(status="Success"))

    with serving(handler) as connection:
        assert execute(connection).stdout == "ü"


def test_an_exit_code_is_a_result() -> None:
    with serving(lambda connection: connection.send(exit_code(7))) as connection:
        assert execute(connection).exit_code == 7


def test_a_command_that_could_not_start_proves_nothing() -> None:
    """The official client raises KeyError here."""
    failure = result(status="Failure", reason="InternalError", message='exec: "nope": not found in $PATH')
    with (
        serving(lambda connection: connection.send(failure)) as connection,
        pytest.raises(ProbeInconclusive, match='could not run: exec: "nope": not found'),
    ):
        execute(connection, "nope")


def test_a_connection_that_ends_without_a_result_proves_nothing() -> None:
    """The official client raises TypeError here."""
    with (
        serving(lambda connection: connection.send(b"\x01partial")) as connection,
        pytest.raises(ProbeInconclusive, match="ended without a result"),
    ):
        execute(connection)


def test_a_command_that_does_not_end_is_no_result_and_takes_no_longer_than_its_deadline() -> None:
    """The official client returns what was printed so far as if it were all."""

    def handler(connection: ServerConnection) -> None:
        while True:  # until the client hangs up, which it does at its deadline
            connection.send(b"\x01still here\n")
            time.sleep(0.01)

    with (
        serving(handler) as connection,
        pytest.raises(ProbeInconclusive, match=r"did not end within 0\.5 s \(\d+ characters printed\)"),
    ):
        execute(connection, "tail", "-f", timeout_s=0.5)


def test_a_silent_server_cannot_hold_a_command() -> None:
    """The official client's handshake has no time limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = Connection(server=f"http://127.0.0.1:{silent.getsockname()[1]}", source="test")
        with pytest.raises(ClusterUnreachable, match="timed out"):
            execute(connection, timeout_s=0.3)


def test_input_ends_where_it_ends() -> None:
    def handler(connection: ServerConnection) -> None:
        got = b""
        while True:
            frame = connection.recv()
            assert isinstance(frame, bytes)
            if frame == b"\xff\x00":
                break
            assert frame[0] == 0
            got += frame[1:]
        connection.send(b"\x01" + str(len(got)).encode())
        connection.send(result(status="Success"))

    with serving(handler) as connection:
        assert execute(connection, "wc", "-c", stdin="x" * 100_000).stdout == "100000"


def test_an_old_server_that_speaks_version_four_is_served() -> None:
    def handler(connection: ServerConnection) -> None:
        assert connection.subprotocol == V4
        connection.send(result(status="Success"))

    with serving(handler, protocols=(V4,)) as connection:
        assert execute(connection, stdin="x").exit_code == 0


def test_the_command_reaches_the_server_word_by_word() -> None:
    seen: list[dict[str, list[str]]] = []

    def handler(connection: ServerConnection) -> None:
        assert connection.request
        seen.append(parse_qs(urlsplit(connection.request.path).query))
        connection.send(result(status="Success"))

    with serving(handler) as connection:
        run(connection, "s", "p", ["sh", "-c", "echo 'a b' & x=1"], "main", None, Deadline(30))
    assert seen[0]["command"] == ["sh", "-c", "echo 'a b' & x=1"]
    assert seen[0]["container"] == ["main"]


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (404, 'pods "pod" not found', ObjectMissing),
        (403, 'pods "pod" is forbidden: User "u" cannot create resource "pods/exec"', Forbidden),
        (400, "container x is not valid for pod pod", ProbeInconclusive),
    ],
)
def test_a_refused_command_has_a_cause(code: int, message: str, error: type[Exception]) -> None:
    reason = {404: "NotFound", 403: "Forbidden", 400: "BadRequest"}[code]
    details = {"name": "pod", "kind": "pods"}
    body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    with serving(lambda connection: None, refuse=(code, body)) as connection, pytest.raises(error):
        execute(connection)


def test_parallel_commands_do_not_meet() -> None:
    """The official client swaps a method of the shared client while a command runs."""
    together = threading.Barrier(8, timeout=20)

    def handler(connection: ServerConnection) -> None:
        assert connection.request
        word = parse_qs(urlsplit(connection.request.path).query)["command"][1]
        together.wait()
        connection.send(b"\x01" + word.encode())
        connection.send(result(status="Success"))

    from concurrent.futures import ThreadPoolExecutor

    with serving(handler) as connection, ThreadPoolExecutor(8) as pool:
        words = [str(number) for number in range(24)]
        assert list(pool.map(lambda word: execute(connection, "echo", word).stdout, words)) == words


# Forwarded ports


def forwarded(answer: Callable[[bytes], bytes]) -> Handler:
    """A pod's port: greets as the kubelet does, then answers each request."""

    def handler(connection: ServerConnection) -> None:
        port = (8000).to_bytes(2, "little")
        connection.send(b"\x00" + port)
        connection.send(b"\x01" + port)
        while True:
            frame = connection.recv()
            assert isinstance(frame, bytes) and frame[0] == 0
            connection.send(b"\x00" + answer(frame[1:]))

    return handler


def http_answer(request: bytes) -> bytes:
    body = request.split(b" ")[1]
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def pod() -> tuple[str, str, int]:
    return "space", "pod", 8000


def test_a_forwarded_port_is_a_local_url_for_many_connections() -> None:
    with serving(forwarded(http_answer), protocols=(V4,)) as connection, listen(connection, pod) as local:
        assert local.url == f"http://127.0.0.1:{local.port}"
        with httpx.Client(base_url=local.url, trust_env=False) as client:
            assert [client.get(f"/{number}").text for number in range(3)] == ["/0", "/1", "/2"]
        for number in range(6):
            assert httpx.get(f"{local.url}/{number}", trust_env=False).text == f"/{number}"


def test_large_bodies_pass_whole() -> None:
    data = b"x" * 3_000_000

    def handler(connection: ServerConnection) -> None:
        connection.send(b"\x00\x40\x1f")
        connection.send(b"\x01\x40\x1f")
        connection.recv()
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data)
        connection.send(b"\x00" + head)
        for start in range(0, len(data), 30_000):
            connection.send(b"\x00" + data[start : start + 30_000])
        connection.recv()

    with serving(handler, protocols=(V4,)) as connection, listen(connection, pod) as local:
        assert httpx.get(local.url, trust_env=False, timeout=20).content == data


def test_a_port_that_the_pod_does_not_serve_is_told() -> None:
    def handler(connection: ServerConnection) -> None:
        connection.send(b"\x00\x40\x1f")
        connection.send(b"\x01\x40\x1f")
        connection.send(b"\x01dial tcp4 127.0.0.1:8000: connect: connection refused")
        connection.recv()

    with serving(handler, protocols=(V4,)) as connection, listen(connection, pod) as local:
        answer = httpx.get(local.url, trust_env=False)
        assert answer.status_code == 502
        assert "connection refused" in answer.text
        assert local.error and "does not take the connection" in str(local.error)


def test_a_pod_that_dies_before_it_answers_is_told() -> None:
    def handler(connection: ServerConnection) -> None:
        connection.send(b"\x00\x40\x1f")
        connection.send(b"\x01\x40\x1f")
        connection.recv()

    with serving(handler, protocols=(V4,)) as connection, listen(connection, pod) as local:
        answer = httpx.get(local.url, trust_env=False)
        assert (answer.status_code, "without an answer" in answer.text) == (502, True)


def test_when_the_pod_is_gone_the_client_learns_why_and_a_new_pod_serves_again() -> None:
    pods = ["pod"]

    def target() -> tuple[str, str, int]:
        if not pods:
            raise ObjectMissing("ready pod behind Service", "vllm", "space")
        return "space", pods[0], 8000

    with serving(forwarded(http_answer), protocols=(V4,)) as connection, listen(connection, target) as local:
        assert httpx.get(f"{local.url}/a", trust_env=False).text == "/a"
        pods.clear()
        answer = httpx.get(f"{local.url}/b", trust_env=False)
        assert (answer.status_code, "no ready pod behind Service named vllm" in answer.text) == (502, True)
        pods.append("another")
        assert httpx.get(f"{local.url}/c", trust_env=False).text == "/c"


def test_without_a_pod_there_is_no_listener() -> None:
    def target() -> tuple[str, str, int]:
        raise ObjectMissing("Pod", "pod", "space")

    connection = Connection(server="http://127.0.0.1:9", source="test")
    with pytest.raises(ObjectMissing), listen(connection, target):
        pass


def test_closing_ends_every_connection_and_frees_the_port() -> None:
    before = {thread.name for thread in threading.enumerate()}
    with serving(forwarded(http_answer), protocols=(V4,)) as connection:
        with listen(connection, pod) as local:
            client = socket.create_connection((local.host, local.port))
            client.sendall(b"GET /a HTTP/1.1\r\n\r\n")
            assert client.recv(100)
        assert client.recv(100) == b""
        client.close()
        with pytest.raises(OSError):
            socket.create_connection((local.host, local.port), timeout=1)
    left = {name for name in {thread.name for thread in threading.enumerate()} - before if "forward" in name}
    assert not left
