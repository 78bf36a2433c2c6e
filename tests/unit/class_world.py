"""A class on fake clusters: a lab of three checks, learners in any state, a folder under tmp_path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from helpers.classroom.folder import ClassFolder, Member
from helpers.classroom.marking.marking import Marked, mark
from helpers.classroom.marking.runs import Run
from helpers.classroom.roster import Learner
from helpers.cluster import Cluster, Scope
from helpers.cluster.fake import FakeCluster
from helpers.grading import Lab, Verdict, expect

APPS = "llm-apps"


def tiny_lab() -> Lab:
    """Three checks on one ConfigMap: it is there, it says yes, and it was seen to say "now" once."""
    lab = Lab("01", "Tiny")

    @lab.check("there", points=1, timeout_s=60)
    def there(cluster: Any) -> Verdict:
        """The work exists."""
        work = cluster.get("ConfigMap", "work", APPS)
        return expect(work.name, equals="work", evidence=work)

    @lab.check("right", points=2, needs=["there"], timeout_s=60)
    def right(cluster: Any) -> Verdict:
        """The work says yes."""
        work = cluster.get("ConfigMap", "work", APPS)
        return expect(work.path("data.answer"), equals="yes", evidence=work)

    @lab.check("once", points=1, needs=["there"], mode="edge", timeout_s=60)
    def once(cluster: Any) -> Verdict:
        """The work said now, once."""
        work = cluster.get("ConfigMap", "work", APPS)
        return expect(work.path("data.moment"), equals="now", evidence=work)

    return lab


def work(answer: str, **data: str) -> dict[str, Any]:
    """What a learner applies."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "work", "namespace": APPS},
        "data": {"answer": answer, **data},
    }


def do(cluster: Cluster, answer: str, **data: str) -> None:
    """A learner works."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": APPS}})
    cluster.apply(work(answer, **data))


@dataclass(frozen=True)
class Room(ClassFolder):
    """A class folder whose clusters are fakes; a learner without one shares the class's."""

    shared: FakeCluster = field(default_factory=FakeCluster)
    own: dict[str, Callable[[], Cluster]] = field(default_factory=dict)

    def instructor_cluster(self, member: Member) -> Cluster:
        if member.learner.id in self.own:
            return self.own[member.learner.id]()
        return Cluster(self.shared.backend, scope=Scope(member.suffix))

    def of(self, identity: str) -> Cluster:
        """A learner's cluster, for what the learner does there."""
        return self.instructor_cluster(self.member(identity))


def room(path: Path, *shared: str, own: dict[str, Callable[[], Cluster]] | None = None) -> Room:
    """A class with learners on the shared cluster, and others on clusters of their own."""
    learners = [Learner(name, name.title(), f"{name}@example.org") for name in (*shared, *(own or {}))]
    members = [Member.new(learner) for learner in learners]
    members = [
        replace(item, suffix="", kubeconfig=Path(f"/{item.learner.id}"))
        if item.learner.id in (own or {})
        else item
        for item in members
    ]
    made = Room("class", path, members=tuple(members), own=own or {})
    path.mkdir(parents=True, exist_ok=True)
    return replace(made, cluster_uid=made.shared.identity().uid)


def graded(
    folder: Room,
    *,
    lab: Lab | None = None,
    run: Run | None = None,
    learners: Sequence[str] = (),
    **options: Any,
) -> dict[str, Marked]:
    """Grade the class, or what is left of a run; by learner."""
    lab = lab or tiny_lab()
    wanted = learners or [item.learner.id for item in folder.members]
    run = run or Run.begin(folder.path, [lab.id], wanted, {})
    members = [folder.member(identity) for identity in run.left()]
    found = mark(folder, run, members, lambda member: [lab], **options)
    return {item.member.learner.id: item for item in found}


def statuses(marked: Marked) -> str:
    """The verdicts in one line: PASS PARTIAL …"""
    return " ".join(result.status.value for result in marked.report.verdicts)
