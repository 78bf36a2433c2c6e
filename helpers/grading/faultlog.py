"""Tracebacks go to a file that the message names: learners see one line, authors find the rest."""

from __future__ import annotations

import tempfile
import traceback
from datetime import UTC, datetime
from pathlib import Path

from helpers.settings import home_dir

LARGEST_BYTES = 1_000_000


def log_fault(fault: BaseException) -> Path:
    """Append the traceback to the course's log and return the log's path.

    Where the course's home cannot be written, full or read-only, the log is in the temporary folder.
    """
    for folder in (home_dir() / "logs", Path(tempfile.gettempdir())):
        path = folder / "course.log"
        try:
            _append(path, fault)
        except OSError:
            continue
        break
    return path


def _append(path: Path, fault: BaseException) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LARGEST_BYTES:
        path.replace(path.with_suffix(".log.1"))
    with path.open("a") as log:
        log.write(f"--- {datetime.now(UTC).isoformat()}\n")
        log.writelines(traceback.format_exception(fault))
