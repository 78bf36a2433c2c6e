"""Who holds the devices, as the kubelet says it, and what their containers use, as the runtime says it.

NVIDIA's dcgm-exporter learns the holders from the same API of the kubelet. What a container uses of
a GPU it learns from the driver; here, where there is none, CPU and memory of the container's cgroup
stand in, read through the container runtime, which knows the kernel's cgroup version.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from helpers.embedded.devices import cri_pb2 as cri
from helpers.embedded.devices import podresources_pb2 as podresources
from helpers.embedded.devices.config import VENDOR

CALL_TIMEOUT_S = 5.0
# NVIDIA's driver averages utilisation over 1/6 s to 1 s, "depending on the product being queried".
SAMPLE_S = 0.2


@dataclass(frozen=True)
class Holder:
    """A container that was given devices, by the kubelet's ids."""

    namespace: str
    pod: str
    container: str
    device_ids: tuple[str, ...]


@dataclass(frozen=True)
class Usage:
    """What a container uses now: CPUs, how many it may use, and its working set in bytes."""

    cpus: float = 0.0
    cpu_limit: float = 1.0
    memory_bytes: int = 0


def read_holders(socket: Path) -> list[Holder]:
    """The containers that hold our devices, from the kubelet's pod-resources API.

    Raises grpc.RpcError when the kubelet does not answer.
    """
    with _connected(socket) as call:
        answer = call(
            "v1.PodResourcesLister/List",
            podresources.ListPodResourcesRequest(),
            podresources.ListPodResourcesResponse,
        )
    found = []
    for pod in answer.pod_resources:
        for container in pod.containers:
            mine = (item for item in container.devices if item.resource_name.startswith(VENDOR))
            if ids := tuple(device for item in mine for device in item.device_ids):
                found.append(Holder(pod.namespace, pod.name, container.name, ids))
    return found


def read_usage(socket: Path, holders: Iterable[Holder], *, sample_s: float = SAMPLE_S) -> dict[Holder, Usage]:
    """What each holder uses, its CPU averaged over `sample_s`; one that does not run yet uses nothing.

    Raises grpc.RpcError when the container runtime does not answer.
    """
    wanted = list(holders)
    if not wanted:
        return {}
    with _connected(socket) as call:
        before = {holder: _stats(call, holder) for holder in wanted}
        time.sleep(sample_s)
        return {holder: _usage(call, before[holder], _stats(call, holder)) for holder in wanted}


def _usage(call: Any, before: Any, after: Any) -> Usage:
    """From two readings of the same container; a restarted one has no rate yet."""
    if after is None:
        return Usage()
    memory = after.memory.working_set_bytes.value
    limit = _cpu_limit(call, after.attributes.id)
    if before is None or before.attributes.id != after.attributes.id:
        return Usage(0.0, limit, memory)
    used_ns = after.cpu.usage_core_nano_seconds.value - before.cpu.usage_core_nano_seconds.value
    elapsed_ns = after.cpu.timestamp - before.cpu.timestamp
    return Usage(max(used_ns, 0) / max(elapsed_ns, 1), limit, memory)


def _stats(call: Any, holder: Holder) -> Any:
    """The runtime's reading of a holder's running container, or None."""
    labels = {"io.kubernetes.pod.namespace": holder.namespace, "io.kubernetes.pod.name": holder.pod}
    request = cri.ListContainerStatsRequest(filter=cri.ContainerStatsFilter(label_selector=labels))
    answer = call("runtime.v1.RuntimeService/ListContainerStats", request, cri.ListContainerStatsResponse)
    running = (item for item in answer.stats if item.cpu.timestamp)
    return next((item for item in running if item.attributes.metadata.name == holder.container), None)


def _cpu_limit(call: Any, container_id: str) -> float:
    """How many CPUs the container may use: its limit, or without one all of the node's."""
    request = cri.ContainerStatusRequest(container_id=container_id)
    answer = call("runtime.v1.RuntimeService/ContainerStatus", request, cri.ContainerStatusResponse)
    limits = answer.status.resources.linux
    if limits.cpu_quota > 0 and limits.cpu_period > 0:
        return limits.cpu_quota / limits.cpu_period
    return float(os.cpu_count() or 1)


@contextmanager
def _connected(socket: Path) -> Iterator[Any]:
    """A function that makes one call to the server behind the socket."""
    with grpc.insecure_channel(f"unix://{socket}") as channel:

        def call(method: str, request: Any, answer: Any) -> Any:
            made = channel.unary_unary(
                f"/{method}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=answer.FromString,
            )
            return made(request, timeout=CALL_TIMEOUT_S)

        yield call
