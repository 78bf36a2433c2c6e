"""The plug points of queue and cache: pure functions in `/etc/jobs/decisions/NAME.py`, read as the orchestrator's are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from helpers.apps.orchestrator.decisions import PLUG_POINTS as OF_ORCHESTRATOR
from helpers.apps.orchestrator.decisions import PlugPoint, SpanFacts, returns

STEPS = ("acknowledge", "answer", "store")
"""What is done with an entry: tell the stream that it is done with, ask the model, keep the result."""
FAILURES = ("worker_lost", "backend_failed", "refused")
"""A worker that ended without a word; a backend that may be better soon; a question that no try makes better."""
AGAIN, DEAD_LETTER = "again", "dead_letter"
WAIT, GENERATE = "wait", "generate"


@dataclass(frozen=True)
class Ask:
    """What an answer depends on, and whose question it is.

    Args:
        model: the model that answers.
        prompt_version: the name of the prompt.
        collection: where passages are looked up; empty where none are.
    """

    tenant: str
    model: str
    prompt_version: str
    collection: str
    question: str


TYPES = (Ask, SpanFacts)
_ASK = Ask("docs", "a-model", "v1", "course_docs", "What is a quota?")
_OTHER = Ask("docs", "a-model", "v1", "course_docs", "What is a namespace's quota?")


def _order(value: Any) -> str:
    if not isinstance(value, list) or sorted(map(str, value)) != sorted(STEPS):
        return f"returned {value!r:.60}, not each of {', '.join(STEPS)} once"
    before = value.index("answer") < value.index("store")
    return "" if before else "returned store before answer: there is nothing to store yet"


def _one_of(*words: str) -> Any:
    def fault(value: Any) -> str:
        return "" if value in words else f"returned {value!r:.40}, which is none of {', '.join(words)}"

    return fault


def _text(value: Any) -> str:
    return returns(str, "a text")(value) or ("" if value else "returned an empty text")


def _seconds(least: float, what: str) -> Any:
    def fault(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return f"returned {value!r:.60}, not a number of seconds"
        return "" if value >= least else f"returned {value} s: {what}"

    return fault


PLUG_POINTS = (
    PlugPoint("delivery.py", "order", (), ((),), _order),
    PlugPoint(
        "delivery.py",
        "after_failure",
        ("kind", "deliveries"),
        tuple((kind, number) for kind in FAILURES for number in (1, 50)),
        _one_of(AGAIN, DEAD_LETTER),
    ),
    PlugPoint("cache.py", "key", ("ask",), ((_ASK,), (_OTHER,)), _text),
    PlugPoint(
        "cache.py",
        "ttl_s",
        ("base_s", "chance"),
        ((600.0, 0.0), (600.0, 0.5), (600.0, 1.0)),
        _seconds(0.001, "nothing would be kept"),
    ),
    PlugPoint(
        "cache.py",
        "may_share",
        ("asker", "stored", "similarity"),
        ((_ASK, _OTHER, 0.9),),
        returns(bool, "True or False"),
    ),
    PlugPoint(
        "flight.py",
        "lease_s",
        ("deadline_s",),
        ((60.0,),),
        _seconds(0, "a lease cannot end before it begins"),
    ),
    PlugPoint(
        "flight.py",
        "while_another_works",
        ("waited_s", "lease_s"),
        ((0.0, 60.0), (100.0, 60.0)),
        _one_of(WAIT, GENERATE),
    ),
    *(point for point in OF_ORCHESTRATOR if point.file == "trace.py"),
)
