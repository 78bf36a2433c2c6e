"""One collection: its configuration file and one engine shard in one folder."""

from __future__ import annotations

import json
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from .errors import NotFound, StorageFull, engine_errors
from .files import Gate, write_json
from .queries import VectorOf, to_request
from .schema import HNSW_DEFAULTS, OPTIMIZER_DEFAULTS, check_supported, engine_config, merged
from .values import Json, json_id, json_scored, payload_selector, point_id, positive

CONFIG_FILE = "config.json"
SHARD_FOLDER = "0"
WAL_CAPACITY_MB = 32
# As the real server does: refuse writes while they can still be refused in good order.
MIN_FREE_BYTES = 2 * WAL_CAPACITY_MB * 1024 * 1024
FLUSH_INTERVAL_S = 5.0
GROUP_ROUNDS = 6


class Collection:
    """Reads run at once; updates run one after the other; replacing the shard waits for both."""

    def __init__(self, name: str, folder: Path, config: Json, shard: Any) -> None:
        self.name, self.folder, self.config = name, folder, config
        self.optimizing = False
        self._shard: Any = shard
        self._gate = Gate()
        self._updates = threading.Lock()
        self._operations = 0
        self._dirty_since: float | None = None

    @classmethod
    def create(cls, name: str, folder: Path, config: Json) -> Collection:
        """Make a new collection; its configuration file is written last, so a crash leaves none."""
        check_supported(config)
        with engine_errors():
            settings = engine_config(config)
            folder.mkdir(parents=True)
            try:
                shard = edge.EdgeShard.create(str(folder / SHARD_FOLDER), settings)
                write_json(folder / CONFIG_FILE, config)
            except Exception:
                shutil.rmtree(folder, ignore_errors=True)
                raise
        return cls(name, folder, config, shard)

    @classmethod
    def load(cls, name: str, folder: Path) -> Collection:
        """Open what is on disk; the engine replays its write-ahead log."""
        config = json.loads((folder / CONFIG_FILE).read_text())
        shard = edge.EdgeShard.load(str(folder / SHARD_FOLDER), engine_config(config))
        return cls(name, folder, config, shard)

    @contextmanager
    def reading(self) -> Iterator[Any]:
        """The engine's shard, kept open for as long as the caller reads from it."""
        with self._gate.shared(), engine_errors():
            if self._shard is None:
                raise NotFound(f"Collection `{self.name}` doesn't exist!")
            yield self._shard

    def update(self, *operations: Any, frees_space: bool = False) -> Json:
        """Apply engine operations in order; each is in the write-ahead log when this returns."""
        with self._updates, self.reading() as shard:
            if not frees_space and shutil.disk_usage(self.folder).free < MIN_FREE_BYTES:
                raise StorageFull("No space left on device: WAL buffer size exceeds available disk space")
            for operation in operations:
                shard.update(operation)
                self._operations += 1
            self._dirty_since = self._dirty_since or time.monotonic()
            return {"operation_id": self._operations, "status": "completed"}

    def maintain(self, now: float) -> None:
        """Flush what was written some seconds ago and build the indexes that are due."""
        if self._dirty_since is None or now - self._dirty_since < FLUSH_INTERVAL_S:
            return
        self._dirty_since = None
        with self._gate.shared():
            if self._shard is None:
                return
            self.optimizing = True
            try:
                self._shard.flush()
                self._shard.optimize()
            finally:
                self.optimizing = False

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """No update runs and everything is flushed: the files can be copied as they are."""
        with self._updates, self.reading() as shard:
            shard.flush()
            yield

    def reconfigure(self, changes: Json) -> None:
        """Merge a PATCH body into the configuration and reopen the shard with it."""
        check_supported(changes)
        with self._updates, self._gate.alone(), engine_errors():
            if self._shard is None:
                raise NotFound(f"Collection `{self.name}` doesn't exist!")
            config = merged(self.config, changes)
            settings = engine_config(config)
            self._shard.flush()
            self._shard.close()
            try:
                self._shard = self._open(settings)
            except Exception:
                self._shard = self._open(engine_config(self.config))
                raise
            write_json(self.folder / CONFIG_FILE, config)
            self.config = config

    def _open(self, settings: Any) -> Any:
        return edge.EdgeShard.load(str(self.folder / SHARD_FOLDER), settings)

    def close(self) -> None:
        """Wait for whoever uses the shard, then close it for good."""
        with self._updates, self._gate.alone():
            if self._shard is not None:
                self._shard.flush()
                self._shard.close()
                self._shard = None

    def vector_of(self, identifier: Any, using: str | None) -> Any:
        """The vector of one point, for queries that name a point instead of a vector."""
        with self.reading() as shard:
            found = shard.retrieve([point_id(identifier)], False, True)
        if not found:
            raise NotFound(f"No point with id {identifier} found")
        stored = found[0].vector
        return stored.get(using or "") if isinstance(stored, dict) else stored

    def query(self, body: Json, vector_of: VectorOf) -> list[Json]:
        with engine_errors():
            request = to_request(body, vector_of, self.name)
        with self.reading() as shard:
            return [json_scored(point) for point in shard.query(request)]

    def query_groups(self, body: Json, vector_of: VectorOf) -> list[Json]:
        """Group by a payload field: ask for more points until the groups are full or points run out."""
        limit, size = positive(body, "limit", 10), positive(body, "group_size", 3)
        plain = {
            key: value for key, value in body.items() if key not in ("group_by", "group_size", "with_lookup")
        }
        wanted = limit * size
        groups: dict[Any, list[Json]] = {}
        for _ in range(GROUP_ROUNDS):
            points = self.query({**plain, "limit": wanted, "with_payload": True}, vector_of)
            groups = _grouped(points, body["group_by"], size)
            full = [key for key, hits in groups.items() if len(hits) == size]
            if len(points) < wanted or len(full) >= limit:
                break
            wanted *= 4
        found = [{"id": key, "hits": hits} for key, hits in list(groups.items())[:limit]]
        self._show_payload(found, body.get("with_payload", False))
        return found

    def _show_payload(self, groups: list[Json], wanted: Any) -> None:
        """Grouping needs whole payloads; give back what was asked for."""
        if wanted is True:
            return
        hits = [hit for group in groups for hit in group["hits"]]
        with self.reading() as shard:
            ids = [point_id(hit["id"]) for hit in hits]
            shown = {json_id(r.id): r.payload for r in shard.retrieve(ids, payload_selector(wanted), False)}
        for hit in hits:
            hit["payload"] = shown.get(hit["id"])

    def points_count(self) -> int:
        with self.reading() as shard:
            return shard.info().points_count

    def info(self) -> Json:
        """The answer to `GET /collections/{name}`."""
        with self.reading() as shard:
            state = shard.info()
        return {
            "status": "yellow" if self.optimizing else "green",
            "optimizer_status": "ok",
            "indexed_vectors_count": state.indexed_vectors_count,
            "points_count": state.points_count,
            "segments_count": state.segments_count,
            "config": self._described(),
            "payload_schema": {name: _index_info(index) for name, index in state.payload_schema.items()},
        }

    def _described(self) -> Json:
        config = self.config
        params = {
            "vectors": config.get("vectors") or {},
            "shard_number": 1,
            "replication_factor": 1,
            "write_consistency_factor": 1,
            "on_disk_payload": config.get("on_disk_payload", True),
        }
        if config.get("sparse_vectors"):
            params["sparse_vectors"] = config["sparse_vectors"]
        return {
            "params": params,
            "hnsw_config": {
                **HNSW_DEFAULTS,
                "max_indexing_threads": 0,
                "on_disk": False,
                **_set(config.get("hnsw_config")),
            },
            "optimizer_config": {**OPTIMIZER_DEFAULTS, **_set(config.get("optimizers_config"))},
            "wal_config": {"wal_capacity_mb": WAL_CAPACITY_MB, "wal_segments_ahead": 0},
            "quantization_config": config.get("quantization_config"),
            **({"metadata": config["metadata"]} if config.get("metadata") else {}),
        }


def _set(values: Json | None) -> Json:
    return {key: value for key, value in (values or {}).items() if value is not None}


def _index_info(index: Any) -> Json:
    return {"data_type": str(index.data_type).rsplit(".", 1)[-1].lower(), "points": index.points}


def _grouped(points: list[Json], key: str, size: int) -> dict[Any, list[Json]]:
    groups: dict[Any, list[Json]] = {}
    for point in points:
        for value in dict.fromkeys(_group_ids(point.get("payload"), key)):
            hits = groups.setdefault(value, [])
            if len(hits) < size:
                hits.append(point)
    return groups


def _group_ids(payload: Any, path: str) -> Iterator[str | int]:
    """What can name a group: the words and whole numbers at a payload path such as `a.b` or `a[].b`."""
    found = [payload]
    for name, index in re.findall(r'"[^"]*"|([^.\[\]]+)|\[(\d*)\]', path):
        if name:
            found = [item[name] for item in found if isinstance(item, dict) and name in item]
        else:
            lists = [item for item in found if isinstance(item, list)]
            found = [item for row in lists for item in (row[int(index) : int(index) + 1] if index else row)]
    for value in found:
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, str | int) and not isinstance(item, bool):
                yield item
