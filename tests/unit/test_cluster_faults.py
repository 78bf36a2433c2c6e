"""An API server that is away, slow, unwilling or not one at all: each is told by its cause.

The server is real HTTP on loopback, so that urllib3's own errors are the ones that get mapped.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from helpers.cluster import Cluster, Deadline, Scope
from helpers.cluster.connection import Connection
from helpers.cluster.live import LiveBackend
from helpers.errors import (
    ClusterUnreachable,
    Forbidden,
    InvalidManifest,
    ObjectMissing,
    ProbeInconclusive,
    Refused,
    ServerFault,
)

Answer = Callable[[BaseHTTPRequestHandler], None]
NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system", "uid": "u"}}


class Served:
    """What a loopback server was asked, and where it is."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.requests: list[str] = []
        self.connections: set[Any] = set()


@contextmanager
def serving(answer: Answer) -> Iterator[Served]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            served.requests.append(f"{self.command} {self.path}")
            served.connections.add(self.client_address)
            answer(self)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    served = Served(server)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def say(code: int, body: bytes | dict[str, Any], **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    return answer


def status(code: int, reason: str, message: str, **details: str) -> Answer:
    body = {"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}
    return say(code, body)


def cluster_at(url: str) -> Cluster:
    return Cluster(LiveBackend(Connection(server=url, source="test")), scope=Scope())


def read(url: str, seconds: float = 30) -> Any:
    return cluster_at(url).view(Deadline(seconds)).get("Namespace", "kube-system")


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def test_nothing_listens() -> None:
    with pytest.raises(ClusterUnreachable, match="refuses connections") as caught:
        read(f"http://127.0.0.1:{closed_port()}")
    assert caught.value.next_command and caught.value.__cause__


def test_the_name_does_not_resolve() -> None:
    with pytest.raises(ClusterUnreachable, match=r"cannot be (resolved|reached)"):
        read("http://no-such-host.invalid:6443")


def test_the_server_accepts_and_says_nothing() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(ClusterUnreachable, match=r"did not answer GET .* within 0\.3"),
    ):
        read(f"http://127.0.0.1:{silent.getsockname()[1]}", seconds=0.3)


def test_a_server_that_trickles_gets_no_more_time_than_one_that_is_silent() -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "1000000")
        request.end_headers()
        with suppress(OSError):  # the client hangs up at its deadline
            while True:
                request.wfile.write(b" ")
                time.sleep(0.01)

    with serving(trickle) as served, pytest.raises(ClusterUnreachable, match="did not finish its answer"):
        read(served.url, seconds=0.5)


def test_plain_http_behind_https_is_a_matter_of_trust() -> None:
    with serving(say(200, NAMESPACE)) as served, pytest.raises(ClusterUnreachable):
        read(served.url.replace("http:", "https:"))


@pytest.mark.parametrize("body", [b"<html>login</html>", b"", b"[1]", b"\xff\xfe"])
def test_garbage_with_a_friendly_status_is_the_server_s_fault(body: bytes) -> None:
    with serving(say(200, body)) as served, pytest.raises(ServerFault):
        read(served.url)


def test_what_does_not_speak_http_is_the_server_s_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)

        def greet() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    client.recv(4096)
                    client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        threading.Thread(target=greet, daemon=True).start()
        with pytest.raises(ServerFault, match="does not speak HTTP"):
            read(f"http://127.0.0.1:{server.getsockname()[1]}")


def test_an_internal_error_is_tried_again_and_then_the_server_s_fault() -> None:
    with serving(status(500, "InternalError", "etcdserver: request timed out")) as served:
        with pytest.raises(ServerFault, match="etcdserver: request timed out"):
            read(served.url)
        assert len(served.requests) == 3


def test_a_passing_fault_passes_unseen() -> None:
    answers = [status(503, "ServiceUnavailable", "starting"), status(429, "TooManyRequests", "slow down")]

    def answer(request: BaseHTTPRequestHandler) -> None:
        (answers.pop() if answers else say(200, NAMESPACE))(request)

    with serving(answer) as served:
        assert read(served.url).name == "kube-system"


def test_a_connection_cut_in_the_middle_is_tried_again() -> None:
    cuts = [1]

    def answer(request: BaseHTTPRequestHandler) -> None:
        if not cuts:
            say(200, NAMESPACE)(request)
            return
        cuts.pop()
        request.send_response(200)
        request.send_header("Content-Length", "1000")
        request.end_headers()
        request.wfile.write(b"{")
        request.close_connection = True

    with serving(answer) as served:
        assert read(served.url).name == "kube-system"


@pytest.mark.parametrize(
    ("code", "reason", "message", "error", "words"),
    [
        (401, "Unauthorized", "Unauthorized", Forbidden, "does not accept these credentials"),
        (403, "Forbidden", 'namespaces "kube-system" is forbidden: User "u" cannot get', Forbidden, "cannot get"),
        (404, "NotFound", 'namespaces "kube-system" not found', ObjectMissing, "no Namespace named"),
        (409, "Conflict", "the object has been modified", Refused, "modified"),
        (422, "Invalid", "spec.x: Invalid value", Refused, "Invalid value"),
        (403, "Forbidden", 'pods "x" is forbidden: exceeded quota: q', Refused, "exceeded quota"),
        (500, "", "failed to create typed patch object: .spec.x: field not declared in schema", InvalidManifest, "x"),
    ],
)  # fmt: skip
def test_every_refusal_has_its_own_name_and_is_not_repeated(
    code: int, reason: str, message: str, error: type[Exception], words: str
) -> None:
    with serving(status(code, reason, message)) as served:
        with pytest.raises(error, match=words):
            read(served.url)
        assert len(served.requests) == 1


TYPED = "failed to create typed patch object (llm-system/vllm; apps/v1, Kind=Deployment): "


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            ".data.MAX_MODEL_LEN: expected string, got &value.valueUnstructured{Value:3500}",
            ".data.MAX_MODEL_LEN: expected string, got 3500: put it between quotes",
        ),
        (
            'errors:\n  .spec.a[name="vllm"].livenessProb: field not declared in schema\n  .spec.enableServiceLinks: expected boolean, got &{false}',
            '.spec.a[name="vllm"].livenessProb: there is no such field here; .spec.enableServiceLinks: expected boolean, got false',
        ),
    ],
)
def test_a_field_of_a_wrong_type_is_told_without_the_servers_own_types(said: str, words: str) -> None:
    with serving(status(500, "", TYPED + said)) as served, pytest.raises(InvalidManifest) as error:
        read(served.url)
    assert str(error.value) == words


def test_a_change_that_may_have_happened_is_not_sent_twice() -> None:
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-", "namespace": "b"}}
    with serving(status(500, "InternalError", "boom")) as served:
        with pytest.raises(ServerFault):
            cluster_at(served.url).create(manifest)
        assert len(served.requests) == 1


def test_a_redirect_is_not_followed_to_another_host() -> None:
    with serving(say(302, b"", Location="http://example.invalid/")) as served, pytest.raises(ServerFault):
        read(served.url)


def test_no_time_left_means_nothing_is_sent() -> None:
    with serving(say(200, NAMESPACE)) as served:
        with pytest.raises(ProbeInconclusive, match="ran out before"):
            read(served.url, seconds=0)
        assert served.requests == []


def test_reads_keep_their_connections() -> None:
    with serving(say(200, NAMESPACE)) as served:
        view = cluster_at(served.url).view()
        for _ in range(20):
            view.get("Namespace", "kube-system")
        assert len(served.connections) == 1


def test_parallel_checks_share_one_cluster() -> None:
    with serving(say(200, NAMESPACE)) as served:
        view = cluster_at(served.url).view()
        with ThreadPoolExecutor(16) as pool:
            names = list(pool.map(lambda _: view.get("Namespace", "kube-system").name, range(80)))
        assert names == ["kube-system"] * 80
        assert len(served.connections) <= 16


def test_discovery_belongs_to_a_connection_and_not_to_an_address() -> None:
    """The official client keeps it in a file named after the host, which outlives the cluster."""
    kinds = ["Gadget"]

    def answer(request: BaseHTTPRequestHandler) -> None:
        if not request.path.startswith("/api"):
            say(404, b"404 page not found")(request)
            return
        resource = {
            "resource": f"{kinds[0].lower()}s",
            "responseKind": {"kind": kinds[0]},
            "scope": "Cluster",
        }
        versions = [{"version": "v1", "resources": [resource]}] if request.path == "/apis" else []
        groups = [{"metadata": {"name": "example.org"}, "versions": versions}]
        say(200, {"kind": "APIGroupDiscoveryList", "items": groups})(request)

    with serving(answer) as served:
        first = cluster_at(served.url)
        assert first.api.type_of("Gadget").path() == "/apis/example.org/v1/gadgets"
        kinds[0] = "Widget"
        second = cluster_at(served.url)
        assert second.api.type_of("Widget").path() == "/apis/example.org/v1/widgets"
        with pytest.raises(InvalidManifest, match="does not serve Gadget"):
            second.api.type_of("Gadget")
        # A kind that came later is found by asking again.
        assert first.api.type_of("Widget").plural == "widgets"
