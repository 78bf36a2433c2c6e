"""The parts of a lab's page: their headings, how long they take, and the tasks that are graded in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import marimo as mo


@dataclass(frozen=True)
class Part:
    """One part of a page.

    Args:
        title: its heading, word for word: "3 · Who said no?".
        minutes: what is planned for it, about.
        tasks: what is graded in it; none where there is only something to see.
    """

    title: str
    minutes: int
    tasks: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        """What its heading begins with."""
        return self.title.partition(" · ")[0]

    @property
    def anchor(self) -> str:
        """The id that marimo's markdown gives to its heading."""
        return _heading_id(self.title)


@cache
def _heading_id(title: str) -> str:
    found = re.search(r'\bid="([^"]*)"', mo.md(f"## {title}").text)
    return found[1] if found else ""


def part_of(parts: Iterable[Part], task: str) -> Part | None:
    """The part in which this task is graded."""
    return next((part for part in parts if task in part.tasks), None)
