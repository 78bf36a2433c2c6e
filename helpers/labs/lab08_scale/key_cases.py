"""Questions whose parts run into each other: what a key that joins them without care takes for one.

The page's table shows them, and the witness `storm` tries them in its pod, where this text is handed over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations

from helpers.apps.jobs.decisions import Ask

PARTS = ("tenant", "model", "prompt_version", "collection", "question")
# What parts may be joined with and what names have in them too; first, nothing at all.
SIGNS = ("", "-", "_", ".")
BASE = Ask("docs", "a-model", "v1", "course_docs", "What is a quota?")


def neighbours(sign: str) -> Iterator[tuple[str, str, Ask, Ask]]:
    """Two parts, and two questions that differ in where the one part ends and the other begins.

    In any order of joining, some of these pairs have one text: `docs-x`, `a-model` and `docs`, `x-a-model`.
    """
    for left, right in permutations(PARTS, 2):
        one = replace(BASE, **{left: f"{getattr(BASE, left)}{sign}x"})
        other = replace(BASE, **{right: f"x{sign}{getattr(BASE, right)}"})
        yield left, right, one, other


def run_together(key: Callable[[Ask], object], sign: str) -> tuple[str, str] | None:
    """The first two parts that this key does not keep apart; None where it does.

    A part that the key leaves out altogether is another mistake, and is not told here.
    """
    base = key(BASE)
    for left, right, one, other in neighbours(sign):
        if key(one) == key(other) != base:
            return left, right
    return None
