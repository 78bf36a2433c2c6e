"""Progress for people who wait: what is being done, for how long already, and what went wrong.

On a terminal the running step is a live line with its elapsed time; elsewhere (CI, a pipe) a step
that takes over a second leaves one line when it ends, and a long one a sign of life in between.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from helpers.errors import EnvironmentFault

QUIET_S = 1.0
HEARTBEAT_S = 15.0
TAIL_LINES = 15


class StepFailed(EnvironmentFault):
    """A command of a step failed: its last lines of output say why."""


class NoNetwork(StepFailed):
    """A registry of packages or images could not be reached."""


class DiskFull(StepFailed):
    """There is no space left for what is being built."""


DISK_FULL_NEXT = "df -h; then: course up, it continues from here"
NEXT = {
    DiskFull: DISK_FULL_NEXT,
    NoNetwork: "check the network and its proxies (curl -I https://proxy.golang.org); then: course up",
}
# As apt, Go, pip and the C library put it, in lower case.
_SIGNS = {
    DiskFull: ("no space left on device",),
    NoNetwork: (
        "temporary failure in name resolution",
        "temporary failure resolving",
        "could not resolve",
        "no such host",
        "connection refused",
        "i/o timeout",
        "network is unreachable",
        "newconnectionerror",
    ),
}


def fault(output: str) -> type[StepFailed]:
    """What a command's last words say about why it failed."""
    last = output[-4000:].lower()
    return next((kind for kind, signs in _SIGNS.items() if any(sign in last for sign in signs)), StepFailed)


@dataclass
class Step:
    """One thing being done; `detail` says what it is at."""

    title: str
    started: float
    detail: str = ""

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.started

    def line(self) -> str:
        detail = f" [dim]{escape(self.detail)}[/dim]" if self.detail else ""
        return f"{escape(self.title)} [cyan]{self.elapsed_s:.0f} s[/cyan]{detail}"


@dataclass
class Steps:
    """The steps of one command, in order, with the time each took."""

    console: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))
    durations: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show `title` as running until the block ends, and remember how long it took."""
        step = Step(title, time.monotonic())
        finished = threading.Event()
        shower = threading.Thread(target=self._show, args=(step, finished), daemon=True)
        shower.start()
        try:
            yield step
        except BaseException:
            self._end(step, finished, shower, "[red]✗[/red]")
            raise
        self._end(step, finished, shower, "[green]✓[/green]")

    @contextmanager
    def total(self) -> Iterator[None]:
        """Say at the end how long everything took."""
        started = time.monotonic()
        yield
        self.say(f"[green]ready[/green] in [cyan]{time.monotonic() - started:.1f} s[/cyan]")

    def say(self, text: str) -> None:
        """A line of its own, with rich's markup."""
        self.console.print(text)

    def _end(self, step: Step, finished: threading.Event, shower: threading.Thread, mark: str) -> None:
        finished.set()
        shower.join()
        self.durations[step.title] = step.elapsed_s
        if step.elapsed_s >= QUIET_S or "✗" in mark:
            self.console.print(f"{mark} {escape(step.title)} [cyan]{step.elapsed_s:.1f} s[/cyan]")

    def _show(self, step: Step, finished: threading.Event) -> None:
        if finished.wait(QUIET_S):
            return
        if self.console.is_terminal:
            with Status(step.line(), console=self.console) as status:
                while not finished.wait(0.2):
                    status.update(step.line())
            return
        while not finished.wait(HEARTBEAT_S):
            self.console.print(f"… {step.line()}")


def run(
    command: Sequence[str | Path],
    *,
    step: Step | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    log: Path | None = None,
    next_command: str = "",
) -> str:
    """Run a command of a step, its latest line of output as the step's detail.

    Returns its output. Raises StepFailed with the last lines when it fails; the whole goes to `log`.
    """
    words = leaving_no_bytecode(command)
    output: list[str] = []
    try:
        with _started(words, env, cwd) as process:
            for line in process.stdout or ():
                output.append(line)
                if step is not None and line.strip():
                    step.detail = line.strip()[:100]
    finally:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text("".join(output))
    if process.returncode != 0:
        where = f" (all of it: {log})" if log else ""
        last = "".join(deque(output, TAIL_LINES)).rstrip()
        kind = fault("".join(output))
        raise kind(
            f"`{' '.join(words[:3])}` ended with {process.returncode}{where}\n{last}",
            next_command=NEXT.get(kind, next_command),
        )
    return "".join(output)


def leaving_no_bytecode(command: Iterable[str | Path]) -> list[str]:
    """A command's words; a Python of this environment writes nothing into it, which may be another user's."""
    words = [str(word) for word in command]
    return [words[0], "-B", *words[1:]] if words[0] == sys.executable else words


def ending_with_this(words: Sequence[str]) -> list[str]:
    """A command's words; the process ends when the thread that starts it does, killed or not."""
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    return [*guard, *words]


@contextmanager
def _started(
    words: list[str], env: Mapping[str, str] | None, cwd: Path | None
) -> Iterator[subprocess.Popen[str]]:
    """A process that ends with the block, or with this process if that is killed.

    A build that outlived a killed `up` would fill a folder that the next one is clearing.
    """
    process = subprocess.Popen(
        ending_with_this(words),
        env=env,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    try:
        yield process
        process.wait()
    finally:
        process.kill()  # nothing to a process that has ended
        process.wait()
