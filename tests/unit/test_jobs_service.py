"""Front and workers as processes, with a real Redis; vLLM's place is taken by a server that fails as told.

COURSE_TEST_KAFKA=1 runs all of it a second time, with the stream in a real Kafka (`tests/contract/queue_backends.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.apps.jobs.store import Queue
from tests.contract import queue_backends
from tests.contract.jobs_process import JobsProcess
from tests.contract.kafka_process import KafkaProcess
from tests.contract.redis_process import RedisProcess
from tests.unit import openai_server
from tests.unit.openai_server import OpenAIServer

SOON_S = 60.0
POISON = "POISON-PILL"
Make = Callable[..., JobsProcess]
Asked = Callable[[Callable[[Queue], Any]], Any]


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
def asked(tmp_path: Path, state: RedisProcess, backend: dict[str, str]) -> Asked:
    """Ask the queue of this test from outside."""
    settings = {"REDIS_URL": state.url, "QUEUE_PREFIX": f"{tmp_path.name}:", **backend}
    return lambda ask: queue_backends.asked(settings, ask)


@pytest.fixture(scope="module")
def engine() -> Iterator[OpenAIServer]:
    with openai_server.running() as server:
        server.context_tokens = 4096
        yield server


@pytest.fixture
def make(
    tmp_path: Path, state: RedisProcess, engine: OpenAIServer, backend: dict[str, str]
) -> Iterator[Make]:
    """Make fronts and workers of one queue; each ends with its test."""
    made: list[JobsProcess] = []
    engine.status, engine.body, engine.delay_s = 200, "", 0.0
    engine.requests.clear()

    def one(role: str, name: str = "", *, start: bool = True, **environment: str) -> JobsProcess:
        settings = {
            "VLLM_BASE_URL": f"{engine.url}/v1",
            "REDIS_URL": state.url,
            "QUEUE_PREFIX": f"{tmp_path.name}:",
            "RETRIEVAL": "off",
            "MODEL": "small",
            "CLAIM_IDLE_MS": "900",
            "GENERATION_DEADLINE_S": "6",
            "POISON": POISON,
            **backend,
        }
        made.append(JobsProcess(tmp_path, role, name or role, **settings | environment))
        if start:
            made[-1].start()
        return made[-1]

    yield one
    for process in made:
        if process.is_running:
            process.kill()


def decide(folder: Path, file: str, source: str) -> None:
    (folder / "decisions").mkdir(exist_ok=True)
    (folder / "decisions" / file).write_text(source)


def submit(front: JobsProcess, question: str, *, tenant: str = "tests", **body: Any) -> str:
    with front.client(tenant=tenant) as client:
        answer = client.post("/v1/jobs", json={"question": question, **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def look(front: JobsProcess, job: str, *, tenant: str = "tests") -> dict[str, Any]:
    with front.client(tenant=tenant) as client:
        found: dict[str, Any] = client.get(f"/v1/jobs/{job}").json()
    return found


def finished(front: JobsProcess, *jobs: str, tenant: str = "tests") -> list[dict[str, Any]]:
    end = time.monotonic() + SOON_S
    while True:
        found = [look(front, job, tenant=tenant) for job in jobs]
        if all(item["status"] not in ("waiting", "running") for item in found):
            return found
        assert time.monotonic() < end, found
        time.sleep(0.05)  # another process is waited for


def until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)  # another process is waited for


def generations(engine: OpenAIServer) -> list[Any]:
    return [body for path, body, _ in engine.requests if path.endswith("/chat/completions")]


def test_a_job_is_accepted_at_once_and_answered_later(make: Make, engine: OpenAIServer) -> None:
    front = make("front")
    with front.client() as client:
        answer = client.post("/v1/jobs", json={"question": "What is a quota?", "max_tokens": 8})
        assert answer.status_code == 202 and answer.json()["status"] == "waiting"
        job = answer.json()["job_id"]
        assert answer.headers["location"] == f"/v1/jobs/{job}"
        assert client.get(f"/v1/jobs/{job}").json()["answer"] is None
    worker = make("worker")
    (done,) = finished(front, job)
    assert done["status"] == "done" and done["answer"] == "Hello there" and done["worker"] == "worker"
    assert done["attempts"] == 1 and done["cached"] is None and done["seconds"] > 0
    (sent,) = generations(engine)
    assert sent["max_tokens"] == 8 and sent["messages"][-1]["content"] == "What is a quota?"
    until(lambda: worker.metric("llm_jobs_total", outcome="done") == 1, "the job is not counted")
    assert worker.metric("llm_jobs_deliveries_total") == 1 and worker.metric("llm_generations_total") == 1
    assert worker.metric("llm_job_seconds_count") == 1


@pytest.mark.parametrize(
    ("status", "options"),
    [
        (401, {"headers": {"Authorization": "Bearer another"}}),
        (403, {"headers": {"X-Tenant-Id": "stranger"}}),
        (422, {"headers": {"X-Tenant-Id": "no tenant's name"}}),
        (413, {"content": b'{"question": "' + b"x" * 140_000 + b'"}'}),
        (400, {"content": b"{"}),
        (415, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}),
        (422, {"json": {"question": " "}}),
        (422, {"json": {"question": "a", "more": 1}}),
        (422, {"json": {"question": "a", "max_tokens": 0}}),
        (422, {"json": {"question": "a", "cache": "maybe"}}),
        (422, {"json": {"question": "a", "prompt_version": "none"}}),
        (422, {"json": ["a"]}),
    ],
)
def test_bad_input_gets_a_clear_answer(
    status: int, options: dict[str, Any], shared_front: JobsProcess
) -> None:
    headers = {"Content-Type": "application/json", **options.pop("headers", {})}
    with shared_front.client() as client:
        answer = client.post("/v1/jobs", headers=headers, **options)
        assert client.get("/v1/jobs/j-none").status_code == 404
        assert client.get("/v1/nothing").json()["error"]["code"] == "not_found"
    assert answer.status_code == status and answer.json()["error"]["message"]


@pytest.fixture(scope="module")
def shared_front(tmp_path_factory: pytest.TempPathFactory, state: RedisProcess) -> Iterator[JobsProcess]:
    folder = tmp_path_factory.mktemp("front")
    settings = {"REDIS_URL": state.url, "QUEUE_PREFIX": f"{folder.name}:", "TENANTS": "tests, others"}
    front = JobsProcess(folder, "front", "front", **settings)
    front.start()
    yield front
    front.kill()


def test_a_tenant_s_jobs_are_its_own(shared_front: JobsProcess) -> None:
    job = submit(shared_front, "Whose is this?")
    with shared_front.client(tenant="others") as client:
        assert client.get(f"/v1/jobs/{job}").status_code == 404
        assert client.delete(f"/v1/jobs/{job}").status_code == 404
    assert look(shared_front, job)["status"] == "waiting"


def test_the_same_key_is_the_same_job(shared_front: JobsProcess) -> None:
    body = {"question": "Once?"}
    with shared_front.client() as client, ThreadPoolExecutor(5) as pool:
        headers = {"Idempotency-Key": "k-1"}

        def post(_: int) -> httpx.Response:
            return client.post("/v1/jobs", json=body, headers=headers)

        answers = list(pool.map(post, range(5)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({answer.json()["job_id"] for answer in answers}) == 1
        other = client.post("/v1/jobs", json={"question": "Another?"}, headers=headers)
        assert other.status_code == 409
    with shared_front.client(tenant="others") as client:
        theirs = client.post("/v1/jobs", json=body, headers=headers).json()["job_id"]
    assert theirs != answers[0].json()["job_id"]


def test_limits_are_a_tenant_s_own_and_everybody_s(make: Make) -> None:
    front = make("front", QUEUE_LIMIT="5", TENANT_LIMIT="3")

    def posted(tenant: str) -> httpx.Response:
        with front.client(tenant=tenant) as client:
            return client.post("/v1/jobs", json={"question": "Room?"})

    greedy = [posted("greedy") for _ in range(5)]
    assert [answer.status_code for answer in greedy] == [202, 202, 202, 429, 429]
    assert greedy[-1].json()["error"]["code"] == "tenant_full" and int(greedy[-1].headers["retry-after"]) > 0
    modest = [posted("modest") for _ in range(3)]
    assert [answer.status_code for answer in modest] == [202, 202, 429]
    assert modest[-1].json()["error"]["code"] == "queue_full"
    assert front.metric("llm_jobs_refused_total", reason="tenant_full") == 2


def test_a_cancelled_job_is_not_answered(make: Make, engine: OpenAIServer) -> None:
    front = make("front")
    first = submit(front, "Never?")
    with front.client() as client:
        assert client.delete(f"/v1/jobs/{first}").json()["status"] == "cancelled"
    engine.delay_s = 4.0
    worker = make("worker")
    second = submit(front, "Begun?")
    until(lambda: generations(engine), "nothing is generated")
    with front.client() as client:
        client.delete(f"/v1/jobs/{second}")
    until(lambda: worker.metric("llm_jobs_held") == 0, "the cancelled job is still held")
    until(lambda: worker.metric("llm_jobs_pending") == 0, "the cancelled job is still pending")
    assert [look(front, job)["status"] for job in (first, second)] == ["cancelled"] * 2
    assert len(generations(engine)) == 1


def test_events_tell_each_state_and_end(make: Make, engine: OpenAIServer) -> None:
    engine.delay_s = 1.0
    front = make("front")
    job = submit(front, "And then?")
    make("worker")
    with front.client() as client, client.stream("GET", f"/v1/jobs/{job}/events") as stream:
        lines = [line for line in stream.iter_lines() if line.startswith("event: ")]
    assert lines[-1] == "event: done" and set(lines) <= {"event: waiting", "event: running", "event: done"}


def test_a_killed_worker_s_jobs_are_answered_once_by_another(make: Make, engine: OpenAIServer) -> None:
    front, first = make("front"), make("worker", "first")
    engine.delay_s = 3.0
    jobs = [submit(front, f"Question {number}?") for number in range(4)]
    until(lambda: len(generations(engine)) == 4, "not all are begun")
    first.kill()
    engine.delay_s = 0.1
    second = make("worker", "second")
    done = finished(front, *jobs)
    assert [(item["status"], item["attempts"], item["worker"]) for item in done] == [
        ("done", 2, "second")
    ] * 4
    until(lambda: second.metric("llm_jobs_pending") == 0, "something is still pending")


def test_a_drained_worker_delivers_nothing_twice(make: Make, engine: OpenAIServer) -> None:
    front, first = make("front"), make("worker", "first")
    make("worker", "second")
    engine.delay_s = 1.5
    jobs = [submit(front, f"Question {number}?") for number in range(12)]
    until(lambda: first.metric("llm_jobs_held") > 0, "the first has nothing")
    assert first.stop() == 0
    assert [item["attempts"] for item in finished(front, *jobs)] == [1] * 12


def test_what_cannot_be_drained_is_handed_over_at_once(make: Make, engine: OpenAIServer) -> None:
    settings = {"DRAIN_DEADLINE_S": "0.2", "CLAIM_IDLE_MS": "60000"}
    front, first = make("front"), make("worker", "first", **settings)
    engine.delay_s = 5.0
    job = submit(front, "Too long?")
    until(lambda: generations(engine), "nothing is begun")
    first.stop()
    engine.delay_s = 0.1
    make("worker", "second", **settings)
    (done,) = finished(front, job)
    assert done["attempts"] == 2 and done["worker"] == "second"


def test_acknowledged_first_is_lost_with_its_worker(make: Make, engine: OpenAIServer, tmp_path: Path) -> None:
    decide(
        tmp_path,
        "delivery.py",
        "def order(): return ['acknowledge', 'answer', 'store']\n"
        "def after_failure(kind, deliveries): return 'again'\n",
    )
    front, first = make("front"), make("worker", "first")
    engine.delay_s = 3.0
    job = submit(front, "Lost?")
    until(lambda: generations(engine), "nothing is begun")
    first.kill()
    engine.delay_s = 0.1
    second = make("worker", "second")
    after = submit(front, "After it?")
    finished(front, after)
    until(lambda: second.metric("llm_jobs_pending") == 0, "something is pending")
    assert look(front, job)["status"] == "running"


def test_poison_goes_to_the_dead_letters_and_takes_nobody_with_it(
    make: Make, asked: Asked, tmp_path: Path
) -> None:
    decide(
        tmp_path,
        "delivery.py",
        "def order(): return ['answer', 'store', 'acknowledge']\n"
        "def after_failure(kind, deliveries): return 'dead_letter' if deliveries >= 2 else 'again'\n",
    )
    front = make("front")
    jobs = [submit(front, f"Question {number}?") for number in range(3)]
    poison = submit(front, f"{POISON} and more")
    jobs += [submit(front, f"Question {number}?") for number in range(3, 6)]
    deaths = 0
    for number in range(5):
        worker = make("worker", f"w-{number}", start=False)
        worker.start(until_ready=False)
        until(
            lambda worker=worker: (
                not worker.is_running  # type: ignore[misc]
                or look(front, poison)["status"] == "failed"
            ),
            "the poison is neither worked on nor given up",
        )
        if worker.is_running:
            break
        deaths += 1
    assert deaths == 2
    assert all(item["status"] == "done" and item["attempts"] <= 2 for item in finished(front, *jobs))
    (letter,) = asked(lambda queue: queue.letters())
    assert letter["job"] == poison and letter["kind"] == "worker_lost" and letter["deliveries"] == "2"
    assert "without a word" in look(front, poison)["error"]


def test_what_is_no_job_becomes_a_dead_letter(make: Make, asked: Asked) -> None:
    front = make("front")
    for fields in ({"nonsense": "1"}, {"v": "7", "job": "j-x"}, {"v": "1", "job": "j-nobody"}):
        asked(lambda queue, fields=fields: queue.put(fields))  # type: ignore[misc]
    job = submit(front, "After nonsense?")
    make("worker")
    assert finished(front, job)[0]["status"] == "done"
    until(lambda: len(asked(lambda queue: queue.letters())) == 3, "no dead letters")
    assert {letter["kind"] for letter in asked(lambda queue: queue.letters())} == {"format"}


def test_a_refused_question_is_asked_once_and_a_failing_vllm_a_few_times(
    make: Make, engine: OpenAIServer, asked: Asked
) -> None:
    front = make("front")
    make("worker")
    engine.status, engine.body = 400, json.dumps({"error": {"message": "maximum context length is 64"}})
    (refused,) = finished(front, submit(front, "Too long for it?"))
    assert refused["status"] == "failed" and refused["attempts"] == 1
    engine.status, engine.body = 503, "{}"
    (failed,) = finished(front, submit(front, "Anybody there?"))
    assert failed["status"] == "failed" and failed["attempts"] == 5
    engine.status = 200
    assert finished(front, submit(front, "Better now?"))[0]["status"] == "done"
    kinds = [letter["kind"] for letter in asked(lambda queue: queue.letters())]
    assert kinds == ["backend_failed", "refused"]


def test_a_decision_that_cannot_be_used_is_told(make: Make, tmp_path: Path) -> None:
    decide(
        tmp_path,
        "delivery.py",
        "def order(): return ['store', 'answer', 'acknowledge']\n"
        "def after_failure(kind, deliveries): return 'again'\n",
    )
    worker = make("worker", start=False)
    worker.start(until_ready=False)
    problem = worker.wait_ready(503)["problems"][0]
    assert "delivery.py line 1" in problem and "store before answer" in problem


def test_jobs_survive_the_end_of_redis(tmp_path: Path, make: Make, engine: OpenAIServer) -> None:
    store = RedisProcess(tmp_path / "another")
    store.start()
    front = make("front", REDIS_URL=store.url)
    make("worker", REDIS_URL=store.url)
    engine.delay_s = 0.3
    jobs = [submit(front, f"Question {number}?") for number in range(20)]
    store.kill()
    with front.client() as client:
        answer = client.post("/v1/jobs", json={"question": "Anybody?"})
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) > 0
    store.start()
    assert [item["status"] for item in finished(front, *jobs)] == ["done"] * 20
    store.kill()


@pytest.mark.parametrize("backend", queue_backends.BACKENDS[1:], indirect=True)
def test_jobs_survive_the_end_of_kafka(tmp_path: Path, make: Make, engine: OpenAIServer) -> None:
    """What is accepted while the broker is away is in Redis, and follows when it is back."""
    broker = KafkaProcess(tmp_path / "broker")
    broker.start()
    settings = {"JOBS_QUEUE": "kafka", "KAFKA_BOOTSTRAP": broker.bootstrap}
    front = make("front", **settings)
    make("worker", **settings)
    engine.delay_s = 0.3
    jobs = [submit(front, f"Question {number}?") for number in range(10)]
    broker.kill()
    jobs += [submit(front, f"Meanwhile {number}?") for number in range(2)]
    broker.start()
    assert [item["status"] for item in finished(front, *jobs)] == ["done"] * 12
    broker.kill()
