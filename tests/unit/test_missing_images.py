"""A pod without its image: named in every lab's verdicts, with its cure; and images on their way are shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster, default_profile
from helpers.cluster.scope import Scope
from helpers.grading import grade
from helpers.grading.report import CheckResult
from helpers.labs.registry import load_lab
from helpers.notebook.board import images_line
from helpers.notebook.looks import LiveReport
from helpers.stack import images, memory, serving

MODEL = "course.local/smollm2-135m-instruct:1"
IMAGES = {"vllm": "course.local/vllm-cpu:0.32.0", "model": MODEL, "qdrant": "course.local/qdrant-edge:1.20.0"}


def cluster(*namespaces: str, scope: Scope | None = None) -> FakeCluster:
    from dataclasses import replace

    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces]
    found = FakeCluster(profile=replace(default_profile(), images=IMAGES), scope=scope)
    for space in spaces:
        found.apply(space)
    return found


def stuck(cluster: FakeCluster, name: str, labels: dict[str, str], image: str, *, init: bool = False) -> None:
    waiting = {"name": serving.CONTAINER, "ready": False, "state": {"waiting": {"reason": "ErrImagePull"}}}
    initialising = {
        "name": serving.CONTAINER,
        "ready": False,
        "state": {"waiting": {"reason": "PodInitializing"}},
    }
    status: dict[str, Any] = {"phase": "Pending", "containerStatuses": [waiting]}
    spec: dict[str, Any] = {"containers": [{"name": serving.CONTAINER, "image": image}]}
    if init:
        spec = {
            "initContainers": [{"name": "fill", "image": image}],
            "containers": [{"name": serving.CONTAINER, "image": "x"}],
        }
        status |= {
            "initContainerStatuses": [{**waiting, "name": "fill"}],
            "containerStatuses": [initialising],
        }
    cluster.add_pod(name, "llm-system", labels=labels, phase="Pending", ready=False, spec=spec, status=status)


def service(name: str, labels: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "llm-system"},
        "spec": {"selector": labels, "ports": [{"port": 8000}]},
    }


def pairs(selector: str) -> dict[str, str]:
    return dict(pair.split("=") for pair in selector.split(","))


def workload(kind: str, name: str, labels: dict[str, str]) -> dict[str, Any]:
    containers = [{"name": name, "image": "i"}]
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "llm-system"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def verdicts(cluster: FakeCluster, lab: str, tmp_path: Path) -> list[CheckResult]:
    return list(grade([load_lab(lab)], cluster, journals=tmp_path).verdicts)


VLLM = {"app": "vllm"}


@pytest.mark.parametrize("lab", ["02", "03"])
def test_an_image_of_the_course_that_the_node_lacks_is_named_with_its_cure(lab: str, tmp_path: Path) -> None:
    wanted, name = {"02": (MODEL, "vllm"), "03": (IMAGES["qdrant"], "qdrant")}[lab]
    labels = pairs(serving.LABELS if lab == "02" else memory.LABELS)
    found = cluster("llm-system", "llm-apps")
    found.apply(
        [service(name, labels), workload("Deployment" if lab == "02" else "StatefulSet", name, labels)]
    )
    stuck(found, f"{name}-0", labels, wanted, init=lab == "02")
    told = [item for item in verdicts(found, lab, tmp_path) if wanted in item.observed]
    assert told
    for item in told:
        assert item.status.value in ("FAIL", "PARTIAL", "NOT_ATTEMPTED") and "ErrImagePull" in item.observed
        assert item.next == f"course start {lab}"


def test_a_name_that_nobody_knows_stays_the_learners_to_correct(tmp_path: Path) -> None:
    found = cluster("llm-system", "llm-apps")
    labels = pairs(serving.LABELS)
    found.apply([service("vllm", labels), workload("Deployment", "vllm", labels)])
    stuck(found, "vllm-0", labels, "course.local/vlm-cpu:0.32.0")
    told = [item for item in verdicts(found, "02", tmp_path) if "vlm-cpu" in item.observed]
    assert told
    assert all("misspelled" in item.observed for item in told)


def test_somebody_elses_missing_image_is_not_this_labs_reason(tmp_path: Path) -> None:
    found = cluster("llm-system", "llm-apps")
    stuck(found, "vllm-0", VLLM, MODEL)
    assert not [item for item in verdicts(found, "03", tmp_path) if MODEL in item.observed]


def test_a_time_line_says_that_the_first_container_has_no_image() -> None:
    found = cluster("llm-system")
    labels = pairs(serving.LABELS)
    stuck(found, "vllm-0", labels, MODEL, init=True)
    (moment,) = serving.observe(found.view(), 1.0)
    assert moment.state == "Init:ErrImagePull"


def test_missing_is_what_no_node_lists() -> None:
    found = cluster()
    assert images.missing(found, ["vllm", "model"]) == ["vllm", "model"]
    node = found.view().get("Node", "substrate")
    found.set_status("Node", "substrate", {**node.raw["status"], "images": [{"names": [MODEL]}]})
    assert images.missing(found, ["vllm", "model"]) == ["vllm"]


def test_a_class_brings_its_own_images() -> None:
    assert images.missing(cluster(scope=Scope("ada")), ["vllm"]) == []


@pytest.mark.parametrize("code", [0, 3])
def test_images_come_in_beside_the_page_and_say_how_far_they_are(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = tmp_path / "python"
    loader.write_text(f"#!/bin/sh\necho 'Making $*' >&2\nread line < {tmp_path}/go\nexit {code}\n")
    loader.chmod(0o755)
    import os

    os.mkfifo(tmp_path / "go")
    monkeypatch.setattr(sys, "executable", str(loader))
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    found = cluster()
    begun = images.bring_in(found, ["vllm", "model"])
    assert begun is not None and begun.is_running and begun.names == ("vllm", "model")
    assert "loading images" in images_line(LiveReport(images=begun))
    again = images.bring_in(found, ["model"])
    assert again is not None and again.names == ("vllm", "model"), "it is under way already"

    (tmp_path / "go").write_text("now\n")
    ended = until_ended()
    assert ended.exit_code == code
    shown = images_line(LiveReport(images=ended))
    assert shown == "" if code == 0 else "course images load vllm model" in shown


def until_ended() -> images.Bringing:
    import time

    until = time.monotonic() + 20
    while (now := images.bringing()) is None or now.is_running:
        assert time.monotonic() < until, "the loader did not end"
        time.sleep(0.02)
    return now


def test_every_lab_declares_the_images_that_its_manifests_name() -> None:
    assert set(load_lab("02").images) == {"vllm", "model"}
    assert set(load_lab("03").images) == {"qdrant"}
    assert set(load_lab("04").images) == set(load_lab("05").images) == {"vllm", "model", "qdrant"}
