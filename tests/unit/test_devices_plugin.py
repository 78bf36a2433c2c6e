"""The plugin daemon against a kubelet's side of the gRPC API, on real sockets."""

from __future__ import annotations

import json
import queue
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml

from helpers.embedded.devices import deviceplugin_pb2 as api
from helpers.embedded.devices.daemon import Options, run

FULL = {"version": "v1", "course": {"gpus": 1, "mig": {"1g.10gb": 7}}}
MIG = {**FULL, "flags": {"migStrategy": "mixed"}}
SLICED = {
    **FULL,
    "sharing": {
        "timeSlicing": {
            "failRequestsGreaterThanOne": True,
            "resources": [{"name": "nvidia.com/gpu", "replicas": 4}],
        }
    },
}
WAIT_S = 20.0


class Kubelet:
    """The kubelet's side: accepts registrations, then follows ListAndWatch as the device manager does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lists: queue.Queue[tuple[str, dict[str, str]]] = queue.Queue()
        self.sockets: dict[str, Path] = {}
        self._server: grpc.Server | None = None

    def start(self) -> None:
        for socket in self.folder.glob("*.sock"):  # as the kubelet's registration server does
            socket.unlink()
        server = grpc.server(ThreadPoolExecutor(max_workers=2))
        method = grpc.unary_unary_rpc_method_handler(
            self._register,
            request_deserializer=api.RegisterRequest.FromString,
            response_serializer=api.Empty.SerializeToString,
        )
        handler = grpc.method_handlers_generic_handler("v1beta1.Registration", {"Register": method})
        server.add_generic_rpc_handlers((handler,))
        server.add_insecure_port(f"unix://{self.folder / 'kubelet.sock'}")
        server.start()
        self._server = server

    def stop(self) -> None:
        if self._server:
            self._server.stop(None).wait()
        (self.folder / "kubelet.sock").unlink(missing_ok=True)

    def _register(self, request: Any, _context: Any) -> api.Empty:
        assert request.version == "v1beta1"
        socket = self.folder / request.endpoint
        self.sockets[request.resource_name] = socket
        threading.Thread(target=self._follow, args=(request.resource_name, socket), daemon=True).start()
        return api.Empty()

    def _follow(self, resource: str, socket: Path) -> None:
        with grpc.insecure_channel(f"unix://{socket}") as channel:
            stream = channel.unary_stream(
                "/v1beta1.DevicePlugin/ListAndWatch",
                request_serializer=api.Empty.SerializeToString,
                response_deserializer=api.ListAndWatchResponse.FromString,
            )
            try:
                for response in stream(api.Empty()):
                    self.lists.put((resource, {item.ID: item.health for item in response.devices}))
            except grpc.RpcError:
                pass

    def allocate(self, resource: str, ids: list[str]) -> Any:
        with grpc.insecure_channel(f"unix://{self.sockets[resource]}") as channel:
            call = channel.unary_unary(
                "/v1beta1.DevicePlugin/Allocate",
                request_serializer=api.AllocateRequest.SerializeToString,
                response_deserializer=api.AllocateResponse.FromString,
            )
            container = api.ContainerAllocateRequest(devices_ids=ids)
            return call(api.AllocateRequest(container_requests=[container]), timeout=30)


class Bench:
    """A daemon and a kubelet in one temporary folder."""

    def __init__(self, folder: Path) -> None:
        files = (folder / "devices.yaml", folder / "unhealthy.json", folder / "admin.conf")
        self.options = Options(*files, folder, "substrate", poll_s=0.02, node_check_s=0.1)
        self.kubelet = Kubelet(folder)

    def configure(self, document: dict[str, Any]) -> None:
        self.options.config.write_text(yaml.safe_dump(document))

    def next_list(self) -> tuple[str, dict[str, str]]:
        return self.kubelet.lists.get(timeout=WAIT_S)


@pytest.fixture
def bench() -> Iterator[Bench]:
    # A socket's path has 108 characters at most: pytest's own folder may be longer.
    with tempfile.TemporaryDirectory(prefix="devices-") as folder:
        bench, stop = Bench(Path(folder)), threading.Event()
        daemon = threading.Thread(target=run, args=(bench.options, stop))
        bench.configure(FULL)
        daemon.start()
        try:
            bench.kubelet.start()
            yield bench
        finally:
            stop.set()
            daemon.join(WAIT_S)
            bench.kubelet.stop()


def test_a_kubelet_that_comes_later_is_told_of_one_healthy_gpu(bench: Bench) -> None:
    resource, devices = bench.next_list()
    assert resource == "nvidia.com/gpu"
    assert list(devices.values()) == ["Healthy"]


def test_allocation_names_the_device_and_says_simulated(bench: Bench) -> None:
    resource, devices = bench.next_list()
    (response,) = bench.kubelet.allocate(resource, list(devices)).container_responses
    assert response.envs["NVIDIA_VISIBLE_DEVICES"] == next(iter(devices))
    assert response.annotations["course.llm-stack/gpu"] == "simulated"


def test_allocation_of_an_unknown_device_is_refused(bench: Bench) -> None:
    resource, _ = bench.next_list()
    with pytest.raises(grpc.RpcError) as refusal:
        bench.kubelet.allocate(resource, ["GPU-none"])
    assert refusal.value.code() == grpc.StatusCode.NOT_FOUND


def test_marking_a_device_unhealthy_and_back_is_streamed(bench: Bench) -> None:
    bench.next_list()
    bench.options.unhealthy.write_text(json.dumps(["0"]))
    assert list(bench.next_list()[1].values()) == ["Unhealthy"]
    bench.options.unhealthy.unlink()
    assert list(bench.next_list()[1].values()) == ["Healthy"]


def test_another_shape_empties_the_old_resource_before_it_serves_the_new(bench: Bench) -> None:
    bench.next_list()
    bench.configure(MIG)
    assert bench.next_list() == ("nvidia.com/gpu", {})
    resource, devices = bench.next_list()
    assert (resource, len(devices)) == ("nvidia.com/mig-1g.10gb", 7)


def test_time_slicing_shows_one_physical_device_and_limits_a_container_to_one(bench: Bench) -> None:
    bench.next_list()
    bench.configure(SLICED)
    resource, devices = bench.next_list()
    first, second, *_ = devices
    (response,) = bench.kubelet.allocate(resource, [first]).container_responses
    assert "::" not in response.envs["NVIDIA_VISIBLE_DEVICES"]
    with pytest.raises(grpc.RpcError, match="maximum request size for shared resources is 1"):
        bench.kubelet.allocate(resource, [first, second])


def test_a_restarted_kubelet_is_registered_with_again(bench: Bench) -> None:
    bench.next_list()
    bench.kubelet.stop()
    bench.kubelet.start()
    assert list(bench.next_list()[1].values()) == ["Healthy"]


def test_a_bad_configuration_leaves_the_last_good_one(bench: Bench) -> None:
    bench.next_list()
    bench.options.config.write_text("flags: {migStrategy: nonsense}")
    bench.options.unhealthy.write_text("[]")
    bench.configure(MIG)
    assert bench.next_list() == ("nvidia.com/gpu", {})


class NodeApi:
    """The Node's part of an API server: a GET and a merge patch, over plain HTTP."""

    def __init__(self, node: dict[str, Any]) -> None:
        self.patched: queue.Queue[dict[str, Any]] = queue.Queue()
        self.is_registered = False

        class Handler(BaseHTTPRequestHandler):
            def do_GET(inner) -> None:
                if self.is_registered:
                    inner.answer(200, node)
                else:
                    self.is_registered = True
                    inner.answer(404, {"message": "not found"})

            def do_PATCH(inner) -> None:
                body = inner.rfile.read(int(inner.headers["Content-Length"]))
                self.patched.put(json.loads(body))
                inner.answer(200, node)

            def answer(inner, code: int, document: dict[str, Any]) -> None:
                inner.send_response(code)
                inner.end_headers()
                inner.wfile.write(json.dumps(document).encode())

            def log_message(inner, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def kubeconfig(self) -> str:
        server = f"http://127.0.0.1:{self._server.server_address[1]}"
        return yaml.safe_dump(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
                "clusters": [{"name": "k", "cluster": {"server": server}}],
                "users": [{"name": "u", "user": {}}],
            }
        )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_the_node_is_labelled_and_rid_of_what_an_earlier_daemon_advertised(bench: Bench) -> None:
    assert bench.next_list()[0] == "nvidia.com/gpu"
    stale = {"metadata": {"labels": {}}, "status": {"capacity": {"nvidia.com/mig-1g.10gb": "7"}}}
    node = NodeApi(stale)
    try:
        bench.options.kubeconfig.write_text(node.kubeconfig())
        patch = node.patched.get(timeout=WAIT_S)["metadata"]
        assert patch["labels"]["nvidia.com/gpu.count"] == "1"
        assert patch["annotations"] == {"course.llm-stack/gpu": "simulated"}
        assert bench.next_list() == ("nvidia.com/mig-1g.10gb", {})
    finally:
        node.close()
