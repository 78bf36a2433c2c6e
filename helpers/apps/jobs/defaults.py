"""The course's own decisions: cautious, and in force where no file is mounted or a learner's own fails."""

from __future__ import annotations

import json

from helpers.apps.jobs.decisions import Ask
from helpers.apps.orchestrator.defaults import span_attributes, span_events

__all__ = [
    "after_failure",
    "key",
    "lease_s",
    "may_share",
    "order",
    "span_attributes",
    "span_events",
    "ttl_s",
    "while_another_works",
]

MOST_DELIVERIES = 5


def order() -> list[str]:
    """Acknowledged last: what ends before is delivered again, and its result is stored once."""
    return ["answer", "store", "acknowledge"]


def after_failure(kind: str, deliveries: int) -> str:
    """A question that is refused is refused again; a worker or a backend gets another chance, not for ever."""
    return "dead_letter" if kind == "refused" or deliveries >= MOST_DELIVERIES else "again"


def key(ask: Ask) -> str:
    """All that an answer depends on, and whose it is."""
    return json.dumps([ask.tenant, ask.model, ask.prompt_version, ask.collection, ask.question])


def ttl_s(base_s: float, chance: float) -> float:
    """Between nine and eleven tenths: what was stored together does not end together."""
    return base_s * (0.9 + 0.2 * chance)


def may_share(asker: Ask, stored: Ask, similarity: float) -> bool:
    """Never: who asks in other words may mean something else."""
    return False


def lease_s(deadline_s: float) -> float:
    """As long as a generation may take, and a moment to store it."""
    return deadline_s + 1


def while_another_works(waited_s: float, lease_s: float) -> str:
    """Until the lease has lapsed twice over."""
    return "wait" if waited_s <= 2 * lease_s else "generate"
