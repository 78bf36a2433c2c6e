"""The manifests of the orchestrator and of Redis: what each overlay makes, and what holds the parts together."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.apps.orchestrator.settings import Settings
from helpers.cluster.kubectl import find_kubectl, kustomize
from helpers.cluster.quantity import quantity
from helpers.embedded.images import image
from helpers.errors import LabError
from helpers.settings import REPOSITORY
from helpers.stack.serving import config_checksum

MANIFESTS = REPOSITORY / "manifests" / "stack"
OVERLAYS = ("embedded", "gpu", "mig", "time-slicing")


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> dict[tuple[str, str], dict[str, Any]]:
    try:
        find_kubectl()
    except LabError as missing:
        pytest.skip(str(missing))
    items = [
        item
        for part in ("redis", "orchestrator")
        for item in kustomize(MANIFESTS / part / "overlays" / request.param)
    ]
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def test_the_names_of_the_contract(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    ours = {("ConfigMap", "llm-orchestrator-config")} | {
        (kind, "llm-orchestrator") for kind in ("Deployment", "Service", "ServiceAccount", "NetworkPolicy")
    }
    state = {(kind, "redis") for kind in ("StatefulSet", "Service", "NetworkPolicy")}
    assert set(overlay) == ours | state
    assert {key: item["metadata"]["namespace"] for key, item in overlay.items()} == dict.fromkeys(
        ours, "llm-apps"
    ) | dict.fromkeys(state, "llm-system")


def test_the_checksums_are_those_of_the_data(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    template = overlay["Deployment", "llm-orchestrator"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "checksum/config": config_checksum(overlay["ConfigMap", "llm-orchestrator-config"]["data"]),
        "checksum/decisions": config_checksum({}),
    }


def test_the_service_can_run_with_its_configuration(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    data = overlay["ConfigMap", "llm-orchestrator-config"]["data"]
    settings = Settings.from_environment(data)
    assert (settings.generation_concurrency, settings.request_queue_limit, settings.client_max_retries) == (
        12,
        100,
        0,
    )
    assert {name.lower() for name in data} <= set(vars(settings))


def test_the_end_of_a_pod_fits_into_its_grace_period(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    pod = overlay["Deployment", "llm-orchestrator"]["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = int(overlay["ConfigMap", "llm-orchestrator-config"]["data"]["DRAIN_DEADLINE_S"])
    assert pause + drain + 4 <= pod["terminationGracePeriodSeconds"] == 45


@pytest.mark.parametrize(("kind", "name"), [("Deployment", "llm-orchestrator"), ("StatefulSet", "redis")])
def test_pods_are_restricted_as_pod_security_asks(
    overlay: dict[tuple[str, str], dict[str, Any]], kind: str, name: str
) -> None:
    pod = overlay[kind, name]["spec"]["template"]["spec"]
    assert (
        pod["securityContext"]["runAsNonRoot"]
        and pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    for container in pod["containers"]:
        security = container["securityContext"]
        assert security["capabilities"] == {"drop": ["ALL"]} and security["allowPrivilegeEscalation"] is False
        assert security["readOnlyRootFilesystem"]


def test_redis_keeps_what_it_acknowledges(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    pod = overlay["StatefulSet", "redis"]["spec"]["template"]["spec"]
    words = pod["containers"][0]["args"]
    told = dict(zip(words[::2], words[1::2], strict=True))
    assert told["--appendonly"] == "yes" and told["--appendfsync"] == "everysec"
    assert told["--maxmemory-policy"] == "noeviction"
    limit = quantity(pod["containers"][0]["resources"]["limits"]["memory"])
    assert quantity(told["--maxmemory"].replace("mb", "M").replace("gb", "G")) < limit


def test_all_of_llm_system_fits_the_quota_of_lab_01() -> None:
    """vLLM and Qdrant beside Redis, in the size that the embedded cluster gives them."""
    items = [
        item
        for part in ("vllm", "qdrant", "redis")
        for item in kustomize(MANIFESTS / part / "overlays" / "embedded")
    ]
    pods = [
        item["spec"]["template"]["spec"] for item in items if item["kind"] in ("Deployment", "StatefulSet")
    ]
    cpu = sum(
        quantity(container["resources"]["limits"]["cpu"]) for pod in pods for container in pod["containers"]
    )
    claims = [item for item in items if item["kind"] == "PersistentVolumeClaim"]
    claims += [
        claim
        for item in items
        for claim in item.get("spec", {}).get("volumeClaimTemplates", [])
        if item["kind"] == "StatefulSet"
    ]
    assert cpu <= 12 and len(claims) <= 4 and len(pods) <= 8


def test_the_embedded_images_are_those_that_are_made(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    used = {
        item["spec"]["template"]["spec"]["containers"][0]["image"]
        for (kind, _), item in overlay.items()
        if kind in ("Deployment", "StatefulSet")
    }
    made = {image("redis").reference, image("orchestrator").reference}
    assert used == made or used == {"docker.io/library/redis:8.2.3", "llm-orchestrator:1"}
