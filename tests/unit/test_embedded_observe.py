"""Questions put to a node: asked correctly, and answered only by what was seen."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from helpers.embedded import addons, doctor, loading, observe, registry, sandbox
from helpers.embedded.addresses import Addresses
from helpers.embedded.gpu import Shape, write_shape
from helpers.embedded.images import IMAGES
from helpers.embedded.oci import Layer, write_image
from helpers.embedded.registry import OFFICIAL, Source
from helpers.embedded.sandbox import Sandbox
from helpers.embedded.steps import Steps


def test_a_dns_question_is_as_rfc_1035_wants_it() -> None:
    question = observe._query("kubernetes.default.svc.cluster.local")
    assert question[2:12] == b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
    assert question[12:] == b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01"


def test_a_processs_start_is_told_in_seconds_since_the_epoch() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert observe.started_at(child.pid) == pytest.approx(time.time(), abs=2)
    finally:
        child.communicate(b"\n")


def test_a_node_is_found_by_its_folder_and_by_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one, other = Sandbox(tmp_path / "one", Addresses(1)), Sandbox(tmp_path / "other", Addresses(2))
    running = [
        (10, ["/bin/sh", "/repo/keeper.sh", str(one.folder), "course1"]),
        (11, ["unshare", "--fork", "/repo/enter.sh", str(one.folder), "layers"]),
        (12, [sandbox.INIT, "--", sandbox.BOOT, str(one.folder)]),
        (13, ["less", str(other.folder)]),
    ]
    monkeypatch.setattr(sandbox, "_processes", lambda: iter(running))
    assert one.pid() == 12
    assert other.pid() is None
    assert [pid for pid, words in running if one._owns(words)] == [10, 11, 12]
    with pytest.raises(sandbox.StillRunning, match="the cluster one runs"):
        sandbox.require_none_running()


def test_the_profile_says_what_is_simulated_and_what_was_made_here() -> None:
    local = addons.profile(Source.LOCAL, Shape.FULL)
    assert local["gpu"] == "simulated"
    assert local["images"]["qdrant"].startswith("course.local/")
    assert "qdrant" in local["labels"]
    official = addons.profile(Source.OFFICIAL, Shape.MIG)
    assert official["images"]["qdrant"] == OFFICIAL["qdrant"]
    assert "qdrant" not in official["labels"]
    assert official["gpu_resource"] == "nvidia.com/mig-1g.10gb"


def test_a_change_of_gpus_does_not_pass_older_add_ons_off_as_renewed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    applied: list[str] = []
    monkeypatch.setattr(addons, "_apply", lambda _sandbox, _pid, manifests: applied.append(manifests))
    monkeypatch.setattr(addons, "_dns", lambda _sandbox, _pid: "kind: ConfigMap")
    node, steps = Sandbox(tmp_path, Addresses(1)), Steps(console=Console(file=io.StringIO()))
    write_shape(node.data("etc/course"), Shape.FULL)
    node.data(addons.KUBEADM).write_text("kubeadm")
    node.data(addons.APPLIED).write_text("made by an older course")
    write_shape(node.data("etc/course"), Shape.MIG)
    addons.publish_profile(node, 1, Source.LOCAL)
    addons.renew(node, 1, Source.LOCAL, steps)
    assert ["nvidia-dcgm-exporter" in manifests for manifests in applied] == [False, True]
    for shape in (Shape.MIG, Shape.FULL):  # from now on a change of the shape costs the profile alone
        write_shape(node.data("etc/course"), shape)
        addons.publish_profile(node, 1, Source.LOCAL)
        addons.renew(node, 1, Source.LOCAL, steps)
    assert len(applied) == 4


def test_without_a_registry_auto_means_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COURSE_REGISTRY_HOSTS", raising=False)
    monkeypatch.setattr(registry, "PROBE", "http://127.0.0.1:9/v2/")
    assert registry.settled(Source.AUTO, tmp_path / "absent") is Source.LOCAL


def test_a_cluster_stays_with_the_images_it_began_with(tmp_path: Path) -> None:
    remembered = tmp_path / "images-from"
    assert registry.settled(registry.source_named(""), remembered) is Source.LOCAL
    remembered.write_text("official\n")
    assert registry.settled(None, remembered) is Source.OFFICIAL
    assert registry.settled(Source.LOCAL, remembered) is Source.LOCAL


def test_an_unknown_image_source_names_the_known_ones() -> None:
    with pytest.raises(registry.NoSuchSource, match="auto, official, local"):
        registry.source_named("docker")


def test_images_are_named_one_by_one_or_all() -> None:
    assert loading.named([]) == list(IMAGES)
    assert [spec.name for spec in loading.named(["toolbox"])] == ["toolbox"]
    with pytest.raises(loading.StepFailed, match="no image named 'nothing'"):
        loading.named(["nothing"])


def test_an_archives_digest_is_the_one_its_name_will_stand_for(tmp_path: Path) -> None:
    digest = write_image(tmp_path / "a.tar", "x.test/x:1", [Layer.of_files({"a": b"a"})])
    assert loading.digest_of(tmp_path / "a.tar") == digest


@pytest.mark.parametrize(
    ("environment", "choice", "embedded"),
    [
        ({}, None, True),
        ({}, "kind-lab", False),
        ({"COURSE_CLUSTER": "mine"}, "kind-lab", True),
        ({"COURSE_CONTEXT": "other"}, None, False),
    ],
)
def test_doctor_looks_at_the_cluster_that_the_labs_use(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    environment: dict[str, str],
    choice: str | None,
    embedded: bool,
) -> None:
    for name in ("COURSE_CLUSTER", "COURSE_CONTEXT", "COURSE_KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    (tmp_path / "settings.json").write_text(json.dumps({"context": choice, "kubeconfig": None}))
    assert doctor.uses_embedded() is embedded


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may look into a network namespace")
def test_dns_of_a_network_without_dns_is_no_answer_and_no_error() -> None:
    assert observe.dns_answers(os.getpid()) == ""
