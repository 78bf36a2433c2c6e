"""Update operations: what changes points, payloads, vectors and payload indexes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from .errors import BadFormat, BadInput
from .filters import to_filter
from .schema import index_params
from .values import Json, items, point, point_id, points_of_batch, required, text, variant, vector

_Update = edge.UpdateOperation


def _selected(body: Json) -> tuple[Any, str]:
    """The points an operation is for, and the suffix of the engine's method for that kind of selection."""
    if body.get("points") is not None:
        return [point_id(item) for item in _some(items(body, "points"))], ""
    if body.get("filter") is not None:
        return to_filter(body["filter"]) or edge.Filter(), "_by_filter"
    raise BadFormat("either `points` or `filter` must be given")


def _some(given: list[Any]) -> list[Any]:
    if not given:
        raise BadInput("Empty update request")
    return given


def upsert(body: Json) -> Any:
    if "batch" in body:
        points = points_of_batch(body["batch"])
    else:
        points = [point(item) for item in items(body, "points")]
    mode = body.get("update_mode")
    mode = variant(edge.UpdateMode, mode) if mode is not None else None
    return _Update.upsert_points(_some(points), to_filter(body.get("update_filter")), mode)


def delete_points(body: Json) -> Any:
    selection, suffix = _selected(body)
    return getattr(_Update, f"delete_points{suffix}")(selection)


def set_payload(body: Json) -> Any:
    selection, suffix = _selected(body)
    return getattr(_Update, f"set_payload{suffix}")(selection, required(body, "payload"), body.get("key"))


def overwrite_payload(body: Json) -> Any:
    selection, suffix = _selected(body)
    return getattr(_Update, f"overwrite_payload{suffix}")(
        selection, required(body, "payload"), body.get("key")
    )


def delete_payload(body: Json) -> Any:
    selection, suffix = _selected(body)
    return getattr(_Update, f"delete_payload{suffix}")(selection, required(body, "keys"))


def clear_payload(body: Json) -> Any:
    selection, suffix = _selected(body)
    return getattr(_Update, f"clear_payload{suffix}")(selection)


def update_vectors(body: Json) -> Any:
    rows = [
        edge.PointVectors(point_id(required(item, "id")), vector(required(item, "vector")))
        for item in _some(items(body, "points"))
    ]
    return _Update.update_vectors(rows, to_filter(body.get("update_filter")))


def delete_vectors(body: Json) -> Any:
    selection, suffix = _selected(body)
    return getattr(_Update, f"delete_vectors{suffix}")(selection, required(body, "vector"))


def create_index(body: Json) -> Any:
    schema = body.get("field_schema") or body.get("field_type") or "keyword"
    return _Update.create_field_index(text(body, "field_name"), index_params(schema))


def delete_index(field: str) -> Any:
    return _Update.delete_field_index(field)


_BATCHED: dict[str, Callable[[Json], Any]] = {
    "upsert": upsert,
    "delete": delete_points,
    "set_payload": set_payload,
    "overwrite_payload": overwrite_payload,
    "delete_payload": delete_payload,
    "clear_payload": clear_payload,
    "update_vectors": update_vectors,
    "delete_vectors": delete_vectors,
}


def batched(body: Json) -> list[Any]:
    """`POST /points/batch`: a list of operations, each under its name."""
    found = []
    for item in items(body, "operations"):
        if not isinstance(item, dict):
            raise BadFormat(f"an operation must be an object, not {type(item).__name__}")
        for name, build in _BATCHED.items():
            if name in item:
                found.append(build(item[name]))
                break
        else:
            raise BadFormat(f"unknown operation {', '.join(item)}")
    return found
