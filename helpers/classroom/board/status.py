"""Who is where: the class by labs and checks, from what the instructor's looks saw last."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from helpers.classroom.marking.observed import Observed, SeenCheck, SeenLab
from helpers.grading.verdict import Status

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.grading.declare import Lab

STUCK_MINUTES = 15.0
_FAILING = (Status.FAIL.value, Status.PARTIAL.value)
_UNTOUCHED = (Status.NOT_ATTEMPTED.value, Status.BLOCKED.value)


class State(StrEnum):
    """Where a learner is in a lab; the value is the word that is shown."""

    BROKEN = "environment broken"
    STUCK = "stuck"
    WORKING = "working"
    NOT_STARTED = "not started"
    PASSED = "passed"
    UNSEEN = "not looked at"


@dataclass(frozen=True)
class LearnerLab:
    """One learner in one lab. `stuck_on` are the failing checks, longest first; minutes of the longest."""

    learner: str
    name: str
    lab: str
    state: State
    earned: float = 0
    possible: float = 0
    stuck_on: tuple[str, ...] = ()
    failing_minutes: float = 0
    looked_at: str = ""
    cause: str = ""
    checks: tuple[SeenCheck, ...] = ()

    def check(self, check: str) -> SeenCheck | None:
        """One check as it was seen last."""
        return next((item for item in self.checks if item.check == check), None)


@dataclass(frozen=True)
class LabStatus:
    """One lab for the whole class; `checks` are in the order in which the lab declares them."""

    lab: str
    title: str
    checks: tuple[str, ...]
    learners: tuple[LearnerLab, ...]

    @property
    def states(self) -> dict[State, int]:
        """How many learners are in each state, states without anybody left out."""
        counted = Counter(item.state for item in self.learners)
        return {state: counted[state] for state in State if counted[state]}

    def verdicts(self, check: str) -> dict[str, int]:
        """How many learners have which verdict in a check."""
        seen = (item.check(check) for item in self.learners)
        counted = Counter(item.status for item in seen if item is not None)
        return {status.value: counted[status.value] for status in Status if counted[status.value]}

    def in_state(self, *states: State) -> list[LearnerLab]:
        """The learners in these states, those who wait longest first."""
        found = [item for item in self.learners if item.state in states]
        return sorted(found, key=lambda item: (-item.failing_minutes, item.learner))


def class_status(
    folder: ClassFolder,
    members: Sequence[Member],
    labs: Sequence[Lab],
    *,
    now: datetime,
    stuck_minutes: float = STUCK_MINUTES,
) -> list[LabStatus]:
    """The class as it was seen last.

    Args:
        now: what "for N minutes" counts up to.
        stuck_minutes: how long one check may fail before its learner counts as stuck.
    """
    seen = {member.key: Observed(folder.path, member.key).labs() for member in members}
    return [
        LabStatus(
            lab.id,
            lab.title,
            _check_names(lab, (labs_seen.get(lab.id) for labs_seen in seen.values())),
            tuple(
                learner_lab(member, lab.id, seen[member.key].get(lab.id), now, stuck_minutes)
                for member in members
            ),
        )
        for lab in labs
    ]


def _check_names(lab: Lab, seen: Iterable[SeenLab | None]) -> tuple[str, ...]:
    """The lab's own checks, then hidden ones that somebody was graded in."""
    known = dict.fromkeys(check.id for check in lab.checks)
    for item in seen:
        known |= dict.fromkeys(item.checks) if item else {}
    return tuple(known)


def learner_lab(
    member: Member, lab: str, seen: SeenLab | None, now: datetime, stuck_minutes: float = STUCK_MINUTES
) -> LearnerLab:
    """One learner in one lab, with the state that their verdicts add up to."""
    learner, name = member.learner.id, member.learner.name
    if seen is None or not seen.checks:
        return LearnerLab(learner, name, lab, State.UNSEEN)
    checks = tuple(seen.checks.values())
    failing = sorted((item for item in checks if item.status in _FAILING), key=lambda item: item.since)
    minutes = max((_minutes(item.since, now) for item in failing), default=0.0)
    stuck = [item.check for item in failing if _minutes(item.since, now) >= stuck_minutes]
    return LearnerLab(
        learner=learner,
        name=name,
        lab=lab,
        state=_state(checks, bool(stuck)),
        earned=round(sum(item.earned for item in checks), 2),
        possible=round(sum(item.points for item in checks), 2),
        stuck_on=tuple(stuck),
        failing_minutes=minutes,
        looked_at=seen.looked_at,
        cause=next((item.broken for item in checks if item.broken), ""),
        checks=checks,
    )


def _state(checks: Sequence[SeenCheck], stuck: bool) -> State:
    statuses = {item.status for item in checks}
    if any(item.broken for item in checks):
        return State.BROKEN
    if statuses == {Status.PASS.value}:
        return State.PASSED
    if all(item.status in _UNTOUCHED or item.given for item in checks):
        return State.NOT_STARTED
    return State.STUCK if stuck else State.WORKING


def _minutes(since: str, now: datetime) -> float:
    return max(0.0, (now - datetime.fromisoformat(since)).total_seconds() / 60)


def to_csv(labs: Sequence[LabStatus]) -> str:
    """One row for each learner and lab, a column for each check's verdict."""
    from helpers.grading.export.results import defused

    checks = list(dict.fromkeys(check for lab in labs for check in lab.checks))
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    head = [
        "learner",
        "name",
        "lab",
        "state",
        "earned",
        "possible",
        "failing_minutes",
        "stuck_on",
        "looked_at",
    ]
    writer.writerow([*head, *checks])
    for lab in labs:
        for item in lab.learners:
            seen = {check.check: check.status for check in item.checks}
            row = [
                item.learner,
                item.name,
                lab.lab,
                item.state.value,
                f"{item.earned:g}",
                f"{item.possible:g}",
            ]
            row += [f"{item.failing_minutes:.0f}", " ".join(item.stuck_on), item.looked_at]
            writer.writerow([defused(cell) for cell in [*row, *(seen.get(check, "") for check in checks)]])
    return out.getvalue()


def to_dict(labs: Sequence[LabStatus]) -> dict[str, Any]:
    """Plain data for scripts."""
    return {
        "schema": "course.class-status/v1",
        "labs": [
            {
                "lab": lab.lab,
                "states": {state.value: number for state, number in lab.states.items()},
                "checks": {check: lab.verdicts(check) for check in lab.checks},
                "learners": [asdict(item) for item in lab.learners],
            }
            for lab in labs
        ],
    }
