"""The GPU substrate: shapes, holders, waits, selectors, tolerations and the guard."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.cluster import Pod, Resource
from helpers.cluster.fake import FakeCluster
from helpers.embedded.devices.config import shape_of
from helpers.embedded.gpu import Shape, configuration
from helpers.labs.lab01_substrate import draw_gpu
from helpers.notebook.session import LabSession
from helpers.settings import cluster_name, kubeconfig_path
from helpers.stack import gpu

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def at(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def finished(start: float, end: float) -> Resource:
    state = {"terminated": {"startedAt": at(start), "finishedAt": at(end)}}
    return Resource({"kind": "Pod", "status": {"containerStatuses": [{"name": "run", "state": state}]}})


def test_turns_are_not_company() -> None:
    assert gpu.ran_at_once([finished(0, 3), finished(3, 6)]) == 1
    assert gpu.ran_at_once([finished(0, 3), finished(2, 6), finished(2, 4)]) == 3
    assert gpu.ran_at_once([]) == 0


@pytest.mark.parametrize(
    ("toleration", "tolerated"),
    [
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}, True),
        ({"key": "nvidia.com/gpu", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "nvidia.com/gpu", "effect": "NoSchedule"}, False),
        ({"key": "nvidia.com/gpu", "value": "absent", "effect": "NoSchedule"}, False),
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, False),
    ],
)
def test_a_toleration_is_read_as_the_scheduler_reads_it(toleration: dict[str, Any], tolerated: bool) -> None:
    assert gpu.tolerates({"tolerations": [toleration]}, gpu.GUARD) is tolerated


def affinity(key: str, operator: str, *values: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
    required = {"nodeSelectorTerms": [term]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}}


@pytest.mark.parametrize(
    ("pod_spec", "shared", "unshared"),
    [
        ({}, True, True),
        ({"nodeSelector": {gpu.SHARING: "none"}}, False, True),
        ({"nodeSelector": {gpu.SHARING: "time-slicing"}}, True, False),
        ({"nodeSelector": {gpu.REPLICAS: "1"}}, False, True),
        (affinity(gpu.SHARING, "NotIn", "time-slicing"), False, True),
        (affinity(gpu.REPLICAS, "Gt", "1"), True, False),
        (affinity("elsewhere", "Exists"), False, False),
    ],
)
def test_a_request_is_asked_on_which_cards_it_could_land(
    pod_spec: dict[str, Any], shared: bool, unshared: bool
) -> None:
    labels = {gpu.SHARING: "none", "nvidia.com/gpu.product": "A100"}
    assert gpu.accepts(pod_spec, gpu.as_if(labels, shared=True)) is shared
    assert gpu.accepts(pod_spec, gpu.as_if(labels, shared=False)) is unshared


def test_only_placed_and_unfinished_pods_hold_a_gpu() -> None:
    cluster = FakeCluster({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-workshop"}})
    spec = {"containers": [{"name": "c", "image": "i", "resources": {"limits": {gpu.WHOLE: "1"}}}]}
    cluster.add_pod("holds", "llm-workshop", spec=spec)
    cluster.add_pod("waits", "llm-workshop", phase="Pending", spec=spec)
    cluster.add_pod("done", "llm-workshop", phase="Succeeded", spec={**spec, "nodeName": "substrate"})
    cluster.add_pod("guest", "llm-workshop")
    assert [item.pod for item in gpu.holders(cluster.view().pods("llm-workshop"))] == ["holds"]


def test_a_wait_is_measured_by_the_clusters_own_times() -> None:
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(42)}
    pod = Pod({"metadata": {"creationTimestamp": at(0)}, "status": {"conditions": [condition]}})
    assert gpu.waited_s(pod) == 42
    waiting = Pod({"metadata": {"creationTimestamp": at(0)}})
    assert gpu.waited_s(waiting) is None
    assert gpu.waited_s(waiting, NOON + timedelta(seconds=7)) == 7


def test_the_guard_goes_up_and_comes_down_and_leaves_other_taints_alone() -> None:
    cluster = FakeCluster()
    other = {"key": "maintenance", "effect": "PreferNoSchedule"}
    cluster.patch("Node", "substrate", {"spec": {"taints": [other]}})
    assert gpu.set_guard(cluster, on=True) == ["substrate"]
    assert gpu.set_guard(cluster, on=True) == []
    assert cluster.view().nodes()[0].taints == [other, gpu.GUARD]
    assert gpu.set_guard(cluster, on=False) == ["substrate"]
    assert gpu.set_guard(cluster, on=False) == []
    assert cluster.view().nodes()[0].taints == [other]


def test_idle_cards_cost_what_busy_ones_cost() -> None:
    assert gpu.price_text(gpu.idle_cost(62, 2.5, cards=2)) == "$310.00"


def sliced(strategy: str) -> Any:
    """The course's device plugin on a card in seven slices, and the node that it makes of it."""
    return shape_of({**configuration(Shape.MIG), "flags": {"migStrategy": strategy}}, "substrate")


@pytest.mark.parametrize("strategy", ["single", "mixed"])
def test_each_mig_strategy_is_told_as_a_device_plugin_carries_it_out(strategy: str) -> None:
    told, found = gpu.STRATEGIES[strategy], sliced(strategy)
    assert {item.name: len(item.device_ids) for item in found.resources} == {told.resource: told.count}
    named = found.labels[gpu.PRODUCT].endswith("-MIG-1g.10gb")
    assert named is (strategy == "single") and (gpu.PRODUCT in told.told_by) is named
    assert (f"{told.resource}.count" in found.labels) and found.labels[gpu.MIG_STRATEGY] == strategy


@pytest.mark.parametrize("strategy", ["single", "mixed"])
def test_a_slice_is_drawn_as_one_under_either_name(strategy: str) -> None:
    cluster, found = FakeCluster(), sliced(strategy)
    node = cluster.view().nodes()[0].raw
    count = {item.name: str(len(item.device_ids)) for item in found.resources}
    labels = {**node["metadata"]["labels"], **found.labels}
    cluster.put(
        {
            **node,
            "metadata": {**node["metadata"], "labels": labels},
            "status": {"capacity": count, "allocatable": count},
        }
    )
    lab = LabSession("01", cluster, cluster.identity(), cluster.profile())
    (offer,) = gpu.offers(cluster.view().nodes())
    assert (offer.shape, offer.count) == ("mig", 7)
    shown = str(draw_gpu.mig_strategies(lab).text)
    rows = {row.split("</code>")[0].rpartition(">")[2]: row for row in shown.split("<tr>")[2:]}
    assert list(rows) == ["single", "mixed"]
    assert [key for key, row in rows.items() if "this node, now" in row] == [strategy]
    assert "nvidia.com/gpu: 7" in rows["single"] and "nvidia.com/mig-1g.10gb: 7" in rows["mixed"]


def test_a_second_card_in_halves_is_no_shape_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster()
    connection = SimpleNamespace(kubeconfig=kubeconfig_path(cluster_name()))
    monkeypatch.setattr(cluster.backend, "connection", connection, raising=False)
    changed: list[str] = []
    monkeypatch.setattr(gpu, "change_shape", changed.append)
    node = cluster.view().nodes()[0].raw
    for resource, cut in ((gpu.HALF_CARD, []), (f"{gpu.MIG_PREFIX}1g.10gb", ["substrate"])):
        count = {gpu.WHOLE: "1", resource: "2"}
        cluster.put({**node, "status": {"capacity": count, "allocatable": count}})
        assert {offer.resource for offer in gpu.offers(cluster.view().nodes())} == set(count)
        assert gpu.offer_whole_cards(cluster) == cut
    assert changed == ["full"]


def test_a_node_whose_card_is_whole_has_neither_strategy_and_the_page_says_which_it_will_use() -> None:
    cluster = FakeCluster()
    lab = LabSession("01", cluster, cluster.identity(), cluster.profile())
    shown = str(draw_gpu.mig_strategies(lab).text)
    assert "this node, now" not in shown and "This course&#39;s node uses <code>mixed</code>" in shown
    assert "offers <code>nvidia.com/gpu: 1</code>" in shown
