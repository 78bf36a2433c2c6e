"""Score-boosting formulas: JSON expressions to the engine's expression tree."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import qdrant_edge as edge

from .errors import BadFormat
from .filters import condition
from .values import Json


def formula(body: Json) -> Any:
    """A `{"formula": expression, "defaults": {...}}` query."""
    return edge.Formula(_expression(body["formula"]), body.get("defaults") or {})


def _expression(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return edge.Expression.Constant(float(value))
    if isinstance(value, str):
        return edge.Expression.Variable(value)
    for name, build in _OPERATORS.items():
        if name in value:
            return build(value[name])
    return edge.Expression.Condition(condition(value))


def _many(kind: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    return lambda items: kind([_expression(item) for item in items])


def _one(kind: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda item: kind(_expression(item))


def _div(body: Json) -> Any:
    return edge.Expression.Div(
        _expression(body["left"]), _expression(body["right"]), body.get("by_zero_default")
    )


def _pow(body: Json) -> Any:
    return edge.Expression.Pow(_expression(body["base"]), _expression(body["exponent"]))


def _geo(body: Json) -> Any:
    origin = edge.GeoPoint(body["origin"]["lon"], body["origin"]["lat"])
    return edge.Expression.GeoDistance(origin, body["to"])


def _decay(kind: Any) -> Callable[[Json], Any]:
    def build(body: Json) -> Any:
        if "x" not in body:
            raise BadFormat("missing field `x` in decay expression")
        target = _expression(body["target"]) if body.get("target") is not None else None
        return edge.Expression.Decay(
            kind, _expression(body["x"]), target, body.get("midpoint"), body.get("scale")
        )

    return build


_OPERATORS: dict[str, Callable[[Any], Any]] = {
    "sum": _many(edge.Expression.Sum),
    "mult": _many(edge.Expression.Mult),
    "neg": _one(edge.Expression.Neg),
    "abs": _one(edge.Expression.Abs),
    "sqrt": _one(edge.Expression.Sqrt),
    "exp": _one(edge.Expression.Exp),
    "log10": _one(edge.Expression.Log10),
    "ln": _one(edge.Expression.Ln),
    "div": _div,
    "pow": _pow,
    "geo_distance": _geo,
    "datetime": edge.Expression.Datetime,
    "datetime_key": edge.Expression.DatetimeKey,
    "lin_decay": _decay(edge.DecayKind.Lin),
    "gauss_decay": _decay(edge.DecayKind.Gauss),
    "exp_decay": _decay(edge.DecayKind.Exp),
}
