"""JUnit XML: what every CI system shows.

There is no published standard; this writes the common subset of Jenkins', GitLab's and GitHub's
readers. FAIL, PARTIAL and NOT_ATTEMPTED are failures, BLOCKED is skipped, ENV_ERROR is an error: a
broken environment stays apart from wrong work here too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree as ET

from helpers.grading.export.results import Result
from helpers.grading.report import CheckResult, HiddenChecks, Report
from helpers.grading.verdict import Status

# XML 1.0 cannot hold these, not even escaped; pods' logs and terminals produce them.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENT = {
    Status.FAIL: "failure",
    Status.PARTIAL: "failure",
    Status.NOT_ATTEMPTED: "failure",
    Status.BLOCKED: "skipped",
    Status.ENV_ERROR: "error",
}


def to_junit(report: Report) -> str:
    """The Report as JUnit XML text: a suite for each lab, a case for each check."""
    return _document([("", report)], report.duration_s)


def class_junit(results: Iterable[Result]) -> str:
    """A class as JUnit XML text: a suite for each learner and lab."""
    reports = [(f"{result.learner.id} ", result.report) for result in results]
    return _document(reports, sum(report.duration_s for _, report in reports))


def _document(reports: Sequence[tuple[str, Report]], duration_s: float) -> str:
    root = ET.Element("testsuites", name="course", time=f"{duration_s:.3f}")
    for who, report in reports:
        for lab in dict.fromkeys(result.lab for result in report.verdicts):
            _suite(root, f"{who}lab {lab}", report, [item for item in report.verdicts if item.lab == lab])
        if report.pending:
            _pending(root, who, report, report.pending)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(root: ET.Element, name: str, report: Report, results: list[CheckResult]) -> None:
    suite = ET.SubElement(root, "testsuite", _totals(results), name=_clean(name), timestamp=report.graded_at)
    suite.set("time", f"{sum(result.duration_s for result in results):.3f}")
    _properties(suite, report, results)
    for result in results:
        _case(suite, result)


def _pending(root: ET.Element, who: str, report: Report, pending: HiddenChecks) -> None:
    """Hidden checks that are not opened: skipped, so that no reader counts them as passed or forgets them."""
    count = str(pending.count)
    suite = ET.SubElement(
        root, "testsuite", tests=count, failures="0", errors="0", skipped=count, name=f"{who}hidden checks"
    )
    suite.set("timestamp", report.graded_at)
    for number in range(1, pending.count + 1):
        case = ET.SubElement(
            suite, "testcase", classname="hidden", name=f"hidden check {number}", time="0.000"
        )
        ET.SubElement(case, "skipped", message="pending: the instructor has not opened it")


def _totals(results: list[CheckResult]) -> dict[str, str]:
    elements = [_ELEMENT.get(result.status) for result in results]
    return {
        "tests": str(len(elements)),
        "failures": str(elements.count("failure")),
        "errors": str(elements.count("error")),
        "skipped": str(elements.count("skipped")),
    }


def _properties(suite: ET.Element, report: Report, results: list[CheckResult]) -> None:
    facts = {
        "earned": f"{sum(result.earned for result in results):g}",
        "possible": f"{sum(result.points for result in results):g}",
        "cluster.uid": report.cluster.uid,
        "cluster.server_version": report.cluster.server_version,
        "cluster.profile": report.cluster.profile,
        "cluster.gpu": report.cluster.gpu,
        "attested_by": report.attested_by,
    }
    properties = ET.SubElement(suite, "properties")
    for name, value in facts.items():
        if value is not None:
            ET.SubElement(properties, "property", name=name, value=_clean(value))


def _case(suite: ET.Element, result: CheckResult) -> None:
    case = ET.SubElement(
        suite, "testcase", classname=f"lab{result.lab}.{result.task}", name=_clean(result.check)
    )
    case.set("time", f"{result.duration_s:.3f}")
    element = _ELEMENT.get(result.status)
    if element:
        summary = f"{result.status}: expected {result.expected}; observed {result.observed}"
        detail = ET.SubElement(case, element, message=_clean(summary))
        if element != "skipped":
            detail.set("type", result.status.value)
        detail.text = _clean(result.message)


def _clean(text: str) -> str:
    return _NOT_XML.sub("�", text)
