"""The course's own decisions: cautious, and in force where no file is mounted or a learner's own fails."""

from __future__ import annotations

import json
from collections.abc import Callable

from helpers.apps.orchestrator.decisions import Budget, Degradation, Failure, Message, Request, SpanFacts

# Milliseconds; generation gets what the others leave.
HOP_MS = {"load": 250, "retrieve": 800, "assemble": 2_000, "record": 500}


def hop_deadline_ms(budget: Budget, hop: str, left_ms: int) -> int:
    """The planned share of a hop, and never more than is left when the answer is written."""
    spare = max(1, left_ms - HOP_MS["record"])
    return max(1, min(HOP_MS.get(hop, spare), left_ms if hop == "record" else spare))


def idempotency_key(request: Request) -> str:
    """Everything that makes two requests the same one, and nothing that differs between two tries."""
    return json.dumps([request.tenant, request.thread_id, request.key, request.question])


def trim(messages: list[Message], room: int, count: Callable[[list[Message]], int]) -> list[Message]:
    """The system message and as many of the last turns as fit; the question always."""
    system = [message for message in messages[:1] if message["role"] == "system"]
    turns = messages[len(system) :]
    while len(turns) > 1 and count(system + turns) > room:
        turns = turns[1:]
    return system + turns


def worth_a_retry(failure: Failure) -> bool:
    """Only a connection that broke: asked again at once, nothing else heals by itself."""
    return failure.kind == "unreachable"


def degrade(failure: Failure, product: str) -> Degradation:
    """No answer is better than one of unknown origin."""
    return Degradation("refuse", f"{failure.backend} {failure.kind}")


def circuit_of(backend: str) -> str:
    """A circuit for each backend."""
    return backend


def opens(outcomes: list[bool]) -> bool:
    """Five failures in a row."""
    return len(outcomes) >= 5 and not any(outcomes[-5:])


def admit(tenant: str, waiting: dict[str, int], limit: int) -> bool:
    """First come, first served, up to the limit."""
    return sum(waiting.values()) < limit


def span_attributes(span: str, facts: SpanFacts) -> dict[str, str]:
    """Which release it was, once, and nothing that anybody has said."""
    return {"version": facts.version} if span == "chat" else {}


def span_events(span: str, facts: SpanFacts) -> list[tuple[str, dict[str, str]]]:
    """None: a prompt may hold anything."""
    return []
