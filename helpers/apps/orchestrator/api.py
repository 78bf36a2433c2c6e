"""HTTP: what is asked, what is answered, and what a caller that hangs up means."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from helpers.apps.orchestrator import openapi
from helpers.apps.orchestrator.admission import Admission
from helpers.apps.orchestrator.backends import Backends
from helpers.apps.orchestrator.decisions import CLASSES
from helpers.apps.orchestrator.errors import (
    BackendFailed,
    BadRequest,
    HandedOver,
    NoAnswer,
    ThreadNotFound,
    Unprocessable,
)
from helpers.apps.orchestrator.exchange import (
    check_token,
    error_body,
    error_response,
    http_error,
    json_object,
)
from helpers.apps.orchestrator.metrics import Metrics
from helpers.apps.orchestrator.mounted import Decisions
from helpers.apps.orchestrator.runs import Ask, Runs
from helpers.apps.orchestrator.settings import PRODUCTS, Settings
from helpers.apps.orchestrator.tracing import OFF, Tracing

log = logging.getLogger("orchestrator")
DEFAULT_TENANT = "default"
HUNG_UP = 499
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
FIELDS = {
    "question": str,
    "messages": list,
    "thread_id": str,
    "product": str,
    "stream": bool,
    "return_retrieval_context": bool,
    "max_tokens": int,
}


class Api:
    """The routes, over the runs of this pod."""

    def __init__(
        self,
        settings: Settings,
        *,
        runs: Runs,
        backends: Backends,
        admission: Admission,
        decisions: Decisions,
        metrics: Metrics,
        systems: dict[str, str],
        tracing: Tracing = OFF,
    ) -> None:
        self._tracing = tracing
        self._settings, self._runs, self._backends, self._admission = settings, runs, backends, admission
        self._decisions, self._metrics, self._systems = decisions, metrics, systems
        self._left: set[asyncio.Task[Any]] = set()

    def app(self, **options: Any) -> Starlette:
        """The ASGI application."""
        guarded = [
            ("/v1/chat", "POST", self.chat),
            ("/v1/threads/{thread_id}", "GET", self.thread),
            ("/v1/threads/{thread_id}/resume", "POST", self.resume),
            ("/v1/release", "GET", self.release),
            ("/openapi.json", "GET", self.openapi),
        ]
        routes = [
            Route(path, self._answering(handler), methods=[method]) for path, method, handler in guarded
        ]
        routes += [Route("/livez", self.livez), Route("/readyz", self.readyz)]
        return Starlette(routes=routes, exception_handlers={HTTPException: http_error}, **options)

    def _answering(self, handle: Handler) -> Handler:
        """Check who asks, and turn what goes wrong into an answer."""

        async def answer(request: Request) -> Response:
            try:
                check_token(request, self._settings.internal_api_token)
                response = await handle(request)
            except NoAnswer as error:
                response = error_response(error)
            except ClientDisconnect:
                response = Response(status_code=HUNG_UP)
            except Exception:
                log.exception("%s %s failed", request.method, request.url.path)
                response = error_response(NoAnswer("this is a fault of the orchestrator: see its log"))
            if request.url.path == "/v1/chat":
                self._metrics.requests.labels(
                    request.scope.get("class", "none"), str(response.status_code)
                ).inc()
            return response

        return answer

    # -- questions ----------------------------------------------------------------------------

    async def chat(self, request: Request) -> Response:
        body, sha256 = await _body(request)
        ask = self._ask(request, body, sha256)
        with_context = bool(body.get("return_retrieval_context"))
        with self._tracing.continued(request.headers):
            if body.get("stream"):
                return await self._streamed(request, ask, with_context)
            answer = await self._attended(request, self._runs.answer(ask), keep=bool(ask.key))
        return JSONResponse(await self._complete(answer, with_context))

    def _ask(self, request: Request, body: dict[str, Any], sha256: str) -> Ask:
        headers = request.headers
        budget_class = headers.get("x-budget-class") or self._settings.default_budget_class
        if budget_class not in CLASSES:
            raise BadRequest(f"X-Budget-Class is one of {', '.join(CLASSES)}", code="unknown_class")
        request.scope["class"] = budget_class
        version = (headers.get("x-prompt-version") or self._settings.default_prompt_version).lower()
        if version not in self._systems:
            raise BadRequest(
                f"X-Prompt-Version is one of {', '.join(self._systems)}", code="unknown_prompt_version"
            )
        history, question = _conversation(body)
        most = min(
            CLASSES[budget_class].output_tokens,
            self._settings.max_output_tokens or math.inf,
            body.get("max_tokens") or math.inf,
        )
        # Headers that change the answer belong to what an idempotency key stands for.
        told = hashlib.sha256(f"{sha256} {budget_class} {version}".encode()).hexdigest()
        return Ask(
            tenant=_name("X-Tenant-Id", headers.get("x-tenant-id", DEFAULT_TENANT), openapi.NAME),
            question=question,
            budget_class=budget_class,
            product=body.get("product") or self._settings.product,
            prompt_version=version,
            history=tuple(history),
            thread_id=body.get("thread_id", ""),
            key=_name("Idempotency-Key", headers["idempotency-key"], openapi.KEY)
            if "idempotency-key" in headers
            else "",
            max_tokens=int(most),
            body_sha256=told,
        )

    async def _complete(self, answer: dict[str, Any], with_context: bool) -> dict[str, Any]:
        """The answer with the passages' texts, for a caller that asks for them."""
        if not with_context:
            return answer
        try:
            passages = await self._backends.passages(answer["citations"])
        except BackendFailed:
            passages = []
        return answer | {
            "retrieval_context": [
                {"id": item.id, "title": item.title, "text": item.text} for item in passages
            ]
        }

    async def _attended(self, request: Request, work: Coroutine[Any, Any, Any], *, keep: bool) -> Any:
        """The result of some work, for as long as its caller waits for it.

        A caller with an idempotency key may come back, so its work goes on (`keep`); other work ends at once.

        Raises:
            ClientDisconnect: the caller has hung up.
            HandedOver: the work was ended by this pod.
        """
        task = asyncio.create_task(work)
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        hung_up = asyncio.create_task(_hung_up(request))
        try:
            await asyncio.wait({task, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return _result(task)
            raise ClientDisconnect
        finally:
            hung_up.cancel()
            if not task.done() and not keep:
                task.cancel()

    # -- streams ------------------------------------------------------------------------------

    async def _streamed(self, request: Request, ask: Ask, with_context: bool) -> Response:
        """Pieces as they come, then the whole answer. What fails before the first piece has a status of its own."""
        pieces: asyncio.Queue[str | None] = asyncio.Queue()
        task = asyncio.create_task(self._runs.answer(ask, pieces.put_nowait))
        self._left.add(task)
        task.add_done_callback(self._left.discard)
        task.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            first = await self._attended(request, pieces.get(), keep=False)
        except ClientDisconnect:
            if not ask.key:
                task.cancel()
            raise
        if first is None:
            _result(task)  # raises what went wrong; a replayed answer has no pieces
        events = self._events(ask, task, first, pieces, with_context)
        return StreamingResponse(
            events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"}
        )

    async def _events(
        self,
        ask: Ask,
        task: asyncio.Task[Any],
        first: str | None,
        pieces: asyncio.Queue[str | None],
        with_context: bool,
    ) -> AsyncIterator[str]:
        try:
            piece = first
            while piece is not None:
                delta = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
                yield _event({"id": ask.request_id, "object": "chat.completion.chunk", "choices": [delta]})
                piece = await pieces.get()
            try:
                yield _event({"choices": [], **await self._complete(_result(task), with_context)})
            except NoAnswer as error:
                yield _event(error_body(error))
            yield "data: [DONE]\n\n"
        finally:  # also when the caller hangs up in the middle
            if not task.done() and not ask.key:
                task.cancel()

    # -- threads and the service itself -------------------------------------------------------

    async def thread(self, request: Request) -> Response:
        tenant, thread_id = _whose(request)
        return JSONResponse(await self._runs.thread(tenant, thread_id))

    async def resume(self, request: Request) -> Response:
        tenant, thread_id = _whose(request)
        return JSONResponse(await self._attended(request, self._runs.resume(tenant, thread_id), keep=True))

    async def release(self, _request: Request) -> Response:
        """What this pod answers with: what an evaluation is pinned to."""
        settings, version = self._settings, self._settings.default_prompt_version.lower()
        prompt = self._systems.get(version, "")
        said = {
            "release": settings.release,
            "model": self._backends.model,
            "prompt_version": version,
            "prompt": hashlib.sha256(prompt.encode()).hexdigest()[:12],
            "collection": settings.qdrant_collection,
            "retrieval": settings.retrieval,
            "max_output_tokens": settings.max_output_tokens,
        }
        return JSONResponse(said)

    async def openapi(self, _request: Request) -> Response:
        return JSONResponse(openapi.document(sorted(self._systems)))

    async def livez(self, _request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def readyz(self, _request: Request) -> Response:
        """Whether to send requests here: what this pod knows by itself; no backend is asked."""
        problems = list(self._decisions.problems)
        if not self._settings.internal_api_token:
            problems.append("INTERNAL_API_TOKEN is not set: Secret llm-orchestrator-secrets")
        if self._runs.state_problem:
            problems.append(self._runs.state_problem)
        if self._runs.is_draining:
            problems.append("this pod ends")
        elif not self._admission.has_room:
            problems.append("the queue is full")
        known = {name.removesuffix(".py"): sha or "course" for name, sha in self._decisions.sources.items()}
        body = {"ready": not problems, "problems": problems, "decisions": known}
        return JSONResponse(body, 503 if problems else 200)


def _result(task: asyncio.Task[Any]) -> Any:
    if task.cancelled():
        raise HandedOver("this pod ended the request before its answer: ask again", retry_after_s=1)
    return task.result()


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> tuple[dict[str, Any], str]:
    """The JSON object of a request and its sha256."""
    body = await json_object(request, FIELDS)
    _check_fields(body)
    return body, hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _check_fields(body: dict[str, Any]) -> None:
    if "thread_id" in body:
        _name("thread_id", body["thread_id"], openapi.NAME)
    if "product" in body and body["product"] not in PRODUCTS:
        raise Unprocessable(f"product is one of {', '.join(PRODUCTS)}")
    if not 1 <= body.get("max_tokens", 1) <= openapi.MOST_TOKENS:
        raise Unprocessable(f"max_tokens lies between 1 and {openapi.MOST_TOKENS}")


def _conversation(body: dict[str, Any]) -> tuple[list[dict[str, str]], str]:
    """What was said before, and the question."""
    if ("question" in body) == ("messages" in body):
        raise Unprocessable("give either question or messages")
    if "question" in body:
        return [], _text("question", body["question"])
    messages = body["messages"]
    if not 1 <= len(messages) <= openapi.MOST_MESSAGES:
        raise Unprocessable(f"messages has between 1 and {openapi.MOST_MESSAGES} entries")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            raise Unprocessable(f"messages[{number}] must have a role and a content, and nothing else")
        if message["role"] not in ("user", "assistant"):
            raise Unprocessable(
                f"messages[{number}] must be by user or assistant: the system message is the service's"
            )
        _text(f"messages[{number}].content", message["content"])
    if messages[-1]["role"] != "user":
        raise Unprocessable("the last message must be the user's")
    return messages[:-1], messages[-1]["content"]


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Unprocessable(f"{name} must be a text that is not empty")
    if len(value) > openapi.MOST_TEXT:
        raise Unprocessable(f"{name} is longer than {openapi.MOST_TEXT} characters")
    if "\x00" in value:
        raise Unprocessable(f"{name} contains a null character")
    return value


def _name(what: str, value: str, pattern: str) -> str:
    if not re.fullmatch(pattern.strip("^$"), value):
        raise Unprocessable(f"{what} must match {pattern}")
    return value


def _whose(request: Request) -> tuple[str, str]:
    tenant = _name("X-Tenant-Id", request.headers.get("x-tenant-id", DEFAULT_TENANT), openapi.NAME)
    thread_id = request.path_params["thread_id"]
    if not re.fullmatch(openapi.NAME.strip("^$"), thread_id):
        raise ThreadNotFound("there is no thread of such a name")
    return tenant, thread_id


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
