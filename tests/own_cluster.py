"""Clusters that a command starts for itself: they end with it, however it ends.

A second process waits for the end of the first, by a pipe that the kernel closes also when the first is
killed, and then takes the cluster away. So there is one way out for every end, and none is forgotten.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from helpers.embedded.launch import existing
from helpers.settings import cluster_dir

_WAIT = """
import signal, subprocess, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.stdin.read()
done = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, capture_output=True, text=True)
sys.stdout.write(done.stderr)
sys.exit(done.returncode)
"""


@contextmanager
def taken_away(
    name: str, *, delete: bool = True, environment: Mapping[str, str] = os.environ
) -> Iterator[None]:
    """`course down` for this cluster at the end of the block, or of this process if that comes first."""
    down = [sys.executable, "-m", "helpers.cli", "down", "--name", name, *(["--delete"] if delete else [])]
    waiting = subprocess.Popen(
        [sys.executable, "-c", _WAIT, *down],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environment),
        start_new_session=True,
    )
    try:
        yield
    finally:
        said, _ = waiting.communicate()
        if waiting.returncode:
            print(f"the cluster {name} was not taken away:\n{said}", file=sys.stderr)


@contextmanager
def own_cluster(name: str) -> Iterator[None]:
    """A running cluster of this name; what was started for it is ended, what ran before is left running."""
    sandbox = existing(name)
    if sandbox is not None and sandbox.pid() is not None:
        yield
        return
    with taken_away(name, delete=not cluster_dir(name).exists()):
        subprocess.run([sys.executable, "-m", "helpers.cli", "up", "--name", name], check=True)
        yield
