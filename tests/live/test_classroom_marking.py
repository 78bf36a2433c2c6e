"""A class of twenty on a real API server: good, partial, wrong, absent and cheating, graded right, each.

Everything is done as it is in a classroom: the instructor types `course class …`, learners work with
the kubeconfig they were handed. Lab 01 is graded as it is, with a hidden check on the learner's own
figures beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helpers import cli
from helpers.classroom.folder import ClassFolder
from helpers.classroom.records.history import History
from helpers.classroom.seats.variables import variables
from helpers.cluster import Cluster
from helpers.errors import Forbidden, LabError
from helpers.grading import Report, Verdict, grade
from helpers.grading.journal import journal_for
from helpers.grading.verdict import Status
from helpers.labs.registry import load_lab

pytestmark = pytest.mark.live

NAME = f"marking-{os.getpid()}"
KINDS = {
    "good": [f"good{number}" for number in range(1, 6)],
    "partial": [f"partial{number}" for number in range(1, 5)],
    "wrong": [f"wrong{number}" for number in range(1, 5)],
    "absent": [f"absent{number}" for number in range(1, 5)],
    "cheat": ["copycat", "forger", "vandal"],
}
LEARNERS = [name for names in KINDS.values() for name in names]
HIDDEN = '''
from helpers.classroom.marking.hidden import HiddenLab
from helpers.grading import expect

lab = HiddenLab("01")

@lab.check("hidden.figures", points=4, needs=["quota.gpu"])
def own_figures(cluster, mine):
    """The quota has your own figures."""
    quota = cluster.resource_quota()
    wanted = {name: mine.quota[name] for name in ("limits.cpu", "limits.memory", "pods")}
    hard = quota.path("spec.hard", {})
    return expect({name: hard.get(name) for name in wanted}, equals=wanted, evidence=quota)
'''
# What a quota makes of the checks on it: gpu, fits, brake, the refusal that everybody provokes, own figures.
EXPECTED = {
    "good": "PASS PASS PASS PASS PASS",
    "partial": "PASS PASS PARTIAL PASS PASS",
    "wrong": "PARTIAL BLOCKED BLOCKED BLOCKED BLOCKED",
    "absent": "NOT_ATTEMPTED BLOCKED BLOCKED BLOCKED BLOCKED",
    "copycat": "PASS PASS PASS PASS FAIL",
    "forger": "PASS PASS PASS PASS PASS",
    "vandal": "PASS PASS PASS PASS PASS",
}
CHECKS = ("quota.gpu", "quota.fits", "quota.brake", "refusal.admission", "hidden.figures")


@dataclass(frozen=True)
class School:
    """The class, and where its exports are."""

    folder: ClassFolder
    out: Path
    exit_code: int

    def learner(self, name: str) -> Cluster:
        """A learner's own way in: the kubeconfig they were handed."""
        return Cluster.connect(kubeconfig=self.folder.handout(self.folder.member(name)))

    def report(self, name: str) -> Report:
        """What was kept of a learner, the newest attested."""
        attempts = History(self.folder.history_dir(self.folder.member(name))).attempts()
        return next(item.report for item in reversed(attempts) if item.kind == "attested")


def course(*words: str | Path) -> int:
    return cli.run([str(word) for word in words])


@pytest.fixture(scope="module")
def school(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[School]:
    """The class of twenty, its learners' work done, graded once."""
    home = tmp_path_factory.mktemp("home")
    roster, hidden = home / "roster.csv", home / "hidden"
    roster.write_text(
        "id,name,email\n" + "".join(f"{name},{name.title()},{name}@example.org\n" for name in LEARNERS)
    )
    hidden.mkdir()
    (hidden / "lab01.py").write_text(HIDDEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_KUBECONFIG", str(kubeconfig))
        assert course("class", "create", "--roster", roster, "--name", NAME) == 0
        try:
            made = School(ClassFolder.open(NAME), home, 0)
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(lambda name: work(made, name), LEARNERS))
            outputs = [
                "--csv",
                home / "grades.csv",
                "--junit",
                home / "grades.xml",
                "--json",
                home / "grades.json",
            ]
            code = course("class", "grade", "--labs", "01", "--name", NAME, "--hidden", hidden, *outputs)
            yield School(made.folder, home, code)
        finally:
            course("class", "remove", "--name", NAME, "--yes", "--purge")


def work(school: School, name: str) -> None:
    """What each kind of learner does in lab 01."""
    kind = next(kind for kind, names in KINDS.items() if name in names)
    if kind == "absent":
        return
    cluster = school.learner(name)
    figures = own_quota(school, "good1" if name == "copycat" else name)
    if kind == "partial":
        figures.pop("requests.storage")
    if kind == "wrong":
        figures["requests.nvidia.com/gpu"] = "2"
    cluster.apply(quota_of(figures))
    cluster.apply(greedy())
    if name == "vandal":
        vandalise(cluster)


def own_quota(school: School, name: str) -> dict[str, str]:
    """The lab's quota with a learner's own figures."""
    own = variables(school.folder.member(name).nonce).quota
    hard = {"requests.nvidia.com/gpu": "1", "requests.cpu": "4", "requests.memory": "32Gi"}
    return {**hard, "persistentvolumeclaims": "4", **own}


def quota_of(hard: dict[str, str]) -> dict[str, Any]:
    metadata = {"name": "llm-system-quota", "namespace": "llm-system"}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


def greedy() -> dict[str, Any]:
    """A Deployment that asks for more GPUs than any quota of this lab admits."""
    limits = {"nvidia.com/gpu": "16", "cpu": "1m", "memory": "16Mi"}
    security = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    image = "registry.k8s.io/pause:3.10.2"
    container = {"name": "run", "image": image, "resources": {"limits": limits}, "securityContext": security}
    template = {"metadata": {"labels": {"app": "greedy"}}, "spec": {"containers": [container]}}
    spec = {"selector": {"matchLabels": {"app": "greedy"}}, "template": template}
    metadata = {"name": "greedy", "namespace": "llm-system"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def vandalise(cluster: Cluster) -> None:
    """Delete whatever of the grader's can be found; the API server has the last word."""
    quotas = [item.name for item in cluster.view().list("ResourceQuota", "llm-system")]
    targets = [("ConfigMap", "course-seat", "llm-apps"), ("Namespace", "llm-system", None)]
    targets += [("ResourceQuota", name, "llm-system") for name in quotas if name != "llm-system-quota"]
    for kind, name, namespace in targets:
        with pytest.raises(Forbidden):
            cluster.delete(kind, name, namespace)


def statuses(report: Report) -> str:
    found = {result.check: result.status.value for result in report.verdicts}
    return " ".join(found[check] for check in CHECKS)


def test_everybody_is_graded_right_and_the_command_says_that_some_fell_short(school: School) -> None:
    found = {name: statuses(school.report(name)) for name in LEARNERS}
    kinds = {name: kind for kind, names in KINDS.items() for name in names}
    assert found == {name: EXPECTED.get(name) or EXPECTED[kinds[name]] for name in LEARNERS}
    assert school.exit_code == 1


def test_what_is_exported_has_everybody(school: School) -> None:
    rows = (school.out / "grades.csv").read_text(encoding="utf-8-sig").splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == LEARNERS
    tree = json.loads((school.out / "grades.json").read_text())
    assert all(len(item["reports"]) == 1 and item["reports"][0]["signature"] for item in tree["learners"])
    assert "hidden.figures" in (school.out / "grades.xml").read_text()


def test_a_copied_manifest_passes_in_public_and_not_in_private(school: School) -> None:
    copied, own = school.report("copycat"), school.report("good1")
    public = [item.status for item in copied.verdicts if not item.hidden]
    assert public == [item.status for item in own.verdicts if not item.hidden]
    assert copied.earned == own.earned - 4


def test_a_forged_journal_is_a_claim_that_verify_sees_through(
    school: School, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = school.learner("forger")
    journal = journal_for("01", str(cluster.identity().uid), suffix=cluster.scope.suffix, home=tmp_path)
    for check in ("shapes.one", "idle.waited"):
        journal.record(check, Verdict(Status.PASS, "seen", "seen", credit=1.0), datetime.now(UTC))
    claim = grade([load_lab("01")], cluster, journals=tmp_path)
    believed = {item.check: item.status for item in claim.verdicts}
    assert believed["idle.waited"] is Status.PASS, "the learner's own run believes the learner's own journal"
    attested = {item.check: item.status for item in school.report("forger").verdicts}
    assert attested["idle.waited"] is Status.NOT_ATTEMPTED
    path = tmp_path / "claim.json"
    path.write_text(claim.to_json())
    capsys.readouterr()
    assert course("verify", path, "--name", NAME, "--learner", "forger") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "nobody signed: it is a claim" in said
    assert "idle.waited: it says PASS, the cluster says NOT_ATTEMPTED" in said


def test_an_attested_result_is_verified_against_the_cluster(
    school: School, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    member = school.folder.member("good2")
    attempt = History(school.folder.history_dir(member)).attempts()[0]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(dict(attempt.document)))
    hidden = ["--hidden", school.out / "hidden"]
    capsys.readouterr()
    assert course("verify", path, *hidden) == 0, capsys.readouterr().out
    edited = dict(attempt.document) | {"attested_by": "somebody else"}
    path.write_text(json.dumps(edited))
    assert course("verify", path, *hidden) == 1
    assert "changed after it was signed" in " ".join(capsys.readouterr().out.split())


def test_grading_again_adds_no_attempt_until_something_changes(school: School) -> None:
    arguments = ["class", "grade", "--labs", "01", "--name", NAME, "--hidden", school.out / "hidden"]
    before = counts(school)
    assert course(*arguments) == 1
    assert counts(school) == before
    school.learner("wrong1").apply(quota_of(own_quota(school, "wrong1")))
    assert course(*arguments, "--learner", "wrong1") == 1
    assert counts(school) == {**before, "wrong1": 2}
    assert statuses(school.report("wrong1")) == EXPECTED["good"]


def counts(school: School) -> dict[str, int]:
    return {
        name: len(History(school.folder.history_dir(school.folder.member(name))).attempts())
        for name in LEARNERS
    }


@pytest.mark.skipif(
    "COURSE_TEST_KUBECONFIG" in os.environ, reason="an image is brought into the tests' own node"
)
def test_pods_in_the_cluster_see_what_this_machine_sees(school: School, cluster: Cluster) -> None:
    learners = ["good3", "partial1", "wrong2", "absent1", "copycat"]
    chosen = [word for name in learners for word in ("--learner", name)]
    before = counts(school)
    hidden = ["--hidden", school.out / "hidden"]
    arguments = ["class", "grade", "--labs", "01", "--name", NAME, *hidden, *chosen]
    assert course(*arguments, "--in-cluster", "--shards", "2") == 1
    assert counts(school) == before, "the same verdicts on the same objects: no new attempt"
    assert not cluster.view().find("Namespace", f"course-marking-{NAME}")


def test_the_status_tells_who_has_not_started(school: School, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert course("class", "status", "--name", NAME, "--last", "--json") == 0
    (lab,) = json.loads(capsys.readouterr().out)["labs"]
    states = {item["learner"]: item["state"] for item in lab["learners"]}
    assert {states[name] for name in KINDS["absent"]} == {"not started"}
    assert {states[name] for name in KINDS["good"]} == {"working"}


def test_a_learner_can_neither_read_the_class_nor_sign_for_it(school: School) -> None:
    assert (school.folder.path / "keys" / "signing.json").stat().st_mode & 0o077 == 0
    cluster = school.learner("forger")
    for kind in ("Secret", "ConfigMap"):
        with pytest.raises((Forbidden, LabError)):
            cluster.view().list(kind, f"course-class-{NAME}")
    secret = json.loads((school.folder.path / "keys" / "signing.json").read_text())["seed"]
    everything = b"".join(path.read_bytes() for path in school.folder.path.glob("kubeconfigs/*"))
    assert secret.encode() not in everything
