"""What runs as root for a user who is not: a node's start and end, and what must enter it.

One request a line on standard input, one event a line on standard output; see elevate.py. It changes
nothing outside the node's own folders, apart from Debian packages that a node needs and this machine
lacks. When standard input ends, whoever asked is gone: what is half done is undone, and this ends too.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from helpers.embedded.steps import Step, Steps
from helpers.errors import LabError

OPERATIONS: dict[str, Callable[..., Any]] = {}
FOLDERS = ("COURSE_HOME", "COURSE_CACHE", "COURSE_NODE_HOME", "COURSE_NODE_CACHE")
DETAIL_S = 0.2


class Line:
    """The way back to the user's process: one JSON object a line, from any thread."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def send(self, **event: Any) -> None:
        """Say one thing; whoever does not listen any more has ended, which `_requests` notices."""
        with self._lock, suppress(BrokenPipeError):
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()


class ToldSteps(Steps):
    """Steps whose progress goes to the user's process and not to a terminal."""

    def __init__(self, line: Line) -> None:
        super().__init__()
        self._line, self._numbers = line, itertools.count(1)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Tell that a step began, what it is at, and how it ended."""
        number, over = next(self._numbers), threading.Event()
        step = Step(title, _now())
        self._line.send(step=number, title=title)
        teller = threading.Thread(target=self._tell, args=(number, step, over), daemon=True)
        teller.start()
        ended = False
        try:
            yield step
            ended = True
        finally:
            over.set()
            teller.join()
            self._line.send(step=number, ended=ended)

    def _tell(self, number: int, step: Step, over: threading.Event) -> None:
        told = ""
        while True:
            last = over.wait(DETAIL_S)
            if step.detail != told:
                told = step.detail
                self._line.send(step=number, detail=told)
            if last:
                return


def operation(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that a user's process may ask for, by its name."""
    OPERATIONS[function.__name__] = function
    return function


@operation
def up(line: Line, name: str, source: str) -> None:
    """Bring a cluster up; its kubeconfig goes to the user as soon as there is one."""
    from helpers.embedded import launch
    from helpers.embedded.registry import source_named

    def hand_out(cluster: str, text: str) -> None:
        line.send(kubeconfig=[cluster, text])

    launch.up(name, ToldSteps(line), source=source_named(source), hand_out=hand_out)


@operation
def keep(line: Line, name: str, key: str, label: str) -> None:
    """Keep a copy of a stopped cluster in the node's cache."""
    from helpers.embedded import kept

    kept.keep(name, key, ToldSteps(line), label=label)


@operation
def put_back(line: Line, name: str, key: str, replace: bool) -> None:
    """Start a copy of a kept cluster; its kubeconfig goes to the user as soon as there is one."""
    from helpers.embedded import kept

    def hand_out(cluster: str, text: str) -> None:
        line.send(kubeconfig=[cluster, text])

    kept.put_back(name, key, ToldSteps(line), replace=replace, hand_out=hand_out)


@operation
def require(line: Line) -> None:
    """See whether this machine can run a node, and install the packages that it lacks for it."""
    from helpers.embedded import preflight

    preflight.require(ToldSteps(line))


@operation
def prepare(line: Line) -> None:
    """The node's root file system and its daemons' packages: what needs no compiled command."""
    from helpers.embedded.layers import ensure_ground

    ensure_ground(ToldSteps(line))


@operation
def down(line: Line, name: str, delete: bool) -> bool:
    """Stop a cluster; whether it ran."""
    from helpers.embedded import launch

    return launch.down(name, ToldSteps(line), delete=delete)


@operation
def change_gpus(line: Line, name: str, **change: Any) -> str:
    """Change what the node's device plugin advertises."""
    from helpers.embedded import launch

    return launch.change_gpus(name, ToldSteps(line), **change)


@operation
def load(line: Line, name: str, names: Sequence[str]) -> list[str]:
    """Make images and import them into a running cluster."""
    from helpers.embedded import launch

    return launch.load(name, names, ToldSteps(line))


@operation
def fetch_ahead(line: Line, name: str, names: Sequence[str]) -> None:
    """Make images that a later lab needs, and import them into the cluster where it runs."""
    from helpers.embedded import launch

    launch.fetch_ahead(name, names, ToldSteps(line))


@operation
def step_aside(line: Line) -> None:
    """Be of the lowest priority from now on: nobody waits for what comes next."""
    from helpers.embedded import turns

    turns.step_aside()


@operation
def state(line: Line, name: str) -> dict[str, Any]:
    """What runs, as `course status` shows it."""
    from helpers.embedded.status import state as read

    return asdict(read(name))


@operation
def diagnose(line: Line, name: str) -> list[dict[str, Any]]:
    """What is wrong, as `course doctor` shows it."""
    from helpers.embedded.doctor import diagnose as look

    return [asdict(finding) for finding in look(name)]


@operation
def cache(line: Line, delete: bool) -> dict[str, float]:
    """How much the node's own cache takes; emptied if asked."""
    from helpers.embedded.cache import clear, sizes_mib
    from helpers.embedded.sandbox import require_none_running

    sizes = sizes_mib()
    if delete:
        require_none_running()
        clear()
    return sizes


def main() -> None:
    """Answer requests until nobody asks any more."""
    os.umask(0o022)
    # What parts of the course print, or their commands, must not end up between the events.
    line = Line(os.fdopen(os.dup(1), "w"))
    os.dup2(2, 1)
    signal.signal(signal.SIGTERM, _gone)
    # Ctrl-C reaches this process too; the user's process decides, and closes the pipe.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    requests = _requests(sys.stdin)
    _settle(requests.get())
    line.send(ready=True)
    while (request := requests.get()) is not None:
        _answer(line, request)


def _requests(stream: IO[str]) -> queue.Queue[Any]:
    """Requests as they come; None, and a signal to whatever is being done, when nobody asks any more."""
    waiting: queue.Queue[Any] = queue.Queue()

    def read() -> None:
        for text in stream:
            waiting.put(json.loads(text))
        waiting.put(None)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, daemon=True).start()
    return waiting


def _gone(number: int, frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _settle(message: Any) -> None:
    """Take over where things lie; the home, the path and the rest are root's own."""
    given = message["environment"] if message else {}
    if not all(Path(given.get(name, "")).is_absolute() for name in FOLDERS):
        raise SystemExit("this is started by `course` alone")
    os.environ.clear()
    os.environ.update(
        {"HOME": "/root", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )
    os.environ.update(given)


def _answer(line: Line, request: dict[str, Any]) -> None:
    try:
        answer = OPERATIONS[request["operation"]](line, **request["arguments"])
    except LabError as error:
        told = {"kind": type(error).__name__, "message": str(error), "next_command": error.next_command}
        line.send(error=told)
    except Exception as bug:  # noqa: BLE001 - the user's process keeps its log of faults
        told = {"kind": "", "message": f"{type(bug).__name__}: {bug}", "next_command": traceback.format_exc()}
        line.send(error=told)
    else:
        line.send(answer=answer)


def _now() -> float:
    import time

    return time.monotonic()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
