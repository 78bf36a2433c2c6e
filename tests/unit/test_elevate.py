"""Root for the node alone: how it is got, what it is asked, and what it leaves when nobody asks any more."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console

from helpers import settings
from helpers.embedded import binaries, cache, elevate, launch, turns
from helpers.embedded.elevate import NoRoot
from helpers.embedded.steps import StepFailed, Steps

SUDO = """#!/bin/sh
# Stands where sudo does: gives what it is asked for, or nothing.
[ "$1" = -n ] && shift
[ -n "$SUDO_ASKS" ] && { echo "sudo: a password is required" >&2; exit 1; }
exec "$@"
"""


@pytest.fixture
def ordinary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A process that does not count as root, with a home, a cache and a node's folder of its own."""
    (tmp_path / "bin").mkdir()
    sudo = tmp_path / "bin" / "sudo"
    sudo.write_text(SUDO)
    sudo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(os, "geteuid", lambda: 1001)
    monkeypatch.setattr(settings, "NODES", tmp_path / "nodes")
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def quiet() -> Steps:
    return Steps(console=Console(file=io.StringIO()))


def test_what_only_root_may_own_lies_outside_the_users_home(ordinary: Path) -> None:
    for folder in (settings.node_dir("lab"), settings.node_cache_dir(), cache.cache_dir("seeds")):
        assert ordinary / "nodes" in folder.parents
    assert cache.cache_dir("binaries") == ordinary / "cache"
    assert settings.kubeconfig_path("lab").is_relative_to(ordinary / "home")


def test_two_homes_of_one_user_have_nodes_apart(ordinary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = settings.node_home()
    monkeypatch.setenv("COURSE_HOME", str(ordinary / "other"))
    assert settings.node_home() != first


def test_for_root_nothing_lies_apart() -> None:
    if os.geteuid() != 0:
        pytest.skip("this is about root")
    assert settings.node_home() == settings.home_dir()
    assert settings.node_cache_dir() == settings.cache_dir()


def test_without_any_way_to_root_the_error_says_what_to_install(
    ordinary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(ordinary / "empty"))
    with pytest.raises(NoRoot, match="no sudo, doas or pkexec") as fault:
        elevate.start()
    assert "apt-get install sudo" in fault.value.next_command


def test_a_password_that_nobody_can_type_is_an_error_and_no_wait(
    ordinary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_ASKS", "1")
    monkeypatch.setattr(elevate, "_has_terminal", lambda: False)
    with pytest.raises(NoRoot, match="no terminal") as fault:
        elevate.start()
    assert "in a terminal" in fault.value.next_command


def test_why_the_password_is_asked_for_is_said_before(
    ordinary: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SUDO_ASKS", "1")
    monkeypatch.setattr(elevate, "_has_terminal", lambda: True)
    with pytest.raises(NoRoot, match="did not give it"):
        elevate.start()
    said = capsys.readouterr().err
    assert "runs as root" in said
    assert "once" in said


def test_an_error_of_the_helper_arrives_as_what_it_was(ordinary: Path) -> None:
    with elevate.root() as root, pytest.raises(launch.BadName, match="cannot name a cluster"):
        root.call("down", quiet(), name="No Name", delete=False)


def test_root_compiles_nothing_on_a_users_behalf(ordinary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Go's caches would be root's, in the user's home, and the user's own next build would fail."""
    monkeypatch.setenv("COURSE_NODE_HOME", str(ordinary / "nodes"))
    with pytest.raises(StepFailed, match="is not built"):
        binaries.ensure_source(binaries.SOURCE_LIST[0], quiet())
    assert not (ordinary / "cache").exists()


def test_the_helper_ends_when_nobody_asks_any_more(ordinary: Path) -> None:
    root = elevate.start()
    root.end()
    assert root._process.returncode == 0


def test_the_helper_steps_aside_when_nobody_waits_for_it(ordinary: Path) -> None:
    with elevate.root() as root:
        before = os.getpriority(os.PRIO_PROCESS, root._process.pid)
        root.call("step_aside", quiet())
        assert os.getpriority(os.PRIO_PROCESS, root._process.pid) == max(before, turns.LOWEST)


def test_it_knows_nothing_of_the_users_environment_but_what_it_needs(
    ordinary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    monkeypatch.setenv("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    passed = elevate._environment()
    assert "AWS_SECRET_ACCESS_KEY" not in passed
    assert passed["SSL_CERT_FILE"] == "/etc/ssl/certs/ca-certificates.crt"
    assert passed["COURSE_NODE_HOME"] == str(settings.node_home())


def test_a_step_of_the_helper_is_shown_and_its_failure_marked(ordinary: Path) -> None:
    screen = io.StringIO()
    from contextlib import ExitStack

    with ExitStack() as opened:
        shown = elevate._Shown(Steps(console=Console(file=screen)), opened)
        for event in (
            {"step": 1, "title": "Installing a root"},
            {"step": 1, "detail": "half"},
            {"step": 1, "ended": False},
        ):
            shown.take(event)
    assert "✗ Installing a root" in screen.getvalue()


def test_sys_executable_is_what_the_helper_runs(ordinary: Path) -> None:
    root = elevate.start()
    try:
        assert sys.executable in root._words()
    finally:
        root.end()
