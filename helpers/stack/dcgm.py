"""What a cluster's dcgm-exporter says of its GPUs: who holds each card, how busy it is, what it lacks.

A series' `pod` is the holder by the kubelet's word; utilisation is the driver's. On a simulated GPU
other things stand in for the driver's figures, and each family's HELP text says which.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.stack.metrics import Metrics

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.cluster.resource import Resource

# The label of the exporter's own Helm chart, and that of NVIDIA's GPU Operator.
SELECTORS = ("app.kubernetes.io/name=dcgm-exporter", "app=nvidia-dcgm-exporter")
PORT = 9400
SIMULATED = "-SIMULATED"
GPU_UTIL = "DCGM_FI_DEV_GPU_UTIL"
ENGINE_ACTIVE = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
FB_USED, FB_FREE = "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE"
XID_ERRORS = "DCGM_FI_DEV_XID_ERRORS"
FIELDS = (GPU_UTIL, ENGINE_ACTIVE, FB_USED, FB_FREE, XID_ERRORS)
# What tells two series apart: a card or its slice, and its holder.
_IDENTITY = ("Hostname", "gpu", "UUID", "modelName", "GPU_I_PROFILE", "GPU_I_ID", "namespace", "pod", "vgpu")


@dataclass(frozen=True)
class CardReading:
    """One card, or slice of one, and who holds it; a figure that the exporter does not give is None."""

    node: str
    gpu: str
    model: str
    profile: str
    instance: str
    holder: str
    utilisation: float | None
    used_mib: float | None
    free_mib: float | None
    xid: int | None

    @property
    def is_simulated(self) -> bool:
        """Whether other things stand in for the driver's figures."""
        return self.model.endswith(SIMULATED)


def find_exporter(view: ClusterView) -> Resource | None:
    """The Service of a dcgm-exporter in any namespace; None where there is none.

    Raises:
        Forbidden: these credentials may not look into all namespaces.
    """
    for selector in SELECTORS:
        if found := view.list("Service", labels=selector, all_namespaces=True):
            return found[0]
    return None


def port_of(service: Resource) -> int:
    """The port at which the exporter's Service answers."""
    return next((int(item["port"]) for item in service.path("spec.ports", [])), PORT)


def readings(metrics: Metrics) -> list[CardReading]:
    """The cards of an exposition, in its order."""
    cards: dict[tuple[str, ...], dict[str, float]] = {}
    for sample in metrics.samples:
        if sample.name in FIELDS:
            key = tuple(sample.labels.get(name, "") for name in _IDENTITY)
            cards.setdefault(key, {})[sample.name] = sample.value
    return [_reading(dict(zip(_IDENTITY, key, strict=True)), values) for key, values in cards.items()]


def _reading(labels: dict[str, str], values: dict[str, float]) -> CardReading:
    """Utilisation in percent: the device's, or for a slice, which has none, its engine's."""
    active = values.get(ENGINE_ACTIVE)
    xid = values.get(XID_ERRORS)
    return CardReading(
        node=labels["Hostname"],
        gpu=labels["gpu"],
        model=labels["modelName"],
        profile=labels["GPU_I_PROFILE"],
        instance=labels["GPU_I_ID"],
        holder="/".join(filter(None, (labels["namespace"], labels["pod"]))),
        utilisation=values.get(GPU_UTIL, None if active is None else 100 * active),
        used_mib=values.get(FB_USED),
        free_mib=values.get(FB_FREE),
        xid=None if xid is None else int(xid),
    )


def held_and_idle(cards: Iterable[CardReading], *, below_percent: float = 5) -> list[CardReading]:
    """Cards that somebody holds and nobody uses."""
    return [
        card
        for card in cards
        if card.holder and card.utilisation is not None and card.utilisation < below_percent
    ]
