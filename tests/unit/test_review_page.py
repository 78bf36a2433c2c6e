"""Lab 08's page: the review's lines, a gate that is put where none is, and an incident without its name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.chaos import incident as incidents
from helpers.chaos.journal import experiments_dir, sealed_text
from helpers.cluster.fake import FakeCluster
from helpers.grading.changes import yaml_cells
from helpers.labs.lab08_scale import draw_review, mutants_review, proof_state
from helpers.notebook.session import LabSession
from helpers.stack import assistant

PRESSED, NOT_PRESSED = (SimpleNamespace(value=value, text="") for value in (True, False))


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LabSession]:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    # What is shown is read here; how marimo lays it out is its own.
    monkeypatch.setattr(draw_review, "with_outcome", lambda buttons, outcome=None: outcome)
    monkeypatch.setattr(draw_review.mo, "hstack", lambda items, **options: items)
    monkeypatch.setattr(draw_review.mo, "vstack", lambda items, **options: items[-1])
    cluster = FakeCluster()
    proof_state.start(cluster)
    yield LabSession("08", cluster, cluster.identity(), cluster.profile())


def shown(what: Any) -> str:
    return str(getattr(what, "text", what))


def test_the_review_shows_twelve_lines_with_what_was_seen(lab: LabSession) -> None:
    text = shown(draw_review.review_panel(lab, PRESSED))
    assert text.count("<tr>") >= 12 and "of 12" in text and "gives itself no time" in text
    assert "twelve" not in shown(draw_review.review_panel(lab, NOT_PRESSED))


def test_a_gate_is_put_before_releases_that_go_by_the_clock(lab: LabSession) -> None:
    text = yaml_cells("08")["gate_yaml"]
    assert lab.cluster is not None
    assert "would change" in shown(draw_review.gate_panel(lab, text, NOT_PRESSED))
    draw_review.gate_panel(lab, text, PRESSED)
    rollout = lab.cluster.view().get("Rollout", assistant.ROLLOUT, assistant.NAMESPACE)
    assert draw_review.is_judged(rollout.path("spec.strategy"))
    assert lab.cluster.view().find("AnalysisTemplate", "llm-failures", assistant.NAMESPACE)
    # Its own gate may be put again; one of lab 07 is left alone.
    assert "has a gate of its own" not in shown(draw_review.gate_panel(lab, text, NOT_PRESSED))


def test_the_gate_of_lab_07_stays(lab: LabSession) -> None:
    assert lab.cluster is not None
    step = {"analysis": {"templates": [{"templateName": "llm-eval-gate"}]}}
    body = [{"op": "add", "path": "/spec/strategy/canary/steps", "value": [step, {"setWeight": 100}]}]
    lab.cluster.patch("Rollout", assistant.ROLLOUT, body, assistant.NAMESPACE)
    text = shown(draw_review.gate_panel(lab, yaml_cells("08")["gate_yaml"], PRESSED))
    assert "has a gate of its own" in text
    rollout = lab.cluster.view().get("Rollout", assistant.ROLLOUT, assistant.NAMESPACE)
    assert rollout.path("spec.strategy.canary.steps.0") == step


def running(lab: LabSession, *, over: bool = False) -> None:
    """An incident's journal on this machine: something has happened, and perhaps it is over."""
    assert lab.cluster is not None
    entries: list[dict[str, Any]] = [
        {"kind": "start", "experiment": incidents.NAME, "seed": 8, "t": 0.0},
        mutants_review._sample(1, 0.1),
        {"kind": "inject", "t": mutants_review._T + 2, "step": "an incident drawn from the seed"},
        mutants_review._sample(3, 3.25),
    ]
    if over:
        answer = {"cause": "retriever-slow", "figure": "retrieval"}
        entries += [
            {"kind": "diagnosis", "t": 4, "answer": answer},
            {"kind": "undo", "t": mutants_review._T + 5},
            {"kind": "reveal", "t": 6, "cause": "retriever-slow", "layer": "memory"},
        ]
    folder = experiments_dir(lab.cluster.identity().uid) / f"20260101T000000-x-{incidents.NAME}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "journal.jsonl").write_text(sealed_text(b"k", entries))


def test_figures_are_shown_beside_those_from_before_and_no_name(lab: LabSession) -> None:
    assert "when something has happened" in shown(draw_review.incident_figures(lab))
    running(lab)
    text = shown(draw_review.incident_figures(lab))
    assert "0.10" in text and "3.25" in text and "retriever-slow" not in text


def test_a_diagnosis_is_committed_while_it_waits_for_one(lab: LabSession) -> None:
    assert lab.cluster is not None
    form = {
        "cause": SimpleNamespace(value="cache-cold", text=""),
        "figure": SimpleNamespace(value="cached", text=""),
        "commit": PRESSED,
    }
    assert "Nothing has happened" in shown(draw_review.diagnosis_panel(lab, form))
    running(lab)
    assert "committed" in shown(draw_review.diagnosis_panel(lab, form))
    found = lab.cluster.view().config_map(incidents.ANSWER, incidents.APPS).data
    assert found == {"seed": "8", "cause": "cache-cold", "figure": "cached"}
    running(lab, over=True)
    assert "Nothing has happened" in shown(draw_review.diagnosis_panel(lab, form))


def test_its_name_is_told_when_it_is_over(lab: LabSession) -> None:
    running(lab)
    assert "retriever-slow" not in shown(draw_review._named(lab))
    running(lab, over=True)
    text = shown(draw_review._named(lab))
    assert "right" in text and "retriever-slow" in text


def test_spans_are_told_by_name_with_how_long_they_took(lab: LabSession) -> None:
    assert lab.cluster is not None
    assert "No worker has sent" in shown(draw_review.incident_traces(lab))
    asked: list[str] = []

    def span(name: str, end: str, status: str) -> dict[str, Any]:
        context = {"trace_id": "a" * 32, "span_id": "b" * 16}
        times = {"start_time": "2026-01-01T12:00:00+00:00", "end_time": f"2026-01-01T12:00:{end}+00:00"}
        return {"name": name, "context": context, "parent_id": None, "status_code": status, **times}

    def answer(method: str, path: str, body: Any) -> tuple[int, str]:
        asked.append(path)
        found = [span("retrieve", "03", "OK"), span("generate", "01", "ERROR")]
        return 200, json.dumps({"data": found})

    lab.cluster.serve(assistant.OBSERVABILITY, assistant.PHOENIX, 6006, answer)  # type: ignore[attr-defined]
    text = shown(draw_review.incident_traces(lab))
    assert "retrieve" in text and "3.00 s" in text and "/llm-jobs/" in asked[0]


def test_a_press_draws_another_incident_than_the_one_that_was_named_last(lab: LabSession) -> None:
    assert lab.cluster is not None
    running(lab, over=True)
    profile = lab.cluster.profile()
    drawn = {incidents.draw(incidents.fresh_seed(lab.cluster), profile).name for _ in range(200)}
    assert drawn == set(incidents.INCIDENTS) - {"retriever-slow"}
    running(lab)
    assert incidents.fresh_seed(lab.cluster) in range(incidents.SEEDS)


def test_where_a_solution_runs_the_incident_is_the_same_until_its_name_is_told(
    lab: LabSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lab.cluster is not None
    seeds: list[int] = []
    work: list[Any] = []
    monkeypatch.setattr(incidents, "incident", lambda cluster, seed, **_: seeds.append(seed))
    monkeypatch.setattr(draw_review, "beside_the_page", lambda lab, buttons, job, *_, **__: work.append(job))
    monkeypatch.setattr(incidents, "fresh_seed", lambda cluster: 77)
    draw_review.incident_panel(replace(lab, pressed=True), None)
    draw_review.incident_panel(lab, None)
    assert seeds == [draw_review.SEED]
    work[-1](lab.cluster, print, lambda: False)
    assert seeds == [draw_review.SEED, 77]
    running(lab, over=True)
    monkeypatch.setattr(draw_review, "SEED", 8)
    draw_review.incident_panel(replace(lab, pressed=True), None)
    assert seeds[2:] == [77]
