"""`make lab` from nothing: the page opens at once, and the cluster is built behind it.

The builder is a process of its own, which ends with the notebook server: whoever presses Ctrl-C there
leaves nothing running. What was compiled until then is kept, and the next `make lab` goes on from it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from helpers import building, settings
from helpers.building import BuildStep, Record
from helpers.embedded import cache, elevate, entry
from helpers.embedded.binaries import SOURCE_LIST
from helpers.embedded.steps import Step, Steps
from helpers.errors import LabError
from helpers.terminal import say

# Seconds on two quiet cores, from the README's figures: what the time left is reckoned from.
USUAL_S = {
    "kubernetes": 335.0,
    "etcd": 26.0,
    "containerd": 56.0,
    "coredns": 59.0,
    "local-path-provisioner": 65.0,
}
START_S = [("Preparing the system images", 9.0), ("Initialising the cluster with kubeadm", 8.0)]
_PR_SET_PDEATHSIG = 1


class RecordedSteps(Steps):
    """Steps that the page can read too."""

    def __init__(self, record: Record, console: Console) -> None:
        super().__init__(console=console)
        self._record = record

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step, written down when it begins and when it ends."""
        began = time.time()
        with super().step(title) as step:
            self._record.write(self._record.build.with_step(BuildStep(title, began=began)))
            yield step
        took = BuildStep(title, began=began, took_s=step.elapsed_s, detail=step.detail)
        self._record.write(self._record.build.with_step(took))


def is_built() -> bool:
    """Whether everything that takes minutes is there, so that a cluster takes seconds."""
    compiled = all(cache.lookup("binaries", source.key()) for source in SOURCE_LIST)
    return compiled and any(cache.cache_dir("seeds").joinpath("seeds").glob("[!.]*"))


def planned() -> list[tuple[str, float]]:
    """The steps that are ahead and take long, with the seconds that they usually take."""
    lacking = [source for source in SOURCE_LIST if cache.lookup("binaries", source.key()) is None]
    building_steps = [(f"Building {one.title} from its Go modules", USUAL_S[one.name]) for one in lacking]
    return [*building_steps, *START_S]


def begin(cluster: str) -> bool:
    """Build and start a cluster in a process of its own; False when one is at it already.

    Root is asked for before, in this terminal, so that nobody waits for a password in the background.
    """
    if building.is_building(cluster):
        return False
    helper = None if entry.is_root() else elevate.start()
    parent = os.getpid()
    if os.fork() == 0:
        code = 1
        try:
            code = _build(cluster, helper, parent)
        finally:
            os._exit(code)
    return True


def _build(cluster: str, helper: elevate.Root | None, parent: int) -> int:
    _end_with(parent)
    with building.recording(cluster, planned()) as record, _log().open("a", buffering=1) as log:
        if record is None:
            return 0
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        steps = RecordedSteps(record, Console(file=log, highlight=False, width=120))
        try:
            _up(cluster, helper, steps)
        except LabError as error:
            _fell(record, "failed", str(error), error.next_command or "course doctor")
            return 1
        except KeyboardInterrupt:
            _fell(record, "interrupted", "the build was interrupted", "make lab")
            return 1
        except Exception as bug:  # noqa: BLE001 - nobody else would tell the learner
            _fell(
                record, "failed", f"the course itself failed: {type(bug).__name__}: {bug}", f"less {log.name}"
            )
            return 1
        finally:
            if helper is not None:
                helper.end()
        record.write(replace(record.build, state="done"))
        say(f"The cluster is ready, {(time.time() - record.build.began) / 60:.1f} min after the start.")
        return 0


def _up(cluster: str, helper: elevate.Root | None, steps: Steps) -> None:
    if helper is None:
        entry.up(cluster, steps)
    else:
        entry.up_through(helper, cluster, steps)


def _fell(record: Record, state: building.State, message: str, next_command: str) -> None:
    record.write(replace(record.build, state=state, message=message, next_command=next_command))
    say(f"The cluster was not built: {message}\nNext: {next_command}")


def _end_with(parent: int) -> None:
    """Leave the terminal's group, so that Ctrl-C asks the notebook server alone, and end when that ends."""
    os.setsid()
    signal.signal(signal.SIGTERM, _interrupted)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(0)


def _interrupted(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _log() -> Path:
    path = settings.home_dir() / "logs" / "build.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    return path
