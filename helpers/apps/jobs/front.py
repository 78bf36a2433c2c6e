"""The front: a question is accepted, and its asker comes back for the answer.

POST   /v1/jobs              202 {job_id, status} and Location, or why not
GET    /v1/jobs/ID           the job as it stands
GET    /v1/jobs/ID/events    the same as a stream, until it is finished
DELETE /v1/jobs/ID           cancel it
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import re
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from helpers.apps.jobs.metrics import REFUSED, Metrics
from helpers.apps.jobs.settings import JobsSettings
from helpers.apps.jobs.store import UNFINISHED, Queue, StoreUnavailable
from helpers.apps.jobs.upkeep import every, queue_of, show_depth
from helpers.apps.orchestrator.errors import (
    Conflict,
    NoAnswer,
    QueueFull,
    StateUnavailable,
    Unprocessable,
)
from helpers.apps.orchestrator.exchange import check_token, error_response, http_error, json_object
from helpers.apps.orchestrator.settings import SWITCH

log = logging.getLogger("jobs")
MOST_TEXT, MOST_TOKENS = 16_000, 100_000
NAME, KEY = r"[A-Za-z0-9_-]{1,64}", r"[!-~]{1,200}"
RETRY_AFTER_S = 2
LOOK_S = 1.0
EVENT_S = 0.25
MOST_EVENTS_S = 900.0
FIELDS: dict[str, type] = {
    "question": str,
    "max_tokens": int,
    "retrieve": bool,
    "prompt_version": str,
    "cache": str,
}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class JobNotFound(NoAnswer):
    """This tenant has no such job."""

    status, code = 404, "job_not_found"


class UnknownTenant(NoAnswer):
    """Nobody has made this tenant known."""

    status, code = 403, "unknown_tenant"


class Front:
    """The routes, over one queue."""

    def __init__(self, settings: JobsSettings, metrics: Metrics, queue: Queue) -> None:
        self._settings, self._metrics, self._queue = settings, metrics, queue
        self._versions = {"v1", "v2", *settings.prompts}
        self.state_problem = "Redis has not been asked yet"
        self.is_ending = False

    def problems(self) -> list[str]:
        """Why this pod is not ready; nothing where it is."""
        found = [] if self._settings.internal_api_token else ["INTERNAL_API_TOKEN is not set"]
        found += [self.state_problem] if self.state_problem else []
        return [*found, *(["this pod ends"] if self.is_ending else [])]

    def app(self, **options: Any) -> Starlette:
        """The ASGI application."""
        guarded = (
            ("/v1/jobs", "POST", self.submit),
            ("/v1/jobs/{job}", "GET", self.look),
            ("/v1/jobs/{job}", "DELETE", self.cancel),
            ("/v1/jobs/{job}/events", "GET", self.events),
        )
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
                return await handle(request)
            except NoAnswer as error:
                return error_response(error)
            except StoreUnavailable as error:
                return error_response(StateUnavailable(str(error), code="queue_unavailable", retry_after_s=2))
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception:
                log.exception("%s %s failed", request.method, request.url.path)
                return error_response(NoAnswer("this is a fault of the service: see its log"))

        return answer

    def _tenant(self, request: Request) -> str:
        tenant = request.headers.get("x-tenant-id", "")
        if not re.fullmatch(NAME, tenant):
            raise Unprocessable(f"X-Tenant-Id must match {NAME}")
        known = self._settings.known_tenants
        if known and tenant not in known:
            raise UnknownTenant(f"there is no tenant {tenant!r}")
        return tenant

    # -- jobs ---------------------------------------------------------------------------------

    async def submit(self, request: Request) -> Response:
        tenant = self._tenant(request)
        fields, sha256 = await self._asked(request, tenant)
        key = request.headers.get("idempotency-key", "")
        if key and not re.fullmatch(KEY, key):
            raise Unprocessable(f"Idempotency-Key must match {KEY}")
        settings, name = self._settings, f"j-{uuid.uuid4().hex}"
        done = await self._queue.enqueue(
            name,
            fields,
            limit=settings.queue_limit,
            tenant_limit=settings.tenant_limit,
            key=key,
            body=sha256,
        )
        if done.outcome in REFUSED:
            self._metrics.refused.labels(done.outcome, tenant).inc()
            whose = "this tenant's" if done.outcome == "tenant_full" else "all tenants'"
            raise QueueFull(
                f"{done.count} of {whose} jobs are unfinished already",
                code=done.outcome,
                retry_after_s=RETRY_AFTER_S,
            )
        if done.outcome == "other_body":
            raise Conflict("this Idempotency-Key was used for another question")
        if done.outcome == "taken":
            self._metrics.accepted.labels(tenant).inc()
        said = await self._queue.job(done.job) if done.outcome == "known" else {"status": "waiting"}
        return JSONResponse(
            {"job_id": done.job, "status": said.get("status", "waiting")},
            202,
            headers={"Location": f"/v1/jobs/{done.job}"},
        )

    async def _asked(self, request: Request, tenant: str) -> tuple[dict[str, str], str]:
        body = await _body(request)
        version = body.get("prompt_version", self._settings.default_prompt_version).lower()
        if version not in self._versions:
            raise Unprocessable(f"prompt_version is one of {', '.join(sorted(self._versions))}")
        if body.get("cache", "on") not in SWITCH:
            raise Unprocessable(f"cache is one of {', '.join(SWITCH)}")
        fields = {
            "tenant": tenant,
            "question": body["question"],
            "prompt_version": version,
            "retrieve": "on" if body.get("retrieve", self._settings.retrieval == "on") else "off",
            "cache": body.get("cache", "on"),
            "max_tokens": str(body.get("max_tokens", 0)),
        }
        return fields, hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    async def look(self, request: Request) -> Response:
        name, job = await self._job(request)
        return JSONResponse(told(name, job))

    async def cancel(self, request: Request) -> Response:
        name, job = await self._job(request)
        await self._queue.cancel(name, job["tenant"])
        return JSONResponse(told(name, await self._queue.job(name)))

    async def events(self, request: Request) -> Response:
        name, job = await self._job(request)
        headers = {"Cache-Control": "no-cache"}
        return StreamingResponse(self._told(name, job), media_type="text/event-stream", headers=headers)

    async def _told(self, name: str, job: dict[str, str]) -> AsyncIterator[str]:
        """Each state that a look finds, until the job is finished."""
        said, until = "", time.monotonic() + MOST_EVENTS_S
        while job and time.monotonic() < until:
            state = json.dumps(told(name, job), ensure_ascii=False)
            if state != said:
                said = state
                yield f"event: {job['status']}\ndata: {state}\n\n"
            if job["status"] not in UNFINISHED or self.is_ending:
                return
            await asyncio.sleep(EVENT_S)
            with contextlib.suppress(StoreUnavailable):
                job = await self._queue.job(name)

    async def _job(self, request: Request) -> tuple[str, dict[str, str]]:
        """The job that is asked about, when it is the tenant's own."""
        tenant, name = self._tenant(request), request.path_params["job"]
        job = await self._queue.job(name) if re.fullmatch(NAME, name) else {}
        if job.get("tenant") != tenant:
            raise JobNotFound(f"there is no job {name[:64]!r}")
        return name, job

    # -- the service itself -------------------------------------------------------------------

    async def livez(self, _request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def readyz(self, _request: Request) -> Response:
        problems = self.problems()
        return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200)

    async def upkeep(self) -> None:
        """Whether Redis answers, and how deep the queue is."""
        try:
            if self.state_problem:
                await self._queue.prepare()
            await show_depth(self._queue, self._metrics)
            self.state_problem = ""
        except StoreUnavailable as error:
            self.state_problem = str(error)


def told(name: str, job: dict[str, str]) -> dict[str, Any]:
    """A job as its asker sees it."""
    created, done = int(job.get("created_ms", 0)), int(job.get("done_ms", 0))
    return {
        "job_id": name,
        "status": job["status"],
        "answer": job.get("answer"),
        "citations": json.loads(job.get("citations", "[]")),
        "attempts": int(job.get("attempts", 0)),
        "cached": job.get("cached") or None,
        "similarity": float(job["similarity"]) if job.get("cached") else None,
        "worker": job.get("worker"),
        "model": job.get("model"),
        "error": job.get("error") or None,
        "seconds": (done - created) / 1000 if done else None,
    }


async def _body(request: Request) -> dict[str, Any]:
    """The JSON object of a request, checked."""
    body = await json_object(request, FIELDS)
    _check_fields(body)
    return body


def _check_fields(body: dict[str, Any]) -> None:
    question = body.get("question", "")
    if not question.strip() or len(question) > MOST_TEXT or "\x00" in question:
        raise Unprocessable(f"question must be a text of at most {MOST_TEXT} characters, and not empty")
    if not 1 <= body.get("max_tokens", 1) <= MOST_TOKENS:
        raise Unprocessable(f"max_tokens lies between 1 and {MOST_TOKENS}")


class _Server(uvicorn.Server):
    """uvicorn, which tells the front first that it ends: streams are closed then, and readiness is withdrawn."""

    def __init__(self, config: uvicorn.Config, front: Front) -> None:
        super().__init__(config)
        self._front = front

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end)
        yield

    def _end(self) -> None:
        self._front.is_ending = self.should_exit = True


def serve(settings: JobsSettings) -> None:
    """Serve until SIGTERM, and until open requests have ended."""
    metrics, queue = Metrics(), queue_of(settings)
    front = Front(settings, metrics, queue)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        await front.upkeep()
        looking = asyncio.create_task(every(LOOK_S, front.upkeep))
        yield
        looking.cancel()
        await queue.close()

    metrics.serve(settings.host, settings.metrics_port, front.problems)
    config = uvicorn.Config(
        front.app(lifespan=lifespan),
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=int(settings.drain_deadline_s) + 4,
        timeout_keep_alive=75,
    )
    _Server(config, front).run()
