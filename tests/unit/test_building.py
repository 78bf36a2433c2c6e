"""A cluster that is built behind its page: what the page is told, and who ends with whom."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from helpers import building, settings
from helpers.building import Build, BuildStep
from helpers.embedded import behind
from helpers.errors import EnvironmentFault
from helpers.notebook.building import build_card


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    return tmp_path


def test_a_page_reads_what_the_builder_wrote() -> None:
    with building.recording("lab", [("Building etcd", 30.0)]) as record:
        assert record is not None
        steps = behind.RecordedSteps(record, Console(file=io.StringIO()))
        with steps.step("Building etcd"):
            seen = building.read("lab")
            assert seen is not None
            assert seen.state == "running"
            assert [(step.title, step.took_s) for step in seen.steps] == [("Building etcd", None)]
        seen = building.read("lab")
        assert seen is not None
        assert seen.steps[0].took_s is not None
        assert seen.steps[0].usual_s == 30.0


def test_a_second_builder_leaves_the_first_alone() -> None:
    with building.recording("lab", []) as first, building.recording("lab", []) as second:
        assert first is not None
        assert second is None
        assert building.is_building("lab")
    assert not building.is_building("lab")


def test_a_build_whose_process_is_gone_was_interrupted() -> None:
    with building.recording("lab", []):
        pass
    seen = building.read("lab")
    assert seen is not None
    assert seen.state == "interrupted"
    assert seen.next_command == "make lab"


def test_where_nothing_was_built_there_is_nothing_to_show() -> None:
    assert building.read("lab") is None
    assert not building.is_building("lab")


def test_the_time_left_follows_the_pace_of_this_machine() -> None:
    """Twice as slow so far: what is left takes twice as long."""
    done, ahead = BuildStep("a", 30.0, began=0.0, took_s=60.0), BuildStep("b", 100.0)
    assert Build("lab", 0.0, steps=(done, ahead)).left_s(60.0) == 200.0
    begun = replace(ahead, began=60.0)
    assert Build("lab", 0.0, steps=(done, begun)).left_s(110.0) == 150.0


def test_a_step_that_takes_longer_than_usual_never_owes_time() -> None:
    assert Build("lab", 0.0, steps=(BuildStep("a", 10.0, began=0.0),)).left_s(500.0) == 0.0


def test_the_card_shows_steps_and_time_left() -> None:
    steps = (
        BuildStep("Building etcd", 30.0, began=0.0, took_s=30.0),
        BuildStep("Building CoreDNS", 240.0, began=30.0),
    )
    text = build_card(Build("lab", 0.0, steps=steps), now=60.0).text
    assert "✓ Building etcd" in text
    assert "about 4 min left" in text


def test_the_card_of_a_failed_build_names_the_reason_and_the_next_command() -> None:
    text = build_card(Build("lab", 0.0, "failed", message="no space <left>", next_command="df -h")).text
    assert "no space &lt;left&gt;" in text
    assert "df -h" in text
    assert "kept" in text


def test_what_failed_is_on_the_card_and_in_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(cluster: str, steps: object, **more: object) -> None:
        raise EnvironmentFault("no space left", next_command="df -h")

    monkeypatch.setattr(behind.entry, "up", fail)
    monkeypatch.setattr(behind, "_end_with", lambda parent: None)
    monkeypatch.setattr(behind.os, "dup2", lambda one, other: None)
    assert behind._build("lab", None, os.getpid()) == 1
    seen = building.read("lab")
    assert seen is not None
    assert (seen.state, seen.message, seen.next_command) == ("failed", "no space left", "df -h")
    assert "Next: df -h" in capsys.readouterr().err


def test_how_long_each_thing_took_is_kept(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def up(cluster: str, steps: object, *, on_kubeconfig: Callable[[str, str], None], **more: object) -> None:
        on_kubeconfig(cluster, "apiVersion: v1")

    monkeypatch.setattr(behind.entry, "up", up)
    monkeypatch.setattr(behind, "_end_with", lambda parent: None)
    monkeypatch.setattr(behind.os, "dup2", lambda one, other: None)
    monkeypatch.setattr(behind.ahead, "behind_page", lambda cluster, helper: None)
    with socket.socket() as page:
        page.bind(("127.0.0.1", 0))
        page.listen()
        _until(lambda: behind.listens(os.getpid()))
        monkeypatch.setattr(behind, "listens", lambda pid: pid == os.getpid())
        assert behind._build("lab", None, os.getpid()) == 0
    seen = building.read("lab")
    assert seen is not None and seen.state == "done"
    assert seen.answers_s is not None and seen.answers_s >= 0.0
    assert settings.kubeconfig_path("lab").read_text() == "apiVersion: v1"
    assert behind.times(replace(seen, began=0.0, page_s=4.2, answers_s=390.0), 400.0) == (
        "After the start: page 4 s, API server 390 s, ready 400 s"
    )
    for text in (capsys.readouterr().err, (home / "logs" / "build.log").read_text()):
        assert "The cluster is ready. After the start: " in text


SERVER = """\
    import subprocess, sys, time
    from helpers.embedded import behind
    def build(cluster, steps, **more):
        with steps.step("Building"):
            subprocess.run(["sleep", "600"])
    behind.entry.is_root = lambda: True
    behind.entry.up = build
    assert behind.begin("lab")
    time.sleep(600)
"""


def test_the_build_ends_with_the_notebook_server(home: Path) -> None:
    """The server is killed outright: the builder notices, and says that it was interrupted."""
    server = subprocess.Popen([sys.executable, "-c", textwrap.dedent(SERVER)])
    try:
        _until(lambda: (seen := building.read("lab")) is not None and bool(seen.steps[-1].began))
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
    _until(lambda: not building.is_building("lab"))
    seen = building.read("lab")
    assert seen is not None
    assert seen.state == "interrupted"


def _until(condition: object) -> None:
    assert callable(condition)
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not within a minute"
        time.sleep(0.05)
