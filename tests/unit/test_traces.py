"""Traces as Phoenix gives them, what they cost, and what lab 07's witness makes of trees of spans."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import marimo as mo
import pytest

from helpers.apps.orchestrator import tracing
from helpers.cluster.fake import FakeCluster
from helpers.errors import InvalidInput
from helpers.grading.changes import applied, manifest
from helpers.labs.lab07_gates import draw_pictures, draw_traces, mutants_traces, witness_traces
from helpers.labs.lab07_gates import witness_traces_program as program
from helpers.stack import assistant, traces

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
MODEL = {
    "gen_ai.provider.name": "vllm",
    "gen_ai.request.model": "m",
    "gen_ai.usage.input_tokens": 40,
    "gen_ai.usage.output_tokens": 9,
    "gen_ai.response.finish_reasons": ["stop"],
}
ROOT = {"tenant_id": "docs", "feature": "documentation", "session_id": "t-1", "version": "stable"}


def span(name: str, own: str, parent: str | None, **more: Any) -> dict[str, Any]:
    """A span as Phoenix answers it."""
    return {
        "name": name,
        "context": {"trace_id": TRACE, "span_id": own},
        "parent_id": parent,
        # Phoenix takes `openinference.span.kind` out of the attributes, and says UNKNOWN where none was sent.
        "span_kind": tracing.KINDS.get(name, "UNKNOWN"),
        "start_time": f"2026-11-29T13:15:0{own}+00:00",
        "end_time": "2026-11-29T13:15:09+00:00",
        "status_code": more.get("status", "UNSET"),
        "status_message": "",
        "attributes": more.get("attributes", {}),
        "events": more.get("events", []),
    }


def tree(**attributes: Any) -> list[dict[str, Any]]:
    """A question's whole tree; `generate={…}` stands on that span instead of what is right."""
    return [
        span("chat", "1", program.CALLER, attributes=attributes.get("chat", ROOT)),
        span("retrieve", "2", "1", attributes=attributes.get("retrieve", {"retrieval.ids": ["7", "8"]})),
        span("POST /collections/c/points/query", "3", "2"),
        span("assemble", "4", "1"),
        span("generate", "5", "1", attributes=attributes.get("generate", MODEL)),
        span("POST /v1/chat/completions", "6", "5"),
        span("record", "7", "1"),
    ]


class Phoenix(BaseHTTPRequestHandler):
    """Phoenix's place: two spans a page, filtered by name and trace."""

    protocol_version = "HTTP/1.1"
    spans: list[dict[str, Any]]

    def do_GET(self) -> None:
        wanted = parse_qs(urlsplit(self.path).query)
        fit = [
            item
            for item in self.spans
            if item["name"] in wanted.get("name", [item["name"]])
            and item["context"]["trace_id"] in wanted.get("trace_id", [item["context"]["trace_id"]])
        ]
        first = int(wanted.get("cursor", ["0"])[0])
        more = str(first + 2) if first + 2 < len(fit) else None
        text = json.dumps({"data": fit[first : first + 2], "next_cursor": more}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def phoenix(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Phoenix.spans = tree()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Phoenix)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(program, "PHOENIX", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


def asked() -> program.Asked:
    item = object.__new__(program.Asked)
    item.tenant, item.question, item.trace_id, item.session = "docs", "What is a quota?", TRACE, "t-1"
    item.usage, item.citations = {"prompt_tokens": 40, "completion_tokens": 9}, ["7"]
    return item


def shapes(**attributes: Any) -> dict[str, Any]:
    return program._shapes([asked()], {TRACE: tree(**attributes)})


def test_the_witness_reads_every_page(phoenix: None) -> None:
    assert [item["name"] for item in program.spans()] == [item["name"] for item in tree()]
    assert set(program.of_traces([TRACE, TRACE])) == {TRACE}


def test_a_right_tree_is_right_in_all_things() -> None:
    assert shapes() == {
        "tree": 1,
        "root": 1,
        "repeated": [],
        "tokens": 1,
        "named": 1,
        "elsewhere": [],
        "ids": 1,
        "texts": 0,
    }


@pytest.mark.parametrize(
    ("attributes", "wrong"),
    [
        ({"chat": {**ROOT, "tenant_id": "somebody"}}, {"root": 0}),
        ({"chat": {key: ROOT[key] for key in ("tenant_id", "session_id")}}, {"root": 0}),
        ({"generate": {**MODEL, "tenant_id": "docs"}}, {"repeated": ["tenant_id"]}),
        ({"generate": {**MODEL, "gen_ai.usage.input_tokens": 41}}, {"tokens": 0}),
        ({"generate": {**MODEL, "gen_ai.request.model": ""}}, {"named": 0}),
        (
            {"generate": {**MODEL, "gen_ai.usage.total_tokens": 49}},
            {"elsewhere": ["gen_ai.usage.total_tokens"]},
        ),
        (
            {"chat": {**ROOT, "gen_ai.usage.output_tokens": 9}},
            {"elsewhere": ["gen_ai.usage.output_tokens on chat"]},
        ),
        ({"retrieve": {"retrieval.texts": "a quota is"}}, {"ids": 0}),
        ({"retrieve": {"retrieval.ids": ["8"]}}, {"ids": 0}),
        ({"retrieve": {"retrieval.ids": ["7"], "prompt": "Q: What is a quota?"}}, {"texts": 1}),
    ],
)
def test_what_stands_in_the_wrong_place_is_seen(attributes: dict[str, Any], wrong: dict[str, Any]) -> None:
    assert shapes(**attributes) == {**shapes(), **wrong}


def test_what_phoenix_adds_is_not_the_learners() -> None:
    assert (
        shapes(generate={**MODEL, "llm.token_count.total": 49, "input.value": "What is a quota?"})["texts"]
        == 0
    )


def test_a_span_under_another_is_no_tree() -> None:
    flat = [{**item, "parent_id": program.CALLER} for item in tree()]
    assert not program._is_tree(flat)


def test_leaks_are_counted_by_where_they_stand() -> None:
    event = {"name": "captured", "attributes": {"contexts": [program.PASSAGE], "question": program.MARK}}
    masked = {"name": "captured", "attributes": {"contexts": [f"The {program.MARK} of ****"]}}
    kept = [
        span("generate", "1", None, events=[event, masked]),
        span("chat", "2", None, attributes={"question": f"I am {program.EMAIL}"}),
    ]
    assert program._leaks(kept) == {"leaks": {"attributes": 1, "events": 1}, "captured": 2}


def test_the_backends_fail_as_told() -> None:
    body = json.dumps({"messages": [{"content": f"{program.FAILS}, backend one"}]}).encode()
    assert program.vllm("/v1/chat/completions", body)[0] == 500
    assert program.vllm("/v1/chat/completions", b"{}")[0] == 200
    assert program.qdrant("/collections/c/points/query", b"")[0] == 200
    program._failing.set()
    try:
        assert program.qdrant("/collections/c/points/query", b"")[0] == 500
    finally:
        program._failing.clear()


@pytest.mark.parametrize("name", witness_traces.WITNESSES)
def test_every_witness_is_in_the_program_and_its_record_fits(name: str) -> None:
    assert name in program.WITNESSES
    assert len(json.dumps({"witness": name, "seen": mutants_traces.SEEN[name]})) < 3500


# Reading, and what it costs


def a_cluster() -> FakeCluster:
    cluster = FakeCluster()
    place = assistant.OBSERVABILITY
    applied(manifest("Namespace", place), manifest("Service", assistant.PHOENIX, place))(cluster)

    def answer(method: str, path: str, body: Any) -> tuple[int, str]:
        wanted = parse_qs(urlsplit(path).query)
        fit = [item for item in tree() if item["name"] in wanted.get("name", [item["name"]])]
        return 200, json.dumps({"data": fit, "next_cursor": None})

    cluster.serve(assistant.OBSERVABILITY, assistant.PHOENIX, traces.PORT, answer)
    return cluster


def test_a_tree_has_a_root_though_its_parent_is_the_callers() -> None:
    found = traces.of_trace(a_cluster().view(), TRACE)
    assert found is not None and found.root is not None
    assert (found.root.name, found.root.parent_id) == ("chat", program.CALLER)
    assert [item.name for item in found.under(found.root)] == ["retrieve", "assemble", "generate", "record"]
    assert found.named("nothing") is None and not found.failed
    assert [item.trace_id for item in traces.newest(a_cluster().view())] == [TRACE]


def test_each_span_is_drawn_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(
        draw_pictures, "span_chart", lambda bars: drawn.extend(bar.kind for bar in bars) or mo.md("")
    )
    spans = tuple(traces._span(item) for item in tree())
    draw_traces.tree_picture(traces.Tree(TRACE, spans))
    assert drawn == ["AGENT", "RETRIEVER", "TOOL", "CHAIN", "LLM", "TOOL", "CHAIN"]


def test_a_count_on_two_spans_is_paid_twice() -> None:
    table = {"m": traces.Price(1.0, 10.0)}
    right = traces.trees(map(traces._span, tree()))
    assert traces.costs(right, table) == {"docs": traces.Cost("docs", 1, 40, 9, (40 + 90) / 1e6)}
    twice = traces.trees(map(traces._span, tree(chat={**ROOT, **MODEL})))
    assert traces.costs(twice, table)["docs"].tokens == 98
    assert traces.costs(right, {})["docs"].unpriced == ("m",)


@pytest.mark.parametrize(
    "text",
    ["", "- a", "m: 1", "m: {input: 1}", "m: {input: 0, output: 1}", "m: {input: yes, output: 1}", "m: ["],
)
def test_prices_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        traces.prices(text)
