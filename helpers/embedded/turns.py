"""Whose turn it is: what is fetched ahead stands back behind everything that somebody waits for."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers import settings

LOWEST = 19


@contextmanager
def first() -> Iterator[None]:
    """While somebody waits, nothing new is begun ahead; several may wait at once."""
    try:
        lock = _lock("waited-for").open("w")
    except OSError:  # a full disk, say: whoever waits gets that said by what they asked for
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


def stand_back() -> None:
    """Return when nobody waits."""
    with _lock("waited-for").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


@contextmanager
def only_one() -> Iterator[bool]:
    """Whether this process is the only one of this home that fetches ahead behind a page."""
    with _lock("running").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def step_aside() -> None:
    """Give this process, and all that it starts, the lowest priority: processor and disk."""
    os.setpriority(os.PRIO_PROCESS, 0, LOWEST)
    if shutil.which("ionice") is not None:
        subprocess.run(["ionice", "-c", "3", "-p", str(os.getpid())], capture_output=True, check=False)


def _lock(name: str) -> Path:
    folder = settings.home_dir() / "prefetch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"
