"""Is this Report what it says? Its signature, whose it is, and the cluster's own answer once more.

A signature shows who attested a Report and that nobody changed it since. Recomputing shows whether
the cluster still says the same: verdict by verdict, and object by object with uid and resourceVersion.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from helpers.classroom.records.attest import Edited, NotSigned, OtherKey, PublicKey, verify_signature
from helpers.classroom.records.history import SCHEMA as ATTEMPT_SCHEMA
from helpers.errors import EnvironmentFault, LabError
from helpers.grading.engine import grade
from helpers.grading.journal import Entry, contradiction
from helpers.grading.report import Binding, CheckResult, Report, ReportUnreadable, course_version
from helpers.grading.verdict import Evidence, Status

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.grading.declare import Lab

Subject = Literal["signature", "whose", "cluster", "course", "content", "verdict", "evidence", "environment"]


@dataclass(frozen=True)
class Finding:
    """One sentence about a Report. `is_problem` ones speak against it; the others are for information."""

    subject: Subject
    text: str
    is_problem: bool = True
    check: str = ""


@dataclass(frozen=True)
class Verification:
    """What was found. `signer` is the key that signed, None for a claim or a broken signature."""

    report: Report
    findings: tuple[Finding, ...]
    signer: PublicKey | None = None
    recomputed: Report | None = None
    agreeing: int = 0

    @property
    def problems(self) -> list[Finding]:
        return [item for item in self.findings if item.is_problem]

    @property
    def exit_code(self) -> int:
        """0 attested and the cluster agrees, 1 something speaks against it, 2 it could not be recomputed."""
        if any(item.subject != "environment" for item in self.problems):
            return 1
        return 2 if self.problems else 0

    def to_dict(self) -> dict[str, Any]:
        """Plain data for scripts."""
        return {
            "schema": "course.verification/v1",
            "attested": self.signer is not None,
            "key": self.signer.id if self.signer else None,
            "recomputed": self.recomputed is not None,
            "agreeing": self.agreeing,
            "verdicts": len(self.report.verdicts),
            "findings": [vars(item) for item in self.findings],
            "exit_code": self.exit_code,
        }


def read_document(path: Path) -> tuple[dict[str, Any], Report]:
    """A Report's JSON from a file: a Report, or an attempt of a class's history.

    Raises:
        ReportUnreadable: it is neither.
    """
    try:
        tree = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise ReportUnreadable(f"{path} cannot be read: {problem}") from problem
    if isinstance(tree, dict) and tree.get("schema") == ATTEMPT_SCHEMA:
        tree = tree.get("report")
    report = Report.from_json(json.dumps(tree))
    return tree, report


def verify(
    document: Mapping[str, Any],
    *,
    trusted: Sequence[PublicKey],
    belongs_to: Binding | None = None,
    cluster: Callable[[], Cluster] | None = None,
    labs: Sequence[str | Lab] | None = None,
    journals: Path | None = None,
) -> Verification:
    """Everything that can be said about a Report.

    Args:
        document: the Report's JSON as it was read, signature included.
        trusted: public keys whose signatures count.
        belongs_to: whose result it should be, where that is known; its nonce is compared.
        cluster: connects to the cluster to recompute it against; None for the signature alone.
        labs: the labs to recompute, where they are not the Report's own: with hidden checks added.
        journals: the home of the instructor's journal of this learner.
    """
    report = Report.from_json(json.dumps(document))
    findings: list[Finding] = []
    signer = _signer(document, trusted, findings)
    findings += _content(document, report)
    findings += _whose(report, belongs_to)
    result = Verification(report, tuple(findings), signer)
    if cluster is None:
        return result
    try:
        return _recompute(result, cluster(), labs, journals)
    except LabError as fault:
        return _unrecomputed(result, fault)


def _signer(
    document: Mapping[str, Any], trusted: Sequence[PublicKey], findings: list[Finding]
) -> PublicKey | None:
    try:
        key = verify_signature(document, trusted)
    except (NotSigned, OtherKey, Edited) as problem:
        findings.append(Finding("signature", _sentence(str(problem))))
        return None
    when = f", since {key.retired_at} no longer in use" if key.retired_at else ""
    words = (
        f"Signed by the key {key.id}{when}, at {document['signature'].get('signed_at')}, and unchanged since."
    )
    findings.append(Finding("signature", words, is_problem=False))
    return key


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _content(document: Mapping[str, Any], report: Report) -> list[Finding]:
    found = []
    if document.get("summary") != report.to_dict()["summary"]:
        found.append(Finding("content", "Its summary does not add up from its verdicts."))
    if not report.is_whole:
        asked = ", ".join(report.only)
        found.append(Finding("content", f"It is a run of some checks only ({asked}), not a lab's result."))
    now = course_version()
    if report.course != now:
        words = f"It was graded by course {_version(report.course)}; this is {_version(now)}."
        found.append(Finding("course", words, is_problem=False))
    return found


def _version(course: Any) -> str:
    return f"{course.version} ({course.commit[:12]})" if course.commit else str(course.version)


def _whose(report: Report, expected: Binding | None) -> list[Finding]:
    if expected is None:
        return []
    bound = report.binding
    if bound is None:
        words = "It is bound to no learner: nothing in it says whose cluster was graded."
        return [Finding("whose", words, is_problem=report.attested_by is not None)]
    if bound.learner.lower() != expected.learner.lower():
        return [Finding("whose", f"It is the result of {bound.learner}, not of {expected.learner}.")]
    if bound.nonce != expected.nonce:
        return [Finding("whose", f"It is bound to another nonce than {expected.learner} has in this class.")]
    if bound.class_name != expected.class_name:
        return [Finding("whose", f"It is of class {bound.class_name}, not of {expected.class_name}.")]
    return [Finding("whose", f"It is bound to {bound.learner}'s nonce.", is_problem=False)]


def _unrecomputed(result: Verification, fault: LabError) -> Verification:
    next_ = f" Next: {fault.next_command}" if fault.next_command else ""
    finding = Finding("environment", f"It could not be recomputed: {fault}.{next_}")
    return replace(result, findings=(*result.findings, finding))


def _recompute(
    result: Verification, cluster: Cluster, labs: Sequence[str | Lab] | None, journals: Path | None
) -> Verification:
    from helpers.labs.registry import load_labs

    report = result.report
    view = cluster.view()
    uid = view.get("Namespace", "kube-system").uid
    if report.cluster.uid != uid:
        words = f"It was graded on cluster {report.cluster.uid or 'nowhere'}; the cluster here is {uid}."
        return replace(result, findings=(*result.findings, Finding("cluster", words)))
    numbers = [part for part in report.lab.split(",") if part]
    now = grade(load_labs(labs or numbers), cluster, only=set(report.only) or None, journals=journals)
    findings, agreeing = _verdicts(report, now)
    findings += _evidence(report, view)
    found = (*result.findings, *findings)
    return replace(result, findings=found, recomputed=now, agreeing=agreeing)


def _verdicts(report: Report, now: Report) -> tuple[list[Finding], int]:
    """Verdict by verdict; how many agree."""
    live = {(result.lab, result.check): result for result in now.verdicts}
    said = {(result.lab, result.check): result for result in report.verdicts}
    found: list[Finding] = []
    agreeing = 0
    for key, result in said.items():
        finding = _difference(result, live.get(key))
        if finding:
            found.append(finding)
        else:
            agreeing += 1
    missing = [result for key, result in live.items() if key not in said]
    found += [
        Finding(
            "verdict",
            f"{item.check}: it leaves this check out; the cluster says {item.status}.",
            True,
            item.check,
        )
        for item in missing
        if not item.hidden
    ]
    return found, agreeing


def _difference(said: CheckResult, live: CheckResult | None) -> Finding | None:
    name = said.check
    if live is None and said.hidden:
        words = f"{name}: a hidden check; it is recomputed with --hidden PACKAGE only."
        return Finding("environment", words, True, name)
    if live is None:
        return Finding("verdict", f"{name}: this course has no such check.", True, name)
    if live.status is Status.ENV_ERROR and said.status is not Status.ENV_ERROR:
        return Finding("environment", f"{name}: it cannot be asked now: {live.observed}.", True, name)
    if said.status != live.status:
        words = f"{name}: it says {said.status}, the cluster says {live.status}: {live.observed}."
        return Finding("verdict", words, True, name)
    if (said.earned, said.points) != (live.earned, live.points):
        words = (
            f"{name}: it says {said.earned:g} of {said.points:g} points, "
            f"the cluster gives {live.earned:g} of {live.points:g}."
        )
        return Finding("verdict", words, True, name)
    return None


def _evidence(report: Report, view: ClusterView) -> list[Finding]:
    """Object by object: what was replaced or changed since, and what cannot have been."""
    found: list[Finding] = []
    asked: set[tuple[str, str | None, str, str | None]] = set()
    for result in report.verdicts:
        for item in result.evidence:
            key = (item.kind, item.namespace, item.name, item.uid)
            if not item.uid or key in asked:
                continue
            asked.add(key)
            finding = _object(item, result, report, view)
            if finding:
                found.append(finding)
    return found


def _object(item: Evidence, result: CheckResult, report: Report, view: ClusterView) -> Finding | None:
    label = f"{item.kind} {f'{item.namespace}/' if item.namespace else ''}{item.name}"
    try:
        live = view.find(item.kind, item.name, item.namespace)
        entry = Entry(result.check, item.observed_at or report.graded_at, "", "", (item,))
        lie = contradiction(entry, view, datetime.now(UTC))
    except EnvironmentFault as fault:
        return Finding("environment", f"{label} cannot be read: {fault}.", True, result.check)
    except (LabError, ValueError) as problem:
        return Finding("evidence", f"{label} cannot be looked up: {problem}.", False, result.check)
    if lie:
        return Finding("evidence", _sentence(lie), True, result.check)
    if live is None:
        return Finding("evidence", f"{label} is gone (uid {item.uid}).", False, result.check)
    if live.uid != item.uid:
        words = f"{label} was replaced since: uid {item.uid} then, {live.uid} now."
        return Finding("evidence", words, False, result.check)
    if live.resource_version != item.resource_version and item.kind != "Node":
        words = f"{label} changed since: resourceVersion {item.resource_version} then, {live.resource_version} now."
        return Finding("evidence", words, False, result.check)
    return None
