"""A class's results as exporters take them, and the care that spreadsheets need.

A cell that begins like a formula is run by the spreadsheet that opens it (OWASP, "CSV Injection").
Files for people are defused; files that a gradebook imports keep every cell as it was, because a
changed one would no longer be the same learner.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from helpers.atomic_file import write_atomically
from helpers.errors import LabError
from helpers.grading.export.delimited import BOM
from helpers.grading.report import CheckResult, Report
from helpers.grading.verdict import Status

_GROUPING = re.compile(r"[\s'’]")
_NUMBER = re.compile(r"[+-]?[0-9]+(?:[.,][0-9]+)*")
_THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}[.,][0-9]{3}")
# Full-width forms count as formulas too in spreadsheets of East Asian locales.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


class Person(Protocol):
    """Whoever is graded: `helpers.classroom.roster.Learner` is one."""

    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def email(self) -> str: ...


@dataclass(frozen=True)
class Result:
    """One learner's Report. A learner may have several, for different labs.

    `share` is what the late policy leaves of the points, 0 to 1; `submitted_at` is when the work was
    handed in, which is not when it was graded.
    """

    learner: Person
    report: Report
    share: float = 1.0
    submitted_at: str = ""


@dataclass(frozen=True)
class LabScore:
    """What one learner has in one lab: `earned` of `possible` points, the late policy applied."""

    learner: Person
    lab: str
    earned: float
    possible: float
    passed: int
    checks: int
    broken: int
    result: Result

    @property
    def is_gradable(self) -> bool:
        """Whether the environment let every check be judged: a broken cluster is never a zero."""
        return self.broken == 0 and self.checks > 0


def lab_scores(results: Iterable[Result]) -> list[LabScore]:
    """One score for each learner and lab, in the order given; a later Report of both replaces an earlier."""
    scores: dict[tuple[str, str], LabScore] = {}
    for result in results:
        for lab in dict.fromkeys(verdict.lab for verdict in result.report.verdicts):
            of_lab = [verdict for verdict in result.report.verdicts if verdict.lab == lab]
            scores[result.learner.id.lower(), lab] = _score(result, lab, of_lab)
    return list(scores.values())


def _score(result: Result, lab: str, verdicts: list[CheckResult]) -> LabScore:
    statuses = [verdict.status for verdict in verdicts]
    return LabScore(
        learner=result.learner,
        lab=lab,
        earned=round(sum(verdict.earned for verdict in verdicts) * result.share, 2),
        possible=round(sum(verdict.points for verdict in verdicts), 2),
        passed=statuses.count(Status.PASS),
        checks=len(statuses),
        broken=statuses.count(Status.ENV_ERROR),
        result=result,
    )


def number(value: float) -> str:
    """A number as gradebooks read it: a point, at most two places, no exponent."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def amount(text: str) -> float | None:
    """A number as gradebooks write it, in any language: None where there is none.

    `1,234.50`, `1.234,50`, `1 234,50`, `1'234.50`, `10,00`: spaces and apostrophes only group. The last
    mark is the decimal one, unless it stands more than once, or groups three digits of a number without
    places (a gradebook writes two places at most).
    """
    plain = _GROUPING.sub("", text)
    if not _NUMBER.fullmatch(plain):
        return None
    marks = [character for character in plain if character in ",."]
    groups = not marks or marks.count(marks[-1]) > 1 or bool(_THOUSANDS.fullmatch(plain))
    decimal = "" if groups else marks[-1]
    return float("".join("." if c == decimal else c for c in plain if c not in ",." or c == decimal))


def is_formula(text: str) -> bool:
    """Whether a spreadsheet would run a cell with this text."""
    return text.lstrip(" ").startswith(_FORMULA) and not _is_number(text)


def defused(text: str) -> str:
    """The text for a cell that people read: what looks like a formula gets an apostrophe before it."""
    return f"'{text}" if is_formula(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return text == text.strip()


def save(path: Path, text: str) -> None:
    """Write a file that a spreadsheet opens: UTF-8 with the mark by which Excel knows it."""
    write(path, text if text.startswith(BOM) else BOM + text)


def write(path: Path, text: str) -> None:
    """Write an export in one step; LabError says why it cannot be."""
    try:
        write_atomically(path, text)
    except OSError as problem:
        raise LabError(f"cannot write {path}: {problem.strerror}") from problem
