"""What the orchestrator keeps in Redis, on a real one: leases, keys, checkpoints, and how long each lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import pytest
from langgraph.checkpoint.redis.aio import AsyncRedisSaver
from langgraph.graph import END, START, StateGraph

from helpers.apps.orchestrator.errors import StateUnavailable
from helpers.apps.orchestrator.runs import every
from helpers.apps.orchestrator.state import Lease, Store
from tests.contract.redis_process import RedisProcess

T = TypeVar("T")
RECORD = {"state": "running", "request_id": "r", "thread_id": "t", "body": "b"}
ANSWER = {"state": "done", "request_id": "r", "body": "b", "answer": {"answer": "yes"}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    process.start()
    yield process
    process.kill()


@pytest.fixture(autouse=True)
def empty(server: RedisProcess) -> None:
    with server.client() as client:
        for key in client.scan_iter("*"):
            client.delete(key)


def store_of(
    server: RedisProcess, *, lease_s: float = 30, ttl_minutes: int = 10, group: str = "pods"
) -> Store:
    return Store(server.url, group=group, lease_s=lease_s, thread_ttl_minutes=ttl_minutes, answer_ttl_s=600)


def on(server: RedisProcess, work: Callable[[Store], Awaitable[T]], **options: Any) -> T:
    async def run() -> T:
        store = store_of(server, **options)
        try:
            await store.prepare()
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def lease(holder: str, *, thread: str = "t", key: str = "k") -> Lease:
    return Lease("docs", thread, holder, key)


def test_one_of_five_begins_and_the_others_learn_of_it(server: RedisProcess) -> None:
    async def five(store: Store) -> list[str]:
        begun = await asyncio.gather(*(store.begin(lease(f"pod/{n}"), RECORD) for n in range(5)))
        return sorted(item.outcome for item in begun)

    assert on(server, five) == ["known"] * 4 + ["mine"]


def test_another_question_finds_the_thread_busy_until_the_first_has_ended(server: RedisProcess) -> None:
    async def work(store: Store) -> list[str]:
        first, second = lease("pod/1"), lease("pod/2", key="l")
        seen = [(await store.begin(first, RECORD)).outcome, (await store.begin(second, RECORD)).outcome]
        assert await store.end(first, ANSWER)
        return [*seen, (await store.begin(second, RECORD)).outcome]

    assert on(server, work) == ["mine", "busy", "mine_again"]


def test_an_ended_run_leaves_its_answer_under_its_key(server: RedisProcess) -> None:
    async def work(store: Store) -> Any:
        await store.begin(lease("pod/1"), RECORD)
        await store.end(lease("pod/1"), ANSWER)
        return (await store.begin(lease("pod/2"), RECORD)).record

    assert on(server, work) == ANSWER
    with server.client() as client:
        assert 500 < client.ttl("orc:idem:k") <= 600


def test_only_the_holder_may_end_a_run(server: RedisProcess) -> None:
    async def work(store: Store) -> tuple[bool, Any]:
        await store.begin(lease("pod/1"), RECORD)
        return await store.end(lease("pod/2"), ANSWER), await store.record("k")

    assert on(server, work) == (False, RECORD)


def test_a_run_that_failed_frees_its_key(server: RedisProcess) -> None:
    async def work(store: Store) -> str:
        await store.begin(lease("pod/1"), RECORD)
        await store.end(lease("pod/1"))
        return (await store.begin(lease("pod/2"), RECORD)).outcome

    assert on(server, work) == "mine_again"


def test_a_lapsed_lease_is_taken_over_by_exactly_one(server: RedisProcess) -> None:
    async def work(store: Store) -> list[list[Lease]]:
        await store.begin(lease("dead/1"), RECORD)
        assert await store.take_over("early/1", 8) == []
        await asyncio.sleep(0.3)  # the lease lasts 0.2 s
        return list(await asyncio.gather(*(store.take_over(f"pod/{n}", 8) for n in range(4))))

    taken = [item for some in on(server, work, lease_s=0.2) for item in some]
    assert [(item.tenant, item.thread_id) for item in taken] == [("docs", "t")]


def test_a_prolonged_lease_is_not_taken(server: RedisProcess) -> None:
    async def work(store: Store) -> list[Lease]:
        await store.begin(lease("alive/1"), RECORD)
        for _ in range(6):
            await asyncio.sleep(0.1)
            assert await store.prolong([lease("alive/1")]) == set()
        return await store.take_over("pod/1", 8)

    assert on(server, work, lease_s=0.4) == []


def test_who_slept_through_the_lapse_learns_that_the_thread_is_another_s(server: RedisProcess) -> None:
    async def work(store: Store) -> tuple[set[str], bool]:
        await store.begin(lease("sleeper/1"), RECORD)
        await asyncio.sleep(0.3)
        await store.take_over("pod/1", 8)
        return await store.prolong([lease("sleeper/1")]), await store.end(lease("sleeper/1"), ANSWER)

    assert on(server, work, lease_s=0.2) == ({"docs/t"}, False)


def test_a_lease_that_lapsed_and_that_nobody_took_is_still_its_holder_s(server: RedisProcess) -> None:
    async def work(store: Store) -> tuple[set[str], bool]:
        await store.begin(lease("pod/1"), RECORD)
        await asyncio.sleep(0.3)
        return await store.prolong([lease("pod/1")]), await store.end(lease("pod/1"), ANSWER)

    assert on(server, work, lease_s=0.2) == (set(), True)


def test_a_run_that_was_finished_elsewhere_cannot_be_revived(server: RedisProcess) -> None:
    async def work(store: Store) -> tuple[set[str], bool]:
        await store.begin(lease("sleeper/1"), RECORD)
        await asyncio.sleep(0.3)
        (taken,) = await store.take_over("pod/1", 8)
        await store.end(Lease(taken.tenant, taken.thread_id, taken.holder, "k"), ANSWER)
        return await store.prolong([lease("sleeper/1")]), await store.end(lease("sleeper/1"), ANSWER)

    assert on(server, work, lease_s=0.2) == ({"docs/t"}, False)


def test_what_is_handed_over_is_taken_at_once_and_only_within_the_group(server: RedisProcess) -> None:
    async def hand(store: Store) -> None:
        await store.begin(lease("ending/1"), RECORD)
        assert await store.hand_over(lease("ending/1"))

    async def take(store: Store) -> int:
        return len(await store.take_over("pod/1", 8))

    on(server, hand)
    assert on(server, take, group="others") == 0
    assert on(server, take) == 1


def test_many_may_prepare_an_empty_redis_at_once(server: RedisProcess) -> None:
    with server.client() as client:
        for index in client.execute_command("FT._LIST"):
            client.execute_command("FT.DROPINDEX", index)

    async def run() -> None:
        stores = [store_of(server) for _ in range(8)]
        await asyncio.gather(*(store.prepare() for store in stores))
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(run())


def test_upkeep_goes_on_after_whatever_went_wrong() -> None:
    calls: list[int] = []

    async def step() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise StateUnavailable("away")
        raise KeyError("unforeseen")

    async def run() -> None:
        upkeep = asyncio.create_task(every(0, step))
        while len(calls) < 4:
            await asyncio.sleep(0)
        upkeep.cancel()

    asyncio.run(run())


def test_a_name_that_does_not_resolve_is_redis_away() -> None:
    store = Store("redis://redis.invalid:6379", group="g", lease_s=6, thread_ttl_minutes=1, answer_ttl_s=1)
    with pytest.raises(StateUnavailable):
        asyncio.run(store.prepare())


def test_redis_away_is_one_kind_of_failure(tmp_path: Path) -> None:
    away = RedisProcess(tmp_path / "away")
    with pytest.raises(StateUnavailable, match="Redis: ") as failed:
        asyncio.run(store_of(away).ping())
    assert failed.value.status == 503 and failed.value.retry_after_s


# -- checkpoints --------------------------------------------------------------------------------


class Walk(TypedDict, total=False):
    steps: list[str]
    text: str


def walk(saver: Any, *, dies_at: str = "") -> Any:
    graph = StateGraph(Walk)
    for name in ("one", "two", "three"):

        def node(state: Walk, name: str = name) -> Walk:
            if name == dies_at:
                raise RuntimeError(name)
            return {"steps": [*state.get("steps", []), name], "text": "x" * 10}

        graph.add_node(name, node)
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", "three")
    graph.add_edge("three", END)
    return graph.compile(checkpointer=saver)


CONFIG = {"configurable": {"thread_id": "docs.t"}}


async def walked(store: Store, *, dies_at: str = "") -> Any:
    try:
        return await walk(store.checkpoints, dies_at=dies_at).ainvoke(
            {"steps": []}, CONFIG, durability="sync"
        )
    except RuntimeError:
        return await walk(store.checkpoints).aget_state(CONFIG)


def test_a_walk_goes_on_where_it_stopped(server: RedisProcess) -> None:
    async def work(store: Store) -> tuple[Any, Any]:
        stopped = await walked(store, dies_at="three")
        return stopped.next, (await walk(store.checkpoints).ainvoke(None, CONFIG))["steps"]

    assert on(server, work) == (("three",), ["one", "two", "three"])


def test_the_saver_s_parent_reads_what_ours_has_written(server: RedisProcess) -> None:
    async def work(store: Store) -> tuple[Any, Any]:
        await walked(store, dies_at="three")
        async with AsyncRedisSaver.from_conn_string(server.url) as parent:
            state = await walk(parent).aget_state(CONFIG)
            return state.next, (await walk(parent).ainvoke(None, CONFIG))["steps"]

    assert on(server, work) == (("three",), ["one", "two", "three"])


def test_no_key_outlives_its_thread(server: RedisProcess) -> None:
    async def work(store: Store) -> None:
        await store.begin(lease("pod/1"), RECORD)
        await walked(store)
        await store.end(lease("pod/1"), ANSWER, stored=("q", {"answer": "yes", "citations": []}))

    on(server, work)
    assert lasting(server) == []


def test_without_a_time_to_live_the_thread_s_keys_stay_for_ever(server: RedisProcess) -> None:
    on(server, walked, ttl_minutes=0)
    assert len(lasting(server)) >= 10


def lasting(server: RedisProcess) -> list[str]:
    with server.client() as client:
        return sorted(key for key in client.scan_iter("*") if client.ttl(key) == -1)


def test_a_checkpoint_costs_one_round_trip_and_so_do_a_node_s_writes(server: RedisProcess) -> None:
    with server.client() as client:
        on(server, walked)
        client.config_resetstat()
        on(server, walked)
        stats = client.info("commandstats")
    # The input and three nodes: a transaction for each checkpoint, one for each node's writes.
    assert stats["cmdstat_exec"]["calls"] <= 9
