"""vLLM's manifests as arithmetic: budgets, drains, checksums, fragments, and the overlays that ship."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.cluster.fake import FakeCluster
from helpers.cluster.kubectl import find_kubectl, kustomize
from helpers.errors import LabError
from helpers.stack import serving
from helpers.stack.container_env import variables_of
from helpers.stack.serving import DrainBudget, ProbeBudget

OVERLAYS = ("embedded", "gpu", "mig", "time-slicing")


@pytest.mark.parametrize(
    ("probe", "seconds"),
    [
        ({"periodSeconds": 10, "failureThreshold": 36}, 360),
        ({"httpGet": {"path": "/health"}}, 30),
        ({"initialDelaySeconds": 15, "periodSeconds": 2}, 21),
    ],
)
def test_a_probe_grants_its_period_times_its_threshold(probe: dict[str, Any], seconds: float) -> None:
    budget = ProbeBudget.of(probe)
    assert budget and budget.seconds == seconds


def test_the_startup_probe_decides_how_long_a_load_may_take() -> None:
    liveness = {"periodSeconds": 3, "failureThreshold": 3}
    assert serving.load_budget_s({"livenessProbe": liveness}) == 9
    assert serving.load_budget_s({"livenessProbe": liveness, "startupProbe": {"failureThreshold": 36}}) == 360
    assert serving.load_budget_s({}) == float("inf")


@pytest.mark.parametrize(
    ("hook", "seconds"),
    [
        ({"sleep": {"seconds": 5}}, 5),
        ({"exec": {"command": ["sleep", "7"]}}, 7),
        ({"exec": {"command": ["/bin/sh", "-c", "sleep 3 && true"]}}, 3),
        ({"exec": {"command": ["true"]}}, 0),
        # shared/cases: a shell's words after the pause.
        ({"exec": {"command": ["sh", "-c", "sleep 5; echo bye"]}}, 5),
        ({"exec": {"command": ["sh", "-c", "sleep 2;sleep 3s"]}}, 5),
        ({"exec": {"command": ["sh", "-c", "/bin/sleep 0.1m || true"]}}, 6),
        ({"exec": {"command": ["python3", "-c", "import time; time.sleep(4)"]}}, 4),
        ({"exec": {"command": ["sh", "-c", "sleep $PAUSE"]}}, 8),
        ({"exec": {"command": ["sh", "-c", "sleep ${PAUSE} && true"]}}, 8),
        ({"exec": {"command": ["sleep", "$(PAUSE)"]}}, 8),
        ({"exec": {"command": ["sh", "-c", "echo asleep 5; no-sleep 9"]}}, 0),
    ],
)
def test_a_pre_stop_pause_is_found_however_it_is_written(hook: dict[str, Any], seconds: float) -> None:
    pause = [{"name": "PAUSE", "value": "8"}]
    spec = {"containers": [{"name": "vllm", "lifecycle": {"preStop": hook}, "env": pause}]}
    assert DrainBudget.of(spec).pre_stop_s == seconds


@pytest.mark.parametrize(
    "container",
    [
        {"args": ["serve", "--shutdown-timeout=40"]},
        {"args": ["serve", "--shutdown-timeout", "40"]},
        {"args": ["--shutdown-timeout=$(WAIT)"], "env": [{"name": "WAIT", "value": "40"}]},
        {"command": ["sh", "-c", "exec vllm serve\n--shutdown-timeout 40"]},
    ],
)
def test_the_shutdown_timeout_is_found_however_it_is_written(container: dict[str, Any]) -> None:
    spec = {"terminationGracePeriodSeconds": 60, "containers": [{"name": "vllm", **container}]}
    budget = DrainBudget.of(spec)
    assert (budget.shutdown_s, budget.spare_s) == (40, 20)


@pytest.mark.parametrize(
    "source",
    [
        {"envFrom": [{"configMapRef": {"name": "vllm-model-config"}}]},
        {"envFrom": [{"configMapRef": {"name": "other"}}, {"configMapRef": {"name": "vllm-model-config"}}]},
        {"env": [{"name": "WAIT", "valueFrom": {"configMapKeyRef": {"name": "vllm-model-config", "key": "WAIT"}}}]},
        {
            "envFrom": [{"prefix": "MY_", "configMapRef": {"name": "vllm-model-config"}}],
            "env": [{"name": "WAIT", "value": "$(MY_WAIT)"}],
        },
    ],
)  # fmt: skip
def test_a_timeout_that_comes_from_a_config_map_counts(source: dict[str, Any]) -> None:
    """shared/cases: what the process reads counts, not where it is written."""
    container = {"name": "vllm", "args": ["--shutdown-timeout=$(WAIT)"], **source}
    cluster = FakeCluster()
    for name, data in (("other", {"WAIT": "1"}), ("vllm-model-config", {"WAIT": "40"})):
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
    known = variables_of(cluster.view(), container, "default")
    assert DrainBudget.of({"containers": [container]}, known).shutdown_s == 40
    assert DrainBudget.of({"containers": [container]}).shutdown_s == 0


def test_the_checksum_is_what_kubectl_and_sha256sum_say() -> None:
    # printf '{"A":"1","B":"two"}' | sha256sum
    data = {"B": "two", "A": "1"}
    assert serving.config_checksum(data).startswith("287388a49f5c670a")
    assert serving.config_checksum(data) == serving.config_checksum(dict(reversed(data.items())))
    assert serving.config_checksum(data) != serving.config_checksum({**data, "A": "2"})


def test_the_kv_cache_of_the_embedded_server_holds_what_vllm_reports() -> None:
    # vLLM 0.32.0 with --kv-cache-memory-bytes=805306368: “CPU KV cache size: 17,408 tokens”
    assert serving.SMOLLM2_135M.tokens(805306368) == 17408


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    try:
        find_kubectl()
    except LabError as missing:
        pytest.skip(str(missing))
    return kustomize(serving.MANIFESTS / "overlays" / request.param)


def test_each_overlay_has_the_five_resources(overlay: list[dict[str, Any]]) -> None:
    named = {(item["kind"], item["metadata"]["name"]) for item in overlay}
    assert named == {
        ("ConfigMap", "vllm-model-config"),
        ("PersistentVolumeClaim", "vllm-model-cache"),
        ("Deployment", "vllm"),
        ("Service", "vllm"),
        ("NetworkPolicy", "vllm-ingress-from-llm-apps"),
    }
    assert {item["metadata"]["namespace"] for item in overlay} == {"llm-system"}


def test_each_overlay_carries_the_checksum_of_its_config_map(overlay: list[dict[str, Any]]) -> None:
    data = serving.only(overlay, "ConfigMap")["data"]
    annotations = serving.only(overlay, "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert annotations[serving.CHECKSUM] == serving.config_checksum(data)


def test_each_overlay_keeps_the_rules_of_serving(overlay: list[dict[str, Any]]) -> None:
    deployment = serving.only(overlay, "Deployment")
    spec, container = deployment["spec"]["template"]["spec"], serving.container_of(deployment)
    assert spec["enableServiceLinks"] is False
    assert serving.load_budget_s(container) == 360
    assert DrainBudget.of(spec).spare_s >= 5
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert not container["image"].endswith(":latest") and ":" in container["image"]
    assert any(mount["mountPath"] == "/dev/shm" for mount in container["volumeMounts"])
    assert [item["emptyDir"]["medium"] for item in spec["volumes"] if "emptyDir" in item] == ["Memory"]
    limits = container["resources"]["limits"]
    assert [value for key, value in limits.items() if key.startswith("nvidia.com/")] == ["1"]


def test_each_overlay_is_admitted_by_the_courses_quota(overlay: list[dict[str, Any]]) -> None:
    text = (serving.REPOSITORY / "manifests" / "labs" / "02" / "start" / "substrate.yaml").read_text()
    cluster = FakeCluster(text)
    cluster.apply(overlay)
    template = serving.only(overlay, "Deployment")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "vllm", "namespace": "llm-system"}}
    answer = cluster.view().dry_run({**pod, "spec": template["spec"]})
    assert answer.allowed, answer.reason


def test_the_secret_that_vllm_reads_is_made_from_a_file_outside_the_repository(tmp_path: Path) -> None:
    source = serving.MANIFESTS / "huggingface-token" / "kustomization.yaml"
    folder = tmp_path / "huggingface-token"
    folder.mkdir()
    (folder / source.name).write_text(source.read_text())
    (folder / "token.local.env").write_text("token=hf_mine\n")
    try:
        find_kubectl()
    except LabError as missing:
        pytest.skip(str(missing))
    (secret,) = kustomize(folder)
    container = yaml.safe_load((serving.MANIFESTS / "base" / "deployment.yaml").read_text())
    (env,) = [e for e in serving.container_of(container)["env"] if e["name"] == "HF_TOKEN"]
    wanted = env["valueFrom"]["secretKeyRef"]
    assert (secret["kind"], secret["metadata"]["name"]) == ("Secret", wanted["name"])
    assert base64.b64decode(secret["data"][wanted["key"]]) == b"hf_mine"
    assert wanted["optional"] is True


def test_a_cluster_of_another_kind_gets_its_own_storage_class_image_and_model() -> None:
    from helpers.cluster.profile import Profile

    profile = Profile(
        storage_class="premium", model="org/model", served_model_name="short", images={"vllm": "v:1"}
    )
    config = {
        "kind": "ConfigMap",
        "data": {"MODEL_ID": "x", "SERVED_MODEL_NAME": "y", "MAX_MODEL_LEN": "4096"},
    }
    claim = {"kind": "PersistentVolumeClaim", "spec": {"storageClassName": "fast-nvme"}}
    assert serving.adapted(claim, profile)["spec"]["storageClassName"] == "premium"
    assert serving.adapted(config, profile)["data"] == {
        "MODEL_ID": "org/model",
        "SERVED_MODEL_NAME": "short",
        "MAX_MODEL_LEN": "4096",
    }
