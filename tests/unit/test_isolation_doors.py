"""Lab 04's doors: what the policies open beyond what is needed, computed from every rule and not from samples."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.labs.lab04_isolation import mutants
from helpers.labs.lab04_isolation.doors import Door, incoming, unneeded
from helpers.stack.stage import read_stage

APPS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llm-apps"}}}
MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llm-monitoring"}}}
PROMETHEUS = {**MONITORING, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}
DNS = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
    "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
}


def by(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {
        "matchExpressions": [
            {"key": key, "operator": operator, **({"values": list(values)} if values else {})}
        ]
    }


@pytest.fixture(scope="module")
def solved() -> FakeCluster:
    cluster = FakeCluster()
    mutants.PROOFS.start(cluster)
    mutants.PROOFS.solution(cluster)
    return cluster


def found(cluster: FakeCluster, spec: dict[str, Any]) -> list[Door]:
    """The doors with one more policy in llm-system."""
    metadata = {"name": "extra", "namespace": "llm-system"}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    cluster.put({**kind, "metadata": metadata, "spec": spec})
    try:
        return unneeded(read_stage(cluster.view()))
    finally:
        cluster.delete("NetworkPolicy", "extra", "llm-system")


def into(app: str, peer: dict[str, Any] | None, *ports: dict[str, Any]) -> dict[str, Any]:
    labels = {"vllm": {"app": "vllm"}, "qdrant": {"app.kubernetes.io/name": "qdrant"}}[app]
    rule = {**({"from": [peer]} if peer else {}), **({"ports": list(ports)} if ports else {})}
    return {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": [rule]}


def out(peer: dict[str, Any] | None, *ports: dict[str, Any]) -> dict[str, Any]:
    rule = {**({"to": [peer]} if peer else {}), **({"ports": list(ports)} if ports else {})}
    return {"podSelector": {}, "policyTypes": ["Egress"], "egress": [rule]}


def test_the_solution_has_no_door_too_many(solved: FakeCluster) -> None:
    assert unneeded(read_stage(solved.view())) == []


@pytest.mark.parametrize(
    "spec",
    [
        into("vllm", APPS, {"port": 8000}),
        into("vllm", APPS, {"port": "http"}),
        into("vllm", APPS, {"port": 8000, "endPort": 8000}),
        into("vllm", APPS, {"port": "no-such-name"}),
        into(
            "vllm", {"namespaceSelector": by("kubernetes.io/metadata.name", "In", "llm-apps")}, {"port": 8000}
        ),
        into("vllm", PROMETHEUS, {"port": 8000}),
        into(
            "vllm",
            {**MONITORING, "podSelector": by("app.kubernetes.io/name", "In", "prometheus")},
            {"port": 8000},
        ),
        into("qdrant", APPS, {"port": 6333, "endPort": 6334}),
        out(DNS, {"port": 53}, {"port": 53, "protocol": "UDP"}),
        out({"ipBlock": {"cidr": "169.254.20.10/32"}}, {"port": 53, "protocol": "UDP"}),
        {"podSelector": {"matchLabels": {"app": "someone-else"}}, "ingress": [{}]},
        {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": []},
        {"podSelector": {"matchLabels": {"app": "vllm"}}, "policyTypes": ["Egress"], "ingress": [{}]},
    ],
)
def test_what_the_stack_needs_is_no_door_too_many_however_it_is_written(
    solved: FakeCluster, spec: dict[str, Any]
) -> None:
    assert [str(door) for door in found(solved, spec)] == []


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        # shared/cases: every port above the next one, which two samples did not see.
        (into("vllm", APPS, {"port": 8002, "endPort": 65535}), "any pod of llm-apps in to vllm: TCP ports 8002 to 65535"),
        (into("vllm", APPS, {"port": 8000, "endPort": 8001}), "TCP ports 8000 to 8001"),
        (into("vllm", APPS, {"port": 7999, "endPort": 8000}), "TCP ports 7999 to 8000"),
        (into("vllm", APPS, {"port": 8000, "protocol": "UDP"}), "UDP port 8000"),
        (into("vllm", APPS, {"protocol": "TCP"}), "TCP every port"),
        (into("vllm", APPS), "SCTP every port"),
        (into("vllm", None, {"port": 8000}), "everybody in to vllm"),
        (into("qdrant", APPS, {"port": 6333, "endPort": 6335}), "TCP ports 6333 to 6335"),
        (into("qdrant", PROMETHEUS, {"port": 6334}), "TCP port 6334"),
        # A range of addresses, in which pods and nodes of anybody may lie.
        (into("vllm", {"ipBlock": {"cidr": "10.0.0.0/8"}}, {"port": 8000}), "the addresses 10.0.0.0/8"),
        # Namespaces that do not exist yet: anybody who may create one is in.
        (into("vllm", {"namespaceSelector": {"matchLabels": {"team": "ml"}}}, {"port": 8000}), "any namespace labelled team=ml"),
        (into("vllm", {"namespaceSelector": by("team", "Exists")}, {"port": 8000}), "any namespace labelled team=any"),
        (into("vllm", {"namespaceSelector": by("team", "DoesNotExist")}, {"port": 8000}), "any pod of default"),
        (into("vllm", {"namespaceSelector": by("kubernetes.io/metadata.name", "In", "llm-apps", "staging")}, {"port": 8000}), "any pod of staging"),
        # An OR-list of selectors, one of them too wide for Prometheus.
        (into("vllm", {**MONITORING, "podSelector": by("app.kubernetes.io/name", "In", "prometheus", "grafana")}, {"port": 8000}), "app.kubernetes.io/name=grafana"),
        (into("vllm", {**MONITORING, "podSelector": by("app.kubernetes.io/name", "Exists")}, {"port": 8000}), "app.kubernetes.io/name=any"),
        (into("vllm", MONITORING, {"port": 8000}), "any pod of llm-monitoring"),
        (into("vllm", {"podSelector": {}}, {"port": 8000}), "any pod of llm-system"),
        (out(DNS, {"port": 9153}), "TCP port 9153"),
        (out(DNS, {"port": 53, "endPort": 54}), "TCP ports 53 to 54"),
        (out(None, {"port": 53, "protocol": "UDP"}), "out to everybody: UDP port 53"),
        (out({"ipBlock": {"cidr": "0.0.0.0/0"}}, {"port": 53}), "the addresses 0.0.0.0/0"),
        (out({"namespaceSelector": DNS["namespaceSelector"]}, {"port": 53}), "any pod of kube-system"),
    ],
)  # fmt: skip
def test_a_door_too_many_is_found_wherever_it_is(
    solved: FakeCluster, spec: dict[str, Any], words: str
) -> None:
    doors = [str(door) for door in found(solved, spec)]
    assert any(words in door for door in doors), doors
    assert all("of extra " in door for door in doors)


def test_a_policy_of_the_applications_namespace_is_not_judged(solved: FakeCluster) -> None:
    metadata = {"name": "theirs", "namespace": "llm-apps"}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    solved.put({**kind, "metadata": metadata, "spec": {"podSelector": {}, "ingress": [{}]}})
    assert incoming(read_stage(solved.view()), "vllm") == []
    solved.delete("NetworkPolicy", "theirs", "llm-apps")
