"""The plugin's configuration, in the NVIDIA device plugin's own format, turned into what to advertise.

Besides NVIDIA's keys (`flags.migStrategy`, `sharing.timeSlicing`) one block of ours, `course`, says
which GPUs there would be: NVIDIA's plugin asks the driver for that. Format:
https://github.com/NVIDIA/k8s-device-plugin#configuring-the-nvidia-device-plugin-binary

    version: v1
    flags: {migStrategy: mixed}
    sharing: {timeSlicing: {resources: [{name: nvidia.com/gpu, replicas: 4}]}}
    course: {product: NVIDIA-A100-SXM4-80GB, memoryMiB: 81920, gpus: 1, mig: {1g.10gb: 7}, cut: {3g.40gb: 2}}

`cut` is one more card, always in these slices, whatever the flags make of the others: under NVIDIA's strategy
`mixed`, cards whose MIG mode is off stay whole beside it.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

SIMULATED_LABEL = "course.llm-stack/gpu"
SIMULATED = "simulated"
VENDOR = "nvidia.com/"

# Memory in MiB and multiprocessors of a MIG slice of an A100 80GB: NVIDIA, Multi-Instance GPU User Guide.
_A100_80GB_SLICES = {
    "1g.10gb": (9728, 14),
    "1g.20gb": (19968, 14),
    "2g.20gb": (19968, 28),
    "3g.40gb": (40192, 42),
    "4g.40gb": (40192, 56),
    "7g.80gb": (81152, 98),
}


class BadConfig(ValueError):
    """The configuration cannot be advertised; the message names the key."""


@dataclass(frozen=True)
class Resource:
    """One extended resource: its device ids, and whether a container may ask for more than one."""

    name: str
    device_ids: tuple[str, ...]
    replicas: int = 1
    one_per_container: bool = False


@dataclass(frozen=True)
class Card:
    """A GPU, or one MIG slice of it, as monitoring names it; `instance` is the slice's number on its GPU."""

    gpu: int
    uuid: str
    model: str
    memory_mib: int
    profile: str = ""
    instance: int = 0


@dataclass(frozen=True)
class Shape:
    """What the node advertises: resources for the kubelet, labels for the Node, cards for monitoring.

    `cards` has the devices' physical ids as its keys.
    """

    resources: tuple[Resource, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    cards: dict[str, Card] = field(default_factory=dict)


@dataclass(frozen=True)
class _Gpu:
    """The GPU the `course` block describes, and how often."""

    product: str
    memory_mib: int
    count: int
    mig: dict[str, int]
    cut: dict[str, int]

    @property
    def model(self) -> str:
        """The product's name wherever the card shows."""
        return f"{self.product}-SIMULATED"


@dataclass(frozen=True)
class _Sharing:
    """Time-slicing as NVIDIA's `sharing.timeSlicing` block states it."""

    replicas: dict[str, int]
    rename: bool
    one_per_container: bool


def load_shape(path: Path, node_name: str) -> Shape:
    """Read the configuration file; raises BadConfig when it cannot be advertised."""
    try:
        document = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as cause:
        raise BadConfig(f"{path} is not YAML: {cause}") from cause
    return shape_of(document, node_name)


def shape_of(document: dict[str, Any], node_name: str) -> Shape:
    """Turn a parsed configuration into resources and node labels."""
    if not isinstance(document, dict) or document.get("version", "v1") != "v1":
        raise BadConfig("version: only v1 is known")
    gpu = _read_gpu(document.get("course") or {})
    strategy = (document.get("flags") or {}).get("migStrategy") or "none"
    if strategy not in ("none", "single", "mixed"):
        raise BadConfig(f"flags.migStrategy: {strategy!r} is none of none, single, mixed")
    sharing = _read_sharing((document.get("sharing") or {}).get("timeSlicing") or {})
    if gpu.count == 0:
        return Shape()
    resources = tuple(_shared(item, sharing) for item in _physical_resources(gpu, strategy, node_name))
    labels, cards = _labels(gpu, strategy, resources), _cards(gpu, strategy, node_name)
    if gpu.cut:
        slices = _slices(gpu, gpu.cut, [gpu.count], node_name)
        labels |= _labels_of_cut(gpu, strategy, slices)
        cards |= _cards_of(gpu, gpu.count, gpu.cut, node_name)
        resources += tuple(slices.values())
    return Shape(resources, labels, cards)


def load_unhealthy(path: Path) -> frozenset[str]:
    """Devices marked unhealthy: a JSON list of ids, indexes or "all"; no file means none.

    Raises BadConfig when the file is not such a list.
    """
    try:
        entries = json.loads(path.read_text() or "[]")
    except FileNotFoundError:
        return frozenset()
    except ValueError as cause:
        raise BadConfig(f"{path} is not JSON: {cause}") from cause
    if not isinstance(entries, list):
        raise BadConfig(f"{path}: expected a list of device ids")
    return frozenset(str(entry) for entry in entries)


def is_healthy(resource: Resource, device_id: str, unhealthy: frozenset[str]) -> bool:
    """Whether a device works: replicas of one GPU share its fate; an index counts its physical devices."""
    physical = physical_id(device_id)
    index = list(dict.fromkeys(map(physical_id, resource.device_ids))).index(physical)
    return not unhealthy & {"all", device_id, physical, str(index)}


def physical_id(device_id: str) -> str:
    """The device behind a time-sliced replica: NVIDIA names replicas `ID::N`."""
    return device_id.partition("::")[0]


def _read_gpu(block: dict[str, Any]) -> _Gpu:
    mig, cut = _read_slices(block, "mig"), _read_slices(block, "cut")
    if both := mig.keys() & cut.keys():
        raise BadConfig(f"course.cut: {min(both)} is a profile of course.mig too")
    product = str(block.get("product") or "NVIDIA-A100-SXM4-80GB")
    return _Gpu(product, int(block.get("memoryMiB") or 81920), int(block.get("gpus", 1)), mig, cut)


def _read_slices(block: dict[str, Any], key: str) -> dict[str, int]:
    found = {str(profile): int(count) for profile, count in (block.get(key) or {}).items()}
    for profile in found:
        if not re.fullmatch(r"\dg\.\d+gb", profile):
            raise BadConfig(f"course.{key}: {profile!r} is not a MIG profile such as 1g.10gb")
    return found


def _read_sharing(block: dict[str, Any]) -> _Sharing:
    replicas = {}
    for entry in block.get("resources") or []:
        if "name" not in entry or int(entry.get("replicas") or 0) < 2:
            raise BadConfig("sharing.timeSlicing.resources: each needs a name and at least 2 replicas")
        replicas[str(entry["name"])] = int(entry["replicas"])
    rename, limit = block.get("renameByDefault"), block.get("failRequestsGreaterThanOne")
    return _Sharing(replicas, bool(rename), bool(limit))


def _physical_resources(gpu: _Gpu, strategy: str, node_name: str) -> list[Resource]:
    if not _is_sliced(gpu, strategy):
        ids = tuple(_device_id("GPU", node_name, index) for index in range(gpu.count))
        return [Resource(VENDOR + "gpu", ids)]
    if strategy == "single" and len(gpu.mig) > 1:
        raise BadConfig("course.mig: migStrategy single needs all slices of one profile")
    slices = _slices(gpu, gpu.mig, range(gpu.count), node_name)
    if strategy == "single":
        return [Resource(VENDOR + "gpu", item.device_ids) for item in slices.values()]
    return list(slices.values())


def _slices(
    gpu: _Gpu, profiles: dict[str, int], indexes: Iterable[int], node_name: str
) -> dict[str, Resource]:
    """The slices of these cards as resources, by profile, as the strategy `mixed` names them."""
    cards = list(indexes)
    return {
        profile: Resource(
            f"{VENDOR}mig-{profile}",
            tuple(
                _device_id("MIG", node_name, index, profile, number)
                for index in cards
                for number in range(count)
            ),
        )
        for profile, count in profiles.items()
    }


def _is_sliced(gpu: _Gpu, strategy: str) -> bool:
    return strategy != "none" and bool(gpu.mig)


def _cards(gpu: _Gpu, strategy: str, node_name: str) -> dict[str, Card]:
    """What monitoring would find: whole GPUs, or where they are sliced the slices of each."""
    found = {}
    for index in range(gpu.count):
        whole = _device_id("GPU", node_name, index)
        if not _is_sliced(gpu, strategy):
            found[whole] = Card(index, whole, gpu.model, gpu.memory_mib)
            continue
        found |= _cards_of(gpu, index, gpu.mig, node_name)
    return found


def _cards_of(gpu: _Gpu, index: int, profiles: dict[str, int], node_name: str) -> dict[str, Card]:
    """The slices of one card."""
    whole = _device_id("GPU", node_name, index)
    slices = [(profile, number) for profile, count in profiles.items() for number in range(count)]
    return {
        _device_id("MIG", node_name, index, profile, number): Card(
            index, whole, gpu.model, _slice_memory_mib(profile), profile, instance
        )
        for instance, (profile, number) in enumerate(slices, start=1)
    }


def _slice_memory_mib(profile: str) -> int:
    """NVIDIA's figure where we have it, and else what the profile's name says."""
    nominal_gb = int(profile.partition(".")[2].removesuffix("gb"))
    return _A100_80GB_SLICES.get(profile, (nominal_gb * 1024, 0))[0]


def _device_id(kind: str, *parts: object) -> str:
    """Ids are the same after a restart: the kubelet's checkpoint names the devices that pods hold."""
    return f"{kind}-{uuid.uuid5(uuid.NAMESPACE_DNS, '/'.join(map(str, parts)) + '.kubedojo.dev')}"


def _shared(resource: Resource, sharing: _Sharing) -> Resource:
    replicas = sharing.replicas.get(resource.name, 1)
    if replicas == 1:
        return resource
    ids = tuple(f"{device}::{number}" for device in resource.device_ids for number in range(replicas))
    name = resource.name + (".shared" if sharing.rename else "")
    return Resource(name, ids, replicas, sharing.one_per_container)


def _labels(gpu: _Gpu, strategy: str, resources: tuple[Resource, ...]) -> dict[str, str]:
    """The labels that NVIDIA's gpu-feature-discovery would set, with -SIMULATED in every product name."""
    whole = next((item for item in resources if item.name.startswith(VENDOR + "gpu")), None)
    labels = {
        "gpu.present": "true",
        "gpu.count": str(gpu.count),
        "gpu.product": _shared_name(gpu.model, whole),
        "gpu.memory": str(gpu.memory_mib),
        "gpu.replicas": str(whole.replicas if whole else 0),
        "gpu.sharing-strategy": "time-slicing" if any(i.replicas > 1 for i in resources) else "none",
        "mig.capable": "true" if gpu.mig else "false",
        "mig.strategy": strategy,
    }
    if strategy == "single" and gpu.mig:
        (profile,) = gpu.mig
        labels |= _mig_labels("gpu", profile, gpu, whole)
    if strategy == "mixed":
        for resource, profile in zip(resources, gpu.mig, strict=False):
            labels |= _mig_labels(f"mig-{profile}", profile, gpu, resource)
    return {VENDOR + key: value for key, value in labels.items()} | {SIMULATED_LABEL: SIMULATED}


def _labels_of_cut(gpu: _Gpu, strategy: str, slices: dict[str, Resource]) -> dict[str, str]:
    """What one more card, in slices, adds; whole cards beside it are what `mixed` means."""
    labels = {"mig.strategy": "mixed" if strategy == "none" else strategy}
    one = replace(gpu, count=1, mig=gpu.cut)
    for profile, resource in slices.items():
        labels |= _mig_labels(f"mig-{profile}", profile, one, resource)
    return {VENDOR + key: value for key, value in labels.items()}


def _mig_labels(prefix: str, profile: str, gpu: _Gpu, resource: Resource | None) -> dict[str, str]:
    labels = {
        f"{prefix}.count": str(gpu.count * gpu.mig[profile]),
        f"{prefix}.product": _shared_name(f"{gpu.model}-MIG-{profile}", resource),
        f"{prefix}.replicas": str(resource.replicas if resource else 1),
        f"{prefix}.slices.gi": profile[0],
        f"{prefix}.slices.ci": profile[0],
    }
    if profile in _A100_80GB_SLICES:
        memory_mib, multiprocessors = _A100_80GB_SLICES[profile]
        labels[f"{prefix}.memory"] = str(memory_mib)
        labels[f"{prefix}.multiprocessors"] = str(multiprocessors)
    return labels


def _shared_name(product: str, resource: Resource | None) -> str:
    """NVIDIA appends -SHARED to the product, unless the resource itself is renamed."""
    is_shared = resource is not None and resource.replicas > 1 and not resource.name.endswith(".shared")
    return product + ("-SHARED" if is_shared else "")
