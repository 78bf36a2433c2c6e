"""Pictures of experiments: what a mark says, in which order pods stand, when a herd came back."""

from __future__ import annotations

import json
from pathlib import Path
from queue import Queue
from threading import Event
from types import SimpleNamespace
from typing import Any

import marimo as mo
import pytest

from helpers.chaos.clients import Attempt
from helpers.chaos.evidence import clients_now, in_words
from helpers.chaos.faults import CAUSES, FAULTS, LAYERS, not_on_the_list
from helpers.chaos.journal import Entry, Record, experiments_dir, sealed_text
from helpers.chaos.watch import sample as sampled
from helpers.labs.lab05_chaos import draw
from helpers.labs.lab05_chaos.draw import _COLOURS, chart, herd_queue, herd_ticks, segments
from helpers.notebook.session import LabSession
from tests.unit.chaos_world import service, stack

PATIENCE_S = 60


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


def attempt(client: str, t: float, outcome: str = "ok") -> Attempt:
    return Attempt(t, client, outcome, None, 5.0)


def test_each_client_says_by_name_whether_it_is_served() -> None:
    seen = [
        attempt("inference", 9.0, "reset"),
        attempt("inference", 10.5),
        attempt("retrieval", 10.2, "refused"),
    ]
    assert clients_now(seen) == {"inference": "served", "retrieval": "refused"}
    assert in_words(seen) == "inference (vllm) is served, retrieval (qdrant) fails: refused"
    assert in_words([]) == "inference (vllm) has not called yet, retrieval (qdrant) has not called yet"


def test_no_two_states_of_the_picture_share_a_colour_and_its_legend_has_them_all() -> None:
    assert len(set(_COLOURS.values())) == len(_COLOURS)
    assert all(f'"{state}"' in picture(sample(0, "a"), sample(9, "a")) for state in _COLOURS)


def test_an_endpoint_that_is_ending_and_serves_is_not_drawn_as_no_endpoint() -> None:
    cluster = stack()
    _, ending = service("vllm", {"app": "vllm"}, 8000, "10.244.0.10", "vllm-1")
    ending["endpoints"][0]["conditions"] = {"ready": False, "serving": True, "terminating": True}
    cluster.put([ending])
    seen = sampled(cluster.view())
    assert seen["endpoints"]["vllm"] == {"ready": 0, "ending": 1, "all": 1}
    moments = ({"kind": "sample", "t": 1.0, **seen}, {"kind": "sample", "t": 2.0, **seen})
    lanes = {
        lane: (state, detail) for lane, _, _, state, detail in segments(Record(({"kind": "start"}, *moments)))
    }
    assert lanes["endpoints: vllm"] == ("ending, serves on", "0 of 1 ready, 1 ending and serving")
    assert lanes["endpoints: qdrant"][0] == "ready"
    ending["endpoints"][0]["conditions"]["serving"] = False
    cluster.put([ending])
    assert sampled(cluster.view())["endpoints"]["vllm"] == {"ready": 0, "ending": 0, "all": 1}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            {"layer": "netwrok", "cause": ""},
            "`layer` is `netwrok`: it is one of substrate, inference, memory, network",
        ),
        ({"cause": "bad-selector"}, "`cause` is `bad-selector`: it is one of pod-deleted"),
        ({"delete-vllm.layer": "vllm"}, "`delete-vllm.layer` is `vllm`: it is one of substrate"),
        ({"delete-vllm.unaffected": "qdrant"}, "`delete-vllm.unaffected` is `qdrant`"),
        (
            {"delete-vllm.symptom": "slow"},
            "is `slow`: it is one of refused, timeout, reset, dns, HTTP and a number",
        ),
    ],
)
def test_a_diagnosis_that_is_on_no_list_is_a_sentence_with_the_list(data: dict[str, str], words: str) -> None:
    assert [line[: len(words)] for line in not_on_the_list(data)] == [words] or words in not_on_the_list(
        data
    )[0]
    cluster = stack()
    lab = LabSession("05", cluster, cluster.identity(), cluster.profile())
    manifest = json.dumps(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "a", "namespace": "llm-apps"},
            "data": data,
        }
    )
    shown = str(draw.diagnosis_preview(lab, manifest).text)
    assert "not on the list" in shown and "would be created" in shown


def test_what_can_be_named_is_on_the_list() -> None:
    assert not not_on_the_list({"layer": "", "cause": "", "seed": "6"})
    assert not not_on_the_list({"a.symptom": "HTTP 503", "b.symptom": "refused", "c.symptom": "curl 35"})
    assert {item.layer for item in FAULTS.values()} <= set(LAYERS)
    assert {item.cause for item in FAULTS.values()} <= set(CAUSES)


def test_both_lanes_are_drawn_while_an_experiment_waits_and_says_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    monkeypatch.setattr(draw, "_REDRAW_S", 0.01)
    monkeypatch.setattr(mo, "current_thread", lambda: SimpleNamespace(should_exit=False))
    sent, drawn = Queue[str](), Event()

    def replaced(shown: Any) -> None:
        sent.put(str(shown.text))
        if "client of vllm (inference)" in shown.text:
            drawn.set()

    monkeypatch.setattr(mo.output, "replace", replaced)
    cluster = stack()
    rows = [[2.0, "inference", "ok", 200, 5.0], [2.0, "retrieval", "refused", None, 1.0]]
    entries = [
        {"kind": "start", "t": 1.0},
        {"kind": "inject", "t": 1.5},
        {"kind": "clients", "t": 2.0, "attempts": rows},
        sample(2.0, "a"),
        sample(3.0, "a"),
    ]

    def silent(cluster: Any, **_: Any) -> Any:
        folder = experiments_dir(cluster.identity().uid) / "1-quiet"
        folder.mkdir(parents=True)
        (folder / "journal.jsonl").write_text(sealed_text(b"key", entries))
        assert drawn.wait(PATIENCE_S), "nothing was drawn while the experiment waited"

    draw._in_background(cluster, ("quiet",), mo.md("buttons"), {"quiet": silent})
    shown = next(text for text in iter(sent.get, None) if "client of vllm" in text)
    assert ">served<" in shown and ">refused<" in shown and "client of qdrant (retrieval)" in shown
