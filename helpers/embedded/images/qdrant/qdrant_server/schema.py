"""Collection parameters and payload index parameters: JSON to the engine's configuration objects."""

from __future__ import annotations

from typing import Any

import qdrant_edge as edge

from .errors import BadFormat, BadInput, NotImplementedByEngine
from .values import Json, positive, required, variant

DISTANCES = {name: getattr(edge.Distance, name) for name in ("Cosine", "Euclid", "Dot", "Manhattan")}
MOST_DIMENSIONS = 65536
HNSW_DEFAULTS: Json = {"m": 16, "ef_construct": 100, "full_scan_threshold": 10000}
OPTIMIZER_DEFAULTS: Json = {
    "deleted_threshold": 0.2,
    "vacuum_min_vector_number": 1000,
    "default_segment_number": 0,
    "indexing_threshold": 10000,
    "flush_interval_sec": 5,
}
_INDEX_PARAMS = {
    "keyword": (edge.KeywordIndexParams, ("is_tenant", "on_disk", "enable_hnsw")),
    "integer": (edge.IntegerIndexParams, ("lookup", "range", "is_principal", "on_disk", "enable_hnsw")),
    "float": (edge.FloatIndexParams, ("is_principal", "on_disk", "enable_hnsw")),
    "geo": (edge.GeoIndexParams, ("on_disk", "enable_hnsw")),
    "bool": (edge.BoolIndexParams, ("on_disk", "enable_hnsw")),
    "datetime": (edge.DatetimeIndexParams, ("is_principal", "on_disk", "enable_hnsw")),
    "uuid": (edge.UuidIndexParams, ("is_tenant", "on_disk", "enable_hnsw")),
    "text": (
        edge.TextIndexParams,
        ("min_token_len", "max_token_len", "lowercase", "phrase_matching", "on_disk", "enable_hnsw"),
    ),
}


def _given(body: Json | None, names: tuple[str, ...]) -> Json:
    return {name: body[name] for name in names if body and body.get(name) is not None}


def check_supported(config: Json) -> None:
    """Refuse at creation what this server could only pretend to do."""
    for name in ("shard_number", "replication_factor", "write_consistency_factor"):
        if positive(config, name, 1) > 1:
            raise NotImplementedByEngine(f"{name} above 1, a collection is one shard here")
    for name in ("sharding_method", "init_from", "strict_mode_config"):
        value = config.get(name)
        if value and value != "auto" and not (isinstance(value, dict) and value.get("enabled") is False):
            raise NotImplementedByEngine(name)


def merged(config: Json, changes: Json) -> Json:
    """A collection's configuration after a PATCH: what is null stays, what is given goes over it."""
    changes = dict(changes)
    vectors, old = changes.pop("vectors", None), config.get("vectors") or {}
    if vectors:
        # One unnamed vector is written without a name, and changed under the empty one.
        named = {"": old} if "size" in old else old
        if unknown := set(vectors) - set(named):
            raise BadInput(f"Not existing vector name error: {sorted(unknown)[0]}")
        named = _over(named, vectors)
        changes["vectors"] = named[""] if "size" in old else named
    quantization = changes.pop("quantization_config", None)
    found = _over(config, changes)
    if quantization:
        found["quantization_config"] = None if quantization == "Disabled" else quantization
    return found


def _over(old: Json, new: Json) -> Json:
    found = dict(old)
    for name, value in new.items():
        if value is not None:
            before = found.get(name)
            if isinstance(value, dict) and isinstance(before, dict):
                value = _over(before, value)
            found[name] = value
    return found


def _vector_params(params: Json) -> Any:
    distance = required(params, "distance")
    if distance not in DISTANCES:
        raise BadFormat(f"unknown variant `{distance}`, expected one of {', '.join(DISTANCES)}")
    options = _given(params, ("on_disk",))
    if params.get("multivector_config"):
        comparator = variant(edge.MultiVectorComparator, required(params["multivector_config"], "comparator"))
        options["multivector_config"] = edge.MultiVectorConfig(comparator)
    if params.get("datatype"):
        options["datatype"] = variant(edge.VectorStorageDatatype, params["datatype"])
    if params.get("hnsw_config"):
        options["hnsw_config"] = _hnsw(params["hnsw_config"])
    if params.get("quantization_config"):
        options["quantization_config"] = _quantization(params["quantization_config"])
    required(params, "size")
    size = positive(params, "size", 0, at_most=MOST_DIMENSIONS)
    return edge.EdgeVectorParams(size, DISTANCES[distance], **options)


def _hnsw(config: Json | None) -> Any:
    merged = {
        **HNSW_DEFAULTS,
        **_given(config, ("m", "ef_construct", "full_scan_threshold", "on_disk", "payload_m")),
    }
    return edge.HnswIndexConfig(**merged)


def _quantization(config: Json) -> Any:
    if "scalar" in config:
        options = _given(config["scalar"], ("quantile", "always_ram"))
        kind = variant(edge.ScalarType, required(config["scalar"], "type"))
        return edge.ScalarQuantizationConfig(kind, **options)
    if "binary" in config:
        return edge.BinaryQuantizationConfig(**_given(config["binary"], ("always_ram",)))
    if "product" in config:
        compression = variant(edge.CompressionRatio, required(config["product"], "compression"))
        return edge.ProductQuantizationConfig(compression, **_given(config["product"], ("always_ram",)))
    raise NotImplementedByEngine(f"quantization {', '.join(config)}")


def engine_config(config: Json) -> Any:
    """The engine's configuration of a collection, from the body that created it (and its updates)."""
    vectors = config.get("vectors") or {}
    if not isinstance(vectors, dict):
        raise BadFormat(f"`vectors`: invalid type: {type(vectors).__name__}, expected an object")
    options: Json = {
        "hnsw_config": _hnsw(config.get("hnsw_config")),
        "on_disk_payload": config.get("on_disk_payload", True),
        "optimizers": edge.EdgeOptimizersConfig(
            **_given(
                {**OPTIMIZER_DEFAULTS, **_given(config.get("optimizers_config"), tuple(OPTIMIZER_DEFAULTS))},
                (
                    "deleted_threshold",
                    "vacuum_min_vector_number",
                    "default_segment_number",
                    "indexing_threshold",
                ),
            )
        ),
    }
    if config.get("quantization_config"):
        options["quantization_config"] = _quantization(config["quantization_config"])
    if config.get("sparse_vectors"):
        options["sparse_vectors"] = {
            name: edge.EdgeSparseVectorParams(
                modifier=edge.Modifier.Idf if (params or {}).get("modifier") == "idf" else None
            )
            for name, params in config["sparse_vectors"].items()
        }
    dense = (
        _vector_params(vectors) if "size" in vectors else {k: _vector_params(v) for k, v in vectors.items()}
    )
    return edge.EdgeConfig(vectors=dense, **options)


def index_params(schema: Any) -> Any:
    """A payload index: a type's name, or an object with the type and its parameters."""
    body = {"type": schema} if isinstance(schema, str) else schema
    kind = required(body, "type")
    if kind not in _INDEX_PARAMS:
        raise BadFormat(f"unknown payload index type `{kind}`, expected one of {', '.join(_INDEX_PARAMS)}")
    factory, names = _INDEX_PARAMS[kind]
    # Stop words, stemmers and the like change what is found: left out in silence, answers would be wrong.
    for name in set(body) - {"type", "tokenizer", *names}:
        if body[name] not in (None, False):
            raise NotImplementedByEngine(f"`{name}` of a payload index of type {kind}")
    options = _given(body, names)
    if kind == "text" and body.get("tokenizer"):
        options["tokenizer"] = variant(edge.TokenizerType, body["tokenizer"])
    return factory(**options)
