"""Cached builds: whole or absent, never half."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from helpers.embedded import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))


class Builder:
    """Writes one file, and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, content: Path) -> None:
        self.calls += 1
        (content / "file").write_text("built")


def test_an_entry_is_made_once() -> None:
    build = Builder()
    first = cache.ensure("things", "k", build)
    assert cache.ensure("things", "k", build) == first
    assert (first / "file").read_text() == "built"
    assert build.calls == 1


def test_an_interrupted_build_leaves_no_entry_and_no_rubbish(tmp_path: Path) -> None:
    def interrupted(content: Path) -> None:
        (content / "file").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.ensure("things", "k", interrupted)
    assert cache.lookup("things", "k") is None
    assert [path.name for path in (tmp_path / "things").iterdir()] == [".k.lock"]


def test_what_a_killed_build_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "things" / ".k.abcd" / "content"
    left.mkdir(parents=True)
    (left / "file").write_text("half")
    cache.ensure("things", "k", Builder())
    assert not left.exists()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text("truncate"),
        lambda path: os.utime(path, (1, 1)),
        lambda path: (path.parent / "more").touch(),
    ],
    ids=["removed", "rewritten", "touched", "added"],
)
def test_a_damaged_entry_is_made_again(damage) -> None:
    build = Builder()
    damage(cache.ensure("things", "k", build) / "file")
    assert (cache.ensure("things", "k", build) / "file").read_text() == "built"
    assert build.calls == 2


def test_a_lost_manifest_means_a_damaged_entry(tmp_path: Path) -> None:
    build = Builder()
    cache.ensure("things", "k", build)
    (tmp_path / "things" / "k" / cache.MANIFEST).write_text("{")
    cache.ensure("things", "k", build)
    assert build.calls == 2


def test_a_key_depends_on_every_part_and_on_where_one_ends(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module a")
    one = cache.key_of(["ab", "c", tmp_path / "go.mod"])
    (tmp_path / "go.mod").write_text("module b")
    assert len({one, cache.key_of(["ab", "c", tmp_path / "go.mod"]), cache.key_of(["a", "bc"])}) == 3
