"""Experiments on a real cluster: real pods replaced, a killed process recovered, an edit caught."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from helpers.chaos import evidence
from helpers.chaos.experiment import recover, run, steady_state
from helpers.chaos.faults import fault
from helpers.chaos.journal import JournalBroken, experiments_dir, published
from helpers.chaos.undo import pending
from helpers.cluster import Cluster
from helpers.grading.lifecycle import start
from helpers.labs.lab05_chaos.checks import BYSTANDER_AVAILABILITY
from helpers.labs.registry import load_lab
from helpers.settings import REPOSITORY, home_dir

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.stack]


@pytest.fixture(scope="module")
def stack(cluster: Cluster) -> Iterator[Cluster]:
    """Both backends Ready, and the probe pods."""
    start(load_lab("05"), cluster, lambda text: None)
    yield cluster
    recover(cluster, force=True)


def qdrant_selector(cluster: Cluster) -> dict[str, str]:
    return cluster.view().service("qdrant").selector


def test_a_deleted_qdrant_is_seen_by_its_client_and_by_no_other(stack: Cluster) -> None:
    finished = run(stack, fault("delete-qdrant"))
    record = published(stack.view(), "delete-qdrant")
    assert finished.steady_after
    assert len(evidence.pods(record, "qdrant")) == 2
    assert len(evidence.pods(record, "vllm")) == 1
    assert sum(evidence.failures(record, "retrieval").values()) > 0
    assert evidence.recovered(record, "retrieval")
    assert (evidence.availability(evidence.attempts(record, "inference")) or 0) > BYSTANDER_AVAILABILITY


def test_the_samples_are_in_order_and_reach_from_before_the_fault_until_after_it(stack: Cluster) -> None:
    """How exactly they keep their pace depends on the machine: tests/benchmarks/bench_experiment.py tells."""
    record = published(stack.view(), "delete-qdrant")
    times = [entry["t"] for entry in record.of("sample")]
    assert all(later > earlier for earlier, later in pairwise(times))
    injected, undone = evidence.injected_at(record), evidence.undone_at(record)
    assert injected and undone
    assert times[0] < injected < undone < times[-1]


def test_kill_9_in_the_middle_is_undone_by_recover(stack: Cluster, kubeconfig: Path) -> None:
    before = qdrant_selector(stack)
    environment = {**os.environ, "COURSE_KUBECONFIG": str(kubeconfig)}
    command = [sys.executable, "-m", "helpers.cli", "experiment", "service-qdrant"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while qdrant_selector(stack) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert qdrant_selector(stack) != before
    assert [entry.experiment for entry in pending(stack.identity().uid)] == ["service-qdrant"]
    done = subprocess.run(
        [*command[:3], "recover"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert qdrant_selector(stack) == before
    steady_state(stack.view())


def test_ctrl_c_undoes_before_it_ends(stack: Cluster, kubeconfig: Path) -> None:
    before = qdrant_selector(stack)
    environment = {**os.environ, "COURSE_KUBECONFIG": str(kubeconfig)}
    command = [sys.executable, "-m", "helpers.cli", "experiment", "service-qdrant"]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while qdrant_selector(stack) == before and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert qdrant_selector(stack) == before
    assert pending(stack.identity().uid) == []


def test_a_journal_edited_by_hand_is_caught(stack: Cluster) -> None:
    name, namespace = "journal-delete-qdrant", "llm-probes"
    kept = stack.view().get("ConfigMap", name, namespace).path("binaryData")["journal.gz"]
    text = gzip.decompress(base64.b64decode(kept)).decode()
    lines = [json.loads(line) for line in text.splitlines()]
    lines[5]["t"] = 0
    edited = base64.b64encode(gzip.compress("\n".join(map(json.dumps, lines)).encode())).decode()
    stack.patch("ConfigMap", name, {"binaryData": {"journal.gz": edited}}, namespace)
    with pytest.raises(JournalBroken, match="entry 5"):
        published(stack.view(), "delete-qdrant")
    stack.patch("ConfigMap", name, {"binaryData": {"journal.gz": kept}}, namespace)
    published(stack.view(), "delete-qdrant")


@pytest.mark.parametrize(
    "name", ["scale-qdrant", "policy-qdrant", "slow-qdrant", "quota-qdrant", "drain-qdrant", "probe-qdrant"]
)
def test_a_fault_comes_and_goes(stack: Cluster, name: str) -> None:
    finished = run(stack, fault(name))
    record = published(stack.view(), name)
    assert finished.steady_after
    if name == "slow-qdrant":
        assert (evidence.slowdown(record, "retrieval") or 0) > 5
    else:
        assert sum(evidence.failures(record, "retrieval").values()) > 0
    assert evidence.recovered(record, "retrieval")
    assert (evidence.availability(evidence.attempts(record, "inference")) or 0) > BYSTANDER_AVAILABILITY


def test_experiments_are_kept_under_the_tests_own_home(stack: Cluster) -> None:
    assert home_dir() in experiments_dir(stack.identity().uid).parents
