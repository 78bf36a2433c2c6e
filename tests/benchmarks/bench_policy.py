"""From a change in the API to the rule in the kernel, with 100 pods: the budget is 0.3 s.

Runs on the embedded cluster named by COURSE_CLUSTER (default "bench"), which is started if need be.
The 100 pods are real objects of the API with addresses of the pod range, bound to a Node that has no
kubelet, so that only the path under test is busy: API server, watch, compiler, nft. The clock starts
before the request is sent and stops when `nft monitor` in the node prints the new rule.
"""

from __future__ import annotations

import json
import os
import pty
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from helpers.embedded.kubeapi import MERGE_PATCH, Api, ApiError, Endpoint
from helpers.embedded.launch import existing
from helpers.settings import kubeconfig_path
from tests.own_cluster import own_cluster

PODS, POLICIES, ROUNDS = 100, 30, 50
SPACE, NODE = "bench-policy", "bench-ghost"
PODS_PATH = f"/api/v1/namespaces/{SPACE}/pods"
POLICIES_PATH = f"/apis/networking.k8s.io/v1/namespaces/{SPACE}/networkpolicies"
BUDGET_S = 0.3


class Kernel:
    """`nft monitor` inside the node, read through a terminal because it buffers into pipes."""

    def __init__(self, command: list[str]) -> None:
        mine, theirs = pty.openpty()
        self._monitor = subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL)
        os.close(theirs)
        self._lines = os.fdopen(mine, encoding="utf-8", errors="replace")

    def wait_for(self, text: str) -> float:
        """Read until a line holds `text`; returns the monotonic time it was read at."""
        for line in self._lines:
            if text in line:
                return time.perf_counter()
        raise RuntimeError("nft monitor ended")

    def close(self) -> None:
        self._monitor.kill()
        self._monitor.wait()


def policy(name: str, port: int) -> dict[str, Any]:
    group = {"matchLabels": {"group": str(port % 10)}}
    rule = {"from": [{"podSelector": group}], "ports": [{"port": port}]}
    spec = {"podSelector": group, "policyTypes": ["Ingress"], "ingress": [rule]}
    return {"metadata": {"name": name, "namespace": SPACE}, "spec": spec}


def pod(number: int) -> dict[str, Any]:
    container = {"name": "c", "image": "none", "ports": [{"name": "http", "containerPort": 8080}]}
    return {
        "metadata": {"name": f"p{number}", "labels": {"group": str(number % 10), "app": f"a{number}"}},
        "spec": {"nodeName": NODE, "containers": [container], "tolerations": [{"operator": "Exists"}]},
    }


def give_address(api: Api, number: int, address: str) -> None:
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    api.request("PATCH", f"{PODS_PATH}/p{number}/status", {"status": status}, content_type=MERGE_PATCH)


@contextmanager
def populated(api: Api) -> Iterator[None]:
    api.request("POST", "/api/v1/nodes", {"metadata": {"name": NODE}})
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": SPACE}})
    try:
        until(lambda: api.request("GET", f"/api/v1/namespaces/{SPACE}/serviceaccounts/default"))
        for number in range(PODS):
            api.request("POST", PODS_PATH, pod(number))
            give_address(api, number, f"10.244.200.{number + 1}")
        for number in range(POLICIES):
            api.request("POST", POLICIES_PATH, policy(f"n{number}", 1000 + number))
        yield
    finally:
        for number in range(PODS):
            quietly(lambda n=number: api.request("DELETE", f"{PODS_PATH}/p{n}", {"gracePeriodSeconds": 0}))
        for path in (f"/api/v1/namespaces/{SPACE}", f"/api/v1/nodes/{NODE}"):
            quietly(lambda p=path: api.request("DELETE", p))


def until(attempt: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            attempt()
            return
        except ApiError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def quietly(action: Callable[[], object]) -> None:
    try:
        action()
    except ApiError as fault:
        print(f"clean-up: {fault}", file=sys.stderr)


def measure_policies(api: Api, kernel: Kernel) -> list[float]:
    """A policy's port changes: the chain of the pods it selects must change in the kernel."""
    took = []
    for number in range(ROUNDS):
        port = 20000 + number * 10
        begun = time.perf_counter()
        change = {"spec": policy("n0", port)["spec"]}
        api.request("PATCH", f"{POLICIES_PATH}/n0", change, content_type=MERGE_PATCH)
        took.append(kernel.wait_for(f"dport {port}") - begun)
    return took


def measure_pods(api: Api, kernel: Kernel) -> list[float]:
    """A pod is given another address: the kernel must know it, or the pod has no network."""
    took = []
    for number in range(ROUNDS):
        address = f"10.244.201.{number + 1}"
        begun = time.perf_counter()
        give_address(api, 0, address)
        took.append(kernel.wait_for(address) - begun)
    return took


def show(what: str, took: list[float]) -> None:
    ordered = sorted(took)
    p95 = ordered[int(len(ordered) * 0.95) - 1]
    verdict = "within" if ordered[-1] <= BUDGET_S else "over"
    print(
        f"{what}: median {statistics.median(ordered) * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms, "
        f"longest {ordered[-1] * 1000:.0f} ms ({verdict} the budget of {BUDGET_S * 1000:.0f} ms)"
    )


def memory_mib(pid: int) -> dict[str, float]:
    """Resident memory of the node's two daemons."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().split("\0")
            same_node = (process / "ns/pid").readlink() == Path(f"/proc/{pid}/ns/pid").readlink()
            resident = int((process / "statm").read_text().split()[1]) * 4096 / 2**20
        except OSError:
            continue
        for daemon in ("policy", "devices"):
            if same_node and f"helpers.embedded.{daemon}" in words:
                found[daemon] = resident
    return found


def main() -> None:
    name = os.environ.setdefault("COURSE_CLUSTER", "bench")
    with own_cluster(name):
        measure(name)


def measure(name: str) -> None:
    """All figures of one running cluster."""
    sandbox = existing(name)
    pid = sandbox.pid() if sandbox else None
    if sandbox is None or pid is None:
        raise SystemExit("the cluster does not run")
    api = Api(Endpoint.from_kubeconfig(kubeconfig_path(name)))
    kernel = Kernel(sandbox.run(["nft", "monitor", "new"]))
    try:
        with populated(api):
            print(f"{PODS} pods, {POLICIES} policies, {ROUNDS} changes, load {os.getloadavg()[0]:.1f}")
            show("policy change to kernel", measure_policies(api, kernel))
            show("pod address to kernel", measure_pods(api, kernel))
            status = json.loads(sandbox.path("run/course/policy.json", pid=pid).read_text())
            print(f"last round: compile {status['compile_ms']} ms, nft {status['load_ms']} ms")
            for daemon, resident in memory_mib(pid).items():
                print(f"memory of the {daemon} daemon: {resident:.0f} MiB resident")
    finally:
        kernel.close()


if __name__ == "__main__":
    main()
