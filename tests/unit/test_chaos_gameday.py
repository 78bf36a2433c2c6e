"""A game day: the fault stays until it is repaired and diagnosed, and is undone when it is not."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from helpers.chaos import experiment, gameday, undo, watch
from helpers.chaos.experiment import Cancelled
from helpers.chaos.faults import FAULTS
from helpers.chaos.gameday import ANSWER, answer_manifest, draw, game_day
from helpers.chaos.journal import latest, published
from helpers.cluster.backend import ExecResult
from helpers.cluster.fake import FakeCluster, default_profile
from tests.unit.chaos_world import stack

SEED = 6
RIGHT = {"app.kubernetes.io/name": "qdrant"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    monkeypatch.setattr(gameday, "BEFORE_S", 0.1)
    monkeypatch.setattr(gameday, "SERVED_FOR_S", 0.5)
    monkeypatch.setattr(gameday, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(watch, "COLLECT_EVERY_S", 0.1)
    monkeypatch.setattr(experiment, "AFTER_S", 0.0)


def cluster_with_clients() -> FakeCluster:
    """Clients whose retrieval fails while Qdrant's Service selects nothing."""
    cluster = stack()
    printed: list[str] = []

    def answer(namespace: str, pod: str, command: list[str], stdin: str | None) -> ExecResult:
        if command[0] != "tail":
            return ExecResult(0, f"{time.time()}\n", "")
        served = cluster.view().service("qdrant").selector == RIGHT
        retrieval = "200 0 0.002 0.001 " if served else "000 7 0.001 0.000 Failed to connect"
        printed.append(f"{time.time()} inference 200 0 0.060 0.001 \n{time.time()} retrieval {retrieval}\n")
        return ExecResult(0, printed[-1], "")

    cluster.exec_handler = answer
    return cluster


def repair(cluster: FakeCluster) -> None:
    body = [{"op": "replace", "path": "/spec/selector", "value": RIGHT}]
    cluster.patch("Service", "qdrant", body, "llm-system")


def in_background(cluster: FakeCluster, **options: Any) -> threading.Thread:
    thread = threading.Thread(target=lambda: game_day(cluster, SEED, **options))
    thread.start()
    deadline = time.monotonic() + 10
    while cluster.view().service("qdrant").selector == RIGHT and time.monotonic() < deadline:
        time.sleep(0.02)
    return thread


def until_felt(cluster: FakeCluster) -> None:
    """Until a client's failure is in the journal: what nobody felt is not repaired."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        path = latest(cluster.identity().uid, gameday.NAME)
        if path and '"refused"' in path.read_text():
            return
        time.sleep(0.02)


def test_a_seed_always_draws_the_same_fault_and_never_one_that_heals_itself() -> None:
    drawn = {draw(seed, default_profile()).name for seed in range(300)}
    assert draw(SEED, default_profile()).name == "service-qdrant"
    assert drawn == {name for name in FAULTS if name not in gameday.NOT_FOR_A_GAME_DAY}


def test_without_a_simulated_gpu_no_gpu_is_declared_sick() -> None:
    profile = default_profile()
    real = type(profile)(**{**profile.__dict__, "gpu": "real"})
    assert not any(draw(seed, real).needs_simulated_gpu for seed in range(300))


def test_the_day_ends_with_a_repair_and_a_diagnosis() -> None:
    cluster = cluster_with_clients()
    day = in_background(cluster, timeout_s=60)
    until_felt(cluster)
    cluster.apply([answer_manifest(SEED, "network", "service-selector")])
    repair(cluster)
    day.join(timeout=60)
    record = published(cluster.view(), "game-day")
    assert (record.first("repaired") or {})["answer"]["cause"] == "service-selector"
    assert (record.first("reveal") or {})["fault"] == "service-qdrant"
    assert undo.pending(cluster.identity().uid) == []


def test_a_repair_without_an_answer_does_not_end_the_day_and_the_time_does() -> None:
    cluster = cluster_with_clients()
    day = in_background(cluster, timeout_s=1)
    repair(cluster)
    day.join(timeout=20)
    record = published(cluster.view(), "game-day")
    assert record.first("repaired") is None
    assert record.first("time-over")


def test_an_answer_that_is_on_no_list_does_not_end_the_day_and_is_told_with_the_list() -> None:
    cluster, said = cluster_with_clients(), list[str]()
    day = in_background(cluster, timeout_s=120, on_progress=said.append)
    until_felt(cluster)
    cluster.apply([answer_manifest(SEED, "network", "bad-selector")])
    repair(cluster)
    deadline = time.monotonic() + 100
    while not any("`bad-selector`: it is one of" in line and "is served; " in line for line in said[-2:]):
        assert day.is_alive() and time.monotonic() < deadline, said[-1]
        time.sleep(0.02)
    assert any("inference (vllm) is served, retrieval (qdrant) fails: refused" in line for line in said)
    cluster.apply([answer_manifest(SEED, "network", "service-selector")])
    day.join(timeout=120)
    record = published(cluster.view(), "game-day")
    assert (record.first("repaired") or {})["answer"]["cause"] == "service-selector"


def test_what_nobody_repairs_is_undone_when_the_time_is_over() -> None:
    cluster = cluster_with_clients()
    day = in_background(cluster, timeout_s=0.4)
    day.join(timeout=20)
    assert cluster.view().service("qdrant").selector == RIGHT
    assert (published(cluster.view(), "game-day").first("time-over") or {})["answer"] is None


def test_giving_up_undoes_and_leaves_nothing_to_grade() -> None:
    cluster = cluster_with_clients()
    with pytest.raises(Cancelled):
        game_day(cluster, SEED, should_stop=lambda: True)
    assert cluster.view().service("qdrant").selector == RIGHT
    assert cluster.view().find("ConfigMap", "journal-game-day", "llm-probes") is None


def test_the_journal_does_not_name_the_fault_before_it_is_revealed() -> None:
    cluster = cluster_with_clients()
    day = in_background(cluster, timeout_s=0.4)
    day.join(timeout=20)
    record = published(cluster.view(), "game-day")
    early = [entry for entry in record.entries if entry["kind"] not in ("reveal", "undo", "end", "sample")]
    assert not any("service" in str(entry.get("step", "")) + str(entry.get("fault", "")) for entry in early)


def test_an_answer_of_an_earlier_day_is_taken_away() -> None:
    cluster = cluster_with_clients()
    cluster.apply([answer_manifest(1, "memory", "memory-limit")])
    day = in_background(cluster, timeout_s=0.4)
    assert cluster.view().find("ConfigMap", ANSWER, "llm-apps") is None
    day.join(timeout=20)
