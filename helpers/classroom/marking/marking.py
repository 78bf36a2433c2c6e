"""Grading a class: every learner is observed again with the instructor's credentials, and attested.

Nothing that a learner says, keeps or signs is read on the way: not their reports, not their journals,
not their seat's nonce. What is observed is bound to the learner, signed and appended to their history
before the next one is waited for, so an interruption loses nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.classroom.marking.observed import Observed
from helpers.classroom.marking.runs import Run
from helpers.classroom.marking.scheduler import JOBS, PER_SERVER, Place, Scheduler, Seen, is_broken
from helpers.classroom.records.attest import KeyRing
from helpers.classroom.records.history import Attempt, History
from helpers.errors import EnvironmentFault, LabError, NoClusterChosen
from helpers.grading.engine import RUN_TIMEOUT_S, environment_report, grade
from helpers.grading.report import Binding, Report

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.cluster import Cluster
    from helpers.grading.declare import Lab
    from helpers.grading.runtime import Runtime

LabsOf = Callable[["Member"], Sequence["Lab"]]


class WrongCluster(EnvironmentFault):
    """What answered is not the cluster, or not the learner's cluster, that the class knows."""


@dataclass(frozen=True)
class Marked:
    """One learner's result: the signed Report as it was kept, and whether it is a new attempt."""

    member: Member
    report: Report
    attempt: Attempt
    is_new: bool

    @property
    def is_broken(self) -> bool:
        """Whether the environment kept any check from being judged."""
        return is_broken(self.report)


def labs_for(numbers: Sequence[str], hidden: Path | None = None) -> LabsOf:
    """Which labs a learner is graded in: the course's, or copies of them with the hidden checks.

    Args:
        hidden: the instructor's package of hidden checks.
    """
    from helpers.labs.registry import load_lab

    if hidden is None:
        labs = list(dict.fromkeys(load_lab(number) for number in numbers))
        return lambda member: labs
    from helpers.classroom.marking.hidden import load_hidden
    from helpers.classroom.seats.variables import variables

    package = load_hidden(hidden)
    ids = [load_lab(number).id for number in numbers]
    return lambda member: package.labs(ids, variables(member.nonce))


def binding_of(folder: ClassFolder, member: Member) -> Binding:
    """Whose result a Report of this member is."""
    return Binding(folder.name, member.learner.id, member.nonce, member.suffix)


def places(folder: ClassFolder, members: Sequence[Member]) -> list[Place[Member]]:
    """Where each member is looked at: on the shared cluster, or on their own."""
    return [_place(folder, member) for member in members]


def _place(folder: ClassFolder, member: Member) -> Place[Member]:
    if member.kubeconfig is None and not member.suffix:
        return Place(member, f"none of {member.key}", partial(_no_cluster, member))
    return Place(member, str(member.kubeconfig or "shared"), partial(folder.instructor_cluster, member))


def _no_cluster(member: Member) -> Cluster:
    raise NoClusterChosen(
        f"{member.learner.id} has no cluster in this class yet",
        next_command=f"course class add-cluster {member.learner.id} --kubeconfig FILE",
    )


def observer(folder: ClassFolder, labs_of: LabsOf) -> Callable[[Member, Cluster, float], Report]:
    """One look at one learner: grade what is there now, with the instructor's journal."""

    def look(member: Member, server: Cluster, deadline_s: float) -> Report:
        cluster = _in_namespaces_of(member, server)
        uid = cluster.view().get("Namespace", "kube-system").uid
        if member.kubeconfig is None and folder.cluster_uid and uid != folder.cluster_uid:
            raise WrongCluster(
                f"the shared cluster is another one ({uid}) than the class was created on ({folder.cluster_uid})",
                next_command="course class list",
            )
        _check_seat(member, cluster)
        home = folder.journals_dir(member)
        report = grade(list(labs_of(member)), cluster, deadline_s=deadline_s, journals=home)
        return replace(report, binding=binding_of(folder, member))

    return look


def _in_namespaces_of(member: Member, server: Cluster) -> Cluster:
    """The server's cluster seen in this member's namespaces; its connections are shared."""
    from helpers.cluster import Cluster, Scope

    if server.scope.suffix == member.suffix:
        return server
    return Cluster(server.backend, scope=Scope(member.suffix), clock=server.clock)


def _check_seat(member: Member, cluster: Cluster) -> None:
    """A seat that is somebody else's: the kubeconfig leads to another learner's cluster.

    A seat that is missing proves nothing: on a cluster of their own a learner can delete it.
    """
    from helpers.grading.seat import read_seat

    seat = read_seat(cluster.view())
    if seat is None or not seat.learner or seat.learner.lower() == member.learner.id.lower():
        return
    raise WrongCluster(
        f"the seat in this cluster is {seat.learner}'s, not {member.learner.id}'s",
        next_command=f"course class add-cluster {member.learner.id} --kubeconfig FILE",
    )


class Marker:
    """Takes up what was observed, learner by learner: attests, signs, keeps, and notes it in the run."""

    def __init__(self, folder: ClassFolder, run: Run, labs_of: LabsOf) -> None:
        self._folder, self._run, self._labs_of = folder, run, labs_of
        self._keys = KeyRing(folder.path)
        self._clusters: dict[tuple[str, str], str] = {}

    def take(self, seen: Seen[Member]) -> Marked:
        """Keep one learner's result; the attempt that is there already when nothing has changed."""
        member = seen.who
        report = seen.report or self._not_observed(member, seen.fault)
        twin = self._twin(member, report)
        if twin:
            report = self._not_observed(
                member,
                WrongCluster(
                    f"the cluster of {member.learner.id} is the cluster of {twin} too: one of them is not theirs",
                    next_command=f"course class add-cluster {member.learner.id} --kubeconfig FILE",
                ),
            )
        history = History(self._folder.history_dir(member))
        before = history.count()
        attempt = history.add("attested", self._signed(member, report))
        Observed(self._folder.path, member.key).take(report)
        self._run.record(member.learner.id, attempt.number, broken=is_broken(report))
        return Marked(member, report, attempt, history.count() > before)

    def _signed(self, member: Member, report: Report) -> dict[str, Any]:
        key = self._keys.current()
        attested = replace(
            report,
            attested_by=f"the instructor of class {self._folder.name} (key {key.id})",
            binding=binding_of(self._folder, member),
        )
        return self._keys.sign(json.loads(attested.to_json()))

    def _not_observed(self, member: Member, fault: LabError | None) -> Report:
        cause = fault or EnvironmentFault("the learner was not observed")
        return environment_report(list(self._labs_of(member)), cause)

    def _twin(self, member: Member, report: Report) -> str | None:
        """Another learner who was seen in the same namespaces of the same cluster."""
        if report.cluster.uid is None:
            return None
        where = (report.cluster.uid, member.suffix)
        first = self._clusters.setdefault(where, member.learner.id)
        return first if first != member.learner.id else None


@dataclass(frozen=True)
class Progress:
    """How far a run is: learners done, of all; looked at now; servers that went away and are waited for."""

    done: int
    total: int
    running: int
    away: tuple[str, ...] = ()


def mark(
    folder: ClassFolder,
    run: Run,
    members: Sequence[Member],
    labs_of: LabsOf,
    *,
    deadline_s: float | None = None,
    jobs: int = JOBS,
    per_server: int = PER_SERVER,
    on_progress: Callable[[Progress], None] | None = None,
    runtime: Runtime | None = None,
) -> Iterator[Marked]:
    """Grade these members, each once; what has been yielded has been kept.

    Args:
        deadline_s: one learner's, in seconds; a minute and the checks' windows unless given.
        jobs: how many learners are looked at together; `per_server` bounds those of one API server.
    """
    windows_s = sum(check.window_s for lab in labs_of(members[0]) for check in lab.checks) if members else 0
    scheduler = Scheduler(
        places(folder, members),
        observer(folder, labs_of),
        deadline_s=deadline_s or RUN_TIMEOUT_S + windows_s,
        jobs=jobs,
        per_server=per_server,
        runtime=runtime,
    )
    marker = Marker(folder, run, labs_of)
    for done, seen in enumerate(scheduler.results(), start=1):
        marked = marker.take(seen)
        if on_progress:
            on_progress(Progress(done, len(members), scheduler.running, tuple(scheduler.away)))
        yield marked
