"""What an instructor's looks saw last, learner by learner, and since when it is so.

Attempts are what is graded; this is what is watched. A look of `course class status` changes it and
adds no attempt. A broken environment says nothing about the learner: what was known before stays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from helpers.atomic_file import locked, read_json, write_atomically
from helpers.errors import EnvironmentFault
from helpers.grading.report import CheckResult, Report
from helpers.grading.verdict import Status

SCHEMA = "course.observed/v1"


@dataclass(frozen=True)
class SeenCheck:
    """One check as it was seen last.

    `status` and `since` are the learner's: the verdict and the first look that gave it without a
    break. `broken` says why the newest look could not judge, if it could not. `given` is a PASS that
    rests on what the instructor made: on a shared cluster the namespaces are there before the learner.
    """

    check: str
    lab: str
    task: str
    status: str
    since: str
    seen_at: str
    earned: float = 0
    points: float = 0
    criterion: str = ""
    expected: str = ""
    observed: str = ""
    why: str = ""
    next: str = ""
    broken: str = ""
    hidden: bool = False
    given: bool = False


@dataclass(frozen=True)
class SeenLab:
    """One lab of one learner, as it was looked at last."""

    looked_at: str
    cluster: str | None = None
    gpu: str | None = None
    checks: Mapping[str, SeenCheck] = field(default_factory=dict)


class Observed:
    """One learner's file under the class folder."""

    def __init__(self, class_path: Path, key: str) -> None:
        self.path = class_path / "observed" / f"{key}.json"

    def labs(self) -> dict[str, SeenLab]:
        """What was seen of each lab; empty for a learner whom nobody has looked at.

        Raises:
            EnvironmentFault: the file cannot be read.
        """
        try:
            tree = read_json(self.path, SCHEMA)
            return {name: _lab(item) for name, item in tree.get("labs", {}).items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
            raise EnvironmentFault(
                f"{self.path} cannot be read: {problem}", next_command=f"rm {self.path}"
            ) from problem

    def take(self, report: Report) -> dict[str, SeenLab]:
        """Lay a Report over what was known; what is known now."""
        with locked(self.path):
            labs = self.labs()
            for lab in dict.fromkeys(result.lab for result in report.verdicts):
                before = labs.get(lab, SeenLab(report.graded_at))
                results = [result for result in report.verdicts if result.lab == lab]
                cause = next((item.observed for item in results if item.status is Status.ENV_ERROR), "")
                shared = bool(report.binding and report.binding.scope)
                seen = {
                    result.check: replace(
                        _seen(result, before.checks.get(result.check), report.graded_at, cause),
                        given=shared and _is_given(result),
                    )
                    for result in results
                }
                uid, gpu = report.cluster.uid or before.cluster, report.cluster.gpu or before.gpu
                kept = before.checks if not report.is_whole else {}
                labs[lab] = SeenLab(report.graded_at, uid, gpu, {**kept, **seen})
            plain = {name: asdict(item) for name, item in labs.items()}
            write_atomically(self.path, json.dumps({"schema": SCHEMA, "labs": plain}))
        return labs


def _is_given(result: CheckResult) -> bool:
    kinds = {item.kind for item in result.evidence}
    return result.status is Status.PASS and kinds == {"Namespace"}


def _seen(result: CheckResult, before: SeenCheck | None, at: str, cause: str) -> SeenCheck:
    """`cause` says what broke in this lab: what waits for a check that broke was not judged either."""
    unjudged = result.status is Status.ENV_ERROR or (cause and result.status is Status.BLOCKED)
    if unjudged and before is not None and before.status != Status.ENV_ERROR:
        own = result.observed if result.status is Status.ENV_ERROR else cause
        return replace(before, broken=own)
    status = result.status.value
    since = before.since if before is not None and before.status == status else at
    return SeenCheck(
        check=result.check,
        lab=result.lab,
        task=result.task,
        status=status,
        since=since,
        seen_at=at,
        earned=result.earned,
        points=result.points,
        criterion=result.criterion,
        expected=result.expected,
        observed=result.observed,
        why=result.why,
        next=result.next,
        broken=result.observed if result.status is Status.ENV_ERROR else "",
        hidden=result.hidden,
    )


def _lab(data: Mapping[str, Any]) -> SeenLab:
    datetime.fromisoformat(data["looked_at"])
    checks = {name: _check(item) for name, item in data["checks"].items()}
    return SeenLab(data["looked_at"], data["cluster"], data["gpu"], checks)


def _check(data: Mapping[str, Any]) -> SeenCheck:
    known = {item.name for item in fields(SeenCheck)}
    return SeenCheck(**{name: value for name, value in data.items() if name in known})
