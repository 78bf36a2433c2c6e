"""Whatever is killed inside the node comes back by itself."""

from __future__ import annotations

import pytest

from tests.embedded.conftest import Node, eventually

pytestmark = pytest.mark.embedded

DAEMONS = {
    "containerd": "^containerd --config",
    "kubelet": "^kubelet ",
    "kube-proxy": "^kube-proxy ",
    "devices": "helpers.embedded.devices",
    "policy": "helpers.embedded.policy",
}
STATIC_PODS = {
    "etcd": "^etcd ",
    "kube-apiserver": "^kube-apiserver ",
    "kube-controller-manager": "^kube-controller-manager ",
    "kube-scheduler": "^kube-scheduler ",
    "coredns": "^/coredns ",
}


@pytest.mark.parametrize("name", [*DAEMONS, *STATIC_PODS])
def test_a_killed_part_comes_back_and_the_cluster_is_whole(node: Node, name: str) -> None:
    pattern = {**DAEMONS, **STATIC_PODS}[name]
    before = node.process(pattern)
    node.run("kill", "-9", str(before))
    eventually(lambda: node.process(pattern) != before, f"{name} runs again")
    eventually(node.healthy, f"the cluster is whole after the death of {name}")


def test_containers_outlive_containerd_and_the_kubelet(node: Node) -> None:
    server = node.process(STATIC_PODS["etcd"])
    for name in ("containerd", "kubelet"):
        before = node.process(DAEMONS[name])
        node.run("kill", "-9", str(before))
        eventually(
            lambda before=before, name=name: node.process(DAEMONS[name]) != before, f"{name} runs again"
        )
    eventually(node.healthy, "the cluster is whole")
    assert node.process(STATIC_PODS["etcd"]) == server
