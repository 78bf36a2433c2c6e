"""Experiments: the undo comes first, always runs, and the journal cannot be edited."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from helpers.chaos import evidence, experiment, journal, undo, watch
from helpers.chaos.clients import outcome_of, parse_attempts
from helpers.chaos.experiment import Cancelled, NotSteady, recover, run
from helpers.chaos.faults import CAUSES, FAULTS, LAYERS, LEAST_CPU, fault
from helpers.chaos.journal import JournalBroken, parse, published, sealed_text, verify
from helpers.chaos.steps import FaultNotAllowed, Plan, Step, carry_out
from helpers.cluster.backend import ExecResult
from helpers.cluster.fake import FakeCluster, default_profile
from helpers.errors import ClusterUnreachable, ObjectMissing
from tests.unit.chaos_world import served, stack

KEY = b"k" * 32


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    for name in ("BEFORE_S", "AFTER_S"):
        monkeypatch.setattr(experiment, name, 0.0)
    monkeypatch.setattr(watch, "COLLECT_EVERY_S", 0.02)


def without_waiting(steps: tuple[Step, ...]) -> list[Step]:
    return [step for step in steps if step.verb != "wait_ready"]


def specs(cluster: FakeCluster) -> dict[str, Any]:
    """What must be as before: everything but pods (their controllers replace them) and versions."""
    return {
        "/".join(key): {"spec": item.get("spec"), "annotations": item["metadata"].get("annotations") or {}}
        for key, item in cluster.backend.objects.items()
        if key[1] not in ("pods", "events")
    }


# Faults


@pytest.mark.parametrize("name", sorted(set(FAULTS) - {"gpu-vllm"}))
def test_every_fault_changes_the_cluster_and_its_undo_puts_everything_back(name: str) -> None:
    cluster = stack()
    before, pods = specs(cluster), {pod.name for pod in cluster.view().pods("llm-system")}
    plan = fault(name).plan(cluster.view())
    for step in plan.inject:
        carry_out(cluster, step)
    if name.startswith("slow"):
        assert (
            cluster.view().pod("qdrant-0", "llm-system").containers[0]["resources"]["limits"]["cpu"]
            == LEAST_CPU
        )
    else:
        assert specs(cluster) != before or {pod.name for pod in cluster.view().pods("llm-system")} != pods
    for _ in range(2):  # an undo that is carried out twice does no harm
        for step in without_waiting(plan.undo):
            carry_out(cluster, step)
    after = specs(cluster)
    for item in after.values():
        item["annotations"].pop("course.llm-stack/nudged", None)
    if name.startswith("drain"):
        after["/nodes//substrate"]["spec"] = before["/nodes//substrate"]["spec"]
        assert not cluster.view().get("Node", "substrate").path("spec.unschedulable")
    assert after == before


def test_the_gpu_fault_marks_devices_and_marks_them_healthy_again_through_the_command_line() -> None:
    plan = fault("gpu-vllm").plan(stack().view())
    marks = [
        (step.verb, step.body["unhealthy"]) for step in (*plan.inject, *plan.undo) if step.kind == "Node"
    ]
    assert marks == [("gpu", True), ("gpu", False)]
    assert any(step.verb == "delete" for step in plan.inject)


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_every_fault_names_its_layer_and_its_cause(name: str) -> None:
    assert fault(name).layer in LAYERS
    assert fault(name).cause in CAUSES


def test_a_fault_on_a_backend_without_pods_has_nothing_to_break() -> None:
    cluster = stack()
    cluster.delete("Pod", "vllm-1", "llm-system")
    with pytest.raises(ObjectMissing):
        fault("delete-vllm").plan(cluster.view())


@pytest.mark.parametrize(
    "step",
    [
        Step("delete", "Pod", "coredns", "kube-system"),
        Step("delete", "Namespace", "llm-system"),
        Step("delete", "Node", "substrate"),
        Step("patch", "Node", "substrate", None, {"spec": {"taints": []}}),
        Step("apply", "ConfigMap", "x", "default", {}),
    ],
)
def test_no_step_leaves_the_labs_namespaces(step: Step) -> None:
    with pytest.raises(FaultNotAllowed):
        Plan((step,))
    with pytest.raises(FaultNotAllowed):
        carry_out(stack(), step)


def test_a_cluster_whose_profile_does_not_allow_faults_is_not_broken() -> None:
    profile = default_profile()
    cluster = FakeCluster(profile=type(profile)(**{**profile.__dict__, "allows_faults": False}))
    with pytest.raises(FaultNotAllowed, match="allows_faults"):
        run(cluster, fault("service-qdrant"))


# Running


def quick_fault(name: str = "service-qdrant") -> Any:
    import dataclasses

    return dataclasses.replace(fault(name), watch_s=0.3)


def test_an_experiment_undoes_its_fault_and_leaves_a_sealed_journal_in_the_cluster() -> None:
    cluster = stack()
    before = specs(cluster)
    finished = run(cluster, quick_fault())
    assert finished.steady_after
    after = specs(cluster)
    assert {key: after[key] for key in before} == before
    record = published(cluster.view(), "service-qdrant")
    kinds = [entry["kind"] for entry in record.entries]
    assert (
        kinds.index("undo-written")
        < kinds.index("inject")
        < kinds.index("undo")
        < kinds.index("steady-after")
    )
    assert undo.pending(cluster.identity().uid) == []


def test_the_undo_is_on_disk_before_the_fault_is_in_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = stack()
    seen = []

    def spy(target: FakeCluster, step: Step) -> None:
        if step.verb == "patch":
            seen.append(len(undo.pending(cluster.identity().uid)))
        carry_out(target, step)

    monkeypatch.setattr(experiment, "carry_out", spy)
    run(cluster, quick_fault())
    assert seen == [1]


def test_nothing_is_injected_when_the_system_is_not_steady() -> None:
    cluster = stack()
    cluster.add_pod("vllm-1", "llm-system", labels={"app": "vllm"}, ready=False)
    before = specs(cluster)
    with pytest.raises(NotSteady, match="vllm-1 is not Ready"):
        run(cluster, quick_fault())
    assert specs(cluster) == before


def test_nothing_is_injected_when_a_client_is_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment, "CLIENTS_TIMEOUT_S", 0.1)
    cluster = stack()
    cluster.exec_handler = lambda namespace, pod, command, stdin: ExecResult(0, "1.0\n", "")
    before = selector(cluster)
    with pytest.raises(NotSteady, match="no attempt was seen"):
        run(cluster, quick_fault())
    assert selector(cluster) == before
    assert undo.pending(cluster.identity().uid) == []


def test_an_empty_selection_is_not_steady() -> None:
    cluster = stack()
    cluster.delete("Pod", "qdrant-0", "llm-system")
    with pytest.raises(NotSteady, match="qdrant"):
        experiment.steady_state(cluster.view())


def selector(cluster: FakeCluster) -> dict[str, str]:
    return cluster.view().service("qdrant").selector


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_ctrl_c_and_errors_of_our_own_undo_first(interruption: type[BaseException]) -> None:
    cluster = stack()

    def interrupted() -> None:
        assert selector(cluster) != {"app.kubernetes.io/name": "qdrant"}
        raise interruption

    with pytest.raises(interruption):
        run(cluster, quick_fault(), during=interrupted)
    assert selector(cluster) == {"app.kubernetes.io/name": "qdrant"}
    assert undo.pending(cluster.identity().uid) == []


def test_cancelling_undoes_and_publishes_nothing() -> None:
    cluster = stack()
    asked = iter([False, False, False])
    with pytest.raises(Cancelled):
        run(cluster, fault("service-qdrant"), should_stop=lambda: next(asked, True))
    assert selector(cluster) == {"app.kubernetes.io/name": "qdrant"}
    assert cluster.view().find("ConfigMap", "journal-service-qdrant", "llm-probes") is None


def test_stopping_while_it_is_undone_publishes_nothing() -> None:
    cluster = stack()
    before, stopped = selector(cluster), []

    def after() -> None:
        stopped.append(True)

    with pytest.raises(Cancelled):
        run(cluster, quick_fault(), after=after, should_stop=lambda: bool(stopped))
    assert selector(cluster) == before
    assert undo.pending(cluster.identity().uid) == []
    assert cluster.view().find("ConfigMap", "journal-service-qdrant", "llm-probes") is None


def test_a_lost_api_server_leaves_the_undo_on_disk_for_recover() -> None:
    cluster = stack()
    uid = cluster.identity().uid
    with pytest.raises(ClusterUnreachable, match="before the undo"):
        run(cluster, quick_fault(), during=cluster.go_down)
    cluster.fail_with(None)
    assert selector(cluster) != {"app.kubernetes.io/name": "qdrant"}
    assert [entry.experiment for entry in undo.pending(uid)] == ["service-qdrant"]
    assert recover(cluster) == ["service-qdrant"]
    assert selector(cluster) == {"app.kubernetes.io/name": "qdrant"}
    assert recover(cluster) == []


def test_the_next_experiment_refuses_while_a_fault_is_left(tmp_path: Path) -> None:
    cluster = stack()
    folder = journal.experiments_dir(cluster.identity().uid) / "left"
    undo.write_undo(folder, "delete-vllm", [])
    with pytest.raises(NotSteady, match="left its fault"):
        run(cluster, quick_fault())


def test_recover_leaves_a_running_experiment_to_its_own_process() -> None:
    cluster = stack()
    folder = journal.experiments_dir(cluster.identity().uid) / "other"
    undo.write_undo(folder, "delete-vllm", [])
    content = json.loads((folder / undo.UNDO).read_text())
    content["owner"] = os.getppid()
    (folder / undo.UNDO).write_text(json.dumps(content))
    assert recover(cluster) == []
    assert recover(cluster, force=True) == ["delete-vllm"]


def test_an_undo_step_that_fails_does_not_stop_the_others_and_stays_on_disk() -> None:
    cluster = stack()
    folder = journal.experiments_dir(cluster.identity().uid) / "half"
    unknown = {"apiVersion": "v9", "kind": "Nothing", "metadata": {"name": "x", "namespace": "llm-system"}}
    bad = Step("apply", "Nothing", "x", "llm-system", unknown)
    good = Step("scale", "StatefulSet", "qdrant", "llm-system", {"replicas": 2})
    entry = undo.write_undo(folder, "x", [bad, good])
    with pytest.raises(undo.UndoFailed, match="apply Nothing x"):
        undo.undo(cluster, entry)
    assert cluster.view().stateful_set("qdrant").replicas == 2
    assert undo.pending(cluster.identity().uid)


# Journal


def entries() -> list[dict[str, Any]]:
    return [
        {"kind": "start", "experiment": "x", "cluster": "uid"},
        {"kind": "sample", "t": 1.0, "pods": [], "endpoints": {}},
        {"kind": "clients", "t": 2.0, "attempts": [[1.0, "inference", "ok", 200, 3.0]]},
        {"kind": "end", "t": 3.0, "steady": True},
    ]


def test_a_journal_as_it_was_written_verifies() -> None:
    verify(parse(sealed_text(KEY, entries())), KEY, "uid")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda lines: [*lines[:2], lines[2].replace('"ok"', '"refused"'), *lines[3:]], "entry 2"),
        (lambda lines: lines[:1] + lines[2:], "entry 1"),
        (lambda lines: [lines[0], lines[2], lines[1], lines[3]], "entry 1"),
        (lambda lines: lines[:-1], "breaks off"),
        (lambda lines: [*lines, lines[-1]], "entry 4"),
    ],
    ids=["changed", "removed", "swapped", "cut off", "added"],
)
def test_a_journal_edited_by_hand_is_caught(edit: Any, said: str) -> None:
    lines = sealed_text(KEY, entries()).splitlines()
    with pytest.raises(JournalBroken, match=said):
        verify(parse("\n".join(edit(lines))), KEY, "uid")


def test_a_journal_of_another_cluster_or_another_key_does_not_verify() -> None:
    record = parse(sealed_text(KEY, entries()))
    with pytest.raises(JournalBroken, match="another cluster"):
        verify(record, KEY, "other")
    with pytest.raises(JournalBroken):
        verify(record, b"other", "uid")


def test_a_half_written_last_line_is_dropped() -> None:
    assert len(parse(sealed_text(KEY, entries()) + '{"n": 4, "ki').entries) == 4


# Clients


@pytest.mark.parametrize(
    ("code", "status", "connected", "said", "outcome"),
    [
        (0, 200, 0.001, "", "ok"),
        (0, 503, 0.001, "", "HTTP 503"),
        (7, 0, 0.0, "", "refused"),
        (28, 0, 0.0, "Connection timed out", "timeout"),
        (28, 0, 0.001, "Operation timed out", "timeout"),
        (28, 0, 0.0, "Resolving timed out", "dns"),
        (6, 0, 0.0, "Could not resolve host", "dns"),
        (56, 0, 0.001, "Recv failure: Connection reset by peer", "reset"),
        (52, 0, 0.001, "Empty reply from server", "reset"),
    ],
)
def test_what_a_client_saw_is_one_word(
    code: int, status: int, connected: float, said: str, outcome: str
) -> None:
    assert outcome_of(code, status, connected, said) == outcome


def test_client_lines_are_read_and_others_skipped() -> None:
    text = "1700000000.25 inference 200 0 0.061000 0.001000 \nnoise\n1700000000.50 retrieval 000 7 0.001 0.000 Failed"
    assert [(item.client, item.ok, item.ms) for item in parse_attempts(text)] == [
        ("inference", True, 61.0),
        ("retrieval", False, 1.0),
    ]


def sample(t: float, uid: str, ready: int, restarts: int = 0) -> dict[str, Any]:
    pod = {"backend": "vllm", "name": f"vllm-{uid}", "uid": uid, "ready": bool(ready), "restarts": restarts}
    return {"kind": "sample", "t": t, "pods": [pod], "endpoints": {"vllm": {"ready": ready, "all": 1}}}


def test_the_record_tells_replaced_pods_gaps_and_interruptions() -> None:
    rows = [
        [1.0, "inference", "ok", 200, 1.0],
        [2.1, "inference", "refused", None, 1.0],
        [4.2, "inference", "ok", 200, 1.0],
    ]
    record = parse(
        sealed_text(
            KEY,
            [
                {"kind": "start"},
                sample(1.0, "old", 1),
                {"kind": "inject", "t": 2.0},
                sample(2.0, "old", 0),
                sample(3.0, "new", 0),
                sample(4.0, "new", 1),
                {"kind": "clients", "t": 5.0, "attempts": rows},
                {"kind": "end"},
            ],
        )
    )
    assert [pod.uid for pod in evidence.pods(record, "vllm")] == ["old", "new"]
    assert evidence.endpoint_gap_s(record, "vllm") == pytest.approx(2.0)
    assert evidence.main_symptom(record, "vllm") == "refused"
    assert evidence.interrupted_s(record, "inference") == pytest.approx(2.1)
    assert evidence.availability(evidence.attempts(record, "inference")) == pytest.approx(2 / 3)


# A slow backend


def slowed(before_ms: float, under_ms: float) -> journal.Record:
    """A journal of two ticks before the fault and two under it, three requests each."""
    rows = [[t, "retrieval", "ok", 200, before_ms] for t in (1.0, 1.25) for _ in range(3)]
    rows += [[t, "retrieval", "ok", 200, ms] for t in (3.0, 3.25) for ms in (before_ms, under_ms, before_ms)]
    entries: list[journal.Entry] = [
        {"kind": "inject", "t": 2.0},
        {"kind": "injected", "t": 2.5},
        {"kind": "clients", "attempts": rows},
        {"kind": "undo", "t": 4.0},
    ]
    return journal.Record(tuple(entries))


def test_a_slow_backend_is_measured_against_its_own_steady_state() -> None:
    assert evidence.slowdown(slowed(1.0, 98.0), "retrieval") == pytest.approx(100 / 3)
    assert evidence.slowdown(slowed(100.0, 9800.0), "retrieval") == pytest.approx(100 / 3)
    assert evidence.slowdown(slowed(1.0, 1.0), "retrieval") == 1
    assert evidence.slowdown(slowed(1.0, 1.0), "inference") is None


def test_a_resize_is_injected_only_when_the_container_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = stack()
    (inject,) = fault("slow-qdrant").plan(cluster.view()).inject

    def kubelet_says(cpu: str) -> None:
        status = {"name": "main", "resources": {"limits": {"cpu": cpu}}}
        cluster.patch(
            "Pod", "qdrant-0", {"status": {"containerStatuses": [status]}}, "llm-system", subresource="status"
        )

    waited: list[float] = []

    def time_passes(seconds: float) -> None:
        waited.append(seconds)
        kubelet_says("0.001")

    kubelet_says("1")
    monkeypatch.setattr(cluster.clock, "sleep", time_passes)
    carry_out(cluster, inject)
    assert len(waited) == 1


def test_the_starved_backend_is_asked_more_than_an_idle_one_notices() -> None:
    cluster, commands = stack(), []

    def listening(namespace: str, pod: str, command: list[str], stdin: str | None) -> ExecResult:
        commands.append(command[-1])
        return served(namespace, pod, command, stdin)

    cluster.exec_handler = listening
    run(cluster, quick_fault("slow-qdrant"))
    (started,) = (text for text in commands if "QUERIES=" in text)
    assert "QUERIES=16" in started
    run(cluster, quick_fault("service-qdrant"))
    assert "QUERIES=1 " in next(text for text in reversed(commands) if "QUERIES=" in text)
