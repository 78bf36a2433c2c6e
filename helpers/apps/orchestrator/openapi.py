"""The service's own description, as `/openapi.json` gives it."""

from __future__ import annotations

from typing import Any

from helpers.apps.orchestrator.decisions import CLASSES
from helpers.apps.orchestrator.settings import PRODUCTS

NAME = "^[A-Za-z0-9_-]{1,64}$"
KEY = "^[!-~]{1,200}$"
MOST_TEXT, MOST_MESSAGES, MOST_TOKENS = 16_000, 100, 100_000


def document(prompt_versions: list[str]) -> dict[str, Any]:
    """OpenAPI 3.1: every path, header and status that the service knows."""
    text = {"type": "string", "minLength": 1, "maxLength": MOST_TEXT}
    message = _object({"role": {"enum": ["user", "assistant"]}, "content": text}, ["role", "content"])
    question = _object(
        {
            "question": text,
            "messages": {"type": "array", "items": message, "minItems": 1, "maxItems": MOST_MESSAGES},
            "thread_id": {"type": "string", "pattern": NAME},
            "product": {"enum": list(PRODUCTS)},
            "stream": {"type": "boolean", "default": False},
            "return_retrieval_context": {"type": "boolean", "default": False},
            "max_tokens": {"type": "integer", "minimum": 1, "maximum": MOST_TOKENS},
        }
    ) | {"oneOf": [{"required": ["question"]}, {"required": ["messages"]}]}
    headers = [
        _header("Idempotency-Key", {"type": "string", "pattern": KEY}),
        _header("X-Budget-Class", {"enum": list(CLASSES)}),
        _header("X-Prompt-Version", {"enum": prompt_versions}),
        _header("X-Tenant-Id", {"type": "string", "pattern": NAME}),
    ]
    thread = [
        {"name": "thread_id", "in": "path", "required": True, "schema": {"type": "string", "pattern": NAME}},
        headers[-1],
    ]
    refusals = {
        "400": "not JSON, or an unknown class or prompt version",
        "401": "not from the gateway",
        "409": "the key stands for another request, or the thread is busy",
        "413": "too large",
        "415": "not application/json",
        "422": "not a question",
        "429": "the queue is full",
        "503": "a backend, the state or this pod is not available",
        "504": "the deadline has passed",
    }
    chat = _operation("Ask a question", {"200": _answers(), **_refusals(refusals)}) | {"parameters": headers}
    chat["requestBody"] = {"required": True, "content": {"application/json": {"schema": question}}}
    of_thread = _refusals(
        {code: refusals[code] for code in ("401", "422", "503")} | {"404": "no such thread"}
    )
    resumed = _refusals({code: refusals[code] for code in ("409", "504")})
    look = _operation("A thread as it stands", {"200": _said("the thread", THREAD), **of_thread})
    resume = _operation(
        "Finish an interrupted thread", {"200": _said("the answer", ANSWER), **of_thread, **resumed}
    )
    return {
        "openapi": "3.1.0",
        "info": {"title": "llm-orchestrator", "version": "1"},
        "security": [{"internal": []}],
        "paths": {
            "/v1/chat": {"post": chat},
            "/v1/threads/{thread_id}": {"get": look | {"parameters": thread}},
            "/v1/threads/{thread_id}/resume": {"post": resume | {"parameters": thread}},
            "/v1/release": {
                "get": _operation(
                    "What is served",
                    {
                        "200": _said("model, prompt, collection", {"type": "object"}),
                        **_refusals({"401": refusals["401"]}),
                    },
                )
            },
            "/livez": {"get": _operation("The process answers", {"200": _said("ok", {"type": "object"})})},
            "/readyz": {
                "get": _operation(
                    "It can take requests",
                    {code: _said("why", {"type": "object"}) for code in ("200", "503")},
                )
            },
        },
        "components": {
            "securitySchemes": {"internal": {"type": "apiKey", "in": "header", "name": "X-Internal-Token"}}
        },
    }


def _object(properties: dict[str, Any], required: list[str] | None = None) -> dict[str, Any]:
    closed = {"type": "object", "properties": properties, "additionalProperties": False}
    return closed | ({"required": required} if required else {})


ANSWER: dict[str, Any] = {
    "type": "object",
    "required": [
        "id",
        "thread_id",
        "answer",
        "citations",
        "degraded",
        "attempts",
        "usage",
        "budget",
        "prompt_version",
    ],
    "properties": {
        "id": {"type": "string"},
        "thread_id": {"type": "string"},
        "answer": {"type": "string"},
        "citations": {"type": "array", "items": {"type": "string"}},
        "degraded": {"type": ["object", "null"]},
        "attempts": {"type": "object"},
        "usage": {"type": "object"},
        "budget": {"type": "object"},
        "prompt_version": {"type": "string"},
        "replayed": {"type": "boolean"},
        "retrieval_context": {"type": "array", "items": {"type": "object"}},
    },
}
THREAD: dict[str, Any] = {
    "type": "object",
    "required": ["thread_id", "step", "status", "messages", "citations"],
    "properties": {"step": {"type": "string"}, "status": {"enum": ["running", "interrupted", "done"]}},
}
ERROR = _object(
    {
        "error": _object(
            {"code": {"type": "string"}, "message": {"type": "string"}, "retry_after_s": {"type": "number"}},
            ["code", "message"],
        )
    },
    ["error"],
)


def _header(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": schema}


def _said(about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _answers() -> dict[str, Any]:
    said = _said("the answer; with `stream`, pieces, then the whole, then [DONE]", ANSWER)
    said["content"]["text/event-stream"] = {"schema": {"type": "string"}}
    return said


def _refusals(codes: dict[str, str]) -> dict[str, Any]:
    return {code: _said(about, ERROR) for code, about in codes.items()}


def _operation(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": responses}
