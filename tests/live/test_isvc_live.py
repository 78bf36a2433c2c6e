"""KServe's kinds at a real API server: what it takes, and what it refuses. Their controller at work is in the journey."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cluster import Cluster
from helpers.stack import isvc

pytestmark = pytest.mark.live


@pytest.fixture(scope="module", autouse=True)
def kinds(cluster: Cluster) -> None:
    """The definitions, applied as the start applies them."""
    isvc._definitions(cluster, print)


def service(namespace: str, **model: Any) -> dict[str, Any]:
    asked = {"modelFormat": {"name": "huggingface"}, "storageUri": "pvc://shared/model", **model}
    return {
        "apiVersion": isvc.ISVC_VERSION,
        "kind": isvc.SERVICE,
        "metadata": {"name": "smol", "namespace": namespace},
        "spec": {"predictor": {"minReplicas": 1, "model": asked}},
    }


def test_an_inference_service_is_taken_and_a_misspelled_field_is_not(
    cluster: Cluster, namespace: str
) -> None:
    limits = {"limits": {"memory": "2Gi", "cpu": 1}}
    right = cluster.view().dry_run(service(namespace, args=["--a"], resources=limits, runtime="vllm"))
    assert right.allowed, right.reason
    wrong = cluster.view().dry_run(service(namespace, runtim="vllm"))
    assert not wrong.allowed and 'unknown field "spec.predictor.model.runtim"' in wrong.reason


def test_the_given_runtime_is_taken_as_it_stands(cluster: Cluster, namespace: str) -> None:
    (runtime,) = (item for item in isvc.manifests(cluster) if item["kind"] == "ServingRuntime")
    said = cluster.view().dry_run(runtime, namespace=namespace)
    assert said.allowed, said.reason


def test_the_subset_of_llm_inference_service_is_taken_and_no_more(cluster: Cluster, namespace: str) -> None:
    wanted: dict[str, Any] = {
        "apiVersion": f"{isvc.GROUP}/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": {"name": "smol", "namespace": namespace},
        "spec": {"model": {"uri": "oci+native://registry.example/a:1", "name": "smol"}, "replicas": 1},
    }
    said = cluster.view().dry_run(wanted)
    assert said.allowed, said.reason
    wanted["spec"]["modell"] = {}
    assert "unknown field" in cluster.view().dry_run(wanted).reason


def test_a_status_is_written_by_its_subresource_alone(cluster: Cluster, namespace: str) -> None:
    wanted = service(namespace) | {"status": {"url": "http://forged"}}
    cluster.apply(wanted)
    found = cluster.view().get(isvc.SERVICE, "smol", namespace)
    assert found.path("status", None) is None and found.metadata["generation"] == 1
    cluster.patch(isvc.SERVICE, "smol", {"status": {"url": "http://seen"}}, namespace, subresource="status")
    found = cluster.view().get(isvc.SERVICE, "smol", namespace)
    assert found.path("status.url") == "http://seen" and found.metadata["generation"] == 1
