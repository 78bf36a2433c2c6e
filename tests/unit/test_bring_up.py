"""Bringing workload images into a cluster: what goes wrong is said in the command's own last words."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
