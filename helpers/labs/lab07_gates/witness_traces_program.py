"""What runs in the pod of the witnesses `trace` and `collector`: it asks, and looks up in Phoenix what was kept.

`trace` asks the assistant through the gateway, with the keys of two tenants. `collector` stands around a copy of
the assistant: it plays vLLM and Qdrant, which fail as told, and passes the copy's spans on to the real Collector,
refuses them, or keeps silent. The record is the container's termination message.

The text of this file and of `witness_base` is the pod's command.
"""

from __future__ import annotations

import http.client
import json
import os
import secrets
import socket
import statistics
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.labs.witness_base import Answer, Record, call, keys, last_event, leave_record

GATEWAY, PHOENIX = os.environ.get("GATEWAY_URL", ""), os.environ.get("PHOENIX_URL", "")
PROJECT = "/v1/projects/llm-assistant/spans"
ARRIVED_S = 60.0
CALLER = "00f067aa0ba902b7"
ROOT, MODEL_CALL = "chat", "generate"
STEPS = ("retrieve", "assemble", "generate", "record")
ROOT_ONLY = ("tenant_id", "feature", "session_id", "version")
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
MODEL, PROVIDER = "gen_ai.request.model", "gen_ai.provider.name"
REASONS = "gen_ai.response.finish_reasons"
# Names that Phoenix itself adds to what was sent.
ITS_OWN = ("llm.", "openinference.", "input.", "output.", "session.", "user.", "metadata")
Span = dict[str, Any]


# Phoenix


def spans(**wanted: Any) -> list[Span]:
    """All spans that fit, in the order in which they began.

    Raises:
        RuntimeError: Phoenix does not answer.
    """
    found: list[Span] = []
    cursor = ""
    while True:
        page = {**wanted, "limit": 1000, **({"cursor": cursor} if cursor else {})}
        answer = call(f"{PHOENIX}{PROJECT}?{urllib.parse.urlencode(page, doseq=True)}")
        if answer.status == 404:
            return []  # nothing was sent yet
        if answer.status != 200:
            raise RuntimeError(f"Phoenix does not answer: {answer.status} {answer.text[:100]}")
        found += answer.json["data"]
        cursor = answer.json.get("next_cursor") or ""
        if not cursor:
            return sorted(found, key=lambda span: str(span["start_time"]))


def of_traces(ids: Iterable[str]) -> dict[str, list[Span]]:
    """The spans of these traces, by trace."""
    every, found = list(dict.fromkeys(ids)), dict[str, list[Span]]()
    for first in range(0, len(every), 50):
        for span in spans(trace_id=every[first : first + 50]):
            found.setdefault(trace_of(span), []).append(span)
    return found


def trace_of(span: Span) -> str:
    return str(span["context"]["trace_id"])


def root_of(tree: list[Span]) -> Span | None:
    return next((span for span in tree if span["name"] == ROOT), None)


def until(enough: Callable[[], bool], seconds: float = ARRIVED_S) -> None:
    """Wait for something that may not come."""
    end = time.monotonic() + seconds
    while not enough() and time.monotonic() < end:
        time.sleep(0.5)


# trace: the real assistant, through the gateway

QUESTIONS = (
    ("docs", "Why does a quota refuse my pod?", False),
    ("docs", "What is a readiness probe for?", False),
    ("research", "What does a claim outlive?", False),
    ("research", "What does MIG cut in hardware?", True),
)
SHORT = 16


class Asked:
    """One question, and what came back."""

    def __init__(self, tenant: str, question: str, streams: bool, key: str) -> None:
        self.tenant, self.question, self.trace_id = tenant, question, secrets.token_hex(16)
        headers = {
            "x-api-key": key,
            "X-Budget-Class": "fast",
            "traceparent": f"00-{self.trace_id}-{CALLER}-01",
        }
        body = {"question": question, "max_tokens": SHORT, **({"stream": True} if streams else {})}
        answer = call(f"{GATEWAY}/assistant/v1/chat", body, headers=headers)
        self.status, self.said = answer.status, answer.text
        said = last_event(answer.text) if streams else answer.json
        self.usage: Record = said.get("usage") or {}
        self.session = str(said.get("thread_id") or "")
        self.citations = list(said.get("citations") or [])


def answered(tenant: str, question: str, streams: bool, key: str) -> Asked:
    """A question that was answered; a busy service is asked again.

    Raises:
        RuntimeError: it does not answer.
    """
    for _ in range(3):
        item = Asked(tenant, question, streams, key)
        if item.status == 200:
            return item
        time.sleep(1.0)
    raise RuntimeError(f"the gateway answers {item.status} to a question of {tenant}: {item.said[:120]}")


def left(key: str) -> int:
    """What the gateway says is left of a key's tokens; asking for a thread costs none."""
    answer = call(f"{GATEWAY}/assistant/v1/threads/none", headers={"x-api-key": key}, timeout_s=10)
    said = answer.headers.get("x-ratelimit-remaining", "")
    return int(said) if said.isdigit() else -1


def trace() -> Record:
    """Parts 5 and 7: four questions of two tenants; their trees, and what they cost here and there."""
    known = keys()
    tenants = sorted({tenant for tenant, _, _ in QUESTIONS})
    for _ in range(2):
        since = time.time() - 1
        before = {tenant: left(known[tenant]) for tenant in tenants}
        asked = [answered(tenant, text, streams, known[tenant]) for tenant, text, streams in QUESTIONS]
        time.sleep(1.0)  # the gateway counts when a stream is over
        fell = {tenant: before[tenant] - left(known[tenant]) for tenant in tenants}
        if min(fell.values()) > 0:
            break  # else the clock's hour turned meanwhile, and the budgets are full again
    wanted = [item.trace_id for item in asked]
    until(lambda: sum(root_of(tree) is not None for tree in of_traces(wanted).values()) == len(wanted))
    trees = of_traces(wanted)
    found = {item.trace_id: trees.get(item.trace_id) or _by_session(item) for item in asked}
    return {
        "asked": len(asked),
        "kept": sum(root_of(tree) is not None for tree in found.values()),
        "continued": sum(bool(trees.get(name)) for name in wanted),
        **_shapes(asked, found),
        "cost": {tenant: _cost(tenant, fell[tenant], since) for tenant in tenants},
    }


def _by_session(item: Asked) -> list[Span]:
    """The tree of a question that did not go on the caller's trace: by its conversation, if the root names it."""
    if not item.session:
        return []
    roots = spans(name=ROOT, attribute=f"session_id:{json.dumps(item.session)}")
    return of_traces([trace_of(roots[-1])]).get(trace_of(roots[-1]), []) if roots else []


def _shapes(asked: list[Asked], found: dict[str, list[Span]]) -> Record:
    """What is right of the trees that were kept, each as a count; and what stands where it should not."""
    kept = [(item, found[item.trace_id]) for item in asked if root_of(found[item.trace_id])]
    return {
        "tree": sum(_is_tree(tree) for _, tree in kept),
        "root": sum(_root_is_right(item, tree) for item, tree in kept),
        "repeated": sorted({name for _, tree in kept for name in _repeated(tree)})[:4],
        "tokens": sum(_tokens_are_right(item, tree) for item, tree in kept),
        "named": sum(_call_is_named(tree) for _, tree in kept),
        "elsewhere": sorted({name for _, tree in kept for name in _counted_elsewhere(tree)})[:4],
        "ids": sum(_names_ids(item, tree) for item, tree in kept),
        "texts": sum(_has_text(item, span) for item, tree in kept for span in tree),
    }


def _own(span: Span) -> Record:
    """A span's attributes as they were sent."""
    return {key: value for key, value in span["attributes"].items() if not key.startswith(ITS_OWN)}


def _is_tree(tree: list[Span]) -> bool:
    """Four steps under the root, and under two of them a call."""
    root = root_of(tree)
    assert root is not None
    ids = {span["name"]: span["context"]["span_id"] for span in tree}
    under = {span["name"] for span in tree if span["parent_id"] == root["context"]["span_id"]}
    calls = {span["parent_id"] for span in tree if span["name"].startswith("POST ")}
    return under >= set(STEPS) and {ids.get("retrieve"), ids.get("generate")} <= calls


def _root_is_right(item: Asked, tree: list[Span]) -> bool:
    root = root_of(tree)
    assert root is not None
    about = root["attributes"]
    return (
        about.get("tenant_id") == item.tenant
        and about.get("session_id") == item.session
        and all(about.get(name) for name in ROOT_ONLY)
    )


def _repeated(tree: list[Span]) -> list[str]:
    """What stands on the root and on another span too."""
    return [name for span in tree if span["name"] != ROOT for name in ROOT_ONLY if name in span["attributes"]]


def _tokens_are_right(item: Asked, tree: list[Span]) -> bool:
    used = [
        (span["attributes"].get(INPUT), span["attributes"].get(OUTPUT))
        for span in tree
        if span["name"] == MODEL_CALL
    ]
    return used == [(item.usage.get("prompt_tokens"), item.usage.get("completion_tokens"))]


def _call_is_named(tree: list[Span]) -> bool:
    about: Record = next((span["attributes"] for span in tree if span["name"] == MODEL_CALL), {})
    return bool(about.get(MODEL) and about.get(PROVIDER) and about.get(REASONS))


def _counted_elsewhere(tree: list[Span]) -> list[str]:
    """Names of tokens on spans that are no model call; a sum, wherever it stands."""
    found = [
        f"{name} on {span['name']}"
        for span in tree
        if span["name"] != MODEL_CALL
        for name in _own(span)
        if name.startswith("gen_ai.usage.")
    ]
    return found + [
        "gen_ai.usage.total_tokens" for span in tree if "gen_ai.usage.total_tokens" in span["attributes"]
    ]


def _names_ids(item: Asked, tree: list[Span]) -> bool:
    """Whether the retrieval says which passages it found: all that were cited are among some list of it."""
    about: Record = next((span["attributes"] for span in tree if span["name"] == "retrieve"), {})
    lists = [set(map(str, value)) for value in about.values() if isinstance(value, list)]
    return bool(item.citations) and any(set(map(str, item.citations)) <= found for found in lists)


def _has_text(item: Asked, span: Span) -> bool:
    """Whether the question's words stand among a span's attributes."""
    return item.question in json.dumps(_own(span), ensure_ascii=False)


def _cost(tenant: str, fell: int, since: float) -> Record:
    """What all spans of a tenant's traces since then say that it used, and by how much its budget fell."""
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    roots = spans(name=ROOT, attribute=f"tenant_id:{json.dumps(tenant)}", start_time=start)
    used = {"input": 0, "output": 0}
    models = set[str]()
    for tree in of_traces(map(trace_of, roots)).values():
        for span in tree:
            about = span["attributes"]
            if INPUT in about or OUTPUT in about:
                used["input"] += int(about.get(INPUT) or 0)
                used["output"] += int(about.get(OUTPUT) or 0)
                models.add(str(about.get(MODEL) or ""))
    return {**used, "models": sorted(models), "gateway": fell}


# collector: a copy of the assistant between backends that fail as told

COPY = "http://127.0.0.1:8080"
VLLM_PORT, QDRANT_PORT, COLLECTOR_PORT = 18000, 16333, 14318
READY_S = 60.0
ASKED, FAILED, GONE = 200, 20, 1000
AT_ONCE = 6
GONE_S, KEPT_S, BACK_S = 75.0, 60.0, 75.0
EMAIL, CARD = "anna.planted@example.org", "4111111111111111"
MARK = "zebra"
FAILS = "please fail"
PASSAGE = f"The {MARK} of {EMAIL} paid with {CARD} for it."


class Place(ThreadingHTTPServer):
    """Stands where a backend or the Collector stands; `answer` says what a call gets."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, answer: Callable[[str, bytes], tuple[int, bytes] | None]) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.answer = answer
        self.told = list[str]()
        """What `traceparent` each call brought."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that gave up is no error of this place's."""


class Handler(BaseHTTPRequestHandler):
    """One call."""

    protocol_version = "HTTP/1.1"
    server: Place

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes) -> None:
        self.server.told.append(self.headers.get("traceparent") or "")
        said = self.server.answer(self.path, body)
        if said is None:  # the connection breaks
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
            return
        status, text = said
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """The witness's own log has no place for calls."""


def vllm(path: str, body: bytes) -> tuple[int, bytes]:
    if path.endswith("/models"):
        model = os.environ.get("MODEL") or "a-model"
        return _json({"object": "list", "data": [{"id": model, "object": "model", "max_model_len": 8192}]})
    if path.endswith("/tokenize"):
        return _json({"count": 40})
    if FAILS.encode() in body and b"backend one" in body:
        return _json({"error": {"message": f"no memory left for {EMAIL}", "code": 500}}, 500)
    said = {"role": "assistant", "content": f"The {MARK} did [1]. Write to {EMAIL}."}
    usage = {"prompt_tokens": 40, "completion_tokens": 9, "total_tokens": 49}
    choice = {"index": 0, "message": said, "finish_reason": "stop"}
    return _json(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "choices": [choice],
            "usage": usage,
        }
    )


def qdrant(path: str, body: bytes) -> tuple[int, bytes]:
    if _failing.is_set():
        return _json({"status": {"error": "storage"}}, 500)
    points = [{"id": 1, "score": 0.9, "payload": {"title": "A page", "text": PASSAGE}}]
    return _json({"result": {"points": points} if path.endswith("/query") else points, "status": "ok"})


_failing = threading.Event()


def _json(value: Any, status: int = 200) -> tuple[int, bytes]:
    return status, json.dumps(value).encode()


class Way:
    """The way to the Collector: open, refused, or silent."""

    def __init__(self) -> None:
        self.mode = "open"
        self.changed = threading.Event()
        self.place = Place(COLLECTOR_PORT, self.pass_on)

    def now(self, mode: str) -> None:
        self.mode = mode
        self.changed.set()
        self.changed = threading.Event()

    def pass_on(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        if self.mode == "refused":
            return None
        if self.mode == "silent":
            self.changed.wait(90)
            return None
        place = urllib.parse.urlsplit(os.environ["COLLECTOR_URL"])
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        try:
            connection.request("POST", path, body, {"Content-Type": "application/x-protobuf"})
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def ask(question: str, timeout_s: float = 30.0) -> Answer:
    """One question to the copy, as the gateway would pass it on; without a trace of its own."""
    headers = {
        "Authorization": f"Bearer {os.environ.get('INTERNAL_API_TOKEN', '')}",
        "X-Tenant-Id": "witness",
    }
    return call(f"{COPY}/v1/chat", {"question": question}, headers=headers, timeout_s=timeout_s)


def collector() -> Record:
    """Part 6: what is kept of two hundred questions, what of it is somebody's, and a Collector that is gone."""
    backends = Place(VLLM_PORT, vllm), Place(QDRANT_PORT, qdrant)
    way = Way()
    until(lambda: call(f"{COPY}/readyz", timeout_s=2).status == 200, READY_S)
    first = ask("Is anybody there?")
    if first.status != 200:
        raise RuntimeError(f"the copy does not answer: {first.status} {first.text[:200]}")
    since = time.time() - 1
    answers = _asked()
    kept = _kept(since, sum(item.status != 200 for item in answers))
    gone = _gone(way)
    told = [sum(bool(said) for said in place.told) for place in backends]
    return {
        "statuses": _tally(answers),
        "told": all(told),
        **kept,
        "before_ms": _median_ms(answers),
        "gone": gone,
        "back": _is_back(way),
    }


def _asked() -> list[Answer]:
    """Two hundred questions, of which ten fail at each backend: two at a time, so that no circuit opens."""
    good = [f"Where is {MARK} {number} of {EMAIL}?" for number in range(ASKED - FAILED)]
    answers: list[Answer] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number in range(FAILED // 4):
            part = good[number * len(good) * 4 // FAILED : (number + 1) * len(good) * 4 // FAILED]
            half = len(part) // 2
            bad = [f"{MARK} {number} {which} of {EMAIL}, {FAILS}, backend one" for which in "ab"]
            answers += pool.map(ask, [*part[:half], *bad])
            answers += pool.map(ask, part[half:])
            _failing.set()
            answers += pool.map(ask, [text.replace("backend one", "backend two") for text in bad])
            _failing.clear()
    return answers


def _searches() -> list[Span]:
    """The searches of this pod's copy, of all traces that were kept."""
    return spans(name=f"POST /collections/{os.environ['HOSTNAME']}/points/query")


def _kept(since: float, failed: int) -> Record:
    """What Phoenix has of them, when all that failed are there, or no more comes."""
    start = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since))
    until(lambda: len(spans(name=ROOT, status_code="ERROR", start_time=start)) >= failed, KEPT_S)
    trees = of_traces(map(trace_of, _searches()))
    bad = [tree for tree in trees.values() if any(span["status_code"] == "ERROR" for span in tree)]
    good = [tree for tree in trees.values() if tree not in bad]
    return {
        "failed": failed,
        "errors": len(bad),
        "whole": sum(root_of(tree) is not None for tree in bad),
        "good": sum(root_of(tree) is not None for tree in good),
        **_leaks([span for tree in trees.values() for span in tree]),
    }


def _leaks(kept: list[Span]) -> Record:
    """Where an address or a card number stands, and whether what stood around them was kept."""
    attributes = [json.dumps(span["attributes"]) + str(span["status_message"]) for span in kept]
    events = [json.dumps(event["attributes"]) for span in kept for event in span["events"]]
    return {
        "leaks": {
            "attributes": sum(EMAIL in text or CARD in text for text in attributes),
            "events": sum(EMAIL in text or CARD in text for text in events),
        },
        "captured": sum(MARK in text for text in events),
    }


def _gone(way: Way) -> Record:
    """A thousand questions while spans are refused, then while nobody answers for them."""
    until_ = time.monotonic() + GONE_S
    answers: list[Answer] = []

    def one(number: int) -> None:
        if time.monotonic() < until_:
            answers.append(ask(f"Is {MARK} {number} still there?", max(1.0, until_ - time.monotonic())))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mode in ("refused", "silent"):
            way.now(mode)
            list(pool.map(one, range(GONE // 2)))
    good = [item for item in answers if item.status == 200]
    return {"asked": len(answers), "answered": len(good), "ms": _median_ms(good)}


def _is_back(way: Way) -> bool:
    """Whether spans arrive again when the Collector is back: of questions that fail, which are kept."""
    before = len(_searches())
    way.now("open")

    def arrived() -> bool:
        ask(f"{MARK} once more, {FAILS}, backend one", 10)
        return len(_searches()) > before

    until(arrived, BACK_S)
    return len(_searches()) > before


def _median_ms(answers: list[Answer]) -> int:
    times = [item.seconds for item in answers if item.status == 200]
    return round(1000 * statistics.median(times)) if times else 0


def _tally(answers: list[Answer]) -> Record:
    found = [item.status for item in answers]
    return {str(status): found.count(status) for status in sorted(set(found))}


WITNESSES: dict[str, Callable[[], Record]] = {"trace": trace, "collector": collector}


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], WITNESSES))
