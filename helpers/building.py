"""A cluster that is being built while its lab is already open: who builds writes here, the page reads.

One small file a cluster, replaced whole at each change. The builder holds a lock on a file beside it
for as long as it lives, so that a build which was killed is told from one that goes on.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from helpers import settings
from helpers.atomic_file import write_atomically

State = Literal["running", "done", "failed", "interrupted"]


@dataclass(frozen=True)
class BuildStep:
    """One step: how long it usually takes, when it began and how long it took, in seconds."""

    title: str
    usual_s: float = 0.0
    began: float | None = None
    took_s: float | None = None
    detail: str = ""

    def elapsed_s(self, now: float) -> float:
        """How long it has been going on, or went on."""
        if self.took_s is not None:
            return self.took_s
        return now - self.began if self.began is not None else 0.0


@dataclass(frozen=True)
class Build:
    """A cluster's build as it is now; `began` is in seconds since the epoch.

    `page_s` and `answers_s` say how long after that the page could be opened and the API server answered.
    """

    cluster: str
    began: float
    state: State = "running"
    steps: tuple[BuildStep, ...] = ()
    message: str = ""
    next_command: str = ""
    page_s: float | None = None
    answers_s: float | None = None

    def with_step(self, step: BuildStep) -> Build:
        """The same with one step changed, or with one more."""
        known = [one.title for one in self.steps]
        if step.title not in known:
            return replace(self, steps=(*self.steps, step))
        usual_s = self.steps[known.index(step.title)].usual_s
        changed = replace(step, usual_s=step.usual_s or usual_s)
        return replace(self, steps=tuple(changed if one.title == step.title else one for one in self.steps))

    def left_s(self, now: float) -> float:
        """How long it may still take: what is usual, at the pace of this machine so far."""
        over = [one for one in self.steps if one.took_s is not None and one.usual_s]
        usual_s = sum(one.usual_s for one in over)
        pace = sum(one.took_s or 0.0 for one in over) / usual_s if usual_s >= 20 else 1.0
        waiting = [one for one in self.steps if one.took_s is None]
        return sum(max(one.usual_s * pace - one.elapsed_s(now), 0.0) for one in waiting)


@dataclass
class Record:
    """Where a builder writes what it does; `now` is the wall clock."""

    build: Build
    _folder: Path = field(default_factory=lambda: _folder())

    def write(self, build: Build) -> None:
        """Replace what the page reads."""
        self.build = build
        write_atomically(self._folder / f"{build.cluster}.json", json.dumps(asdict(build)))


@contextmanager
def recording(cluster: str, planned: list[tuple[str, float]]) -> Iterator[Record | None]:
    """The place to write one build to; None when another process builds this cluster already."""
    folder = _folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{cluster}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        steps = tuple(BuildStep(title, usual_s) for title, usual_s in planned)
        record = Record(Build(cluster, time.time(), steps=steps))
        record.write(record.build)
        yield record


def read(cluster: str) -> Build | None:
    """The build of a cluster as it is now; None when there never was one here."""
    path = _folder() / f"{cluster}.json"
    try:
        tree = json.loads(path.read_text())
        build = Build(**{**tree, "steps": tuple(BuildStep(**step) for step in tree["steps"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if build.state == "running" and not is_building(cluster):
        return replace(
            build, state="interrupted", message="the build was interrupted", next_command="make lab"
        )
    return build


def is_building(cluster: str) -> bool:
    """Whether a process builds this cluster now."""
    with suppress(FileNotFoundError), (_folder() / f"{cluster}.lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _folder() -> Path:
    return settings.home_dir() / "builds"
