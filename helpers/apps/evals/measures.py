"""What an answer is worth: a function a metric, each a number from 0 to 1, or None for a row it does not apply to.

Those that learners write (`plug.py`) stand in here with the course's own where no file is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from helpers.apps.evals.asking import Reply
from helpers.apps.evals.rows import Row

Similarity = Callable[[str, str], float]
Functions = Mapping[str, Callable[..., float]]
# Compared with the stable release's answers, and not with a reference.
RATIO = "tokens_ratio"
_REFUSING = re.compile(
    r"\b(do(es)? not know|don't know|cannot (help|answer|say|provide|find)|can't (help|answer|say|provide)"
    r"|unable to|no (passage|information|answer)|not (mentioned|contained|covered)|sorry)\b",
    re.IGNORECASE,
)


# The course's own, in place of what learners write


def citation(answer: str, contexts: Sequence[str]) -> float:
    """1 where the answer names at least one passage by its number, and none that it was not given."""
    named = [int(number) for number in re.findall(r"\[(\d+)\]", answer)]
    return float(bool(named) and all(1 <= number <= len(contexts) for number in named))


def refusal(answer: str) -> float:
    """1 where the answer says that it does not know, or cannot help."""
    return float(bool(_REFUSING.search(answer)))


def retrieval_precision(found: Sequence[str], expected: Sequence[str]) -> float:
    """The share of what was found that is expected; nothing found is no precision at all."""
    return len(set(found) & set(expected)) / len(found) if found else 0.0


OWN: Functions = {
    "citation": citation,
    "refusal": refusal,
    "retrieval_precision": retrieval_precision,
}


# Metrics of a row and its reply


def score(
    name: str, row: Row, reply: Reply, *, functions: Functions = OWN, similarity: Similarity | None = None
) -> float | None:
    """One metric of one answer; None where it says nothing of this row.

    Raises:
        KeyError: there is no such metric.
    """
    return _METRICS[name](row, reply, functions, similarity)


def _answered(row: Row, reply: Reply, functions: Functions, similarity: Similarity | None) -> float | None:
    return None if row.refuses else float(reply.answered)


def _refused(row: Row, reply: Reply, functions: Functions, similarity: Similarity | None) -> float | None:
    if not row.refuses:
        return None
    return 1.0 if reply.found_nothing else functions["refusal"](reply.text)


def _hit(row: Row, reply: Reply, functions: Functions, similarity: Similarity | None) -> float | None:
    return float(bool(set(row.chunks) & set(reply.found))) if row.chunks else None


def _precision(row: Row, reply: Reply, functions: Functions, similarity: Similarity | None) -> float | None:
    return functions["retrieval_precision"](reply.found, list(row.chunks)) if row.chunks else None


def _cites(row: Row, reply: Reply, functions: Functions, similarity: Similarity | None) -> float | None:
    return None if row.refuses else functions["citation"](reply.text, reply.contexts)


def _similar(row: Row, reply: Reply, functions: Functions, similarity: Similarity | None) -> float | None:
    if row.refuses or not row.reference or similarity is None:
        return None
    return similarity(reply.text, row.reference) if reply.text.strip() else 0.0


_METRICS: Mapping[str, Callable[[Row, Reply, Functions, Similarity | None], float | None]] = {
    "answered": _answered,
    "retrieval_hit": _hit,
    "retrieval_precision": _precision,
    "citation": _cites,
    "refusal": _refused,
    "similarity": _similar,
}
ROW_METRICS = tuple(_METRICS)
METRICS = (*ROW_METRICS, RATIO)


def tokens_ratio(candidate: Mapping[str, Reply], stable: Mapping[str, Reply]) -> list[float]:
    """By row: the candidate's completion tokens over the stable release's; rows that either left out do not count."""
    return [
        reply.completion_tokens / stable[name].completion_tokens
        for name, reply in candidate.items()
        if name in stable and reply.completion_tokens and stable[name].completion_tokens
    ]


def cosine(embed: Callable[[Sequence[str]], Sequence[Sequence[float]]]) -> Similarity:
    """Nearness of two texts by their vectors of length one, never below 0."""

    def similarity(one: str, other: str) -> float:
        first, second = embed([one, other])
        return max(0.0, min(1.0, sum(a * b for a, b in zip(first, second, strict=True))))

    return similarity
