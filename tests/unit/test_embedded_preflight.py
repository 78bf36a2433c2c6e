"""Bad ground: one sentence and the next command."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from helpers.embedded import preflight
from helpers.embedded.addresses import Addresses
from helpers.embedded.preflight import BadGround
from helpers.embedded.steps import Steps


@pytest.fixture
def steps() -> Steps:
    return Steps(console=Console(file=io.StringIO()))


def problems() -> str:
    return "; ".join(fault.problem for fault in preflight.machine_faults())


def test_another_system_is_sent_to_another_cluster(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    monkeypatch.setattr(preflight.platform, "system", lambda: "Darwin")
    with pytest.raises(BadGround, match="needs Linux, this is Darwin") as fault:
        preflight.require(steps)
    assert "course use" in fault.value.next_command


def test_without_root_it_says_so(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    monkeypatch.setattr(preflight.os, "geteuid", lambda: 1000)
    with pytest.raises(BadGround, match="needs root") as fault:
        preflight.require(steps)
    assert "sudo" in fault.value.next_command


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("_has_overlay", lambda: False, "lacks overlay"),
        ("_has_nf_tables", lambda: False, "lacks nf_tables"),
        ("_controllers", set, "no cgroup controller for cpu, memory, pids"),
        ("_memory_available_gib", lambda: 0.5, "0.5 GiB of memory"),
    ],
)
def test_what_the_machine_lacks_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: object, problem: str
) -> None:
    monkeypatch.setattr(preflight, "_modprobe", lambda module: False)
    monkeypatch.setattr(preflight, name, value)
    assert problem in problems()


def test_too_little_disk_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "absent" / "cache"))
    usage = type("Usage", (), {"free": preflight.GIB})
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda folder: usage)
    assert f"{tmp_path}/absent/cache has 1.0 GiB free, 6 GiB are needed" in problems()


def test_a_folder_that_cannot_be_mounted_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "a:b"))
    monkeypatch.setattr(preflight, "_file_system", lambda folder: "overlay")
    assert "has a colon or a comma" in problems()
    assert "is on overlay" in problems()


def test_a_folders_file_system_is_that_of_the_nearest_mount_point() -> None:
    assert preflight._file_system(Path("/proc/self")) == "proc"


def test_missing_packages_without_apt_are_named(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    monkeypatch.setattr(preflight.shutil, "which", lambda command: None)
    with pytest.raises(BadGround, match="mmdebstrap"):
        preflight.install_packages(steps)


def test_a_complete_machine_installs_nothing(monkeypatch: pytest.MonkeyPatch, steps: Steps) -> None:
    monkeypatch.setattr(preflight, "run", lambda *a, **k: pytest.fail("apt-get was run"))
    monkeypatch.setattr(preflight.shutil, "which", lambda command: "/bin/true")
    preflight.install_packages(steps)


def test_a_taken_interface_or_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "taken_by_routes", lambda: {7})
    with pytest.raises(BadGround, match=r"198\.18\.7\.0/30 is in use"):
        preflight.require_subnet(Addresses(7))
    monkeypatch.setattr(Addresses, "in_use", lambda self: True)
    with pytest.raises(BadGround, match="course9 exists"):
        preflight.require_subnet(Addresses(9))


@pytest.mark.skipif(shutil.which("ip") is None, reason="needs iproute2")
def test_this_machine_answers_for_nf_tables_itself() -> None:
    assert isinstance(preflight._has_nf_tables(), bool)
