"""Up, down, and everything that may happen to a cluster in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.embedded import addresses, cache, entry, kept, launch
from helpers.embedded.binaries import ensure_binaries
from helpers.embedded.images import image
from helpers.embedded.kubeapi import TRANSIENT
from helpers.embedded.loading import Store
from helpers.embedded.observe import takes_objects
from helpers.embedded.sandbox import Sandbox
from helpers.settings import REPOSITORY, cluster_dir, kubeconfig_path
from tests.embedded.conftest import Node, bring_up, eventually, host_tables, quiet, traces

pytestmark = pytest.mark.embedded


def test_a_second_up_changes_nothing(node: Node) -> None:
    pid, uid = node.pid, node.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    bring_up(node.name)
    assert node.pid == pid
    assert node.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}") == uid


def test_the_node_has_no_way_out(node: Node) -> None:
    routes = node.run("ip", "route")
    assert "default" not in routes
    with pytest.raises(subprocess.CalledProcessError):
        node.run("ip", "route", "get", "192.0.2.1")


def test_the_kubeconfig_is_for_its_owner_alone(node: Node) -> None:
    assert kubeconfig_path(node.name).stat().st_mode & 0o777 == 0o600


def test_the_machine_keeps_its_own_kernel_settings(node: Node) -> None:
    """The kubelet wants other values for these, which hold for the whole machine."""
    for setting, wanted in (("vm/overcommit_memory", "1"), ("kernel/panic", "10")):
        assert node.run("cat", f"/proc/sys/{setting}") == wanted
    here = Path("/proc/sys/kernel/panic").read_text().strip()
    assert here != "10"


def test_a_claim_gets_a_volume_that_a_pod_can_write(node: Node) -> None:
    manifest = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: writer}
spec:
  restartPolicy: Never
  containers:
    - {name: writer, image: "course.local/busybox:1", command: [sh, -c, "echo kept > /disk/file && cat /disk/file"],
       volumeMounts: [{name: disk, mountPath: /disk}]}
  volumes: [{name: disk, persistentVolumeClaim: {claimName: disk}}]
"""
    node.sandbox.data("etc/course/claim.yaml").write_text(manifest)
    node.kubectl("apply", "-f", "/etc/course/claim.yaml")
    phase = ("get", "pod", "writer", "-o", "jsonpath={.status.phase}")
    eventually(lambda: node.kubectl(*phase) == "Succeeded", "the pod has written")
    assert node.kubectl("logs", "writer") == "kept"
    node.kubectl("delete", "-f", "/etc/course/claim.yaml")


def test_what_is_fetched_ahead_is_in_the_cluster_before_its_lab_is_opened(node: Node) -> None:
    entry.fetch_ahead(node.name, ["qdrant"], quiet())
    store = Store.of(node.sandbox, node.pid, ensure_binaries(quiet()))
    assert image("qdrant").reference in store.digests()
    assert entry.load(node.name, ["qdrant"], quiet()) == []


def test_two_clusters_do_not_disturb_each_other(node: Node, fresh_name: str) -> None:
    other = bring_up(fresh_name)
    eventually(other.healthy, "all of the cluster answers")
    eventually(node.healthy, "all of the cluster answers")
    assert other.sandbox.addresses != node.sandbox.addresses
    before = node.pid
    launch.down(fresh_name, quiet(), delete=True)
    assert traces(other.sandbox) == []
    assert node.pid == before
    eventually(node.healthy, "all of the cluster answers")


def test_kill_of_pid_1_leaves_nothing_and_up_brings_the_same_cluster_back(fresh_name: str) -> None:
    tables = host_tables()
    cluster = bring_up(fresh_name)
    cluster.kubectl("create", "configmap", "kept")
    uid = cluster.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
    os.kill(cluster.pid, signal.SIGKILL)
    eventually(lambda: not traces(cluster.sandbox), "nothing of the node is left")
    assert host_tables() == tables

    again = bring_up(fresh_name)
    assert again.kubectl("get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}") == uid
    assert again.kubectl("get", "configmap", "kept", "-o", "name") == "configmap/kept"

    # What waits for PID 1 outside is no safer to kill.
    waiting = int(Path(f"/proc/{again.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(waiting, signal.SIGKILL)
    eventually(lambda: not traces(again.sandbox), "nothing of the node is left")

    launch.down(fresh_name, quiet())
    assert again.sandbox.folder.exists()
    assert host_tables() == tables
    launch.down(fresh_name, quiet(), delete=True)
    assert not list(again.sandbox.folder.parent.glob(f"*{fresh_name}*"))


def test_an_up_that_is_interrupted_anywhere_is_made_good_by_the_next(fresh_name: str) -> None:
    """Killed, or stopped with Ctrl-C, when the node has just started, while kubeadm works, and at its end."""
    for reached, how in (
        (_node_runs, signal.SIGKILL),
        (_certificates_exist, signal.SIGINT),
        (_api_answers, signal.SIGKILL),
        (_initialised, signal.SIGINT),
    ):
        _interrupt(fresh_name, reached, how)
    eventually(bring_up(fresh_name).healthy, "all of the cluster answers")


def _interrupt(name: str, reached: Callable[[Sandbox], bool], how: signal.Signals) -> None:
    command = [sys.executable, "-m", "helpers.cli", "up", "--name", name]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        known = addresses.stored(cluster_dir(name))
        if known is not None and reached(Sandbox(cluster_dir(name), known)):
            break
        time.sleep(0.02)
    process.send_signal(how)
    process.wait(timeout=30)


def _node_runs(sandbox: Sandbox) -> bool:
    return sandbox.pid() is not None


def _certificates_exist(sandbox: Sandbox) -> bool:
    return sandbox.data("etc/kubernetes/pki/ca.crt").exists()


def _api_answers(sandbox: Sandbox) -> bool:
    pid = sandbox.pid()
    try:
        return pid is not None and takes_objects(sandbox, pid)
    except TRANSIENT:
        return False


def _initialised(sandbox: Sandbox) -> bool:
    return sandbox.data(launch.INITIALISED).exists()


def test_a_copy_of_a_stopped_cluster_runs_under_another_name_and_address(fresh_name: str) -> None:
    cluster = bring_up(fresh_name)
    cluster.kubectl("create", "configmap", "kept")
    inside = cluster.sandbox.addresses.inside
    launch.down(fresh_name, quiet())
    name = key = f"copy-{os.getpid()}"
    try:
        kept.keep(fresh_name, key, quiet(), label="test")
        copy = Node(name, kept.put_back(name, key, quiet()))
        eventually(copy.healthy, "the copy is healthy")
        assert copy.sandbox.addresses.node != inside == copy.sandbox.addresses.inside
        assert copy.kubectl("get", "configmap", "kept", "-o", "name") == "configmap/kept"
        # Both run at once: they share files of images, and nothing that is written.
        eventually(bring_up(fresh_name).healthy, "all of the cluster answers")
        copy.kubectl("delete", "configmap", "kept")
        assert cluster.kubectl("get", "configmap", "kept", "-o", "name") == "configmap/kept"
    finally:
        launch.down(name, quiet(), delete=True)
        cache.forget(kept.KIND, key)
    assert traces(copy.sandbox) == []
