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
from helpers.stack import dcgm
from helpers.stack.metrics import Metrics

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(bool(os.environ.get("COURSE_TEST_KUBECONFIG")), reason="changes the embedded node"),
]

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
BUSYBOX = "course.local/busybox:1"
GPU, SLICE = "nvidia.com/gpu", "nvidia.com/mig-1g.10gb"
HALF = "nvidia.com/mig-3g.40gb"
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
        if HALF not in expected:  # lab 08's second card is no shape of the first
            seen.pop(HALF, None)
        if {k: v for k, v in seen.items() if v != "0"} != expected:
            raise NotYet(f"allocatable is {seen}")
        return True

    return holds


def test_a_pod_is_given_the_gpu_and_the_next_is_told_there_is_none_left(
    cluster: Cluster, namespace: str
) -> None:
    cluster.apply(pod("first", namespace))
    cluster.wait_ready("Pod", "first", namespace, timeout_s=WAIT_S)
    shown = cluster.exec(namespace, "first", ["env"], timeout_s=60).stdout
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
    assert node.labels["course.llm-stack/gpu"] == "simulated"
    assert node.annotations["course.llm-stack/gpu"] == "simulated"
    assert node.labels["nvidia.com/gpu.product"].endswith("-SIMULATED")


def test_mig_slices_replace_the_gpu_and_a_pod_gets_one(cluster: Cluster, namespace: str) -> None:
    course_gpu("--shape", "mig")
    cluster.wait_until("seven slices", allocatable({SLICE: "7"}), timeout_s=WAIT_S)
    cluster.apply(pod("slice", namespace, SLICE))
    cluster.wait_ready("Pod", "slice", namespace, timeout_s=WAIT_S)
    shown = cluster.exec(namespace, "slice", ["env"], timeout_s=60).stdout
    assert "NVIDIA_VISIBLE_DEVICES=MIG-" in shown
    cluster.delete("Pod", "slice", namespace, wait_s=WAIT_S)


@pytest.fixture
def second_card(cluster: Cluster) -> Iterator[None]:
    """A second card for one test; on a cluster that has one already, lab 08's pool holds it."""
    if cluster.view().nodes()[0].allocatable(HALF):
        pytest.skip("the second card is lab 08's")
    for _ in range(2):
        course_gpu("--second-card")
    yield
    course_gpu("--one-card")


def test_a_second_card_gives_out_its_halves_beside_every_shape_of_the_first(
    cluster: Cluster, namespace: str, second_card: None
) -> None:
    cluster.wait_until("both cards", allocatable({GPU: "1", HALF: "2"}), timeout_s=WAIT_S)
    for name in ("first", "second"):
        cluster.apply(pod(name, namespace, HALF))
        cluster.wait_ready("Pod", name, namespace, timeout_s=WAIT_S)
    shown = {cluster.exec(namespace, name, ["env"], timeout_s=60).stdout for name in ("first", "second")}
    assert len(shown) == 2 and all("NVIDIA_VISIBLE_DEVICES=MIG-" in text for text in shown)
    course_gpu("--shape", "mig")
    cluster.wait_until("another first card", allocatable({SLICE: "7", HALF: "2"}), timeout_s=WAIT_S)
    assert all(cluster.view().pod(name, namespace).phase == "Running" for name in ("first", "second"))
    for name in ("first", "second"):
        cluster.delete("Pod", name, namespace, wait_s=WAIT_S)


def cards(view: ClusterView) -> list[dcgm.CardReading]:
    """What Prometheus would be told, through the exporter's Service."""
    service = dcgm.find_exporter(view)
    assert service is not None and service.namespace is not None
    answer = view.http(service.namespace, service.name, dcgm.port_of(service), "/metrics")
    if answer.status != 200:
        raise NotYet(f"{answer.status}: {answer.body}")
    return dcgm.readings(Metrics.parse(answer.body))


def card_of(view: ClusterView, holder: str) -> dcgm.CardReading:
    held = {card.holder: card for card in cards(view)}
    if holder not in held:
        raise NotYet(f"held by {sorted(held)}")
    return held[holder]


def test_a_slice_that_is_worked_on_shows_more_use_than_one_that_is_only_held(
    cluster: Cluster, namespace: str
) -> None:
    course_gpu("--shape", "mig")
    cluster.wait_until("seven slices", allocatable({SLICE: "7"}), timeout_s=WAIT_S)
    busy = pod("busy", namespace, SLICE)
    work = busy["spec"]["containers"][0]
    work |= {"image": BUSYBOX, "command": ["sh", "-c", "while :; do :; done"], "args": []}
    work["resources"]["limits"] |= {"cpu": "100m", "memory": "32Mi"}
    for manifest in (busy, pod("idle", namespace, SLICE)):
        cluster.apply(manifest)
        cluster.wait_ready("Pod", manifest["metadata"]["name"], namespace, timeout_s=WAIT_S)

    def more(view: ClusterView) -> tuple[dcgm.CardReading, dcgm.CardReading]:
        one, other = card_of(view, f"{namespace}/busy"), card_of(view, f"{namespace}/idle")
        if (one.utilisation or 0) <= 20 + (other.utilisation or 0):
            raise NotYet(f"busy {one.utilisation} %, idle {other.utilisation} %")
        return one, other

    one, other = cluster.wait_until("the busy slice shows it", more, timeout_s=WAIT_S)
    assert one.is_simulated and (one.profile, one.xid) == ("1g.10gb", 0)
    assert one.instance != other.instance and dcgm.held_and_idle([one, other]) == [other]
    for name in ("busy", "idle"):
        cluster.delete("Pod", name, namespace, wait_s=WAIT_S)

    def free(view: ClusterView) -> bool:
        if held := [card.holder for card in cards(view) if card.holder]:
            raise NotYet(f"held by {held}")
        return True

    cluster.wait_until("nobody holds a slice", free, timeout_s=WAIT_S)


def test_time_slicing_offers_four_and_back(cluster: Cluster) -> None:
    course_gpu("--shape", "time-slicing")
    cluster.wait_until("four replicas", allocatable({GPU: "4"}), timeout_s=WAIT_S)
    course_gpu("--shape", "full")
    cluster.wait_until("one GPU", allocatable({GPU: "1"}), timeout_s=WAIT_S)


def test_an_unhealthy_gpu_is_no_longer_allocatable(cluster: Cluster) -> None:
    course_gpu("--unhealthy", "0")
    cluster.wait_until("no GPU", allocatable({}), timeout_s=WAIT_S)
    assert cluster.wait_until("its figures", _errors_of_whole_cards, timeout_s=WAIT_S) == [79]
    course_gpu("--healthy", "0")
    cluster.wait_until("one GPU", allocatable({GPU: "1"}), timeout_s=WAIT_S)
    assert cluster.wait_until("its figures", _errors_of_whole_cards, timeout_s=WAIT_S) == [0]


def _errors_of_whole_cards(view: ClusterView) -> list[int | None]:
    """Of each whole card: lab 08's second one is there in halves, or is not."""
    return [card.xid for card in cards(view) if not card.profile]
