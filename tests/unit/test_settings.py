"""Where the course keeps things: a setting that cannot be is a sentence before anything is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers import settings
from helpers.cli import run
from helpers.settings import BadSetting


def test_a_home_that_no_shell_expanded_is_named_with_the_way_to_write_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COURSE_HOME", "~/labs")
    with pytest.raises(BadSetting, match="COURSE_HOME is ~/labs, which no shell expanded") as refused:
        settings.home_dir()
    assert refused.value.next_command == "export COURSE_HOME=$HOME/labs"
    monkeypatch.setenv("COURSE_CACHE", "~other/labs")
    with pytest.raises(BadSetting, match="COURSE_CACHE"):
        settings.cache_dir()


@pytest.mark.parametrize("below", ["", "state/of/mine"])
def test_a_file_in_the_place_of_a_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / "taken").write_text("x")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "taken" / below))
    with pytest.raises(BadSetting, match=f"{tmp_path / 'taken'} is a file"):
        settings.home_dir()


def test_a_path_that_no_file_system_takes_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_HOME", "/tmp/" + "x" * 300)
    with pytest.raises(BadSetting, match="File name too long"):
        settings.home_dir()


def test_a_home_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "new"))
    assert settings.home_dir() == tmp_path / "new"
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # what root is never refused
    with pytest.raises(BadSetting, match=f"cannot write to {tmp_path}"):
        settings.home_dir()


@pytest.mark.parametrize("name", ["x" * 33, "x" * 300, "Lab", "a/b", "-a", "a b"])
def test_a_name_that_no_cluster_can_have_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("COURSE_CLUSTER", name)
    with pytest.raises(BadSetting, match="cannot name a cluster") as refused:
        settings.cluster_name()
    assert len(str(refused.value)) < 150 and refused.value.next_command == "unset COURSE_CLUSTER"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("COURSE_HOME", "~/x", "Next: export COURSE_HOME=$HOME/x"),
        ("COURSE_HOME", "/dev/null", "/dev/null is a file"),
        ("COURSE_CLUSTER", "x" * 300, "Next: unset COURSE_CLUSTER"),
    ],
)
def test_a_command_says_it_and_ends_with_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, words: str
) -> None:
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv(variable, value)
    assert run(["kubeconfig"]) == 2
    said = capsys.readouterr().err
    assert words in said and "Traceback" not in said and "itself failed" not in said
