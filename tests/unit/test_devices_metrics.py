"""What Prometheus is told of the simulated GPUs: every shape, its holders, its health; over real sockets."""

from __future__ import annotations

import json
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from helpers.embedded.devices import cri_pb2 as cri
from helpers.embedded.devices import podresources_pb2 as podresources
from helpers.embedded.devices.config import Shape, physical_id, shape_of
from helpers.embedded.devices.daemon import Options, Settings, metrics
from helpers.embedded.devices.exporter import Exporter, started
from helpers.embedded.devices.holders import Holder, Usage
from helpers.embedded.devices.metrics import ENGINE_ACTIVE, FB_FREE, FB_USED, GPU_UTIL, XID_ERRORS, exposition

GPU = {"product": "NVIDIA-A100-SXM4-80GB", "memoryMiB": 81920, "gpus": 1, "mig": {"1g.10gb": 7}}
FULL: dict[str, Any] = {"version": "v1", "course": GPU}
MIG: dict[str, Any] = {**FULL, "flags": {"migStrategy": "mixed"}}
SLICED: dict[str, Any] = {
    **FULL,
    "sharing": {"timeSlicing": {"resources": [{"name": "nvidia.com/gpu", "replicas": 4}]}},
}
MIB = 1 << 20
HEALTHY: frozenset[str] = frozenset()


def samples(text: str) -> dict[str, list[Sample]]:
    return {family.name: family.samples for family in text_string_to_metric_families(text)}


def devices(shape: Shape) -> tuple[str, ...]:
    return shape.resources[0].device_ids


def told(document: dict[str, Any], usage: dict[Holder, Usage] | None = None) -> dict[str, list[Sample]]:
    return samples(exposition(shape_of(document, "substrate"), HEALTHY, usage or {}, "substrate"))


def test_a_whole_gpu_that_nobody_holds_is_idle_and_empty() -> None:
    seen = told(FULL)
    (used,) = seen[GPU_UTIL]
    assert used.value == 0
    assert used.labels == {
        "gpu": "0",
        "UUID": devices(shape_of(FULL, "substrate"))[0],
        "device": "nvidia0",
        "modelName": "NVIDIA-A100-SXM4-80GB-SIMULATED",
        "Hostname": "substrate",
    }
    assert [seen[name][0].value for name in (ENGINE_ACTIVE, FB_FREE, FB_USED, XID_ERRORS)] == [0, 81920, 0, 0]


def test_a_holder_has_its_labels_and_its_use_is_a_part_of_its_limit() -> None:
    holder = Holder("llm-system", "vllm-0", "vllm", devices(shape_of(FULL, "substrate")))
    seen = told(FULL, {holder: Usage(cpus=0.5, cpu_limit=2.0, memory_bytes=2048 * MIB)})
    (used,) = seen[GPU_UTIL]
    assert (used.value, seen[ENGINE_ACTIVE][0].value) == (25, 0.25)
    assert (seen[FB_USED][0].value, seen[FB_FREE][0].value) == (2048, 81920 - 2048)
    shown = {key: used.labels[key] for key in ("namespace", "pod", "container")}
    assert shown == {"namespace": "llm-system", "pod": "vllm-0", "container": "vllm"}


def test_a_holder_of_two_cards_is_taken_to_use_them_alike() -> None:
    document = {**FULL, "course": {**GPU, "gpus": 2}}
    holder = Holder("a", "b", "c", devices(shape_of(document, "substrate")))
    seen = told(document, {holder: Usage(1.0, 1.0, 100 * MIB)})
    assert [item.labels["gpu"] for item in seen[GPU_UTIL]] == ["0", "1"]
    assert [item.value for item in seen[FB_USED]] == [50, 50]


def test_a_mig_slice_has_its_profile_its_memory_and_no_device_utilisation() -> None:
    shape = shape_of(MIG, "substrate")
    holder = Holder("llm-system", "vllm-0", "vllm", devices(shape)[2:3])
    seen = told(MIG, {holder: Usage(0.5, 1.0, 1024 * MIB)})
    assert GPU_UTIL not in seen
    assert [item.labels["GPU_I_ID"] for item in seen[ENGINE_ACTIVE]] == [str(n) for n in range(1, 8)]
    assert {item.labels["GPU_I_PROFILE"] for item in seen[ENGINE_ACTIVE]} == {"1g.10gb"}
    assert {item.labels["UUID"] for item in seen[FB_FREE]} == set(devices(shape_of(FULL, "substrate")))
    assert [item.value for item in seen[ENGINE_ACTIVE]] == [0, 0, 0.5, 0, 0, 0, 0]
    assert [item.value for item in seen[FB_FREE]] == [9728 - (1024 if n == 2 else 0) for n in range(7)]
    assert [item.labels.get("pod") for item in seen[FB_FREE]].index("vllm-0") == 2


def test_a_profile_without_a_figure_of_nvidia_has_the_memory_of_its_name() -> None:
    seen = told({**MIG, "course": {**GPU, "mig": {"2g.24gb": 1}}})
    assert seen[FB_FREE][0].value == 24 * 1024


def test_tenants_of_a_time_sliced_gpu_each_show_the_whole_cards_values() -> None:
    ids = devices(shape_of(SLICED, "substrate"))
    usage = {
        Holder("a", "one", "c", (ids[0],)): Usage(1.0, 1.0, 100 * MIB),
        Holder("b", "two", "c", (ids[3],)): Usage(0.0, 3.0, 200 * MIB),
    }
    seen = told(SLICED, usage)
    assert [(item.labels["vgpu"], item.labels["pod"]) for item in seen[GPU_UTIL]] == [
        ("0", "one"),
        ("3", "two"),
    ]
    assert {item.labels["UUID"] for item in seen[GPU_UTIL]} == {physical_id(ids[0])}
    assert [item.value for item in seen[GPU_UTIL]] == [25, 25]
    assert [item.value for item in seen[FB_USED]] == [300, 300]


def test_more_than_all_is_all() -> None:
    holder = Holder("a", "b", "c", devices(shape_of(FULL, "substrate")))
    seen = told(FULL, {holder: Usage(2.0, 1.0, 90_000 * MIB)})
    assert (seen[GPU_UTIL][0].value, seen[FB_FREE][0].value) == (100, 0)


def test_an_unhealthy_card_has_an_xid_and_the_others_none() -> None:
    shape = shape_of(MIG, "substrate")
    seen = samples(exposition(shape, frozenset({"2"}), {}, "substrate"))[XID_ERRORS]
    assert [int(item.value) for item in seen] == [0, 0, 79, 0, 0, 0, 0]
    assert [item.labels["err_code"] for item in seen].index("79") == 2


def test_every_family_says_what_is_simulated_and_no_gpu_is_no_family() -> None:
    text = exposition(shape_of(FULL, "substrate"), HEALTHY, {}, "substrate")
    assert all("simulated: " in family.documentation for family in text_string_to_metric_families(text))
    assert exposition(Shape(), HEALTHY, {}, "substrate") == ""


def test_a_name_with_a_quote_in_it_is_still_readable() -> None:
    odd = 'odd "name" \\ here'
    (item,) = told({**FULL, "course": {**GPU, "product": odd}})[FB_USED]
    assert item.labels["modelName"] == f"{odd}-SIMULATED"


# Over the kubelet's and the runtime's sockets


class Node:
    """A kubelet's pod-resources API, a container runtime, and the daemon's configuration."""

    def __init__(self, folder: Path) -> None:
        self.listed: list[podresources.PodResources] = []
        self.cpu_ns = self.now_ns = 0
        self.busy = 0.5
        self.quota = 50_000
        self.options = Options(
            folder / "devices.yaml",
            folder / "unhealthy.json",
            folder / "none",
            folder,
            "substrate",
            pod_resources=folder / "pods.sock",
            runtime=folder / "cri.sock",
        )
        self.options.config.write_text(yaml.safe_dump(FULL))
        self.settings = Settings(self.options)
        listed = podresources.ListPodResourcesResponse
        stats = cri.ListContainerStatsResponse
        self.servers = [
            serve(
                self.options.pod_resources,
                "v1.PodResourcesLister",
                {"List": (podresources.ListPodResourcesRequest, lambda _: listed(pod_resources=self.listed))},
            ),
            serve(
                self.options.runtime,
                "runtime.v1.RuntimeService",
                {
                    "ListContainerStats": (
                        cri.ListContainerStatsRequest,
                        lambda asked: stats(stats=self.stats(asked)),
                    ),
                    "ContainerStatus": (cri.ContainerStatusRequest, self.status),
                },
            ),
        ]

    def holds(self, pod: str, *ids: str) -> None:
        held = podresources.ContainerDevices(resource_name="nvidia.com/gpu", device_ids=ids)
        other = podresources.ContainerDevices(resource_name="example.com/nic", device_ids=["nic-0"])
        container = podresources.ContainerResources(name="work", devices=[other, held])
        idle = podresources.ContainerResources(name="sidecar", devices=[other])
        self.listed = [
            podresources.PodResources(name=pod, namespace="llm-system", containers=[idle, container])
        ]

    def stats(self, asked: Any) -> list[Any]:
        """One running container, whose clock goes on by a second with each reading."""
        if asked.filter.label_selector["io.kubernetes.pod.name"] != "running":
            return []
        self.now_ns += 10**9
        self.cpu_ns += int(self.busy * 10**9)
        attributes = cri.ContainerAttributes(id="c1", metadata=cri.ContainerMetadata(name="work"))
        ended = cri.ContainerAttributes(id="c0", metadata=cri.ContainerMetadata(name="work"))
        cpu = cri.CpuUsage(timestamp=self.now_ns, usage_core_nano_seconds=cri.UInt64Value(value=self.cpu_ns))
        memory = cri.MemoryUsage(working_set_bytes=cri.UInt64Value(value=300 * MIB))
        return [
            cri.ContainerStats(attributes=ended),
            cri.ContainerStats(attributes=attributes, cpu=cpu, memory=memory),
        ]

    def status(self, asked: Any) -> Any:
        assert asked.container_id == "c1"
        linux = cri.LinuxContainerResources(cpu_period=100_000, cpu_quota=self.quota)
        return cri.ContainerStatusResponse(
            status=cri.ContainerStatus(resources=cri.ContainerResources(linux=linux))
        )

    def told(self) -> dict[str, list[Sample]]:
        self.settings.refresh()
        return samples(metrics(self.options, self.settings))


def serve(socket: Path, service: str, methods: dict[str, tuple[Any, Any]]) -> grpc.Server:
    """A gRPC server behind a socket: each method with its request's type and what answers it."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            lambda request, _context, answer=answer: answer(request),
            request_deserializer=request_type.FromString,
            response_serializer=lambda response: response.SerializeToString(),
        )
        for name, (request_type, answer) in methods.items()
    }
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(f"unix://{socket}")
    server.start()
    return server


@pytest.fixture
def node() -> Iterator[Node]:
    with tempfile.TemporaryDirectory(prefix="metrics-") as folder:
        node = Node(Path(folder))
        yield node
        for server in node.servers:
            server.stop(None).wait()


def test_a_holder_appears_with_its_use_and_disappears_with_its_pod(node: Node) -> None:
    (device,) = devices(shape_of(FULL, "substrate"))
    assert "pod" not in node.told()[GPU_UTIL][0].labels
    node.holds("running", device)
    node.quota = 100_000
    (used,) = node.told()[GPU_UTIL]
    assert (used.labels["pod"], used.labels["container"], used.value) == ("running", "work", 50)
    assert node.told()[FB_USED][0].value == 300
    node.listed = []
    assert "pod" not in node.told()[GPU_UTIL][0].labels


def test_a_pod_whose_container_does_not_run_yet_holds_an_idle_card(node: Node) -> None:
    node.holds("starting", *devices(shape_of(FULL, "substrate")))
    seen = node.told()
    assert (seen[GPU_UTIL][0].labels["pod"], seen[GPU_UTIL][0].value) == ("starting", 0)
    assert seen[FB_USED][0].value == 0


def test_without_a_limit_the_nodes_cpus_are_the_limit(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    node.holds("running", *devices(shape_of(FULL, "substrate")))
    node.quota, node.busy = 0, 2.0
    assert node.told()[GPU_UTIL][0].value == 50


def test_the_shape_and_the_health_are_those_of_the_daemon_now(node: Node) -> None:
    node.options.config.write_text(yaml.safe_dump(MIG))
    node.options.unhealthy.write_text(json.dumps(["all"]))
    seen = node.told()
    assert [item.value for item in seen[XID_ERRORS]] == [79] * 7


def get(exporter: Exporter, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_metrics_are_computed_when_asked_for_and_at_no_other_time() -> None:
    asked = threading.Event()

    def read() -> str:
        asked.set()
        return "up 1\n"

    exporter = started("127.0.0.1:0", read)
    assert exporter is not None
    try:
        assert get(exporter, "/health") == (200, "OK\n")
        assert get(exporter, "/")[0] == 404
        assert not asked.is_set()
        assert get(exporter, "/metrics") == (200, "up 1\n")
    finally:
        exporter.stop()


def test_a_kubelet_that_does_not_answer_is_said_and_no_figure_is_given(node: Node) -> None:
    node.servers[0].stop(None).wait()
    exporter = started("127.0.0.1:0", lambda: metrics(node.options, node.settings))
    assert exporter is not None
    try:
        status, text = get(exporter, "/metrics")
    finally:
        exporter.stop()
    assert status == 503 and "does not answer" in text


def test_a_port_that_is_taken_costs_the_metrics_and_nothing_else() -> None:
    first = started("127.0.0.1:0", str)
    assert first is not None
    try:
        assert started(f"127.0.0.1:{first.port}", str) is None
    finally:
        first.stop()
