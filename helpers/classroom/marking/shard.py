"""One pod of `course class grade --in-cluster`: grades its share of the class, learner by learner.

    python3 -m helpers.classroom.marking.shard

The plan lies under /plan, hidden checks under /hidden. Each result goes into a ConfigMap of its own
as soon as it is there; a pod that starts anew leaves out whoever has one. Nothing is signed here: the
instructor's machine collects what was seen and signs it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import EnvironmentFault, LabError
from helpers.settings import REPOSITORY, graded_files

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.cluster import Cluster
    from helpers.grading.report import Report

PLAN, HIDDEN = Path("/plan"), Path("/hidden")
PLAN_KEY, REPORT_KEY = "plan.json.gz", "result.json.gz"
RUN_LABEL, LEARNER_LABEL = "course.llm-stack/run", "course.llm-stack/graded"
TOGETHER = 4


class OtherCourse(EnvironmentFault):
    """The image holds other checks than the instructor's machine."""


@dataclass(frozen=True)
class Plan:
    """What a Job is to do: the labs, the learners with their nonces, and the instructor's journals.

    `sources` is the digest of the course's own files on the instructor's machine; `journals` are
    files under each learner's journal folder, by the learner's key.
    """

    run: str
    class_name: str
    cluster_uid: str
    namespace: str
    labs: tuple[str, ...]
    shards: int
    deadline_s: float
    sources: str
    course: Mapping[str, Any]
    learners: tuple[Mapping[str, str], ...]
    journals: Mapping[str, Mapping[str, str]]
    hidden: bool = False

    def to_bytes(self) -> bytes:
        """The plan as it travels."""
        return packed(vars(self))

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """Read what `to_bytes` wrote."""
        tree = unpacked(data)
        return cls(**{**tree, "labs": tuple(tree["labs"]), "learners": tuple(tree["learners"])})

    def share(self, index: int) -> list[Mapping[str, str]]:
        """The learners of one pod: every n-th, so that neighbours in the roster are spread."""
        return list(self.learners[index :: self.shards])


def packed(tree: Mapping[str, Any]) -> bytes:
    """JSON, compressed; the same content gives the same bytes."""
    return gzip.compress(json.dumps(tree, ensure_ascii=False).encode(), mtime=0)


def unpacked(data: bytes) -> Any:
    """What `packed` was given."""
    return json.loads(gzip.decompress(data))


def sources_digest() -> str:
    """The course's own files as one digest: two machines with the same one have the same checks."""
    digest = hashlib.sha256()
    for path in graded_files():
        digest.update(str(path.relative_to(REPOSITORY)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def result_name(run: str, key: str) -> str:
    """The ConfigMap that holds one learner's result."""
    return f"result-{run}-{key}"


def result_manifest(plan: Plan, key: str, report: Report, journals: Mapping[str, str]) -> dict[str, Any]:
    """One learner's result as it is kept until it is collected."""
    data = packed({"report": report.to_dict(), "journals": dict(journals)})
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": result_name(plan.run, key),
            "namespace": plan.namespace,
            "labels": {RUN_LABEL: plan.run, LEARNER_LABEL: key},
        },
        "binaryData": {REPORT_KEY: base64.b64encode(data).decode()},
    }


def work(plan: Plan, index: int, folder: ClassFolder, cluster: Cluster, hidden: Path | None) -> int:
    """Grade one share; how many learners were graded.

    Raises:
        OtherCourse: this is not the course that the plan was made with.
    """
    from helpers.classroom.marking.marking import labs_for, observer, places
    from helpers.classroom.marking.scheduler import Scheduler
    from helpers.grading.engine import environment_report
    from helpers.grading.report import CourseVersion

    if plan.sources != sources_digest():
        raise OtherCourse(
            "the image holds other checks than the instructor's machine",
            next_command="course images load grader",
        )
    found = cluster.view().list("ConfigMap", plan.namespace, labels=f"{RUN_LABEL}={plan.run}")
    done = {item.labels.get(LEARNER_LABEL) for item in found}
    members = [member for member in folder.members if member.key not in done]
    _restore(plan, folder, members)
    labs_of = labs_for(plan.labs, hidden)
    scheduler = Scheduler(
        places(folder, members), observer(folder, labs_of), deadline_s=plan.deadline_s, per_server=TOGETHER
    )
    for number, seen in enumerate(scheduler.results(), start=1):
        fault = seen.fault or EnvironmentFault("the learner was not observed")
        report = seen.report or environment_report(list(labs_of(seen.who)), fault)
        report = replace(report, course=CourseVersion(**plan.course))
        kept = journals_of(folder.journals_dir(seen.who))
        cluster.apply(result_manifest(plan, seen.who.key, report, kept))
        print(f"shard {index}: {number} of {len(members)}: {seen.who.learner.id}", flush=True)
    return len(members)


def journals_of(home: Path) -> dict[str, str]:
    """Every journal under a learner's folder, by its path there."""
    return {str(path.relative_to(home)): path.read_text() for path in sorted(home.rglob("*.json"))}


def _restore(plan: Plan, folder: ClassFolder, members: Sequence[Member]) -> None:
    for member in members:
        for name, text in plan.journals.get(member.key, {}).items():
            path = folder.journals_dir(member) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)


def class_of(plan: Plan, index: int, path: Path) -> ClassFolder:
    """The class as far as one pod needs it: its share, reached with the pod's own service account."""
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.classroom.roster import Learner

    members = tuple(
        Member(Learner(item["id"], item["name"], item["email"]), item["suffix"], item["nonce"])
        for item in plan.share(index)
    )
    return ClassFolder(plan.class_name, path, plan.cluster_uid, members)


def main() -> int:
    """A pod's whole life."""
    from helpers.cluster import Cluster, Scope

    plan = Plan.from_bytes((PLAN / PLAN_KEY).read_bytes())
    index = int(os.environ.get("JOB_COMPLETION_INDEX", "0"))
    with tempfile.TemporaryDirectory() as home:
        os.environ["COURSE_HOME"] = home
        folder = class_of(plan, index, Path(home))
        try:
            cluster = Cluster.connect(scope=Scope())
            graded = work(plan, index, folder, cluster, HIDDEN if plan.hidden else None)
        except LabError as fault:
            print(f"shard {index}: {fault}", file=sys.stderr, flush=True)
            Path("/dev/termination-log").write_text(str(fault))
            return 1
    print(f"shard {index}: {graded} learners graded", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
