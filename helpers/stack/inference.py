"""The inference layer: what a client of vLLM's OpenAI-compatible service sees, as typed results.

Every call has a deadline. Whatever goes wrong is raised as the most specific `InferenceFault`, and
each of those knows whether trying again can help: a refused connection and a pod that is still
loading may pass, a wrong model name and an overlong prompt never will.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from helpers.errors import LabError
from helpers.stack.call_limit import CallLimit
from helpers.stack.metrics import Metrics

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
Message = dict[str, str]
DEFAULT_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 5.0
EVENTS_END = "[DONE]"
_ERRNO = re.compile(r"\[Errno -?\d+\] ")


class InferenceFault(LabError):
    """A request to the inference service that was not answered as asked."""

    retryable = False

    def __init__(self, message: str, *, status: int | None = None, next_command: str = "") -> None:
        super().__init__(message, next_command=next_command)
        self.status = status


class ConnectionFailed(InferenceFault):
    """Nobody accepted the connection, or it broke: a pod that is starting, ending or gone."""

    retryable = True


class RequestTimedOut(InferenceFault):
    """No answer within the deadline: a queue, a lost connection, or a policy that drops packets."""

    retryable = True


class NotReady(InferenceFault):
    """502, 503 or 504: somebody answered in the place of a service that cannot serve now."""

    retryable = True


class TooManyRequests(InferenceFault):
    """429: asked to slow down."""

    retryable = True


class ServerFailed(InferenceFault):
    """Another 5xx: the engine failed on this request."""

    retryable = True


class ModelNotFound(InferenceFault):
    """404: the service does not serve a model of that name. Trying again changes nothing."""


class Unauthorized(InferenceFault):
    """401 or 403: the API key is missing or wrong."""


class BadRequest(InferenceFault):
    """400 or another 4xx: the request itself is wrong."""


class ContextTooLong(BadRequest):
    """400: prompt and answer together exceed the model's context."""


class AnswerMalformed(InferenceFault):
    """The answer is not what an OpenAI-compatible server sends."""


@dataclass(frozen=True)
class Health:
    """The answer of `/health`."""

    ok: bool
    status: int
    seconds: float


@dataclass(frozen=True)
class ServedModel:
    """One entry of `/v1/models`."""

    id: str
    max_model_len: int | None
    root: str


@dataclass(frozen=True)
class TokenCount:
    """How many tokens the server's own tokenizer and chat template make of a prompt."""

    count: int
    max_model_len: int

    def room(self, reserve: int = 0) -> int:
        """Tokens left for the answer after a reserve."""
        return self.max_model_len - self.count - reserve


@dataclass(frozen=True)
class Answer:
    """A chat completion, whole."""

    id: str
    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float


@dataclass(frozen=True)
class Stream:
    """A chat completion as it arrived: times in seconds since the request was sent."""

    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    token_times_s: tuple[float, ...]
    seconds: float

    @property
    def ttft_s(self) -> float | None:
        """Time to first token: queueing and the prompt's computation."""
        return self.token_times_s[0] if self.token_times_s else None

    @property
    def itl_s(self) -> tuple[float, ...]:
        """Inter-token latencies: the gaps between one piece of the answer and the next."""
        times = self.token_times_s
        return tuple(after - before for before, after in pairwise(times))

    @property
    def decode_tokens_per_s(self) -> float | None:
        """The pace after the first token; None for answers of one token."""
        if len(self.token_times_s) < 2 or self.seconds <= self.token_times_s[0]:
            return None
        return (self.completion_tokens - 1) / (self.seconds - self.token_times_s[0])


class InferenceClient:
    """A client of one OpenAI-compatible service, such as a port-forward to `service/vllm`.

    Args:
        base_url: scheme, host and port, without `/v1`.
        model: the name to ask for; the first one the service lists unless given.
        api_key: sent as a bearer token.
        timeout_s: what a call may take as a whole unless it is told otherwise.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        import httpx

        self.base_url, self.timeout_s, self._api_key = base_url.rstrip("/"), timeout_s, api_key
        self._model = model
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # A new connection for each request: a kept one would stick to a pod that is going away.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=self.base_url, headers=headers, limits=limits, trust_env=False)

    def close(self) -> None:
        """Close what is open; the client is of no use afterwards."""
        self._http.close()

    def __enter__(self) -> InferenceClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def model(self) -> str:
        """The model that is asked for.

        Raises:
            ModelNotFound: none was named, and the service lists none.
        """
        if self._model is None:
            served = self.models()
            if not served:
                raise ModelNotFound("the service lists no model at all")
            self._model = served[0].id
        return self._model

    def health(self, *, timeout_s: float = 5.0) -> Health:
        """What a readiness probe would see; a refused connection is raised, another status is not."""
        began = time.monotonic()
        response = self._request("GET", "/health", timeout_s=timeout_s)
        return Health(response.status_code == 200, response.status_code, time.monotonic() - began)

    def models(self, *, timeout_s: float = 10.0) -> list[ServedModel]:
        """The models the service answers to."""
        tree = self._json("GET", "/v1/models", timeout_s=timeout_s)
        try:
            return [
                ServedModel(item["id"], item.get("max_model_len"), item.get("root", ""))
                for item in tree["data"]
            ]
        except (KeyError, TypeError, AttributeError) as error:
            raise AnswerMalformed(f"/v1/models answered no list of models: {_short(tree)}") from error

    def count_tokens(self, prompt: str | Sequence[Message], *, timeout_s: float = 10.0) -> TokenCount:
        """Count a prompt's tokens with the server's tokenizer; messages include the chat template."""
        body: dict[str, Any] = {"model": self.model}
        body |= {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
        tree = self._json("POST", "/tokenize", body=body, timeout_s=timeout_s)
        try:
            return TokenCount(int(tree["count"]), int(tree["max_model_len"]))
        except (KeyError, TypeError, ValueError) as error:
            raise AnswerMalformed(f"/tokenize answered no count of tokens: {_short(tree)}") from error

    def metrics(self, *, timeout_s: float = 5.0) -> Metrics:
        """The server's own metrics, now.

        Raises:
            MetricsMalformed: the answer is something else, such as a page of a proxy.
            InferenceFault: the most specific one.
        """
        response = self._request("GET", "/metrics", timeout_s=timeout_s)
        _raise_for(response.status_code, response.text)
        return Metrics.parse(response.text)

    def chat(
        self,
        messages: str | Sequence[Message],
        *,
        model: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        timeout_s: float | None = None,
    ) -> Answer:
        """A chat completion through the OpenAI client, which is told not to retry: that is ours to decide.

        Raises:
            InferenceFault: the most specific one.
        """
        limit_s = timeout_s or self.timeout_s
        wanted = model or self.model
        import openai  # noqa: F401  # takes a second the first time: before the clock starts

        began = time.monotonic()
        with _openai_errors(limit_s) as limit, self._openai(limit) as client:
            completion = client.chat.completions.create(
                model=wanted,
                messages=_messages(messages),
                max_tokens=max_tokens,
                temperature=temperature,
            )
        return _answer(completion, time.monotonic() - began)

    def stream(
        self,
        messages: str | Sequence[Message],
        *,
        model: str | None = None,
        max_tokens: int = 64,
        temperature: float = 0.0,
        ignore_eos: bool = False,
        timeout_s: float | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Stream:
        """A chat completion as a stream of server-sent events, each piece with the time it came.

        Args:
            ignore_eos: generate `max_tokens` tokens whatever the model wants; vLLM's own option.
            on_text: called with each piece of text.

        Raises:
            ConnectionFailed: also when the stream breaks before its end.
            InferenceFault: the most specific one.
        """
        body = {
            "model": model or self.model,
            "messages": _messages(messages),
            "max_tokens": max_tokens,
            "temperature": temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
            **({"ignore_eos": True} if ignore_eos else {}),
        }
        limit_s = timeout_s or self.timeout_s
        began = time.monotonic()
        reader = _StreamReader(began, on_text)
        with (
            _http_errors(limit_s) as limit,
            self._http.stream("POST", "/v1/chat/completions", json=body, **_bounds(limit)) as response,
        ):
            kind = response.headers.get("content-type", "")
            if response.status_code != 200 or not kind.startswith("text/event-stream"):
                text = response.read().decode(errors="replace")
                _raise_for(response.status_code, text)
                raise AnswerMalformed(f"not a stream of events but {kind or 'nothing'}: {_short(text)}")
            for line in response.iter_lines():
                reader.read(line)
        return reader.result(time.monotonic() - began)

    def _openai(self, limit: CallLimit) -> Any:
        import httpx2  # the OpenAI client's own HTTP library
        from openai import OpenAI

        def watched(request: httpx2.Request) -> None:
            request.extensions["trace"] = limit.watch

        timeout = httpx2.Timeout(limit.limit_s, connect=min(CONNECT_TIMEOUT_S, limit.limit_s))
        limits = httpx2.Limits(max_keepalive_connections=0)
        hooks = {"request": [watched]}
        return OpenAI(
            base_url=f"{self.base_url}/v1",
            api_key=self._api_key or "none",
            max_retries=0,
            timeout=timeout,
            http_client=httpx2.Client(timeout=timeout, limits=limits, trust_env=False, event_hooks=hooks),
        )

    def _json(self, method: str, path: str, *, body: Any = None, timeout_s: float) -> Any:
        response = self._request(method, path, body=body, timeout_s=timeout_s)
        _raise_for(response.status_code, response.text)
        try:
            return response.json()
        except ValueError as error:
            raise AnswerMalformed(f"{path} did not answer JSON: {_short(response.text)}") from error

    def _request(self, method: str, path: str, *, body: Any = None, timeout_s: float) -> httpx.Response:
        with _http_errors(timeout_s) as limit:
            return self._http.request(method, path, json=body, **_bounds(limit))


class _StreamReader:
    """Collects the events of one stream."""

    def __init__(self, began: float, on_text: Callable[[str], None] | None) -> None:
        self._began, self._on_text = began, on_text
        self._pieces: list[str] = []
        self._times: list[float] = []
        self._model, self._reason, self._prompt, self._completion, self._ended = "", "", 0, 0, False

    def read(self, line: str) -> None:
        if not line.startswith("data:"):
            return
        data = line.removeprefix("data:").strip()
        if data == EVENTS_END:
            self._ended = True
            return
        try:
            pieces = self._event(json.loads(data), data)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise AnswerMalformed(f"the stream holds what is no event of it: {_short(data)}") from error
        if self._on_text:
            for text in pieces:
                self._on_text(text)

    def _event(self, event: Any, data: str) -> list[str]:
        """Take an event in; returns the text it brought."""
        if fault := event.get("error"):
            code = fault.get("code") if isinstance(fault, dict) else None
            raise fault_of(code if isinstance(code, int) and code >= 400 else 500, data)
        self._model = event.get("model") or self._model
        if usage := event.get("usage"):
            self._prompt, self._completion = usage["prompt_tokens"], usage["completion_tokens"]
        brought = []
        for choice in event.get("choices") or []:
            self._reason = choice.get("finish_reason") or self._reason
            if text := (choice.get("delta") or {}).get("content"):
                self._times.append(time.monotonic() - self._began)
                brought.append(text)
        self._pieces += brought
        return brought

    def result(self, seconds: float) -> Stream:
        # A server that is killed closes the connection in good order: only the missing end tells.
        if not self._ended:
            raise ConnectionFailed(f"the stream ended after {len(self._pieces)} pieces, before its end")
        text, times = "".join(self._pieces), tuple(self._times)
        return Stream(self._model, text, self._reason, self._prompt, self._completion, times, seconds)


def with_retries(
    call: Callable[[], T],
    *,
    attempts: int = 5,
    base_s: float = 0.5,
    most_s: float = 8.0,
    sleep: Callable[[float], None] = time.sleep,
    jitter: Callable[[], float] = random.random,
    on_retry: Callable[[int, InferenceFault, float], None] | None = None,
) -> T:
    """Call until it works, with exponential back-off and full jitter, as long as trying again can help.

    Args:
        attempts: calls in all.
        base_s, most_s: the pause is drawn from 0 to min(most_s, base_s x 2^n).
        on_retry: told the attempt, its fault and the pause before the next.

    Raises:
        InferenceFault: the last one; at once when it is not retryable.
    """
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except InferenceFault as fault:
            if not fault.retryable or attempt == attempts:
                raise
            pause_s = jitter() * min(most_s, base_s * 2 ** (attempt - 1))
            if on_retry:
                on_retry(attempt, fault, pause_s)
            sleep(pause_s)
    raise AssertionError("attempts must be at least 1")


def fault_of(status: int, body: str) -> InferenceFault:
    """The fault an unsuccessful answer stands for, worded with the server's own message."""
    message = _server_message(body)
    if status < 400:
        return AnswerMalformed(
            f"{status} is not an answer of an inference service ({message})", status=status
        )
    if status in (502, 503, 504):
        return NotReady(f"{status}: nobody can serve now ({message})", status=status)
    if status == 429:
        return TooManyRequests(f"429: {message}", status=status)
    if status >= 500:
        return ServerFailed(f"{status}: {message}", status=status)
    if status == 404:
        return ModelNotFound(f"404: {message}", status=status)
    if status in (401, 403):
        return Unauthorized(f"{status}: {message}", status=status)
    if "context length" in message or "max_model_len" in message or "max_tokens" in message:
        return ContextTooLong(f"{status}: {message}", status=status)
    return BadRequest(f"{status}: {message}", status=status)


def _raise_for(status: int, body: str) -> None:
    if status != 200:
        raise fault_of(status, body)


def _server_message(body: str) -> str:
    try:
        tree = json.loads(body)
    except ValueError:
        return " ".join(body.split())[:200] or "no message"
    error = tree.get("error", tree) if isinstance(tree, dict) else tree
    message = error.get("message", error) if isinstance(error, dict) else error
    return str(message)[:300]


def _messages(messages: str | Sequence[Message]) -> list[Message]:
    return [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)


def _answer(completion: Any, seconds: float) -> Answer:
    try:
        choice, usage = completion.choices[0], completion.usage
        return Answer(
            completion.id,
            completion.model,
            choice.message.content or "",
            choice.finish_reason or "",
            usage.prompt_tokens,
            usage.completion_tokens,
            seconds,
        )
    except (AttributeError, IndexError, TypeError) as error:
        raise AnswerMalformed(f"not a whole completion: {_short(completion)}") from error


def _short(answer: Any) -> str:
    return repr(answer)[:120]


def _bounds(limit: CallLimit) -> dict[str, Any]:
    """What httpx is told of a call's limit: each read's share, and who ends the whole."""
    import httpx

    timeout = httpx.Timeout(limit.limit_s, connect=min(CONNECT_TIMEOUT_S, limit.limit_s))
    return {"timeout": timeout, "extensions": {"trace": limit.watch}}


@contextmanager
def _limited(limit_s: float) -> Iterator[CallLimit]:
    """Whatever a call that ran out of time looks like, it is a time-out: also an end in good order."""
    with CallLimit(limit_s) as limit:
        try:
            yield limit
        except InferenceFault as fault:
            if limit.is_over:
                raise _too_late(limit_s) from fault
            raise
        if limit.is_over:
            raise _too_late(limit_s)


def _too_late(limit_s: float) -> RequestTimedOut:
    return RequestTimedOut(f"no whole answer within {limit_s:g} s")


def _said(error: BaseException) -> str:
    """The system's words without its number: "Connection refused"."""
    return _ERRNO.sub("", str(error)) or type(error).__name__


@contextmanager
def _http_errors(limit_s: float) -> Iterator[CallLimit]:
    """Map httpx's exceptions to ours."""
    import httpx

    with _limited(limit_s) as limit:
        try:
            yield limit
        except httpx.TimeoutException as error:
            raise _too_late(limit_s) from error
        except httpx.TransportError as error:
            raise ConnectionFailed(f"the connection failed: {_said(error)}") from error


@contextmanager
def _openai_errors(limit_s: float) -> Iterator[CallLimit]:
    """Map the OpenAI client's exceptions to ours."""
    import openai

    with _limited(limit_s) as limit:
        try:
            yield limit
        except openai.APITimeoutError as error:
            raise _too_late(limit_s) from error
        except openai.APIConnectionError as error:
            raise ConnectionFailed(f"the connection failed: {_said(error.__cause__ or error)}") from error
        except openai.APIStatusError as error:
            raise fault_of(error.status_code, error.response.text) from error
        except (openai.APIError, ValueError) as error:
            raise AnswerMalformed(f"no completion: {_short(error)}") from error
