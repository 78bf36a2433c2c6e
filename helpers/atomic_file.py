"""Small JSON files that must survive: written in one step, by one writer at a time.

The notebook's board, the command line and the classroom write the same files from several processes.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step: a reader sees the old text or the new one, also after a power cut.

    Only its owner can read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process, and one thread, between reading the file and replacing it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def read_json(path: Path, schema: str) -> dict[str, Any]:
    """The file's object; empty when there is no file, or when it is of another schema.

    Raises:
        ValueError: the file is not JSON or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(data, dict):
        raise ValueError(f"{path} does not hold an object")
    return data if data.get("schema") == schema else {}


def set_aside(path: Path) -> Path:
    """Move an unreadable file out of the way, for inspection: half a file cannot come from us."""
    aside = path.with_suffix(".unreadable")
    path.replace(aside)
    return aside
