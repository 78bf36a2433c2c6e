"""`course certificate`: what a learner has done, and in plain words who says so.

A lab is attested here only if a Report of it carries a signature that was verified when the page was
made, with a key that was given as trusted. Everything else is the learner's own claim and is called
so, in the same size. Signed Reports lie in the page, so that whoever gets it can check them again.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from markupsafe import Markup

from helpers.classroom.records.attest import PublicKey, verify_signature
from helpers.errors import LabError
from helpers.grading.pages.page import page, table
from helpers.grading.render import GPU_WORDS, day
from helpers.grading.report import Report


@dataclass(frozen=True)
class Attested:
    """A signed Report whose signature holds: by which key, and whose result it is."""

    report: Report
    key: PublicKey
    document: Mapping[str, Any]

    @property
    def learner(self) -> str:
        return self.report.binding.learner if self.report.binding else ""


class NotOneLearner(LabError):
    """Signed Reports of several learners are no certificate of anybody."""


def attested(text: str, trusted: Sequence[PublicKey]) -> Attested:
    """A signed Report, verified.

    Raises:
        NotSigned, OtherKey, Edited: why it attests nothing (see `attest.verify_signature`).
        ReportUnreadable: it is no Report.
        LabError: it is of some checks only.
    """
    report = Report.from_json(text)
    document = json.loads(text)
    key = verify_signature(document, trusted)
    if not report.is_whole:
        raise LabError("this signed Report is of some checks only: it certifies no lab")
    return Attested(report, key, document)


def certificate(
    signed: Sequence[Attested],
    own: Mapping[str, Report],
    titles: Mapping[str, str],
    *,
    name: str = "",
    now: datetime,
) -> Markup:
    """The page as HTML.

    Args:
        signed: verified Reports, all of one learner.
        own: the latest Report of each lab that the learner's own machine made: claims.
        titles: the title of each lab.
        name: how the learner wants to be called; a claim like the rest that nobody signed.

    Raises:
        NotOneLearner: the signed Reports are of several learners.
        LabError: there is nothing to show.
    """
    learners = sorted({item.learner for item in signed})
    if len(learners) > 1:
        raise NotOneLearner(f"these Reports are of several learners: {', '.join(learners)}")
    claims = {lab: report for lab, report in own.items() if lab not in _labs(signed)}
    if not signed and not claims:
        raise LabError("there is nothing to certify yet", next_command="course grade 01")
    whose = learners[0] if learners else ""
    called = Markup("<p>Name, as given by the learner: <b>{}</b></p>").format(name) if name else ""
    identity = Markup("<p>Learner in the signed Reports: <b>{}</b></p>").format(whose) if whose else ""
    body = [
        Markup("<header><h1>LLM stack labs: certificate</h1>"),
        Markup("<small>Made {}.</small></header>").format(day(now.isoformat())),
        called + identity,
        _attested_part(signed, titles),
        _claimed_part(claims, titles) if claims else "",
    ]
    return page("Certificate", Markup("\n").join(body))


def _labs(signed: Iterable[Attested]) -> set[str]:
    return {result.lab for item in signed for result in item.report.verdicts}


def _attested_part(signed: Sequence[Attested], titles: Mapping[str, str]) -> Markup:
    if not signed:
        return Markup(
            '<section class="card claim"><b>Not attested: a claim.</b> No instructor has observed or signed '
            "anything on this page. A learner can write the files that it was made from.</section>"
        )
    keys = Markup("").join(
        Markup("<div><code>{}</code></div>").format(key) for key in dict.fromkeys(item.key for item in signed)
    )
    rows = [row for item in signed for row in _rows(item.report, titles, _signature(item))]
    return Markup(
        '<h2>Attested</h2><section class="card attested"><b>Attested.</b> An instructor observed the learner\'s '
        "cluster with their own credentials and signed what they saw. The signatures were verified when this "
        "page was made, with the public key that its maker trusts:{keys}"
        "<small>Check them yourself: save a signed Report below and run "
        "<code>course verify FILE --signature-only --key KEY</code> with the key your instructor publishes.</small>"
        "</section>{results}"
    ).format(keys=keys, results=table((*_HEAD, "signed"), rows, numbers=(1,)))


def _claimed_part(claims: Mapping[str, Report], titles: Mapping[str, str]) -> Markup:
    rows = [row for report in claims.values() for row in _rows(report, titles)]
    return Markup(
        '<h2>Claimed</h2><section class="card claim"><b>A claim.</b> These labs were graded by the learner\'s own '
        "runs only; nobody attests them.</section>{}"
    ).format(table(_HEAD, rows, numbers=(1,)))


_HEAD = ("lab", "points", "checks", "observed", "on")


def _rows(report: Report, titles: Mapping[str, str], *more: str) -> Iterable[list[str]]:
    cluster = report.cluster
    gpu = GPU_WORDS.get(cluster.gpu or "", str(cluster.gpu))
    place = f"Kubernetes {cluster.server_version}, {gpu}" if cluster.uid else "no cluster answered"
    for lab in dict.fromkeys(result.lab for result in report.verdicts):
        part = report.of_lab(lab)
        standing = report.standing if report.pending else part.standing
        yield [
            f"{lab} {titles.get(lab, '')}",
            f"{part.earned:g} / {part.possible:g}",
            standing,
            day(report.graded_at),
            place,
            *more,
        ]


def _signature(item: Attested) -> Markup:
    data = base64.b64encode(json.dumps(item.document, ensure_ascii=False).encode()).decode()
    name = f"report-{item.report.lab.replace(',', '-')}.json"
    when = str(item.document["signature"].get("signed_at", ""))
    return Markup(
        "{by}<br><small>at {when}</small><br>"
        '<a download="{name}" href="data:application/json;base64,{data}">signed Report</a>'
    ).format(by=item.report.attested_by or "", when=when, name=name, data=data)
