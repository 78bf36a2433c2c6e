"""Waits: one deadline, at least one look, an early end, and diagnostics only for what failed."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cluster import ClusterView, Deadline, NotYet
from helpers.cluster.fake import FakeCluster
from helpers.errors import ClusterUnreachable, Forbidden, ProbeInconclusive, WaitRejected, WaitTimeout


class FakeClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.at: dict[float, Any] = {}

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += max(seconds, 1e-6)
        for moment in sorted(moment for moment in self.at if moment <= self.now_s):
            self.at.pop(moment)()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def fake(clock: FakeClock) -> FakeCluster:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}}
    return FakeCluster(namespace, clock=clock)


def deployment(replicas: int = 1, **status: Any) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "vllm", "namespace": "llm-system"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "vllm"}}},
        "status": {"observedGeneration": 1, **status},
    }


READY = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1, "readyReplicas": 1}


def test_a_wait_returns_what_its_condition_returned(fake: FakeCluster) -> None:
    assert (
        fake.wait_until("there", lambda view: view.namespace("llm-system"), timeout_s=0).name == "llm-system"
    )


def test_a_wait_without_time_still_looks_once(fake: FakeCluster, clock: FakeClock) -> None:
    with pytest.raises(WaitTimeout, match="not within 0 s; last seen: no Pod named x"):
        fake.wait_until("pod x", lambda view: view.pod("x", "llm-system"), timeout_s=0)
    assert clock.now_s == 0


def test_a_wait_ends_on_its_deadline_and_says_what_it_saw_last(fake: FakeCluster, clock: FakeClock) -> None:
    def condition(view: ClusterView) -> None:
        raise NotYet(f"seen at {clock.now_s:.0f}")

    with pytest.raises(WaitTimeout) as caught:
        fake.wait_until("something", condition, timeout_s=10)
    assert clock.now_s == pytest.approx(10, abs=0.01)
    assert caught.value.last == "seen at 10"


def test_zero_is_a_value(fake: FakeCluster) -> None:
    assert fake.wait_until("zero", lambda view: 0, timeout_s=0) == 0


@pytest.mark.parametrize("nothing", [None, False, [], {}, ""])
def test_nothing_is_not_yet(fake: FakeCluster, nothing: object) -> None:
    with pytest.raises(WaitTimeout, match="nothing yet"):
        fake.wait_until("something", lambda view: nothing, timeout_s=0)


def test_progress_tells_how_long_and_for_what(fake: FakeCluster) -> None:
    told: list[tuple[float, str]] = []
    with pytest.raises(WaitTimeout):
        fake.wait_until(
            "pod x",
            lambda view: view.pod("x", "llm-system"),
            timeout_s=1,
            on_progress=lambda elapsed_s, seen: told.append((elapsed_s, seen)),
        )
    assert told[0] == (0.0, "no Pod named x in namespace llm-system")
    assert [elapsed for elapsed, _ in told] == sorted(elapsed for elapsed, _ in told)


def test_an_api_server_that_restarts_is_waited_for(fake: FakeCluster, clock: FakeClock) -> None:
    fake.go_down()
    clock.at[3.0] = lambda: fake.fail_with(None)
    assert (
        fake.wait_until("back", lambda view: view.namespace("llm-system"), timeout_s=10).name == "llm-system"
    )
    assert 3 <= clock.now_s < 4


def test_an_api_server_that_stays_away_is_the_last_thing_seen(fake: FakeCluster) -> None:
    fake.go_down()
    with pytest.raises(WaitTimeout, match="the fake cluster is down"):
        fake.wait_ready("Deployment", "vllm", "llm-system", timeout_s=2)


def test_what_is_forbidden_is_not_waited_for(fake: FakeCluster, clock: FakeClock) -> None:
    def condition(view: ClusterView) -> None:
        raise Forbidden("no")

    with pytest.raises(Forbidden):
        fake.wait_until("anything", condition, timeout_s=10)
    assert clock.now_s == 0


def test_a_deployment_is_ready_when_its_rollout_is_complete(fake: FakeCluster, clock: FakeClock) -> None:
    fake.put(deployment())
    clock.at[5.0] = lambda: fake.put(deployment(**READY))
    fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=30)
    assert 5 <= clock.now_s < 6


def test_a_refused_replica_ends_the_wait_with_the_quota_s_words(fake: FakeCluster, clock: FakeClock) -> None:
    words = 'pods "vllm-1" is forbidden: exceeded quota: llm-system-quota'
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
    fake.put(deployment(conditions=[condition]))
    with pytest.raises(WaitRejected, match="exceeded quota: llm-system-quota") as caught:
        fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=30)
    assert any("ReplicaFailure" in line for line in caught.value.diagnostics)


def test_a_refusal_that_passes_does_not_end_the_wait(fake: FakeCluster, clock: FakeClock) -> None:
    """A quota counts pods for a moment after they are gone; the controller tries again."""
    words = 'pods "vllm-1" is forbidden: exceeded quota: llm-system-quota, used: pods=8'
    condition = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": words}
    fake.put(deployment(conditions=[condition]))
    clock.at[4.0] = lambda: fake.put(deployment())
    clock.at[20.0] = lambda: fake.put(deployment(**READY))
    fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=30)


def test_a_stateful_set_s_refusal_is_read_from_its_events(fake: FakeCluster) -> None:
    item = {**deployment(), "kind": "StatefulSet"}
    item["metadata"] = {"name": "qdrant", "namespace": "llm-system"}
    fake.put(item)
    fake.add_event("llm-system", ("StatefulSet", "qdrant"), "FailedCreate", "exceeded quota: q")
    with pytest.raises(WaitRejected, match="exceeded quota: q") as caught:
        fake.wait_rollout("StatefulSet", "qdrant", "llm-system", timeout_s=30)
    assert caught.value.next_command == "kubectl describe statefulset qdrant -n llm-system"


def test_an_old_refusal_does_not_count_once_the_pods_are_there(fake: FakeCluster) -> None:
    item = {**deployment(), "kind": "StatefulSet", "status": {**READY, "readyReplicas": 0}}
    item["metadata"] = {"name": "qdrant", "namespace": "llm-system"}
    fake.put(item)
    fake.add_event("llm-system", ("StatefulSet", "qdrant"), "FailedCreate", "exceeded quota: q")
    with pytest.raises(WaitTimeout):
        fake.wait_rollout("StatefulSet", "qdrant", "llm-system", timeout_s=3)


def test_an_old_refusal_does_not_count_once_a_pod_was_created_since(fake: FakeCluster) -> None:
    """A StatefulSet that is scaled to 0 and to 1 again has no pod, and events of an hour ago."""
    item = {**deployment(), "kind": "StatefulSet"}
    item["metadata"] = {"name": "qdrant", "namespace": "llm-system"}
    fake.put(item)
    about = ("StatefulSet", "qdrant")
    fake.add_event("llm-system", about, "FailedCreate", "exceeded quota: q")
    fake.add_event("llm-system", about, "SuccessfulCreate", "Create Pod qdrant-0")
    with pytest.raises(WaitTimeout):
        fake.wait_rollout("StatefulSet", "qdrant", "llm-system", timeout_s=3)


def waiting(reason: str, *, restarts: int = 0) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": "details"}}
    container = {"name": "main", "ready": False, "restartCount": restarts, "state": state}
    return {"phase": "Pending", "containerStatuses": [container]}


@pytest.mark.parametrize(
    "reason", ["ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError"]
)
def test_a_container_that_cannot_start_ends_the_wait(
    fake: FakeCluster, clock: FakeClock, reason: str
) -> None:
    fake.put(deployment())
    fake.add_pod("vllm-1", "llm-system", labels={"app": "vllm"}, ready=False, status=waiting(reason))
    with pytest.raises(WaitRejected, match=f"pod vllm-1: container main: {reason} details"):
        fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=30)
    assert clock.now_s == 0


def test_a_pod_that_failed_for_good_ends_the_wait(fake: FakeCluster, clock: FakeClock) -> None:
    terminated = {"terminated": {"exitCode": 2, "reason": "Error"}}
    status = {"containerStatuses": [{"name": "main", "ready": False, "state": terminated}]}
    fake.add_pod("once", "llm-system", phase="Failed", status=status)
    with pytest.raises(WaitRejected, match=r"pod once failed: container main: Error \(exit code 2\)"):
        fake.wait_ready("Pod", "once", "llm-system", timeout_s=30)
    assert clock.now_s == 0


def test_a_rollout_past_its_own_deadline_ends_the_wait(fake: FakeCluster) -> None:
    condition = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": "late",
    }
    fake.put(deployment(conditions=[condition]))
    with pytest.raises(WaitRejected, match="late"):
        fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=30)


def test_a_failed_job_ends_the_wait(fake: FakeCluster) -> None:
    condition = {"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded", "message": "too often"}
    metadata = {"name": "load", "namespace": "llm-system"}
    fake.put(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "status": {"conditions": [condition]}}
    )
    with pytest.raises(WaitRejected, match="too often"):
        fake.wait_ready("Job", "load", "llm-system", timeout_s=30)


def test_one_crash_may_pass_and_three_do_not(fake: FakeCluster) -> None:
    def crashed(restarts: int) -> None:
        status = waiting("CrashLoopBackOff", restarts=restarts)
        fake.add_pod("vllm-1", "llm-system", labels={"app": "vllm"}, ready=False, status=status)

    fake.put(deployment())
    crashed(1)
    with pytest.raises(WaitTimeout):
        fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=3)
    crashed(3)
    with pytest.raises(WaitRejected, match="CrashLoopBackOff"):
        fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=3)


def test_a_failed_wait_carries_conditions_events_and_the_log(fake: FakeCluster) -> None:
    fake.put(deployment())
    status = waiting("CrashLoopBackOff", restarts=5)
    fake.add_pod("vllm-1", "llm-system", labels={"app": "vllm"}, ready=False, status=status)
    fake.add_event("llm-system", ("Pod", "vllm-1"), "BackOff", "restarting failed container")
    fake.add_event("llm-system", ("Pod", "other"), "BackOff", "of no interest")
    fake.set_log("llm-system", "vllm-1", "loading\nValueError: VLLM_PORT\n", previous=True)
    with pytest.raises(WaitRejected) as caught:
        fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=3)
    text = "\n".join(caught.value.diagnostics)
    assert "BackOff on Pod vllm-1: restarting failed container" in text
    assert "log of vllm-1/main: ValueError: VLLM_PORT" in text
    assert "of no interest" not in text


def test_a_container_that_is_down_tells_of_this_end_and_not_of_the_one_before(fake: FakeCluster) -> None:
    ended = {"terminated": {"exitCode": 1, "reason": "Error"}}
    container = {"name": "main", "ready": False, "restartCount": 5, "state": ended, "lastState": ended}
    fake.put(deployment())
    status = {"containerStatuses": [container]}
    fake.add_pod("vllm-1", "llm-system", labels={"app": "vllm"}, ready=False, status=status)
    fake.set_log("llm-system", "vllm-1", "the time before", previous=True)
    fake.set_log("llm-system", "vllm-1", "this time")
    with pytest.raises(WaitTimeout) as caught:
        fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=3)
    text = "\n".join(caught.value.diagnostics)
    assert "log of vllm-1/main: this time" in text and "the time before" not in text


def test_diagnostics_cost_nothing_while_all_goes_well(fake: FakeCluster) -> None:
    fake.put(deployment(**READY))
    fake.backend.requests.clear()
    fake.wait_rollout("Deployment", "vllm", "llm-system", timeout_s=3)
    assert [path.rsplit("/", 1)[1] for _, path in fake.backend.requests] == ["vllm"]


def test_a_deadline_hands_down_what_remains(clock: FakeClock) -> None:
    deadline = Deadline(5, clock)
    assert deadline.grant(2, "a call") == 2
    clock.sleep(4)
    assert deadline.grant(2, "a call") == pytest.approx(1)
    clock.sleep(1)
    with pytest.raises(ProbeInconclusive, match="the 5 s ran out before a call"):
        deadline.grant(2, "a call")


def test_a_view_past_its_deadline_asks_nothing(fake: FakeCluster, clock: FakeClock) -> None:
    view = fake.view(Deadline(1, clock))
    clock.sleep(2)
    fake.backend.requests.clear()
    with pytest.raises(ProbeInconclusive):
        view.namespace("llm-system")
    assert fake.backend.requests == []


def test_an_unreachable_cluster_is_reported_outside_of_waits(fake: FakeCluster) -> None:
    fake.go_down()
    with pytest.raises(ClusterUnreachable):
        fake.identity()
