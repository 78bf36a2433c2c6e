"""The doctor: what a cluster lacks is found by asking and by experiment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.cluster import ExecResult
from helpers.cluster.doctor import Finding, diagnose
from helpers.cluster.fake import FakeCluster
from helpers.cluster.faults import Response
from helpers.cluster.profile import OFFICIAL_IMAGES

ALLOWED = b'{"kind": "SelfSubjectAccessReview", "status": {"allowed": true}}'
NAMED = '{"images": {"orchestrator": "REGISTRY/llm-orchestrator:1"}}'
DENIED = b'{"kind": "SelfSubjectAccessReview", "status": {"allowed": false}}'


class Foreign(FakeCluster):
    """A cluster whose pods start at once, and which enforces policies or does not."""

    def __init__(self, *, enforces: bool, review: bytes = ALLOWED) -> None:
        super().__init__()
        self.enforces, self.review = enforces, review
        self.fail_with(self.answer)
        self.exec_handler = self.connect

    def answer(self, method: str, path: str) -> Response | None:
        if path.endswith("selfsubjectaccessreviews"):
            return Response(201, self.review)
        return None

    def connect(self, namespace: str, pod: str, command: list[str], stdin: str | None) -> ExecResult:
        denied = self.enforces and self.view().network_policies(namespace)
        return ExecResult(1, "", "TIMEOUT") if denied else ExecResult(0, "", "")

    def apply(self, manifests: Any, **options: Any) -> Any:
        applied = super().apply(manifests, **options)
        for item in applied:
            if item.kind == "Pod":
                conditions = [{"type": "Ready", "status": "True"}]
                status = {"phase": "Running", "podIP": "10.0.0.1", "conditions": conditions}
                self.set_status("Pod", item.name, status, item.namespace)
        return applied


def texts(findings: list[Finding]) -> str:
    return "\n".join(f"{'ok' if finding.fine else 'bad'}: {finding.text}" for finding in findings)


def test_a_cluster_that_enforces_policies_is_told_from_one_that_stores_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("helpers.cluster.doctor._ENFORCE_S", 0.3)
    assert "ok: network policies are enforced" in texts(diagnose(Foreign(enforces=True)))
    findings = diagnose(Foreign(enforces=False))
    assert "bad: network policies are stored but not enforced" in texts(findings)
    assert (
        next(finding.labs for finding in findings if "stored" in finding.text) == "lab 04, network isolation"
    )


def test_the_experiment_leaves_nothing() -> None:
    cluster = Foreign(enforces=True)
    diagnose(cluster)
    assert not [item.name for item in cluster.view().list("Namespace") if "doctor" in item.name]


def test_a_baseline_that_fails_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("helpers.cluster.doctor._ENFORCE_S", 0.3)
    cluster = Foreign(enforces=True)
    cluster.exec_handler = lambda *_: ExecResult(1, "", "TIMEOUT")
    text = texts(diagnose(cluster))
    assert "the test could not be run: the pods reach each other" in text
    assert "enforced" not in text


def test_without_rights_nothing_is_started() -> None:
    cluster = Foreign(enforces=True, review=DENIED)
    text = texts(diagnose(cluster))
    assert "bad: these credentials may not: create namespaces" in text
    assert "network policies are" not in text


def test_a_cluster_that_is_away_is_the_only_finding() -> None:
    cluster = FakeCluster()
    cluster.go_down()
    (finding,) = diagnose(cluster)
    assert not finding.fine and finding.next_command == "course up"


@pytest.mark.parametrize(
    ("version", "fine"), [("v1.36.3", True), ("v1.35.0+k3s1", True), ("v1.34.9", False), ("?", False)]
)
def test_old_clusters_are_named(version: str, fine: bool) -> None:
    cluster = Foreign(enforces=True)
    cluster.fail_with(
        lambda method, path: (
            Response(200, f'{{"gitVersion": "{version}"}}'.encode())
            if path == "/version"
            else cluster.answer(method, path)
        )
    )
    assert diagnose(cluster, experiment=False)[0].fine is fine


def test_a_cluster_without_gpu_or_storage_says_for_which_labs() -> None:
    cluster = Foreign(enforces=True)
    cluster.delete("ConfigMap", "course-profile", "kube-public")
    cluster.delete("StorageClass", "fast-nvme")
    cluster.patch("Node", "substrate", {"metadata": {"labels": {"course.llm-stack/gpu": None}}})
    cluster.set_status("Node", "substrate", {"allocatable": {"cpu": "2"}})
    findings = {finding.text: finding for finding in diagnose(cluster)}
    assert "no default storage class" in findings
    assert any("no node offers a GPU" in text for text in findings)


def test_the_one_image_that_nobody_publishes_is_asked_for_by_name() -> None:
    lacking = next(finding for finding in diagnose(Foreign(enforces=True)) if "orchestrator" in finding.text)
    assert (lacking.fine, lacking.labs) == (False, "lab 06, orchestration")
    assert "Containerfile" in lacking.text
    named = Foreign(enforces=True)
    named.patch("ConfigMap", "course-profile", {"data": {"profile": NAMED}}, "kube-public")
    assert "ok: the orchestrator's image: REGISTRY/llm-orchestrator:1" in texts(
        diagnose(named, experiment=False)
    )
    assert NAMED in lacking.next_command, "what is printed is all that is needed"
    assert named.profile().images["vllm"] == OFFICIAL_IMAGES["vllm"], "the others stay"


def test_another_image_of_the_course_is_told_beside_what_was_told_before() -> None:
    named = Foreign(enforces=True)
    named.patch("ConfigMap", "course-profile", {"data": {"profile": NAMED}}, "kube-public")
    lacking = next(item for item in diagnose(named, experiment=False) if "the eval runner" in item.text)
    assert (lacking.fine, lacking.labs) == (False, "lab 07, gates")
    patch = json.loads(lacking.next_command.partition(" -p ")[2].strip("'"))
    images = json.loads(patch["data"]["profile"])["images"]
    assert images == {
        "orchestrator": "REGISTRY/llm-orchestrator:1",
        "eval-runner": "REGISTRY/llm-eval-runner:1",
    }


def test_whether_argo_rollouts_is_served_is_told_and_is_no_problem() -> None:
    cluster = Foreign(enforces=True)
    assert "ok: no Argo Rollouts" in texts(diagnose(cluster, experiment=False))
    cluster.serve_kind("Rollout", "argoproj.io", "v1alpha1", "rollouts")
    assert "ok: Argo Rollouts is served" in texts(diagnose(cluster, experiment=False))


@pytest.mark.parametrize(
    ("title", "kind", "group", "version"),
    [
        ("KEDA", "ScaledObject", "keda.sh", "v1alpha1"),
        ("Prometheus Operator", "ServiceMonitor", "monitoring.coreos.com", "v1"),
    ],
)
def test_whether_what_scales_is_served_is_told_and_is_no_problem(
    title: str, kind: str, group: str, version: str
) -> None:
    cluster = Foreign(enforces=True)
    assert f"ok: no {title}: `course start 08`" in texts(diagnose(cluster, experiment=False))
    cluster.serve_kind(kind, group, version, f"{kind.lower()}s")
    assert f"ok: {title} is served: lab 08" in texts(diagnose(cluster, experiment=False))


def test_whether_the_gateway_api_is_served_is_told_and_is_no_problem() -> None:
    cluster = Foreign(enforces=True)
    assert "ok: no Gateway API" in texts(diagnose(cluster, experiment=False))
    cluster.serve_kind("HTTPRoute", "gateway.networking.k8s.io", "v1", "httproutes")
    assert "ok: the Gateway API is served" in texts(diagnose(cluster, experiment=False))
