"""Simulated GPUs on the live embedded cluster: quota aside, everything a pod with a GPU meets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helpers import settings
from helpers.cluster import Cluster, ClusterView, NotYet

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(bool(os.environ.get("COURSE_TEST_KUBECONFIG")), reason="changes the embedded node"),
]

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
WAIT_S = 30


def course_gpu(*arguments: str) -> None:
    command = [sys.executable, "-m", "helpers.cli", "gpu", "--name", settings.cluster_name(), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


@pytest.fixture(autouse=True)
def one_whole_healthy_gpu(cluster: Cluster) -> Iterator[None]:
    yield
    course_gpu("--healthy", "all")
    course_gpu("--shape", "full")


def pod(name: str, namespace: str, resource: str = GPU) -> dict[str, Any]:
    container = {
        "name": "work",
        "image": AGNHOST,
        "args": ["pause"],
        "resources": {"limits": {resource: "1"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }


def allocatable(expected: dict[str, str]) -> Callable[[ClusterView], bool]:
    def holds(view: ClusterView) -> bool:
        (node,) = view.nodes()
        seen = {k: v for k, v in node.path("status.allocatable", {}).items() if k.startswith("nvidia.com/")}
        if {k: v for k, v in seen.items() if v != "0"} != expected:
            raise NotYet(f"allocatable is {seen}")
        return True

    return holds


def test_a_pod_is_given_the_gpu_and_the_next_is_told_there_is_none_left(
    cluster: Cluster, namespace: str
) -> None:
    cluster.apply(pod("first", namespace))
    cluster.wait_ready("Pod", "first", namespace, timeout_s=WAIT_S)
    shown = cluster.exec(namespace, "first", ["env"], timeout_s=15).stdout
    assert "NVIDIA_VISIBLE_DEVICES=GPU-" in shown
    cluster.apply(pod("second", namespace))

    def refused(view: ClusterView) -> str | None:
        reasons = [condition.get("message", "") for condition in conditions(view, "second", namespace)]
        return next((reason for reason in reasons if "Insufficient nvidia.com/gpu" in reason), None)

    assert cluster.wait_until("the scheduler refuses", refused, timeout_s=WAIT_S)


def conditions(view: ClusterView, name: str, namespace: str) -> list[dict[str, Any]]:
    return view.pod(name, namespace).path("status.conditions", [])


def test_the_node_says_simulated(cluster: Cluster) -> None:
    (node,) = cluster.view().nodes()
    assert node.labels["kubedojo.dev/gpu"] == "simulated"
    assert node.annotations["kubedojo.dev/gpu"] == "simulated"
    assert node.labels["nvidia.com/gpu.product"].endswith("-SIMULATED")


def test_mig_slices_replace_the_gpu_and_a_pod_gets_one(cluster: Cluster, namespace: str) -> None:
    course_gpu("--shape", "mig")
    cluster.wait_until("seven slices", allocatable({SLICE: "7"}), timeout_s=WAIT_S)
    cluster.apply(pod("slice", namespace, SLICE))
    cluster.wait_ready("Pod", "slice", namespace, timeout_s=WAIT_S)
    shown = cluster.exec(namespace, "slice", ["env"], timeout_s=15).stdout
    assert "NVIDIA_VISIBLE_DEVICES=MIG-" in shown
    cluster.delete("Pod", "slice", namespace, wait_s=WAIT_S)


def test_time_slicing_offers_four_and_back(cluster: Cluster) -> None:
    course_gpu("--shape", "time-slicing")
    cluster.wait_until("four replicas", allocatable({GPU: "4"}), timeout_s=WAIT_S)
    course_gpu("--shape", "full")
    cluster.wait_until("one GPU", allocatable({GPU: "1"}), timeout_s=WAIT_S)


def test_an_unhealthy_gpu_is_no_longer_allocatable(cluster: Cluster) -> None:
    course_gpu("--unhealthy", "0")
    cluster.wait_until("no GPU", allocatable({}), timeout_s=WAIT_S)
    course_gpu("--healthy", "0")
    cluster.wait_until("one GPU", allocatable({GPU: "1"}), timeout_s=WAIT_S)
