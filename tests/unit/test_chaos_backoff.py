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
from helpers.chaos.backoff import Trial, load_function, try_out
from helpers.chaos.herd import queue_of
from helpers.chaos.proxy import FORWARD, RESET
from helpers.stack.backoff import BackendUnavailable


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
    assert trial.elapsed_s < 2


def test_a_function_that_never_stops_is_stopped_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "GRACE_S", -1.5)
    trial = try_out(stubborn, "down", [RESET], budget_s=0.2)
    assert trial.ended == "never stopped"
    assert len(trial.attempts) > 2


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


def test_queue_metrics_are_summed_over_engines() -> None:
    text = (
        "# TYPE vllm:num_requests_running gauge\n"
        'vllm:num_requests_running{engine="0",model_name="m"} 16.0\n'
        'vllm:num_requests_waiting{engine="0",model_name="m"} 5.0\n'
        'vllm:num_requests_waiting{engine="1",model_name="m"} 3.0\n'
        'vllm:num_requests_waiting_by_reason{engine="1"} 9.0\n'
    )
    assert queue_of(text) == (16.0, 8.0)
