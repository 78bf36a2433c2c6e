"""The faults of lab 06: what they put before a backend, and that nothing of it stays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from helpers.chaos import experiment, steps, watch
from helpers.chaos.experiment import NotSteady, run, steady_state
from helpers.chaos.faults import FAULTS, ORCHESTRATOR, REDIS, VLLM
from helpers.chaos.front_faults import FRONT_FAULTS, IN_FLIGHT, fault, refuse
from helpers.chaos.gameday import draw
from helpers.chaos.steps import Step, carry_out
from helpers.cluster.backend import ExecResult
from helpers.cluster.fake import FakeCluster, default_profile
from helpers.errors import InvalidInput, LabError, ObjectMissing
from tests.unit.chaos_world import service, stack, workload
from tests.unit.test_chaos import specs

APP = {"app": "llm-orchestrator"}


def without_waiting(steps: Sequence[Step]) -> list[Step]:
    return [step for step in steps if not step.verb.startswith("wait_")]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    monkeypatch.setattr(experiment, "load_images", lambda *names: None)
    for name in ("BEFORE_S", "AFTER_S"):
        monkeypatch.setattr(experiment, name, 0.0)
    monkeypatch.setattr(watch, "COLLECT_EVERY_S", 0.02)
    monkeypatch.setattr(steps, "BUSY_S", 0.0)


@pytest.fixture
def front() -> FakeCluster:
    """Both backends, Redis and two orchestrators, one of which works."""
    cluster = stack()
    cluster.put([workload("StatefulSet", "redis", {"app": "redis"})])
    cluster.add_pod("redis-0", "llm-system", labels={"app": "redis"})
    cluster.put(service("redis", {"app": "redis"}, 6379, "10.244.0.12", "redis-0"))
    deployment = workload("Deployment", "llm-orchestrator", APP)
    deployment["metadata"]["namespace"] = "llm-apps"
    cluster.put(deployment)
    for item in service("llm-orchestrator", APP, 8080, "10.244.0.13", "orchestrator-a"):
        item["metadata"]["namespace"] = "llm-apps"
        cluster.put(item)
    for name, busy in (("orchestrator-a", 0), ("orchestrator-b", 2)):
        cluster.add_pod(name, "llm-apps", labels=APP)
        text = f'{IN_FLIGHT}{{class="fast"}} 0\n{IN_FLIGHT}{{class="standard"}} {busy}\n'
        cluster.answer_port("llm-apps", name, 9090, answers(text))
    return cluster


def status(*, restarts: int) -> dict[str, Any]:
    container = {"name": "llm-orchestrator", "ready": True, "restartCount": restarts}
    ready = [{"type": "Ready", "status": "True"}]
    return {"phase": "Running", "conditions": ready, "containerStatuses": [container]}


def answers(text: str) -> Any:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    return lambda data: (head + text).encode()


@pytest.mark.parametrize("name", sorted(set(FRONT_FAULTS) - {"kill-orchestrator"}))
def test_the_undo_puts_everything_back(front: FakeCluster, name: str) -> None:
    before, pods = specs(front), {pod.name for pod in front.view().pods("llm-system")}
    plan = fault(name).plan(front.view())
    for step in without_waiting(plan.inject):
        carry_out(front, step)
    assert specs(front) != before
    for _ in range(2):  # twice without harm
        for step in without_waiting(plan.undo):
            carry_out(front, step)
    assert specs(front) == before
    assert {pod.name for pod in front.view().pods("llm-system")} == pods


def test_a_stalled_backend_stays_and_its_service_is_turned(front: FakeCluster) -> None:
    plan = fault("stall-vllm").plan(front.view())
    for step in without_waiting(plan.inject):
        carry_out(front, step)
    view = front.view()
    assert view.service("vllm").selector == {"app": "vllm-fault"}
    assert view.service("vllm-behind").selector == {"app": "vllm"}
    proxy = view.pod("vllm-fault", "llm-system")
    assert proxy.containers[0]["image"] == default_profile().images["envoy"]
    config = json.loads(view.config_map("vllm-fault").data["envoy.json"])
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["http_filters"][0]["typed_config"]["delay"]["fixed_delay"] == "600s"
    first, *_ = without_waiting(plan.undo)
    assert first.kind == "Service", "the way is turned back before the proxy goes"


def test_who_may_go_to_the_backend_may_go_to_the_proxy(front: FakeCluster) -> None:
    def policy(name: str, *peers: dict[str, Any]) -> dict[str, Any]:
        egress = [{"to": [{"podSelector": {"matchLabels": labels}}]} for labels in peers]
        spec = {"podSelector": {"matchLabels": APP}, "policyTypes": ["Egress"], "egress": egress}
        about = {"name": name, "namespace": "llm-apps"}
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": about,
            "spec": spec,
        }

    front.apply(
        [policy("orchestrator", {"app": "vllm"}, {"app": "redis"}), policy("other", {"app": "redis"})]
    )
    plan = fault("stall-vllm").plan(front.view())
    placed = [step for step in plan.inject if step.kind == "NetworkPolicy" and step.namespace == "llm-apps"]
    assert [step.name for step in placed] == ["orchestrator-vllm-fault"]
    assert placed[0].body["spec"]["podSelector"] == {"matchLabels": APP}
    assert [step.name for step in plan.undo if step.namespace == "llm-apps"] == ["orchestrator-vllm-fault"]


def test_the_proxy_waits_until_it_can_answer_before_the_service_is_turned(front: FakeCluster) -> None:
    plan = fault("refuse-qdrant").plan(front.view())
    assert plan.inject[-3].verb == "wait_ready"
    assert [step.verb for step in plan.inject[-2:]] == ["patch", "wait_turned"]


@pytest.mark.parametrize(("status", "share"), [(200, 100), (503, 0), (600, 10), (503, 101)])
def test_a_refusal_is_an_error_and_a_share(status: int, share: int) -> None:
    with pytest.raises(InvalidInput):
        refuse(VLLM, status=status, share=share)


def test_the_busiest_orchestrator_is_killed(front: FakeCluster) -> None:
    killed: list[str] = []

    def execute(namespace: str, pod: str, command: list[str], stdin: str | None) -> ExecResult:
        killed.append(pod)
        front.set_status("Pod", pod, status(restarts=1), "llm-apps")
        return ExecResult(0, "", "")

    front.exec_handler = execute
    (step,) = fault("kill-orchestrator").plan(front.view()).inject
    carry_out(front, step)
    assert killed == ["orchestrator-b"]


def test_a_service_that_is_the_first_process_cannot_be_killed_and_it_is_said(front: FakeCluster) -> None:
    front.exec_handler = lambda *_: ExecResult(steps.FIRST_PROCESS, "", "")
    (step,) = fault("kill-orchestrator").plan(front.view()).inject
    with pytest.raises(LabError, match="shareProcessNamespace"):
        carry_out(front, step)


def test_what_is_hit_belongs_to_the_steady_state(front: FakeCluster) -> None:
    seen = steady_state(front.view(), REDIS)
    assert seen["endpoints"]["redis"]["ready"] == 1
    assert {pod["backend"] for pod in steady_state(front.view(), ORCHESTRATOR)["pods"]} > {"llm-orchestrator"}
    front.delete("Pod", "redis-0", "llm-system")
    with pytest.raises(NotSteady, match="course start 06"):
        try:
            steady_state(front.view(), REDIS)
        except NotSteady as error:
            raise NotSteady(f"{error} {error.next_command}") from error
    steady_state(front.view())


def test_an_experiment_leaves_a_journal_of_what_it_hit(
    front: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from helpers.chaos.journal import parse

    short = replace(fault("stop-redis"), watch_s=0.1)
    monkeypatch.setitem(steps._DO, "wait_ready", lambda cluster, step: None)
    finished = run(front, short)
    record = parse(finished.path.read_text())
    assert record.is_finished
    assert "redis" in record.of("sample")[0]["endpoints"]


def test_without_the_service_there_is_nothing_to_break() -> None:
    for name in ("stop-redis", "kill-orchestrator"):
        with pytest.raises(ObjectMissing):
            fault(name).plan(stack().view())


def test_a_game_day_draws_what_it_drew_before() -> None:
    drawn = {draw(seed, default_profile()).name for seed in range(200)}
    assert drawn <= set(FAULTS)
    assert not drawn & set(FRONT_FAULTS)


def test_steps_of_lab_06_can_be_read_back() -> None:
    step = Step("kill", "Pod", "llm-orchestrator", "llm-apps", {"labels": "app=x"})
    assert Step.from_json(json.loads(json.dumps(step.to_json()))) == step
