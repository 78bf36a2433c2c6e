"""What a lab's start brings up: images, whose command says what went wrong, and what only an administrator installs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.cluster.scope import Scope
from helpers.errors import EnvironmentFault
from helpers.stack import bring_up


def test_images_that_are_not_to_be_had_are_the_environments_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "python"
    command.write_text('#!/bin/sh\necho building >&2\necho "no space left on device: $*" >&2\nexit 1\n')
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(command))
    with pytest.raises(
        EnvironmentFault, match=r"no space left on device: -m helpers\.cli images load"
    ) as caught:
        bring_up.load_images("vllm", "model")
    assert "the images of vllm, model" in str(caught.value)
    assert caught.value.next_command == "course images load vllm model"


def test_images_that_are_there_need_no_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "python"
    command.write_text("#!/bin/sh\nexit 0\n")
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(command))
    bring_up.load_images("qdrant")


def test_a_seat_of_a_class_without_argo_rollouts_is_told_who_installs_it() -> None:
    seat = FakeCluster(scope=Scope("ada"))
    with pytest.raises(EnvironmentFault, match="instructor") as missing:
        bring_up.ensure_rollouts(seat)
    assert missing.value.next_command.startswith("kubectl apply --server-side -k manifests/stack/rollouts/")
    seat.serve_kind("Rollout", "argoproj.io", "v1alpha1", "rollouts")
    assert bring_up.ensure_rollouts(seat) == []


def test_a_controller_that_somebody_else_installed_stays_as_it_is() -> None:
    labels = {"app.kubernetes.io/name": "argo-rollouts"}
    theirs = {"name": "release-argo-rollouts", "namespace": "platform", "labels": labels}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {}}}
    cluster = FakeCluster({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "platform"}})
    cluster.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": theirs, "spec": spec})
    assert bring_up.ensure_rollouts(cluster) == []
    assert cluster.view().find("Namespace", "argo-rollouts") is None
