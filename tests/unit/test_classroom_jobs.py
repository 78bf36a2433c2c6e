"""Grading inside the cluster, on a fake one: what a pod does, what is collected, what a death leaves."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helpers.classroom.folder import Member
from helpers.classroom.marking import jobs, shard
from helpers.classroom.marking.jobs import JobFailed, collect, job_name, mark_in_cluster, plan_of
from helpers.classroom.marking.marking import LabsOf
from helpers.classroom.marking.runs import Run
from helpers.classroom.marking.shard import OtherCourse, Plan, class_of, work
from helpers.classroom.records.history import History
from helpers.cluster import Cluster
from helpers.cluster.profile import Profile
from helpers.embedded.images import grader
from helpers.grading.journal import journal_for
from helpers.grading.report import Report
from helpers.labs.registry import lab_ids
from helpers.settings import REPOSITORY, graded_files
from tests.unit.class_world import Room, do, room, statuses, tiny_lab

LEARNERS = ("ada", "lin", "mei", "sam", "tom")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A class on a cluster that has the grader's image, and no time to wait."""
    made = room(tmp_path / "class", *LEARNERS)
    for name in LEARNERS[:3]:
        do(made.of(name), "yes", moment="now")
    do(made.of("sam"), "no")
    monkeypatch.setattr(jobs, "POLL_S", 0.0)
    monkeypatch.setattr("helpers.classroom.marking.marking.labs_for", lambda numbers, hidden=None: labs_of)
    profile = Profile(name="generic", images={"grader": "registry.example/grader:1"})
    monkeypatch.setattr(Cluster, "profile", lambda self, **options: profile)
    monkeypatch.setattr(Room, "shared_cluster", lambda self: Cluster(self.shared.backend), raising=False)
    monkeypatch.setattr(
        "helpers.classroom.folder.ClassFolder.instructor_cluster",
        lambda self, member: made.instructor_cluster(member),
    )
    return made


labs_of: LabsOf = lambda member: [tiny_lab()]  # noqa: E731


def begun(folder: Room) -> tuple[Run, list[Member]]:
    return Run.begin(folder.path, ["01"], list(LEARNERS), {}), list(folder.members)


def planned(folder: Room, shards: int = 2) -> Plan:
    run, members = begun(folder)
    return plan_of(folder, run, members, labs_of, shards=shards, deadline_s=None)


def pods(folder: Room, plan: Plan, path: Path, *indices: int) -> int:
    """Run the pods of a Job, one after the other; how many learners they graded."""
    server = Cluster(folder.shared.backend)
    total = 0
    for index in indices:
        total += work(plan, index, class_of(plan, index, path / str(index)), server, None)
    return total


def put_in_place(folder: Room, plan: Plan) -> Cluster:
    cluster = Cluster(folder.shared.backend)
    jobs.start(cluster, plan, None)
    return cluster


def finish(cluster: Cluster, plan: Plan) -> None:
    condition = {"type": "Complete", "status": "True", "message": "Reached expected number of succeeded pods"}
    path = f"/apis/batch/v1/namespaces/{plan.namespace}/jobs/{job_name(plan.run)}"
    cluster.backend.request("PATCH", f"{path}/status", body={"status": {"conditions": [condition]}},
                            content_type="application/merge-patch+json")  # fmt: skip


def test_a_plan_travels_whole_and_shares_everybody_out_once(folder: Room) -> None:
    plan = planned(folder, shards=3)
    again = Plan.from_bytes(plan.to_bytes())
    assert again == plan
    shared = [item["id"] for index in range(3) for item in plan.share(index)]
    assert sorted(shared) == sorted(LEARNERS) and plan.shards == 3
    assert planned(folder, shards=50).shards == len(LEARNERS)


def test_pods_grade_and_this_machine_signs(folder: Room, tmp_path: Path) -> None:
    plan = planned(folder)
    cluster = put_in_place(folder, plan)
    assert pods(folder, plan, tmp_path, 0, 1) == 5
    finish(cluster, plan)
    found = {seen.who.learner.id: seen.report for seen in collect(cluster, plan, folder, folder.members)}
    words = {
        name: " ".join(item.status for item in report.verdicts) for name, report in found.items() if report
    }
    assert words["ada"] == "PASS PASS PASS" and words["sam"] == "PASS FAIL FAIL"
    assert words["tom"] == "NOT_ATTEMPTED BLOCKED BLOCKED"
    assert all(report and report.attested_by is None for report in found.values()), "a pod signs nothing"


def test_nothing_secret_is_put_into_the_cluster(folder: Room) -> None:
    from helpers.classroom.records.attest import KeyRing

    KeyRing(folder.path).current()
    seed = (folder.path / "keys" / "signing.json").read_text()
    plan = planned(folder)
    put_in_place(folder, plan)
    assert plan.namespace == "course-marking-class", (
        "not the class's own: its service accounts are the learners'"
    )
    assert not [value for value in map(str, folder.shared.backend.objects.values()) if seed[60:80] in value]


def test_a_pod_that_starts_anew_leaves_out_whoever_has_a_result(folder: Room, tmp_path: Path) -> None:
    plan = planned(folder)
    put_in_place(folder, plan)
    assert pods(folder, plan, tmp_path, 0) == 3
    assert pods(folder, plan, tmp_path, 0) == 0
    assert pods(folder, plan, tmp_path, 0, 1) == 2


def test_an_image_with_other_checks_is_refused(folder: Room, tmp_path: Path) -> None:
    plan = replace(planned(folder), sources="another")
    put_in_place(folder, plan)
    with pytest.raises(OtherCourse):
        pods(folder, plan, tmp_path, 0)


def test_who_has_no_result_when_the_job_has_ended_was_not_judged(folder: Room, tmp_path: Path) -> None:
    plan = planned(folder)
    cluster = put_in_place(folder, plan)
    pods(folder, plan, tmp_path, 0)
    finish(cluster, plan)
    found = list(collect(cluster, plan, folder, folder.members))
    lost = {seen.who.learner.id for seen in found if seen.report is None}
    assert lost == {"lin", "sam"} and all(
        isinstance(seen.fault, JobFailed) for seen in found if not seen.report
    )


def test_a_pod_that_cannot_start_ends_the_wait(folder: Room) -> None:
    plan = planned(folder)
    cluster = put_in_place(folder, plan)
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff"}}}
    folder.shared.add_pod(
        "marking-0", plan.namespace, labels={shard.RUN_LABEL: plan.run}, phase="Pending",
        status={"containerStatuses": [waiting]},
    )  # fmt: skip
    with pytest.raises(JobFailed, match="ImagePullBackOff"):
        list(collect(cluster, plan, folder, folder.members))


def test_what_a_pod_saw_once_is_remembered_here(folder: Room, tmp_path: Path) -> None:
    plan = planned(folder)
    cluster = put_in_place(folder, plan)
    pods(folder, plan, tmp_path, 0, 1)
    finish(cluster, plan)
    list(collect(cluster, plan, folder, folder.members))
    ada = folder.member("ada")
    uid = str(cluster.identity().uid)
    kept = journal_for("01", uid, suffix=ada.suffix, home=folder.journals_dir(ada)).entry("once")
    assert kept and kept.observed == "now"
    later = plan_of(folder, *begun(folder), labs_of, shards=1, deadline_s=None)
    do(folder.of("ada"), "yes", moment="over")
    report = in_a_pod(folder, later, tmp_path / "later", "ada")
    assert [item.status.value for item in report.verdicts] == ["PASS", "PASS", "PASS"]


def in_a_pod(folder: Room, plan: Plan, path: Path, learner: str) -> Report:
    cluster = put_in_place(folder, plan)
    pods(folder, plan, path, *range(plan.shards))
    finish(cluster, plan)
    found = {seen.who.learner.id: seen.report for seen in collect(cluster, plan, folder, folder.members)}
    report = found[learner]
    assert report is not None
    return report


def test_a_client_that_died_collects_the_rest_and_takes_nobody_twice(
    folder: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Job's pods are run by the first poll; the client dies after two learners."""
    run, members = begun(folder)
    monkeypatch.setattr(jobs, "_check_pods", runs_pods(folder, tmp_path))
    marking = mark_in_cluster(folder, run, members, labs_of, shards=2)
    first = {next(marking).member.learner.id for _ in range(2)}
    marking.close()
    resumed = Run.last_unfinished(folder.path)
    left = [folder.member(name) for name in resumed.left()]
    rest = {
        item.member.learner.id: item for item in mark_in_cluster(folder, resumed, left, labs_of, shards=2)
    }
    assert set(rest) == set(LEARNERS) - first and resumed.left() == []
    assert {len(History(folder.history_dir(member)).attempts()) for member in members} == {1}
    assert {name: statuses(item) for name, item in rest.items() if name == "tom"} in (
        {}, {"tom": "NOT_ATTEMPTED BLOCKED BLOCKED"},
    )  # fmt: skip
    view = folder.shared.view()
    assert view.find("Namespace", "course-marking-class") is None, "nothing of the grader is left"
    assert view.find("ClusterRoleBinding", "course-marking-class") is None


def runs_pods(folder: Room, path: Path) -> Callable[..., None]:
    done: list[str] = []

    def check(cluster: Cluster, plan: Plan, started: float) -> None:
        if plan.run not in done:
            done.append(plan.run)
            pods(folder, plan, path, *range(plan.shards))

    return check


def test_a_cluster_without_the_image_says_what_lacks(folder: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    bare: Any = Profile(name="generic", images={})
    monkeypatch.setattr(Cluster, "profile", lambda self, **options: bare)
    with pytest.raises(JobFailed, match="no image that runs the course"):
        put_in_place(folder, planned(folder))


def test_the_grader_s_image_has_the_checks_of_all_labs_and_the_files_that_its_digest_is_made_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = {str(path.relative_to(REPOSITORY)) for path in graded_files()}
    labs = (REPOSITORY / "helpers/labs").glob("lab*")
    assert {f"helpers/labs/{folder.name}/checks.py" for folder in labs} < names
    assert not [name for name in names if name.startswith(("helpers/embedded/", "helpers/notebook/"))]
    # Of what runs in clusters, only what checks read learners' files with; and the Jobs of witnesses.
    of_apps = {Path(name).parent.name for name in names if name.startswith("helpers/apps/")}
    assert of_apps == {"apps", "orchestrator", "evals", "data"}
    assert "helpers/apps/orchestrator/service.py" not in names
    assert {"manifests/labs/02/queue-witness.yaml", "manifests/labs/07/witness-gate.yaml"} < names
    image, digest = grader.key(), shard.sources_digest()
    for module in (grader, shard):
        monkeypatch.setattr(module, "graded_files", lambda: graded_files()[1:])
    assert grader.key() != image and shard.sources_digest() != digest


def test_the_grader_s_files_alone_have_every_check(tmp_path: Path) -> None:
    for path in graded_files():
        target = tmp_path / path.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    program = (
        "import sys; sys.path = [p for p in sys.path if p not in ('', sys.argv[1])]; sys.path.insert(0, sys.argv[2])\n"
        "from helpers.labs.registry import lab_ids, load_labs\n"
        "print(*(lab.id for lab in load_labs(lab_ids())))\n"
        "print(*({name.partition('.')[0] for name in sys.modules}))"
    )
    command = [sys.executable, "-c", program, str(REPOSITORY), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    labs, loaded = (line.split() for line in done.stdout.splitlines())
    assert labs == lab_ids()
    assert not {"marimo", "altair", "onnxruntime", "qdrant_client", "deepeval"} & set(loaded)
