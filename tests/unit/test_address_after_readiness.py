"""Time lines are sampled in several reads: a pod that becomes Ready between two of them has no address before it is Ready."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.chaos.watch import sample
from helpers.cluster.fake import FakeCluster
from helpers.cluster.view import ClusterView
from helpers.stack import memory, serving
from tests.unit.chaos_world import service, stack

PODS = {
    "vllm": ("vllm-1", {"app": "vllm"}, 8000),
    "qdrant": ("qdrant-0", {"app.kubernetes.io/name": "qdrant"}, 6333),
}
ADDRESS = "10.244.0.10"
READS = 6


def set_ready(cluster: FakeCluster, *, ready: bool) -> None:
    """Both pods and both Services, as they are before and after the pods become Ready."""
    for name, (pod, labels, port) in PODS.items():
        cluster.add_pod(pod, "llm-system", labels=labels, ready=ready)
        _, addresses = service(name, labels, port, ADDRESS, pod)
        addresses["endpoints"][0]["conditions"]["ready"] = ready
        cluster.put([addresses])


def of_vllm(view: ClusterView) -> tuple[bool, bool]:
    (moment,) = serving.observe(view, 0.0)
    return moment.is_ready, moment.in_endpoints


def of_qdrant(view: ClusterView) -> tuple[bool, bool]:
    moment = memory._moment(view, "qdrant-0", None, 0.0)
    return moment.is_ready, bool(moment.endpoints)


def of_an_experiment(view: ClusterView) -> tuple[bool, bool]:
    seen = sample(view)
    pod = next(item for item in seen["pods"] if item["backend"] == "qdrant")
    return bool(pod["ready"]), bool(seen["endpoints"]["qdrant"]["ready"])


@pytest.mark.parametrize("becomes_ready_at", range(READS))
@pytest.mark.parametrize("sampled", [of_vllm, of_qdrant, of_an_experiment])
def test_no_sample_shows_an_address_before_readiness(
    sampled: Callable[[ClusterView], tuple[bool, bool]], becomes_ready_at: int
) -> None:
    cluster = stack()
    set_ready(cluster, ready=False)
    reads = 0

    def count(method: str, path: str) -> Any:
        nonlocal reads
        reads += 1
        if reads == becomes_ready_at + 1:
            set_ready(cluster, ready=True)

    cluster.fail_with(count)
    is_ready, has_address = sampled(cluster.view())
    assert is_ready or not has_address
    set_ready(cluster, ready=True)
    assert sampled(cluster.view()) == (True, True), "the pod is Ready in the end"
