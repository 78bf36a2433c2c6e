"""The GPU queue: every rule on its own, then the quotas and pods that follow a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from helpers.classroom.folder import Member
from helpers.classroom.roster import Learner
from helpers.classroom.seats import rights
from helpers.classroom.seats.gpu_turns import (
    LEASE,
    Queue,
    QueueOff,
    Request,
    advance,
    decide,
    join,
    leave,
    read,
    turn_off,
)
from helpers.cluster import Cluster, Scope
from helpers.cluster.fake import FakeCluster
from helpers.errors import Refused

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
NAME = "class"


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def line(*suffixes: str) -> list[Request]:
    return [Request(suffix, after(place)) for place, suffix in enumerate(suffixes)]


def step(queue: Queue, minutes: float, who: Sequence[str], in_use: Mapping[str, int] | None = None) -> Queue:
    return decide(queue, line(*who), in_use or {}, after(minutes))


def test_the_first_in_line_has_the_card_and_the_others_wait_in_their_order() -> None:
    queue = step(Queue(), 3, ["ada", "lin", "kim"])
    assert (queue.holder, queue.waiting, queue.said) == ("ada", ("lin", "kim"), "ada was first in line")


def test_who_asked_in_the_same_second_is_ordered_by_name() -> None:
    queue = decide(Queue(), [Request("lin", NOON), Request("ada", NOON)], {}, NOON)
    assert (queue.holder, queue.waiting) == ("ada", ("lin",))


def test_a_card_that_nobody_uses_goes_to_the_next_after_the_idle_time() -> None:
    queue = step(Queue(idle_min=10), 0, ["ada", "lin"])
    assert step(queue, 9.9, ["ada", "lin"]).holder == "ada"
    queue = step(queue, 10, ["ada", "lin"])
    assert (queue.holder, queue.said) == ("lin", "ada did not use the card for 10 min")


def test_use_starts_the_idle_time_anew() -> None:
    queue = step(Queue(idle_min=10), 0, ["ada", "lin"])
    queue = step(queue, 8, ["ada", "lin"], {"ada": 1})
    assert queue.idle_since == ""
    queue = step(queue, 12, ["ada", "lin"])
    assert step(queue, 21, ["ada", "lin"]).holder == "ada"
    assert step(queue, 22, ["ada", "lin"]).holder == "lin"


def test_an_idle_card_is_given_back_also_when_nobody_waits() -> None:
    queue = step(step(Queue(idle_min=10), 0, ["ada"]), 10, ["ada"])
    assert (queue.holder, queue.waiting) == ("", ())


def test_a_busy_turn_ends_only_when_it_is_long_and_others_wait() -> None:
    queue = step(Queue(turn_min=45), 0, ["ada"])
    assert step(queue, 300, ["ada"], {"ada": 1}).holder == "ada"
    assert step(queue, 44, ["ada", "lin"], {"ada": 1}).holder == "ada"
    ended = step(queue, 45, ["ada", "lin"], {"ada": 1})
    assert (ended.holder, ended.said) == ("lin", "ada had the card for 45 min, and others wait")


def test_who_leaves_gives_the_card_to_the_next() -> None:
    queue = step(Queue(), 0, ["ada", "lin"])
    queue = step(queue, 1, ["lin"], {"ada": 1})
    assert (queue.holder, queue.since, queue.said) == ("lin", after(1).isoformat(), "ada left")


def test_an_unreadable_state_is_an_empty_queue() -> None:
    queue = Queue(holder="ada", since=NOON.isoformat(), waiting=("lin",), turn_min=5)
    assert Queue.from_json(queue.to_json()) == queue
    assert [Queue.from_json(text) for text in ("", "[]", "{", '{"waiting": 3}')] == [Queue()] * 4


# On a cluster


@pytest.fixture
def members() -> list[Member]:
    return [Member.new(Learner(name, name, "")) for name in ("ada", "lin")]


@pytest.fixture
def cluster(members: list[Member]) -> FakeCluster:
    cluster = FakeCluster()
    namespaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for member in members
        for name in rights.namespaces_of(member)
    ]
    home = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": rights.prefix(NAME)}}
    cluster.apply([*namespaces, home])
    return cluster


def learner(cluster: FakeCluster, suffix: str) -> Cluster:
    return Cluster(cluster.backend, scope=Scope(suffix))


def ask_for_the_card(cluster: FakeCluster, suffix: str, minute: int) -> None:
    """Join, at a time that the API server would have written."""
    assert join(learner(cluster, suffix))
    lease = cluster.view().get("Lease", LEASE, f"llm-apps-{suffix}").raw
    stamp = after(minute).isoformat().replace("+00:00", "Z")
    cluster.put({**lease, "metadata": {**lease["metadata"], "creationTimestamp": stamp}})


def closed(cluster: FakeCluster) -> set[str]:
    """Whose work namespaces the queue keeps from the card, all of them."""
    quotas = cluster.view().list("ResourceQuota", all_namespaces=True)
    names = {quota.namespace for quota in quotas if quota.name == rights.TURN}
    return {
        suffix
        for suffix in ("ada", "lin")
        if all(f"{name}-{suffix}" in names for name in ("llm-system", "llm-apps", "llm-workshop"))
    }


def gpu_pod(cluster: FakeCluster, name: str, namespace: str, *, count: int = 1, placed: bool = True) -> None:
    spec: dict[str, Any] = {
        "containers": [
            {"name": "main", "image": "x", "resources": {"limits": {"nvidia.com/gpu": str(count)}}}
        ]
    }
    cluster.add_pod(name, namespace, phase="Running" if placed else "Pending", spec=spec)


def look(cluster: FakeCluster, members: list[Member], minute: float) -> Queue:
    return advance(cluster, NAME, members, now=after(minute)).queue


def test_the_quota_of_everybody_but_the_holder_is_closed(cluster: FakeCluster, members: list[Member]) -> None:
    assert look(cluster, members, 0).holder == ""
    assert closed(cluster) == {"ada", "lin"}
    with pytest.raises(Refused, match="exceeded quota: gpu-turn"):
        learner(cluster, "ada").create(one_gpu_pod())
    ask_for_the_card(cluster, "ada", 1)
    ask_for_the_card(cluster, "lin", 2)
    queue = look(cluster, members, 3)
    assert (queue.holder, queue.waiting) == ("ada", ("lin",))
    assert closed(cluster) == {"lin"}
    assert learner(cluster, "ada").create(one_gpu_pod())


def one_gpu_pod() -> dict[str, Any]:
    resources = {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "one", "namespace": "llm-system"},
        "spec": {"containers": [{"name": "main", "image": "x", "resources": resources}]},
    }


def test_a_second_look_changes_nothing(cluster: FakeCluster, members: list[Member]) -> None:
    ask_for_the_card(cluster, "ada", 0)
    look(cluster, members, 1)
    cluster.backend.requests.clear()
    assert advance(cluster, NAME, members, now=after(1)).done == ()
    assert {method for method, _ in cluster.backend.requests} == {"GET"}


def test_when_a_turn_ends_its_pods_end_and_its_place_is_the_last(
    cluster: FakeCluster, members: list[Member]
) -> None:
    ask_for_the_card(cluster, "ada", 0)
    look(cluster, members, 0)
    ask_for_the_card(cluster, "lin", 1)
    gpu_pod(cluster, "vllm", "llm-system-ada")
    gpu_pod(cluster, "next", "llm-workshop-ada", placed=False)
    gpu_pod(cluster, "greedy", "llm-workshop-ada", count=16, placed=False)
    cluster.add_pod("web", "llm-apps-ada")
    assert look(cluster, members, 44).holder == "ada"
    assert look(cluster, members, 45).holder == "lin"
    pods = {item.name for item in cluster.view().list("Pod", all_namespaces=True)}
    # What could never take the card stays, as an exercise needs it; what needs none is nobody's business.
    assert pods == {"greedy", "web"}
    assert closed(cluster) == {"ada"}
    assert cluster.view().find("Lease", LEASE, "llm-apps-ada") is None


def test_a_killed_process_is_caught_up_with(cluster: FakeCluster, members: list[Member]) -> None:
    ask_for_the_card(cluster, "ada", 0)
    look(cluster, members, 0)
    cluster.delete("ResourceQuota", rights.TURN, "llm-workshop-lin")
    cluster.apply(rights.closed_turn(NAME, "llm-system-ada", ["nvidia.com/gpu"]))
    look(cluster, members, 1)
    assert closed(cluster) == {"lin"}
    assert cluster.view().find("ResourceQuota", rights.TURN, "llm-system-ada") is None


def test_two_instructors_do_not_give_the_card_away_twice(
    cluster: FakeCluster, members: list[Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_for_the_card(cluster, "ada", 0)
    look(cluster, members, 0)
    cluster.delete("Lease", LEASE, "llm-apps-ada")
    ask_for_the_card(cluster, "lin", 1)
    once: list[str] = []

    def meanwhile(method: str, path: str) -> None:
        if method == "PUT" and not once:
            once.append(path)
            stored = cluster.view().get("ConfigMap", rights.QUEUE, rights.prefix(NAME))
            other = replace(Queue.from_json(stored.path("data.queue")), holder="lin", said="the other's")
            cluster.patch("ConfigMap", stored.name, {"data": {"queue": other.to_json()}}, stored.namespace)

    cluster.fail_with(meanwhile)
    found = look(cluster, members, 2)
    assert once
    assert (found.holder, found.said) == ("lin", "the other's")


def test_a_removed_learner_loses_the_turn(cluster: FakeCluster, members: list[Member]) -> None:
    ask_for_the_card(cluster, "ada", 0)
    look(cluster, members, 0)
    ask_for_the_card(cluster, "lin", 1)
    assert look(cluster, members[1:], 2).holder == "lin"


def test_joining_and_leaving_are_the_learners_own_lease(cluster: FakeCluster, members: list[Member]) -> None:
    ada = learner(cluster, "ada")
    assert [join(ada), join(ada)] == [True, False]
    assert [leave(ada), leave(ada)] == [True, False]
    with pytest.raises(QueueOff, match="whoever asks first"):
        read(ada, NAME)


def test_off_opens_everybody(cluster: FakeCluster, members: list[Member]) -> None:
    ask_for_the_card(cluster, "ada", 0)
    look(cluster, members, 0)
    assert turn_off(cluster, NAME, members)
    assert closed(cluster) == set()
    assert cluster.view().find("Lease", LEASE, "llm-apps-ada") is None
    assert turn_off(cluster, NAME, members) == []
