"""What a learner's decisions would do, worked out on the page: no cluster is asked, and every edit redraws it.

The examples are the course's own. What a function raises, or returns in the wrong shape, is told in a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import marimo as mo
from markupsafe import Markup

from helpers.apps.orchestrator.decisions import CLASSES, KINDS, Degradation, Failure, Message, Request
from helpers.labs.lab06_orchestration.draw import HOPS, budget_bar
from helpers.notebook.html import card, code, course, cut, table, word

Drawn = Callable[..., Any]


class _Wrong(Exception):
    """A decision that cannot be drawn, in a sentence."""


def _asked(function: Any, *arguments: Any) -> Any:
    """What a learner's function says.

    Raises:
        _Wrong: it raised.
    """
    if not callable(function):
        raise _Wrong(f"{function!r:.60} is no function")
    try:
        return function(*arguments)
    except Exception as error:  # the learner's own code: whatever it raises is told to them
        name = getattr(function, "__name__", "the function")
        raise _Wrong(f"{name} raised {type(error).__name__}: {error}") from error


def _or_sentence(draw: Drawn) -> Drawn:
    def drawn(*functions: Any) -> Any:
        try:
            return draw(*functions)
        except _Wrong as wrong:
            return course(Markup("{} {}").format(word("FAIL", "not yet"), str(wrong)), live=True)

    return drawn


# Milliseconds that each hop takes, and what the bar is called.
_DAYS = {
    "a good day": {"load": 5, "retrieve": 40, "assemble": 60, "generate": 6_000, "record": 5},
    "Qdrant silent": {"load": 5, "retrieve": 60_000, "assemble": 60, "generate": 6_000, "record": 5},
    "vLLM silent": {"load": 5, "retrieve": 40, "assemble": 60, "generate": 60_000, "record": 5},
}


@_or_sentence
def budget_picture(hop_deadline_ms: Any) -> Any:
    """Class fast on three days: what each hop takes before its deadline cuts it, and what is left."""
    budget, said, bars = CLASSES["fast"], [], {}
    for day, takes in _DAYS.items():
        left, spent = budget.deadline_ms, dict.fromkeys(HOPS, 0)
        for hop in HOPS:
            may = _asked(hop_deadline_ms, budget, hop, left) if left > 0 else 0
            if not isinstance(may, int) or isinstance(may, bool):
                raise _Wrong(
                    f"hop_deadline_ms says {may!r:.40} for {hop}: it is a whole number of milliseconds"
                )
            spent[hop] = max(0, min(takes[hop], may, left))
            left -= spent[hop]
        bars[day] = spent
        said.append((day, *_ending(spent, takes, left)))
    rows = [(day, word(state, text)) for day, state, text in said]
    verdicts = card(table(("class fast, 12 s", "how it ends"), rows), live=True)
    return mo.vstack([budget_bar(bars, budget.deadline_ms), verdicts], gap=0.3)


def _ending(spent: dict[str, int], takes: dict[str, int], left: int) -> tuple[str, str]:
    if left <= 0:
        return "FAIL", "nothing is left to say so"
    cut_off = [hop for hop in HOPS if spent[hop] < takes[hop]]
    if not cut_off:
        return "PASS", "answered"
    if spent["generate"] < takes["generate"] and "retrieve" in cut_off:
        return "FAIL", "retrieval took the model's time"
    return "open", f"{' and '.join(cut_off)} given up in time"


_TWO = {
    "the same caller tries again": (
        ("docs", "t1", "k1", "What is a taint?", "r1"),
        ("docs", "t1", "k1", "What is a taint?", "r2"),
        True,
    ),
    "another tenant, the same key": (
        ("docs", "t1", "k1", "What is a taint?", "r1"),
        ("lab", "t1", "k1", "What is a taint?", "r3"),
        False,
    ),
    "another question, the same key": (
        ("docs", "t1", "k1", "What is a taint?", "r1"),
        ("docs", "t1", "k1", "And a label?", "r4"),
        False,
    ),
    "another thread": (
        ("docs", "t1", "k1", "What is a taint?", "r1"),
        ("docs", "t2", "k1", "What is a taint?", "r5"),
        False,
    ),
    "parts that run together": (
        ("docs", "t", "1k", "What is a taint?", "r1"),
        ("docs", "t1", "k", "What is a taint?", "r6"),
        False,
    ),
}


@_or_sentence
def key_table(idempotency_key: Any) -> mo.Html:
    """Pairs of requests: whether the function takes them for one, and whether they are."""
    rows = []
    for name, (one, other, same) in _TWO.items():
        keys = [_asked(idempotency_key, Request(*request)) for request in (one, other)]
        is_same = keys[0] == keys[1]
        rows.append(
            (
                name,
                "one request" if same else "two requests",
                _held(is_same == same, "one" if is_same else "two"),
            )
        )
    return card(table(("two requests", "they are", "your function says"), rows), live=True)


def _held(right: bool, said: str) -> Markup:
    return word("PASS" if right else "FAIL", said)


def _tokens(messages: Sequence[Message]) -> int:
    """As the course's model counts, about: a digit is a token, four letters are one, a message costs four."""
    total = 0
    for message in messages:
        digits = sum(letter.isdigit() for letter in message["content"])
        total += 4 + digits + (len(message["content"]) - digits + 3) // 4
    return total


_TALK: list[Message] = [
    {"role": "system", "content": "You answer questions about Kubernetes."},
    {"role": "user", "content": "What is a pod? Please explain it in some detail."},
    {"role": "assistant", "content": "A pod is one or more containers that share a network and volumes."},
    {"role": "user", "content": "Here are readings: 90210 45133 77101 66821 90017 31280"},
    {"role": "assistant", "content": "Six readings: 90210 45133 77101 66821 90017 31280"},
    {"role": "user", "content": "And a Deployment?"},
    {"role": "assistant", "content": "It keeps a number of pods running."},
    {"role": "user", "content": "Which reading was the largest?"},
]
_ROOM = 90


@_or_sentence
def trim_picture(trim: Any) -> mo.Html:
    """A conversation that is too long: which messages the function keeps, and what they cost."""
    kept = _asked(trim, [dict(message) for message in _TALK], _ROOM, _tokens)
    if not isinstance(kept, list) or any(
        not isinstance(item, dict) or "content" not in item for item in kept
    ):
        raise _Wrong(f"trim says {kept!r:.60}: it is a list of messages")
    rows = [
        (message["role"], cut(message["content"], 60), str(_tokens([message])), _kept(message in kept))
        for message in _TALK
    ]
    total = _tokens(kept)
    state = "PASS" if total <= _ROOM else "FAIL"
    head = Markup('<div class="row">{} <small>room for {}</small></div>').format(
        word(state, f"{total} tokens"), _ROOM
    )
    return card(head + table(("role", "content", "tokens", ""), rows), live=True)


def _kept(is_kept: bool) -> Markup:
    return word("PASS", "kept") if is_kept else word("none", "left out")


_FAILURES = {
    "a connection that broke": (Failure("unreachable", "vllm"), True),
    "503, a pod that starts": (Failure("failed", "vllm", 503), True),
    "429, a queue that is full": (Failure("overloaded", "vllm", 429), None),
    "400, a prompt that is too long": (Failure("context_exceeded", "vllm", 400), False),
    "401, a wrong key": (Failure("failed", "vllm", 401), False),
    "404, a model that is not served": (Failure("model_missing", "vllm", 404), False),
    "no answer in the hop's time": (Failure("timed_out", "qdrant"), None),
}


@_or_sentence
def retry_table(worth_a_retry: Any) -> mo.Html:
    """Failures, and whether the function would ask again."""
    rows = []
    for name, (failure, right) in _FAILURES.items():
        said = _asked(worth_a_retry, failure)
        state = "open" if right is None else "PASS" if bool(said) == right else "FAIL"
        rows.append((name, word(state, "ask again" if said else "do not")))
    return card(table(("failure", "your function says"), rows), live=True)


@_or_sentence
def degrade_table(degrade: Any) -> mo.Html:
    """What each product does without Qdrant and without vLLM."""
    rows = []
    for product in ("documentation", "compliance", "brainstorming"):
        said = [
            _asked(degrade, failure, product)
            for failure in (Failure("unreachable", "qdrant"), Failure("failed", "vllm", 503))
        ]
        rows.append((product, *map(_degradation, said)))
    return card(table(("product", "without Qdrant", "without vLLM"), rows), live=True)


def _degradation(said: Any) -> Markup:
    if not isinstance(said, Degradation) or said.kind not in KINDS:
        return word("FAIL", f"{said!r:.40}")
    label = (
        Markup(" <small>{}</small>").format(said.label) if said.label else Markup(" <small>no label</small>")
    )
    state = "PASS" if said.label or said.kind == "refuse" else "FAIL"
    return Markup("{}{}").format(word(state, said.kind), label)


@_or_sentence
def circuit_picture(circuit_of: Any, opens: Any) -> mo.Html:
    """Which backends share a circuit, and at which failure it opens."""
    names = {backend: str(_asked(circuit_of, backend)) for backend in ("vllm", "qdrant")}
    shared = names["vllm"] == names["qdrant"]
    rows = [
        (backend, code(name), _held(not shared, "its own" if not shared else "shared"))
        for backend, name in names.items()
    ]
    lines = {
        "failures only": [False] * 8,
        "one success among them": [False, False, False, True, False, False, False, False],
        "mostly well": [True, True, False, True, True, False, True, True],
    }
    opened = []
    for name, outcomes in lines.items():
        at = next((n for n in range(1, len(outcomes) + 1) if _asked(opens, outcomes[:n])), 0)
        marks = Markup("").join(word("PASS" if ok else "FAIL", "✓" if ok else "✗") for ok in outcomes)
        opened.append((name, marks, f"opens after {at}" if at else "stays closed"))
    circuits = table(("backend", "circuit", ""), rows)
    return card(circuits + table(("outcomes", "", "your function"), opened), live=True)


_QUEUES = {
    "nobody waits": ("docs", {}, True),
    "three of docs wait": ("docs", {"docs": 3}, True),
    "docs holds half of the queue and asks again": ("docs", {"docs": 4}, False),
    "docs holds half, somebody else asks": ("lab", {"docs": 4}, True),
    "the queue is full": ("lab", {"docs": 4, "more": 4}, False),
}
_LIMIT = 8


@_or_sentence
def admission_picture(admit: Any) -> mo.Html:
    """Queues of eight places, and whether the function lets one more in."""
    rows = []
    for name, (tenant, waiting, right) in _QUEUES.items():
        said = bool(_asked(admit, tenant, dict(waiting), _LIMIT))
        places = "".join("■" * count for count in waiting.values()).ljust(_LIMIT, "□")
        rows.append((name, code(places), _held(said == right, "may wait" if said else "429")))
    return card(table(("who asks", "eight places", "your function says"), rows), live=True)
