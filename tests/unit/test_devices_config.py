"""What each configuration in the NVIDIA device plugin's format advertises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.embedded.devices.config import BadConfig, is_healthy, load_unhealthy, shape_of
from helpers.embedded.devices.node import metadata_patch, stale_resources

GPU: dict[str, Any] = {
    "product": "NVIDIA-A100-SXM4-80GB",
    "memoryMiB": 81920,
    "gpus": 1,
    "mig": {"1g.10gb": 7},
}
FULL: dict[str, Any] = {"version": "v1", "flags": {"migStrategy": "none"}, "course": GPU}
MIG: dict[str, Any] = {"version": "v1", "flags": {"migStrategy": "mixed"}, "course": GPU}


def time_slicing(**options: object) -> dict[str, Any]:
    resources = [{"name": "nvidia.com/gpu", "replicas": 4}]
    return {**FULL, "sharing": {"timeSlicing": {"resources": resources, **options}}}


def counts(document: dict[str, Any]) -> dict[str, int]:
    return {item.name: len(item.device_ids) for item in shape_of(document, "substrate").resources}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (FULL, {"nvidia.com/gpu": 1}),
        (MIG, {"nvidia.com/mig-1g.10gb": 7}),
        ({**MIG, "flags": {"migStrategy": "single"}}, {"nvidia.com/gpu": 7}),
        (time_slicing(), {"nvidia.com/gpu": 4}),
        (time_slicing(renameByDefault=True), {"nvidia.com/gpu.shared": 4}),
        ({**FULL, "course": {**GPU, "gpus": 0}}, {}),
        ({}, {"nvidia.com/gpu": 1}),
    ],
)
def test_each_shape_advertises_its_resources(document: dict[str, Any], expected: dict[str, int]) -> None:
    assert counts(document) == expected


def test_device_ids_are_stable_unique_and_short_enough_for_the_kubelet() -> None:
    first, second = shape_of(time_slicing(), "substrate"), shape_of(time_slicing(), "substrate")
    ids = first.resources[0].device_ids
    assert first == second
    assert len(set(ids)) == 4
    assert all(len(device) <= 63 for device in ids)
    assert shape_of(time_slicing(), "other").resources[0].device_ids != ids


def test_labels_follow_gpu_feature_discovery_and_say_simulated() -> None:
    labels = shape_of(FULL, "substrate").labels
    assert labels["nvidia.com/gpu.present"] == "true"
    assert labels["nvidia.com/gpu.product"] == "NVIDIA-A100-SXM4-80GB-SIMULATED"
    assert labels["nvidia.com/gpu.count"] == "1"
    assert labels["nvidia.com/gpu.replicas"] == "1"
    assert labels["nvidia.com/gpu.memory"] == "81920"
    assert labels["nvidia.com/mig.strategy"] == "none"
    assert labels["course.llm-stack/gpu"] == "simulated"


def test_time_slicing_labels_one_gpu_with_four_replicas_as_shared() -> None:
    labels = shape_of(time_slicing(), "substrate").labels
    assert labels["nvidia.com/gpu.count"] == "1"
    assert labels["nvidia.com/gpu.replicas"] == "4"
    assert labels["nvidia.com/gpu.product"].endswith("-SIMULATED-SHARED")
    assert labels["nvidia.com/gpu.sharing-strategy"] == "time-slicing"


def test_mig_labels_describe_the_slices() -> None:
    labels = shape_of(MIG, "substrate").labels
    assert labels["nvidia.com/mig.strategy"] == "mixed"
    assert labels["nvidia.com/mig-1g.10gb.count"] == "7"
    assert labels["nvidia.com/mig-1g.10gb.memory"] == "9728"
    assert labels["nvidia.com/mig-1g.10gb.product"] == "NVIDIA-A100-SXM4-80GB-SIMULATED-MIG-1g.10gb"
    assert all(len(value) <= 63 for value in labels.values())


@pytest.mark.parametrize("first", [FULL, MIG, {**MIG, "flags": {"migStrategy": "single"}}, time_slicing()])
def test_a_second_card_in_halves_stands_beside_the_first_in_every_shape(first: dict[str, Any]) -> None:
    both = {**first, "course": {**GPU, "cut": {"3g.40gb": 2}}}
    assert counts(both) == {**counts(first), "nvidia.com/mig-3g.40gb": 2}
    alone, shape = shape_of(first, "substrate"), shape_of(both, "substrate")
    assert shape.resources[: len(alone.resources)] == alone.resources
    assert (
        shape.labels.items()
        >= (alone.labels | {"nvidia.com/mig.strategy": shape.labels["nvidia.com/mig.strategy"]}).items()
    )
    assert shape.labels["nvidia.com/mig-3g.40gb.count"] == "2"
    ids = {device.partition("::")[0] for item in shape.resources for device in item.device_ids}
    assert ids == set(shape.cards)
    halves = [card for card in shape.cards.values() if card.profile == "3g.40gb"]
    assert [(card.gpu, card.instance, card.memory_mib) for card in halves] == [(1, 1, 40192), (1, 2, 40192)]


def test_whole_cards_beside_a_cut_one_are_what_nvidia_calls_mixed() -> None:
    assert (
        shape_of({**FULL, "course": {**GPU, "cut": {"3g.40gb": 2}}}, "substrate").labels[
            "nvidia.com/mig.strategy"
        ]
        == "mixed"
    )


@pytest.mark.parametrize(
    "document",
    [
        {"course": {"cut": {"half": 2}}},
        {"course": {"mig": {"3g.40gb": 2}, "cut": {"3g.40gb": 2}}},
        {"version": "v2"},
        {"flags": {"migStrategy": "some"}},
        {"sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 1}]}}},
        {"course": {"mig": {"big": 1}}},
        {"flags": {"migStrategy": "single"}, "course": {"mig": {"1g.10gb": 2, "3g.40gb": 1}}},
    ],
)
def test_a_configuration_that_cannot_be_advertised_is_refused_by_name(document: dict[str, Any]) -> None:
    with pytest.raises(BadConfig):
        shape_of(document, "substrate")


def test_replicas_share_the_health_of_their_gpu() -> None:
    (resource,) = shape_of(time_slicing(), "substrate").resources
    physical = resource.device_ids[0].partition("::")[0]
    for mark in (physical, "0", "all"):
        assert not any(is_healthy(resource, device, frozenset({mark})) for device in resource.device_ids)
    assert all(is_healthy(resource, device, frozenset({"1"})) for device in resource.device_ids)


def test_one_slice_can_be_unhealthy_alone() -> None:
    (resource,) = shape_of(MIG, "substrate").resources
    health = [is_healthy(resource, device, frozenset({"2"})) for device in resource.device_ids]
    assert health == [True, True, False, True, True, True, True]


def test_the_unhealthy_list_is_optional_but_must_be_a_list(tmp_path: Path) -> None:
    path = tmp_path / "unhealthy.json"
    assert load_unhealthy(path) == frozenset()
    path.write_text(json.dumps([0, "GPU-x"]))
    assert load_unhealthy(path) == {"0", "GPU-x"}
    path.write_text('{"devices": []}')
    with pytest.raises(BadConfig):
        load_unhealthy(path)


def test_the_patch_removes_stale_labels_and_keeps_others() -> None:
    node = {
        "metadata": {
            "labels": {
                "nvidia.com/mig-1g.10gb.count": "7",
                "kubernetes.io/os": "linux",
                "course.llm-stack/gpu": "x",
            }
        },
        "status": {"capacity": {"nvidia.com/mig-1g.10gb": "7", "nvidia.com/old": "0", "cpu": "2"}},
    }
    shape = shape_of(FULL, "substrate")
    patch = metadata_patch(node, shape)["metadata"]
    assert patch["labels"]["nvidia.com/mig-1g.10gb.count"] is None
    assert patch["labels"]["course.llm-stack/gpu"] == "simulated"
    assert "kubernetes.io/os" not in patch["labels"]
    assert patch["annotations"] == {"course.llm-stack/gpu": "simulated"}
    assert stale_resources(node, shape) == ["nvidia.com/mig-1g.10gb"]


def test_an_up_to_date_node_is_not_patched() -> None:
    shape = shape_of(FULL, "substrate")
    node = {"metadata": {"labels": dict(shape.labels), "annotations": {"course.llm-stack/gpu": "simulated"}}}
    assert metadata_patch(node, shape) == {}
