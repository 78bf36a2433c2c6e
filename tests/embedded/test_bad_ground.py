"""Builds on bad ground: no network, no space, killed half-way. The next `up` goes on from there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.embedded import binaries, cache
from helpers.embedded.steps import DiskFull, NoNetwork
from helpers.settings import cache_dir
from tests.embedded.conftest import quiet

pytestmark = pytest.mark.embedded

SMALL = binaries.Source(
    "registry", "a container registry", ("github.com/google/go-containerregistry/cmd/registry",)
)


@pytest.fixture
def warm_modules() -> Path:
    """The machine's own Go caches, so that a test's build takes a second and no network."""
    return (cache_dir() / "go").absolute()


@pytest.fixture
def empty_cache(tmp_path: Path, warm_modules: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # `warm_modules` first: it must still see the machine's own cache.
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tiny_disk(empty_cache: Path) -> Iterator[Path]:
    empty_cache.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(empty_cache)], check=True)
    yield empty_cache
    subprocess.run(["umount", str(empty_cache)], check=True)


def test_no_network_is_said_and_what_to_try(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:9")
    with pytest.raises(NoNetwork) as fault:
        binaries.ensure_source(SMALL, quiet())
    assert "course up" in fault.value.next_command
    assert cache.lookup("binaries", SMALL.key()) is None


def test_a_full_disk_is_said_and_leaves_nothing_half(tiny_disk: Path, warm_modules: Path) -> None:
    (tiny_disk / "go").symlink_to(warm_modules)
    with pytest.raises(DiskFull) as fault:
        binaries.ensure_source(SMALL, quiet())
    assert "df -h" in fault.value.next_command
    assert [path.suffix for path in (tiny_disk / "binaries").iterdir()] == [".lock"]


def test_after_a_build_that_failed_the_next_one_succeeds(
    empty_cache: Path, warm_modules: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setenv("GOPROXY", "http://127.0.0.1:9")
        with pytest.raises(NoNetwork):
            binaries.ensure_source(SMALL, quiet())
    subprocess.run(["chmod", "-R", "u+w", str(empty_cache / "go")], check=True)
    subprocess.run(["rm", "-rf", str(empty_cache / "go")], check=True)
    (empty_cache / "go").symlink_to(warm_modules)
    content = binaries.ensure_source(SMALL, quiet())
    assert (content / binaries.BIN / "registry").stat().st_mode & 0o111
