"""The judge of retry functions: it sees attempts, not text."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.chaos import backoff
from helpers.chaos.backoff import HELD_ATTEMPTS, Outage, Trial, load_function, try_out
from helpers.chaos.herd import CLIENTS, queue_of, read_arrivals, read_queue, schedule
from helpers.chaos.journal import Record
from helpers.chaos.proxy import FORWARD, RESET, RecordingProxy, Script
from helpers.errors import ObjectMissing
from helpers.labs.lab05_chaos.checks import crowd, fullest_second
from helpers.stack.backoff import BackendUnavailable
from tests.unit.chaos_world import stack


def good(operation: str, call: Callable[[], Any], *, budget_s: float) -> Any:
    began, delay = time.monotonic(), 0.05
    while True:
        try:
            return call()
        except httpx.HTTPStatusError as error:
            if error.response.status_code not in (429, 502, 503, 504):
                raise
            last: Exception = error
        except httpx.TransportError as error:
            last = error
        pause = random.uniform(0, delay)
        if time.monotonic() - began + pause > budget_s:
            raise BackendUnavailable(operation) from last
        time.sleep(pause)
        delay = min(1.0, delay * 2)


def stubborn(operation: str, call: Callable[[], Any], *, budget_s: float) -> Any:
    while True:
        try:
            return call()
        except Exception:  # noqa: BLE001
            time.sleep(0.05)


def test_a_refusal_that_will_not_change_is_tried_once() -> None:
    trial = try_out(good, "not-found", [404], budget_s=1)
    assert (trial.ended, trial.outcomes) == ("HTTPStatusError", ("404",))


def test_transient_trouble_is_retried_until_it_ends() -> None:
    trial = try_out(good, "not-ready", [503, RESET, 200], budget_s=5)
    assert (trial.ended, trial.outcomes) == ("returned", ("503", "reset", "200"))


def test_the_budget_ends_in_backend_unavailable_with_its_cause() -> None:
    trial = try_out(good, "down", [RESET], budget_s=0.5)
    assert trial.ended == "BackendUnavailable"
    assert trial.cause


def test_a_function_that_never_stops_is_stopped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "GRACE_S", -1.5)
    trial = try_out(stubborn, "down", [RESET], budget_s=0.2)
    assert trial.ended == "never stopped"
    assert trial.attempts


def test_an_unreachable_upstream_is_a_reset_to_the_client() -> None:
    trial = try_out(good, "restart", [FORWARD], budget_s=0.3, upstream=lambda: ("127.0.0.1", 1))
    assert set(trial.outcomes) == {"reset"}


def test_a_trial_survives_the_journal() -> None:
    trial = Trial("x", (0.0, 1.0), ("reset", "200"), "returned", "", 1.0, 5.0)
    assert Trial.from_json(trial.to_json()) == trial
    assert trial.gaps == [1.0]


def test_the_function_is_loaded_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def call_with_backoff(operation, call, *, budget_s):\n    return call()\n")
    assert load_function(file)("x", lambda: 3, budget_s=1) == 3
    file.write_text("x = 1")
    with pytest.raises(backoff.NoSuchFunction, match="defines no function"):
        load_function(file)
    file.write_text("import nothing_of_this_name")
    with pytest.raises(backoff.NoSuchFunction, match="cannot be imported"):
        load_function(file)


def returns_nothing(operation: str, call: Callable[[], Any], *, budget_s: float) -> Any:
    for _ in range(3):
        try:
            return call()
        except httpx.HTTPError:
            time.sleep(0.01)
    return None


def test_giving_up_without_a_word_is_not_an_answer() -> None:
    assert try_out(returns_nothing, "reset", [RESET], budget_s=1).ended == "returned nothing"
    assert try_out(returns_nothing, "reset", [RESET, 200], budget_s=1).ended == "returned"


def test_an_attempts_outcome_is_known_before_the_client_has_its_answer() -> None:
    with RecordingProxy(Script([200])) as proxy, httpx.Client() as client:
        for number in range(30):
            client.get(proxy.url)
            assert proxy.attempts[number].outcome == "200"


def test_a_cancelled_trial_ends_at_once() -> None:
    trial = try_out(stubborn, "down", [RESET], budget_s=3600, should_stop=lambda: True)
    assert trial.ended == "never stopped"


# The restart, which is over when another pod is Ready, and not before


def test_the_way_is_closed_while_the_old_pod_still_answers() -> None:
    with Outage(stack(), lambda: ("127.0.0.1", 1)) as outage:
        for _ in range(5):
            with pytest.raises(ObjectMissing):
                outage.upstream()
    assert outage.seconds is None


def test_a_pod_that_is_back_before_the_first_attempt_opens_the_way_after_the_second() -> None:
    cluster = stack()
    with Outage(cluster, lambda: ("127.0.0.1", 1)) as outage:
        cluster.delete("Pod", "qdrant-0", "llm-system")
        cluster.add_pod("qdrant-0", "llm-system", labels={"app.kubernetes.io/name": "qdrant"})
        assert outage.back.wait(10)
        for _ in range(HELD_ATTEMPTS):
            with pytest.raises(ObjectMissing):
                outage.upstream()
        assert outage.upstream() == ("127.0.0.1", 1)
    assert outage.seconds is not None


# The herd


def test_without_jitter_all_are_due_together_and_with_it_hardly_two() -> None:
    plain = [line.split() for line in schedule("none", random.Random(1)).splitlines()]
    assert [int(line[0]) for line in plain] == [0, 1000, 3000, 7000, 15000, 31000]
    assert all(len(line[2:]) == CLIENTS for line in plain)
    spread = [line.split() for line in schedule("full", random.Random(1)).splitlines()]
    assert max(len(line[2:]) for line in spread[1:]) <= 2
    assert [int(line[0]) for line in spread] == sorted(int(line[0]) for line in spread)


def test_what_the_herd_wrote_down_is_read() -> None:
    printed = "start 1000\n2000 7 3 200 0.25 1.5\n2000 8 3 000 0.0 0.9\n2100 9 3 2"
    assert read_arrivals(printed) == [[2.25, 7, 3, 200, 3.5], [2.0, 8, 3, 0, 2.9]]
    samples = 'queue 1000\nvllm:num_requests_running{e="0"} 4.0\nvllm:num_requests_waiting{e="0"} 9.0\n'
    assert read_queue(samples + samples) == [[1.0, 4.0, 9.0]] * 2


def herd_record(*back: tuple[float, float]) -> Record:
    rows = [[began, client, 3, 200, ended] for client, (began, ended) in enumerate(back)]
    lost = [[0.0, client, 0, 0, 0.5] for client in range(len(back))]
    return Record(({"kind": "start"}, {"kind": "after", "result": {"queue": [], "arrivals": lost + rows}}))


def test_a_herd_is_told_by_its_fullest_second_and_by_how_many_wait_at_once() -> None:
    record = herd_record((7.0, 8.0), (7.2, 9.0), (7.9, 9.5), (8.5, 8.6), (12.0, 12.1))
    assert fullest_second(record) == 3
    assert crowd(record) == 3
    assert fullest_second(herd_record()) == crowd(herd_record()) == 0


def test_queue_metrics_are_summed_over_engines() -> None:
    text = (
        "# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="m"} 16.0\n'
        'vllm:num_requests_waiting{engine="0",model_name="m"} 5.0\n'
        'vllm:num_requests_waiting{engine="1",model_name="m"} 3.0\n'
        'vllm:num_requests_waiting_by_reason{engine="1"} 9.0\n'
    )
    assert queue_of(text) == (16.0, 8.0)
