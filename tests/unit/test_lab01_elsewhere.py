"""Lab 01 where the learner is not the administrator: it stays solvable, and says what it cannot show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.cluster import Profile, Scope
from helpers.cluster.fake import FakeCluster
from helpers.grading import CheckResult, Status, grade, lifecycle
from helpers.grading.changes import Change, job, manifest
from helpers.labs.lab01_substrate import mutants
from helpers.labs.registry import load_lab
from helpers.stack.gpu import SHARING, WHOLE

LACKS_SLICE = "0/1 nodes are available: 1 Insufficient nvidia.com/mig-1g.10gb."


def graded(cluster: FakeCluster, home: Path) -> dict[str, CheckResult]:
    return {result.check: result for result in grade([load_lab("01")], cluster, journals=home).verdicts}


def tenants_wait(says: str, **asked: Any) -> Change:
    return job(mutants.asking(mutants.JOBS["two-tenants"], **asked), runs=[], says=says)


def test_a_fixed_shape_passes_with_a_request_that_fits_and_says_that_nothing_ran(tmp_path: Path) -> None:
    cluster = FakeCluster(profile=Profile(name="generic", gpu="real"))
    mutants.node()(cluster)
    mutants.SOLUTION(cluster)
    tenants_wait(LACKS_SLICE, gpus={mutants.SLICE: 1})(cluster)
    verdict = graded(cluster, tmp_path)["shapes.tenants"]
    assert verdict.status is Status.PASS
    assert "the administrator of this cluster does not offer this shape" in verdict.observed


def test_a_fixed_shape_does_not_excuse_a_request_that_does_not_fit(tmp_path: Path) -> None:
    cluster = FakeCluster(profile=Profile(name="generic", gpu="real"))
    mutants.node()(cluster)
    mutants.SOLUTION(cluster)
    says = "0/1 nodes are available: 1 node(s) didn't match"
    tenants_wait(says, gpus={WHOLE: 1}, nodeSelector={SHARING: "time-slicing"})(cluster)
    assert graded(cluster, tmp_path)["shapes.tenants"].status is Status.PARTIAL


def test_without_feature_discovery_no_selector_is_demanded(tmp_path: Path) -> None:
    cluster = FakeCluster(profile=Profile(name="generic", gpu="real"))
    mutants.SOLUTION(cluster)
    mutants.runs("one-learner", [(0, 3)], gpus={WHOLE: 1}, nodeSelector={})(cluster)
    assert graded(cluster, tmp_path)["shapes.one"].status is Status.PASS


def test_a_shared_cluster_is_never_tainted_and_tolerations_are_judged_alone(tmp_path: Path) -> None:
    cluster = FakeCluster(scope=Scope("ada"))
    mutants.node()(cluster)
    mutants.SOLUTION(cluster)
    mutants.guard(kept_out=False)(cluster)
    results = graded(cluster, tmp_path)
    assert results["guard.kept_out"].status is Status.PASS
    assert "its instructor's" in results["guard.kept_out"].observed
    mutants.guard(mutants.tolerating(), kept_out=False)(cluster)
    assert graded(cluster, tmp_path / "other")["guard.kept_out"].status is Status.PARTIAL


def test_another_learners_label_is_not_a_stranger(tmp_path: Path) -> None:
    cluster = FakeCluster(scope=Scope("ada"))
    mutants.SOLUTION(cluster)
    cluster.put(manifest("Namespace", "llm-apps-bob-ada", labels={mutants.ROLE_LABEL: mutants.ROLE}))
    assert graded(cluster, tmp_path)["namespaces.label"].status is Status.PASS


def test_the_bounds_of_a_class_and_its_gpu_queue_are_no_answer_of_the_learners(tmp_path: Path) -> None:
    cluster = FakeCluster(scope=Scope("ada"))
    mutants.node()(cluster)
    mutants.SOLUTION(cluster)
    labels = {"course.llm-stack/class": "class"}
    for name, hard in (("course-limits", {"pods": "24"}), ("gpu-turn", {"requests.nvidia.com/gpu": "0"})):
        cluster.apply(manifest("ResourceQuota", name, labels=labels, spec={"hard": hard}))
    results = graded(cluster, tmp_path)
    for check in ("quota.gpu", "quota.fits", "quota.brake"):
        assert results[check].status is Status.PASS, results[check].observed


def test_a_reset_in_a_class_empties_the_namespaces_and_leaves_the_instructors_things(tmp_path: Path) -> None:
    cluster = FakeCluster(scope=Scope("ada"))
    mutants.node()(cluster)
    mutants.SOLUTION(cluster)
    labels = {"course.llm-stack/class": "class"}
    cluster.apply(manifest("ResourceQuota", "course-limits", labels=labels, spec={"hard": {"pods": "24"}}))
    done = lifecycle.reset(load_lab("01"), cluster, lambda line: None, journals=tmp_path)
    assert "deleted ResourceQuota llm-system-quota" in done
    assert [item.name for item in cluster.view().list("ResourceQuota", "llm-system")] == ["course-limits"]
    assert cluster.view().namespace("llm-workshop")
    assert lifecycle.reset(load_lab("01"), cluster, lambda line: None, journals=tmp_path) == []
