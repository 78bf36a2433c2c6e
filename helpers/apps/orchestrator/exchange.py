"""What both services do with a request's body and with what they answer: JSON objects, and errors of one shape."""

from __future__ import annotations

import asyncio
import hmac
import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from helpers.apps.orchestrator.errors import (
    BadRequest,
    NoAnswer,
    NotJson,
    TooLarge,
    Unauthorized,
    Unprocessable,
)

MOST_BYTES = 128 * 1024
BODY_S = 10.0


def check_token(request: Request, expected: str) -> None:
    """Whether the gateway asks; nobody does while no token is set.

    Raises:
        Unauthorized: somebody else does.
    """
    given = request.headers.get("x-internal-token") or request.headers.get("authorization", "")
    given = given.removeprefix("Bearer ")
    if not expected or not hmac.compare_digest(given.encode(), expected.encode()):
        raise Unauthorized("this service answers the gateway alone")


async def json_object(request: Request, fields: Mapping[str, type]) -> dict[str, Any]:
    """The JSON object of a request.

    Args:
        fields: those that there are, and of which kind.

    Raises:
        BadRequest, NotJson, TooLarge, Unprocessable: what is wrong with it.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise NotJson("the content type must be application/json")
    raw = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > MOST_BYTES:
                    raise TooLarge(f"the body is longer than {MOST_BYTES} bytes")
    except TimeoutError as error:
        raise BadRequest(f"the body did not arrive within {BODY_S:.0f} s") from error
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Unprocessable("the body must be a JSON object")
    for name, value in body.items():
        wanted = fields.get(name)
        if wanted is None:
            raise Unprocessable(f"there is no field {name[:40]!r}")
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise Unprocessable(f"{name} must be a {wanted.__name__}")
    return body


def error_body(error: NoAnswer) -> dict[str, Any]:
    """What a caller is told of it."""
    body: dict[str, Any] = {"code": error.code, "message": str(error)}
    if error.retry_after_s is not None:
        body["retry_after_s"] = error.retry_after_s
    return {"error": body}


def error_response(error: NoAnswer) -> Response:
    """The same as a response, with `Retry-After` in whole seconds where there is something to wait for."""
    wait_s = error.retry_after_s
    headers = {} if wait_s is None else {"Retry-After": str(max(1, math.ceil(wait_s)))}
    return JSONResponse(error_body(error), error.status, headers=headers)


async def http_error(_request: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in the services' shape."""
    assert isinstance(error, HTTPException)
    body = {"error": {"code": error.detail.lower().replace(" ", "_"), "message": error.detail}}
    return JSONResponse(body, error.status_code, headers=dict(error.headers or {}))
