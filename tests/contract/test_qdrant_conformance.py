"""The same calls through qdrant-client, against the embedded server and against the client's local mode.

Where both answer, the answers are compared; scores to four digits, and points of equal score as a set.
"""

from __future__ import annotations

import json
import random
import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import UnexpectedResponse

from tests.contract.qdrant_process import QdrantProcess

SIZE, COUNT = 16, 400
SEVEN = str(uuid.UUID(int=7))
VECTORS = np.random.default_rng(0).normal(size=(COUNT, SIZE)).astype("float32")
QUERY = VECTORS[3].tolist()
Call = Callable[[QdrantClient], Any]
Match, Filter, Field, Range = models.MatchValue, models.Filter, models.FieldCondition, models.Range


def _points() -> list[models.PointStruct]:
    def payload(n: int) -> dict[str, Any]:
        return {
            "city": random.Random(n).choice(["Oslo", "Bergen", "Tromso"]),
            "n": n,
            "tags": ["a", "b"] if n % 2 else ["c"],
            "text": f"doc number {n}",
            "when": f"2026-01-{1 + n % 28:02d}T00:00:00Z",
            "place": {"lon": 10.0 + n / 100, "lat": 60.0 - n / 100},
            "parts": [{"x": n % 5, "y": n % 3}],
            "even": n % 2 == 0,
            "ratio": n / 7,
            "deep": {"down": {"n": n % 4}},
        }

    numbered = [
        models.PointStruct(id=n, vector=VECTORS[n].tolist(), payload=payload(n)) for n in range(COUNT)
    ]
    named = models.PointStruct(id=SEVEN, vector=VECTORS[0].tolist(), payload={"city": "Oslo", "n": -1})
    return [*numbered, named]


def _fill(client: QdrantClient) -> None:
    client.create_collection("lab", models.VectorParams(size=SIZE, distance=models.Distance.COSINE))
    client.upsert("lab", _points(), wait=True)
    client.upsert(
        "lab", models.Batch(ids=[9001], vectors=[VECTORS[1].tolist()], payloads=[{"city": "Stavanger"}])
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantProcess]:
    process = QdrantProcess(tmp_path_factory.mktemp("qdrant"))
    process.start()
    yield process
    process.stop()


def _connect(server: QdrantProcess) -> QdrantClient:
    return QdrantClient(url=server.url, timeout=30, trust_env=False, check_compatibility=False)


@pytest.fixture(scope="module")
def both(server: QdrantProcess) -> Iterator[tuple[QdrantClient, QdrantClient]]:
    """The server's client and the local one, with the same content; tests only read it."""
    remote, local = _connect(server), QdrantClient(":memory:")
    for client in (remote, local):
        _fill(client)
    for field, schema in {"city": "keyword", "n": "integer", "text": "text", "when": "datetime"}.items():
        remote.create_payload_index("lab", field, schema, wait=True)
    yield remote, local
    remote.close()


@pytest.fixture
def fresh(server: QdrantProcess) -> Iterator[tuple[QdrantClient, QdrantClient]]:
    """The same two, each with a collection that the test may change."""
    remote, local = _connect(server), QdrantClient(":memory:")
    remote.delete_collection("mine")
    for client in (remote, local):
        client.create_collection("mine", models.VectorParams(size=SIZE, distance=models.Distance.COSINE))
        client.upsert("mine", _points()[:50])
    yield remote, local
    remote.delete_collection("mine")
    remote.close()


def scored(answer: models.QueryResponse) -> list[tuple[float, str]]:
    """Scores and ids, equal scores in the order of their ids."""
    return sorted(((round(p.score, 4), str(p.id)) for p in answer.points), key=lambda p: (-p[0], p[1]))


def _groups(client: QdrantClient, key: str, only: models.Filter | None = None) -> list[Any]:
    answer = client.query_points_groups(
        "lab", query=QUERY, group_by=key, query_filter=only, limit=3, group_size=2
    )
    return [(group.id, [str(hit.id) for hit in group.hits]) for group in answer.groups]


def must(*conditions: Any) -> models.Filter:
    return Filter(must=list(conditions))


FILTERS: dict[str, models.Filter | None] = {
    "none": None,
    "match value": must(Field(key="city", match=Match(value="Oslo"))),
    "match any": must(Field(key="city", match=models.MatchAny(any=["Oslo", "Bergen"]))),
    "match except": must(Field(key="city", match=models.MatchExcept(**{"except": ["Oslo"]}))),
    "range": must(Field(key="n", range=Range(gte=10, lt=200))),
    "datetime range": must(Field(key="when", range=models.DatetimeRange(gte="2026-01-10T00:00:00Z"))),
    "must and must not": Filter(
        must=[Field(key="n", range=Range(gt=5))], must_not=[Field(key="tags", match=Match(value="c"))]
    ),
    "should": Filter(should=[Field(key="n", match=Match(value=5)), Field(key="n", match=Match(value=6))]),
    "min should": Filter(
        min_should=models.MinShould(
            conditions=[
                Field(key="city", match=Match(value="Oslo")),
                Field(key="tags", match=Match(value="a")),
            ],
            min_count=2,
        )
    ),
    "ids": must(models.HasIdCondition(has_id=[1, 2, 3, SEVEN])),
    "is empty": must(models.IsEmptyCondition(is_empty=models.PayloadField(key="when"))),
    "is null": must(models.IsNullCondition(is_null=models.PayloadField(key="when"))),
    "nested": must(
        models.NestedCondition(
            nested=models.Nested(
                key="parts",
                filter=must(Field(key="x", match=Match(value=2)), Field(key="y", match=Match(value=1))),
            )
        )
    ),
    "values count": must(Field(key="tags", values_count=models.ValuesCount(gte=2))),
    "geo radius": must(
        Field(key="place", geo_radius=models.GeoRadius(center=models.GeoPoint(lon=11, lat=59), radius=50_000))
    ),
    "geo box": must(
        Field(
            key="place",
            geo_bounding_box=models.GeoBoundingBox(
                top_left=models.GeoPoint(lon=10.5, lat=59.8), bottom_right=models.GeoPoint(lon=12, lat=58)
            ),
        )
    ),
    "true": must(Field(key="even", match=Match(value=True))),
    "not false": Filter(must_not=[Field(key="even", match=Match(value=False))]),
    "a path": must(Field(key="deep.down.n", match=Match(value=3))),
    "in a list": must(Field(key="parts[].x", range=Range(gt=3))),
    "a time zone": must(Field(key="when", range=models.DatetimeRange(lt="2026-01-10T02:00:00+02:00"))),
    "geo polygon": must(
        Field(
            key="place",
            geo_polygon=models.GeoPolygon(
                exterior=models.GeoLineString(
                    points=[
                        models.GeoPoint(lon=lon, lat=lat)
                        for lon, lat in ((10, 59), (11, 59), (11, 60.5), (10, 60.5), (10, 59))
                    ]
                )
            ),
        )
    ),
    "a filter in a filter": must(Filter(should=[Field(key="n", range=Range(lt=20))])),
}


@pytest.mark.parametrize("name", FILTERS)
def test_a_filtered_query_finds_the_same(both: tuple[QdrantClient, QdrantClient], name: str) -> None:
    remote, local = (
        scored(client.query_points("lab", query=QUERY, limit=30, query_filter=FILTERS[name]))
        for client in both
    )
    assert remote == local


@pytest.mark.parametrize("name", FILTERS)
def test_a_filtered_count_is_the_same(both: tuple[QdrantClient, QdrantClient], name: str) -> None:
    remote, local = (client.count("lab", count_filter=FILTERS[name]).count for client in both)
    assert remote == local


READS: dict[str, Call] = {
    "offset and threshold": lambda c: scored(
        c.query_points("lab", query=QUERY, offset=3, score_threshold=0.2)
    ),
    "by the id of a point": lambda c: scored(c.query_points("lab", query=3, limit=10)),
    "recommend, average": lambda c: scored(
        c.query_points(
            "lab",
            query=models.RecommendQuery(recommend=models.RecommendInput(positive=[1, 2], negative=[3])),
            limit=10,
        )
    ),
    "recommend, best score": lambda c: [
        str(p.id)
        for p in c.query_points(
            "lab",
            query=models.RecommendQuery(
                recommend=models.RecommendInput(positive=[1, 2], negative=[3], strategy="best_score")
            ),
            limit=5,
        ).points
    ],
    "discover": lambda c: [
        str(p.id)
        for p in c.query_points(
            "lab",
            query=models.DiscoverQuery(
                discover=models.DiscoverInput(target=4, context=[models.ContextPair(positive=5, negative=6)])
            ),
            limit=5,
        ).points
    ],
    "payload of some fields": lambda c: [
        p.payload for p in c.query_points("lab", query=QUERY, limit=3, with_payload=["city"]).points
    ],
    "payload without a field": lambda c: [
        sorted(p.payload or {})
        for p in c.query_points(
            "lab", query=QUERY, limit=3, with_payload=models.PayloadSelectorExclude(exclude=["text"])
        ).points
    ],
    "vectors": lambda c: [
        np.round(p.vector, 4).tolist()
        for p in c.query_points("lab", query=QUERY, limit=3, with_vectors=True).points
    ],
    "a batch": lambda c: [
        scored(answer)
        for answer in c.query_batch_points(
            "lab", requests=[models.QueryRequest(query=VECTORS[n].tolist(), limit=3) for n in (3, 4)]
        )
    ],
    "retrieve": lambda c: sorted(
        (r.id, json.dumps(r.payload, sort_keys=True)) for r in c.retrieve("lab", ids=[5, 6, 999_999])
    ),
    "scroll": lambda c: [
        r.id
        for r in c.scroll("lab", limit=30, scroll_filter=must(Field(key="city", match=Match(value="Oslo"))))[
            0
        ]
    ],
    "facet": lambda c: sorted((h.value, h.count) for h in c.facet("lab", key="city").hits),
    "groups": lambda c: [
        (group.id, [str(hit.id) for hit in group.hits])
        for group in c.query_points_groups("lab", query=QUERY, group_by="city", limit=3, group_size=2).groups
    ],
    "groups with some of the payload": lambda c: [
        [hit.payload for hit in group.hits]
        for group in c.query_points_groups(
            "lab", query=QUERY, group_by="city", limit=3, group_size=2, with_payload=["n"]
        ).groups
    ],
    "groups by a path": lambda c: _groups(c, "deep.down.n"),
    "groups by what lists hold": lambda c: _groups(c, "parts[].y"),
    "groups by truth values: none": lambda c: _groups(c, "even"),
    "groups by fractions: none but whole ones": lambda c: _groups(c, "ratio"),
    "groups of a filter": lambda c: _groups(c, "city", FILTERS["true"]),
    "by the id of a point, looked up where it is": lambda c: scored(
        c.query_points("lab", query=3, lookup_from=models.LookupLocation(collection="lab"))
    ),
    "facet of a filter": lambda c: sorted(
        (h.value, h.count) for h in c.facet("lab", "city", facet_filter=FILTERS["true"], exact=True).hits
    ),
    "a page in the order of a field": lambda c: [
        r.id
        for r in c.scroll(
            "lab", order_by=models.OrderBy(key="n", direction=models.Direction.DESC, start_from=50), limit=7
        )[0]
    ],
    "approximate count": lambda c: c.count("lab", exact=False).count,
    "re-scored with a formula": lambda c: scored(
        c.query_points(
            "lab",
            prefetch=models.Prefetch(query=QUERY, limit=20),
            query=models.FormulaQuery(
                formula=models.SumExpression(sum=["$score", models.MultExpression(mult=[0.01, "n"])])
            ),
            limit=5,
        )
    ),
    "does it exist": lambda c: (c.collection_exists("lab"), c.collection_exists("other")),
}


@pytest.mark.parametrize("name", READS)
def test_a_read_gives_the_same(both: tuple[QdrantClient, QdrantClient], name: str) -> None:
    remote, local = (READS[name](client) for client in both)
    assert remote == local


def test_pages_of_a_scroll_add_up_to_everything_once(both: tuple[QdrantClient, QdrantClient]) -> None:
    def all_ids(client: QdrantClient) -> list[str]:
        found, offset = [], None
        while True:
            records, offset = client.scroll("lab", limit=64, offset=offset, with_payload=False)
            found += [str(record.id) for record in records]
            if offset is None:
                return sorted(found)

    remote, local = map(all_ids, both)
    assert remote == local
    assert len(remote) == COUNT + 2


def test_points_come_in_the_order_of_an_indexed_field(both: tuple[QdrantClient, QdrantClient]) -> None:
    order = models.OrderByQuery(order_by=models.OrderBy(key="n", direction=models.Direction.DESC))
    answer = both[0].query_points("lab", query=order, limit=4)
    assert [point.id for point in answer.points] == [399, 398, 397, 396]


def test_full_text_finds_words(both: tuple[QdrantClient, QdrantClient]) -> None:
    words = must(Field(key="text", match=models.MatchText(text="number 7")))
    assert [p.id for p in both[0].query_points("lab", query=QUERY, query_filter=words).points] == [7]


CHANGES: dict[str, Call] = {
    "set payload": lambda c: c.set_payload("mine", {"z": 1}, points=[5]),
    "set payload by filter": lambda c: c.set_payload(
        "mine", {"z": 2}, points=must(Field(key="city", match=Match(value="Bergen")))
    ),
    "overwrite payload": lambda c: c.overwrite_payload("mine", {"only": 2}, points=[6]),
    "delete payload": lambda c: c.delete_payload("mine", ["text"], points=[7]),
    "clear payload": lambda c: c.clear_payload("mine", [8]),
    "set payload under a key": lambda c: c.set_payload("mine", {"z": 1}, points=[5], key="deep.down"),
    "delete keys of a filter": lambda c: c.delete_payload(
        "mine", ["deep.down", "tags"], points=must(Field(key="even", match=Match(value=True)))
    ),
    "upsert where a filter holds": lambda c: c.upsert(
        "mine",
        [models.PointStruct(id=n, vector=VECTORS[90 + n].tolist(), payload={"n": n}) for n in (2, 3, 60)],
        update_filter=must(Field(key="even", match=Match(value=True))),
    ),
    "a batch of all kinds": lambda c: c.batch_update_points(
        "mine",
        [
            models.SetPayloadOperation(set_payload=models.SetPayload(payload={"z": 1}, points=[1])),
            models.OverwritePayloadOperation(
                overwrite_payload=models.SetPayload(payload={"z": 2}, points=[2])
            ),
            models.DeletePayloadOperation(delete_payload=models.DeletePayload(keys=["n"], points=[3])),
            models.ClearPayloadOperation(clear_payload=models.PointIdsList(points=[4])),
            models.UpdateVectorsOperation(
                update_vectors=models.UpdateVectors(
                    points=[models.PointVectors(id=5, vector=VECTORS[70].tolist())]
                )
            ),
        ],
    ),
    "delete by id": lambda c: c.delete("mine", [1, 2]),
    "delete by filter": lambda c: c.delete(
        "mine", models.FilterSelector(filter=must(Field(key="city", match=Match(value="Tromso"))))
    ),
    "replace a vector": lambda c: c.update_vectors(
        "mine", [models.PointVectors(id=3, vector=VECTORS[9].tolist())]
    ),
    "upsert again": lambda c: c.upsert("mine", _points()[:10]),
    "a batch of operations": lambda c: c.batch_update_points(
        "mine",
        [
            models.UpsertOperation(upsert=models.PointsList(points=_points()[50:52])),
            models.DeleteOperation(delete=models.PointIdsList(points=[4])),
        ],
    ),
    "upload in batches": lambda c: c.upload_points("mine", _points()[:30], batch_size=7, wait=True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_leaves_the_same_behind(fresh: tuple[QdrantClient, QdrantClient], name: str) -> None:
    def after(client: QdrantClient) -> list[tuple[str, str, list[float]]]:
        CHANGES[name](client)
        records = client.scroll("mine", limit=1000, with_vectors=True)[0]
        return sorted(
            (str(r.id), json.dumps(r.payload, sort_keys=True), np.round(r.vector, 4).tolist())
            for r in records
        )

    remote, local = map(after, fresh)
    assert remote == local


def test_named_and_sparse_vectors_are_fused(server: QdrantProcess) -> None:
    def hybrid(client: QdrantClient) -> dict[str, float]:
        client.create_collection(
            "hybrid",
            {"dense": models.VectorParams(size=SIZE, distance=models.Distance.DOT)},
            sparse_vectors_config={"words": models.SparseVectorParams()},
        )
        points = [
            models.PointStruct(
                id=n,
                vector={
                    "dense": VECTORS[n].tolist(),
                    "words": models.SparseVector(
                        indices=[n % 7, 10 + n % 3], values=[1.0 + n / 1000, 0.5 + n / 100]
                    ),
                },
            )
            for n in range(40)
        ]
        client.upsert("hybrid", points, wait=True)
        words = models.SparseVector(indices=[3, 11], values=[1.0, 1.0])
        answer = client.query_points(
            "hybrid",
            prefetch=[
                models.Prefetch(query=QUERY, using="dense", limit=10),
                models.Prefetch(query=words, using="words", limit=10),
            ],
            query=models.FusionQuery(fusion=models.Fusion.RRF),
            limit=20,
        )
        # Fusion by rank gives equal scores to different points: the scores are the answer, not their order.
        return {str(point.id): round(point.score, 5) for point in answer.points}

    remote = _connect(server)
    assert hybrid(remote) == hybrid(QdrantClient(":memory:"))
    remote.delete_collection("hybrid")


def _refusal(call: Callable[[], Any]) -> tuple[int | None, str]:
    with pytest.raises(UnexpectedResponse) as caught:
        call()
    return caught.value.status_code, caught.value.content.decode()


REFUSALS: dict[str, tuple[Call, int, str]] = {
    "made twice": (lambda c: c.create_collection("lab", models.VectorParams(size=4, distance="Dot")), 409, "already exists"),
    "no collection": (lambda c: c.get_collection("nope"), 404, "doesn't exist"),
    "query of no collection": (lambda c: c.query_points("nope", query=[1.0]), 404, "doesn't exist"),
    "wrong size stored": (
        lambda c: c.upsert("lab", [models.PointStruct(id=1, vector=[1.0, 2.0])]), 400, "expected dim: 16, got 2"),
    "wrong size asked": (lambda c: c.query_points("lab", query=[1.0, 2.0]), 400, "expected dim: 16, got 2"),
    "no such vector name": (lambda c: c.query_points("lab", query=QUERY, using="x"), 400, "Not existing vector name"),
    "order without an index": (
        lambda c: c.query_points("lab", query=models.OrderByQuery(order_by=models.OrderBy(key="parts"))), 400, "index"),
    "id of no point": (lambda c: c.query_points("lab", query=123_456), 404, "No point with id 123456"),
    "two shards": (
        lambda c: c.create_collection("two", models.VectorParams(size=4, distance="Dot"), shard_number=2), 501, "shard"),
    "a snapshot of everything": (lambda c: c.create_full_snapshot(), 501, "whole storage"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_done_is_refused_in_qdrants_words(
    both: tuple[QdrantClient, QdrantClient], name: str
) -> None:
    call, status, words = REFUSALS[name]
    code, text = _refusal(lambda: call(both[0]))
    assert code == status
    assert '"status":{"error":' in text
    assert words in text


def test_a_snapshot_brings_back_what_was_there(
    fresh: tuple[QdrantClient, QdrantClient], server: QdrantProcess
) -> None:
    remote = fresh[0]
    before = scored(remote.query_points("mine", query=QUERY))
    taken = remote.create_snapshot("mine")
    assert taken is not None
    assert [s.name for s in remote.list_snapshots("mine")] == [taken.name]
    remote.delete("mine", list(range(20)))
    assert scored(remote.query_points("mine", query=QUERY)) != before
    remote.recover_snapshot("mine", location=f"file://{server.folder}/snapshots/mine/{taken.name}")
    assert scored(remote.query_points("mine", query=QUERY)) == before
    remote.delete_snapshot("mine", taken.name)
    assert remote.list_snapshots("mine") == []


def test_the_last_acknowledged_point_survives_a_kill(tmp_path: Path) -> None:
    process = QdrantProcess(tmp_path)
    process.start()
    client = _connect(process)
    client.create_collection("lab", models.VectorParams(size=4, distance=models.Distance.DOT))
    client.create_payload_index("lab", "n", models.PayloadSchemaType.INTEGER)
    for n in range(200):
        client.upsert("lab", [models.PointStruct(id=n, vector=[1, 2, 3, n], payload={"n": n})], wait=True)
    process.kill()
    process.start()
    assert client.count("lab").count == 200
    assert client.retrieve("lab", [199])[0].payload == {"n": 199}
    assert client.get_collection("lab").payload_schema["n"].points == 200
    assert process.stop(signal.SIGTERM) in (0, -signal.SIGTERM)
