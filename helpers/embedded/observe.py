"""What `up` waits for: each question is put to the running cluster, never to a file about it."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import http.client
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from helpers.embedded import gpu
from helpers.embedded.kubeapi import TRANSIENT, Api, Endpoint
from helpers.embedded.sandbox import Sandbox

DNS_SERVICE = "10.96.0.10"
API_SERVICE = "10.96.0.1"
POLICY_TABLE = ("inet", "course-policy")
STORAGE_CLASS = "fast-nvme"
# The one administrator whom the API server knows before its role bindings are loaded.
ADMINISTRATOR = "etc/kubernetes/super-admin.conf"
GPU_PREFIX = "nvidia.com/"
# dcgm-exporter's own port, which node/services/devices/run and node/gpu-metrics.yaml name too.
METRICS_PORT = 9400
_CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Observation:
    """One thing a cluster must have: `answer` is empty while it does not, and else what was seen."""

    title: str
    logs: tuple[str, ...]
    answer: Callable[[], str]


def observations(sandbox: Sandbox, pid: int, started: float) -> list[Observation]:
    """Everything that makes a cluster usable, in the order in which it comes to be.

    `started` is the node's start in seconds since the epoch: a kept cluster's API still shows the
    state of the former boot, and only what was reported since then counts.
    """
    api = _Lazy(sandbox, pid)
    return [
        Observation(
            "API server", ("pods/*etcd*/*/*", "pods/*kube-apiserver*/*/*", "kubelet.log"), lambda: _ready(api)
        ),
        Observation("node", ("kubelet.log", "containerd.log"), lambda: _node(api, started)),
        Observation("storage class", ("pods/*kube-apiserver*/*/*",), lambda: _storage(api)),
        Observation("policy table", ("course-policy.log",), lambda: _policy(sandbox, pid)),
        gpus(sandbox, pid, api),
        Observation("GPU metrics", ("course-devices.log",), lambda: gpu_metrics(sandbox)),
        Observation(
            "cluster DNS",
            ("pods/*coredns*/*/*", "kube-proxy.log", "course-policy.log"),
            lambda: dns_answers(pid),
        ),
    ]


def gpus(sandbox: Sandbox, pid: int, api: _Lazy | None = None) -> Observation:
    """The node advertises exactly the GPUs it is configured to have."""
    asked = api or _Lazy(sandbox, pid)
    return Observation(
        "GPU devices", ("course-devices.log",), lambda: _gpus(asked, sandbox.data("etc/course"))
    )


def gpu_metrics(sandbox: Sandbox) -> str:
    """Where the node's device daemon answers Prometheus; empty while it does not."""
    where = sandbox.addresses.node
    connection = http.client.HTTPConnection(where, METRICS_PORT, timeout=2)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health")
        if connection.getresponse().status == 200:
            return f"http://{where}:{METRICS_PORT}/metrics"
    return ""


def takes_objects(sandbox: Sandbox, pid: int) -> bool:
    """Whether the API server answers and has its own namespaces."""
    api = _Lazy(sandbox, pid)
    with contextlib.suppress(*TRANSIENT):
        return all(api.get(f"/api/v1/namespaces/{name}") for name in ("kube-system", "kube-public"))
    return False


class _Lazy:
    """The API as administrator, once kubeadm has written the credentials."""

    def __init__(self, sandbox: Sandbox, pid: int) -> None:
        self._kubeconfig = sandbox.path(ADMINISTRATOR, pid=pid)
        self._host = sandbox.addresses.node
        self._api: Api | None = None

    def get(self, path: str) -> dict:
        if self._api is None:
            endpoint = Endpoint.from_kubeconfig(self._kubeconfig)
            self._api = Api(replace(endpoint, host=self._host))
        return self._api.request("GET", path, timeout_s=2)


def _ready(api: _Lazy) -> str:
    with contextlib.suppress(*TRANSIENT):
        return api.get("/version")["gitVersion"]
    return ""


def _node(api: _Lazy, started: float) -> str:
    with contextlib.suppress(*TRANSIENT):
        node = api.get("/api/v1/nodes/substrate")
        for condition in node["status"]["conditions"]:
            seen = datetime.datetime.fromisoformat(condition["lastHeartbeatTime"]).timestamp()
            if condition["type"] == "Ready" and condition["status"] == "True" and seen >= started - 1:
                return "Ready"
    return ""


def _storage(api: _Lazy) -> str:
    with contextlib.suppress(*TRANSIENT):
        return api.get(f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}")["metadata"]["name"]
    return ""


def _gpus(api: _Lazy, folder: Path) -> str:
    expected = gpu.expected(folder)
    with contextlib.suppress(*TRANSIENT):
        allocatable = api.get("/api/v1/nodes/substrate")["status"]["allocatable"]
        shown = {name: count for name, count in allocatable.items() if name.startswith(GPU_PREFIX)}
        if all(shown.get(name, "0") == expected.get(name, "0") for name in {*shown, *expected}):
            return ", ".join(f"{name}: {count}" for name, count in expected.items()) or "no GPU"
    return ""


def _policy(sandbox: Sandbox, pid: int) -> str:
    command = sandbox.run(["nft", "list", "table", *POLICY_TABLE], pid=pid)
    return " ".join(POLICY_TABLE) if subprocess.run(command, capture_output=True).returncode == 0 else ""


def dns_answers(pid: int) -> str:
    """Ask the cluster's DNS for the API server's Service, from inside the node's network."""
    with contextlib.suppress(OSError), _socket_in(pid) as link:
        link.settimeout(0.5)
        link.sendto(_query("kubernetes.default.svc.cluster.local"), (DNS_SERVICE, 53))
        if link.recv(512).endswith(socket.inet_aton(API_SERVICE)):
            return DNS_SERVICE
    return ""


def _query(name: str) -> bytes:
    """A DNS question for an A record (RFC 1035, section 4)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return os.urandom(2) + b"\x01\x00\x00\x01" + b"\0" * 6 + labels + b"\0\x00\x01\x00\x01"


@contextlib.contextmanager
def _socket_in(pid: int) -> Iterator[socket.socket]:
    """A UDP socket in the node's network: a socket keeps the network it was made in.

    Made in a thread of its own, since a thread's network namespace can be changed alone.
    """
    made: list[socket.socket] = []

    def make() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            if libc.setns(namespace, _CLONE_NEWNET) == 0:
                made.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        finally:
            os.close(namespace)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    if not made:
        raise OSError("the node's network cannot be entered")
    with made[0]:
        yield made[0]


def started_at(pid: int) -> float:
    """When a process started, in seconds since the epoch."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks
