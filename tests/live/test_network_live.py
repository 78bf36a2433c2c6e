"""Reachability on a real cluster: policies that are applied are seen as connections that stop."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from helpers.cluster import Cluster
from helpers.stack.network import Outcome, Reachability
from helpers.stack.probes import PROBE_NAMESPACES, place_probes
from helpers.stack.stage import enforcement, look, read_stage

pytestmark = pytest.mark.live
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def probed(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster with the grader's probe pods; the backends are not needed here."""
    for name, labels in (("llm-system", {}), ("llm-apps", {"kubedojo.dev/role": "llm-apps"})):
        metadata = {"name": name, "labels": labels}
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    placed = place_probes(cluster)
    assert not placed.missing
    yield cluster
    for policy in cluster.view().network_policies("llm-system"):
        cluster.delete("NetworkPolicy", policy.name, "llm-system")


def until(cluster: Cluster, pair: tuple[str, str], answer: bool) -> Reachability:
    """Look again until the pair answers as wanted, or for as long as a busy machine may need."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        table = look(cluster.view())
        if table.answer(*pair) is answer or time.monotonic() > deadline:
            return table


def policy(name: str, **spec: object) -> dict[str, object]:
    metadata = {"name": name, "namespace": "llm-system"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def test_enforcement_is_found_out_by_experiment(probed: Cluster) -> None:
    assert enforcement(look(probed.view())).enforced is True


def test_placing_the_probes_again_changes_nothing(probed: Cluster) -> None:
    before = {pod.uid for name in PROBE_NAMESPACES for pod in probed.view().pods(name)}
    place_probes(probed)
    assert {pod.uid for name in PROBE_NAMESPACES for pod in probed.view().pods(name)} == before


def test_what_is_denied_is_seen_denied_by_every_caller(probed: Cluster) -> None:
    probed.apply(policy("deny", podSelector={}, policyTypes=["Ingress", "Egress"]))
    stage = read_stage(probed.view())
    until(probed, ("app", "neighbour"), False)
    table = look(probed.view(), stage)
    assert table.answer("app", "neighbour") is False
    # By address: a target that is asked for by name has no answer while DNS is denied too.
    assert table.answer("neighbour", "outside") is False
    probed.delete("NetworkPolicy", "deny", "llm-system")


def test_the_forecast_and_the_cluster_agree_about_every_pair(probed: Cluster) -> None:
    rule = {"from": [{"namespaceSelector": {"matchLabels": {"kubedojo.dev/role": "llm-apps"}}}]}
    probed.apply(policy("apps-only", podSelector={}, policyTypes=["Ingress"], ingress=[rule]))
    table = until(probed, ("outsider", "neighbour"), False)
    assert table.answer("app", "neighbour") is True
    assert table.answer("impostor", "neighbour") is True
    assert table.differences() == []
    probed.delete("NetworkPolicy", "apps-only", "llm-system")


def test_dns_that_is_denied_is_told_apart(probed: Cluster) -> None:
    probed.apply(policy("no-egress", podSelector={}, policyTypes=["Egress"]))
    table = until(probed, ("neighbour", "dns"), False)
    assert table.seen[("neighbour", "dns")].outcome is Outcome.TIMEOUT
    assert table.seen[("neighbour", "api-server")].outcome is Outcome.DNS
    probed.delete("NetworkPolicy", "no-egress", "llm-system")
