"""List-and-watch against a server that does to watches what API servers do."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from helpers.embedded.kubeapi import Api, ApiError, Endpoint, follow, wait_for_api

WAIT_S = 10.0
END = object()
CUT = object()


def item(name: str, version: int, **labels: str) -> dict[str, Any]:
    return {"metadata": {"uid": name, "name": name, "resourceVersion": str(version), "labels": labels}}


class ApiServer:
    """Serves lists, one entry of `lists` after the other, and streams what is put on `events`."""

    def __init__(self) -> None:
        self.lists: list[Any] = []
        self.events: queue.Queue[Any] = queue.Queue()
        self.watched_from: queue.Queue[str] = queue.Queue()
        handler = type("Handler", (_Handler,), {"server_state": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def api(self) -> Api:
        return Api(Endpoint("127.0.0.1", self.port, None))

    def send(self, kind: str, obj: dict[str, Any]) -> None:
        self.events.put({"type": kind, "object": obj})

    def close(self) -> None:
        self.events.put(END)
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_state: ApiServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if "watch" in query:
            self._watch(query["resourceVersion"][0])
            return
        state = self.server_state
        page = state.lists.pop(0) if len(state.lists) > 1 else state.lists[0]
        status, body = page if isinstance(page, tuple) else (200, page)
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _watch(self, version: str) -> None:
        self.server_state.watched_from.put(version)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while (event := self.server_state.events.get()) is not END:
            if event is CUT:
                self.wfile.write(b'e\r\n{"type": "MODI\r\n')
                break
            text = json.dumps(event).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(text), text))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")


class Sink:
    """Keeps what it is told, and says so."""

    def __init__(self) -> None:
        self.items: dict[str, Any] = {}
        self.told: queue.Queue[str] = queue.Queue()

    def replace(self, items: list[Any]) -> None:
        self.items = {i["metadata"]["uid"]: i for i in items}
        self.told.put("replace")

    def changed(self, item: Any) -> None:
        self.items[item["metadata"]["uid"]] = item
        self.told.put("changed")

    def deleted(self, uid: str) -> None:
        self.items.pop(uid, None)
        self.told.put("deleted")

    def next(self) -> str:
        return self.told.get(timeout=WAIT_S)


def listing(version: int, *items: dict[str, Any], more: str = "") -> dict[str, Any]:
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}


@pytest.fixture
def server() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def sink(server: ApiServer) -> Iterator[Sink]:
    server.lists = [listing(5, item("a", 3))]
    sink, stop = Sink(), threading.Event()
    arguments = (server.api(), "/things", lambda i: i, sink, stop)
    thread = threading.Thread(target=follow, args=arguments, kwargs={"longest_pause_s": 0.05}, daemon=True)
    thread.start()
    assert sink.next() == "replace"
    yield sink
    stop.set()
    server.events.put(END)
    thread.join(WAIT_S)


def test_lists_are_read_page_by_page(server: ApiServer) -> None:
    server.lists = [listing(5, item("a", 3), more="next"), listing(5, item("b", 4))]
    items, version = server.api().list_all("/things", lambda i: i["metadata"]["name"])
    assert (items, version) == (["a", "b"], "5")


def test_changes_reach_the_sink(server: ApiServer, sink: Sink) -> None:
    server.send("ADDED", item("b", 6))
    server.send("DELETED", item("a", 7))
    assert [sink.next(), sink.next()] == ["changed", "deleted"]
    assert list(sink.items) == ["b"]


def test_a_watch_that_ends_is_resumed_from_the_last_bookmark(server: ApiServer, sink: Sink) -> None:
    assert server.watched_from.get(timeout=WAIT_S) == "5"
    server.send("BOOKMARK", {"metadata": {"resourceVersion": "90"}})
    server.events.put(END)
    assert server.watched_from.get(timeout=WAIT_S) == "90"
    assert sink.told.empty(), "a bookmark is not a change, and nothing was listed again"


def test_gone_lists_again(server: ApiServer, sink: Sink) -> None:
    server.lists = [listing(50, item("c", 40))]
    server.send("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})
    server.events.put(END)
    assert sink.next() == "replace"
    assert list(sink.items) == ["c"]


def test_a_stream_cut_in_a_line_lists_again(server: ApiServer, sink: Sink) -> None:
    server.events.put(CUT)
    assert sink.next() == "replace"


def test_errors_while_listing_are_retried_and_the_old_items_stay(server: ApiServer, sink: Sink) -> None:
    server.lists = [(500, {"message": "etcd"}), (200, b"<html>"), listing(60, item("d", 55))]
    server.send("ERROR", {"kind": "Status", "code": 500, "message": "internal"})
    server.events.put(END)
    assert sink.next() == "replace"
    assert list(sink.items) == ["d"]


def test_an_error_status_is_an_error_with_its_code(server: ApiServer) -> None:
    server.lists = [(403, {"message": "no"})]
    with pytest.raises(ApiError) as refusal:
        server.api().request("GET", "/things")
    assert refusal.value.code == 403


def test_the_kubeconfig_may_appear_later_and_half_written(tmp_path: Path) -> None:
    path, stop = tmp_path / "admin.conf", threading.Event()
    found: queue.Queue[Api | None] = queue.Queue()
    threading.Thread(target=lambda: found.put(wait_for_api(path, stop, poll_s=0.01)), daemon=True).start()
    path.write_text("contexts: [")
    path.write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    assert found.get(timeout=WAIT_S) is not None
