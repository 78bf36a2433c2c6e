"""The review of a stack that runs, and each of the six incidents on it: seen, named by the table, undone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.chaos import incident as incidents
from helpers.chaos.incident_faults import APPS, BATCH, INCIDENTS
from helpers.chaos.journal import published
from helpers.chaos.undo import pending
from helpers.cluster import Cluster
from helpers.cluster.view import ClusterView
from helpers.cluster.waits import NotYet
from helpers.labs.registry import lab_ids
from tests.live.course_command import course

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.solved(*lab_ids(), shared=True)]

SETTLED_S = 180.0


def kept(cluster: Cluster) -> dict[str, Any]:
    """What incidents change, as it is."""
    view = cluster.view()
    worker = view.get("Deployment", "llm-worker", APPS)
    return {
        "worker": worker.path("spec.template.spec"),
        "strategy": worker.path("spec.strategy"),
        "policy": view.get("NetworkPolicy", "llm-worker", APPS).path("spec"),
        "qdrant": view.service("qdrant").selector,
        "pods of the fault": [pod.name for pod in view.pods("llm-system") if "fault" in pod.name],
        "pool": view.get("Deployment", "vllm", BATCH).path("spec.template.spec"),
    }


def test_the_solved_stack_passes_its_own_review(cluster: Cluster) -> None:
    def reviewed(_: ClusterView) -> int:
        done = course("review", "--json", timeout_s=120)
        document = json.loads(done.stdout)
        left = {item["id"]: item["seen"] for item in document["criteria"] if item["standing"] != "met"}
        if left:
            raise NotYet(str(left))
        return done.returncode

    # The cluster has just begun: Prometheus asks its targets again, KEDA asks Prometheus.
    assert cluster.wait_until("all twelve are met", reviewed, timeout_s=SETTLED_S) == 0


# A slow retriever is what the solution of lab 08 is given; a full queue and a cold cache change nothing in the cluster
# beside Redis' keys, and are tried in tests/unit/test_chaos_incident.py.
@pytest.mark.parametrize("name", ["worker-killed", "network-cut", "gpu-lost"])
def test_an_incident_is_named_by_its_figures_alone_and_undone(cluster: Cluster, name: str) -> None:
    profile = cluster.profile()
    if INCIDENTS[name].needs_simulated_gpu and profile.gpu != "simulated":
        pytest.skip("a card is taken away only where it is simulated")
    seed = next(seed for seed in range(1000) if incidents.draw(seed, profile).name == name)
    before = kept(cluster)
    eye = incidents.ByTheTable(cluster, seed)
    done = incidents.incident(cluster, seed, on_progress=eye.progress, on_figures=eye.figures, timeout_s=240)
    record = published(cluster.view(), incidents.NAME)
    said, named = record.first("diagnosis"), record.last("reveal")
    assert named is not None and named["cause"] == name
    assert said is not None, incidents.before_and_now(record)[1]
    assert incidents.is_right(said["answer"], name), (said, incidents.before_and_now(record)[1])
    assert done.steady_after and kept(cluster) == before
    assert not pending(cluster.identity().uid)
