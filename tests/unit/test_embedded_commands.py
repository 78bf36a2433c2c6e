"""The embedded cluster on the command line: plain words, exit codes, no cluster touched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import cli
from helpers.embedded.addresses import Addresses
from helpers.embedded.sandbox import Sandbox


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COURSE_CLUSTER", "nothing")


def test_status_of_nothing_says_so_and_what_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status"]) == 0
    assert capsys.readouterr().out == "nothing: none\nNext: course up\n"


def test_status_as_json_is_json_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"name": "nothing", "word": "none", "facts": {}}


def test_down_of_nothing_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["down", "--delete"]) == 0
    assert "was not running" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said", "next_command"),
    [
        (["kubeconfig", "--name", "absent"], "no embedded cluster absent", "course up"),
        (["gpu", "--shape", "mig"], "is not running", "course up"),
        (["images", "load", "toolbox"], "is not running", "course up"),
        (["up", "--name", "../else"], "cannot name a cluster", "course up"),
        (["up", "--images", "docker"], "no image source", "course up --images auto"),
    ],
)
def test_what_cannot_be_done_is_one_sentence_and_the_next_command(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str, next_command: str
) -> None:
    assert cli.run(words) == 2
    shown = capsys.readouterr().err
    assert said in shown
    assert f"Next: {next_command}" in shown
    assert "Traceback" not in shown


def test_cache_of_nothing_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["cache"]) == 0
    assert capsys.readouterr().out == ""


def test_a_failure_shows_the_newest_log_of_each_part(tmp_path: Path) -> None:
    node = Sandbox(tmp_path, Addresses(1))
    logs = node.data("var/log/pods/kube-system_etcd-substrate_1/etcd")
    logs.mkdir(parents=True)
    (logs / "0.log").write_text("first\n")
    (logs / "1.log").write_text("one\ntwo\nthree\n")
    tails = node.log_tails(["pods/*etcd*/*/*", "kubelet.log"], lines=2)
    assert tails == f"== {logs / '1.log'}\ntwo\nthree"
