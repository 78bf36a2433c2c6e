"""Filters: Qdrant's JSON conditions to the engine's condition objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from .errors import BadFormat
from .values import as_list, point_id

_MATCHES: dict[str, Callable[[Any], Any]] = {
    "value": edge.MatchValue,
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
    if not body:
        return None
    unknown = set(body) - {*_CLAUSES, "min_should"}
    if unknown:
        raise BadFormat(f"unknown field `{sorted(unknown)[0]}` in filter")
    clauses: dict[str, Any] = {
        name: [condition(item) for item in as_list(body[name])] for name in _CLAUSES if body.get(name)
    }
    if body.get("min_should"):
        minimum = body["min_should"]
        clauses["min_should"] = edge.MinShould(
            [condition(item) for item in minimum["conditions"]], minimum["min_count"]
        )
    return edge.Filter(**clauses)


def condition(body: dict[str, Any]) -> Any:
    """One condition of a clause: on a field, on ids, or a nested filter."""
    if "has_id" in body:
        return edge.HasIdCondition({point_id(item) for item in body["has_id"]})
    if "has_vector" in body:
        return edge.HasVectorCondition(body["has_vector"])
    if "nested" in body:
        nested = body["nested"]
        return edge.NestedCondition(nested["key"], to_filter(nested["filter"]))
    if "key" in body:
        return _field_condition(body)
    if "is_empty" in body:
        return edge.IsEmptyCondition(body["is_empty"]["key"])
    if "is_null" in body:
        return edge.IsNullCondition(body["is_null"]["key"])
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
    has_text = any(isinstance(value, str) for value in bounds.values())
    return (edge.RangeDateTime if has_text else edge.RangeFloat)(**bounds)


def _geo_point(body: dict[str, Any]) -> Any:
    return edge.GeoPoint(body["lon"], body["lat"])


def _geo_radius(body: dict[str, Any]) -> Any:
    return edge.GeoRadius(_geo_point(body["center"]), body["radius"])


def _geo_box(body: dict[str, Any]) -> Any:
    return edge.GeoBoundingBox(_geo_point(body["top_left"]), _geo_point(body["bottom_right"]))


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
