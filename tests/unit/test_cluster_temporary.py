"""What is in a cluster for a moment goes with its command; what a killed one left is swept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helpers.cluster import temporary
from helpers.cluster.fake import FakeCluster
from helpers.cluster.temporary import LABEL, OWNER, UNTIL, sweep, temporary_namespace
from helpers.settings import REPOSITORY


def left(cluster: FakeCluster) -> set[str]:
    return {item.name for item in cluster.view().list("Namespace") if item.name.startswith("llm-doctor-")}


@pytest.mark.parametrize("end", [SystemExit(143), KeyboardInterrupt(), BrokenPipeError(), ValueError()])
def test_a_namespace_goes_however_its_block_ends(fake_cluster: FakeCluster, end: BaseException) -> None:
    with pytest.raises(type(end)), temporary_namespace(fake_cluster, "llm-doctor") as name:
        assert left(fake_cluster) == {name}
        raise end
    assert not left(fake_cluster)


def namespace(name: str, **annotations: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": {LABEL: "true"}, "annotations": annotations}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}


@contextmanager
def running() -> Iterator[int]:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid


def test_a_sweep_takes_what_nobody_owns_any_more(fake_cluster: FakeCluster) -> None:
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    before = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    mine = temporary._this_process()
    with running() as pid:
        theirs = temporary._this_process(pid)
        owners = {
            "mine": {OWNER: mine, UNTIL: soon},
            "other-runs": {OWNER: theirs, UNTIL: soon},
            "other-machine": {OWNER: "boot/pid:[1]/7/9", UNTIL: soon},
            "too-long": {OWNER: mine, UNTIL: before},
            "number-reused": {OWNER: f"{mine.rpartition('/')[0]}/1", UNTIL: soon},
            "unreadable": {},
        }
        for name, annotations in owners.items():
            fake_cluster.apply(namespace(f"llm-doctor-{name}", **annotations))
        fake_cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-doctor-by-hand"}}
        )
        swept = {name.removeprefix("llm-doctor-") for name in sweep(fake_cluster)}
        assert swept == {"too-long", "number-reused", "unreadable"}
    assert sweep(fake_cluster) == ["llm-doctor-other-runs"]
    assert len(left(fake_cluster)) == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_told_to_end_undoes_what_is_under_way(number: signal.Signals) -> None:
    script = f"""
import os, signal, sys, time
from helpers import cli
def command(arguments):
    try:
        os.kill(os.getpid(), {int(number)})
        time.sleep(30)
    finally:
        print("undone", flush=True)
cli.run = command
cli.main()
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.returncode) == ("undone\n", 128 + number)


def test_a_reader_that_goes_away_is_no_fault_of_the_course() -> None:
    """`course --help | head -1`, with nobody left to read anything at all."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "helpers.cli", "--version"],
        cwd=REPOSITORY,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
