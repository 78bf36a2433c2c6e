"""How long `course up` takes, step by step: a new cluster, a kept one, one that runs; and its memory.

    .venv/bin/python tests/benchmarks/bench_up.py [--rounds N] [--from-nothing]

`--from-nothing` builds everything once more into an empty cache first: minutes, and the network.
The benchmark's clusters have a name of their own, and a real-time share of the processor is not
asked for: close other work first.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from helpers.embedded import launch
from helpers.embedded.status import control_plane_memory_mib
from helpers.embedded.steps import Steps
from tests.own_cluster import taken_away

NAME = f"bench-{os.getpid()}"
SHOWN_S = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--from-nothing", action="store_true")
    options = parser.parse_args()
    console = Console(highlight=False)
    with _own_home(), taken_away(NAME):
        if options.from_nothing:
            with _empty_cache():
                _show(console, "from nothing", [_timed_up()])
                launch.down(NAME, _quiet(), delete=True)
        _show(console, "new cluster", [_new() for _ in range(options.rounds)])
        memory = _memory()
        _show(console, "kept cluster", [_kept() for _ in range(options.rounds)])
        _show(console, "running already", [_timed_up() for _ in range(options.rounds)])
        console.print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        _show_memory(console, memory)


def _new() -> dict[str, float]:
    launch.down(NAME, _quiet(), delete=True)
    return _timed_up()


def _kept() -> dict[str, float]:
    launch.down(NAME, _quiet())
    return _timed_up()


def _timed_up() -> dict[str, float]:
    steps = _quiet()
    started = time.monotonic()
    launch.up(NAME, steps)
    return {**steps.durations, "total": time.monotonic() - started}


def _quiet() -> Steps:
    return Steps(console=Console(file=io.StringIO()))


def _memory() -> dict[str, float]:
    sandbox = launch.existing(NAME)
    pid = sandbox.pid() if sandbox else None
    return control_plane_memory_mib(pid) if pid else {}


def _show(console: Console, title: str, rounds: Sequence[dict[str, float]]) -> None:
    table = Table(title=f"{title} ({len(rounds)} rounds)", title_justify="left")
    table.add_column("step")
    table.add_column("median s", justify="right")
    table.add_column("worst s", justify="right")
    for step in dict.fromkeys(step for one in rounds for step in one):
        seen = [one.get(step, 0.0) for one in rounds]
        if max(seen) >= SHOWN_S:
            table.add_row(step, f"{statistics.median(seen):.1f}", f"{max(seen):.1f}")
    console.print(table)


def _show_memory(console: Console, memory: dict[str, float]) -> None:
    table = Table(title="control plane, resident memory of a new cluster", title_justify="left")
    table.add_column("part")
    table.add_column("MiB", justify="right")
    for part, size in sorted(memory.items(), key=lambda item: -item[1]):
        table.add_row(part, f"{size:.0f}")
    table.add_row("in all", f"{sum(memory.values()):.0f}")
    console.print(table)


@contextmanager
def _own_home() -> Iterator[None]:
    """The learner's clusters are not touched, and images are linked and not copied: same file system."""
    with tempfile.TemporaryDirectory(dir=Path.home(), prefix=".course-bench-") as folder:
        os.environ["COURSE_HOME"] = folder
        yield


@contextmanager
def _empty_cache() -> Iterator[None]:
    before = os.environ.get("COURSE_CACHE")
    folder = Path(tempfile.mkdtemp(dir=Path.home(), prefix=".course-bench-cache-"))
    os.environ["COURSE_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COURSE_CACHE"]
        else:
            os.environ["COURSE_CACHE"] = before
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
