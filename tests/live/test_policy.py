"""NetworkPolicy on the live cluster: a quick part of what `make conformance` shows in full.

Every wait is on the condition itself; a connection that is denied costs one time-out.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from helpers import settings
from helpers.cluster import Cluster, ClusterView
from helpers.embedded.launch import existing

pytestmark = pytest.mark.live

AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
EMBEDDED_ONLY = pytest.mark.skipif(
    bool(os.environ.get("COURSE_TEST_KUBECONFIG")), reason="looks into the embedded cluster's node"
)


def pod(name: str, namespace: str, *arguments: str, once: bool = False) -> dict[str, Any]:
    container = {
        "name": "agnhost",
        "image": AGNHOST,
        "args": list(arguments),
        "ports": [{"name": "http", "containerPort": 8080}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "containers": [container],
            "restartPolicy": "Never" if once else "Always",
            "terminationGracePeriodSeconds": 0,
            "enableServiceLinks": False,
        },
    }


def policy(name: str, namespace: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, **spec},
    }


class Network:
    """Two pods, `client` and `server`, in a namespace of their own."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace
        server = ["netexec", "--http-port=8080"]
        cluster.apply([pod(name, namespace, *server) for name in ("client", "server")])
        for name in ("client", "server"):
            cluster.wait_ready("Pod", name, namespace, timeout_s=60)
        self.server = str(cluster.view().pod("server", namespace).path("status.podIP"))

    def connects(self, port: int = 8080, *, to: str | None = None) -> bool:
        command = ["/agnhost", "connect", f"{to or self.server}:{port}", "--timeout=1s"]
        done = self.cluster.exec(self.namespace, "client", command, timeout_s=60)
        assert done.exit_code == 0 or "TIMEOUT" in done.stderr, done.stderr
        return done.exit_code == 0

    def settles(self, *, connected: bool) -> None:
        """The engine follows the API in milliseconds; two tries are generous."""
        assert self.connects() is connected or self.connects() is connected

    def deny(self, **spec: Any) -> None:
        self.cluster.apply(policy("deny", self.namespace, spec or {"policyTypes": ["Ingress"]}))


@pytest.fixture
def network(cluster: Cluster, namespace: str) -> Network:
    return Network(cluster, namespace)


def test_a_default_deny_stops_packets_and_its_removal_lets_them_pass(network: Network) -> None:
    network.settles(connected=True)
    network.deny()
    network.settles(connected=False)
    network.cluster.delete("NetworkPolicy", "deny", network.namespace)
    network.settles(connected=True)


def test_an_allow_by_label_and_named_port_follows_the_labels(network: Network) -> None:
    rule = {"from": [{"podSelector": {"matchLabels": {"role": "app"}}}], "ports": [{"port": "http"}]}
    network.deny(policyTypes=["Ingress"], ingress=[rule])
    network.settles(connected=False)
    network.cluster.patch("Pod", "client", {"metadata": {"labels": {"role": "app"}}}, network.namespace)
    network.settles(connected=True)


def test_denied_egress_shuts_the_api_server_and_dns_too(network: Network) -> None:
    assert network.connects(443, to="10.96.0.1")
    network.deny(policyTypes=["Egress"])
    network.settles(connected=False)
    assert not network.connects(443, to="10.96.0.1")
    assert not network.connects(53, to="10.96.0.10")


def finished(name: str, namespace: str) -> Any:
    def phase(view: ClusterView) -> str | None:
        seen = view.pod(name, namespace).path("status.phase")
        return seen if seen in ("Succeeded", "Failed") else None

    return phase


@EMBEDDED_ONLY
def test_a_pod_has_its_network_from_its_first_instruction(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("early", namespace, "connect", "10.96.0.1:443", "--timeout=1s", once=True))
    phase = cluster.wait_until("the pod ends", finished("early", namespace), timeout_s=60)
    assert phase == "Succeeded", cluster.logs(namespace, "early")


@pytest.fixture
def engine_stopped() -> Iterator[None]:
    sandbox = existing(settings.cluster_name())
    assert sandbox is not None

    def service(action: str) -> None:
        subprocess.run(sandbox.run(["sv", action, "/run/services/policy"]), check=True, capture_output=True)

    service("down")
    try:
        yield
    finally:
        service("up")


@EMBEDDED_ONLY
def test_rules_outlive_the_engine(network: Network, request: pytest.FixtureRequest) -> None:
    network.deny()
    network.settles(connected=False)
    request.getfixturevalue("engine_stopped")
    assert not network.connects()
    # Fail closed: nobody tells the kernel about a pod that starts now, so it has no network.
    late = pod("late", network.namespace, "connect", "10.96.0.1:443", "--timeout=1s", once=True)
    network.cluster.apply(late)
    phase = network.cluster.wait_until("the pod ends", finished("late", network.namespace), timeout_s=60)
    assert phase == "Failed"
