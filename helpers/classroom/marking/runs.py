"""One grading run on disk: who is to be graded and who is done, so that an interrupted run goes on.

A file of lines, appended to as each learner is done: what was written stays, whatever happens next,
and a last line that was cut short is as if it had not been written.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from helpers.errors import LabError

SCHEMA = "course.run/v1"


class NothingToResume(LabError):
    """Every run of this class came to its end."""


class GradingBusy(LabError):
    """Another command is grading this class now."""


@dataclass(frozen=True)
class Run:
    """One run: the labs, the learners by id, and where its lines are."""

    path: Path
    labs: tuple[str, ...]
    learners: tuple[str, ...]
    started_at: str
    options: Mapping[str, Any]

    @classmethod
    def begin(
        cls, folder: Path, labs: Sequence[str], learners: Sequence[str], options: Mapping[str, Any]
    ) -> Self:
        """A new run under the class folder."""
        now = datetime.now(UTC)
        path = folder / "runs" / f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        run = cls(path, tuple(labs), tuple(learners), now.isoformat(), dict(options))
        head = {
            "schema": SCHEMA,
            "labs": list(labs),
            "learners": list(learners),
            "started_at": run.started_at,
            "options": dict(options),
        }
        _append(path, head)
        return run

    @classmethod
    def newest(cls, folder: Path) -> Self | None:
        """The run that was begun last; None before the first."""
        paths = sorted((folder / "runs").glob("*.jsonl"), reverse=True)
        return next((run for path in paths if (run := cls.read(path))), None)

    @classmethod
    def last_unfinished(cls, folder: Path) -> Self:
        """The newest run, if it has learners who are not done.

        Raises:
            NothingToResume: there is none; an older one does not count once a newer one is complete.
        """
        run = cls.newest(folder)
        if run and run.left():
            return run
        raise NothingToResume("there is no unfinished run", next_command="course class grade --labs 01")

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The run in a file; None when not even its first line was written whole."""
        head = next(_lines(path), None)
        if head is None or head.get("schema") != SCHEMA:
            return None
        learners, labs = tuple(head["learners"]), tuple(head["labs"])
        return cls(path, labs, learners, head["started_at"], head.get("options") or {})

    def done(self) -> dict[str, int]:
        """Who has been graded in this run, and in which attempt; a broken environment is not graded."""
        return {
            line["learner"]: line["attempt"]
            for line in _lines(self.path)
            if "learner" in line and not line["broken"]
        }

    def left(self) -> list[str]:
        """Who is still to be graded."""
        done = self.done()
        return [learner for learner in self.learners if learner not in done]

    def record(self, learner: str, attempt: int, *, broken: bool) -> None:
        """One learner is done, or could not be judged."""
        at = datetime.now(UTC).isoformat()
        _append(self.path, {"learner": learner, "attempt": attempt, "broken": broken, "at": at})


@contextmanager
def only_grader(folder: Path) -> Iterator[None]:
    """One grading of a class at a time: two would grade everybody twice."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    with (folder / "runs" / "grading.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise GradingBusy(
                "another command is grading this class now", next_command="course class status --last"
            ) from error
        yield


def _append(path: Path, line: Mapping[str, Any]) -> None:
    text = json.dumps(line, ensure_ascii=False)
    # A line that a crash cut short must not swallow this one.
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with os.fdopen(handle, "rb+") as file:
        size = file.seek(0, os.SEEK_END)
        cut = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
        file.write((("\n" if cut else "") + text + "\n").encode())
        file.flush()
        os.fsync(handle)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text(errors="replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut short by a crash
        if isinstance(line, dict):
            yield line
