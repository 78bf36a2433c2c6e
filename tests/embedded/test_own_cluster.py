"""What starts a cluster for itself ends it, also when it is killed and can do nothing any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from helpers.embedded.launch import existing
from helpers.settings import REPOSITORY, cluster_dir

pytestmark = pytest.mark.embedded
SCRIPT = """
import sys
from tests.own_cluster import own_cluster
with own_cluster(sys.argv[1]):
    print("runs", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", [None, signal.SIGTERM, signal.SIGKILL])
def test_a_cluster_ends_with_the_command_that_started_it(end: signal.Signals | None) -> None:
    name = f"owned-{os.getpid()}"
    command = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, name],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert command.stdin and command.stdout
    while (line := command.stdout.readline()) and "runs" not in line:
        pass
    sandbox = existing(name)
    assert sandbox is not None and sandbox.pid() is not None
    if end is None:
        command.stdin.close()
    else:
        command.send_signal(end)
    command.wait()
    until = time.monotonic() + 120
    while cluster_dir(name).exists() and time.monotonic() < until:
        time.sleep(0.2)
    assert not cluster_dir(name).exists()
    assert sandbox.pid() is None
