"""A learner's seat in a class, read from the cluster: who they are there, and which figures are theirs.

The instructor writes ConfigMap `course-seat` into the learner's `llm-apps`; the learner can read it
and nothing more. It is information for the learner: an instructor's run derives everything from the
class's own folder and never believes what stands here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from helpers.errors import LabError
from helpers.grading.report import HiddenChecks, Report

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

SEAT, SEAT_NAMESPACE = "course-seat", "llm-apps"
TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Seat:
    """One learner's seat: `variables` are their own figures, `hidden` the hidden checks of each lab."""

    learner: str
    class_name: str
    nonce: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    hidden: Mapping[str, HiddenChecks] = field(default_factory=dict)

    def pending(self, labs: Iterable[str]) -> HiddenChecks | None:
        """The hidden checks of these labs together; None where there are none."""
        found = [self.hidden[lab] for lab in labs if lab in self.hidden]
        count = sum(item.count for item in found)
        return HiddenChecks(count, round(sum(item.points for item in found), 2)) if count else None


def seat_of(cluster: Cluster) -> Seat | None:
    """The seat of whoever works in this cluster; a cluster that stops answering costs a moment only."""
    from helpers.cluster import Deadline

    return read_seat(cluster.view(Deadline(TIMEOUT_S)))


def read_seat(view: ClusterView) -> Seat | None:
    """The seat of whoever works in this cluster; None outside a class, or where it cannot be read."""
    try:
        found = view.find("ConfigMap", SEAT, SEAT_NAMESPACE)
    except LabError:
        return None
    if found is None:
        return None
    data = found.path("data", {}) or {}
    return Seat(
        learner=str(data.get("learner", "")),
        class_name=str(data.get("class", "")),
        nonce=str(data.get("nonce", "")),
        variables=_object(data.get("variables")),
        hidden=_hidden(_object(data.get("hidden"))),
    )


def with_pending(report: Report, seat: Seat | None) -> Report:
    """A learner's own Report, saying which hidden checks the instructor will add."""
    labs = dict.fromkeys(result.lab for result in report.verdicts)
    return replace(report, pending=seat.pending(labs)) if seat else report


def own_figures(variables: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures of a seat as people read them: what they belong to, and the figure."""
    known = [
        (words.format(unit=unit), f"{variables[name]}{unit}")
        for name, words, unit in _WORDS
        if name in variables
    ]
    rest = [
        (name, str(value)) for name, value in variables.items() if name not in {word[0] for word in _WORDS}
    ]
    return known + rest


_WORDS = (
    ("limits_cpu", "quota limits.cpu", ""),
    ("limits_memory_gib", "quota limits.memory", "Gi"),
    ("requests_storage_gib", "quota requests.storage", "Gi"),
    ("pods", "quota pods", ""),
    ("seat", "label course.dev/seat", ""),
    ("collection", "collection of your own", ""),
)


def _object(text: object) -> dict[str, Any]:
    """A JSON object; what is none is as good as absent."""
    try:
        found = json.loads(str(text or "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _hidden(data: Mapping[str, Any]) -> dict[str, HiddenChecks]:
    found = {}
    for lab, item in data.items():
        try:
            found[lab] = HiddenChecks(int(item["count"]), float(item["points"]))
        except (KeyError, TypeError, ValueError):
            continue
    return found
