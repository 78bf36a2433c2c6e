"""The inference client: typed answers, and for everything else the most specific fault."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from helpers.stack import inference
from helpers.stack.inference import InferenceClient, InferenceFault, with_retries
from helpers.stack.load import QueueSampler, closed_loop, open_loop
from tests.unit.byte_server import answering, page
from tests.unit.openai_server import OpenAIServer, running


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with running() as started:
        yield started


@pytest.fixture
def client(server: OpenAIServer) -> Iterator[InferenceClient]:
    with InferenceClient(server.url, timeout_s=5) as made:
        yield made


def test_health_models_and_tokens_are_typed(client: InferenceClient) -> None:
    assert client.health().ok
    (model,) = client.models()
    assert (model.id, model.max_model_len) == ("small", 64)
    counted = client.count_tokens("five tokens")
    assert (counted.count, counted.room(reserve=10)) == (5, 49)


def test_a_chat_asks_for_the_model_that_is_served(client: InferenceClient, server: OpenAIServer) -> None:
    answer = client.chat("Hi", max_tokens=3)
    assert (answer.text, answer.completion_tokens, answer.finish_reason) == ("Hello there", 3, "stop")
    path, body, _ = server.requests[-1]
    assert path == "/v1/chat/completions"
    assert body["model"] == "small"
    assert body["messages"] == [{"role": "user", "content": "Hi"}]


def test_an_api_key_is_sent_as_a_bearer_token(server: OpenAIServer) -> None:
    with InferenceClient(server.url, model="small", api_key="secret") as client:
        client.chat("Hi")
        client.stream("Hi")
    assert [item[2] for item in server.requests] == ["Bearer secret", "Bearer secret"]


def test_a_stream_tells_when_each_piece_came(client: InferenceClient, server: OpenAIServer) -> None:
    server.token_gap_s = 0.05
    heard: list[str] = []
    stream = client.stream("Count", max_tokens=3, on_text=heard.append)
    assert stream.text == "One two three" == "".join(heard)
    assert (stream.finish_reason, stream.completion_tokens) == ("length", 3)
    # The third piece was sent two gaps after the first: it cannot have come earlier, on any machine.
    assert len(stream.itl_s) == 2 and stream.token_times_s[-1] >= 0.1
    assert stream.ttft_s == stream.token_times_s[0] <= stream.seconds
    assert stream.decode_tokens_per_s is not None and stream.decode_tokens_per_s > 0


@pytest.mark.parametrize(
    ("status", "message", "fault", "retryable"),
    [
        (404, "The model `x` does not exist.", inference.ModelNotFound, False),
        (400, "This model's maximum context length is 64 tokens.", inference.ContextTooLong, False),
        (400, "max_tokens=100 cannot be greater than max_model_len=64", inference.ContextTooLong, False),
        (400, "messages: field required", inference.BadRequest, False),
        (422, "no such parameter", inference.BadRequest, False),
        (401, "invalid key", inference.Unauthorized, False),
        (403, "not yours", inference.Unauthorized, False),
        (429, "slow down", inference.TooManyRequests, True),
        (500, "the engine is dead", inference.ServerFailed, True),
        (503, "no endpoints available", inference.NotReady, True),
        (502, "port-forward: no ready pod", inference.NotReady, True),
    ],
)
@pytest.mark.parametrize("how", ["chat", "stream"])
def test_every_status_is_the_most_specific_fault(
    client: InferenceClient,
    server: OpenAIServer,
    how: str,
    status: int,
    message: str,
    fault: type[InferenceFault],
    retryable: bool,
) -> None:
    _ = client.model
    server.status, server.body = status, json.dumps({"error": {"message": message, "code": status}})
    with pytest.raises(fault) as caught:
        getattr(client, how)("Hi")
    assert type(caught.value) is fault
    assert caught.value.retryable is retryable
    assert caught.value.status == status
    assert message in str(caught.value)


def test_an_error_page_that_is_no_json_keeps_its_words(client: InferenceClient, server: OpenAIServer) -> None:
    server.status, server.body = 502, "Bad Gateway:\n the pod went away"
    with pytest.raises(inference.NotReady, match="the pod went away"):
        client.models()


def test_a_refused_connection_is_a_connection_that_failed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    client = InferenceClient(f"http://127.0.0.1:{port}", model="small")
    for call in (lambda: client.health(), lambda: client.chat("Hi"), lambda: client.stream("Hi")):
        with pytest.raises(inference.ConnectionFailed, match=r"^the connection failed: Connection refused"):
            call()


def test_no_answer_in_time_is_a_timeout(client: InferenceClient, server: OpenAIServer) -> None:
    _ = client.model
    server.delay_s = 1.0
    for call in (client.chat, client.stream):
        with pytest.raises(inference.RequestTimedOut):
            call("Hi", timeout_s=0.2)


def test_a_stream_that_trickles_past_its_deadline_is_a_timeout(
    client: InferenceClient, server: OpenAIServer
) -> None:
    _ = client.model
    server.token_gap_s = 0.3
    with pytest.raises(inference.RequestTimedOut):
        client.stream("Hi", timeout_s=0.4)


def test_a_stream_that_breaks_off_is_not_an_answer(client: InferenceClient, server: OpenAIServer) -> None:
    server.break_after = 2
    with pytest.raises(inference.ConnectionFailed, match="after 2 pieces"):
        client.stream("Hi")


EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
WORD = b'data: {"model": "m", "choices": [{"delta": {"content": "One"}}]}\n\n'


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ("models", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"),
        ("models", b"HTTP/1.1 200 OK\r\nX-Never-Ends: "),
        ("chat", b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"),
        ("stream", EVENTS + WORD + b": kept alive\n\n"),
        ("stream", EVENTS + WORD + b"data: half an event"),
    ],
)
def test_a_server_that_drips_is_cut_off_when_the_call_is_over(how: str, answer: bytes) -> None:
    with answering(answer, then="drip") as url, InferenceClient(url, model="m") as client:
        call = client.models if how == "models" else partial(getattr(client, how), "Hi")
        with pytest.raises(inference.RequestTimedOut, match=r"no whole answer within 0\.3 s"):
            call(timeout_s=0.3)


@pytest.mark.parametrize(
    ("how", "answer", "fault", "words"),
    [
        ("stream", page("{}"), inference.AnswerMalformed, "not a stream of events but application/json"),
        ("stream", EVENTS + b"data: [1]\n\n", inference.AnswerMalformed, "no event of it"),
        ("stream", EVENTS + b'data: {"error": "boom"}\n\n', inference.ServerFailed, "boom"),
        (
            "stream",
            EVENTS + b'data: {"error": {"message": "no", "code": "odd"}}\n\n',
            inference.ServerFailed,
            "no",
        ),
        (
            "stream",
            EVENTS + b'data: {"error": {"message": "slow down", "code": 429}}\n\n',
            inference.TooManyRequests,
            "slow down",
        ),
        ("chat", page("null"), inference.AnswerMalformed, "not a whole completion"),
        ("chat", page('{"choices": []}'), inference.AnswerMalformed, "not a whole completion"),
        ("chat", page("x").replace(b"\nx", b"\n\xff"), inference.AnswerMalformed, "no completion"),
        ("models", page("null"), inference.AnswerMalformed, "no list of models: None"),
        ("models", page("", "307 Temporary Redirect"), inference.AnswerMalformed, "307 is not an answer"),
        ("chat", page("", "307 Temporary Redirect"), inference.AnswerMalformed, "307 is not an answer"),
    ],
)
def test_an_answer_that_is_none_is_named(
    how: str, answer: bytes, fault: type[InferenceFault], words: str
) -> None:
    with answering(answer) as url, InferenceClient(url, model="m", timeout_s=10) as client:
        with pytest.raises(fault, match=words) as caught:
            client.models() if how == "models" else getattr(client, how)("Hi")
        assert type(caught.value) is fault


@pytest.mark.parametrize("then", ["reset", "close"])
@pytest.mark.parametrize(
    ("how", "answer"),
    [("chat", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), ("stream", EVENTS + WORD)],
)
def test_a_connection_that_breaks_half_way_may_be_tried_again(how: str, answer: bytes, then: str) -> None:
    with answering(answer, then=then) as url, InferenceClient(url, model="m") as client:
        with pytest.raises(inference.ConnectionFailed) as caught:
            getattr(client, how)("Hi", timeout_s=10)
        assert caught.value.retryable


def test_a_service_without_a_model_is_not_asked_for_one() -> None:
    with (
        answering(page('{"data": []}')) as url,
        InferenceClient(url) as client,
        pytest.raises(inference.ModelNotFound, match="lists no model"),
    ):
        client.chat("Hi")


def test_what_the_listener_raises_is_its_own_fault(client: InferenceClient) -> None:
    nothing: dict[str, str] = {}
    with pytest.raises(KeyError, match="mine"):
        client.stream("Hi", on_text=lambda text: nothing["mine"])


def test_something_that_is_no_openai_server_is_said_so(server: OpenAIServer, client: InferenceClient) -> None:
    server.status, server.body = 200, ""
    server.RequestHandlerClass.do_GET = lambda self: self._send(200, "<html>nginx</html>")  # type: ignore[attr-defined]
    try:
        with pytest.raises(inference.AnswerMalformed, match="nginx"):
            client.models()
    finally:
        server.RequestHandlerClass.do_GET = lambda self: self._handle(None)  # type: ignore[attr-defined]


def _failing(*faults: InferenceFault) -> tuple[list[int], object]:
    calls: list[int] = []
    pending = list(faults)

    def call() -> str:
        calls.append(len(calls))
        if pending:
            raise pending.pop(0)
        return "done"

    return calls, call


def test_what_may_pass_is_tried_again_with_growing_pauses() -> None:
    calls, call = _failing(inference.ConnectionFailed("refused"), inference.NotReady("503"))
    pauses: list[float] = []
    assert with_retries(call, sleep=pauses.append, jitter=lambda: 1.0) == "done"  # type: ignore[arg-type]
    assert (len(calls), pauses) == (3, [0.5, 1.0])


def test_a_pause_never_exceeds_its_most() -> None:
    _, call = _failing(*[inference.NotReady("503")] * 9)
    pauses: list[float] = []
    with_retries(call, attempts=10, most_s=2.0, sleep=pauses.append, jitter=lambda: 1.0)  # type: ignore[arg-type]
    assert max(pauses) == 2.0


@pytest.mark.parametrize("fault", [inference.ModelNotFound, inference.ContextTooLong, inference.Unauthorized])
def test_what_never_passes_is_not_tried_again(fault: type[InferenceFault]) -> None:
    calls, call = _failing(fault("no"))
    with pytest.raises(fault):
        with_retries(call, sleep=lambda seconds: None)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_the_last_fault_is_raised_when_attempts_run_out() -> None:
    calls, call = _failing(*[inference.RequestTimedOut("late")] * 5)
    with pytest.raises(inference.RequestTimedOut):
        with_retries(call, attempts=3, sleep=lambda seconds: None)  # type: ignore[arg-type]
    assert len(calls) == 3


def test_a_closed_loop_measures_the_answers_of_all_its_clients(client: InferenceClient) -> None:
    result = closed_loop(client, clients=3, requests_each=2, max_tokens=3)
    assert len(result.ok) == 6 and not result.failed
    assert result.tokens_per_s > 0
    assert result.ttft_s(0.5) is not None and result.itl_s(0.95) is not None


def test_an_open_loop_sends_on_schedule_while_answers_are_late(
    client: InferenceClient, server: OpenAIServer
) -> None:
    server.meeting = threading.Barrier(5, timeout=20)
    result = open_loop(client, rate_per_s=20, count=5)
    assert len(result.ok) == 5, "a request waited for the answer of another"
    assert all(item.sent_at_s >= number / 20 for number, item in enumerate(result.outcomes))
    assert all(item.latency_s > 0 for item in result.outcomes)


def test_a_load_reports_what_failed_by_kind(client: InferenceClient, server: OpenAIServer) -> None:
    _ = client.model
    server.status, server.body = 503, "loading"
    result = closed_loop(client, clients=2)
    assert result.faults() == {"NotReady": 2}


def test_a_load_is_bounded(client: InferenceClient) -> None:
    with pytest.raises(ValueError, match="1 to 400"):
        open_loop(client, rate_per_s=1000, count=5000)


def test_the_queue_is_sampled_beside_a_load(client: InferenceClient) -> None:
    with QueueSampler(client, period_s=0.02) as sampler:
        closed_loop(client, clients=1)
    assert sampler.samples
    assert (sampler.samples[0].running, sampler.samples[0].waiting) == (2.0, 3.0)
