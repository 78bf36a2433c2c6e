"""The Report: all verdicts of one run as versioned JSON, from which every other format is exported.

Readers ignore keys they do not know; a change that would mislead them gets a new schema version.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from helpers.errors import LabError
from helpers.grading.declare import Check
from helpers.grading.verdict import Evidence, Status, Verdict
from helpers.settings import REPOSITORY

SCHEMA = "course.report/v1"


class ReportUnreadable(LabError):
    """The text is not a Report of a version that this course reads."""


@dataclass(frozen=True)
class CourseVersion:
    """Which checks judged: the course's version and, in a checkout, its commit."""

    version: str
    commit: str | None = None


@dataclass(frozen=True)
class ClusterFacts:
    """Which cluster was judged; all None when it did not answer."""

    uid: str | None = None
    server_version: str | None = None
    profile: str | None = None
    gpu: str | None = None


@dataclass(frozen=True)
class Binding:
    """Whose result a Report is: a class, a learner in it, and the nonce that the instructor gave them.

    `scope` is the suffix of the learner's namespaces on a shared cluster; empty on one of their own.
    """

    class_name: str
    learner: str
    nonce: str
    scope: str = ""


@dataclass(frozen=True)
class HiddenChecks:
    """Checks that an instructor holds and has not opened yet: how many, and what they are worth together."""

    count: int
    points: float


@dataclass(frozen=True)
class CheckResult:
    """One check's verdict in a Report. `earned` of `points`; `duration_s` is wall time."""

    check: str
    task: str
    status: Status
    earned: float
    points: float
    mode: str
    expected: str
    observed: str
    message: str
    why: str
    hint: str
    next: str
    duration_s: float
    evidence: tuple[Evidence, ...] = ()
    lab: str = ""
    criterion: str = ""
    hidden: bool = False

    @classmethod
    def of(cls, check: Check, verdict: Verdict, duration_s: float) -> Self:
        """Bind a verdict to its check; the check's own words fill in what the verdict lacks."""
        why = verdict.why_text or check.why
        next_command = verdict.next_command or check.next
        if verdict.left:
            verdict = replace(verdict, observed=f"{verdict.observed} (and {verdict.left} more to mend)")
        return cls(
            check=check.id,
            task=check.task,
            status=verdict.status,
            earned=round(check.points * verdict.credit, 2) if verdict.status in _EARNING else 0,
            points=check.points,
            mode=check.mode,
            expected=verdict.expected,
            observed=verdict.observed,
            message=compose(verdict, why, next_command),
            why=why,
            hint=verdict.hint_text or check.hint,
            next=next_command,
            duration_s=round(duration_s, 3),
            evidence=verdict.evidence,
            lab=check.lab,
            criterion=check.criterion,
            hidden=check.hidden,
        )


_EARNING = (Status.PASS, Status.PARTIAL)


def compose(verdict: Verdict, why: str, next_command: str) -> str:
    """The message in the course's order: verdict word, expected and observed, why, next command."""
    parts = [f"{verdict.status}: expected {verdict.expected or '—'}; observed {verdict.observed or '—'}."]
    if verdict.status is not Status.PASS:
        parts += [f"Why: {why}"] if why else []
        parts += [f"Next: {next_command}"] if next_command else []
    return " ".join(parts)


@dataclass(frozen=True)
class Report:
    """All verdicts of one run. `attested_by` is None for a learner's own run: a claim.

    `binding` says whose result it is, where an instructor graded. `only` names the checks and tasks
    that were asked for, and is empty when the labs were graded as a whole. `pending` are hidden
    checks whose verdicts are not in this Report: points and counts are those of the verdicts that are.
    """

    lab: str
    cluster: ClusterFacts
    graded_at: str
    duration_s: float
    verdicts: tuple[CheckResult, ...]
    course: CourseVersion
    attested_by: str | None = None
    binding: Binding | None = None
    only: tuple[str, ...] = ()
    pending: HiddenChecks | None = None

    @property
    def standing(self) -> str:
        """Where the run stands, in words; never "all passed": hidden checks may be pending."""
        public = [result for result in self.verdicts if not result.hidden]
        hidden = [result for result in self.verdicts if result.hidden]
        words = [
            f"{name} {_passed(group)}" for name, group in (("public", public), ("hidden", hidden)) if group
        ]
        return ", ".join(words + ([f"hidden {self.pending.count} pending"] if self.pending else []))

    @property
    def is_whole(self) -> bool:
        """Whether every check of the labs was asked for; other Reports are never a lab's result."""
        return not self.only

    def of_lab(self, lab: str) -> Self:
        """The part that is about one lab; what is pending is not known by lab, and is left out."""
        verdicts = tuple(result for result in self.verdicts if result.lab == lab)
        return replace(self, lab=lab, verdicts=verdicts, pending=None)

    @property
    def counts(self) -> dict[str, int]:
        """How many verdicts of each status, in the order of the six words."""
        counted = Counter(result.status for result in self.verdicts)
        return {status.value: counted[status] for status in Status if counted[status]}

    @property
    def earned(self) -> float:
        return round(sum(result.earned for result in self.verdicts), 2)

    @property
    def possible(self) -> float:
        return round(sum(result.points for result in self.verdicts), 2)

    @property
    def exit_code(self) -> int:
        """0 all passed, 1 something fell short, 2 the environment failed or nothing ran."""
        statuses = {result.status for result in self.verdicts}
        if not statuses or Status.ENV_ERROR in statuses:
            return 2
        return 0 if statuses == {Status.PASS} else 1

    def to_dict(self) -> dict[str, Any]:
        """The Report as plain data, summary included; `binding`, `pending` and `only` where there are any."""
        plain: dict[str, Any] = {
            "schema": SCHEMA,
            "course": asdict(self.course),
            "lab": self.lab,
            "cluster": asdict(self.cluster),
            "graded_at": self.graded_at,
            "duration_s": self.duration_s,
            "attested_by": self.attested_by,
            "summary": {"earned": self.earned, "possible": self.possible, "counts": self.counts},
            "verdicts": [asdict(result) for result in self.verdicts],
        }
        if self.binding:
            plain["binding"] = asdict(self.binding)
        if self.pending:
            plain["pending"] = asdict(self.pending)
        if self.only:
            plain["only"] = list(self.only)
        return plain

    def to_json(self) -> str:
        """The Report as JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a Report.

        Raises:
            ReportUnreadable: not JSON, another schema version, or a key is missing or of the wrong kind.
        """
        try:
            data = json.loads(text)
        except ValueError as problem:
            raise ReportUnreadable(f"not a Report: {problem}") from problem
        found = data.get("schema") if isinstance(data, dict) else None
        if found != SCHEMA:
            raise ReportUnreadable(
                f"not a Report that this course reads: schema is {found!r}, not {SCHEMA!r}"
            )
        try:
            return cls._from_dict(data)
        except (KeyError, TypeError, ValueError) as problem:
            raise ReportUnreadable(f"the Report is incomplete: {problem}") from problem

    @classmethod
    def _from_dict(cls, data: Mapping[str, Any]) -> Self:
        pending = data.get("pending")
        return cls(
            lab=data["lab"],
            cluster=ClusterFacts(**_known(ClusterFacts, data["cluster"])),
            graded_at=data["graded_at"],
            duration_s=data["duration_s"],
            verdicts=tuple(map(_result, data["verdicts"])),
            course=CourseVersion(**_known(CourseVersion, data["course"])),
            attested_by=data["attested_by"],
            binding=Binding(**_known(Binding, data["binding"])) if data.get("binding") else None,
            only=tuple(map(str, data.get("only") or ())),
            pending=HiddenChecks(**_known(HiddenChecks, pending)) if pending else None,
        )


def _passed(results: list[CheckResult]) -> str:
    return f"{sum(result.status is Status.PASS for result in results)}/{len(results)}"


def _known(kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {key: value for key, value in data.items() if key in names}


def _result(data: Mapping[str, Any]) -> CheckResult:
    values = _known(CheckResult, data)
    values["status"] = Status(values["status"])
    values["evidence"] = tuple(Evidence(**_known(Evidence, item)) for item in values["evidence"])
    return CheckResult(**values)


def course_version() -> CourseVersion:
    """The installed version, and the commit when the course runs from a git checkout."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("llm-stack-labs")
    except PackageNotFoundError:
        installed = "unknown"
    return CourseVersion(installed, head_commit(REPOSITORY))


def head_commit(repository: Path) -> str | None:
    """The commit that HEAD names, read from the files: starting git costs more than the grading."""
    git = repository / ".git"
    try:
        if git.is_file():  # a linked work tree: the file points to its own folder
            git = repository / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        common = git / (git / "commondir").read_text().strip() if (git / "commondir").exists() else git
        if (common / ref).exists():
            return (common / ref).read_text().strip()
        packed = (common / "packed-refs").read_text().splitlines()
        return next((line.split()[0] for line in packed if line.endswith(f" {ref}")), None)
    except OSError:
        return None
