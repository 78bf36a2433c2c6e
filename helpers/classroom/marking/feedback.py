"""What goes back to learners: their own Report, signed, with hidden checks closed or opened."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.classroom.records.attest import KeyRing
from helpers.classroom.records.gradebook import results
from helpers.classroom.records.history import History
from helpers.errors import LabError
from helpers.grading.export.markdown import to_markdown
from helpers.grading.export.results import Result, write
from helpers.grading.redact import redact

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.classroom.marking.hidden import HiddenPackage


@dataclass(frozen=True)
class Told:
    """Whether one learner's seat says how many hidden checks there are, or why it does not."""

    learner: str
    problem: str = ""


def labs_in_history(folder: ClassFolder, members: Iterable[Member]) -> list[str]:
    """Every lab that anybody was graded in."""
    histories = (History(folder.history_dir(member)).attempts() for member in members)
    return sorted(
        {verdict.lab for attempts in histories for item in attempts for verdict in item.report.verdicts}
    )


def shown_results(
    folder: ClassFolder, members: Sequence[Member], labs: Sequence[str], *, opened: bool
) -> list[Result]:
    """The class's results as learners may see them."""
    found = results(folder, members, labs)
    return [replace(item, report=redact(item.report, opened=opened)) for item in found]


def write_feedback(
    folder: ClassFolder, members: Sequence[Member], labs: Sequence[str], target: Path, *, opened: bool
) -> int:
    """A folder for each learner with each lab's Report: signed JSON, and Markdown; how many Reports.

    Closing or opening hidden checks changes a Report, so it is signed again here.
    """
    ring = KeyRing(folder.path)
    written = 0
    keys = {member.learner.id: member.key for member in members}
    for result in shown_results(folder, members, labs, opened=opened):
        home = target / keys[result.learner.id]
        name = f"lab-{result.report.lab}"
        signed = ring.sign(result.report.to_dict())
        write(home / f"{name}.json", json.dumps(signed, ensure_ascii=False, indent=2) + "\n")
        write(home / f"{name}.md", to_markdown(result.report, title=f"Lab {result.report.lab}"))
        written += 1
    return written


def announce(folder: ClassFolder, members: Iterable[Member], package: HiddenPackage | None) -> Iterable[Told]:
    """Write into each learner's seat how many hidden checks each lab has; without a package, none.

    Only the count and the points: the package itself stays where it is.
    """
    from helpers.grading.seat import SEAT, SEAT_NAMESPACE

    summary = package.summary() if package else {}
    told = {lab: {"count": item.count, "points": item.points} for lab, item in summary.items()}
    seat = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": SEAT, "namespace": SEAT_NAMESPACE},
        "data": {"hidden": json.dumps(told)},
    }
    for member in members:
        try:
            cluster = folder.instructor_cluster(member)
            if cluster.view().find("ConfigMap", SEAT, SEAT_NAMESPACE) is None:
                yield Told(member.learner.id, "has no seat on the cluster")
                continue
            cluster.apply(seat, field_manager="course-hidden")
            yield Told(member.learner.id)
        except LabError as problem:
            yield Told(member.learner.id, str(problem))
