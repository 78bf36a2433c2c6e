"""`make lab` from nothing: the page opens at once, and the cluster is built behind it.

The builder is a process of its own, which ends with the notebook server: whoever presses Ctrl-C there
leaves nothing running. What was compiled until then is kept, and the next `make lab` goes on from it.
Once the cluster answers, the same process fetches what later labs need (ahead.py).
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import psutil
from rich.console import Console

from helpers import building, settings
from helpers.building import Build, BuildStep, Record
from helpers.embedded import ahead, cache, elevate, entry
from helpers.embedded.binaries import SOURCE_LIST
from helpers.embedded.launch import keep_kubeconfig
from helpers.embedded.steps import Step, Steps
from helpers.errors import LabError
from helpers.terminal import say

# Seconds on two quiet cores, from the README's figures: what the time left is reckoned from.
USUAL_S = {
    "kubernetes": 263.0,
    "etcd": 7.0,
    "containerd": 23.0,
    "coredns": 7.0,
    "local-path-provisioner": 3.0,
}
START_S = [("Preparing the system images", 5.0), ("Initialising the cluster with kubeadm", 6.0)]
_PR_SET_PDEATHSIG = 1


class RecordedSteps(Steps):
    """Steps that the page can read too."""

    def __init__(self, record: Record, console: Console) -> None:
        super().__init__(console=console)
        self._record, self._lock = record, threading.Lock()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """A step, written down when it begins and when it ends."""
        began = time.time()
        with super().step(title) as step:
            self._write(BuildStep(title, began=began))
            yield step
        self._write(BuildStep(title, began=began, took_s=step.elapsed_s, detail=step.detail))

    def _write(self, step: BuildStep) -> None:
        """Two steps may go on at once, and each change is made to what the other has written."""
        with self._lock:
            self._record.write(self._record.build.with_step(step))


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
    _apart(helper, lambda parent: _build(cluster, helper, parent))
    return True


def up_then_fetch(cluster: str, steps: Steps) -> None:
    """Start a cluster whose parts are there, and fetch what later labs need in a process of its own."""
    helper = None if entry.is_root() else elevate.start()
    try:
        entry.up(cluster, steps, helper=helper)
    except BaseException:
        if helper is not None:
            helper.end()
        raise
    _apart(helper, lambda _: ahead.behind_page(cluster, helper))


def _apart(helper: elevate.Root | None, do: Callable[[int], int | None]) -> None:
    """Do it in a process of its own, which ends with this one and lets the helper go; it is given this one's id."""
    parent = os.getpid()
    sys.stderr.flush()
    if os.fork() == 0:
        code = 1
        try:
            with suppress(KeyboardInterrupt), ExitStack() as at_the_end:
                if helper is not None:
                    at_the_end.callback(helper.end)
                _end_with(parent)
                code = do(parent) or 0
        finally:
            os._exit(code)


def _build(cluster: str, helper: elevate.Root | None, parent: int) -> int:
    with building.recording(cluster, planned()) as record, _log().open("a", buffering=1) as log:
        if record is None:
            return 0
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        if code := _built(cluster, helper, parent, record, log):
            return code
    ahead.behind_page(cluster, helper)
    return 0


def _built(cluster: str, helper: elevate.Root | None, parent: int, record: Record, log: TextIO) -> int:
    console = Console(file=log, highlight=False, width=120)
    page = _Page(parent, record.build.began)

    def answers(name: str, text: str) -> None:
        keep_kubeconfig(name, text)
        record.write(replace(record.build, answers_s=time.time() - record.build.began))

    try:
        entry.up(cluster, RecordedSteps(record, console), helper=helper, on_kubeconfig=answers)
    except LabError as error:
        _fell(record, "failed", str(error), error.next_command or "course doctor")
        return 1
    except KeyboardInterrupt:
        _fell(record, "interrupted", "the build was interrupted", "make lab")
        return 1
    except Exception as bug:  # noqa: BLE001 - nobody else would tell the learner
        _fell(record, "failed", f"the course itself failed: {type(bug).__name__}: {bug}", f"less {log.name}")
        return 1
    record.write(replace(record.build, state="done", page_s=page.after_s))
    said = f"The cluster is ready. {times(record.build, time.time())}"
    console.print(said)
    say(said)
    return 0


def times(build: Build, now: float) -> str:
    """How long after the start each of the things came that a learner waits for."""
    came = {"page": build.page_s, "API server": build.answers_s, "ready": now - build.began}
    return "After the start: " + ", ".join(f"{name} {s:.0f} s" for name, s in came.items() if s is not None)


class _Page:
    """When the notebook server, which this process's parent becomes, was there to be opened."""

    def __init__(self, server: int, began: float) -> None:
        self.after_s: float | None = None
        self._server, self._began = server, began
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        with suppress(psutil.Error):  # it has ended
            while not listens(self._server):
                time.sleep(0.2)
            self.after_s = time.time() - self._began


def listens(pid: int) -> bool:
    """Whether a process takes TCP connections."""
    return any(found.status == psutil.CONN_LISTEN for found in psutil.Process(pid).net_connections("tcp"))


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
