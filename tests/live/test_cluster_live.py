"""The library against real pods: commands, logs, forwarded ports, waits that end early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import httpx
import pytest
import yaml

from helpers.cluster import Cluster, ClusterView, Deadline, Scope
from helpers.cluster.doctor import diagnose
from helpers.cluster.kinds import BUILTIN
from helpers.cluster.kubectl import find_kubectl
from helpers.cluster.temporary import LABEL, sweep
from helpers.errors import (
    ClusterUnreachable,
    Forbidden,
    InvalidManifest,
    ObjectMissing,
    ProbeInconclusive,
    WaitRejected,
    WaitTimeout,
)
from tests.unit.proxies import proxy

pytestmark = pytest.mark.live
AGNHOST = "$(command -v agnhost || echo /agnhost)"
PORT = 8080


@pytest.fixture(scope="module")
def image(cluster: Cluster) -> str:
    return cluster.profile().images["toolbox"]


def pod(name: str, namespace: str, image: str, script: str, **container: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": image, "command": ["sh", "-c", script], **container}],
        },
    }


def served(name: str, namespace: str, image: str) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/", "port": PORT}, "periodSeconds": 1}
    script = f"exec {AGNHOST} netexec --http-port={PORT}"
    return pod(
        name, namespace, image, script, readinessProbe=probe, ports=[{"containerPort": PORT, "name": "web"}]
    )


@pytest.fixture(scope="module")
def space(cluster: Cluster) -> Iterator[str]:
    name = "llm-live-cluster"
    cluster.delete_namespace(name, wait_s=60)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cluster.delete_namespace(name, wait_s=0)


@pytest.fixture(scope="module")
def shell(cluster: Cluster, space: str, image: str) -> str:
    """A pod that waits for commands."""
    cluster.apply(pod("shell", space, image, "echo started; exec sleep 100000"))
    cluster.wait_ready("Pod", "shell", space, timeout_s=90)
    return "shell"


# Commands


def test_a_command_s_exit_code_and_streams_come_apart(cluster: Cluster, space: str, shell: str) -> None:
    done = cluster.exec(space, shell, ["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=60)
    assert (done.exit_code, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_command_reads_its_input_to_the_end(cluster: Cluster, space: str, shell: str) -> None:
    text = "line\n" * 20_000
    done = cluster.exec(space, shell, ["sh", "-c", "cat | wc -c"], stdin=text, timeout_s=60)
    assert done.stdout.strip() == str(len(text))


def test_much_output_comes_whole(cluster: Cluster, space: str, shell: str) -> None:
    script = "i=0; while [ $i -lt 20000 ]; do echo 0123456789012345678901234567890123456789; i=$((i+1)); done"
    done = cluster.exec(space, shell, ["sh", "-c", script], timeout_s=60)
    assert len(done.stdout) == 20_000 * 41


def test_a_command_that_does_not_end_proves_nothing(cluster: Cluster, space: str, shell: str) -> None:
    with pytest.raises(ProbeInconclusive, match="did not end within 1 s"):
        cluster.exec(space, shell, ["sh", "-c", "echo before; sleep 60"], timeout_s=1)


@pytest.mark.parametrize(
    ("command", "container"), [(["no-such-command"], None), (["true"], "no-such-container")]
)
def test_a_command_that_cannot_start_proves_nothing(
    cluster: Cluster, space: str, shell: str, command: list[str], container: str | None
) -> None:
    with pytest.raises(ProbeInconclusive):
        cluster.exec(space, shell, command, container=container, timeout_s=60)


def test_commands_run_beside_reads_on_one_cluster(cluster: Cluster, space: str, shell: str) -> None:
    def command(number: int) -> str:
        return cluster.exec(space, shell, ["echo", str(number)], timeout_s=30).stdout.strip()

    def read(number: int) -> str:
        return cluster.view().pod("shell", space).name

    with ThreadPoolExecutor(8) as pool:
        commands = pool.map(command, range(8))
        reads = pool.map(read, range(40))
        assert list(commands) == [str(number) for number in range(8)]
        assert set(reads) == {"shell"}


def test_a_check_runs_commands_only_in_probe_pods(cluster: Cluster, space: str, shell: str) -> None:
    with pytest.raises(ValueError, match="only in pods labelled"):
        cluster.view().exec(space, shell, ["true"])
    cluster.patch("Pod", shell, {"metadata": {"labels": {"course.llm-stack/probe": ""}}}, space)
    assert cluster.view(Deadline(20)).exec(space, shell, ["true"], timeout_s=60).ok


def test_a_log_ends_with_its_last_lines(cluster: Cluster, space: str, shell: str) -> None:
    assert cluster.logs(space, shell) == "started\n"
    with pytest.raises(ObjectMissing):
        cluster.logs(space, "nobody")


# Waits


def test_an_image_that_cannot_be_pulled_ends_the_wait(cluster: Cluster, space: str) -> None:
    cluster.apply(pod("pull", space, "course.invalid/nothing:1", "true", imagePullPolicy="Never"))
    with pytest.raises(WaitRejected, match="ErrImageNeverPull"):
        cluster.wait_ready("Pod", "pull", space, timeout_s=60)
    cluster.delete("Pod", "pull", space, grace_s=0)


def test_a_quota_that_refuses_the_pods_ends_the_wait(cluster: Cluster, namespace: str, image: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": namespace},
        "spec": {"hard": {"requests.nvidia.com/gpu": "0"}},
    }
    template = pod("x", namespace, image, "sleep 1000", resources={"limits": {"nvidia.com/gpu": "1"}})
    labels = {"app": "web"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": template["spec"]["containers"]}},
    }
    metadata = {"name": "web", "namespace": namespace}
    cluster.apply(quota)
    cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
    with pytest.raises(WaitRejected, match="exceeded quota: q"):
        cluster.wait_rollout("Deployment", "web", namespace, timeout_s=60)


def test_a_crash_is_told_with_its_log(cluster: Cluster, space: str, image: str) -> None:
    never = {"exec": {"command": ["false"]}}
    cluster.apply(pod("crash", space, image, "echo ValueError: no model; exit 1", readinessProbe=never))
    with pytest.raises((WaitRejected, WaitTimeout)) as caught:
        cluster.wait_ready("Pod", "crash", space, timeout_s=60)
    text = "\n".join(getattr(caught.value, "diagnostics", ()))
    assert "ValueError: no model" in text
    cluster.delete("Pod", "crash", space, grace_s=0)


def test_a_pod_that_does_not_fit_is_told_in_the_scheduler_s_words(
    cluster: Cluster, namespace: str, image: str
) -> None:
    cluster.apply(pod("big", namespace, image, "true", resources={"requests": {"cpu": "1000"}}))
    with pytest.raises(WaitTimeout, match="Insufficient cpu"):
        cluster.wait_ready("Pod", "big", namespace, timeout_s=5)


# Forwarded ports


@pytest.fixture(scope="module")
def web(cluster: Cluster, space: str, image: str) -> str:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": space},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": "web"}]},
    }
    cluster.apply([service, served("web", space, image)])
    cluster.wait_ready("Pod", "web", space, timeout_s=90)
    cluster.wait_until("an endpoint", lambda view: view.endpoint_slices("web", space), timeout_s=60)
    return "web"


def test_a_service_has_a_local_url(cluster: Cluster, space: str, web: str) -> None:
    with cluster.port_forward(space, "service/web", 80) as local, httpx.Client(trust_env=False) as client:
        assert client.get(f"{local.url}/hostname").text == "web"
        with ThreadPoolExecutor(8) as pool:
            texts = pool.map(lambda _: httpx.get(f"{local.url}/hostname", trust_env=False).text, range(24))
            assert set(texts) == {"web"}
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("forward-")]


def test_a_pod_s_port_that_nobody_serves_is_told(cluster: Cluster, space: str, web: str) -> None:
    with cluster.port_forward(space, "pod/web", 9) as local:
        answer = httpx.get(local.url, trust_env=False, timeout=60)
    assert answer.status_code == 502 and "refused" in answer.text


def test_a_forwarded_service_outlives_its_pod(cluster: Cluster, space: str, web: str, image: str) -> None:
    with cluster.port_forward(space, "service/web", 80) as local:
        assert httpx.get(f"{local.url}/hostname", trust_env=False).text == "web"
        cluster.delete("Pod", "web", space, wait_s=30, grace_s=0)
        cluster.wait_until("no endpoint", lambda view: not view.endpoint_slices("web", space), timeout_s=60)
        answer = httpx.get(local.url, trust_env=False, timeout=60)
        assert answer.status_code == 502 and "no ready pod behind Service named web" in answer.text
        cluster.apply(served("web", space, image))
        cluster.wait_until("an endpoint", lambda view: view.endpoint_slices("web", space), timeout_s=60)
        assert httpx.get(f"{local.url}/hostname", trust_env=False, timeout=60).text == "web"


def test_a_service_is_asked_through_the_api_server(cluster: Cluster, space: str, web: str) -> None:
    answer = cluster.view().http(space, "web", 80, "/echo?msg=hello", timeout_s=60)
    assert (answer.status, answer.body, answer.from_service) == (200, "hello", True)
    missing = cluster.view().http(space, "web", 80, "/echo?msg=x&code=404", timeout_s=60)
    assert (missing.status, missing.from_service) == (404, True)


# The cluster


def test_the_table_of_built_in_kinds_is_the_cluster_s(cluster: Cluster) -> None:
    assert set(BUILTIN) <= set(cluster.api.discover())


def test_another_authority_s_certificate_is_not_trusted(kubeconfig: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(kubeconfig.read_text())
    for item in tree["clusters"]:
        item["cluster"].pop("certificate-authority-data")
        item["cluster"]["certificate-authority"] = certifi.where()
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(ClusterUnreachable, match="could not be verified by its TLS certificate"):
        Cluster.connect(kubeconfig=path).identity()


def test_a_stranger_is_told_apart_from_a_broken_cluster(kubeconfig: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(kubeconfig.read_text())
    for item in tree["users"]:
        item["user"] = {"token": "wrong"}
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(tree))
    stranger = Cluster.connect(kubeconfig=path)
    with pytest.raises(Forbidden, match="does not accept the token of user"):
        stranger.identity()
    with pytest.raises(Forbidden):
        stranger.exec("kube-system", "etcd-substrate", ["true"], timeout_s=10)


def changed(kubeconfig: Path, path: Path, *, user: dict[str, Any] | None = None, **of_cluster: Any) -> Path:
    """The tests' kubeconfig with more fields of its user and its cluster."""
    tree = yaml.safe_load(kubeconfig.read_text())
    for item in tree["users"]:
        item["user"] |= user or {}
    for item in tree["clusters"]:
        item["cluster"] |= of_cluster
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("kind", ["http", "socks5"])
def test_requests_commands_and_ports_all_go_through_the_proxy(
    kubeconfig: Path, tmp_path: Path, cluster: Cluster, namespace: str, image: str, kind: str
) -> None:
    cluster.apply(served("web", namespace, image))
    cluster.wait_ready("Pod", "web", namespace, timeout_s=60)
    with proxy(kind) as between:
        path = changed(kubeconfig, tmp_path / "config", **{"proxy-url": between.url})
        through = Cluster.connect(kubeconfig=path, scope=Scope())
        assert through.identity().uid == cluster.identity().uid
        requests = len(between.asked)
        assert through.exec(namespace, "web", ["echo", "there"], timeout_s=20).stdout == "there\n"
        assert len(between.asked) == requests + 1
        with through.port_forward(namespace, "pod/web", PORT) as forwarded:
            assert httpx.get(f"{forwarded.url}/echo?msg=x", timeout=20).text == "x"
        assert len(between.asked) == requests + 2
    assert set(between.asked) == {urlsplit(cluster.address).netloc}


def test_whom_a_kubeconfig_impersonates_is_who_may(kubeconfig: Path, tmp_path: Path) -> None:
    path = changed(
        kubeconfig, tmp_path / "config", user={"as": "nobody", "as-groups": ["system:authenticated"]}
    )
    nobody = Cluster.connect(kubeconfig=path)
    with pytest.raises(Forbidden, match='User "nobody" cannot'):
        nobody.view().list("Secret", "kube-system")
    with pytest.raises(Forbidden, match='User "nobody" cannot'):
        nobody.exec("kube-system", "etcd-substrate", ["true"], timeout_s=10)
    root = changed(kubeconfig, tmp_path / "root", user={"as": "boss", "as-groups": ["system:masters"]})
    assert Cluster.connect(kubeconfig=root).view().list("Secret", "kube-system") is not None


def test_the_server_may_be_called_by_another_name_than_its_certificate_has(
    kubeconfig: Path, tmp_path: Path, cluster: Cluster
) -> None:
    path = changed(kubeconfig, tmp_path / "config", **{"tls-server-name": "kubernetes.default.svc"})
    named = Cluster.connect(kubeconfig=path)
    named.identity()
    with pytest.raises(ObjectMissing):
        named.exec("default", "nobody", ["true"], timeout_s=10)
    wrong = changed(kubeconfig, tmp_path / "wrong", **{"tls-server-name": "example.org"})
    with pytest.raises(ClusterUnreachable, match="could not be verified"):
        Cluster.connect(kubeconfig=wrong).identity()


def test_kubectl_s_words_and_ours_are_about_the_same_cluster(
    cluster: Cluster, kubeconfig: Path, namespace: str
) -> None:
    text = (
        f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: {namespace}}}\ndata: {{x: '1'}}\n"
    )
    command = [str(find_kubectl()), "--kubeconfig", str(kubeconfig), "apply", "-f", "-"]
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)
    assert cluster.view().config_map("a", namespace).data == {"x": "1"}


def test_a_kustomization_becomes_objects(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "map.yaml").write_text(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: '1'}}"
    )
    (tmp_path / "kustomization.yaml").write_text(
        "resources: [map.yaml]\nnamePrefix: my-\nnamespace: llm-apps\n"
    )
    (found,) = cluster.kustomize(tmp_path)
    assert found["metadata"] == {"name": "my-a", "namespace": "llm-apps"}
    (tmp_path / "kustomization.yaml").write_text("resources: [gone.yaml]\n")
    with pytest.raises(InvalidManifest, match=r"gone\.yaml"):
        cluster.kustomize(tmp_path)


def test_the_doctor_finds_what_the_embedded_cluster_has(cluster: Cluster) -> None:
    steps: list[str] = []
    findings = diagnose(cluster, on_progress=steps.append)
    text = "\n".join(finding.text for finding in findings)
    assert "provisions volumes" in text, text
    assert "network policies are enforced" in text, text
    assert any(step.startswith("connecting under a policy") for step in steps)

    def gone(view: ClusterView) -> bool:
        return not [item for item in view.list("Namespace") if item.name.startswith("llm-doctor-")]

    cluster.wait_until("the doctor's namespace gone", gone, timeout_s=60)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_doctor_that_is_ended_leaves_nothing(
    cluster: Cluster, kubeconfig: Path, end: signal.Signals
) -> None:
    """Killed it can do nothing, and the next one sweeps."""

    def ours(view: ClusterView) -> list[str]:
        found = view.list("Namespace", labels=LABEL)
        return [item.name for item in found if not item.is_terminating]

    doctor = subprocess.Popen(
        [sys.executable, "-m", "helpers.cli", "doctor"],
        env={**os.environ, "COURSE_KUBECONFIG": str(kubeconfig)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    cluster.wait_until("the doctor at work", ours, timeout_s=60)
    doctor.send_signal(end)
    doctor.wait()
    assert bool(ours(cluster.view())) == (end is signal.SIGKILL)
    sweep(cluster)
    assert not ours(cluster.view())


def test_odd_yaml_is_kept_as_kubectl_keeps_it(cluster: Cluster, namespace: str) -> None:
    text = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: demo, namespace: {namespace}, annotations: {{reviewed: 2026-11-28}}}}
data: {{8080: web, note: "ready 🚀 \\x85", time: 12:30:45, date: 2026-11-28}}
"""
    (change,) = cluster.diff(text)
    assert change.action == "create"
    (applied,) = cluster.apply(text)
    data = {"8080": "web", "note": "ready 🚀 \x85", "time": "12:30:45", "date": "2026-11-28"}
    assert applied.resource.raw["data"] == data
    assert applied.resource.metadata["annotations"]["reviewed"] == "2026-11-28"
    (again,) = cluster.apply(text)
    assert again.action == "unchanged"
