"""The witnesses `delivery` and `storm` as their pod runs them, with a real Redis and copies of the worker."""

from __future__ import annotations

import ast
import asyncio
import itertools
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.apps.jobs.store import Queue
from helpers.labs import witnessing
from helpers.labs.lab08_scale import (
    bounds,
    checks_queue,
    key_cases,
    witness_delivery_program,
    witness_jobs_program,
    witness_queue,
    witness_storm_program,
)
from helpers.labs.lab08_scale.witness_copies import Copies
from helpers.settings import REPOSITORY
from tests.contract import queue_backends
from tests.contract.redis_process import RedisProcess

RIGHT = {
    "delivery.py": """
def order():
    return ["answer", "store", "acknowledge"]

def after_failure(kind, deliveries):
    return "dead_letter" if kind == "refused" or deliveries >= 3 else "again"
""",
    "cache.py": """
import json

def key(ask):
    return json.dumps([ask.tenant, ask.model, ask.prompt_version, ask.collection, ask.question])

def ttl_s(base_s, chance):
    return base_s * (0.8 + 0.4 * chance)

def may_share(asker, stored, similarity):
    same = (asker.tenant, asker.model, asker.prompt_version, asker.collection)
    return same == (stored.tenant, stored.model, stored.prompt_version, stored.collection) and similarity > 0.93
""",
    "flight.py": """
def lease_s(deadline_s):
    return deadline_s + 1

def while_another_works(waited_s, lease_s):
    return "wait" if waited_s <= 2 * lease_s else "generate"
""",
}


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="module", params=queue_backends.BACKENDS)
def backend(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    with queue_backends.running(request.param, tmp_path_factory.mktemp("stream")) as settings:
        yield settings


@pytest.fixture
def decided(
    tmp_path: Path, state: RedisProcess, backend: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Any:
    """Mount these files for the witness's copies; others by name over them."""
    monkeypatch.setenv("REDIS_URL", state.url)
    monkeypatch.setenv("DECISIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CACHE_TTL_S", "600")
    for name, value in backend.items():
        monkeypatch.setenv(name, value)

    def mount(files: dict[str, str], **others: str) -> None:
        for name, text in {**files, **{f"{name}.py": text for name, text in others.items()}}.items():
            (tmp_path / name).write_text(text)

    return mount


def test_a_worker_that_ends_at_any_step_loses_nothing(decided: Any, state: RedisProcess) -> None:
    decided(RIGHT)
    seen = witness_delivery_program.delivery()
    assert seen["cut"] == {name: {"status": "done", "second": 0} for name in ("stored", "acknowledged")}
    poison = seen["poison"]
    assert (poison["deaths"], poison["dead"], poison["deliveries"], poison["reason"]) == (3, True, 3, True)
    assert (poison["neighbours"], poison["dead_neighbours"]) == (3, 0)
    assert seen["failing"] == {
        "refused": {"status": "failed", "asked": 1},
        "twice": {"status": "done", "asked": 3},
        "always": {"status": "failed", "asked": 3},
    }
    assert not list(state.client().scan_iter("delivery-*")), "something is left in the learner's Redis"


def test_acknowledged_before_it_is_stored_is_lost_at_that_moment(decided: Any) -> None:
    decided(RIGHT, delivery=RIGHT["delivery.py"].replace('"store", "acknowledge"', '"acknowledge", "store"'))
    stand = Copies("delivery", CACHE="off")
    try:
        assert witness_delivery_program._cut(stand, "acknowledged")["status"] == "running"
        assert witness_delivery_program._cut(stand, "stored")["status"] == "done"
    finally:
        stand.close()


def test_one_generation_for_fifty_askers_and_one_more_when_its_holder_is_killed(decided: Any) -> None:
    decided(RIGHT)
    seen = witness_storm_program.storm()
    assert seen["storm"] == {"askers": 50, "done": 50, "generations": 1, "answers": 1}
    holder = seen["holder"]
    assert (holder["held"], holder["done"], holder["generations"]) == (True, 50, 2)
    assert holder["deadline_s"] < holder["after_s"] < holder["deadline_s"] + 2
    assert (seen["slow"]["done"], seen["slow"]["generations"]) == (3, 1)
    assert seen["keys"] == {
        "first": "generated",
        "same": "exact",
        "together": {},
        **dict.fromkeys(("version", "collection", "model", "question"), "generated"),
    }
    shared = seen["shared"]
    assert shared.pop("similar") == ["similar", "similar"]
    assert shared.pop("unlike") == ["generated", "generated"]
    assert set(shared.values()) == {"generated"}
    ends = seen["ends"]
    assert ends["kept"] == len(witness_storm_program.COLD) and ends["for_ever"] == 0
    assert 0.75 < ends["least"] < ends["most"] < 1.25 and ends["most"] - ends["least"] > 0.05


@pytest.mark.parametrize("name", witness_queue.WITNESSES)
def test_a_program_finds_in_its_pod_what_it_imports_of_the_labs(name: str, tmp_path: Path) -> None:
    """Each text leans on those before it, on the services' own modules, and on nothing else of the course."""
    _, flag, loader, names, *texts, said = witnessing.command(
        witness_queue.HERE / f"witness_{name}_program.py", name, *witness_queue.MODULES[name]
    )
    known = set[str]()
    for module, text in zip([*names.split(), ""], texts, strict=True):
        tree = ast.parse(text)
        imported = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert {other for other in imported if other.startswith("helpers.labs")} <= known
        known.add(module)
    program = texts.pop().replace("sys.exit(leave_record(sys.argv[1], ", "print(sys.argv[1:], list(")
    done = subprocess.run(
        [sys.executable, flag, loader, names, *texts, program, said],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"['{name}'] ['{name}']\n", "")


@pytest.mark.parametrize("constant", [2, 60])
def test_a_lease_that_is_not_made_from_the_deadline_is_too_short_or_too_long(
    decided: Any, monkeypatch: pytest.MonkeyPatch, constant: int
) -> None:
    decided(RIGHT, flight=RIGHT["flight.py"].replace("deadline_s + 1", str(constant)))
    for name, value in (("DEADLINE_S", 1.0), ("LONGEST_S", 4.0), ("SLOW_HOLD_S", 4.5), ("ASKERS", 4)):
        monkeypatch.setattr(witness_storm_program, name, value)
    slow, stand = Copies("slow", WORKER_CONCURRENCY="4"), Copies("storm", WORKER_CONCURRENCY="4")
    try:
        waiting = witness_storm_program._slow_begun(slow)
        stand.engine.hold_s = 0.5
        stand.start("one")
        stand.start("two")
        holder = witness_storm_program._holder(stand)
        over = witness_storm_program._slow_over(slow, waiting)
    finally:
        slow.close()
        stand.close()
    if constant == 2:
        assert over["generations"] > 1 and holder["after_s"] < 3
    else:
        assert over["generations"] == 1 and holder["after_s"] is None and holder["done"] == 0


def test_no_constant_is_right_for_both_deadlines() -> None:
    program = witness_storm_program
    longest_right_s = bounds.MOST_LEASES * program.DEADLINE_S + checks_queue.NOTICED_S
    assert longest_right_s < program.SLOW_HOLD_S < program.SLOW_DEADLINE_S
    assert longest_right_s < program.LONGEST_S


JOINED = {
    "nothing": ("''.join", [""]),
    "a stroke": ("'-'.join", ["-"]),
    "a line below": ("'_'.join", ["_"]),
    "JSON": ("json.dumps", []),
}


@pytest.mark.parametrize("order", list(itertools.permutations(range(5)))[::17])
@pytest.mark.parametrize("how", JOINED)
def test_a_key_that_joins_its_parts_without_care_is_caught_in_any_order(
    decided: Any, how: str, order: tuple[int, ...]
) -> None:
    join, signs = JOINED[how]
    parts = [f"ask.{name}" for name in key_cases.PARTS]
    text = f"def key(ask):\n    return {join}([{', '.join(parts[place] for place in order)}])"
    right = RIGHT["cache.py"]
    before, after = right[: right.index("def key")], right[right.index("def ttl_s") :]
    decided(RIGHT, cache=f"{before}{text}\n\n{after}")
    assert list(witness_storm_program._together()) == signs


def test_a_key_that_leaves_a_part_out_does_not_run_together() -> None:
    assert key_cases.run_together(lambda ask: ask.question, "") is None


@pytest.mark.parametrize(
    ("part", "seen_as"),
    [
        ("tenant", "similar_across"),
        ("model", "similar_model"),
        ("prompt_version", "similar_version"),
        ("collection", "similar_collection"),
    ],
)
def test_what_is_shared_although_one_part_differs_is_seen(decided: Any, part: str, seen_as: str) -> None:
    before, after = RIGHT["cache.py"].split("    same = ")
    left_out = f"asker.{part}, " if part != "collection" else ", asker.collection"
    text = "    same = " + after.replace(left_out, "").replace(left_out.replace("asker", "stored"), "")
    assert f"asker.{part}" not in text and f"stored.{part}" not in text
    decided(RIGHT, cache=before + text)
    stand = Copies("storm", WORKER_CONCURRENCY="4")
    try:
        other = f"{stand.prefix}other:"
        stand.engine.hold_s = 0.02
        stand.start("one")
        stand.start("other", MODEL="another-model", QUEUE_PREFIX=other)
        shared = witness_storm_program._shared(stand, other)
    finally:
        stand.close()
    across = {"exact_across"} if part == "tenant" else set[str]()
    assert {name for name, came in shared.items() if came == "similar"} == {seen_as} | across


def test_for_how_long_a_finished_job_is_found_is_seen_to_the_second(
    state: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", state.url)

    async def finished() -> None:
        queue = Queue(state.url, job_ttl_s=300)
        await queue.prepare()
        for name in ("j-done", "j-open"):
            await queue.enqueue(name, {"tenant": "docs", "question": "q"}, limit=9)
        await queue.store("j-done", "docs", {"answer": "a"})
        await queue.close()

    asyncio.run(finished())
    time.sleep(1.2)  # what has passed since is no part of it
    assert [witness_jobs_program._kept_s(name) for name in ("j-done", "j-open", "j-none")] == [300, 0, 0]


def test_a_witness_is_made_where_a_link_leads_to_the_course(tmp_path: Path) -> None:
    link = tmp_path / "helpers"
    link.symlink_to(REPOSITORY / "helpers")
    real = (witness_queue.HERE / "witness_jobs_program.py", witness_queue.ASKING)
    linked = [link / file.relative_to(REPOSITORY / "helpers") for file in real]
    said = [witnessing.command(program, "jobs", module) for program, module in (real, linked)]
    assert said[0] == said[1]
