"""The plug points: what each is asked, what it may answer, and how a learner's file is read.

A decision is a pure function in a file of its own, `/etc/orchestrator/decisions/NAME.py`. It is
compiled once, at the start, with few builtins and few modules: no clock, no chance, no files, no
network. This keeps a slip from doing harm; it is no wall against somebody who means harm. Its
signature is compared and it is called with an example; what is wrong is told in one sentence. A
decision that fails later, while a request is answered, is replaced for that once by the course's
own cautious one (`defaults.py`), and counted.
"""

from __future__ import annotations

import builtins
import inspect
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

HOPS = ("load", "retrieve", "assemble", "generate", "record")
KINDS = ("refuse", "general_answer", "stored_answer", "continue")
TIME_LIMIT_S = 0.5
Message = dict[str, str]
"""A turn of the conversation: {"role": "system" | "user" | "assistant", "content": text}."""


@dataclass(frozen=True)
class Budget:
    """What a class of requests may spend."""

    name: str
    deadline_ms: int
    chunks: int
    input_tokens: int
    output_tokens: int
    generation_attempts: int


CLASSES: Mapping[str, Budget] = {
    "fast": Budget("fast", 12_000, 3, 1_800, 300, 1),
    "standard": Budget("standard", 35_000, 6, 3_200, 700, 2),
    "background": Budget("background", 180_000, 10, 6_000, 1_400, 2),
}


@dataclass(frozen=True)
class Request:
    """What identifies a request. `key` is the caller's Idempotency-Key; `request_id` is new each time."""

    tenant: str
    thread_id: str
    key: str
    question: str
    request_id: str


@dataclass(frozen=True)
class Failure:
    """A backend that did not do what it was asked.

    Args:
        kind: unreachable, timed_out, overloaded, failed, circuit_open; of Qdrant also collection_missing,
            wrong_dimension, nothing_found; of vLLM also context_exceeded, unsupported, model_missing, budget_spent.
        backend: "vllm" or "qdrant".
        status: of its HTTP answer; None where there was none.
        attempt: the how many-th call this was, from 1.
    """

    kind: str
    backend: str
    status: int | None = None
    attempt: int = 1


@dataclass(frozen=True)
class Degradation:
    """What to do without a backend, and what the answer's metadata say about it."""

    kind: str
    label: str = ""


SPANS = ("chat", "retrieve", "assemble", "generate", "record")


@dataclass(frozen=True)
class SpanFacts:
    """What a run knows when one of its spans ends; what it has not learned by then is empty.

    Args:
        trace_id: 32 hexadecimal digits, the same for all spans of the run.
        feature: the product that was asked for.
        session: the conversation's thread.
        version: the release that answers.
        prompt: the messages as they were sent to the model.
        contexts: the texts of the passages in the prompt; `chunk_ids` are those that were found.
        error: what kind of failure this span ended with; empty for none.
    """

    trace_id: str = ""
    tenant: str = ""
    feature: str = ""
    session: str = ""
    version: str = ""
    request_id: str = ""
    question: str = ""
    collection: str = ""
    chunk_ids: list[str] = field(default_factory=list)
    contexts: list[str] = field(default_factory=list)
    prompt: list[Message] = field(default_factory=list)
    model: str = ""
    max_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str = ""
    answer: str = ""
    degraded: str = ""
    error: str = ""


class DecisionWrong(Exception):
    """A decision cannot be used; the message is one sentence with file, line and cause."""


@dataclass(frozen=True)
class PlugPoint:
    """One function that learners write: its file, its parameters, examples, and what it may return."""

    file: str
    name: str
    parameters: tuple[str, ...]
    examples: tuple[tuple[Any, ...], ...]
    fault: Callable[[Any], str]
    """What is wrong with a returned value; empty when nothing is."""


def returns(kind: type, what: str) -> Callable[[Any], str]:
    def fault(value: Any) -> str:
        right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        return "" if right else f"returned {value!r:.60}, not {what}"

    return fault


def _milliseconds(value: Any) -> str:
    return returns(int, "a number of milliseconds")(value) or (
        "" if value > 0 else f"returned {value} ms: no time at all"
    )


def _text(value: Any) -> str:
    return returns(str, "a text")(value) or ("" if value else "returned an empty text")


def _messages(value: Any) -> str:
    if not isinstance(value, list):
        return f"returned {value!r:.60}, not a list of messages"
    wrong = [item for item in value if not isinstance(item, dict) or not {"role", "content"} <= set(item)]
    return f"returned {wrong[0]!r:.60} among the messages" if wrong else ""


def _degradation(value: Any) -> str:
    wrong = returns(Degradation, "a Degradation")(value)
    if not wrong and value.kind not in KINDS:
        return f"returned kind {value.kind!r:.40}, which is none of {', '.join(KINDS)}"
    return wrong


def _attributes(value: Any) -> str:
    if not isinstance(value, dict):
        return f"returned {value!r:.60}, not a dict of attributes"
    for name, said in value.items():
        is_list = isinstance(said, list) and all(isinstance(item, str) for item in said)
        if not isinstance(name, str) or not (is_list or isinstance(said, (str, int, float, bool))):
            return f"returned {said!r:.40} for {name!r:.40}: a text, a number, True, False or a list of texts"
    return ""


def _events(value: Any) -> str:
    if not isinstance(value, list):
        return f"returned {value!r:.60}, not a list of events"
    for item in value:
        if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[0], str):
            return f"returned {item!r:.60} among the events: each is (name, attributes)"
        if wrong := _attributes(item[1]):
            return wrong
    return ""


_TALK = [
    {"role": "system", "content": "You answer questions."},
    {"role": "user", "content": "What is a quota?"},
    {"role": "assistant", "content": "A limit."},
    {"role": "user", "content": "Of what?"},
]
_FACTS = SpanFacts(
    trace_id="4bf92f3577b34da6a3ce929d0e0e4736",
    tenant="docs",
    feature="documentation",
    session="t-1",
    version="v1",
    request_id="req-1",
    question="What is a quota?",
    collection="course_docs",
    chunk_ids=["1"],
    contexts=["A quota limits a namespace."],
    prompt=_TALK,
    model="a-model",
    max_tokens=64,
    input_tokens=40,
    output_tokens=12,
    finish_reason="stop",
    answer="A limit.",
)
PLUG_POINTS = (
    PlugPoint(
        "budget.py",
        "hop_deadline_ms",
        ("budget", "hop", "left_ms"),
        tuple((CLASSES["standard"], hop, 35_000) for hop in HOPS),
        _milliseconds,
    ),
    PlugPoint(
        "idempotency.py", "idempotency_key", ("request",), ((Request("a", "t", "k", "q", "r-1"),),), _text
    ),
    PlugPoint(
        "window.py",
        "trim",
        ("messages", "room", "count"),
        ((_TALK, 20, lambda messages: 8 * len(messages)),),
        _messages,
    ),
    PlugPoint(
        "retry.py",
        "worth_a_retry",
        ("failure",),
        ((Failure("failed", "vllm", 500),),),
        returns(bool, "True or False"),
    ),
    PlugPoint(
        "degrade.py",
        "degrade",
        ("failure", "product"),
        ((Failure("unreachable", "qdrant"), "documentation"), (Failure("failed", "vllm", 500), "compliance")),
        _degradation,
    ),
    PlugPoint("circuit.py", "circuit_of", ("backend",), (("vllm",), ("qdrant",)), _text),
    PlugPoint(
        "circuit.py", "opens", ("outcomes",), (([],), ([True, False, False],)), returns(bool, "True or False")
    ),
    PlugPoint(
        "admission.py",
        "admit",
        ("tenant", "waiting", "limit"),
        (("a", {"a": 1, "b": 2}, 4),),
        returns(bool, "True or False"),
    ),
    *(
        PlugPoint("trace.py", name, ("span", "facts"), tuple((span, _FACTS) for span in SPANS), fault)
        for name, fault in (("span_attributes", _attributes), ("span_events", _events))
    ),
)


def load(
    file: str,
    source: bytes,
    points: Sequence[PlugPoint] | None = None,
    types: Sequence[type] | None = None,
) -> dict[str, Callable[..., Any]]:
    """The functions of one file, compiled, compared and tried.

    Args:
        points: those to look for; without them, all that belong to the file.
        types: what another service's decisions are asked about: known by name, and importable from where they are.

    Raises:
        DecisionWrong: in one sentence, why it cannot be used.
    """
    names = _namespace(_TYPES if types is None else types)
    try:
        with _limited():
            exec(compile(source, file, "exec"), names)
    except SyntaxError as error:
        raise DecisionWrong(f"{file} line {error.lineno}: {error.msg}") from error
    except Exception as error:
        raise DecisionWrong(_sentence(file, error)) from error
    found: dict[str, Callable[..., Any]] = {}
    for point in (point for point in PLUG_POINTS if point.file == file) if points is None else points:
        function = names.get(point.name)
        written = f"{point.name}({', '.join(point.parameters)})"
        if not inspect.isfunction(function):
            raise DecisionWrong(f"{file}: there is no function {written}")
        if tuple(inspect.signature(function).parameters) != point.parameters:
            line = function.__code__.co_firstlineno
            raise DecisionWrong(
                f"{file} line {line}: it is {point.name}{inspect.signature(function)}, not {written}"
            )
        for example in point.examples:
            if answer_of(point, function, example) != answer_of(point, function, example):
                raise DecisionWrong(f"{file}: {point.name} answers the same question in two ways")
        found[point.name] = function
    return found


def answer_of(point: PlugPoint, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """What a decision says of these arguments, when it is something that it may say.

    Raises:
        DecisionWrong: it failed, or said something else.
    """
    try:
        with _limited():
            value = function(*arguments)
    except Exception as error:
        raise DecisionWrong(_sentence(point.file, error)) from error
    if wrong := point.fault(value):
        raise DecisionWrong(f"{point.file} line {function.__code__.co_firstlineno}: {point.name} {wrong}")
    return value


def _sentence(file: str, error: Exception) -> str:
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f" line {lines[-1]}" if lines else ""
    return f"{file}{where}: {type(error).__name__}: {error}"


@contextmanager
def _limited() -> Iterator[None]:
    """End a loop that does not: a decision may take half a second. Only the main thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def too_long(*_: object) -> None:
        raise TimeoutError(f"it takes more than {TIME_LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


MODULES = {
    *("__future__", "collections", "collections.abc", "dataclasses", "functools", "hashlib", "itertools"),
    *("json", "math", "re", "typing", __name__),
}
_FORBIDDEN = ("open", "exec", "eval", "compile", "input", "breakpoint", "exit", "quit", "help", "globals")


_TYPES = (Budget, Request, Failure, Degradation, SpanFacts)


def _importer(modules: set[str]) -> Callable[..., Any]:
    def importing(name: str, *arguments: Any) -> Any:
        if name not in modules:
            raise ImportError(
                f"a decision may not import {name}: it knows no clock, no chance, no files and no network"
            )
        return builtins.__import__(name, *arguments)

    return importing


def _namespace(types: Sequence[type]) -> dict[str, Any]:
    allowed = {name: value for name, value in vars(builtins).items() if name not in _FORBIDDEN}
    allowed["__import__"] = _importer(MODULES | {kind.__module__ for kind in types})
    known = {"Message": Message, "Callable": Callable, "CLASSES": CLASSES, "SPANS": SPANS}
    return {
        "__builtins__": allowed,
        "__name__": "decision",
        **{kind.__name__: kind for kind in types},
        **known,
    }
