"""Markdown for a pull request's comment or a workflow's summary (`>> "$GITHUB_STEP_SUMMARY"`).

GitHub shows a step's summary up to 1 MiB (docs.github.com, "Workflow commands", job summaries); long
observations are cut. What was observed may hold anything: every character that Markdown, HTML or
GitHub's mentions would act on is written as a character reference.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from helpers.grading.export.results import number
from helpers.grading.report import CheckResult, Report
from helpers.grading.verdict import Status

LONGEST = 300
_ACTIVE = re.compile(r"[\\`*_{}\[\]<>()#+|~@!&$]|:(?=[/a-z+-])")
# A criterion is an author's own text: its code may stay code where nothing in it is active.
_CODE = re.compile(r"&#96;([\w ./=-]+)&#96;")
# Terminals' escapes, and what turns the reading direction of the rest of the line.
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SPOKEN = (Status.FAIL, Status.PARTIAL, Status.ENV_ERROR)
_GPU = {"simulated": "GPU simulated", "real": "GPU real", "none": "no GPU"}


def to_markdown(report: Report, *, title: str = "Course grade") -> str:
    """The Report as GitHub-flavoured Markdown: where it stands, every verdict, what fell short."""
    lines = [f"## {_text(title)}", "", f"**{_headline(report)}**", "", _place(report), ""]
    for lab in dict.fromkeys(result.lab for result in report.verdicts):
        results = [result for result in report.verdicts if result.lab == lab]
        lines += [f"### Lab {_text(lab)}", "", "| check | verdict | points |", "| --- | --- | ---: |"]
        lines += [_row(result) for result in results]
        lines.append("")
    short = [result for result in report.verdicts if result.status in _SPOKEN]
    if short:
        lines += ["<details><summary>What fell short</summary>", "", *_details(short), "</details>", ""]
    return "\n".join(lines)


def _headline(report: Report) -> str:
    pending = f" ({number(report.pending.points)} more points)" if report.pending else ""
    return f"{number(report.earned)} of {number(report.possible)} points; {_text(report.standing)}{pending}"


def _place(report: Report) -> str:
    who = (
        f"Attested by {_text(report.attested_by)}."
        if report.attested_by
        else "A claim: no signature was verified."
    )
    cluster = report.cluster
    if not cluster.uid:
        return f"{who} The cluster did not answer."
    gpu = _GPU.get(cluster.gpu or "", str(cluster.gpu))
    version, profile = _text(str(cluster.server_version)), _text(str(cluster.profile))
    return f"{who} Graded at {_text(report.graded_at)} on Kubernetes {version} ({profile}), {_text(gpu)}."


def _row(result: CheckResult) -> str:
    name = f"{_text(result.check)}{' (hidden)' if result.hidden else ''}"
    points = f"{number(result.earned)} / {number(result.points)}"
    criterion = _CODE.sub(r"`\1`", _text(result.criterion))
    return f"| {name}: {criterion} | {_text(result.status.value)} | {points} |"


def _details(results: list[CheckResult]) -> Iterator[str]:
    for result in results:
        yield f"- **{_text(result.check)}** {_text(result.status.value)}"
        rows = ("expected", result.expected), ("observed", result.observed), ("why", result.why)
        for name, text in (*rows, ("next", result.next)):
            if text:
                yield f"  - {name}: {_text(text)}"
    yield ""


def _text(text: str) -> str:
    """Text as it is, on one line, with nothing that Markdown, HTML or a mention would act on."""
    line = _INVISIBLE.sub("�", " ".join(text.split()))
    shown = line if len(line) <= LONGEST else f"{line[:LONGEST]}…"
    return _ACTIVE.sub(lambda match: f"&#{ord(match[0])};", shown)
