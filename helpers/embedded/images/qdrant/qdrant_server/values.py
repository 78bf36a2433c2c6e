"""Points, vectors and payload selectors, from JSON to the engine's types and back."""

from __future__ import annotations

import math
import uuid
from typing import Any

import qdrant_edge as edge

from .errors import BadFormat, Invalid

Json = dict[str, Any]


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def required(body: Json, name: str) -> Any:
    """A field that must be there, with the message that the real server gives when it is not."""
    if not isinstance(body, dict) or name not in body:
        raise BadFormat(f"missing field `{name}`")
    return body[name]


def items(body: Json, name: str) -> list[Any]:
    """A field that must be there and be a list."""
    value = required(body, name)
    if not isinstance(value, list):
        raise BadFormat(f"`{name}`: invalid type: {type(value).__name__}, expected a sequence")
    return value


def text(body: Json, name: str) -> str:
    """A field that must be there and be a string."""
    value = required(body, name)
    if not isinstance(value, str):
        raise BadFormat(f"`{name}`: invalid type: {type(value).__name__}, expected a string")
    return value


def positive(body: Json, name: str, default: int, *, at_most: int | None = None) -> int:
    """A count that may be missing, and otherwise is one or more."""
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadFormat(f"`{name}`: invalid value: {value!r}, expected an unsigned integer")
    if value == 0 or (at_most is not None and value > at_most):
        allowed = "1 or larger" if at_most is None else f"from 1 to {at_most}"
        raise Invalid(f"[{name}: value {value} invalid, must be {allowed}]")
    return value


def variant(kind: Any, value: Any) -> Any:
    """The member of one of the engine's enumerations that Qdrant's snake_case name stands for."""
    found = "".join(word.capitalize() for word in value.split("_")) if isinstance(value, str) else ""
    if not found or not hasattr(kind, found):
        raise BadFormat(f"unknown variant `{value}`")
    return getattr(kind, found)


def point_id(value: Any) -> Any:
    """An unsigned integer or a UUID: the only two kinds of point id there are."""
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if not (isinstance(value, str) or (is_number and 0 <= value < 2**64)):
        raise BadFormat(f"value {value!r} is not a valid point ID, it must be an unsigned integer or a UUID")
    if isinstance(value, int):
        return value
    try:
        return uuid.UUID(value)
    except ValueError:
        raise BadFormat(
            f"value {value} is not a valid point ID, valid values are either an unsigned integer or a UUID"
        ) from None


def json_id(value: Any) -> int | str:
    return value if isinstance(value, int) else str(value)


def vector(value: Any) -> Any:
    """Dense (a list), multi (a list of lists), sparse (indices and values) or named (a dict of those)."""
    if isinstance(value, list):
        for row in value if value and isinstance(value[0], list) else [value]:
            _check_numbers(row)
        return value
    if not isinstance(value, dict):
        raise BadFormat(f"a vector must be a list or an object, not {type(value).__name__}")
    if "indices" in value:
        return _sparse(items(value, "indices"), items(value, "values"))
    if {"text", "image", "model"} & set(value):
        raise BadFormat("inference is not configured on this server: send vectors, not documents")
    return {name: vector(item) for name, item in value.items()}


def _check_numbers(row: Any) -> None:
    """What is not a number would poison every score it takes part in, long after it was accepted."""
    try:
        is_finite = math.isfinite(sum(row))
    except (TypeError, OverflowError):
        is_finite = False
    if not is_finite:
        raise BadFormat("a vector must be a list of finite numbers")


def _sparse(indices: list[Any], values: list[Any]) -> Any:
    _check_numbers(values)
    if len(indices) != len(values):
        raise Invalid("[values: must be the same length as indices]")
    if len(set(indices)) != len(indices):
        raise Invalid("[indices: must be unique]")
    return edge.SparseVector(indices, values)


def json_vector(value: Any) -> Any:
    if isinstance(value, edge.SparseVector):
        return {"indices": list(value.indices), "values": list(value.values)}
    if isinstance(value, dict):
        return json_vector(value[""]) if set(value) == {""} else {k: json_vector(v) for k, v in value.items()}
    return value


def point(body: Json) -> Any:
    return edge.Point(point_id(required(body, "id")), vector(required(body, "vector")), body.get("payload"))


def points_of_batch(batch: Json) -> list[Any]:
    """The column form of an upsert: ids, vectors and payloads side by side."""
    ids, vectors = items(batch, "ids"), required(batch, "vectors")
    payloads = batch.get("payloads") or [None] * len(ids)
    columns = vectors.values() if isinstance(vectors, dict) else [vectors]
    if any(len(column) != len(ids) for column in [*columns, payloads]):
        raise BadFormat("batch: number of ids, vectors and payloads must be equal")
    if isinstance(vectors, dict):
        rows = [{name: column[row] for name, column in vectors.items()} for row in range(len(ids))]
    else:
        rows = vectors
    return [
        edge.Point(point_id(i), vector(row), data) for i, row, data in zip(ids, rows, payloads, strict=True)
    ]


def payload_selector(value: Any) -> Any:
    """`with_payload`: a flag, a list of fields, or fields to include or exclude."""
    if not isinstance(value, dict):
        return value
    if value.get("include"):
        return edge.PayloadSelector.Include(value["include"])
    return edge.PayloadSelector.Exclude(required(value, "exclude"))


def json_record(record: Any) -> Json:
    found: Json = {"id": json_id(record.id), "payload": record.payload}
    if record.vector is not None:
        found["vector"] = json_vector(record.vector)
    if getattr(record, "order_value", None) is not None:
        found["order_value"] = record.order_value
    return found


def json_scored(scored: Any) -> Json:
    return {**json_record(scored), "version": scored.version, "score": scored.score}
