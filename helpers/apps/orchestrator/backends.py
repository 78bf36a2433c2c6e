"""vLLM and Qdrant as the graph asks them: pooled connections, and failures by kind.

Qdrant is asked over its REST paths with httpx. The package qdrant-client would do it too, but its
models of the whole API take 57 MiB and a second of every start, and this service sends two requests.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2  # the HTTP library that the openai client brings
import openai
from prometheus_client import Counter

from helpers.apps.orchestrator.decisions import Failure, Message
from helpers.apps.orchestrator.errors import BackendFailed
from helpers.apps.orchestrator.settings import Settings
from helpers.apps.orchestrator.tracing import OFF, Tracing

CONNECT_S = 2.0
REMEMBERED_PASSAGES = 512
ASKING = {"qdrant": "/points/query", "vllm": "/chat/completions"}
# Waiting heals these; everything else is the request's own fault or the operator's.
BREAKS = ("unreachable", "timed_out", "overloaded", "failed")
sent: ContextVar[dict[str, int] | None] = ContextVar("sent", default=None)
"""How many searches and generations the run in hand has asked for, by backend."""


class Counts(Protocol):
    """Where each try is counted, by backend."""

    attempts: Counter


@dataclass(frozen=True)
class Passage:
    """One chunk of the corpus, as retrieved."""

    id: str
    title: str
    text: str
    score: float = 0.0


@dataclass
class Completion:
    """What vLLM answered."""

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    pieces: list[str] = field(default_factory=list)


class Backends:
    """Both backends behind one set of connections."""

    def __init__(self, settings: Settings, metrics: Counts, tracing: Tracing = OFF) -> None:
        self._settings, self._metrics, self._tracing = settings, metrics, tracing
        self._qdrant = httpx2.AsyncClient(
            base_url=settings.qdrant_base_url,
            timeout=httpx2.Timeout(None, connect=CONNECT_S),
            limits=httpx2.Limits(max_connections=settings.retrieval_concurrency),
            event_hooks={"request": [self._counted("qdrant")]},
            **_plain(settings.qdrant_base_url),
        )
        self._vllm = openai.AsyncOpenAI(
            base_url=settings.vllm_base_url,
            api_key="none",
            max_retries=settings.client_max_retries,
            http_client=openai.DefaultAsyncHttpxClient(
                event_hooks={"request": [self._counted("vllm")]}, **_plain(settings.vllm_base_url)
            ),
        )
        self._tokens = httpx2.AsyncClient(
            base_url=settings.vllm_base_url.removesuffix("/").removesuffix("/v1"),
            timeout=httpx2.Timeout(5.0, connect=CONNECT_S),
            **_plain(settings.vllm_base_url),
        )
        self._passages: OrderedDict[str, Passage] = OrderedDict()
        self._served: tuple[str, int] | None = None

    async def close(self) -> None:
        await self._qdrant.aclose()
        await self._tokens.aclose()
        await self._vllm.close()

    def _counted(self, backend: str) -> Callable[[Any], Any]:
        async def count(request: Any) -> None:
            request.headers.update(self._tracing.headers())
            if not request.url.path.endswith(ASKING[backend]):
                return  # it asks what is served, or for texts by their ids
            self._metrics.attempts.labels(backend).inc()
            mine = sent.get()
            if mine is not None:
                mine[backend] += 1

        return count

    # -- Qdrant -------------------------------------------------------------------------------

    async def search(self, vector: Sequence[float], limit: int, attempt: int) -> list[Passage]:
        """The passages nearest to a vector, best first.

        Raises:
            BackendFailed: Qdrant did not answer, or refused; `nothing_found` when it knows none.
        """
        body: dict[str, Any] = {"query": list(vector), "limit": limit, "with_payload": ["title", "text"]}
        if self._settings.retrieval_min_score > 0:
            body["score_threshold"] = self._settings.retrieval_min_score
        result = await self._ask_qdrant(
            f"/collections/{self._settings.qdrant_collection}/points/query", body, attempt
        )
        found = [_passage(point) for point in result["points"]]
        if not found:
            raise BackendFailed("Qdrant knows no passage", Failure("nothing_found", "qdrant", 200, attempt))
        for passage in found:
            self._remember(passage)
        return found

    async def passages(self, ids: Sequence[str]) -> list[Passage]:
        """The passages with these ids, in this order; asked for only where this process has not seen them."""
        missing = [name for name in ids if name not in self._passages]
        if missing:
            path = f"/collections/{self._settings.qdrant_collection}/points"
            for point in await self._ask_qdrant(path, {"ids": missing, "with_payload": ["title", "text"]}, 1):
                self._remember(_passage(point))
        return [self._passages[name] for name in ids if name in self._passages]

    def _remember(self, passage: Passage) -> None:
        self._passages[passage.id] = passage
        self._passages.move_to_end(passage.id)
        while len(self._passages) > REMEMBERED_PASSAGES:
            self._passages.popitem(last=False)

    async def _ask_qdrant(self, path: str, body: dict[str, Any], attempt: int) -> Any:
        with self._tracing.call("qdrant", path):
            return await self._posted(path, body, attempt)

    async def _posted(self, path: str, body: dict[str, Any], attempt: int) -> Any:
        try:
            answer = await self._qdrant.post(path, json=body)
        except httpx2.TimeoutException as error:
            raise BackendFailed(
                "Qdrant does not answer", Failure("timed_out", "qdrant", None, attempt)
            ) from error
        except httpx2.HTTPError as error:
            raise BackendFailed(
                f"no connection to Qdrant: {error or type(error).__name__}",
                Failure("unreachable", "qdrant", None, attempt),
            ) from error
        if answer.status_code != 200:
            kind = _qdrant_kind(answer.status_code, answer.text)
            raise BackendFailed(
                f"Qdrant answered {answer.status_code}: {answer.text[:200]}",
                Failure(kind, "qdrant", answer.status_code, attempt),
            )
        try:
            return answer.json()["result"]
        except (ValueError, KeyError, TypeError) as error:
            raise BackendFailed(
                "this is not Qdrant's answer", Failure("failed", "qdrant", 200, attempt)
            ) from error

    # -- vLLM ---------------------------------------------------------------------------------

    @property
    def context_tokens(self) -> int:
        """How many tokens the model's context holds; 0 while that is unknown."""
        return self._served[1] if self._served else 0

    @property
    def model(self) -> str:
        """The model that is asked; empty while that is unknown."""
        return self._settings.model or (self._served[0] if self._served else "")

    async def learn_model(self) -> str:
        """Ask vLLM what it serves, and keep it.

        Raises:
            BackendFailed: vLLM did not answer, or does not serve the model that is configured.
        """
        async with _vllm_failures(1):
            listed = (await self._vllm.with_options(max_retries=0, timeout=CONNECT_S).models.list()).data
        wanted = self._settings.model
        chosen = next((item for item in listed if item.id == wanted or not wanted), None)
        if chosen is None:
            raise BackendFailed(f"vLLM does not serve {wanted!r}", Failure("model_missing", "vllm", 404))
        self._served = chosen.id, int(getattr(chosen, "max_model_len", None) or 0)
        return str(chosen.id)

    async def _model(self) -> str:
        if self._settings.model or self._served:
            return self._settings.model or self._served[0]  # type: ignore[index]
        return await self.learn_model()

    async def count_tokens(self, messages: list[Message]) -> int:
        """How many tokens the engine's own tokenizer and chat template make of messages.

        Raises:
            BackendFailed: vLLM did not answer.
        """
        name = await self._model()
        try:
            answer = await self._tokens.post("/tokenize", json={"model": name, "messages": messages})
            return int(answer.raise_for_status().json()["count"])
        except (httpx2.HTTPError, ValueError, KeyError) as error:
            raise BackendFailed(f"vLLM does not count tokens: {error}", Failure("failed", "vllm")) from error

    async def complete(
        self,
        messages: list[Message],
        max_tokens: int,
        attempt: int,
        on_piece: Callable[[str], None] | None = None,
    ) -> Completion:
        """An answer to these messages; `on_piece` is told each piece as it comes.

        Raises:
            BackendFailed: vLLM did not answer, or refused.
        """
        name = await self._model()
        asked: dict[str, Any] = {
            "model": name,
            "messages": messages,
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        with self._tracing.call("vllm", f"/v1{ASKING['vllm']}"):
            return await self._completed(asked, attempt, on_piece)

    async def _completed(
        self, asked: dict[str, Any], attempt: int, on_piece: Callable[[str], None] | None
    ) -> Completion:
        async with _vllm_failures(attempt):
            if on_piece is None:
                return _whole(await self._vllm.chat.completions.create(**asked))
            done = Completion()
            stream = await self._vllm.chat.completions.create(
                **asked, stream=True, stream_options={"include_usage": True}
            )
            async with stream:
                async for chunk in stream:
                    _take(chunk, done, on_piece)
            done.text = "".join(done.pieces)
            return done


def _plain(url: str) -> dict[str, Any]:
    """Options of a client inside the cluster: no proxies, and no certificates are loaded where there is no TLS."""
    return {"trust_env": False, "verify": url.startswith("https://")}


def _passage(point: dict[str, Any]) -> Passage:
    payload = point.get("payload") or {}
    text, title = str(payload.get("text", "")), str(payload.get("title", ""))
    return Passage(str(point["id"]), title, text, float(point.get("score") or 0.0))


def _qdrant_kind(status: int, text: str) -> str:
    if status == 404:
        return "collection_missing"
    if status in (400, 422):
        return "wrong_dimension" if "dimension" in text.lower() else "refused"
    return "overloaded" if status == 429 else "failed"


def _whole(answer: Any) -> Completion:
    choice, usage = answer.choices[0], answer.usage
    text = choice.message.content or ""
    return Completion(text, choice.finish_reason or "", usage.prompt_tokens, usage.completion_tokens)


def _take(chunk: Any, done: Completion, on_piece: Callable[[str], None]) -> None:
    for choice in chunk.choices:
        if choice.delta.content:
            done.pieces.append(choice.delta.content)
            on_piece(choice.delta.content)
        done.finish_reason = choice.finish_reason or done.finish_reason
    if chunk.usage:
        done.prompt_tokens, done.completion_tokens = chunk.usage.prompt_tokens, chunk.usage.completion_tokens


@asynccontextmanager
async def _vllm_failures(attempt: int) -> AsyncIterator[None]:
    """Map the openai client's exceptions to ours."""

    def failed(kind: str, status: int | None = None) -> Failure:
        return Failure(kind, "vllm", status, attempt)

    try:
        yield
    except openai.APITimeoutError as error:
        raise BackendFailed("vLLM does not answer", failed("timed_out")) from error
    except openai.APIConnectionError as error:
        raise BackendFailed(
            f"no connection to vLLM: {error.__cause__ or error}", failed("unreachable")
        ) from error
    except openai.APIStatusError as error:
        kind = _vllm_kind(error.status_code, error.message)
        raise BackendFailed(
            f"vLLM answered {error.status_code}: {error.message[:200]}", failed(kind, error.status_code)
        ) from error
    except (openai.APIError, httpx2.HTTPError, ValueError, AttributeError, IndexError, TypeError) as error:
        raise BackendFailed(f"vLLM's answer is no completion: {error}", failed("failed")) from error


def _vllm_kind(status: int, text: str) -> str:
    if status == 429:
        return "overloaded"
    if status >= 500:
        return "failed"
    if status == 404:
        return "model_missing"
    said = text.lower()
    return (
        "context_exceeded"
        if "context length" in said or "max_model_len" in said or "too long" in said
        else "unsupported"
    )
