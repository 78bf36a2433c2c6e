"""The course's own functions, in force until the learner's are delivered: they make nothing, and say so."""

from __future__ import annotations

from typing import Any

from helpers.apps.isvc.decisions import LEAVE, InvalidSpec, Object, Problem, Seen

NOT_YET = "NoReconciler"


def find_runtime(model: Object, runtimes: list[Object]) -> Object:
    """None: nothing is made."""
    raise InvalidSpec("no reconcile functions were delivered yet")


def model_volume(uri: str) -> tuple[Object, str]:
    """None: nothing is made."""
    raise InvalidSpec("no reconcile functions were delivered yet")


def children(service: Object, runtime: Object) -> list[Object]:
    """None."""
    return []


def step(service: Object, wanted: Object, found: Object | None) -> str:
    """Nothing is touched."""
    return LEAVE


def wakes(kind: str, change: str) -> bool:
    """A new InferenceService is told that nobody reconciles it."""
    return kind == "InferenceService"


def status(service: Object, seen: Seen, problem: Problem | None) -> dict[str, Any]:
    """Nobody has looked."""
    message = "no reconcile functions were delivered yet"
    return {"conditions": [{"type": "Ready", "status": "Unknown", "reason": NOT_YET, "message": message}]}
