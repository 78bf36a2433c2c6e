"""What a criterion is, and what it says of a stack: met or missing, with the objects that were seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from helpers.review.stack import Stack

Standing = Literal["met", "missing", "unknown"]
SCHEMA = "course.review/v1"
# How many objects a sentence names; `--json` has all.
NAMED = 4


@dataclass(frozen=True)
class Gap:
    """One thing that is not as it is asked: which object, and what is wrong with it."""

    about: str
    what: str

    def __str__(self) -> str:
        return f"{self.about} {self.what}" if self.about else self.what


@dataclass(frozen=True)
class Answer:
    """What one question saw.

    Args:
        seen: in a sentence.
        objects: what it looked at, as "Kind namespace/name".
        gaps: what is missing; empty where it is met.
        next: the command that shows it.
    """

    standing: Standing
    seen: str
    objects: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    next: str = ""


def answer(
    looked_at: Iterable[str], gaps: Sequence[Gap], *, met: str, nothing: str, next_command: str
) -> Answer:
    """Met where something was looked at and nothing is missing: nothing selected is never met.

    Args:
        met: what is said then.
        nothing: what is said where there was nothing to look at.
    """
    objects = tuple(dict.fromkeys(looked_at))
    if gaps:
        said = "; ".join(map(str, gaps[:NAMED]))
        more = f"; and {len(gaps) - NAMED} more" if len(gaps) > NAMED else ""
        return Answer("missing", said + more, objects, tuple(gaps), next_command)
    if not objects:
        return Answer("missing", nothing, (), (Gap("", nothing),), next_command)
    return Answer("met", met, objects, (), next_command)


@dataclass(frozen=True)
class Criterion:
    """One line of the review.

    Args:
        asks: what is asked, in a sentence.
        why: what goes wrong without it.
        lab: the lab of the course that teaches it.
        ask: looks; it changes nothing.
    """

    id: str
    title: str
    asks: str
    why: str
    lab: str
    ask: Callable[[Stack], Answer]


@dataclass(frozen=True)
class Line:
    """A criterion and what was seen of it."""

    criterion: Criterion
    answer: Answer

    @property
    def is_met(self) -> bool:
        return self.answer.standing == "met"

    def to_dict(self) -> dict[str, Any]:
        """As `course review --json` writes it."""
        return {
            "id": self.criterion.id,
            "title": self.criterion.title,
            "asks": self.criterion.asks,
            "lab": self.criterion.lab,
            "standing": self.answer.standing,
            "seen": self.answer.seen,
            "objects": list(self.answer.objects),
            "missing": [{"object": gap.about, "what": gap.what} for gap in self.answer.gaps],
            "next": self.answer.next,
        }


def exit_code(lines: Sequence[Line]) -> int:
    """0 where all is met, 1 where something is missing, 2 where nothing is and something could not be asked."""
    standings = {line.answer.standing for line in lines}
    if "missing" in standings:
        return 1
    return 2 if "unknown" in standings or not lines else 0
