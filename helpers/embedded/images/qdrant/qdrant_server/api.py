"""The REST operations: one function a path, from a request's parts to the `result` of its answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import qdrant_edge as edge

from . import API_VERSION, ENGINE_LABEL, operations, snapshots
from .collection import Collection
from .errors import NotFound, NotImplementedByEngine, engine_errors
from .filters import to_filter
from .metrics import Metrics
from .queries import order_by
from .storage import Storage
from .values import Json, items, json_id, json_record, payload_selector, point_id, positive, required, text

STARTED = datetime.now(UTC)
NAME = "collection_name"


@dataclass(frozen=True)
class Call:
    """One request: the server's state, the path's and the query's parameters, the JSON body."""

    storage: Storage
    metrics: Metrics
    path: dict[str, str]
    query: dict[str, str]
    body: Json = field(default_factory=dict)

    @property
    def collection(self) -> Collection:
        return self.storage.get(self.path[NAME])


Operation = Callable[[Call], Any]

# -- collections ----------------------------------------------------------------------------------


def list_collections(call: Call) -> Json:
    call.storage.aliases()  # answers 503 while loading, where an empty list would be a lie
    return {"collections": [{"name": collection.name} for collection in call.storage.collections()]}


def create_collection(call: Call) -> bool:
    call.storage.create(call.path[NAME], call.body)
    return True


def update_collection(call: Call) -> bool:
    call.collection.reconfigure(call.body)
    return True


def delete_collection(call: Call) -> bool:
    return call.storage.delete(call.path[NAME])


def collection_info(call: Call) -> Json:
    return call.collection.info()


def collection_exists(call: Call) -> Json:
    return {"exists": call.storage.exists(call.path[NAME])}


def collection_cluster(call: Call) -> Json:
    count = call.collection.points_count()
    shard = {"shard_id": 0, "points_count": count, "state": "Active"}
    return {
        "peer_id": 0,
        "shard_count": 1,
        "local_shards": [shard],
        "remote_shards": [],
        "shard_transfers": [],
    }


def list_aliases(call: Call) -> Json:
    name = call.path.get(NAME)
    return call.storage.aliases(call.storage.get(name).name if name else None)


def change_aliases(call: Call) -> bool:
    call.storage.change_aliases(items(call.body, "actions"))
    return True


# -- points: changes ------------------------------------------------------------------------------


def change(build: Callable[[Json], Any], *, frees_space: bool = False) -> Operation:
    """An operation that turns the body into one engine update."""

    def operation(call: Call) -> Json:
        collection = call.collection
        with engine_errors():
            update = build(call.body)
        return _answered(call, collection.update(update, frees_space=frees_space))

    return operation


def change_batch(call: Call) -> list[Json]:
    collection = call.collection
    with engine_errors():
        updates = operations.batched(call.body)
    return [_answered(call, collection.update(update)) for update in updates]


def _answered(call: Call, update: Json) -> Json:
    """Nothing is ever left for later here; who did not ask to wait is told what Qdrant tells them."""
    return update if call.query.get("wait") == "true" else {**update, "status": "acknowledged"}


def delete_index(call: Call) -> Json:
    update = operations.delete_index(call.path["field"])
    return _answered(call, call.collection.update(update, frees_space=True))


# -- points: reads --------------------------------------------------------------------------------


def retrieve(call: Call) -> list[Json]:
    body = call.body
    identifiers = [point_id(item) for item in items(body, "ids")]
    with call.collection.reading() as shard:
        fields, vectors = payload_selector(body.get("with_payload", True)), body.get("with_vector") or False
        return [json_record(record) for record in shard.retrieve(identifiers, fields, vectors)]


def retrieve_one(call: Call) -> Json:
    given = call.path["id"]
    identifier = point_id(int(given) if given.isascii() and given.isdigit() else given)
    with call.collection.reading() as shard:
        found = shard.retrieve([identifier], True, True)
    if not found:
        raise NotFound(f"Point with id {given} does not exists!")
    return json_record(found[0])


def query(call: Call) -> Json:
    collection = call.collection
    return {"points": collection.query(call.body, call.storage.vector_of(collection))}


def query_batch(call: Call) -> list[Json]:
    collection = call.collection
    find = call.storage.vector_of(collection)
    return [{"points": collection.query(body, find)} for body in items(call.body, "searches")]


def query_groups(call: Call) -> Json:
    if call.body.get("with_lookup"):
        raise NotImplementedByEngine("groups with_lookup")
    text(call.body, "group_by")
    collection = call.collection
    return {"groups": collection.query_groups(call.body, call.storage.vector_of(collection))}


def search(call: Call) -> list[Json]:
    """The older search path, still used by dashboards and scripts."""
    return _search(call, call.body)


def search_batch(call: Call) -> list[list[Json]]:
    return [_search(call, body) for body in items(call.body, "searches")]


def _search(call: Call, body: Json) -> list[Json]:
    vector = required(body, "vector")
    named = isinstance(vector, dict) and "vector" in vector
    using = vector.get("name") if named else None
    request = {**body, "query": vector["vector"] if named else vector, "using": using}
    return call.collection.query(request, call.storage.vector_of(call.collection))


def scroll(call: Call) -> Json:
    body = call.body
    with engine_errors():
        request = edge.ScrollRequest(
            offset=point_id(body["offset"]) if body.get("offset") is not None else None,
            limit=positive(body, "limit", 10),
            filter=to_filter(body.get("filter")),
            with_payload=payload_selector(body.get("with_payload", True)),
            with_vector=body.get("with_vector") or False,
            order_by=order_by(body["order_by"]) if body.get("order_by") else None,
        )
    with call.collection.reading() as shard:
        records, following = shard.scroll(request)
    return {
        "points": [json_record(record) for record in records],
        "next_page_offset": None if following is None else json_id(following),
    }


def count(call: Call) -> Json:
    with engine_errors():
        request = edge.CountRequest(
            exact=call.body.get("exact", True), filter=to_filter(call.body.get("filter"))
        )
    with call.collection.reading() as shard:
        return {"count": shard.count(request)}


def facet(call: Call) -> Json:
    body = call.body
    with engine_errors():
        request = edge.FacetRequest(
            text(body, "key"),
            positive(body, "limit", 10),
            bool(body.get("exact")),
            to_filter(body.get("filter")),
        )
    with call.collection.reading() as shard:
        return {"hits": [{"value": hit.value, "count": hit.count} for hit in shard.facet(request).hits]}


# -- snapshots ------------------------------------------------------------------------------------


def list_snapshots(call: Call) -> list[Json]:
    folder = call.storage.snapshots_of(call.path[NAME])
    return [snapshots.describe(path) for path in sorted(folder.glob("*.snapshot"))]


def create_snapshot(call: Call) -> Json:
    collection = call.collection
    taken = snapshots.take(collection, call.storage.snapshots_of(collection.name))
    call.metrics.snapshot_created(collection.name)
    return taken


def delete_snapshot(call: Call) -> bool:
    path = snapshots.find(call.storage.snapshots_of(call.path[NAME]), call.path["snapshot"])
    path.with_name(f"{path.name}.checksum").unlink(missing_ok=True)
    path.unlink()
    return True


def recover_snapshot(call: Call) -> bool:
    location = text(call.body, "location")
    path, is_temporary = call.storage.fetch(location, api_key=call.body.get("api_key"))
    try:
        call.storage.recover(call.path[NAME], path, checksum=call.body.get("checksum"))
    finally:
        if is_temporary:
            path.unlink(missing_ok=True)
    return True


# -- service --------------------------------------------------------------------------------------


def telemetry(call: Call) -> Json:
    described = [
        {"id": c.name, "init_time_ms": 0, "config": c.info()["config"]} for c in call.storage.collections()
    ]
    return {
        "id": str(uuid.UUID(int=uuid.getnode())),
        "app": {
            "name": "qdrant",
            "version": API_VERSION,
            "startup": STARTED.isoformat(),
            "engine": ENGINE_LABEL,
        },
        "collections": {"number_of_collections": len(described), "collections": described},
        "cluster": {"enabled": False},
    }


def cluster(_call: Call) -> Json:
    return {"status": "disabled"}


def not_implemented(what: str) -> Operation:
    def operation(_call: Call) -> None:
        raise NotImplementedByEngine(what)

    return operation
