"""The ASGI application: routes, API keys, Qdrant's answer envelope, metrics of every answer."""

from __future__ import annotations

import hmac
import json
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from . import API_VERSION, ENGINE_LABEL, api, operations, snapshots
from .errors import ApiError, BadFormat, BadRequest, Forbidden, NotImplementedByEngine
from .metrics import Metrics
from .settings import Settings
from .storage import Storage

log = logging.getLogger("qdrant")
Handler = Callable[[Request], Awaitable[Response]]
ONE = f"/collections/{{{api.NAME}}}"
POINTS = f"{ONE}/points"
SNAPSHOTS = f"{ONE}/snapshots"

# method, path, operation; what only reads is allowed to a read-only API key
READS: list[tuple[str, str, api.Operation]] = [
    ("GET", "/collections", api.list_collections),
    ("GET", "/aliases", api.list_aliases),
    ("GET", "/telemetry", api.telemetry),
    ("GET", "/cluster", api.cluster),
    ("GET", ONE, api.collection_info),
    ("GET", f"{ONE}/exists", api.collection_exists),
    ("GET", f"{ONE}/aliases", api.list_aliases),
    ("GET", f"{ONE}/cluster", api.collection_cluster),
    ("POST", f"{ONE}/facet", api.facet),
    ("POST", POINTS, api.retrieve),
    ("GET", POINTS + "/{id}", api.retrieve_one),
    ("POST", f"{POINTS}/scroll", api.scroll),
    ("POST", f"{POINTS}/count", api.count),
    ("POST", f"{POINTS}/query", api.query),
    ("POST", f"{POINTS}/query/batch", api.query_batch),
    ("POST", f"{POINTS}/query/groups", api.query_groups),
    ("POST", f"{POINTS}/search", api.search),
    ("POST", f"{POINTS}/search/batch", api.search_batch),
    ("GET", SNAPSHOTS, api.list_snapshots),
]
WRITES: list[tuple[str, str, api.Operation]] = [
    ("PUT", ONE, api.create_collection),
    ("PATCH", ONE, api.update_collection),
    ("DELETE", ONE, api.delete_collection),
    ("POST", "/collections/aliases", api.change_aliases),
    ("PUT", POINTS, api.change(operations.upsert)),
    ("POST", f"{POINTS}/delete", api.change(operations.delete_points, frees_space=True)),
    ("POST", f"{POINTS}/batch", api.change_batch),
    ("POST", f"{POINTS}/payload", api.change(operations.set_payload)),
    ("PUT", f"{POINTS}/payload", api.change(operations.overwrite_payload)),
    ("POST", f"{POINTS}/payload/delete", api.change(operations.delete_payload, frees_space=True)),
    ("POST", f"{POINTS}/payload/clear", api.change(operations.clear_payload, frees_space=True)),
    ("PUT", f"{POINTS}/vectors", api.change(operations.update_vectors)),
    ("POST", f"{POINTS}/vectors/delete", api.change(operations.delete_vectors, frees_space=True)),
    ("PUT", f"{ONE}/index", api.change(operations.create_index)),
    ("DELETE", ONE + "/index/{field}", api.delete_index),
    ("POST", SNAPSHOTS, api.create_snapshot),
    ("PUT", f"{SNAPSHOTS}/recover", api.recover_snapshot),
    ("DELETE", SNAPSHOTS + "/{snapshot}", api.delete_snapshot),
]
# What else is in Qdrant's OpenAPI description; `rest` is whatever follows, nothing included.
NOT_IMPLEMENTED: list[tuple[str, str]] = [
    (f"{POINTS}/search/matrix/{{rest:path}}", "the distance matrix"),
    (f"{POINTS}/search/groups", "search groups, use query groups"),
    (f"{POINTS}/recommend{{rest:path}}", "the recommend paths, use query"),
    (f"{POINTS}/discover{{rest:path}}", "the discover paths, use query"),
    (f"{ONE}/shards{{rest:path}}", "shards"),
    (f"{ONE}/cluster", "cluster mode"),
    (f"{ONE}/vectors/{{rest:path}}", "vectors added to a collection"),
    (f"{ONE}/optimizations", "the list of optimizations"),
    ("/cluster/{rest:path}", "cluster mode"),
    ("/snapshots{rest:path}", "snapshots of the whole storage"),
    ("/issues", "issues"),
    ("/quotas", "quotas"),
]
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


class Server:
    """The routes of one server: its storage, its metrics and its keys."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.storage = Storage(settings)
        self.metrics = Metrics(self.storage)

    # -- answers ------------------------------------------------------------------------------

    def endpoint(self, path: str, handle: Handler, *, writes: bool) -> Handler:
        """Check the key, answer in Qdrant's envelope, count the answer."""

        async def answer(request: Request) -> Response:
            started = time.perf_counter()
            try:
                response = self._refused(request, writes=writes) or await handle(request)
            except ApiError as error:
                response = _failure(error.status, str(error), started)
            except HTTPException as error:
                response = _failure(error.status_code, error.detail, started)
            except ClientDisconnect:
                return Response(status_code=499)
            except Exception as error:
                log.exception("%s %s failed", request.method, request.url.path)
                response = _failure(500, f"Service internal error: {error}", started)
            self.metrics.answered(request.method, path, response.status_code, time.perf_counter() - started)
            return response

        return answer

    def operation(self, path: str, operation: api.Operation, *, writes: bool) -> Handler:
        async def handle(request: Request) -> Response:
            started = time.perf_counter()
            body = _parse(await self._body(request))
            if body.get("shard_key") is not None:
                raise NotImplementedByEngine("sharding keys")
            query = dict(request.query_params)
            call = api.Call(self.storage, self.metrics, request.path_params, query, body)
            result = await run_in_threadpool(operation, call)
            return _success(result, started)

        return self.endpoint(path, handle, writes=writes)

    async def _body(self, request: Request) -> bytes:
        """The JSON text of a request; what is too long is read to its end, so that its sender hears why."""
        limit = self.settings.max_request_size_mb * 1024 * 1024
        raw, length = bytearray(), 0
        async for chunk in request.stream():
            length += len(chunk)
            if length <= limit:
                raw += chunk
        if length > limit:
            raise BadRequest(f"JSON payload ({length} bytes) is larger than allowed (limit: {limit} bytes).")
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if raw and kind != "application/json" and not kind.endswith("+json"):
            raise BadRequest("Content type error")
        return bytes(raw)

    def _refused(self, request: Request, *, writes: bool) -> Response | None:
        keys = [key for key in (self.settings.api_key, self.settings.read_only_api_key) if key]
        if not keys:
            return None
        given = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix(
            "Bearer "
        )
        if not given:
            return PlainTextResponse("Must provide an API key or an Authorization bearer token", 401)
        if not any(hmac.compare_digest(given.encode(), key.encode()) for key in keys):
            return PlainTextResponse("Invalid API key or JWT", 401)
        if writes and given != self.settings.api_key:
            raise Forbidden("Global manage access is required")
        return None

    # -- paths that do not answer JSON --------------------------------------------------------

    async def root(self, _request: Request) -> Response:
        title = f"qdrant - vector search engine ({ENGINE_LABEL})"
        return JSONResponse({"title": title, "version": API_VERSION, "engine": ENGINE_LABEL})

    async def healthz(self, _request: Request) -> Response:
        return PlainTextResponse("healthz check passed")

    async def livez(self, _request: Request) -> Response:
        return PlainTextResponse("livez check passed")

    async def readyz(self, _request: Request) -> Response:
        if not self.storage.is_ready:
            return PlainTextResponse("some shards are not ready", 503)
        return PlainTextResponse("all shards are ready")

    async def metrics_page(self, _request: Request) -> Response:
        page = await run_in_threadpool(self.metrics.render)
        return Response(page, media_type="text/plain; version=0.0.4")

    async def download(self, request: Request) -> Response:
        folder = self.storage.snapshots_of(request.path_params[api.NAME])
        path = snapshots.find(folder, request.path_params["snapshot"])
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    async def upload(self, request: Request) -> Response:
        """Restore from a snapshot in the request itself: the way back when the volume is gone."""
        started = time.perf_counter()
        self.storage.temporary.mkdir(parents=True, exist_ok=True)
        async with request.form(max_files=1) as form:
            file = form.get("snapshot")
            if not isinstance(file, UploadFile):
                raise BadFormat("the form has no file named `snapshot`")
            with tempfile.NamedTemporaryFile(dir=self.storage.temporary, suffix=".snapshot") as target:
                while chunk := await file.read(snapshots.CHUNK):
                    target.write(chunk)
                target.flush()
                checksum = request.query_params.get("checksum")
                name = request.path_params[api.NAME]
                await run_in_threadpool(self.storage.recover, name, Path(target.name), checksum=checksum)
        return _success(True, started)

    # -- assembly -----------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        found = [Route("/", self.root), Route("/healthz", self.healthz)]
        found += [Route("/livez", self.livez), Route("/readyz", self.readyz)]
        special = [
            ("GET", "/metrics", self.metrics_page, False),
            ("POST", f"{SNAPSHOTS}/upload", self.upload, True),
            ("GET", SNAPSHOTS + "/{snapshot}", self.download, False),
        ]
        found += [Route(p, self.endpoint(p, h, writes=w), methods=[m]) for m, p, h, w in special]
        for table, writes in ((READS, False), (WRITES, True)):
            found += [Route(p, self.operation(p, op, writes=writes), methods=[m]) for m, p, op in table]
        for path, what in NOT_IMPLEMENTED:
            refused = self.operation(path, api.not_implemented(what), writes=False)
            found.append(Route(path, refused, methods=METHODS))
        # Starlette takes the first path that matches, so fixed paths go before those with parameters.
        return sorted(found, key=lambda route: (route.path.count("{"), -len(route.path)))

    def load_or_exit(self) -> None:
        """A collection that cannot be opened ends the process: a crash loop is seen, a silent gap is not."""
        try:
            self.storage.load()
        except Exception:
            log.critical("Can't load the collections in %s", self.storage.root, exc_info=True)
            os._exit(101)


def create_app(settings: Settings, *, load_in_background: bool = True) -> Starlette:
    """The application; probes answer while collections load in a thread of their own."""
    server = Server(settings)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        # The root filesystem may be read-only, and an upload is spooled to a file.
        settings.storage_path.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(settings.storage_path)
        threading.Thread(target=server.storage.upkeep, name="upkeep", daemon=True).start()
        if load_in_background:
            threading.Thread(target=server.load_or_exit, name="load", daemon=True).start()
        else:
            server.storage.load()
        yield
        await run_in_threadpool(server.storage.close)

    app = Starlette(routes=server.routes(), lifespan=lifespan)
    app.state.server = server
    return app


def _parse(raw: bytes) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        body = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadFormat(str(error)) from error
    if not isinstance(body, dict):
        raise BadFormat(f"invalid type: {type(body).__name__}, expected an object")
    return body


def _no_number(name: str) -> None:
    """Python would take NaN and Infinity, JSON has neither."""
    raise ValueError(f"expected value, not {name}")


def _success(result: Any, started: float) -> Response:
    answer = {"result": result, "status": "ok", "time": time.perf_counter() - started}
    try:
        return JSONResponse(answer)
    except ValueError:  # a score beyond 32 bits: the official server writes null
        return JSONResponse(_without_infinities(answer))


def _without_infinities(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_infinities(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without_infinities(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _failure(status: int, message: str, started: float) -> Response:
    return JSONResponse({"status": {"error": message}, "time": time.perf_counter() - started}, status)
