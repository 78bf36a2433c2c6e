"""Who comes in, who waits, and in what order: without a server, on a real event loop."""

from __future__ import annotations

import asyncio
import random
from contextlib import ExitStack
from pathlib import Path

import pytest

from helpers.apps.orchestrator.admission import Admission, Places
from helpers.apps.orchestrator.circuit import CLOSED, HALF_OPEN, OPEN, Circuits
from helpers.apps.orchestrator.decisions import CLASSES
from helpers.apps.orchestrator.errors import DeadlinePassed, QueueFull
from helpers.apps.orchestrator.meter import HopTimedOut, Meter
from helpers.apps.orchestrator.metrics import Metrics
from helpers.apps.orchestrator.mounted import Decisions

OWN = Path("/nowhere")


def door(*, generation: int = 2, queue_limit: int = 3, folder: Path = OWN) -> Admission:
    return Admission(
        Decisions(folder), Metrics(), generation=generation, retrieval=4, queue_limit=queue_limit
    )


def test_free_places_are_given_without_asking_and_then_the_queue_fills_to_its_limit() -> None:
    admission = door()
    with ExitStack() as inside:
        tickets = [inside.enter_context(admission.enter("a", "standard")) for _ in range(5)]
        assert [ticket.waits for ticket in tickets] == [False, False, True, True, True]
        assert admission.waiting == {"a": 3} and not admission.has_room
        with pytest.raises(QueueFull) as full, admission.enter("b", "standard"):
            pass
        assert full.value.retry_after_s and full.value.status == 429
    assert admission.waiting == {} and admission.has_room


def test_a_decision_may_shed_the_greedy_and_let_the_others_in(tmp_path: Path) -> None:
    (tmp_path / "admission.py").write_text(
        "def admit(tenant, waiting, limit):\n    return waiting.get(tenant, 0) < limit // 2 and sum(waiting.values()) < limit"
    )
    admission = door(generation=1, queue_limit=4, folder=tmp_path)
    with ExitStack() as inside:
        for _ in range(3):
            inside.enter_context(admission.enter("greedy", "standard"))
        with pytest.raises(QueueFull), admission.enter("greedy", "standard"):
            pass
        with admission.enter("modest", "standard"):
            assert admission.waiting == {"greedy": 2, "modest": 1}


def test_what_was_admitted_elsewhere_is_not_turned_away() -> None:
    admission = door(generation=1, queue_limit=0)
    with admission.enter("a", "standard"), admission.enter("a", "standard", unasked=True) as ticket:
        assert ticket.waits


def order_of(arrivals: list[tuple[str, str]]) -> list[str]:
    """Who had the one place, in order, when all of these waited for it."""

    async def run() -> list[str]:
        places, seen = Places(1), list[str]()

        async def use(tenant: str, budget_class: str) -> None:
            async with places.place(tenant, budget_class):
                seen.append(f"{tenant} {budget_class}")
                await asyncio.sleep(0)

        async with places.place("first", "fast"):
            tasks = [asyncio.create_task(use(*arrival)) for arrival in arrivals]
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        assert places.free == 1
        return seen

    return asyncio.run(run())


def test_turns_go_round_the_tenants() -> None:
    arrivals = [("greedy", "standard")] * 4 + [("modest", "standard")]
    assert order_of(arrivals).index("modest standard") == 1


def test_a_tenant_s_fast_requests_go_before_its_slow_ones() -> None:
    arrivals = [("a", "background"), ("a", "standard"), ("a", "fast"), ("a", "fast")]
    assert order_of(arrivals) == ["a fast", "a fast", "a standard", "a background"]


def test_no_place_is_lost_when_waiters_give_up() -> None:
    async def run() -> None:
        places, chance = Places(3), random.Random(7)

        async def use() -> None:
            async with places.place(chance.choice("abc"), "standard"):
                await asyncio.sleep(chance.random() / 500)

        tasks = [asyncio.create_task(use()) for _ in range(300)]
        for task in tasks:
            await asyncio.sleep(0)
            if chance.random() < 0.5:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert places.free == 3 and not places._waiting

    asyncio.run(run())


# -- circuits -----------------------------------------------------------------------------------


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def circuits(folder: Path = OWN) -> tuple[Circuits, Clock]:
    clock = Clock()
    return Circuits(Decisions(folder), Metrics(), open_s=5.0, clock=clock), clock


def fail(of: Circuits, backend: str, times: int) -> None:
    for _ in range(times):
        assert of.wait_s(backend) == 0
        of.outcome(backend, False)


def test_a_circuit_opens_when_the_decision_says_so_and_only_for_its_backend() -> None:
    both, _ = circuits()
    fail(both, "qdrant", 5)
    assert both.state("qdrant") == OPEN and both.state("vllm") == CLOSED
    assert both.wait_s("qdrant") == 5.0 and both.wait_s("vllm") == 0


def test_one_circuit_for_all_shuts_out_a_backend_that_is_well(tmp_path: Path) -> None:
    (tmp_path / "circuit.py").write_text(
        "def circuit_of(backend): return 'all'\ndef opens(outcomes): return outcomes[-2:] == [False, False]"
    )
    both, _ = circuits(tmp_path)
    fail(both, "qdrant", 2)
    assert both.state("vllm") == OPEN


def test_after_a_while_one_goes_first_and_the_others_wait_for_what_it_finds() -> None:
    both, clock = circuits()
    fail(both, "vllm", 5)
    clock.now += 5
    assert both.state("vllm") == HALF_OPEN
    assert both.wait_s("vllm") == 0 and both.wait_s("vllm") > 0
    both.outcome("vllm", True)
    assert both.state("vllm") == CLOSED
    fail(both, "vllm", 4)
    assert both.state("vllm") == CLOSED, "what was before it closed is forgotten"


def test_the_one_who_went_first_and_failed_opens_it_again() -> None:
    both, clock = circuits()
    fail(both, "vllm", 5)
    clock.now += 5
    assert both.wait_s("vllm") == 0
    both.outcome("vllm", False)
    assert both.state("vllm") == OPEN


def test_a_caller_who_leaves_says_nothing_of_the_backend_and_frees_the_way() -> None:
    both, clock = circuits()
    fail(both, "vllm", 5)
    clock.now += 5
    assert both.wait_s("vllm") == 0
    both.outcome("vllm", None)
    assert both.state("vllm") == HALF_OPEN and both.wait_s("vllm") == 0


# -- time ---------------------------------------------------------------------------------------


def test_a_hop_ends_at_its_own_share_and_the_rest_of_the_time_is_left() -> None:
    async def run() -> Meter:
        meter = Meter(CLASSES["standard"], Decisions(OWN), Metrics())
        with pytest.raises(HopTimedOut, match="load took more than its 250 ms"):
            async with meter.hop("load"):
                await asyncio.Event().wait()
        return meter

    meter = asyncio.run(run())
    assert 200 <= meter.spent_ms["load"] < 5000 and meter.left_ms > 29_000


def test_nothing_is_begun_when_nothing_is_left() -> None:
    async def run() -> None:
        meter = Meter(CLASSES["fast"], Decisions(OWN), Metrics())
        meter._began -= 12
        async with meter.hop("generate"):
            raise AssertionError("begun")

    with pytest.raises(DeadlinePassed, match="12000 ms of class fast"):
        asyncio.run(run())
