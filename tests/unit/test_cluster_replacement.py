"""What cannot be edited in place is made anew: asked about first, and nothing is lost in silence."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.cluster.faults import Response
from helpers.errors import HalfReplaced, Refused

SPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}}


def pod(name: str = "guest", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "run", "image": "course.local/toolbox:1", "command": ["sleep", "5"]}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "llm-system"},
        "spec": {"containers": containers, **spec},
    }


def store(*, mounts: str = "storage", size: str = "1Gi") -> dict[str, Any]:
    container = {"name": "qdrant", "image": "q", "volumeMounts": [{"name": mounts, "mountPath": "/data"}]}
    claim = {"metadata": {"name": "storage"}, "spec": {"resources": {"requests": {"storage": size}}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "qdrant", "namespace": "llm-system"},
        "spec": {
            "selector": {"matchLabels": {"app": "qdrant"}},
            "template": {"metadata": {"labels": {"app": "qdrant"}}, "spec": {"containers": [container]}},
            "volumeClaimTemplates": [claim],
        },
    }


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(SPACE)


def only(cluster: FakeCluster, manifest: dict[str, Any]) -> Any:
    (change,) = cluster.diff(manifest, replacing=True)
    return change


TOLERATES = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
OTHER = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}]


def test_a_modified_toleration_previews_as_a_replacement_and_is_one(cluster: FakeCluster) -> None:
    cluster.apply(pod(tolerations=TOLERATES))
    before = cluster.view().pod("guest", "llm-system")
    change = only(cluster, pod(tolerations=OTHER))
    assert change.action == "replace" and "what runs in it ends" in change.reason
    assert cluster.apply_or_replace(pod(tolerations=OTHER)).action == "replaced"
    after = cluster.view().pod("guest", "llm-system")
    assert after.uid != before.uid and after.path("spec.tolerations") == OTHER


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_started_again_by_the_same_text(cluster: FakeCluster, phase: str) -> None:
    cluster.apply(pod())
    cluster.set_status("Pod", "guest", {"phase": phase}, "llm-system")
    change = only(cluster, pod())
    assert change.action == "replace" and f"has ended ({phase})" in change.reason
    cluster.apply_or_replace(pod())
    assert cluster.view().pod("guest", "llm-system").phase != phase


def test_a_pod_that_runs_as_written_stays(cluster: FakeCluster) -> None:
    cluster.apply(pod())
    cluster.set_status("Pod", "guest", {"phase": "Running"}, "llm-system")
    uid = cluster.view().pod("guest", "llm-system").uid
    assert only(cluster, pod()).action == "none"
    assert cluster.apply_or_replace(pod()).action == "unchanged"
    assert cluster.view().pod("guest", "llm-system").uid == uid


def test_a_job_that_is_complete_runs_again(cluster: FakeCluster) -> None:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "run", "image": "i"}]}}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "one-learner", "namespace": "llm-system"},
        "spec": {"template": template},
    }
    cluster.apply(job)
    done = {"conditions": [{"type": "Complete", "status": "True"}]}
    cluster.set_status("Job", "one-learner", done, "llm-system")
    assert only(cluster, job).action == "replace"
    assert cluster.apply_or_replace(job).action == "replaced"
    assert cluster.view().get("Job", "one-learner", "llm-system").conditions("Complete") is None


def test_a_replacement_that_could_not_be_created_is_refused_and_deletes_nothing(cluster: FakeCluster) -> None:
    cluster.apply(store())
    uid = cluster.view().stateful_set("qdrant").uid
    wrong = store(mounts="data", size="2Gi")
    change = only(cluster, wrong)
    assert change.action == "refused" and 'volumeMounts[0].name: Not found: "data"' in change.reason
    with pytest.raises(Refused, match="Not found"):
        cluster.apply_or_replace(wrong)
    assert cluster.view().stateful_set("qdrant").uid == uid


def test_a_text_that_no_new_object_could_have_is_refused_for_its_own_fault(cluster: FakeCluster) -> None:
    cluster.apply(store())
    change = only(cluster, store(mounts="data"))
    assert change.action == "refused" and 'volumeMounts[0].name: Not found: "data"' in change.reason
    assert "deleted" not in change.reason


def test_a_larger_claim_of_a_stateful_set_is_a_replacement_that_keeps_its_data(cluster: FakeCluster) -> None:
    cluster.apply(store())
    change = only(cluster, store(size="2Gi"))
    assert change.action == "replace" and "claims keep their data" in change.reason


def test_a_replacement_that_fails_half_way_says_what_is_gone(cluster: FakeCluster) -> None:
    cluster.apply(store())
    deleted: list[str] = []

    def full(method: str, path: str) -> Response | None:
        deleted.extend([path] if method == "DELETE" else [])
        if method == "PATCH" and deleted:
            body = b'{"kind": "Status", "status": "Failure", "message": "exceeded quota: small", "code": 403}'
            return Response(403, body)
        return None

    cluster.fail_with(full)
    with pytest.raises(HalfReplaced, match=r"StatefulSet qdrant is gone: .* exceeded quota: small"):
        cluster.apply_or_replace(store(size="2Gi"))
    cluster.fail_with(None)
    assert cluster.view().find("StatefulSet", "qdrant", "llm-system") is None


def test_a_full_quota_does_not_stand_against_replacing_what_fills_it(cluster: FakeCluster) -> None:
    hard = {"pods": "1"}
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "small", "namespace": "llm-system"},
            "spec": {"hard": hard},
        }
    )
    cluster.apply(pod(tolerations=TOLERATES))
    assert only(cluster, pod(tolerations=OTHER)).action == "replace"
    assert cluster.apply_or_replace(pod(tolerations=OTHER)).action == "replaced"


def test_a_claim_that_a_pod_uses_is_not_given_up(cluster: FakeCluster) -> None:
    def claim(storage_class: str) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "cache", "namespace": "llm-system"},
            "spec": {"storageClassName": storage_class, "resources": {"requests": {"storage": "1Gi"}}},
        }

    cluster.apply(claim("slow"))
    assert "all data on its volume is lost" in only(cluster, claim("fast-nvme")).reason
    volume = {"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}
    cluster.apply(pod("vllm", volumes=[volume]))
    change = only(cluster, claim("fast-nvme"))
    assert change.action == "refused" and "pod vllm uses the claim" in change.reason
    assert change.held_by == "vllm"


def test_what_only_a_controller_changed_is_not_called_changed(cluster: FakeCluster) -> None:
    cluster.apply(pod())
    asked: list[str] = []

    def controller(method: str, path: str) -> Response | None:
        if method == "PATCH" and not asked:
            asked.append(path)
            cluster.set_status("Pod", "guest", {"phase": "Running", "podIP": "10.0.0.9"}, "llm-system")
        return None

    cluster.fail_with(controller)
    (applied,) = cluster.apply(pod())
    assert asked and applied.action == "unchanged"
