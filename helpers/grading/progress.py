"""A learner's own progress: what is done, what is next, how long it took. Facts, and a claim.

The file follows the Reports of the learner's own runs. It is written only when a Report adds
something: a board that looks every few seconds does not wear out the disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from helpers.atomic_file import locked, read_json, set_aside, write_atomically
from helpers.grading.report import CheckResult, Report, ReportUnreadable
from helpers.grading.seat import Seat, with_pending
from helpers.grading.verdict import Status
from helpers.settings import BadSetting, home_dir

SCHEMA = "course.progress/v1"


@dataclass(frozen=True)
class LabProgress:
    """One lab: times in ISO 8601, points of the best run, and when each check first passed.

    `done_at` is the first time all checks passed together; `cluster` and `gpu` say where that was.
    """

    lab: str
    started_at: str
    earned: float = 0
    possible: float = 0
    done_at: str | None = None
    cluster: str | None = None
    gpu: str | None = None
    passed: Mapping[str, str] = field(default_factory=dict)

    @property
    def took(self) -> timedelta | None:
        """From the start to the moment when everything passed; breaks included."""
        if self.done_at is None:
            return None
        return datetime.fromisoformat(self.done_at) - datetime.fromisoformat(self.started_at)


class Progress:
    """The progress file; `path` is the course's own unless given."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or home_dir() / "progress.json"

    def labs(self) -> dict[str, LabProgress]:
        """What is known of each lab, by number; a file that cannot be read is set aside."""
        try:
            data = read_json(self.path, SCHEMA)
            return {name: _lab(item) for name, item in data.get("labs", {}).items()}
        except (ValueError, TypeError, AttributeError):
            set_aside(self.path)
            return {}

    def started(self, lab: str, now: datetime) -> None:
        """Remember when a lab was started; the first time stays."""
        with locked(self.path):
            labs = self.labs()
            if lab not in labs:
                self._write({**labs, lab: LabProgress(lab, now.isoformat())})

    def record(self, report: Report, *, whole: bool = True) -> bool:
        """Take up what a Report adds; whether anything was new.

        `whole` is False for a run of some checks only: it adds passed checks, never points or an end.
        """
        with locked(self.path):
            before = self.labs()
            after = dict(before)
            for lab in dict.fromkeys(result.lab for result in report.verdicts):
                results = [result for result in report.verdicts if result.lab == lab]
                if any(result.status is not Status.ENV_ERROR for result in results):
                    after[lab] = _updated(before.get(lab), report, results, whole)
            if after == before:
                return False
            self._write(after)
            return True

    def _write(self, labs: Mapping[str, LabProgress]) -> None:
        plain = {name: asdict(item) for name, item in sorted(labs.items())}
        write_atomically(self.path, json.dumps({"schema": SCHEMA, "labs": plain}, indent=2))


class LastReports:
    """The latest whole Report of each lab, as the learner saw it: its verdicts with their evidence."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or home_dir() / "reports"

    def keep(self, report: Report) -> None:
        """Replace what is known of the Report's one lab."""
        write_atomically(self.folder / f"{report.lab}.json", report.to_json())

    def all(self) -> dict[str, Report]:
        """What is known, by lab; a file that cannot be read is set aside."""
        found = {}
        for path in sorted(self.folder.glob("*.json")):
            try:
                found[path.stem] = Report.from_json(path.read_text())
            except (ReportUnreadable, UnicodeDecodeError):
                set_aside(path)
        return found


def take_up(report: Report, seat: Seat | None = None, *, whole: bool = True) -> str | None:
    """Take up a learner's own run: progress, and each lab's latest Report where anything changed.

    Returns why it could not be kept, or None: a full disk must not keep anybody from their verdicts.
    """
    try:
        Progress().record(report, whole=whole)
        if whole:
            kept = LastReports()
            for lab in dict.fromkeys(result.lab for result in report.verdicts):
                part = report.of_lab(lab)
                if not _same(part, kept.folder / f"{lab}.json"):
                    kept.keep(with_pending(part, seat))
    except (OSError, BadSetting) as problem:
        return str(problem)
    return None


def _same(report: Report, path: Path) -> bool:
    """Whether what is kept already says the same: a board that looks every few seconds writes nothing."""
    try:
        kept = Report.from_json(path.read_text())
    except (OSError, ReportUnreadable, UnicodeDecodeError):
        return False
    return [(item.check, item.status, item.observed) for item in kept.verdicts] == [
        (item.check, item.status, item.observed) for item in report.verdicts
    ]


def next_lab(labs: Mapping[str, LabProgress], known: Iterable[str]) -> str | None:
    """The first lab that is not done; None when all are."""
    return next((lab for lab in known if lab not in labs or labs[lab].done_at is None), None)


def _updated(
    before: LabProgress | None, report: Report, results: list[CheckResult], whole: bool
) -> LabProgress:
    known = before or LabProgress(results[0].lab, report.graded_at)
    newly = {
        result.check: report.graded_at
        for result in results
        if result.status is Status.PASS and result.check not in known.passed
    }
    now = replace(known, passed={**known.passed, **newly})
    if not whole:
        return now
    earned = round(sum(result.earned for result in results), 2)
    possible = round(sum(result.points for result in results), 2)
    if (earned, possible) > (known.earned, known.possible):
        now = replace(now, earned=earned, possible=possible)
    if known.done_at is None and all(result.status is Status.PASS for result in results):
        cluster = report.cluster
        now = replace(now, done_at=report.graded_at, cluster=cluster.uid, gpu=cluster.gpu)
    return now


def _lab(data: Mapping[str, Any]) -> LabProgress:
    known = LabProgress(**{item.name: data[item.name] for item in fields(LabProgress) if item.name in data})
    for stamp in (known.started_at, known.done_at):
        if stamp is not None:
            datetime.fromisoformat(stamp)
    return known
