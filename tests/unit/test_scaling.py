"""What scales by what is measured: ScaledObjects as KEDA reads them, quotas as arithmetic, Prometheus' answers, the pool's manifests."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.cluster.kubectl import find_kubectl, kustomize
from helpers.cluster.quantity import quantity
from helpers.embedded.images import image
from helpers.errors import LabError
from helpers.grading.changes import manifest
from helpers.stack import gpu, prometheus, scaling
from helpers.stack.serving import config_checksum, container_of

KINDS = (
    ("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects"),
    ("Prometheus", "monitoring.coreos.com", "v1", "prometheuses"),
)


@pytest.fixture
def cluster() -> FakeCluster:
    """A pool without anybody who scales it, in a cluster that has KEDA's and Prometheus' kinds."""
    found = FakeCluster()
    for kind in KINDS:
        found.serve_kind(*kind)
    for namespace in (scaling.BATCH, scaling.APPS, prometheus.MONITORING):
        found.put(manifest("Namespace", namespace))
    ports = [{"name": "web", "port": prometheus.PORT}]
    found.put(manifest("Service", prometheus.SERVICE, prometheus.MONITORING, spec={"ports": ports}))
    spec = {"selector": {"matchLabels": {"app": "vllm"}}, "template": {"spec": server()}}
    status = {"replicas": 1, "readyReplicas": 1}
    found.put(manifest("Deployment", scaling.POOL, scaling.BATCH, spec=spec, status=status))
    return found


def server() -> dict[str, Any]:
    """As the API server keeps it: what is limited and not requested is requested at its limit."""
    requests = {"cpu": "100m", "memory": "1Gi", gpu.HALF_CARD: "1"}
    resources = {"requests": requests, "limits": {gpu.HALF_CARD: "1", "memory": "4Gi"}}
    return {"containers": [{"name": "vllm", "image": "i", "resources": resources}]}


def scaled(spec: dict[str, Any], **status: Any) -> dict[str, Any]:
    metadata = {"name": scaling.POOL, "namespace": scaling.BATCH}
    spec = {"scaleTargetRef": {"name": scaling.POOL}, **spec}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }


def hpa(name: str, owner: str = "", **status: Any) -> dict[str, Any]:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": scaling.POOL}
    found = manifest(
        "HorizontalPodAutoscaler", name, scaling.BATCH, spec={"scaleTargetRef": target}, status=status
    )
    if owner:
        found["metadata"]["ownerReferences"] = [{"kind": owner, "name": scaling.POOL}]
    return found


# ScaledObjects


def test_what_a_scaled_object_leaves_out_is_what_keda_takes(cluster: FakeCluster) -> None:
    assert scaling.scaled_object(cluster.view(), scaling.POOL, scaling.BATCH) is None
    cluster.put(
        scaled({"triggers": [{"type": "prometheus", "metadata": {"query": "sum(x)", "threshold": 4}}]})
    )
    found = scaling.scaled_object(cluster.view(), scaling.POOL, scaling.BATCH)
    assert found is not None and not found.is_ready
    assert (found.minimum, found.maximum, found.cooldown_s, found.polling_s, found.down_window_s) == (
        0,
        100,
        300,
        30,
        300,
    )
    (trigger,) = found.triggers
    assert (trigger.query, trigger.metadata["threshold"], trigger.is_blind_at_empty) == ("sum(x)", "4", True)


@pytest.mark.parametrize(
    ("written", "blind"), [("false", False), ("False", False), ("true", True), ("", True)]
)
def test_an_empty_answer_counts_as_zero_unless_it_is_said(written: str, blind: bool) -> None:
    assert scaling.Trigger("prometheus", {"ignoreNullValues": written}).is_blind_at_empty is blind


def test_a_cluster_without_keda_has_no_scaled_objects() -> None:
    assert scaling.scaled_objects(FakeCluster().view(), scaling.BATCH) == []


def test_the_autoscaler_that_keda_made_is_no_second_scaler(cluster: FakeCluster) -> None:
    cluster.put(scaled({}))
    cluster.put(hpa("keda-hpa-vllm", "ScaledObject"))
    assert scaling.scalers_of(cluster.view(), scaling.POOL, scaling.BATCH) == ["ScaledObject vllm"]
    cluster.put(hpa("vllm-cpu"))
    assert scaling.scalers_of(cluster.view(), scaling.POOL, scaling.BATCH)[1:] == [
        "HorizontalPodAutoscaler vllm-cpu"
    ]
    assert scaling.scalers_of(cluster.view(), "other", scaling.BATCH) == []


def test_where_a_pool_stands_is_read_of_the_deployment_and_of_its_own_autoscaler(
    cluster: FakeCluster,
) -> None:
    assert scaling.standing(cluster.view(), scaling.POOL, scaling.BATCH) == scaling.Standing(1, 1, 1)
    cluster.put(scaled({}, hpaName="keda-hpa-vllm", conditions=[{"type": "Fallback", "status": "True"}]))
    metrics = [
        {
            "type": "External",
            "external": {"metric": {"name": "s0-prometheus"}, "current": {"averageValue": "4500m"}},
        }
    ]
    active = [{"type": "ScalingActive", "status": "True"}]
    cluster.put(
        hpa("keda-hpa-vllm", "ScaledObject", desiredReplicas=2, currentMetrics=metrics, conditions=active)
    )
    now = scaling.standing(cluster.view(), scaling.POOL, scaling.BATCH)
    assert (now.desired, now.metrics, now.is_active, now.fallback) == (2, {"s0-prometheus": 4.5}, True, True)


# Quotas


@pytest.mark.parametrize(
    ("hard", "servers", "others", "most"),
    [
        ({f"requests.{gpu.HALF_CARD}": "2"}, 0, {}, 2),
        ({f"requests.{gpu.HALF_CARD}": "2"}, 1, {}, 2),
        ({f"requests.{gpu.HALF_CARD}": "2"}, 1, {gpu.HALF_CARD: "1"}, 1),
        ({f"requests.{gpu.HALF_CARD}": "2", "requests.memory": "3Gi"}, 0, {"memory": "2Gi"}, 1),
        ({"memory": "3Gi", "pods": "9"}, 1, {}, 3),
        ({"requests.storage": "1Gi"}, 0, {}, None),
    ],
)
def test_a_quota_admits_what_every_dimension_admits_beside_what_others_take(
    cluster: FakeCluster, hard: dict[str, str], servers: int, others: dict[str, str], most: int | None
) -> None:
    for number in range(servers):
        cluster.add_pod(f"vllm-{number}", scaling.BATCH, labels={"app": "vllm"}, spec=server())
    if others:
        containers = [{"name": "other", "image": "i", "resources": {"requests": others, "limits": others}}]
        cluster.add_pod("other", scaling.BATCH, spec={"containers": containers})
    cluster.apply(manifest("ResourceQuota", scaling.QUOTA, scaling.BATCH, spec={"hard": hard}))
    assert scaling.most_admitted(cluster.view()) == most


# Prometheus


def test_prometheus_goes_away_and_comes_back_at_its_size_whoever_brings_it_back(cluster: FakeCluster) -> None:
    assert not scaling.prometheus_away(cluster) and scaling.prometheus_back(cluster) == []
    metadata = {"name": "course", "namespace": prometheus.MONITORING}
    kind = {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus"}
    cluster.put({**kind, "metadata": metadata, "spec": {"replicas": 2}})
    for _ in range(2):  # a second time does not remember the zero
        assert scaling.prometheus_away(cluster)
        assert cluster.view().get("Prometheus", "course", prometheus.MONITORING).path("spec.replicas") == 0
    assert scaling.prometheus_back(cluster) == ["course"] and scaling.prometheus_back(cluster) == []
    assert cluster.view().get("Prometheus", "course", prometheus.MONITORING).path("spec.replicas") == 2


def answers(cluster: FakeCluster, code: int, **data: Any) -> list[tuple[str, dict[str, list[str]]]]:
    asked = []

    def handler(method: str, path: str, body: Any) -> tuple[int, str]:
        place = urlsplit(path)
        asked.append((place.path, parse_qs(place.query)))
        return code, json.dumps(data)

    cluster.serve(prometheus.MONITORING, prometheus.SERVICE, prometheus.PORT, handler)
    return asked


def test_values_are_read_of_vectors_and_scalars_and_what_is_no_number_is_none(cluster: FakeCluster) -> None:
    vector = [{"metric": {"pod": "a"}, "value": [1, "3"]}, {"metric": {"pod": "b"}, "value": [1, "NaN"]}]
    asked = answers(cluster, 200, status="success", data={"resultType": "vector", "result": vector})
    first, second = prometheus.query(cluster.view(), 'sum(vllm:x{a="b"})')
    assert (first.labels, first.value) == ({"pod": "a"}, 3) and second.value != second.value
    assert asked[0] == ("/api/v1/query", {"query": ['sum(vllm:x{a="b"})']})
    assert prometheus.value(cluster.view(), "x") is None
    answers(cluster, 200, status="success", data={"resultType": "scalar", "result": [1, "2.5"]})
    assert prometheus.value(cluster.view(), "x") == 2.5


def test_a_range_counts_its_seconds_from_the_window_s_begin(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prometheus.time, "time", lambda: 1000.0)
    series = [{"metric": {"pod": "a"}, "values": [[940, "1"], [970, "2"]]}]
    asked = answers(cluster, 200, status="success", data={"resultType": "matrix", "result": series})
    (found,) = prometheus.query_range(cluster.view(), "x", seconds=60, step_s=30)
    assert found.points == ((0, 1), (30, 2))
    assert asked[0][1] == {"query": ["x"], "start": ["940.000"], "end": ["1000.000"], "step": ["30"]}


def test_a_query_that_is_wrong_is_told_from_a_prometheus_that_is_gone(cluster: FakeCluster) -> None:
    answers(cluster, 400, status="error", errorType="bad_data", error="parse error")
    with pytest.raises(prometheus.QueryRefused, match="parse error"):
        prometheus.query(cluster.view(), "sum(")
    answers(cluster, 503, status="error", errorType="unavailable", error="")
    with pytest.raises(prometheus.MetricsUnavailable):
        prometheus.query(cluster.view(), "x")


def test_targets_and_rules_are_read_with_where_they_come_from(cluster: FakeCluster) -> None:
    target = {"scrapePool": "serviceMonitor/llm-batch/vllm/0", "health": "down", "lastError": "refused"}
    labels = {"namespace": "llm-batch", "pod": "vllm-1", "job": "vllm", "instance": "10.0.0.1:8000"}
    answers(cluster, 200, status="success", data={"activeTargets": [{**target, "labels": labels}]})
    (found,) = prometheus.targets(cluster.view())
    assert (found.namespace, found.pod, found.job, found.address, found.is_up, found.error) == (
        "llm-batch",
        "vllm-1",
        "vllm",
        "10.0.0.1:8000",
        False,
        "refused",
    )
    rule = {
        "name": "Wait",
        "type": "alerting",
        "query": "x > 1",
        "labels": {"layer": "queue"},
        "health": "ok",
        "duration": 30,
    }
    answers(cluster, 200, status="success", data={"groups": [{"rules": [rule]}]})
    (read,) = prometheus.rules(cluster.view())
    assert (read.is_alert, read.layer, read.for_s) == (True, "queue", 30)


# The pool's manifests


@pytest.fixture(params=("embedded", "gpu", "mig", "time-slicing"))
def overlay(request: pytest.FixtureRequest) -> dict[tuple[str, str], dict[str, Any]]:
    try:
        find_kubectl()
    except LabError as missing:
        pytest.skip(str(missing))
    items = kustomize(scaling.MANIFESTS / "overlays" / request.param)
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def test_the_checksum_is_that_of_the_data_and_nobody_says_how_many(
    overlay: dict[tuple[str, str], dict[str, Any]],
) -> None:
    deployment = overlay["Deployment", scaling.POOL]
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        "checksum/config": config_checksum(overlay["ConfigMap", "vllm-model-config"]["data"])
    }
    assert "replicas" not in deployment["spec"]


def test_the_quota_has_room_for_two_servers_and_no_third(
    overlay: dict[tuple[str, str], dict[str, Any]],
) -> None:
    hard = overlay["ResourceQuota", scaling.QUOTA]["spec"]["hard"]
    resources = container_of(overlay["Deployment", scaling.POOL])["resources"]
    asked = {**resources["limits"], **resources["requests"]}
    (card,) = (name for name in asked if gpu.is_gpu(name))
    assert hard[f"requests.{card}"] == "2" and asked[card] == "1"
    for name in ("cpu", "memory"):
        assert 2 * quantity(asked[name]) <= quantity(hard[f"requests.{name}"])


def test_a_server_that_ends_has_time_for_the_answers_that_it_has_begun(
    overlay: dict[tuple[str, str], dict[str, Any]],
) -> None:
    spec = overlay["Deployment", scaling.POOL]["spec"]["template"]["spec"]
    container = container_of(overlay["Deployment", scaling.POOL])
    shutdown = next(int(item["value"]) for item in container["env"] if item["name"] == "SHUTDOWN_TIMEOUT_S")
    assert (
        container["lifecycle"]["preStop"]["sleep"]["seconds"] + shutdown
        < spec["terminationGracePeriodSeconds"]
    )


def test_the_embedded_pool_needs_no_claim_and_asks_for_halves_of_the_second_card() -> None:
    try:
        find_kubectl()
    except LabError as missing:
        pytest.skip(str(missing))
    items = scaling.manifests(FakeCluster())
    assert not [item for item in items if item["kind"] == "PersistentVolumeClaim"]
    (deployment,) = (item for item in items if item["kind"] == "Deployment")
    container = container_of(deployment)
    assert container["resources"]["limits"][gpu.HALF_CARD] == "1"
    assert container["image"] == image("vllm").reference
    (model,) = (item for item in deployment["spec"]["template"]["spec"]["volumes"] if "image" in item)
    assert model["image"]["reference"] == image("model").reference
