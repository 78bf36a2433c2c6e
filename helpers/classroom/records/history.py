"""Every attempt of a learner, kept: appended, never changed, never overwritten.

An attempt is one Report in a file of its own. Two kinds are told apart wherever they are shown:
"attested", an instructor's observation of the cluster, and "claim", a learner's own Report handed in.
Only attested attempts are graded. A claim can do one thing: show that the state which was observed
later was there already when it was handed in, because it names the same objects, with the uids and
resourceVersions that only that cluster could have given them.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from helpers.atomic_file import locked, read_json, write_atomically
from helpers.classroom.records.late_policy import LabPolicy, Policy
from helpers.errors import EnvironmentFault, LabError
from helpers.grading.report import CheckResult, Report, ReportUnreadable
from helpers.grading.verdict import Evidence, Status

SCHEMA, SEEN_AGAIN = "course.attempt/v1", "course.seen-again/v1"
Kind = Literal["attested", "claim"]
# A node's object changes with every heartbeat: its resourceVersion says nothing about the learner's work.
_RESTLESS = ("Node",)


class NotWhole(LabError):
    """A Report of some checks only was about to be taken for a lab's result."""


@dataclass(frozen=True)
class Attempt:
    """One Report as it was kept. `document` is its JSON with the signature, if it has one.

    `submitted_at` is when the learner handed in, `graded_at` when the cluster was observed and
    `recorded_at` when the file was written. An attested attempt is submitted when it is observed,
    unless a claim shows that it was there before.
    """

    number: int
    kind: Kind
    submitted_at: datetime
    graded_at: datetime
    recorded_at: datetime
    digest: str
    report: Report
    document: Mapping[str, Any]
    path: Path

    def results(self, lab: str) -> list[CheckResult]:
        """The verdicts of one lab."""
        return [result for result in self.report.verdicts if result.lab == lab]

    def grades(self, lab: str) -> bool:
        """Whether this is a result of the lab: attested, of all its checks, none of them ENV_ERROR."""
        results = self.results(lab)
        broken = any(result.status is Status.ENV_ERROR for result in results)
        return self.kind == "attested" and self.report.is_whole and bool(results) and not broken


class History:
    """One learner's attempts in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def attempts(self) -> list[Attempt]:
        """All attempts, oldest first.

        Raises:
            EnvironmentFault: a file is damaged; none is skipped, because a grade may rest on it.
        """
        return [_read(path) for path in sorted(self.folder.glob("attempt-*.json"))]

    def count(self) -> int:
        """How many attempts there are."""
        return sum(1 for _ in self.folder.glob("attempt-*.json"))

    def add(
        self, kind: Kind, document: Mapping[str, Any], *, submitted_at: datetime | None = None
    ) -> Attempt:
        """Keep a Report; the attempt that is there already when it is the same observation again.

        Raises:
            NotWhole: an attested Report of some checks only.
        """
        report = Report.from_json(json.dumps(document))
        if kind == "attested" and not report.is_whole:
            raise NotWhole("a run of some checks only is not kept as an attempt")
        digest = digest_of(report)
        with locked(self.folder / "attempts"):
            attempts = self.attempts()
            last = next((item for item in reversed(attempts) if _same_run(item, kind, report)), None)
            if last is not None and last.digest == digest:
                self._seen_again(last.number, report.graded_at)
                return last
            tree = {
                "schema": SCHEMA,
                "kind": kind,
                "submitted_at": (submitted_at or datetime.fromisoformat(report.graded_at)).isoformat(),
                "recorded_at": datetime.now(UTC).isoformat(),
                "digest": digest,
                "report": document,
            }
            return self._append(tree, attempts[-1].number + 1 if attempts else 1)

    def last_seen(self, attempt: Attempt) -> datetime:
        """When the state of an attempt was observed for the last time: regrading adds no attempt."""
        try:
            stamps = read_json(self.folder / "seen-again.json", SEEN_AGAIN).get("attempts", {})
            return datetime.fromisoformat(stamps[str(attempt.number)])
        except (KeyError, ValueError, TypeError):
            return attempt.graded_at

    def _seen_again(self, number: int, graded_at: str) -> None:
        path = self.folder / "seen-again.json"
        try:
            known = read_json(path, SEEN_AGAIN).get("attempts", {})
        except ValueError:
            known = {}  # only for show: the attempts themselves are elsewhere
        write_atomically(
            path, json.dumps({"schema": SEEN_AGAIN, "attempts": {**known, str(number): graded_at}})
        )

    def _append(self, tree: Mapping[str, Any], number: int) -> Attempt:
        """A new file in one step; a name that is taken is never written over."""
        path = self.folder / f"attempt-{number:05d}.json"
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".attempt.")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({**tree, "number": number}, file, ensure_ascii=False, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)  # unlike a rename, it fails when the name exists
        finally:
            Path(temporary).unlink(missing_ok=True)
        return _read(path)


def _same_run(attempt: Attempt, kind: Kind, report: Report) -> bool:
    return attempt.kind == kind and attempt.report.lab == report.lab


def _read(path: Path) -> Attempt:
    try:
        tree = json.loads(path.read_text())
        report = Report.from_json(json.dumps(tree["report"]))
        return Attempt(
            number=tree["number"],
            kind=tree["kind"],
            submitted_at=datetime.fromisoformat(tree["submitted_at"]),
            graded_at=datetime.fromisoformat(report.graded_at),
            recorded_at=datetime.fromisoformat(tree["recorded_at"]),
            digest=tree["digest"],
            report=report,
            document=tree["report"],
            path=path,
        )
    except (OSError, ValueError, KeyError, TypeError, ReportUnreadable) as problem:
        raise EnvironmentFault(
            f"the attempt in {path} is damaged: {problem}", next_command=f"ls -l {path.parent}"
        ) from problem


def digest_of(report: Report) -> str:
    """The same for two observations of one state: which verdicts, on which objects, in which version.

    Times, durations, words and the course's own commit are left out, so that grading again without a
    change adds nothing.
    """
    results = [
        [
            result.lab,
            result.check,
            result.status.value,
            result.earned,
            result.points,
            sorted({_mark(item) for item in result.evidence}),
        ]
        for result in report.verdicts
    ]
    bound = [report.binding.learner, report.binding.nonce] if report.binding else []
    text = json.dumps([report.lab, list(report.only), report.cluster.uid, bound, results])
    return hashlib.sha256(text.encode()).hexdigest()


def _mark(item: Evidence) -> tuple[str, ...]:
    version = "" if item.kind in _RESTLESS else item.resource_version or ""
    return item.kind, item.namespace or "", item.name, item.uid or "", version


@dataclass(frozen=True)
class LabGrade:
    """What one attempt is worth for one lab. `score` is `earned` after the late policy."""

    lab: str
    attempt: int
    earned: float
    possible: float
    score: float
    late_days: int
    submitted_at: datetime
    graded_at: datetime
    backed_by_claim: int | None = None

    @property
    def share(self) -> float:
        """The score as a part of what was possible, 0 to 1."""
        return self.score / self.possible if self.possible else 0.0


@dataclass(frozen=True)
class Standing:
    """One learner in one lab: the best attempt, the latest, and the one that the policy counts."""

    lab: str
    best: LabGrade | None = None
    latest: LabGrade | None = None
    counted: LabGrade | None = None
    attempts: int = 0
    claims: int = 0


def standing(attempts: Sequence[Attempt], lab: str, policy: Policy) -> Standing:
    """What a learner's attempts are worth in a lab; claims are counted, and never graded."""
    claims = [item for item in attempts if item.kind == "claim" and item.results(lab)]
    graded = [_grade(item, lab, claims, policy.of(lab)) for item in attempts if item.grades(lab)]
    if not graded:
        return Standing(lab, claims=len(claims))
    best = max(graded, key=lambda grade: (grade.share, -grade.attempt))
    latest = max(graded, key=lambda grade: (grade.graded_at, grade.attempt))
    counted = best if policy.count == "best" else latest
    return Standing(lab, best, latest, counted, len(graded), len(claims))


def _grade(attempt: Attempt, lab: str, claims: Sequence[Attempt], dates: LabPolicy) -> LabGrade:
    backing = next((claim for claim in claims if _backs(claim, attempt, lab)), None)
    submitted_at = min(backing.submitted_at, attempt.submitted_at) if backing else attempt.submitted_at
    results = attempt.results(lab)
    earned = round(sum(result.earned for result in results), 2)
    return LabGrade(
        lab=lab,
        attempt=attempt.number,
        earned=earned,
        possible=round(sum(result.points for result in results), 2),
        score=round(earned * dates.share(submitted_at), 2),
        late_days=dates.late_days(submitted_at),
        submitted_at=submitted_at,
        graded_at=attempt.graded_at,
        backed_by_claim=backing.number if backing else None,
    )


def _backs(claim: Attempt, attempt: Attempt, lab: str) -> bool:
    """Whether a claim names, for all that earned points, the very objects that were observed later."""
    if claim.submitted_at > attempt.graded_at or claim.report.cluster.uid != attempt.report.cluster.uid:
        return False
    claimed = {result.check: result for result in claim.results(lab)}
    named = False
    for result in attempt.results(lab):
        if not result.earned:
            continue
        before = claimed.get(result.check)
        marks = {_mark(item) for item in result.evidence if item.uid}
        if before is None or before.earned != result.earned:
            return False
        if marks != {_mark(item) for item in before.evidence if item.uid}:
            return False
        named = named or any(kind not in _RESTLESS for kind, *_ in marks)
    return named
