"""Things that take long to make, kept under the hash of what they are made from.

An entry is made in a folder beside its final place and renamed when whole, so that an interrupted
build leaves nothing that could be mistaken for a result. Each entry carries a manifest of its files;
one whose files no longer match (a full disk, a power cut, a stray rm) is made again.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers import settings

MANIFEST = "manifest.json"
CONTENT = "content"


# What a user compiles is the user's; everything else takes root to make.
USERS_OWN = ("binaries", "toolchains", "solved-records")


def cache_dir(kind: str = "") -> Path:
    """The folder in which a kind lies, as an absolute path: nodes are started from another working directory."""
    own = settings.cache_dir() if kind in USERS_OWN else settings.node_cache_dir()
    return own.absolute()


def key_of(parts: Iterable[str | bytes | Path]) -> str:
    """A short hash of everything an entry is made from: texts, and files by their content."""
    digest = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part
        raw = content.encode() if isinstance(content, str) else content
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:16]


def lookup(kind: str, key: str) -> Path | None:
    """The content folder of an entry, or None when it is absent or was damaged."""
    entry = cache_dir(kind) / kind / key
    return entry / CONTENT if _is_whole(entry) else None


def ensure(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The content folder of an entry, made now if it is absent or damaged.

    `make` gets an empty folder to fill. Two processes that need the same entry wait for one another.
    """
    found = lookup(kind, key)
    if found is not None:
        return found
    with _exclusive(cache_dir(kind) / kind, key):
        found = lookup(kind, key)
        if found is not None:
            return found
        return _make(cache_dir(kind) / kind / key, make)


def renew(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """The content folder of an entry, made now; one that is there gives way once this one is whole."""
    with _exclusive(cache_dir(kind) / kind, key):
        return _make(cache_dir(kind) / kind / key, make)


def sizes_mib() -> dict[str, float]:
    """How much each folder of things takes; files that several entries share count once."""
    seen: set[int] = set()
    return {str(folder): _size(folder, seen) / 2**20 for folder in _kinds()}


def forget(kind: str, key: str) -> None:
    """Delete one entry: for what is copied from, never for what running nodes lie on."""
    shutil.rmtree(cache_dir(kind) / kind / key, ignore_errors=True)


def keep_newest(kind: str, count: int) -> None:
    """Delete a kind's older entries: for what is copied from, never for what running nodes lie on."""
    entries = [path for path in (cache_dir(kind) / kind).glob("[!.]*") if path.is_dir()]
    entries.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for entry in entries[count:]:
        shutil.rmtree(entry, ignore_errors=True)


def clear() -> None:
    """Delete every entry that is this user's. Clusters that are kept need theirs again at their next start."""
    for folder in _kinds():
        shutil.rmtree(folder, onerror=_make_writable)


def _kinds() -> list[Path]:
    """The folders of things: a user's own, or the node's where this is root on a user's behalf."""
    mine = cache_dir() if settings.for_somebody_else() else settings.cache_dir().absolute()
    return sorted(path for path in mine.glob("*") if path.is_dir())


def _size(folder: Path, seen: set[int]) -> int:
    total = 0
    for here, _, files in os.walk(folder):
        for name in files:
            status = (Path(here) / name).lstat()
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total


def _make_writable(function: Callable[[str], None], path: str, _error: object) -> None:
    """Go marks its module cache read-only; root is stopped by that only on some file systems."""
    Path(path).parent.chmod(0o755)
    function(path)


def _make(entry: Path, make: Callable[[Path], None]) -> Path:
    _remove_leftovers(entry)
    work = Path(tempfile.mkdtemp(dir=entry.parent, prefix=f".{entry.name}."))
    try:
        work.chmod(0o755)
        (work / CONTENT).mkdir()
        make(work / CONTENT)
        (work / MANIFEST).write_text(json.dumps(dict(_listing(work / CONTENT))))
        if entry.exists():
            shutil.rmtree(entry)
        work.rename(entry)
    finally:
        if work.exists():
            shutil.rmtree(work, ignore_errors=True)
    return entry / CONTENT


def _remove_leftovers(entry: Path) -> None:
    """Folders of builds that were killed: nobody else can hold them, since the lock is ours."""
    for stale in entry.parent.glob(f".{entry.name}.*"):
        if stale.is_dir():
            shutil.rmtree(stale, ignore_errors=True)


def _is_whole(entry: Path) -> bool:
    """Compare sizes and times with the manifest: hashing hundreds of MB at each `up` would take longer
    than starting the cluster, and damage that keeps both is not what crashes and full disks do."""
    try:
        expected = json.loads((entry / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    return isinstance(expected, dict) and expected == dict(_listing(entry / CONTENT))


def _listing(root: Path) -> Iterator[tuple[str, list[int]]]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted(files):
            path = Path(folder) / name
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                yield str(path.relative_to(root)), [status.st_size, status.st_mtime_ns]


@contextmanager
def _exclusive(folder: Path, key: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f".{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
