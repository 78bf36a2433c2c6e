"""The assistant's manifests: what each overlay makes, and what holds it together with releases and the gateway."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from helpers.apps.orchestrator.settings import Settings
from helpers.cluster.kubectl import find_kubectl, kustomize
from helpers.errors import LabError
from helpers.stack import assistant, gateway, releases
from helpers.stack.serving import config_checksum


@pytest.fixture(params=("embedded", "gpu", "mig", "time-slicing"))
def overlay(request: pytest.FixtureRequest) -> dict[tuple[str, str], dict[str, Any]]:
    try:
        find_kubectl()
    except LabError as missing:
        pytest.skip(str(missing))
    items = kustomize(assistant.MANIFESTS / "overlays" / request.param)
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def test_the_names_of_the_contract(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    services = {("Service", name) for name in (assistant.STABLE, assistant.CANARY, assistant.PODS)}
    own = {(kind, "llm-assistant") for kind in ("Rollout", "ServiceAccount", "NetworkPolicy")}
    ways = {("NetworkPolicy", "redis-for-assistant"), ("NetworkPolicy", "llm-gateway-to-assistant")}
    assert set(overlay) == services | own | ways | {("ConfigMap", assistant.CONFIG)}


def test_the_checksums_are_those_of_the_data(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    annotations = overlay["Rollout", "llm-assistant"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {
        releases.ANNOTATION: releases.STABLE,
        "checksum/config": config_checksum(overlay["ConfigMap", assistant.CONFIG]["data"]),
        "checksum/decisions": config_checksum({}),
    }


def test_the_pods_are_the_stable_releases(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    (container,) = overlay["Rollout", "llm-assistant"]["spec"]["template"]["spec"]["containers"]
    said = {item["name"]: item["value"] for item in container["env"]}
    assert said == releases.RELEASES[releases.STABLE].environment
    data = overlay["ConfigMap", assistant.CONFIG]["data"]
    settings = Settings.from_environment({**data, **said})
    assert settings.release == releases.STABLE and settings.otel_exporter_otlp_endpoint
    assert not set(data) & releases.VARIABLES


def test_the_end_of_a_pod_fits_into_its_grace_period(overlay: dict[tuple[str, str], dict[str, Any]]) -> None:
    pod = overlay["Rollout", "llm-assistant"]["spec"]["template"]["spec"]
    pause = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = int(overlay["ConfigMap", assistant.CONFIG]["data"]["DRAIN_DEADLINE_S"])
    assert pause + drain + 4 <= pod["terminationGracePeriodSeconds"]


def test_the_gateway_asks_every_pod_in_turn() -> None:
    config = yaml.safe_load((gateway.MANIFESTS / "base" / gateway.FILE).read_text())
    (cluster,) = (item for item in config["static_resources"]["clusters"] if item["name"] == "llm-assistant")
    (locality,) = cluster["load_assignment"]["endpoints"]
    address = locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"]
    assert address == {
        "address": f"{assistant.PODS}.{assistant.NAMESPACE}.svc.cluster.local",
        "port_value": assistant.PORT,
    }
    assert (cluster["type"], cluster["lb_policy"]) == ("STRICT_DNS", "ROUND_ROBIN")
