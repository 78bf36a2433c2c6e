"""What became of the latest releases, from the objects that the cluster keeps of them.

Of each revision there stay its ReplicaSet, the analysis of it, and where the gate was overridden a record. Events
would say more, and the API server drops those of an object that has many.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from helpers.stack import assistant, releases, rollouts

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.cluster.resource import Resource

_SHOWN = 4
# How long all pods take to be replaced, about.
_REPLACED = timedelta(seconds=20)


@dataclass(frozen=True)
class Step:
    """A release's share of the pods from this time on, in per cent, and what its gate said then, if it did."""

    at: datetime
    release: str
    weight: float
    verdict: str = ""


def steps(view: ClusterView, now: datetime | None = None) -> list[Step]:
    """The latest releases' way, by time: the first weight, the verdict, and what came of it."""
    rollout = view.find("Rollout", assistant.ROLLOUT, assistant.NAMESPACE)
    if rollout is None:
        return []
    sets = _replica_sets(view)
    first = _first_weight(rollout)
    runs = {run.revision: run for run in rollouts.gate_runs(view)}
    ended = dict(_ended(view))
    broken = {record.revision: record for record in rollouts.records(view)}
    names, found = _names(sets), list[Step]()
    for item in sets[-_SHOWN:]:
        revision = item.labels[rollouts.HASH]
        name, begun = names[revision], _moment(str(item.metadata["creationTimestamp"]))
        found.append(Step(begun, name, first))
        run = runs.get(revision)
        if run is not None and run.name in ended:
            passed = run.phase == "Successful"
            verdict = run.verdict or run.phase.lower()
            found.append(Step(ended[run.name], name, 100.0 if passed else 0.0, verdict))
        elif run is None:
            found.append(Step(begun + _REPLACED, name, 100.0))
        if revision in broken and broken[revision].at:
            found.append(Step(_moment(broken[revision].at), name, 100.0, "glass broken"))
    return _until_now(sorted(found, key=lambda step: step.at), now or datetime.now(UTC))


def _until_now(found: list[Step], now: datetime) -> list[Step]:
    """A release ends when another one has all pods; the last one goes on, for as long as the picture is wide."""
    ends = []
    for name in dict.fromkeys(step.release for step in found):
        last = [step for step in found if step.release == name][-1]
        later = [
            step.at for step in found if step.weight == 100 and step.at > last.at and step.release != name
        ]
        if last.weight > 0:
            ends.append(Step(later[0], name, 0.0) if later else Step(max(now, last.at), name, last.weight))
    width = (found[-1].at - found[0].at) if found else timedelta()
    latest = found[-1].at + max(width * 0.2, timedelta(seconds=30)) if found else now
    return sorted(
        [*found, *(Step(min(end.at, latest), end.release, end.weight) for end in ends)],
        key=lambda step: step.at,
    )


def _replica_sets(view: ClusterView) -> list[Resource]:
    """The revisions' ReplicaSets, the oldest first."""
    found = [
        item
        for item in view.list("ReplicaSet", assistant.NAMESPACE, labels=assistant.LABELS)
        if item.labels.get(rollouts.HASH) and item.metadata.get("creationTimestamp")
    ]
    return sorted(found, key=lambda item: str(item.metadata["creationTimestamp"]))


def _names(sets: list[Resource]) -> Mapping[str, str]:
    """What each revision is called: its release's name, with a number where one was tried several times."""
    names, seen = {}, dict[str, int]()
    for item in sets:
        annotations = item.path("spec.template.metadata.annotations", {}) or {}
        name = annotations.get(releases.ANNOTATION) or item.name
        seen[name] = seen.get(name, 0) + 1
        names[item.labels[rollouts.HASH]] = name if seen[name] == 1 else f"{name} ({seen[name]})"
    return names


def _first_weight(rollout: Resource) -> float:
    """The share that a candidate has while its gate judges it."""
    listed: list[Any] = rollout.path("spec.strategy.canary.steps", []) or []
    return float(next((step["setWeight"] for step in listed if "setWeight" in step), 100))


def _ended(view: ClusterView) -> list[tuple[str, datetime]]:
    """When each analysis ended, by its name."""
    return [
        (run.name, _moment(measured["finishedAt"]))
        for run in view.list("AnalysisRun", assistant.NAMESPACE)
        for result in run.path("status.metricResults", []) or []
        for measured in result.get("measurements") or []
        if measured.get("finishedAt")
    ]


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
