"""Verdicts: what a check saw, in the words of the course.

A check builds its verdict from expectations joined with `and_`; the worst expectation decides.
Nothing here knows Kubernetes: evidence is a reference that whoever observed the object provides.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol, Self

from helpers.evidence import Evidence


class Status(StrEnum):
    """The six verdicts; the value is the word that learners read."""

    PASS = "PASS"
    PARTIAL = "PARTIAL"
    FAIL = "FAIL"
    NOT_ATTEMPTED = "NOT_ATTEMPTED"
    BLOCKED = "BLOCKED"
    ENV_ERROR = "ENV_ERROR"


class Observed(Protocol):
    """Anything observed in the cluster: it can say what it was."""

    def evidence(self) -> Evidence: ...


@dataclass(frozen=True)
class Verdict:
    """What one check saw. `credit` is the share of the check's points, 0 to 1.

    `left` counts the expectations that do not hold beside the one that its words are about.
    """

    status: Status
    expected: str = ""
    observed: str = ""
    why_text: str = ""
    hint_text: str = ""
    next_command: str = ""
    credit: float = 0.0
    left: int = 0
    evidence: tuple[Evidence, ...] = field(default_factory=tuple)

    def why(self, text: str) -> Self:
        """Why it matters: shown with every verdict."""
        return replace(self, why_text=text)

    def hint(self, text: str) -> Self:
        """The first step towards the answer, never the answer."""
        return replace(self, hint_text=text)

    def next(self, command: str) -> Self:
        """The command that shows the learner what the check saw."""
        return replace(self, next_command=command)

    def about(self, evidence: Observed | Evidence | None) -> Self:
        """The object that all of it rests on, where the expectations joined here did not each name it."""
        return replace(self, evidence=tuple(dict.fromkeys((*self.evidence, *_reference(evidence)))))

    def summed_up(self, observed: str) -> Self:
        """A PASS of many parts, in one sentence that speaks for all of them; what falls short keeps its words."""
        return replace(self, observed=observed) if self.status is Status.PASS else self

    def and_(self, *others: Verdict) -> Verdict:
        """Join expectations: the first that is worst speaks; some met and some not is PARTIAL."""
        return all_of(self, *others)


_ORDER = [Status.ENV_ERROR, Status.BLOCKED, Status.FAIL, Status.PARTIAL, Status.NOT_ATTEMPTED, Status.PASS]


def all_of(*parts: Verdict) -> Verdict:
    """Join verdicts: PASS only if all pass; the first of the worst gives the words.

    Credit is the mean. A mixture of PASS with FAIL or NOT_ATTEMPTED is PARTIAL with the failing part's words.
    """
    if not parts:
        raise ValueError("a verdict needs at least one expectation: nothing selected is never a pass")
    worst = min(parts, key=lambda part: _ORDER.index(part.status))
    status = worst.status
    some_passed = any(part.status in (Status.PASS, Status.PARTIAL) for part in parts)
    if status in (Status.FAIL, Status.NOT_ATTEMPTED) and some_passed:
        status = Status.PARTIAL
    return replace(
        worst,
        status=status,
        credit=sum(part.credit for part in parts) / len(parts),
        left=max(0, sum(1 + part.left for part in parts if part.status is not Status.PASS) - 1),
        evidence=tuple(dict.fromkeys(item for part in parts for item in part.evidence)),
        why_text=next((part.why_text for part in parts if part.why_text), ""),
        hint_text=next((part.hint_text for part in parts if part.hint_text), ""),
        next_command=worst.next_command
        or next((part.next_command for part in parts if part.next_command), ""),
    )


_UNSET: Any = object()


def expect(
    value: Any,
    that: str = "",
    observed: str | None = None,
    evidence: Observed | Evidence | None = None,
    *,
    equals: Any = _UNSET,
    contains: str | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    one_of: tuple[Any, ...] | None = None,
) -> Verdict:
    """One expectation on one observed value: exactly one condition must be given.

    `that` words the expectation for the learner; `observed` words the observation where repr is unkind.
    """
    tests: list[tuple[bool, str]] = []
    if equals is not _UNSET:
        tests.append((value == equals, f"{equals}"))
    if contains is not None:
        tests.append((contains in str(value or ""), f"contains “{contains}”"))
    if at_least is not None:
        tests.append((value is not None and value >= at_least, f"at least {at_least:g}"))
    if at_most is not None:
        tests.append((value is not None and value <= at_most, f"at most {at_most:g}"))
    if one_of is not None:
        tests.append((value in one_of, " or ".join(map(str, one_of))))
    if len(tests) != 1:
        raise ValueError("expect() takes exactly one condition")
    met, wanted = tests[0]
    shown = observed if observed is not None else ("nothing" if value is None else str(value))
    return expect_true(met, that or wanted, shown, evidence)


def expect_true(met: Any, that: str, observed: str, evidence: Observed | Evidence | None = None) -> Verdict:
    """What the check found out itself: PASS if `met` is true, else FAIL, with the words for both sides."""
    status, credit = (Status.PASS, 1.0) if met else (Status.FAIL, 0.0)
    return Verdict(status, that, observed, credit=credit, evidence=_reference(evidence))


def falls_short(expected: str, observed: str, evidence: Observed | Evidence | None = None) -> Verdict:
    """A FAIL without a value to compare: what was looked for is not there, or is something else."""
    return expect_true(False, expected, observed, evidence)


def _reference(evidence: Observed | Evidence | None) -> tuple[Evidence, ...]:
    if evidence is None:
        return ()
    return (evidence if isinstance(evidence, Evidence) else evidence.evidence(),)


def not_attempted(expected: str, observed: str = "nothing yet", **words: Any) -> Verdict:
    """The learner has not started on this: no points, no blame."""
    return Verdict(Status.NOT_ATTEMPTED, expected=expected, observed=observed, **words)
