"""The orchestrator before a real vLLM and a real Qdrant: killed, left without Redis, and asked by too many at once.

The services are processes of this machine, so that they can be killed and started within a second; Redis too.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.cluster import Cluster
from helpers.stack.bring_up import bring_up_for_orchestration, load_images
from tests.contract.orchestrator_process import OrchestratorProcess
from tests.contract.redis_process import RedisProcess

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.stack]
ROUNDS = 10
SYSTEM = "llm-system"
QUESTION = "Why does a quota refuse my pod?"
PATIENT = (
    "def hop_deadline_ms(budget, hop, left_ms): return left_ms"  # two cores run the engine and these tests
)


@pytest.fixture(scope="module")
def backends(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Where vLLM and Qdrant are reached from here."""
    load_images("vllm", "model", "qdrant")
    bring_up_for_orchestration(cluster, print)
    with (
        cluster.port_forward(SYSTEM, "service/vllm", 8000) as vllm,
        cluster.port_forward(SYSTEM, "service/qdrant", 6333) as qdrant,
    ):
        yield {"VLLM_BASE_URL": f"{vllm.url}/v1", "QDRANT_BASE_URL": qdrant.url}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path / "redis")
    process.start()
    yield process
    process.kill()


@pytest.fixture
def make(
    tmp_path: Path, state: RedisProcess, backends: dict[str, str]
) -> Iterator[Callable[..., OrchestratorProcess]]:
    """Make services that share these backends; each ends with its test."""
    made: list[OrchestratorProcess] = []

    def one(name: str, **environment: str) -> OrchestratorProcess:
        settings = backends | {"REDIS_URL": state.url, "THREAD_TTL_MINUTES": "10", "CLIENT_MAX_RETRIES": "0"}
        settings |= {"IDEMPOTENCY_LEASE_S": "2", "DEFAULT_BUDGET_CLASS": "background"}
        made.append(OrchestratorProcess(tmp_path, name, **settings | environment))
        made[-1].decide("budget.py", PATIENT)
        made[-1].start()
        return made[-1]

    yield one
    for service in made:
        if service.process and service.process.poll() is None:
            service.kill()


def ask(service: OrchestratorProcess, key: str, *, max_tokens: int = 8, **body: Any) -> httpx.Response:
    with service.client(timeout_s=200) as client:
        headers = {"Idempotency-Key": key}
        return client.post(
            "/v1/chat", json={"question": QUESTION, "max_tokens": max_tokens} | body, headers=headers
        )


def searches(backends: dict[str, str]) -> float:
    """Searches that Qdrant has answered."""
    text = httpx.get(backends["QDRANT_BASE_URL"] + "/metrics", trust_env=False).text
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("rest_responses_total") and "points/query" in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def wait_in_generation(service: OrchestratorProcess, thread: str) -> None:
    end = time.monotonic() + 60
    with service.client() as client:
        while time.monotonic() < end:
            if client.get(f"/v1/threads/{thread}").json().get("step") == "generate":
                return
            time.sleep(0.02)  # another process is waited for
    raise AssertionError(f"thread {thread} never came to its generation")


def test_a_killed_service_s_thread_is_finished_by_another_ten_times_of_ten(
    make: Callable[..., OrchestratorProcess], backends: dict[str, str]
) -> None:
    services = [make("one"), make("two")]
    searched, answers = searches(backends), dict[str, dict[str, Any]]()
    with ThreadPoolExecutor(1) as pool:
        for number in range(ROUNDS):
            victim, other = services if number % 2 else reversed(services)
            thread = f"killed-{number}"
            cut = pool.submit(ask, victim, thread, thread_id=thread, max_tokens=48)
            wait_in_generation(other, thread)
            victim.kill()
            assert isinstance(cut.exception(), httpx.TransportError)
            victim.start(until_ready=False)
            answer = ask(other, thread, thread_id=thread, max_tokens=48)
            assert answer.status_code == 200, answer.text
            assert answer.json()["attempts"] == {"retrieval": 0, "generation": 1}
            assert answer.json()["usage"]["completion_tokens"] > 0
            answers[thread] = answer.json()
            victim.wait_ready()
    assert searches(backends) - searched == ROUNDS
    for thread, first in answers.items():
        for service in services:
            again = ask(service, thread, thread_id=thread, max_tokens=48).json()
            assert again["replayed"] and (again["id"], again["answer"]) == (first["id"], first["answer"])
        with services[0].client() as client:
            roles = [message["role"] for message in client.get(f"/v1/threads/{thread}").json()["messages"]]
        assert roles == ["user", "assistant"]
    assert sum(service.metric("llm_orchestrator_resumed_total") for service in services) >= 1


def test_nothing_that_was_acknowledged_is_lost_when_redis_is_killed_ten_times(
    make: Callable[..., OrchestratorProcess], state: RedisProcess
) -> None:
    service, end, chance = make("one"), threading.Event(), random.Random(6)
    answered: dict[str, dict[str, Any]] = {}
    refused: Counter[tuple[int, str]] = Counter()

    def keep_asking(who: int) -> None:
        number = 0
        while not end.is_set():
            key = f"k-{who}-{number}"
            answer = ask(service, key)
            if answer.status_code == 200:
                answered[key] = answer.json()
                number += 1
            else:
                refused[answer.status_code, answer.json()["error"]["code"]] += 1
                end.wait(0.2)

    with ThreadPoolExecutor(3) as pool:
        asking = [pool.submit(keep_asking, who) for who in range(3)]
        for _ in range(ROUNDS):
            end.wait(chance.uniform(1, 3))
            state.kill()
            end.wait(chance.uniform(0, 1))
            state.start()
        end.wait(3)
        end.set()
        for one in asking:
            one.result()
    service.wait_ready()
    assert len(answered) >= ROUNDS and {status for status, _ in refused} <= {409, 503}, refused
    with service.client() as client:
        for key, first in answered.items():
            again = ask(service, key).json()
            assert again["replayed"] and again["answer"] == first["answer"] and again["id"] == first["id"]
            thread = client.get(f"/v1/threads/{first['thread_id']}").json()
            assert thread["messages"][-1] == {"role": "assistant", "content": first["answer"]}


def test_of_two_hundred_at_once_none_is_left_without_an_answer(
    make: Callable[..., OrchestratorProcess],
) -> None:
    service, end, most = make("one", REQUEST_QUEUE_LIMIT="100"), threading.Event(), [0.0]

    def watch() -> None:
        while not end.is_set():
            most[0] = max(most[0], service.metric("llm_orchestrator_queue_waiting"))
            end.wait(0.05)

    with ThreadPoolExecutor(201) as pool:
        watching = pool.submit(watch)
        answers = list(pool.map(lambda number: ask(service, f"at-once-{number}", max_tokens=1), range(200)))
        end.set()
        watching.result()
    statuses = Counter(answer.status_code for answer in answers)
    assert sum(statuses.values()) == 200 and set(statuses) == {200, 429}, statuses
    assert statuses[200] >= 112 and 0 < most[0] <= 100
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 429)
    assert (
        service.metric("llm_orchestrator_inflight_requests")
        == service.metric("llm_orchestrator_queue_waiting")
        == 0
    )
