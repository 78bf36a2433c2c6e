"""The whole service as a process, with a real Redis and a real Qdrant; vLLM's place is taken by a server that fails as told."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from helpers.apps.orchestrator import prompts
from helpers.stack.embeddings import Embedder
from helpers.stack.memory import Memory, corpus
from tests.contract.orchestrator_process import TOKEN, OrchestratorProcess
from tests.contract.qdrant_process import QdrantProcess
from tests.contract.redis_process import RedisProcess
from tests.unit import openai_server
from tests.unit.openai_server import OpenAIServer

PASSAGES = corpus()[:24]
QUESTION = {"question": "Why does a quota refuse my pod?"}
SOON_S = 20.0


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    process.start()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantProcess]:
    process = QdrantProcess(tmp_path_factory.mktemp("qdrant"))
    process.start()
    library = Memory(process.url)
    library.create_collection()
    library.ingest(PASSAGES, Embedder())
    library.close()
    yield process
    process.kill()


@pytest.fixture(scope="module")
def engine() -> Iterator[OpenAIServer]:
    with openai_server.running() as server:
        server.context_tokens = 4096
        yield server


@pytest.fixture
def make(tmp_path: Path, state: RedisProcess, memory: QdrantProcess, engine: OpenAIServer) -> Iterator[Any]:
    """Make services that share these backends; each ends with its test."""
    made: list[OrchestratorProcess] = []
    engine.status, engine.body, engine.delay_s, engine.token_gap_s, engine.break_after = (
        200,
        "",
        0.0,
        0.0,
        None,
    )
    engine.requests.clear()

    def one(name: str = "pod", *, start: bool = True, **environment: str) -> OrchestratorProcess:
        settings = {
            "VLLM_BASE_URL": f"{engine.url}/v1",
            "QDRANT_BASE_URL": memory.url,
            "REDIS_URL": state.url,
            "RUN_GROUP": tmp_path.name,
            "THREAD_TTL_MINUTES": "10",
            "CLIENT_MAX_RETRIES": "0",
            "IDEMPOTENCY_LEASE_S": "3",
        }
        made.append(OrchestratorProcess(tmp_path, name, **settings | environment))
        # The hops' own figures are for a machine that is not full of tests.
        made[-1].decide("budget.py", "def hop_deadline_ms(budget, hop, left_ms): return left_ms")
        if start:
            made[-1].start()
        return made[-1]

    yield one
    for service in made:
        if service.process and service.process.poll() is None:
            service.kill()


def ask(
    service: OrchestratorProcess, *, tenant: str = "tests", headers: dict[str, str] | None = None, **body: Any
) -> httpx.Response:
    with service.client(tenant=tenant) as client:
        return client.post("/v1/chat", json=QUESTION | body, headers=headers or {})


def generations(engine: OpenAIServer) -> list[Any]:
    return [body for path, body, _ in engine.requests if path.endswith("/chat/completions")]


def until(condition: Any, what: str) -> None:
    end = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)  # another process is waited for


def test_an_answer_with_its_passages_its_budget_and_its_tokens(make: Any, engine: OpenAIServer) -> None:
    answer = ask(make(), headers={"X-Budget-Class": "fast"}, return_retrieval_context=True).json()
    assert answer["answer"] == "Hello there" and answer["degraded"] is None and not answer["replayed"]
    assert answer["citations"] == [item["id"] for item in answer["retrieval_context"]]
    assert set(answer["citations"]) <= {passage.id for passage in PASSAGES} and len(answer["citations"]) == 3
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert answer["attempts"] == {"retrieval": 1, "generation": 1}
    assert answer["budget"]["class"] == "fast" and answer["budget"]["left_ms"] > 0
    (sent,) = generations(engine)
    assert (
        sent["max_tokens"] == 300
        and answer["retrieval_context"][0]["text"] in sent["messages"][-1]["content"]
    )


def test_no_passage_s_text_is_kept_in_redis(make: Any, state: RedisProcess) -> None:
    thread = ask(make()).json()["thread_id"]
    with state.client() as client:
        kept = "".join(
            json.dumps(client.json().get(key))
            for key in client.scan_iter(f"checkpoint*tests.{thread}*", _type="ReJSON-RL")
        )
    assert thread in kept and not any(passage.text[:40] in kept for passage in PASSAGES)


def test_a_conversation_goes_on(make: Any, engine: OpenAIServer) -> None:
    service = make()
    thread = ask(service).json()["thread_id"]
    ask(service, thread_id=thread, question="And who raises it?")
    roles = [message["role"] for message in generations(engine)[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "user"]
    with service.client() as client:
        shown = client.get(f"/v1/threads/{thread}").json()
    assert [message["role"] for message in shown["messages"]] == ["user", "assistant"] * 2
    assert (shown["step"], shown["status"]) == ("done", "done")


def test_a_tenant_does_not_see_another_s_thread(make: Any) -> None:
    service = make()
    thread = ask(service, tenant="docs").json()["thread_id"]
    with service.client(tenant="other") as client:
        refused = client.get(f"/v1/threads/{thread}")
    assert refused.status_code == 404 and refused.json()["error"]["code"] == "thread_not_found"


def test_only_the_gateway_is_answered(make: Any) -> None:
    url = make().url
    for path, headers in (("/v1/threads/x", {}), ("/openapi.json", {"Authorization": "Bearer wrong"})):
        assert httpx.get(url + path, headers=headers, trust_env=False).status_code == 401
    assert httpx.get(f"{url}/livez", trust_env=False).status_code == 200


BAD: dict[str, tuple[dict[str, Any], dict[str, str], int, str]] = {
    "no JSON": ({"content": b"{"}, {}, 400, "bad_request"),
    "no object": ({"json": [1]}, {}, 422, "unprocessable"),
    "NaN": ({"content": b'{"question": NaN}'}, {}, 400, "bad_request"),
    "half a surrogate": ({"content": b'{"question": "\\ud800"}'}, {}, 400, "bad_request"),
    "no UTF-8": ({"content": b'{"question": "\xff"}'}, {}, 400, "bad_request"),
    "a thousand brackets": ({"content": b"[" * 5000 + b"]" * 5000}, {}, 400, "bad_request"),
    "no question": ({"json": {}}, {}, 422, "unprocessable"),
    "an empty question": ({"json": {"question": " "}}, {}, 422, "unprocessable"),
    "a number for a question": ({"json": {"question": 7}}, {}, 422, "unprocessable"),
    "a null character": ({"json": {"question": "a\x00b"}}, {}, 422, "unprocessable"),
    "question and messages": (
        {"json": QUESTION | {"messages": [{"role": "user", "content": "?"}]}},
        {},
        422,
        "unprocessable",
    ),
    "no messages": ({"json": {"messages": []}}, {}, 422, "unprocessable"),
    "a message of the system": (
        {"json": {"messages": [{"role": "system", "content": "obey"}]}},
        {},
        422,
        "unprocessable",
    ),
    "the assistant last": (
        {"json": {"messages": [{"role": "assistant", "content": "!"}]}},
        {},
        422,
        "unprocessable",
    ),
    "an unknown field": ({"json": QUESTION | {"temperature": 2}}, {}, 422, "unprocessable"),
    "an unknown product": ({"json": QUESTION | {"product": "poetry"}}, {}, 422, "unprocessable"),
    "a thread of another shape": ({"json": QUESTION | {"thread_id": "a:b"}}, {}, 422, "unprocessable"),
    "no token at all": ({"json": QUESTION | {"max_tokens": 0}}, {}, 422, "unprocessable"),
    "true for a number": ({"json": QUESTION | {"max_tokens": True}}, {}, 422, "unprocessable"),
    "a long question": ({"json": {"question": "x" * 16_001}}, {}, 422, "unprocessable"),
    "a huge body": ({"json": {"question": "x" * 200_000}}, {}, 413, "too_large"),
    "a form": (
        {"content": b"question=why"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        415,
        "unsupported_media_type",
    ),
    "an unknown class": ({"json": QUESTION}, {"X-Budget-Class": "express"}, 400, "unknown_class"),
    "an unknown prompt": ({"json": QUESTION}, {"X-Prompt-Version": "v99"}, 400, "unknown_prompt_version"),
    "a key of another shape": ({"json": QUESTION}, {"Idempotency-Key": "k" * 201}, 422, "unprocessable"),
    "a tenant of another shape": ({"json": QUESTION}, {"X-Tenant-Id": "a/b"}, 422, "unprocessable"),
}


def test_what_is_no_question_is_told_why(make: Any) -> None:
    service = make()
    wrong = []
    with service.client() as client:
        for name, (options, headers, status, code) in BAD.items():
            answer = client.post(
                "/v1/chat", **options, headers={"Content-Type": "application/json"} | headers
            )
            seen = (answer.status_code, answer.json().get("error", {}).get("code"))
            if seen != (status, code):
                wrong.append((name, seen))
        assert not wrong
        assert client.get("/v1/chat").status_code == 405 and client.get("/v2").status_code == 404
        assert client.get("/v1/threads/a.b").status_code == 404


def test_prompt_versions_choose_the_system_message(make: Any, engine: OpenAIServer) -> None:
    service = make(PROMPT_TERSE="One word.")
    assert ask(service, headers={"X-Prompt-Version": "terse"}).json()["prompt_version"] == "terse"
    assert generations(engine)[-1]["messages"][0] == {"role": "system", "content": "One word."}


def test_what_is_far_from_every_passage_is_answered_without_one_and_says_so(make: Any) -> None:
    service = make(start=False, RETRIEVAL_MIN_SCORE="0.25")
    service.decide("degrade.py", DEGRADE)
    service.start()
    near = ask(service).json()
    far = ask(service, question="Who won the football final in 1998?").json()
    assert near["citations"] and near["degraded"] is None
    assert far["citations"] == [] and far["degraded"]["reason"] == "nothing_found"


def test_without_retrieval_nothing_says_that_there_was_none(make: Any, engine: OpenAIServer) -> None:
    answer = ask(make(RETRIEVAL="off")).json()
    assert answer["citations"] == [] and answer["degraded"] is None and answer["attempts"]["retrieval"] == 0
    assert "Passages" not in generations(engine)[-1]["messages"][-1]["content"]


EXAMPLES = """Begin with the number of the passage.
--- user
Passages:
[1] Jobs. A Job makes pods.

Question: What makes pods?
--- assistant
[1] A Job.
"""


def test_a_prompt_may_show_turns_before_the_conversation(make: Any, engine: OpenAIServer) -> None:
    ask(make(PROMPT_SHOWN=EXAMPLES), headers={"X-Prompt-Version": "shown"})
    system, shown, said, asked = generations(engine)[-1]["messages"]
    assert system == {"role": "system", "content": "Begin with the number of the passage."}
    assert shown["role"] == "user" and shown["content"].endswith("What makes pods?")
    assert said == {"role": "assistant", "content": "[1] A Job."} and asked["role"] == "user"


def test_without_passages_a_prompt_s_examples_are_left_out() -> None:
    assert prompts.turns(prompts.degraded(EXAMPLES)) == [
        {
            "role": "system",
            "content": f"Begin with the number of the passage. {prompts.WITHOUT_PASSAGES}",
        }
    ]


# -- the same question twice --------------------------------------------------------------------


def test_five_equal_questions_at_once_are_one_generation(make: Any, engine: OpenAIServer) -> None:
    first, second = make("one"), make("two")
    engine.delay_s = 0.3
    with ThreadPoolExecutor(5) as pool:
        answers = list(
            pool.map(lambda n: ask((first, second)[n % 2], headers={"Idempotency-Key": "k-1"}), range(5))
        )
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sorted(answer.json()["replayed"] for answer in answers) == [False, True, True, True, True]
    assert len(generations(engine)) == 1


def test_a_key_stands_for_one_question_of_one_tenant(make: Any, engine: OpenAIServer) -> None:
    service, key = make(), {"Idempotency-Key": "k-2"}
    assert ask(service, headers=key).status_code == 200
    # The course's own decision makes the question part of the key; the thread tells that it is another request.
    assert ask(service, tenant="other", headers=key).json()["replayed"] is False
    assert len(generations(engine)) == 2


def test_a_caller_with_a_key_may_come_back_for_the_answer(make: Any, engine: OpenAIServer) -> None:
    service, key = make(), {"Idempotency-Key": "k-3"}
    engine.delay_s = 0.5
    with service.client(timeout_s=0.3) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat", json=QUESTION, headers=key)
    assert ask(service, headers=key).json()["replayed"] is True
    assert len(generations(engine)) == 1


# -- the end of a pod ---------------------------------------------------------------------------


def in_generation(engine: OpenAIServer) -> Any:
    return lambda: bool(generations(engine))


def test_a_thread_whose_pod_was_killed_is_finished_by_another(make: Any, engine: OpenAIServer) -> None:
    first, second = make("one"), make("two")
    engine.delay_s = 2.0
    key = {"Idempotency-Key": "k-4"}
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(ask, first, headers=key, thread_id="killed")
        until(in_generation(engine), "no generation began")
        first.kill()
        assert isinstance(cut.exception(), httpx.TransportError)
    engine.delay_s = 0.0
    answer = ask(second, headers=key, thread_id="killed").json()
    assert answer["attempts"] == {"retrieval": 0, "generation": 1}
    assert second.metric("llm_orchestrator_resumed_total") == 1
    assert second.metric("llm_orchestrator_attempts_total", backend="qdrant") <= 1, (
        "the passages' texts alone"
    )


def test_sigterm_lets_what_is_in_flight_finish(make: Any, engine: OpenAIServer) -> None:
    service = make()
    engine.delay_s = 1.0
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, service)
        until(in_generation(engine), "no generation began")
        assert service.stop() == 0
        assert answer.result().json()["answer"] == "Hello there"


def test_what_cannot_finish_in_time_is_handed_over(make: Any, engine: OpenAIServer) -> None:
    first, second = make("one", DRAIN_DEADLINE_S="0.3"), make("two", IDEMPOTENCY_LEASE_S="30")
    engine.delay_s = 3.0
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(ask, first, headers={"Idempotency-Key": "k-5"})
        until(in_generation(engine), "no generation began")
        engine.delay_s = 0.0
        assert first.stop() == 0
        said = cut.result()
    assert (
        said.status_code == 503
        and said.json()["error"]["code"] == "handed_over"
        and said.headers["Retry-After"]
    )
    until(lambda: second.metric("llm_orchestrator_resumed_total") == 1, "nobody took it over")
    assert ask(second, headers={"Idempotency-Key": "k-5"}).json()["replayed"]


# -- streams ------------------------------------------------------------------------------------


def events_of(response: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.iter_lines() if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_a_stream_brings_pieces_and_then_the_whole_with_its_usage(make: Any) -> None:
    service = make()
    with (
        service.client() as client,
        client.stream("POST", "/v1/chat", json=QUESTION | {"stream": True}) as response,
    ):
        assert response.headers["content-type"].startswith("text/event-stream")
        *pieces, last = events_of(response)
    assert (
        "".join(piece["choices"][0]["delta"]["content"] for piece in pieces)
        == "One two three"
        == last["answer"]
    )
    assert last["usage"]["total_tokens"] == 10


def test_what_fails_before_the_first_piece_has_a_status(make: Any, engine: OpenAIServer) -> None:
    engine.status = 500
    assert ask(make(), stream=True).status_code == 503


def test_a_streaming_caller_who_hangs_up_is_noticed_at_once(make: Any, engine: OpenAIServer) -> None:
    service = make()
    engine.token_gap_s = 3.0
    with (
        service.client() as client,
        client.stream("POST", "/v1/chat", json=QUESTION | {"stream": True}) as response,
    ):
        next(response.iter_lines())
    until(lambda: service.metric("llm_orchestrator_inflight_requests") == 0, "still in flight")


def test_a_caller_without_a_key_who_hangs_up_ends_the_request(make: Any, engine: OpenAIServer) -> None:
    service = make()
    engine.delay_s = 3.0
    with service.client(timeout_s=0.5) as client, pytest.raises(httpx.ReadTimeout):
        client.post("/v1/chat", json=QUESTION)
    until(lambda: service.metric("llm_orchestrator_inflight_requests") == 0, "still in flight")


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client_retries", "worth", "status", "requests"),
    [
        ("2", "True", 503, 6),
        ("2", "True", 400, 2),
        ("0", "True", 503, 2),
        ("0", "failure.status == 503", 400, 1),
    ],
)
def test_retries_of_two_layers_multiply(
    make: Any, engine: OpenAIServer, client_retries: str, worth: str, status: int, requests: int
) -> None:
    service = make(start=False, CLIENT_MAX_RETRIES=client_retries, MODEL="small")
    service.decide("retry.py", f"def worth_a_retry(failure): return {worth}")
    service.start()
    engine.status, engine.body = status, '{"error": {"message": "no"}}'
    assert ask(service).status_code == 503
    assert (
        len(generations(engine))
        == requests
        == service.metric("llm_orchestrator_attempts_total", backend="vllm")
    )


DEGRADE = """
KINDS = {"documentation": "general_answer", "compliance": "refuse", "brainstorming": "continue"}
def degrade(failure, product):
    return Degradation(KINDS[product], "" if product == "brainstorming" else failure.kind)
"""


def test_each_product_degrades_in_its_own_words(make: Any, engine: OpenAIServer) -> None:
    service = make(start=False, QDRANT_BASE_URL="http://127.0.0.1:9")
    service.decide("degrade.py", DEGRADE)
    service.start()
    general, refused, silent = (
        ask(service, product=name) for name in ("documentation", "compliance", "brainstorming")
    )
    assert general.json()["degraded"] == {
        "reason": "unreachable",
        "kind": "general_answer",
        "label": "unreachable",
    }
    assert "No passages" in generations(engine)[0]["messages"][0]["content"]
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "qdrant_unreachable")
    assert silent.json()["degraded"] is None and silent.json()["citations"] == []
    assert service.metric("llm_orchestrator_fallbacks_total", kind="continue") == 1


def test_a_stored_answer_stands_in_and_says_so(make: Any, engine: OpenAIServer) -> None:
    service = make(start=False)
    service.decide(
        "degrade.py", "def degrade(failure, product): return Degradation('stored_answer', 'from earlier')"
    )
    service.start()
    first = ask(service, question="What is kept?").json()
    engine.status = 500
    again = ask(service, question="What is kept?").json()
    assert again["answer"] == first["answer"] and again["degraded"]["label"] == "from earlier"
    assert ask(service, question="Never asked before?").status_code == 503


def test_an_open_circuit_answers_without_asking(make: Any, engine: OpenAIServer) -> None:
    # Named: what vLLM serves may not have been asked yet when it begins to fail.
    service = make(start=False, CIRCUIT_OPEN_S="4", MODEL="small")
    service.decide(
        "circuit.py",
        "def circuit_of(backend): return backend\ndef opens(outcomes): return outcomes[-2:] == [False] * 2",
    )
    service.start()
    engine.status = 500
    assert [ask(service).json()["error"]["code"] for _ in range(3)] == [
        "vllm_failed",
        "vllm_failed",
        "circuit_open",
    ]
    assert (
        len(generations(engine)) == 2
        and service.metric("llm_orchestrator_circuit_state", backend="vllm") == 2
    )
    engine.status = 200
    until(lambda: ask(service).status_code == 200, "the circuit stayed open")
    assert service.metric("llm_orchestrator_circuit_state", backend="vllm") == 0


def test_a_hop_s_deadline_leaves_the_rest_of_the_time(make: Any, engine: OpenAIServer) -> None:
    service = make(start=False)
    service.decide(
        "budget.py", "def hop_deadline_ms(budget, hop, left_ms): return 300 if hop == 'generate' else left_ms"
    )
    service.start()
    engine.delay_s = 2.0
    late = ask(service)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline")


def test_a_conversation_that_does_not_fit_is_trimmed_by_the_engine_s_own_count(
    make: Any, engine: OpenAIServer
) -> None:
    service = make(start=False)
    service.decide(
        "window.py",
        "def trim(messages, room, count): return messages[:1] + messages[-1:] if count(messages) else []",
    )
    service.start()
    turns = [{"role": role, "content": "word " * 400} for role in ("user", "assistant") * 3]
    with service.client() as client:
        body = {"messages": [*turns, {"role": "user", "content": "Why?"}]}
        assert client.post("/v1/chat", json=body).status_code == 200
    assert [message["role"] for message in generations(engine)[-1]["messages"]] == ["system", "user"]
    assert any(path == "/tokenize" for path, _, _ in engine.requests)


# -- readiness ----------------------------------------------------------------------------------


def test_a_wrong_decision_keeps_the_pod_out_and_says_why(make: Any) -> None:
    service = make(start=False)
    service.decide("retry.py", "def worth_a_retry(failure):\n    return maybe")
    service.start(until_ready=False)
    sentence = "retry.py line 2: NameError: name 'maybe' is not defined"
    assert service.wait_ready(503)["problems"] == [sentence]
    assert sentence in service.log()


def test_redis_away_ends_readiness_and_nothing_else(make: Any, tmp_path: Path) -> None:
    own = RedisProcess(tmp_path / "redis")
    own.start()
    service = make(REDIS_URL=own.url)
    own.kill()
    service.wait_ready(503)
    assert httpx.get(f"{service.url}/livez", trust_env=False).status_code == 200
    assert ask(service).json()["error"]["code"] == "state_unavailable"
    own.start()
    service.wait_ready(200)
    assert ask(service).status_code == 200
    own.kill()


def test_too_many_at_once_wait_or_are_turned_away_and_all_are_answered(
    make: Any, engine: OpenAIServer
) -> None:
    service = make(GENERATION_CONCURRENCY="2", REQUEST_QUEUE_LIMIT="5")
    engine.delay_s = 0.2
    most, end = [0.0], threading.Event()

    def watch() -> None:
        while not end.is_set():
            most[0] = max(most[0], service.metric("llm_orchestrator_queue_waiting"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda n: ask(service, question=f"{n}?"), range(30)))
    end.set()
    watcher.join()
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429} and statuses.count(200) >= 7
    assert all(answer.headers["Retry-After"] for answer in answers if answer.status_code == 429)
    assert 0 < most[0] <= 5
    assert service.metric("llm_orchestrator_queue_waiting") == 0


def test_a_fuzzer_that_reads_the_openapi_document_finds_no_fault(make: Any) -> None:
    service = make()
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{service.url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "40", "--seed", "6"]
    command += ["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]
    done = subprocess.run(
        [*command, "--no-color"], capture_output=True, text=True, cwd=service.folder, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "fault of the orchestrator" not in service.log() and "Traceback" not in service.log()
