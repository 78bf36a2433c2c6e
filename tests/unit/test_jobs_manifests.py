"""The manifests of queue, front and workers: what each overlay makes, and what holds the parts together."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.apps.jobs.settings import JobsSettings
from helpers.cluster.kubectl import find_kubectl, kustomize
from helpers.cluster.quantity import quantity
from helpers.embedded.images import image
from helpers.errors import LabError
from helpers.settings import REPOSITORY
from helpers.stack import jobs
from helpers.stack.serving import config_checksum

MANIFESTS = REPOSITORY / "manifests" / "stack"
OVERLAYS = ("embedded", "gpu", "mig", "time-slicing")
Overlay = dict[tuple[str, str], dict[str, Any]]
WORKLOADS = [("Deployment", jobs.FRONT), ("Deployment", jobs.WORKER), ("StatefulSet", jobs.QUEUE)]


@pytest.fixture(params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Overlay:
    try:
        find_kubectl()
    except LabError as missing:
        pytest.skip(str(missing))
    items = [
        item
        for part in ("queue", "jobs")
        for item in kustomize(MANIFESTS / part / "overlays" / request.param)
    ]
    return {(item["kind"], item["metadata"]["name"]): item for item in items}


def test_everything_is_where_the_names_say(overlay: Overlay) -> None:
    places = {name: item["metadata"]["namespace"] for name, item in overlay.items()}
    assert places["ConfigMap", jobs.CONFIG] == places["Service", jobs.FRONT] == jobs.APPS
    assert {places[name] for name in WORKLOADS} == {jobs.APPS, jobs.BATCH}
    assert ("Service", jobs.WORKER) not in places, "nobody asks a worker"


def test_the_checksums_are_those_of_the_data(overlay: Overlay) -> None:
    for name in (jobs.FRONT, jobs.WORKER):
        template = overlay["Deployment", name]["spec"]["template"]
        assert template["metadata"]["annotations"] == {
            "checksum/config": config_checksum(overlay["ConfigMap", jobs.CONFIG]["data"]),
            "checksum/decisions": config_checksum({}),
        }


def test_both_can_run_with_their_configuration(overlay: Overlay) -> None:
    data = overlay["ConfigMap", jobs.CONFIG]["data"]
    settings = JobsSettings.from_environment(data)
    known = {name.lower() for name in data if not name.startswith(("OTEL_SERVICE", "OTEL_RESOURCE"))}
    assert known <= set(vars(settings))
    assert {"docs", "witness-a", "witness-b"} <= settings.known_tenants
    service = overlay["Service", jobs.QUEUE]["metadata"]
    assert f"{service['name']}.{service['namespace']}.svc" in settings.redis_url


def test_the_longest_drain_fits_into_the_grace_period(overlay: Overlay) -> None:
    front, worker = (
        overlay["Deployment", name]["spec"]["template"]["spec"] for name in (jobs.FRONT, jobs.WORKER)
    )
    pause = front["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert front["terminationGracePeriodSeconds"] >= pause + 30 + 4
    assert worker["terminationGracePeriodSeconds"] >= 30 + 4


@pytest.mark.parametrize(("kind", "name"), WORKLOADS)
def test_pods_are_restricted_as_pod_security_asks(overlay: Overlay, kind: str, name: str) -> None:
    pod = overlay[kind, name]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    (container,) = pod["containers"]
    security = container["securityContext"]
    assert security["capabilities"] == {"drop": ["ALL"]} and security["readOnlyRootFilesystem"]
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
    assert container["resources"]["limits"]["memory"] and container["livenessProbe"]


def test_the_queue_has_every_job_on_disk_before_it_is_accepted(overlay: Overlay) -> None:
    pod = overlay["StatefulSet", jobs.QUEUE]["spec"]["template"]["spec"]
    words = pod["containers"][0]["args"]
    told = dict(zip(words[::2], words[1::2], strict=True))
    assert (told["--appendonly"], told["--appendfsync"]) == ("yes", "always")
    assert told["--maxmemory-policy"] == "noeviction"
    limit = quantity(pod["containers"][0]["resources"]["limits"]["memory"])
    assert quantity(told["--maxmemory"].replace("mb", "M").replace("gb", "G")) < limit


def test_the_embedded_images_are_those_that_are_made(overlay: Overlay) -> None:
    used = {overlay[key]["spec"]["template"]["spec"]["containers"][0]["image"] for key in WORKLOADS}
    made = {image("redis").reference, image("orchestrator").reference}
    assert used == made or used == {"docker.io/library/redis:8.2.3", "llm-orchestrator:1"}
