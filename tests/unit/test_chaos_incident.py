"""An incident: told apart by figures, diagnosed before it is named, undone in any case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from helpers.chaos import incident as incidents
from helpers.chaos.experiment import Cancelled, NotSteady, recover
from helpers.chaos.incident import (
    ANSWER,
    NAME,
    ByTheTable,
    answer_manifest,
    draw,
    fresh_seed,
    incident,
    is_right,
    told,
    was_told,
)
from helpers.chaos.incident_faults import APPS, BATCH, INCIDENTS, TOO_LITTLE
from helpers.chaos.incident_figures import BY_NAME, FIGURES, SIGNS, told_apart, typical
from helpers.chaos.journal import Record, parse, published
from helpers.chaos.steps import Step, carry_out, guard
from helpers.chaos.undo import pending
from helpers.cluster.fake import FakeCluster, default_profile
from helpers.labs.lab08_scale import proof_review, proof_state

CALM: dict[str, float | None] = {
    "arriving": 0.8,
    "done": 0.8,
    "waiting": 0.0,
    "workers": 1.0,
    "cached": 0.6,
    "retrieval": 0.05,
    "generation": 1.5,
    "asked": 0.3,
    "answered": 0.3,
    "pool": 1.0,
    "inside": 0.0,
}
# What each incident does to the figures, with what it does besides: the cause is the first in the table.
SHOWN: dict[str, dict[str, float | None]] = {
    "gpu-lost": {"pool": 0.0, "answered": 0.0, "waiting": 9.0, "done": 0.5, "generation": 30.0},
    "worker-killed": {
        "workers": 0.0,
        "waiting": 25.0,
        "done": 0.0,
        "asked": 0.0,
        "answered": 0.0,
        "cached": None,
    },
    "network-cut": {"answered": 0.0, "generation": 4.0, "waiting": 6.0, "done": 0.5},
    "retriever-slow": {"retrieval": 3.05, "waiting": 4.0},
    "queue-full": {"arriving": 6.0, "waiting": 36.0, "cached": 0.2, "generation": 4.0, "inside": 3.0},
    "cache-cold": {"cached": 0.05, "asked": 0.8, "answered": 0.8, "waiting": 2.0},
}


@pytest.mark.parametrize("name", SHOWN)
def test_each_incident_is_told_from_the_others_by_its_figures(name: str) -> None:
    assert told_apart(CALM, {**CALM, **SHOWN[name]}) == name


def test_where_nothing_has_changed_nothing_is_told() -> None:
    assert told_apart(CALM, CALM) == ""
    assert told_apart(CALM, {**CALM, "generation": 6.0, "done": 0.6}) == ""


def test_the_table_has_a_sign_for_each_and_each_its_own_figure() -> None:
    assert set(SIGNS) == set(INCIDENTS) == set(SHOWN)
    figures = [sign.figure for sign in SIGNS.values()]
    assert len(set(figures)) == len(figures) and set(figures) <= set(BY_NAME)


def test_a_median_forgets_what_had_no_value() -> None:
    found = typical([{"cached": None}, {"cached": 0.2}, {"cached": 0.4}, {"cached": 0.9}])
    assert found["cached"] == 0.4 and found["pool"] is None


def test_a_seed_draws_one_and_a_real_card_is_never_broken() -> None:
    drawn = {draw(seed, default_profile()).name for seed in range(200)}
    assert drawn == set(INCIDENTS)
    from dataclasses import replace

    real = replace(default_profile(), gpu="real")
    assert "gpu-lost" not in {draw(seed, real).name for seed in range(200)}


# Plans


def solved() -> FakeCluster:
    cluster = FakeCluster()
    proof_state.start(cluster)
    proof_review.spans_arrive(9, 9)(cluster)
    return cluster


def spec_of(cluster: FakeCluster, kind: str, name: str, namespace: str) -> Any:
    return cluster.view().get(kind, name, namespace).path("spec")


@pytest.mark.parametrize("name", INCIDENTS)
def test_a_plan_stays_in_the_lab_and_its_undo_takes_all_of_it_back(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = solved()
    plan = INCIDENTS[name].plan(cluster.view())
    guard((*plan.inject, *plan.undo))
    watched = [
        ("Deployment", "llm-worker", APPS),
        ("NetworkPolicy", "llm-worker", APPS),
        ("Service", "qdrant", "llm-system"),
        ("Deployment", "vllm", BATCH),
    ]
    before = [spec_of(cluster, *item) for item in watched]
    changing = {"patch", "apply", "delete"}
    for step in plan.inject:
        if step.verb in changing and step.kind != "Pod":
            carry_out(cluster, step)
    for step in plan.undo:
        if step.verb in changing:
            carry_out(cluster, step)
    assert [spec_of(cluster, *item) for item in watched] == before
    assert not [item.name for item in cluster.view().list("Service", "llm-system") if "fault" in item.name]


def test_a_killed_worker_has_too_little_memory_in_both() -> None:
    cluster = solved()
    (step,) = INCIDENTS["worker-killed"].plan(cluster.view()).inject
    carry_out(cluster, step)
    resources = spec_of(cluster, "Deployment", "llm-worker", APPS)["template"]["spec"]["containers"][0][
        "resources"
    ]
    assert {resources[side]["memory"] for side in ("requests", "limits")} == {TOO_LITTLE}


def test_a_cut_network_leaves_every_other_way_open() -> None:
    cluster = solved()
    before = spec_of(cluster, "NetworkPolicy", "llm-worker", APPS)["egress"]
    step = INCIDENTS["network-cut"].plan(cluster.view()).inject[0]
    carry_out(cluster, step)
    after = spec_of(cluster, "NetworkPolicy", "llm-worker", APPS)["egress"]
    assert len(after) == len(before) - 1 and "vllm" not in str(after) and "qdrant" in str(after)


def test_nothing_is_done_outside_the_course() -> None:
    from helpers.chaos.steps import FaultNotAllowed

    with pytest.raises(FaultNotAllowed):
        guard([Step("delete", "Pod", "x", "kube-system")])


# A whole one


class Quiet:
    """Users who say nothing; which kinds they became."""

    kinds: list[str]
    sent = accepted = 0

    def __init__(self, cluster: Any, *, seed: int = 0) -> None:
        Quiet.kinds = []

    def __enter__(self) -> Quiet:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def become(self, kind: str) -> None:
        Quiet.kinds.append(kind)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    for name, value in (
        ("BEFORE_S", 0.1),
        ("LOOK_FIRST_S", 0.0),
        ("SAMPLE_EVERY_S", 0.02),
        ("SURE_AFTER_S", 0.0),
        ("CALM_S", 1.0),
    ):
        monkeypatch.setattr(incidents, name, value)
    monkeypatch.setattr(incidents, "Load", Quiet)
    monkeypatch.setattr(incidents, "can_be_read", lambda view: "")
    monkeypatch.setattr(incidents, "missing", lambda cluster, images: [])


def seed_of(name: str) -> int:
    return next(seed for seed in range(1000) if draw(seed, default_profile()).name == name)


def figures_while(
    cluster: FakeCluster, name: str, is_broken: Callable[[FakeCluster], bool]
) -> Callable[[Any], Any]:
    def read(view: Any) -> Mapping[str, float | None]:
        return {**CALM, **(SHOWN[name] if is_broken(cluster) else {})}

    return read


def too_little(cluster: FakeCluster) -> bool:
    return TOO_LITTLE in str(spec_of(cluster, "Deployment", "llm-worker", APPS))


def forgetful(cluster: FakeCluster) -> bool:
    return Quiet.kinds[-1:] == ["forgetful"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("name", "is_broken"), [("worker-killed", too_little), ("cache-cold", forgetful)])
def test_who_goes_by_the_table_names_it_and_it_is_undone(
    name: str, is_broken: Callable[[FakeCluster], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster, seed = solved(), seed_of(name)
    monkeypatch.setattr(incidents, "read", figures_while(cluster, name, is_broken))
    eye = ByTheTable(cluster, seed)
    done = incident(cluster, seed, timeout_s=20, on_progress=eye.progress, on_figures=eye.figures)
    record = published(cluster.view(), NAME)
    said, named = record.first("diagnosis"), record.last("reveal")
    assert said and named and said["n"] < named["n"]
    assert named["cause"] == name and is_right(said["answer"], name) and done.steady_after
    assert not is_broken(cluster) and not pending(cluster.identity().uid)
    before = done.path.read_text().split('"kind": "reveal"')[0]
    assert name not in before.replace(f'"cause": "{name}"', ""), "a journal that is being read names it"


@pytest.mark.usefixtures("quick")
def test_a_name_that_was_told_does_not_count_for_the_same_seed_and_another_is_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cluster, seed = solved(), seed_of("worker-killed")
    monkeypatch.setattr(incidents, "read", figures_while(cluster, "worker-killed", too_little))

    def one(seed: int) -> Record:
        eye = ByTheTable(cluster, seed)
        incident(cluster, seed, timeout_s=20, on_progress=eye.progress, on_figures=eye.figures)
        return published(cluster.view(), NAME)

    assert not was_told(one(seed)) and [item["seed"] for item in told(cluster)] == [seed]
    drawn = {draw(fresh_seed(cluster), default_profile()).name for _ in range(200)}
    assert drawn == set(INCIDENTS) - {"worker-killed"}
    assert was_told(one(seed))
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "another machine"))
    assert [item["cause"] for item in told(cluster)] == ["worker-killed"] * 2, "the cluster knows it too"
    assert was_told(one(seed))


@pytest.mark.usefixtures("quick")
def test_a_diagnosis_for_another_seed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, seed = solved(), seed_of("worker-killed")
    monkeypatch.setattr(incidents, "read", lambda view: CALM)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith(incidents.HAPPENED):
            cluster.apply([answer_manifest(seed + 1, "worker-killed", "workers")])

    done = incident(cluster, seed, timeout_s=0.3, on_progress=say)
    assert parse(done.path.read_text()).first("diagnosis") is None
    assert any(f"`seed` is `{seed + 1}`: this one is {seed}" in line for line in said)


@pytest.mark.usefixtures("quick")
def test_without_a_diagnosis_it_is_undone_and_named_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, seed = solved(), seed_of("worker-killed")
    monkeypatch.setattr(incidents, "read", lambda view: CALM)
    done = incident(cluster, seed, timeout_s=0.2)
    record = parse(done.path.read_text())
    assert record.first("time-over") and record.first("diagnosis") is None and record.last("reveal")
    assert not too_little(cluster)


@pytest.mark.usefixtures("quick")
def test_what_is_on_no_list_is_no_diagnosis(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, seed = solved(), seed_of("worker-killed")
    monkeypatch.setattr(incidents, "read", lambda view: CALM)
    heard: list[str] = []

    def say(line: str) -> None:
        heard.append(line)
        if line.startswith(incidents.HAPPENED):
            cluster.apply([answer_manifest(seed, "the-moon", "waiting")])

    done = incident(cluster, seed, timeout_s=0.3, on_progress=say)
    assert parse(done.path.read_text()).first("diagnosis") is None
    assert any("`cause` is `the-moon`: it is one of" in line for line in heard)


@pytest.mark.usefixtures("quick")
def test_an_earlier_diagnosis_is_none_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, seed = solved(), seed_of("worker-killed")
    cluster.apply([answer_manifest(seed, "worker-killed", "workers")])
    monkeypatch.setattr(incidents, "read", lambda view: CALM)
    done = incident(cluster, seed, timeout_s=0.2)
    assert parse(done.path.read_text()).first("diagnosis") is None
    assert cluster.view().find("ConfigMap", ANSWER, APPS) is None


@pytest.mark.usefixtures("quick")
def test_stopped_it_is_undone_and_nothing_is_graded(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, seed = solved(), seed_of("worker-killed")
    monkeypatch.setattr(incidents, "read", lambda view: CALM)
    with pytest.raises(Cancelled):
        incident(cluster, seed, timeout_s=20, should_stop=lambda: too_little(cluster))
    assert not too_little(cluster) and not pending(cluster.identity().uid)
    assert cluster.view().find("ConfigMap", f"journal-{NAME}", "llm-probes") is None


@pytest.mark.usefixtures("quick")
def test_recover_knows_one_whose_process_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = solved()
    plan = INCIDENTS["worker-killed"].plan(cluster.view())
    folder = incidents.experiments_dir(cluster.identity().uid) / "20260101T000000-x-incident"
    incidents.write_undo(folder, NAME, plan.undo, secret=True)
    for step in plan.inject:
        carry_out(cluster, step)
    assert too_little(cluster)
    heard: list[str] = []
    assert recover(cluster, on_progress=heard.append) == ["an incident"]
    assert not too_little(cluster) and "worker-killed" not in " ".join(heard)


@pytest.mark.usefixtures("quick")
def test_what_does_not_serve_is_not_broken_further() -> None:
    cluster = solved()
    for pod in cluster.view().pods(BATCH, labels="app=vllm"):
        cluster.delete("Pod", pod.name, BATCH)
    with pytest.raises(Exception, match="vllm"):
        incident(cluster, 1)


def test_figures_are_asked_in_the_learners_own_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers.chaos.incident_figures import read
    from helpers.cluster import Scope
    from helpers.stack import prometheus

    asked: list[str] = []

    def value(view: Any, promql: str) -> float:
        asked.append(promql)
        return float("nan")

    monkeypatch.setattr(prometheus, "value", value)
    found = read(FakeCluster(scope=Scope("ada")).view())
    assert set(found.values()) == {None} and len(asked) == len(FIGURES)
    assert any('namespace="llm-batch-ada"' in text for text in asked) and not any(
        "$" in text for text in asked
    )


def test_there_is_no_incident_before_the_monitors() -> None:
    cluster = solved()
    with pytest.raises(NotSteady, match="part 4"):
        incidents.steady(cluster.view())


@pytest.mark.usefixtures("quick")
def test_an_incident_waits_for_monitors_that_were_only_just_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster, said = solved(), list[str]()
    answers = ["Prometheus knows nothing of it", "Prometheus knows nothing of it"]
    monkeypatch.setattr(incidents, "can_be_read", lambda view: answers.pop() if answers else "")
    monkeypatch.setattr(incidents, "read", lambda view: CALM)
    monkeypatch.setattr(incidents, "_has_monitors", lambda view: True)
    incident(cluster, seed_of("worker-killed"), timeout_s=0.2, on_progress=said.append)
    assert sum("a new monitor takes a minute" in line for line in said) == 2


@pytest.mark.usefixtures("quick")
def test_the_command_says_how_to_commit_and_names_it_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from helpers.cli import _register_parts, app
    from helpers.cluster import Cluster

    cluster, seed = solved(), seed_of("worker-killed")
    monkeypatch.setattr(Cluster, "connect", staticmethod(lambda: cluster))

    def read(view: Any) -> Mapping[str, float | None]:
        if too_little(cluster) and cluster.view().find("ConfigMap", ANSWER, APPS) is None:
            cluster.apply([answer_manifest(seed, "worker-killed", "workers")])
        return CALM

    monkeypatch.setattr(incidents, "read", read)
    _register_parts()
    done = CliRunner().invoke(app, ["incident", "--seed", str(seed), "--minutes", "1"])
    assert done.exit_code == 0, done.output
    assert f"--from-literal=seed={seed}" in done.output and "jobs that nobody has taken" in done.output
    assert "It was worker-killed" in done.output and "Your diagnosis is right" in done.output
    assert "All is undone" in done.output
