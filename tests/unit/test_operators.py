"""What scales and whom it asks: who brings it, what of somebody else's stays, and when it is to be had."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.cluster.scope import Scope
from helpers.cluster.waits import NotYet
from helpers.errors import EnvironmentFault
from helpers.stack import operators
from helpers.stack.operators import KEDA, METRICS_SERVER, OPERATORS, PROMETHEUS_OPERATOR, Operator


def deployment(name: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {}}}
    metadata = {"name": name, "namespace": "platform", "labels": labels}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "platform"}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
    ]


def served_by(api: str, name: str, namespace: str, **status: Any) -> dict[str, Any]:
    group = api.partition(".")[2]
    spec = {"group": group, "version": "v1beta1", "service": {"name": name, "namespace": namespace}}
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": api},
        "spec": {**spec, "groupPriorityMinimum": 100, "versionPriority": 100},
        **({"status": status} if status else {}),
    }


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders whose overlays were asked for; each is a namespace."""
    asked: list[str] = []

    def overlay(cluster: object, folder: str) -> list[dict[str, Any]]:
        asked.append(folder)
        return [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": folder}}]

    monkeypatch.setattr(operators, "_overlay", overlay)
    return asked


@pytest.mark.parametrize(
    ("operator", "label"),
    [
        (KEDA, {"app.kubernetes.io/name": "keda-operator"}),
        (PROMETHEUS_OPERATOR, {"app.kubernetes.io/component": "prometheus-operator"}),
        (METRICS_SERVER, {"k8s-app": "metrics-server"}),
    ],
)
def test_what_somebody_else_installed_stays_as_it_is(
    operator: Operator, label: dict[str, str], applied: list[str]
) -> None:
    cluster = FakeCluster(*deployment("theirs", label))
    assert operators.is_installed(cluster.view(), operator)
    assert operators._install(cluster, operator, print) == []
    assert applied == []
    assert not operators.is_installed(FakeCluster().view(), operator)


def test_another_server_of_external_metrics_is_not_replaced(applied: list[str]) -> None:
    cluster = FakeCluster(served_by(operators.EXTERNAL_METRICS, "prometheus-adapter", "platform"))
    with pytest.raises(EnvironmentFault, match="platform/prometheus-adapter") as refused:
        operators._install(cluster, KEDA, print)
    assert operators.EXTERNAL_METRICS in refused.value.next_command
    assert applied == []


def test_another_server_of_pods_metrics_will_do(applied: list[str]) -> None:
    cluster = FakeCluster(served_by(operators.POD_METRICS, "metrics", "kube-system"))
    assert operators._install(cluster, METRICS_SERVER, print) == []
    assert applied == []


def test_ours_is_completed_after_a_start_that_was_broken_off(applied: list[str]) -> None:
    cluster = FakeCluster(served_by(operators.EXTERNAL_METRICS, "keda-metrics-apiserver", "keda"))
    assert operators._install(cluster, KEDA, print) == ["created Namespace keda"]
    assert applied == ["keda"]


def test_a_seat_of_a_class_is_told_what_its_instructor_installs() -> None:
    seat = FakeCluster(scope=Scope("ada"))
    with pytest.raises(EnvironmentFault, match="no KEDA") as missing:
        operators.ensure_scaling(seat)
    assert missing.value.next_command.endswith("manifests/stack/keda/overlays/gpu")
    seat.serve_kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects")
    with pytest.raises(EnvironmentFault, match="no Prometheus Operator"):
        operators.ensure_scaling(seat)
    seat.serve_kind("ServiceMonitor", "monitoring.coreos.com", "v1", "servicemonitors")
    assert operators.ensure_scaling(seat) == []


def test_an_api_is_to_be_had_when_the_api_server_says_so() -> None:
    cluster = FakeCluster(
        served_by(
            operators.EXTERNAL_METRICS,
            "keda-metrics-apiserver",
            "keda",
            conditions=[
                {"type": "Available", "status": "False", "message": "no response from 10.1.2.3:6443"}
            ],
        )
    )
    with pytest.raises(NotYet, match=r"Available is False: no response from 10\.1\.2\.3"):
        operators.api_available(cluster.view(), operators.EXTERNAL_METRICS)
    said = {"conditions": [{"type": "Available", "status": "True"}]}
    cluster.set_status("APIService", operators.EXTERNAL_METRICS, said)
    assert operators.api_available(cluster.view(), operators.EXTERNAL_METRICS)


def test_a_prometheus_that_keeps_its_old_configuration_is_not_ready() -> None:
    cluster = FakeCluster({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-monitoring"}})
    cluster.serve_kind("Prometheus", "monitoring.coreos.com", "v1", "prometheuses")
    metadata = {"name": operators.PROMETHEUS, "namespace": operators.MONITORING}
    cluster.apply(
        {"apiVersion": "monitoring.coreos.com/v1", "kind": "Prometheus", "metadata": metadata, "spec": {}}
    )
    with pytest.raises(NotYet, match="Reconciled is not said yet"):
        operators.prometheus_available(cluster.view())
    for reconciled, reason in (("False", "a monitor is refused"), ("True", "")):
        conditions = [
            {"type": "Available", "status": "True"},
            {"type": "Reconciled", "status": reconciled, "message": reason},
        ]
        cluster.set_status(
            "Prometheus", operators.PROMETHEUS, {"conditions": conditions}, operators.MONITORING
        )
        if reconciled == "False":
            with pytest.raises(NotYet, match="a monitor is refused"):
                operators.prometheus_available(cluster.view())
    assert operators.prometheus_available(cluster.view())
    seen = cluster.view().get("Prometheus", operators.PROMETHEUS, operators.MONITORING).metadata["generation"]
    before = [
        {"type": wanted, "status": "True", "observedGeneration": seen - 1}
        for wanted in ("Available", "Reconciled")
    ]
    cluster.set_status("Prometheus", operators.PROMETHEUS, {"conditions": before}, operators.MONITORING)
    with pytest.raises(NotYet, match="has not seen the change"):
        operators.prometheus_available(cluster.view())


def test_each_operator_is_found_by_the_labels_of_its_own_manifests() -> None:
    import yaml

    for operator in OPERATORS:
        base = operators.MANIFESTS / operator.folder / "base"
        found = [
            item
            for path in base.glob("*.yaml")
            for item in yaml.load_all(path.read_text(), yaml.CSafeLoader)
            if item and item["kind"] == "Deployment"
        ]
        named = {(item["metadata"]["name"], item["metadata"]["namespace"]) for item in found}
        assert named == set(operator.deployments)
