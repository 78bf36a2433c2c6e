"""What a class's attempts are worth, as exporters take it: the attempt that counts, the late policy applied."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from helpers.classroom.records.history import Attempt, History, LabGrade, Standing, standing
from helpers.classroom.records.late_policy import Policy, load_policy
from helpers.grading.export.results import Result

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member

SCHEMA = "course.class-grades/v1"


def standings(folder: ClassFolder, member: Member, labs: Sequence[str]) -> list[Standing]:
    """What a learner's attempts amount to, lab by lab, by the class's policy of now."""
    policy = load_policy(folder.policy_file)
    attempts = History(folder.history_dir(member)).attempts()
    return [standing(attempts, lab, policy) for lab in labs]


def results(folder: ClassFolder, members: Sequence[Member], labs: Sequence[str]) -> list[Result]:
    """One Result for each learner and lab: the Report of the attempt that counts.

    A learner who was only ever found in a broken environment has their newest Report, so that
    exporters can list them as not graded.
    """
    policy = load_policy(folder.policy_file)
    found = []
    for member in members:
        attempts = History(folder.history_dir(member)).attempts()
        for lab in labs:
            result = _result(member, attempts, lab, policy)
            if result:
                found.append(result)
    return found


def _result(member: Member, attempts: Sequence[Attempt], lab: str, policy: Policy) -> Result | None:
    counted = standing(attempts, lab, policy).counted
    if counted is None:
        newest = next(
            (item for item in reversed(attempts) if item.kind == "attested" and item.results(lab)), None
        )
        return Result(member.learner, _only(newest, lab)) if newest else None
    attempt = next(item for item in attempts if item.number == counted.attempt)
    share = policy.of(lab).share(counted.submitted_at)
    return Result(member.learner, _only(attempt, lab), share, counted.submitted_at.isoformat())


def _only(attempt: Attempt, lab: str) -> Any:
    """The attempt's Report with this lab's verdicts."""
    return replace(attempt.report, lab=lab, verdicts=tuple(attempt.results(lab)))


def to_json(folder: ClassFolder, members: Sequence[Member], labs: Sequence[str]) -> str:
    """Everything a script may want: each learner's standings, and the signed Reports that count."""
    policy = load_policy(folder.policy_file)
    tree = {
        "schema": SCHEMA,
        "class": folder.name,
        "labs": list(labs),
        "count": policy.count,
        "learners": [_learner(folder, member, labs, policy) for member in members],
    }
    return json.dumps(tree, ensure_ascii=False, indent=1)


def _learner(folder: ClassFolder, member: Member, labs: Sequence[str], policy: Policy) -> dict[str, Any]:
    attempts = History(folder.history_dir(member)).attempts()
    places = [standing(attempts, lab, policy) for lab in labs]
    wanted = {place.counted.attempt for place in places if place.counted}
    return {
        **asdict(member.learner),
        "standings": [_standing(place) for place in places],
        "reports": list(_documents(attempts, wanted)),
    }


def _documents(attempts: Sequence[Attempt], wanted: set[int]) -> Iterator[dict[str, Any]]:
    for item in attempts:
        if item.number in wanted:
            yield dict(item.document)


def _standing(place: Standing) -> dict[str, Any]:
    return {
        "lab": place.lab,
        "attempts": place.attempts,
        "claims": place.claims,
        "best": _grade(place.best),
        "latest": _grade(place.latest),
        "counted": _grade(place.counted),
    }


def _grade(grade: LabGrade | None) -> dict[str, Any] | None:
    if grade is None:
        return None
    times = {"submitted_at": grade.submitted_at.isoformat(), "graded_at": grade.graded_at.isoformat()}
    return {**asdict(grade), **times}
