"""Filters: Qdrant's JSON conditions to the engine's condition objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from .errors import BadFormat
from .values import as_list, items, point_id, required, text


class _Truth:
    """A truth value that is no integer.

    The binding (qdrant-edge-py 0.9.0) tries integers first, and Python's bool is one: `true` would look
    for 1. It also takes NumPy's bool, which it knows by its name. Goes when `MatchValue(True).value` is True.
    """

    def __init__(self, value: bool) -> None:
        self._value = value

    def __bool__(self) -> bool:
        return self._value


_Truth.__module__, _Truth.__name__ = "numpy", "bool_"


def _match_value(value: Any) -> Any:
    known: Any = (
        _Truth(value) if isinstance(value, bool) else value
    )  # the engine takes numpy's truth values too
    return edge.MatchValue(known)


_MATCHES: dict[str, Callable[[Any], Any]] = {
    "value": _match_value,
    "text": edge.MatchText,
    "text_any": edge.MatchTextAny,
    "phrase": edge.MatchPhrase,
    "prefix": edge.MatchPrefix,
    "any": edge.MatchAny,
    "except": edge.MatchExcept,
}
_CLAUSES = ("must", "should", "must_not")


def to_filter(body: dict[str, Any] | None) -> Any:
    """A `filter` object, or None when there is none or it is empty (which matches everything)."""
    if body is None or body == {}:
        return None
    if not isinstance(body, dict):
        raise BadFormat(f"`filter`: invalid type: {type(body).__name__}, expected an object")
    unknown = set(body) - {*_CLAUSES, "min_should"}
    if unknown:
        raise BadFormat(f"unknown field `{sorted(unknown)[0]}` in filter")
    clauses: dict[str, Any] = {
        name: [condition(item) for item in as_list(body[name])] for name in _CLAUSES if body.get(name)
    }
    if body.get("min_should") is not None:
        minimum = body["min_should"]
        clauses["min_should"] = edge.MinShould(
            [condition(item) for item in items(minimum, "conditions")], required(minimum, "min_count")
        )
    return edge.Filter(**clauses)


def condition(body: dict[str, Any]) -> Any:
    """One condition of a clause: on a field, on ids, or a nested filter."""
    if not isinstance(body, dict):
        raise BadFormat(f"a condition must be an object, not {type(body).__name__}")
    if "has_id" in body:
        return edge.HasIdCondition({point_id(item) for item in items(body, "has_id")})
    if "has_vector" in body:
        return edge.HasVectorCondition(body["has_vector"])
    if "nested" in body:
        nested = body["nested"]
        return edge.NestedCondition(
            text(nested, "key"), to_filter(required(nested, "filter")) or edge.Filter()
        )
    if "key" in body:
        return _field_condition(body)
    if "is_empty" in body:
        return edge.IsEmptyCondition(text(body["is_empty"], "key"))
    if "is_null" in body:
        return edge.IsNullCondition(text(body["is_null"], "key"))
    if set(body) & {*_CLAUSES, "min_should"}:
        return to_filter(body)
    raise BadFormat(f"unknown condition {json.dumps(body)[:120]}")


def _field_condition(body: dict[str, Any]) -> Any:
    options: dict[str, Any] = {}
    for name, convert in _FIELD_OPTIONS.items():
        if body.get(name) is not None:
            options[name] = convert(body[name])
    if not options:
        raise BadFormat(f"condition on `{body['key']}` has no match, range or other test")
    return edge.FieldCondition(body["key"], **options)


def _match(body: dict[str, Any]) -> Any:
    for name, kind in _MATCHES.items():
        if body.get(name) is not None:
            return kind(body[name])
    raise BadFormat(f"unknown match {json.dumps(body)[:120]}")


def _range(body: dict[str, Any]) -> Any:
    bounds = {name: value for name, value in body.items() if value is not None}
    if unknown := set(bounds) - {"gt", "gte", "lt", "lte"}:
        raise BadFormat(f"unknown field `{sorted(unknown)[0]}` in range")
    has_text = any(isinstance(value, str) for value in bounds.values())
    return (edge.RangeDateTime if has_text else edge.RangeFloat)(**bounds)


def _geo_point(body: dict[str, Any]) -> Any:
    return edge.GeoPoint(required(body, "lon"), required(body, "lat"))


def _geo_radius(body: dict[str, Any]) -> Any:
    return edge.GeoRadius(_geo_point(required(body, "center")), required(body, "radius"))


def _geo_box(body: dict[str, Any]) -> Any:
    corners = (_geo_point(required(body, name)) for name in ("top_left", "bottom_right"))
    return edge.GeoBoundingBox(*corners)


def _geo_polygon(body: dict[str, Any]) -> Any:
    def ring(line: dict[str, Any]) -> list[Any]:
        return [_geo_point(point) for point in line["points"]]

    return edge.GeoPolygon(ring(body["exterior"]), [ring(line) for line in body.get("interiors") or []])


def _values_count(body: dict[str, Any]) -> Any:
    return edge.ValuesCount(**{name: value for name, value in body.items() if value is not None})


_FIELD_OPTIONS: dict[str, Callable[[Any], Any]] = {
    "match": _match,
    "range": _range,
    "values_count": _values_count,
    "geo_radius": _geo_radius,
    "geo_bounding_box": _geo_box,
    "geo_polygon": _geo_polygon,
    "is_empty": bool,
    "is_null": bool,
}
