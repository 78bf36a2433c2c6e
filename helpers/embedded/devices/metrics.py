"""The simulated GPUs as NVIDIA's dcgm-exporter would show them to Prometheus: its names, its labels.

Nothing here is invented: each value is derived from something real, and its HELP text says from what.
Format and fields: https://github.com/NVIDIA/dcgm-exporter (internal/pkg/rendermetrics,
etc/default-counters.csv). As there:

- a MIG slice has no DCGM_FI_DEV_GPU_UTIL; DCGM_FI_PROF_GR_ENGINE_ACTIVE tells its use
  (https://github.com/NVIDIA/dcgm-exporter/issues/216);
- the tenants of a time-sliced GPU have a series each, told apart by `vgpu`, and all show the whole
  GPU's value (https://github.com/NVIDIA/dcgm-exporter/issues/587).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from helpers.embedded.devices.config import Card, Shape, is_healthy, physical_id
from helpers.embedded.devices.holders import Holder, Usage

GPU_UTIL = "DCGM_FI_DEV_GPU_UTIL"
ENGINE_ACTIVE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
FB_FREE = "DCGM_FI_DEV_FB_FREE"
FB_USED = "DCGM_FI_DEV_FB_USED"
XID_ERRORS = "DCGM_FI_DEV_XID_ERRORS"

_CPU = "CPU use of the containers that hold the card, as a part of their CPU limits"
_MEMORY = "working set of the containers that hold the card"
HELP = {
    GPU_UTIL: f"GPU utilization (in %). simulated: {_CPU}.",
    ENGINE_ACTIVE: f"Ratio of time the graphics engine is active. simulated: {_CPU}.",
    FB_FREE: f"Framebuffer memory free (in MiB). simulated: the card's memory without the {_MEMORY}.",
    FB_USED: f"Framebuffer memory used (in MiB). simulated: {_MEMORY}.",
    XID_ERRORS: "Value of the last XID error encountered. "
    "simulated: 79 while the device plugin calls the card unhealthy, and else 0.",
}
# "GPU has fallen off the bus": https://docs.nvidia.com/deploy/xid-errors/
FALLEN_OFF_THE_BUS = 79
MIB = 1 << 20
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass(frozen=True)
class _Reading:
    """One card: its tenants by the kubelet's device id, its use from 0 to 1, its memory, its health."""

    card: Card
    tenants: dict[str, Holder]
    use: float
    used_mib: int
    is_healthy: bool

    def values(self) -> Iterator[tuple[str, float]]:
        if not self.card.profile:
            yield GPU_UTIL, round(100 * self.use)
        yield ENGINE_ACTIVE, round(self.use, 6)
        yield FB_FREE, max(self.card.memory_mib - self.used_mib, 0)
        yield FB_USED, self.used_mib
        yield XID_ERRORS, 0 if self.is_healthy else FALLEN_OFF_THE_BUS


def exposition(shape: Shape, unhealthy: frozenset[str], usage: Mapping[Holder, Usage], node_name: str) -> str:
    """The cards of a shape, and what their holders use, in Prometheus' text format."""
    series: dict[str, list[str]] = {name: [] for name in HELP}
    for reading in _readings(shape, unhealthy, usage):
        for name, value in reading.values():
            for labels in _labels(reading, name, node_name):
                shown = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
                series[name].append(f"{name}{{{shown}}} {value}\n")
    return "".join(
        f"# HELP {name} {HELP[name]}\n# TYPE {name} gauge\n{''.join(lines)}"
        for name, lines in series.items()
        if lines
    )


def _readings(shape: Shape, unhealthy: frozenset[str], usage: Mapping[Holder, Usage]) -> Iterator[_Reading]:
    for resource in shape.resources:
        for device in dict.fromkeys(map(physical_id, resource.device_ids)):
            tenants = {
                held: holder for holder in usage for held in holder.device_ids if physical_id(held) == device
            }
            use, used_mib = _load({holder: usage[holder] for holder in tenants.values()})
            healthy = is_healthy(resource, device, unhealthy)
            yield _Reading(shape.cards[device], tenants, use, used_mib, healthy)


def _load(usage: Mapping[Holder, Usage]) -> tuple[float, int]:
    """What a card's tenants make of it: its use from 0 to 1, its memory in MiB.

    A tenant of several cards is taken to use them alike.
    """
    limit = sum(item.cpu_limit for item in usage.values())
    use = sum(item.cpus for item in usage.values()) / limit if limit else 0.0
    memory = sum(
        item.memory_bytes / len(set(map(physical_id, holder.device_ids))) for holder, item in usage.items()
    )
    return min(use, 1.0), round(memory / MIB)


def _labels(reading: _Reading, name: str, node_name: str) -> Iterator[dict[str, str]]:
    """The labels of a card's series: one for each of its tenants, or one without."""
    card = reading.card
    about = {"gpu": str(card.gpu), "UUID": card.uuid, "device": f"nvidia{card.gpu}", "modelName": card.model}
    if card.profile:
        about |= {"GPU_I_PROFILE": card.profile, "GPU_I_ID": str(card.instance)}
    about["Hostname"] = node_name
    if name == XID_ERRORS:
        code, said = (0, "No Error") if reading.is_healthy else (FALLEN_OFF_THE_BUS, "marked unhealthy")
        about |= {"err_code": str(code), "err_msg": said}
    if not reading.tenants:
        yield about
    for held, holder in reading.tenants.items():
        replica = held.partition("::")[2]
        vgpu = {"vgpu": replica} if replica else {}
        yield (
            about
            | vgpu
            | {
                "container": holder.container,
                "namespace": holder.namespace,
                "pod": holder.pod,
            }
        )
