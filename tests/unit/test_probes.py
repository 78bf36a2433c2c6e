"""The grader's probe pods beside a learner's quota: they cost nothing, and a refusal is named."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.labs.lab04_isolation.checks import absent
from helpers.stack.probes import probe_pods, why_missing

NEIGHBOUR = "probe-neighbour"
IS_FULL = {"limits.cpu": "1", "requests.cpu": "1", "limits.memory": "1Gi", "requests.memory": "1Gi"}


def full_namespace(**hard: str) -> FakeCluster:
    """A pod that uses its quota up, exactly."""
    cluster = FakeCluster()
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}})
    amounts = {"cpu": "1", "memory": "1Gi"}
    container = {"name": "m", "image": "m", "resources": {"limits": amounts, "requests": amounts}}
    cluster.add_pod("vllm-1", "llm-system", spec={"containers": [container]})
    quota = {"name": "llm-system-quota", "namespace": "llm-system"}
    spec = {"hard": {**IS_FULL, **hard}}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": quota, "spec": spec})
    return cluster


def neighbour() -> dict[str, Any]:
    return next(pod for pod in probe_pods("toolbox") if pod["metadata"]["name"] == NEIGHBOUR)


def test_the_neighbour_fits_a_quota_that_holds_the_plan_exactly() -> None:
    answer = full_namespace().view().dry_run(neighbour())
    assert answer.allowed, answer.reason


def test_a_pod_of_any_size_would_not_have_fitted() -> None:
    pod = neighbour()
    pod["spec"]["containers"][0]["resources"] = {
        side: {"cpu": "5m", "memory": "16Mi"} for side in ("requests", "limits")
    }
    assert "exceeded quota" in full_namespace().view().dry_run(pod).reason


def test_a_quota_without_room_for_one_more_pod_is_named_with_the_command_that_shows_it() -> None:
    cluster = full_namespace(pods="1")
    assert "exceeded quota: llm-system-quota, requested: pods=1" in why_missing(cluster.view(), NEIGHBOUR)
    fault = absent(cluster.view(), NEIGHBOUR)
    assert "the grader needs room for one pod beside yours" in str(fault)
    assert fault.next_command == "kubectl describe quota -n llm-system"


@pytest.mark.parametrize("pod", [NEIGHBOUR, "probe-app"])
def test_a_probe_pod_that_was_never_placed_is_placed_by_start(pod: str) -> None:
    cluster = FakeCluster()
    for name in ("llm-system", "llm-apps"):
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    fault = absent(cluster.view(), pod)
    assert str(fault) == f"the probe pod {pod} is not there"
    assert fault.next_command == "course start 04"
