"""Pictures of experiments: what a mark says, in which order pods stand, when a herd came back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.chaos.journal import Entry, Record
from helpers.labs.lab05_chaos.draw import chart, herd_queue, herd_ticks


def sample(t: float, *uids: str) -> Entry:
    pods = [
        {"backend": "vllm", "uid": uid, "phase": "Running", "ready": True, "restarts": 0, "reason": ""}
        for uid in uids
    ]
    return {"kind": "sample", "t": t, "pods": pods, "endpoints": {"vllm": {"ready": 1, "all": 1}}}


def picture(*entries: Entry) -> str:
    drawn: dict[str, Any] = chart(
        Record(({"kind": "start"}, {"kind": "inject", "t": 1.0}, *entries))
    ).to_dict()
    return json.dumps(drawn)


@pytest.mark.parametrize(
    ("kind", "word"), [("healed", "healed"), ("repaired", "repaired"), ("time-over", "time over")]
)
def test_an_end_has_one_mark_though_the_undo_begins_in_the_same_moment(kind: str, word: str) -> None:
    drawn = picture(sample(0, "a"), sample(9, "a"), {"kind": kind, "t": 9.0}, {"kind": "undo", "t": 9.01})
    assert f'"{word}"' in drawn
    assert '"undo"' not in drawn


def test_a_fault_that_was_only_undone_says_so() -> None:
    assert '"undo"' in picture(sample(0, "a"), sample(9, "a"), {"kind": "undo", "t": 9.0})


def test_a_replaced_pod_stands_above_its_replacement() -> None:
    drawn = picture(sample(0, "zzzzzz"), sample(2, "aaaaaa"), sample(4, "aaaaaa"))
    assert '["endpoints: vllm", "pod: vllm zzzzzz", "pod: vllm aaaaaa"]' in drawn


def test_a_herd_is_drawn_from_the_moment_in_which_it_lost_the_backend() -> None:
    lost = [[100.0, client, 0, 0, 100.5] for client in range(2)]
    back = [[107.0 + client, client, 3, 200, 109.0] for client in range(2)]
    result = {"queue": [[108.0, 4.0, 9.0]], "arrivals": [*lost, *back]}
    record = Record(({"kind": "start"}, {"kind": "inject", "t": 96.0}, {"kind": "after", "result": result}))
    assert herd_queue(record) == [(8.0, 4.0, 9.0)]
    assert herd_ticks(record) == [7.0, 8.0]
