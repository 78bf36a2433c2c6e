"""What runs in a witness's pod: it asks, counts what reaches the backends, and leaves a record.

The pod holds a copy of the orchestrator, with the learner's ConfigMaps, in a container beside this one.
Between the copy and the real vLLM and Qdrant stand two proxies of this program: they pass calls on, count
them, and for a moment stall them, break them off or answer in the backend's place. Other witnesses have no
copy and ask the Service or the gateway. The record is the container's termination message, so that it stays
in the pod's status when the log is gone: it names the Job, the pod and the files that the copy ran with.

The text of this file and of `witness_base` is the pod's command.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import re
import socket
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from helpers.labs.witness_base import Answer, Record, call, keys, last_event, leave_record

DECISIONS = Path("/etc/orchestrator/decisions")
COPY = "http://127.0.0.1:8080"
COPY_METRICS = "http://127.0.0.1:9090"
VLLM_PORT, QDRANT_PORT = 18000, 16333
READY_S = 60.0
# Answers of a witness are short, so that a slow machine's fit every budget.
SHORT = 16
# What of the settings decides how the copy behaves here; the record says what they were.
SETTINGS = ("CLIENT_MAX_RETRIES", "DURABILITY", "THREAD_TTL_MINUTES", "IDEMPOTENCY_LEASE_S")
QUESTION = "Why is my pod Pending although the node has a free GPU?"


# Asking


def internal(**headers: str) -> dict[str, str]:
    """What the gateway sends with every request."""
    return {"Authorization": f"Bearer {os.environ.get('INTERNAL_API_TOKEN', '')}", **headers}


def ask(
    question: str,
    *,
    to: str = COPY,
    tenant: str = "witness",
    budget: str = "standard",
    key: str = "",
    timeout_s: float = 60.0,
    **body: Any,
) -> Answer:
    """One question, as the gateway would pass it on."""
    headers = internal(**{"X-Tenant-Id": tenant, "X-Budget-Class": budget})
    if key:
        headers["Idempotency-Key"] = key
    asked = {"max_tokens": SHORT, **({} if "messages" in body else {"question": question}), **body}
    return call(f"{to}/v1/chat", asked, headers=headers, timeout_s=timeout_s)


def thread(name: str, *, to: str = COPY, tenant: str = "witness") -> Answer:
    """What is kept of a thread."""
    return call(f"{to}/v1/threads/{name}", headers=internal(**{"X-Tenant-Id": tenant}), timeout_s=10)


def fresh(name: str) -> str:
    """A name that nobody used before: the same witness may run again."""
    return f"{name}-{os.environ.get('HOSTNAME', 'witness')}"


# The proxies

Fault = Callable[[Record], str]


class Proxy(ThreadingHTTPServer):
    """Stands before one backend: passes on, counts, and does to a call what `fault` says.

    `fault` gets the call's body and says "" (pass it on), "stall", "reset", or a status such as "503".
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, port: int, upstream: str, *, counts: str) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        place = urllib.parse.urlsplit(upstream)
        self.upstream = (place.hostname or "", place.port or 80)
        self.counts = counts
        self.fault: Fault = lambda body: ""
        self.hold_s = 0.0
        self.calls: list[Record] = []
        self.answered: list[int] = []
        self.running = self.most = 0
        self.lock = threading.Lock()
        self.over = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @contextmanager
    def counted(self, body: Record) -> Iterator[None]:
        """A call that counts, and how many run beside it."""
        with self.lock:
            self.calls.append(body)
            self.running += 1
            self.most = max(self.most, self.running)
        try:
            yield
        finally:
            with self.lock:
                self.running -= 1

    def since(self, before: int = 0) -> list[Record]:
        """The calls after this many."""
        with self.lock:
            return self.calls[before:]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that gave up is no error of the proxy's."""


class Handler(BaseHTTPRequestHandler):
    """One call through a proxy."""

    protocol_version = "HTTP/1.1"
    server: Proxy

    def do_GET(self) -> None:
        self._pass({}, b"")

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(raw)
        except ValueError:
            body = {}
        if self.server.counts in self.path:
            with self.server.counted(body):
                self._judge(body, raw)
        else:
            self._pass(body, raw)

    def _judge(self, body: Record, raw: bytes) -> None:
        fault = self.server.fault(body)
        if fault == "stall":
            self.server.over.wait(90)
        if fault in ("stall", "reset"):
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()
        elif fault:
            self._say(int(fault), {"error": {"message": f"{fault} for the witness", "code": int(fault)}})
        else:
            time.sleep(self.server.hold_s)
            self._pass(body, raw)

    do_PUT = do_DELETE = do_POST

    def _say(self, status: int, body: Record) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _pass(self, body: Record, raw: bytes) -> None:
        """The real backend's answer, piece by piece as it comes."""
        connection = http.client.HTTPConnection(*self.server.upstream, timeout=90)
        try:
            sent = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in ("host", "content-length", "connection", "accept-encoding")
            }
            connection.request(self.command, self.path, raw or None, sent)
            response = connection.getresponse()
            if body and self.server.counts in self.path:
                self.server.answered.append(response.status)
            self.send_response(response.status)
            self.send_header("Content-Type", response.getheader("Content-Type") or "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            while piece := response.read1(65536):
                self.wfile.write(piece)
                self.wfile.flush()
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """The witness's own log has no place for calls."""


class Stand:
    """The copy between its two proxies."""

    def __init__(self) -> None:
        self.vllm = Proxy(VLLM_PORT, os.environ["REAL_VLLM_URL"], counts="/chat/completions")
        self.qdrant = Proxy(QDRANT_PORT, os.environ["REAL_QDRANT_URL"], counts="/points/")
        wait_until_ready()

    @contextmanager
    def broken(self, *, vllm: str = "", qdrant: str = "") -> Iterator[None]:
        """Faults of both backends for as long as the block lasts."""
        self.vllm.fault, self.qdrant.fault = (lambda body: vllm), (lambda body: qdrant)
        try:
            yield
        finally:
            self.vllm.fault = self.qdrant.fault = lambda body: ""
            for proxy in (self.vllm, self.qdrant):
                proxy.over.set()
                proxy.over = threading.Event()

    def generations(self, before: int) -> int:
        """How often vLLM was asked since."""
        return len(self.vllm.since(before))


class NotReady(Exception):
    """The copy does not become ready; it says why."""


def wait_until_ready() -> None:
    """Until the copy takes requests.

    Raises:
        NotReady: in the words of its readiness probe.
    """
    until, said = time.monotonic() + READY_S, ""
    while time.monotonic() < until:
        answer = call(f"{COPY}/readyz", timeout_s=5)
        if answer.status == 200:
            return
        said = answer.text if answer.status else said
        if "decision" in said and answer.status == 503:
            break
        time.sleep(0.3)
    raise NotReady(said[:400] or "nothing answers on port 8080")


def at_once(*works: Callable[[], Answer]) -> list[Answer]:
    """All of these at the same time."""
    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(work) for work in works]]


def until_answered(work: Callable[[], Answer], most: int = 8) -> Answer:
    """Ask again where the answer says when."""
    answer = work()
    for _ in range(most):
        if answer.status not in (409, 425, 429, 503) or "retry-after" not in answer.headers:
            break
        time.sleep(min(3.0, float(answer.headers["retry-after"] or 1)))
        answer = work()
    return answer


# Scenarios


def budget() -> Record:
    """Part 2: a Qdrant that is silent, then both backends slow, as on a busy day."""
    stand = Stand()
    ask(QUESTION, budget="fast")
    with stand.broken(qdrant="stall"):
        silent = ask("What does a readiness probe decide?", budget="fast", product="brainstorming")
    stand.qdrant.hold_s, stand.vllm.hold_s = 0.2, 5.0
    for number in range(3):  # on a busy node the first try may be slower than what it shows
        slow = ask(f"What is a toleration? {number}", budget="fast")
        if slow.status == 200 and slow.json.get("citations"):
            break
    return {
        "silent": {"status": silent.status, "s": round(silent.seconds, 1)},
        "slow": {
            "status": slow.status,
            "s": round(slow.seconds, 1),
            "citations": len(slow.json.get("citations") or []),
        },
    }


def state() -> Record:
    """Part 3: what Redis is and what it holds after one question."""
    stand = Stand()
    name = fresh("state")
    answer = ask(QUESTION, thread_id=name, return_retrieval_context=True)
    store = Redis()
    keys = [key for key in store.names() if name in key]
    texts = [text[:60] for text in _texts(answer.json.get("retrieval_context")) if len(text) >= 60]
    values = [store.value(key) for key in keys]
    return {
        "status": answer.status,
        "citations": len(answer.json.get("citations") or []),
        "generations": stand.generations(0),
        "keys": len(keys),
        "for_ever": sum(store.ttl_ms(key) < 0 for key in keys),
        "texts": sum(any(text in value for text in texts) for value in values),
        "sought": len(texts),
    }


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for item in node:
            yield from _texts(item)
    elif isinstance(node, dict):
        for item in node.values():
            yield from _texts(item)


class Redis:
    """The store, asked with the client that the orchestrator has."""

    def __init__(self) -> None:
        import redis

        self._client = redis.Redis.from_url(os.environ["REDIS_URL"], decode_responses=True)

    def names(self) -> list[str]:
        return [str(key) for key in self._client.scan_iter(count=500)]

    def ttl_ms(self, key: str) -> int:
        return int(self._client.pttl(key))

    def value(self, key: str) -> str:
        """A key's content as text, whatever its kind."""
        reads = {
            "string": ("GET", key),
            "hash": ("HGETALL", key),
            "ReJSON-RL": ("JSON.GET", key),
            "list": ("LRANGE", key, 0, -1),
            "zset": ("ZRANGE", key, 0, -1),
            "set": ("SMEMBERS", key),
        }
        kind = self._client.type(key)
        text = str(self._client.execute_command(*reads[kind])) if kind in reads else ""
        return f"{text} {' '.join(_unpacked(text))}"


def _unpacked(text: str) -> Iterator[str]:
    """The readable parts of what lies in a text as base64: LangGraph packs messages so."""
    for part in re.findall(r"[A-Za-z0-9+/]{24,}={0,2}", text):
        with suppress(ValueError):
            yield base64.b64decode(part, validate=True).decode("utf-8", "ignore")


def again() -> Record:
    """Part 4: one question five times at once, once more later, and from somebody else."""
    stand = Stand()
    ask("What is a NetworkPolicy?")
    name, key, question = fresh("again"), fresh("key"), "Which probe restarts a container?"
    stand.vllm.hold_s = 2.0
    before, leases = len(stand.vllm.since()), list[int]()
    watch = threading.Thread(target=lambda: leases.extend(_leases(name, 1.5)))
    watch.start()

    def same() -> Answer:
        return until_answered(lambda: ask(question, thread_id=name, key=key))

    five = at_once(*[same] * 5)
    watch.join()
    stand.vllm.hold_s = 0.0
    generations, before = stand.generations(before), len(stand.vllm.since())
    late = same()
    late_generations, before = stand.generations(before), len(stand.vllm.since())
    foreign = until_answered(lambda: ask(question, tenant="another", thread_id=fresh("foreign"), key=key))
    foreign_generations = stand.generations(before)
    other = until_answered(lambda: ask("What does a toleration do?", thread_id=name, key=key))
    return {
        "statuses": sorted({answer.status for answer in five}),
        "answers": len({answer.words for answer in five if answer.words}),
        "generations": generations,
        "late": {
            "status": late.status,
            "generations": late_generations,
            "same": late.words == five[0].words,
            "replayed": bool(late.json.get("replayed")),
        },
        "foreign": {"status": foreign.status, "generations": foreign_generations},
        "other": {"status": other.status, "same": bool(other.words) and other.words == five[0].words},
        "lease_s": max(leases, default=None),
        "leases_for_ever": sum(lease < 0 for lease in leases),
    }


def _leases(name: str, seconds: float) -> list[int]:
    """How long, in seconds, what marks a thread's question as being answered would outlive its owner."""
    store, seen, until = Redis(), dict[str, int](), time.monotonic() + seconds
    while time.monotonic() < until:
        for key in store.names():
            is_run = key.startswith("orc:run:") and key.endswith(f":{name}")
            if is_run or (key.startswith("orc:idem:") and _is_running(store.value(key), name)):
                ttl = store.ttl_ms(key)
                seen[key] = ttl // 1000 if ttl >= 0 else -1
        time.sleep(0.2)
    return list(seen.values())


def _is_running(record: str, name: str) -> bool:
    """Whether a key's record is that of a question of this thread that is not answered yet."""
    return '"running"' in record and f'"{name}"' in record


TURNS = 40


def window() -> Record:
    """Part 5: a long conversation, in words and in digits, that does not fit."""
    stand = Stand()
    turns = {
        "words": "Kubernetes places a pod on a node that has room for what it requests, and nowhere else. "
        * 2,
        "digits": " ".join(f"{number * 7919 % 99991:05d}" for number in range(16)),
    }
    return {name: _conversation(stand, text) for name, text in turns.items()}


def _conversation(stand: Stand, text: str) -> Record:
    last = f"Which of these was the last? {text[:8]}"
    turns = [
        {"role": role, "content": f"{number}: {text}"}
        for number in range(TURNS)
        for role in ("user", "assistant")
    ]
    before, refused = len(stand.vllm.since()), stand.vllm.answered.count(400)
    answer = ask("", messages=[*turns, {"role": "user", "content": last}], timeout_s=60)
    sent = [call.get("messages") or [] for call in stand.vllm.since(before)]
    newest = sent[-1] if sent else []
    words = [str(message.get("content")) for message in newest]
    kept = [number for number in range(TURNS) if f"{number}: {text}" in words]
    return {
        "status": answer.status,
        "sent": len(sent),
        "refused": stand.vllm.answered.count(400) - refused,
        "system": bool(newest) and newest[0].get("role") == "system",
        "question": any(last in word for word in words[-2:]),
        "kept": len(kept),
        "newest": kept == list(range(TURNS - len(kept), TURNS)),
        "prompt_tokens": (answer.json.get("usage") or {}).get("prompt_tokens"),
    }


def retry() -> Record:
    """Part 6: how often vLLM is asked for one question, by what it answers."""
    stand = Stand()
    ask("What is a PersistentVolumeClaim?")
    counts: Record = {}
    for fault in ("400", "503", "401", "429", "reset", "422"):
        before = len(stand.vllm.since())
        with stand.broken(vllm=fault):
            ask(f"What does the status {fault} mean?", timeout_s=45)
        counts[fault] = stand.generations(before)
        ask("What is a Service?")  # a good answer between: one failure shall not hide the next
    first = [True]

    def once(body: Record) -> str:
        failing, first[0] = first[0], False
        return "503" if failing else ""

    before, stand.vllm.fault = len(stand.vllm.since()), once
    healed = ask("What does a Deployment do that a ReplicaSet does not?")
    return {"calls": counts, "healed": {"status": healed.status, "calls": stand.generations(before)}}


def degrade() -> Record:
    """Part 7: Qdrant is away, for three products; then all is well again."""
    stand = Stand()
    ask("What is a taint?")
    found: Record = {}
    for product in ("documentation", "compliance", "brainstorming"):
        before = len(stand.vllm.since())
        with stand.broken(qdrant="reset"):
            answer = ask("May this pod run as root?", product=product)
        found[product] = {
            "status": answer.status,
            "kind": answer.degraded.get("kind"),
            "label": str(answer.degraded.get("label") or "")[:40],
            "answered": bool(answer.words) and stand.generations(before) > 0,
        }
        ask("What is a Secret?", product=product)
    healthy = ask("What is a ConfigMap?", product="documentation")
    found["healthy"] = {"status": healthy.status, "degraded": bool(healthy.degraded)}
    return found


def pressure() -> Record:
    """Part 8: Qdrant fails again and again; then more questions at once than fit."""
    stand = Stand()
    ask("What is an EndpointSlice?")
    with stand.broken(qdrant="reset"):
        reached, generations = [], len(stand.vllm.since())
        for number in range(14):
            before = len(stand.qdrant.since())
            ask(f"What is the answer number {number}?", product="brainstorming")
            reached.append(len(stand.qdrant.since()) - before)
        states = _circuits()
        served = stand.generations(generations)
        stand.vllm.hold_s, stand.vllm.most = 0.4, 0
        crowd = _crowd()
    return {
        "reached": reached,
        "served": served,
        "circuits": states,
        "most": stand.vllm.most,
        "limit": int(os.environ["GENERATION_CONCURRENCY"]),
        **crowd,
    }


def _circuits() -> Record:
    """The state of each circuit, as the copy's metrics show it."""
    found: Record = {}
    for line in call(f"{COPY_METRICS}/metrics").text.splitlines():
        if line.startswith("llm_orchestrator_circuit_state{"):
            backend = line.partition('backend="')[2].partition('"')[0]
            found[backend] = int(float(line.rpartition(" ")[2]))
    return found


def _crowd() -> Record:
    """Forty questions of one tenant at once and, a moment later, two of another."""
    answers: dict[str, list[Answer]] = {"greedy": [], "quiet": []}

    def one(tenant: str, number: int) -> None:
        asked = f"{tenant} asks number {number}"
        answers[tenant].append(ask(asked, tenant=tenant, product="brainstorming", timeout_s=60))

    with ThreadPoolExecutor(42) as pool:
        for number in range(40):
            pool.submit(one, "greedy", number)
        time.sleep(0.6)
        for number in range(2):
            pool.submit(one, "quiet", number)
    shed = [answer for answer in answers["greedy"] if answer.status == 429]
    return {
        "greedy": _tally(answers["greedy"]),
        "quiet": _tally(answers["quiet"]),
        "retry_after": sum("retry-after" in answer.headers for answer in shed),
    }


def _tally(answers: list[Answer]) -> Record:
    return {
        str(status): sum(item.status == status for item in answers) for status in {a.status for a in answers}
    }


# Witnesses of the Service itself

SERVICE = os.environ.get("SERVICE_URL", "")
GATEWAY = os.environ.get("GATEWAY_URL", "")


def answer() -> Record:
    """Part 1: one question to the Service, and what happens without the token and to another's thread."""
    name = fresh("answer")
    given = until_answered(lambda: ask(QUESTION, to=SERVICE, thread_id=name))
    bare = call(f"{SERVICE}/v1/chat", {"question": QUESTION})
    theirs = thread(name, to=SERVICE, tenant="somebody-else")
    return {
        "status": given.status,
        "answered": bool(given.words),
        "citations": len(given.json.get("citations") or []),
        "degraded": bool(given.degraded),
        "bare": bare.status,
        "theirs": theirs.status,
        "said": "" if given.status == 200 else given.text[:200],
    }


def survive() -> Record:
    """Parts 3 and 9: a rollout goes over the load, a pod dies in the middle of an answer, Redis dies.

    What is to be broken is broken by whoever started this; `tell` says when, a file says that it is done.
    """
    return {**_rolled_over(), **_killed(), **_redis_gone()}


def tell(word: str) -> None:
    """A word for whoever follows the log."""
    print(f"WITNESS {word}", flush=True)


def told(word: str, timeout_s: float) -> str | None:
    """What came back for the word, as a file's content; None where nothing did."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with suppress(OSError):
            return Path(f"/tmp/{word}").read_text()
        time.sleep(0.1)
    return None


LONG = "List ten different reasons why a pod can fail, with a whole sentence for each. This is list {}."
MANY = 10


def _killed() -> Record:
    """Ten threads at once, and one of their pods is killed while it generates: who finishes them, and how often."""
    for number in range(3):
        names = [fresh(f"killed{number}-{other}") for other in range(MANY)]
        with ThreadPoolExecutor(MANY) as pool:
            asked = [pool.submit(_asked_long, name) for name in names]
            # A service that writes its steps only at the end never says that it generates.
            until = time.monotonic() + 5
            begun = [name for name in names if _reaches(name, ("generate",), until - time.monotonic())]
            tell(f"generating {names[0]}")
            killed = told(f"killed-{names[0]}", 15)
        cut = [name for name, future in zip(names, asked, strict=True) if future.result().status != 200]
        # What a slow machine had not begun when the pod died was not cut off in the middle.
        cut = [name for name in cut if name in begun or not begun]
        if killed is None or not cut:
            continue  # all were answered before their pod died: once more
        until = time.monotonic() + 45
        finished = [name for name in cut if _reaches(name, ("done",), until - time.monotonic())]
        threads = [thread(name, to=SERVICE).json for name in finished]
        roles = [[item.get("role") for item in found.get("messages") or []] for found in threads]
        return {
            "killed": {
                "cut": len(cut),
                "finished": len(finished),
                "answered": sum("assistant" in found for found in roles),
                "once": sum(found.count("user") == 1 for found in roles),
                "with_documents": sum(bool(found.get("citations")) for found in threads),
            }
        }
    return {"killed": {"cut": 0}}


def _asked_long(name: str) -> Answer:
    number = name.partition("-")[2]
    return ask(
        LONG.format(number), to=SERVICE, thread_id=name, budget="background", max_tokens=400, timeout_s=120
    )


def _reaches(name: str, steps: tuple[str, ...], seconds: float) -> bool:
    """Whether a thread comes to one of these steps; it is looked at once at least."""
    until = time.monotonic() + seconds
    while thread(name, to=SERVICE).json.get("step") not in steps:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _redis_gone() -> Record:
    """A thread before and after Redis's own death; whoever stopped it says how often pods restarted meanwhile."""
    name = fresh("redis")
    until_answered(lambda: ask("What is a StatefulSet?", to=SERVICE, thread_id=name, budget="fast"))
    before = thread(name, to=SERVICE).json.get("messages")
    time.sleep(1.5)  # appendfsync everysec: what was written a second ago is on the disk
    tell("redis")
    restarts = told("redis-back", 150)
    until = time.monotonic() + 30
    after = thread(name, to=SERVICE)
    while after.status not in (200, 404) and time.monotonic() < until:
        time.sleep(0.5)
        after = thread(name, to=SERVICE)
    return {
        "redis": {
            "gone": restarts is not None,
            "restarts": int(restarts) if restarts else 0,
            "status": after.status,
            "same": bool(before) and after.json.get("messages") == before,
        }
    }


# More than the engine answers at once: each answer then lasts for seconds, as they do on a busy day.
ASKERS = 8


def _rolled_over() -> Record:
    """Askers that never pause while every pod is replaced: how many answers, and what became of the rest."""
    began, lost, answered = time.time(), list[str](), [0]
    over = threading.Event()

    def asker(number: int) -> None:
        asked = f"Explain to {number} people what a Pod is."
        while not over.is_set():
            given = until_answered(lambda: ask(asked, to=SERVICE, max_tokens=64))
            answered[0] += given.status == 200
            if given.status != 200:
                lost.append(str(given.status or given.text[:60]))

    with ThreadPoolExecutor(ASKERS) as pool:
        for number in range(ASKERS):
            pool.submit(asker, number)
        time.sleep(2)  # answers are in flight
        tell("rollout")
        rolled = told("rolled-out", 150) is not None
        over.set()
    return {
        "rollout": {
            "rolled": rolled,
            "answered": answered[0],
            "lost": len(lost),
            "first": lost[:1],
            "from": round(began),
            "to": round(time.time()),
        }
    }


def gateway() -> Record:
    """Part 10: with and without a key, as somebody else, and until a key's tokens are spent."""
    known, name = keys(), fresh("gateway")
    course, trial = known["course"], known["trial"]
    none = call(f"{GATEWAY}/v1/chat", {"question": QUESTION})
    wrong = call(f"{GATEWAY}/v1/chat", {"question": QUESTION}, headers={"x-api-key": "not-a-key"})
    posing = _through(course, {"question": QUESTION, "thread_id": name}, **{"X-Tenant-Id": "somebody-else"})
    own = _thread_through(course, name)
    theirs = _thread_through(known["research"], name)
    stream = _stream_cost(course)
    spent = _until_spent(trial)
    beside = _through(course, {"question": "What is a Pod?"})
    return {
        "none": none.status,
        "wrong": wrong.status,
        "posing": posing.status,
        "own": own.status,
        "theirs": theirs.status,
        "stream": stream,
        "trial": spent,
        "beside": beside.status,
        "direct": call(f"{SERVICE}/livez", timeout_s=5).status,
    }


def _total_tokens(stream: str) -> int:
    """What a stream's last event says that it used."""
    return int((last_event(stream).get("usage") or {}).get("total_tokens") or 0)


def _through(key: str, body: Record, **headers: str) -> Answer:
    sent = {"x-api-key": key, "X-Budget-Class": "fast", **headers}
    return call(f"{GATEWAY}/v1/chat", {"max_tokens": SHORT, **body}, headers=sent)


def _thread_through(key: str, name: str) -> Answer:
    return call(f"{GATEWAY}/v1/threads/{name}", headers={"x-api-key": key}, timeout_s=10)


def _left(key: str) -> int | None:
    """What the gateway says is left of a key's tokens; asking for a thread costs none."""
    left = _thread_through(key, "none").headers.get("x-ratelimit-remaining", "")
    return int(left) if left.isdigit() else None


def _stream_cost(key: str) -> Record:
    """What a streamed answer says that it used, and by how much the key's budget fell."""
    for _ in range(2):
        before = _left(key)
        given = _through(key, {"question": "What is a Job?", "stream": True})
        time.sleep(0.5)  # the gateway counts when the stream is over
        after = _left(key)
        fell = before - after if before is not None and after is not None else None
        if fell is None or fell >= 0:
            break  # else the clock's hour turned between the two, and the budget is full again
    return {"status": given.status, "tokens": _total_tokens(given.text), "fell": fell}


def _until_spent(key: str, most: int = 8) -> Record:
    """Questions with a key of few tokens, until the gateway says that they are spent."""
    statuses: list[int] = []
    while len(statuses) < most and 429 not in statuses:
        given = _through(key, {"question": f"{QUESTION} Answer number {len(statuses)}.", "stream": True})
        statuses.append(given.status)
    return {
        "answered": statuses.count(200),
        "refused": 429 in statuses,
        "retry_after": "retry-after" in given.headers,
    }


WITNESSES: dict[str, Callable[[], Record]] = {
    found.__name__: found
    for found in (answer, budget, state, again, window, retry, degrade, pressure, survive, gateway)
}


def ran_with() -> Record:
    """What the copy beside this program runs with: the decisions' files by their checksums, and settings."""
    files = sorted(DECISIONS.glob("*.py"))
    return {
        "files": {file.stem: hashlib.sha256(file.read_bytes()).hexdigest()[:12] for file in files},
        "settings": {name: os.environ.get(name) for name in SETTINGS},
    }


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], WITNESSES, ran_with))
