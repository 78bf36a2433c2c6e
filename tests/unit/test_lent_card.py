"""On one card, whoever serves makes room for an experiment and is served again afterwards."""

from __future__ import annotations

from copy import deepcopy

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.cluster.faults import Response
from helpers.grading.changes import SYSTEM, manifest
from helpers.labs.backends import both_there
from helpers.stack import lent_card
from helpers.stack.gpu import holders


@pytest.fixture
def cluster() -> FakeCluster:
    """Both backends, and a Deployment that asks for sixteen cards and has no pod; controllers keep up with all."""
    cluster = FakeCluster()
    both_there(cluster)
    greedy = {"containers": [{"name": "run", "resources": {"limits": {"nvidia.com/gpu": "16"}}}]}
    spec = {"replicas": 1, "template": {"spec": greedy}}
    cluster.put(manifest("Deployment", "greedy", spec=spec, status={"observedGeneration": 1}))
    cluster.fail_with(lambda method, path: _keep_up(cluster) if method == "GET" else None)
    return cluster


def _keep_up(cluster: FakeCluster) -> Response | None:
    objects = cluster.backend.objects
    for key, item in list(objects.items()):
        if key[1] == "deployments" and key[3] != "greedy":
            wanted, settled = item["spec"]["replicas"], deepcopy(item)
            counts = dict.fromkeys(
                ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), wanted
            )
            settled["status"] = {"observedGeneration": item["metadata"]["generation"], **counts}
            objects[key] = settled
            if not wanted:
                objects.pop(("", "pods", SYSTEM, f"{key[3]}-1"), None)
    return None


def replicas(cluster: FakeCluster, kind: str, name: str) -> int:
    return int(cluster.view().get(kind, name, SYSTEM).path("spec.replicas"))


def test_whoever_holds_a_card_gives_it_up_and_nobody_else(cluster: FakeCluster) -> None:
    assert [held.pod for held in holders(cluster.view().pods(SYSTEM))] == ["vllm-1"]
    assert lent_card.lend(cluster) == ["vllm"]
    assert holders(cluster.view().pods(SYSTEM)) == []
    assert replicas(cluster, "StatefulSet", "qdrant") == replicas(cluster, "Deployment", "greedy") == 1


def test_the_card_goes_back_at_the_size_that_it_came_from(cluster: FakeCluster) -> None:
    cluster.scale("Deployment", "vllm", 2, SYSTEM)
    lent_card.lend(cluster)
    assert replicas(cluster, "Deployment", "vllm") == 0
    assert lent_card.give_back(cluster) == ["vllm"]
    assert replicas(cluster, "Deployment", "vllm") == 2


def test_nothing_is_given_back_that_was_not_lent(cluster: FakeCluster) -> None:
    cluster.scale("Deployment", "vllm", 0, SYSTEM)
    assert lent_card.lend(cluster) == []
    assert lent_card.give_back(cluster) == []
    assert replicas(cluster, "Deployment", "vllm") == 0


def test_lending_twice_still_gives_back_the_first_size(cluster: FakeCluster) -> None:
    lent_card.lend(cluster)
    assert lent_card.lend(cluster) == []
    assert lent_card.give_back(cluster) == ["vllm"]
    assert (replicas(cluster, "Deployment", "vllm"), lent_card.give_back(cluster)) == (1, [])
