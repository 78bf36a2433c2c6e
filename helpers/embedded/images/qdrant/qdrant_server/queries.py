"""The universal query API: one JSON body, with its prefetches, to one engine request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import qdrant_edge as edge

from .errors import BadFormat, Invalid, NotImplementedByEngine
from .filters import to_filter
from .formulas import formula
from .values import Json, as_list, payload_selector, point_id, positive, required, vector

DEFAULT_LIMIT = 10
RRF_K = 2  # Qdrant's constant: score = sum of 1 / (k + rank)
VectorOf = Callable[[Any, str | None, Json | None], Any]


@dataclass
class _Parts:
    """What one level of a query needs while its vectors are looked up.

    `named` gathers, over all levels, the points of the queried collection that stand for their vectors.
    """

    body: Json
    vector_of: VectorOf
    collection: str
    named: set[Any]

    @property
    def using(self) -> str | None:
        return self.body.get("using")

    def vector(self, value: Any) -> Any:
        """A vector, or the vector of the point with this id."""
        if not isinstance(value, int | str):
            return vector(value)
        lookup = self.body.get("lookup_from")
        if not lookup or required(lookup, "collection") == self.collection:
            self.named.add(point_id(value))
        return self.vector_of(value, self.using, lookup)

    def vectors(self, values: Iterable[Any] | None) -> list[Any]:
        return [self.vector(value) for value in as_list(values or [])]

    def pairs(self, values: Any) -> list[Any]:
        return [
            edge.ContextPair(self.vector(required(p, "positive")), self.vector(required(p, "negative")))
            for p in as_list(values or [])
        ]


def to_request(body: Json, vector_of: VectorOf, collection: str) -> Any:
    """The engine's request for a `/points/query` body.

    `vector_of(id, using, lookup_from)` finds the vector of a point that the query names by id. Points of
    `collection` that are named so, at whatever level, are left out of the result, as Qdrant does.
    """
    named: set[Any] = set()
    level = _level(body, vector_of, collection, named)
    if named:
        clauses = [level["filter"]] if level["filter"] else None
        level["filter"] = edge.Filter(must=clauses, must_not=[edge.HasIdCondition(named)])
    return edge.QueryRequest(
        **level,
        offset=body.get("offset") or 0,
        with_vector=body.get("with_vector") or False,
        with_payload=payload_selector(body.get("with_payload", False)),
    )


def _level(body: Json, vector_of: VectorOf, collection: str, named: set[Any]) -> Json:
    query = _query(_Parts(body, vector_of, collection, named))
    inner = as_list(body.get("prefetch") or [])
    return {
        "limit": positive(body, "limit", DEFAULT_LIMIT),
        "query": query,
        "prefetches": [edge.Prefetch(**_level(item, vector_of, collection, named)) for item in inner],
        "filter": to_filter(body.get("filter")),
        "score_threshold": body.get("score_threshold"),
        "params": search_params(body.get("params")),
    }


def search_params(body: Json | None) -> Any:
    if not body:
        return None
    options = {
        name: body[name] for name in ("hnsw_ef", "exact", "indexed_only") if body.get(name) is not None
    }
    if body.get("quantization"):
        given = {k: v for k, v in body["quantization"].items() if v is not None}
        options["quantization"] = edge.QuantizationSearchParams(**given)
    return edge.SearchParams(**options)


def order_by(value: Any) -> Any:
    body = {"key": value} if isinstance(value, str) else value
    directions = {"asc": edge.Direction.Asc, "desc": edge.Direction.Desc, None: None}
    if body.get("direction") not in directions:
        raise BadFormat(f"unknown direction `{body['direction']}`, expected asc or desc")
    return edge.OrderBy(required(body, "key"), directions[body.get("direction")], body.get("start_from"))


def _query(parts: _Parts) -> Any:
    value = parts.body.get("query")
    if value is None:
        return None
    if not isinstance(value, dict) or "indices" in value:
        return edge.Query.Nearest(parts.vector(value), parts.using)
    for name, build in _KINDS.items():
        if name in value:
            return build(parts, value)
    raise NotImplementedByEngine(f"query of kind {', '.join(sorted(value))}")


def _nearest(parts: _Parts, value: Json) -> Any:
    if not value.get("mmr"):
        return edge.Query.Nearest(parts.vector(value["nearest"]), parts.using)
    mmr = value["mmr"]
    candidates = mmr.get("candidates_limit") or parts.body.get("limit") or DEFAULT_LIMIT
    diversity = 0.5 if mmr.get("diversity") is None else mmr["diversity"]
    if not 0 <= diversity <= 1:
        raise Invalid(f"[mmr.diversity: value {diversity} invalid, must be from 0.0 to 1.0]")
    # The engine weighs relevance where the API weighs diversity.
    return edge.Mmr(parts.vector(value["nearest"]), 1 - diversity, candidates, parts.using)


def _recommend(parts: _Parts, value: Json) -> Any:
    body = value["recommend"]
    positive, negative = parts.vectors(body.get("positive")), parts.vectors(body.get("negative"))
    strategy = body.get("strategy") or "average_vector"
    if strategy == "average_vector":
        if not positive:
            raise BadFormat("recommend with average_vector needs at least one positive example")
        if not all(isinstance(v, list) for v in [*positive, *negative]):
            raise NotImplementedByEngine("average_vector of sparse vectors")
        return edge.Query.Nearest(_average(positive, negative), parts.using)
    kinds = {"best_score": edge.Query.RecommendBestScore, "sum_scores": edge.Query.RecommendSumScores}
    if strategy not in kinds:
        raise BadFormat(f"unknown strategy `{strategy}`")
    return kinds[strategy](edge.RecommendQuery(positive, negative), parts.using)


def _average(positive: list[list[float]], negative: list[list[float]]) -> list[float]:
    """Qdrant's `average_vector`: avg(positive) + avg(positive) - avg(negative)."""

    def mean(rows: list[list[float]]) -> list[float]:
        return [sum(column) / len(rows) for column in zip(*rows, strict=True)]

    towards = mean(positive)
    if not negative:
        return towards
    return [2 * a - b for a, b in zip(towards, mean(negative), strict=True)]


def _discover(parts: _Parts, value: Json) -> Any:
    body = value["discover"]
    target = parts.vector(required(body, "target"))
    return edge.Query.Discover(edge.DiscoverQuery(target, parts.pairs(body.get("context"))), parts.using)


def _context(parts: _Parts, value: Json) -> Any:
    return edge.Query.Context(edge.ContextQuery(parts.pairs(value["context"])), parts.using)


def _fusion(_parts: _Parts, value: Json) -> Any:
    kinds = {"rrf": lambda: edge.Fusion.Rrf(k=RRF_K), "dbsf": edge.Fusion.Dbsf}
    if value["fusion"] not in kinds:
        raise BadFormat(f"unknown fusion `{value['fusion']}`")
    return kinds[value["fusion"]]()


def _rrf(_parts: _Parts, value: Json) -> Any:
    return edge.Fusion.Rrf(k=value["rrf"].get("k") or RRF_K, weights=value["rrf"].get("weights"))


def _sample(_parts: _Parts, value: Json) -> Any:
    if value["sample"] != "random":
        raise BadFormat(f"unknown sample `{value['sample']}`")
    return edge.Sample.Random


_KINDS: dict[str, Callable[[_Parts, Json], Any]] = {
    "nearest": _nearest,
    "recommend": _recommend,
    "discover": _discover,
    "context": _context,
    "fusion": _fusion,
    "rrf": _rrf,
    "sample": _sample,
    "order_by": lambda _parts, value: order_by(value["order_by"]),
    "formula": lambda _parts, value: formula(value),
}
