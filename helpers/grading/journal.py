"""What was seen once: the journal behind checks of mode "edge".

Some criteria are true for a moment only, such as a pod that was replaced. The first PASS is kept on
disk with its evidence; later runs show it again, after it has been compared with the cluster. A
learner can write into their own journal: it is a claim like the rest of their report, and an
instructor's run keeps a journal of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.atomic_file import locked, read_json, set_aside, write_atomically
from helpers.grading.verdict import Evidence, Status, Verdict
from helpers.settings import home_dir

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

SCHEMA = "course.journal/v1"
CLOCK_SKEW = timedelta(minutes=2)  # between this machine and the API server


@dataclass(frozen=True)
class Entry:
    """One check's first PASS: when, what was observed, and on which objects."""

    check: str
    observed_at: str
    expected: str
    observed: str
    evidence: tuple[Evidence, ...]

    def verdict(self) -> Verdict:
        """The PASS as it was, saying that it is remembered."""
        remembered = f"{self.observed} (seen at {self.observed_at})"
        return replace(self.verdict_as_seen(), observed=remembered)

    def verdict_as_seen(self) -> Verdict:
        """The PASS in the words of the moment: for taking the entry into another journal."""
        return Verdict(
            Status.PASS, expected=self.expected, observed=self.observed, credit=1.0, evidence=self.evidence
        )


class Journal:
    """One lab's journal on one cluster; every write replaces the file in one step."""

    def __init__(self, path: Path, cluster_uid: str) -> None:
        self.path = path
        self.cluster_uid = cluster_uid

    def entry(self, check: str) -> Entry | None:
        """What was kept for this check, or None; a journal of another cluster holds nothing."""
        return self._entries().get(check)

    def record(self, check: str, verdict: Verdict, observed_at: datetime) -> None:
        """Keep a PASS; the first one stays."""
        new = Entry(check, observed_at.isoformat(), verdict.expected, verdict.observed, verdict.evidence)
        with locked(self.path):
            entries = self._entries()
            if check not in entries:
                self._write({**entries, check: new})

    def forget(self) -> bool:
        """Drop all entries: the lab starts over. False when there were none."""
        with locked(self.path):
            had_entries = bool(self._entries())
            self.path.unlink(missing_ok=True)
        return had_entries

    def _entries(self) -> dict[str, Entry]:
        try:
            data = read_json(self.path, SCHEMA)
            if not data or data["cluster"] != self.cluster_uid:
                return {}
            return {name: _entry(name, item) for name, item in data["entries"].items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            set_aside(self.path)
            return {}

    def _write(self, entries: Mapping[str, Entry]) -> None:
        plain = {name: asdict(entry) for name, entry in entries.items()}
        data = {"schema": SCHEMA, "cluster": self.cluster_uid, "entries": plain}
        write_atomically(self.path, json.dumps(data, indent=2))


def _entry(name: str, data: Mapping[str, Any]) -> Entry:
    evidence = tuple(Evidence(**item) for item in data["evidence"])
    datetime.fromisoformat(data["observed_at"])
    return Entry(name, data["observed_at"], data["expected"], data["observed"], evidence)


def journal_for(lab: str, cluster_uid: str, *, suffix: str = "", home: Path | None = None) -> Journal:
    """The journal of a lab on a cluster; `suffix` keeps the learners of one cluster apart."""
    folder = f"{cluster_uid}-{suffix}" if suffix else cluster_uid
    return Journal((home or home_dir()) / "journals" / folder / f"{lab}.json", cluster_uid)


def contradiction(entry: Entry, view: ClusterView, now: datetime) -> str | None:
    """Why the kept evidence cannot be true of this cluster, or None when nothing speaks against it.

    An object that is gone proves nothing. One that is there must not be younger than its own
    observation, and its resourceVersion can only have grown: since Kubernetes 1.35 (KEP-5504)
    resourceVersions of one resource type compare as numbers.
    """
    seen = datetime.fromisoformat(entry.observed_at)
    if seen > now + CLOCK_SKEW:
        return f"it says it was seen at {entry.observed_at}, which is still to come"
    cluster_born = _created(view.get("Namespace", "kube-system").raw)
    if cluster_born and seen < cluster_born - CLOCK_SKEW:
        return f"it was seen at {entry.observed_at}, before the cluster existed"
    for kept in entry.evidence:
        problem = _object_contradiction(kept, view, seen)
        if problem:
            return problem
    return None


def _object_contradiction(kept: Evidence, view: ClusterView, seen: datetime) -> str | None:
    if not kept.uid:
        return None
    live = view.find(kept.kind, kept.name, kept.namespace)
    if live is None:
        return None
    label = f"{kept.kind} {kept.name}"
    born = _created(live.raw)
    if live.uid != kept.uid:
        replaced_before = born is not None and born < seen - CLOCK_SKEW
        return f"{label} had another uid at that time" if replaced_before else None
    if born and seen < born - CLOCK_SKEW:
        return f"{label} was created after it is said to have been seen"
    if _number(kept.resource_version) > _number(live.resource_version):
        return f"{label} never had resourceVersion {kept.resource_version}"
    return None


def _created(raw: Mapping[str, Any]) -> datetime | None:
    stamp = (raw.get("metadata") or {}).get("creationTimestamp")
    return datetime.fromisoformat(stamp) if stamp else None


def _number(resource_version: str | None) -> int:
    return int(resource_version) if resource_version and resource_version.isdigit() else 0
