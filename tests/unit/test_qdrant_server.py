"""The embedded Qdrant server's own promises: probes, keys, metrics, snapshots, full disks, damage."""

from __future__ import annotations

import gzip
import io
import json
import random
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from helpers.settings import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "helpers" / "embedded" / "images" / "qdrant"))

from qdrant_server import collection as collection_module
from qdrant_server import operations, snapshots
from qdrant_server.app import create_app
from qdrant_server.collection import Collection
from qdrant_server.settings import Settings
from qdrant_server.storage import Storage

JSON = {"content-type": "application/json"}
POINT = {"id": 1, "vector": [1.0, 0.0, 0.0, 0.0], "payload": {"a": 1}}


def _client(folder: Path, **settings: Any) -> TestClient:
    app = create_app(Settings(folder / "storage", folder / "snapshots", **settings))
    app.state.server.storage.load()
    return TestClient(app)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    client = _client(tmp_path)
    yield client
    client.app.state.server.storage.close()  # type: ignore[attr-defined]


def _make(client: TestClient, name: str = "docs", *, points: int = 3, size: int = 4) -> None:
    assert (
        client.put(f"/collections/{name}", json={"vectors": {"size": size, "distance": "Dot"}}).status_code
        == 200
    )
    rows = [{"id": n, "vector": [float(n)] * size, "payload": {"n": n}} for n in range(points)]
    assert client.put(f"/collections/{name}/points", json={"points": rows}).status_code == 200


def _error(answer: Any) -> str:
    return str(answer.json()["status"]["error"])


def test_the_root_says_which_server_it_is(client: TestClient) -> None:
    answer = client.get("/").json()
    assert "embedded server" in answer["title"]
    assert answer["version"].startswith("1.20")


def test_probes_tell_alive_from_ready_while_collections_load(tmp_path: Path) -> None:
    app = create_app(Settings(tmp_path / "storage", tmp_path / "snapshots"))
    client = TestClient(app)
    assert [client.get(path).status_code for path in ("/healthz", "/livez", "/readyz")] == [200, 200, 503]
    loading = client.get("/collections")
    assert loading.status_code == 503
    assert "loading" in _error(loading)
    app.state.server.storage.load()
    assert client.get("/readyz").text == "all shards are ready"


def test_the_server_answers_probes_before_it_has_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_load = threading.Event()
    load = Storage.load

    def slow_load(storage: Storage) -> None:
        assert may_load.wait(20)
        load(storage)

    monkeypatch.setattr(Storage, "load", slow_load)
    app = create_app(Settings(tmp_path / "storage", tmp_path / "snapshots"))
    with TestClient(app) as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        may_load.set()
        assert app.state.server.storage._ready.wait(20)
        assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("headers", "method", "status"),
    [
        ({}, "GET", 401),
        ({"api-key": "wrong"}, "GET", 401),
        ({"api-key": "writer"}, "GET", 200),
        ({"authorization": "Bearer writer"}, "PUT", 200),
        ({"api-key": "reader"}, "GET", 200),
        ({"api-key": "reader"}, "PUT", 403),
    ],
)
def test_keys_guard_everything_but_the_probes(
    tmp_path: Path, headers: dict[str, str], method: str, status: int
) -> None:
    client = _client(tmp_path, api_key="writer", read_only_api_key="reader")
    path = "/collections" if method == "GET" else "/collections/x"
    body = {"vectors": {"size": 4, "distance": "Dot"}} if method == "PUT" else None
    assert client.request(method, path, headers=headers, json=body).status_code == status
    assert [client.get(p).status_code for p in ("/", "/healthz", "/livez", "/readyz")] == [200] * 4
    assert client.get("/metrics").status_code == 401


def test_metrics_count_points_and_answers_under_qdrants_names(client: TestClient) -> None:
    _make(client)
    client.get("/collections/nope")
    page = client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(page)}
    samples = {(s.name, *sorted(s.labels.items())): s.value for f in families.values() for s in f.samples}
    assert samples[("collection_points", ("id", "docs"))] == 3
    assert samples[("collection_vectors", ("collection", "docs"), ("vector", ""))] == 3
    assert samples[("collections_total",)] == 1
    missing = (
        "rest_responses_total",
        ("endpoint", "/collections/{collection_name}"),
        ("method", "GET"),
        ("status", "404"),
    )
    assert samples[missing] == 1
    assert samples[("collections_vector_total",)] == 3
    assert {"app_info", "rest_responses_duration_seconds", "memory_resident_bytes", "process_threads"} <= set(
        families
    )
    assert not [name for name, *_ in samples if name.endswith("_created")]
    bounds = {labels[-3][1]: value for (name, *labels), value in samples.items() if name.endswith("_bucket")}
    assert (len(bounds), max(bounds.values())) == (12, bounds["+Inf"])


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "Format error in JSON body"),
        (b"[]", "expected an object"),
        (b"{}", "missing field `points`"),
        (b'{"points": [{"id": -1, "vector": [1, 2, 3, 4]}]}', "not a valid point ID"),
        (b'{"points": [{"id": "x", "vector": [1, 2, 3, 4]}]}', "not a valid point ID"),
        (b'{"points": [{"id": 1}]}', "missing field `vector`"),
        (b'{"points": [{"id": 1, "vector": {"text": "words"}}]}', "inference is not configured"),
        (b'{"batch": {"ids": [1, 2], "vectors": [[1, 2, 3, 4]]}}', "must be equal"),
        (b'{"points": 5}', "`points`: invalid type: int, expected a sequence"),
        (b'{"points": []}', "Empty update request"),
        (b'{"points": [{"id": 18446744073709551616, "vector": [1, 2, 3, 4]}]}', "not a valid point ID"),
        (b'{"points": [{"id": 1, "vector": ["a", 2, 3, 4]}]}', "finite numbers"),
        (b'{"points": [{"id": 1, "vector": [1e400, 2, 3, 4]}]}', "finite numbers"),
        (b'{"points": [{"id": 1, "vector": [NaN, 2, 3, 4]}]}', "not NaN"),
        (b'{"points": [{"id": 1, "vector": [1, 2, 3, 4]}], "update_mode": "no"}', "unknown variant `no`"),
        (b"[" * 100_000, "recursion"),
        (b"\xff\xfe{", "Format error"),
    ],
)
def test_a_bad_body_is_named_and_changes_nothing(client: TestClient, body: bytes, words: str) -> None:
    _make(client)
    answer = client.put("/collections/docs/points", content=body, headers=JSON)
    assert answer.status_code == 400
    assert words in _error(answer)
    assert client.post("/collections/docs/points/count", json={}).json()["result"] == {"count": 3}


def test_a_body_that_is_no_json_or_too_long_is_refused(tmp_path: Path) -> None:
    client = _client(tmp_path, max_request_size_mb=1)
    _make(client)
    assert _error(client.put("/collections/docs/points", content=b"a=b")) == "Content type error"
    long = client.put("/collections/docs/points", content=b" " * 1_048_577, headers=JSON)
    assert long.status_code == 400
    assert _error(long).startswith(
        "JSON payload (1048577 bytes) is larger than allowed (limit: 1048576 bytes)"
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("POST", "/points/query", {"query": [1, 2, 3, 4], "limit": 0}, 422, "limit: value 0 invalid"),
        ("POST", "/points/scroll", {"limit": -1}, 400, "expected an unsigned integer"),
        ("POST", "/points/query/batch", {"searches": 5}, 400, "expected a sequence"),
        ("POST", "/points/query", {"query": {"recommend": 5}}, 400, "invalid type: int, expected an object"),
        ("POST", "/points/delete", {"filter": []}, 400, "expected an object"),
        ("POST", "/points/delete", {"points": []}, 400, "Empty update request"),
        ("PUT", "/snapshots/recover", {"location": 5}, 400, "expected a string"),
        ("PUT", "/snapshots/recover", {"location": "http://[x"}, 400, "Failed to download"),
        ("GET", "/points/\u00b2", None, 400, "not a valid point ID"),
        ("PATCH", "", {"vectors": {"x": {"on_disk": True}}}, 400, "Not existing vector name error: x"),
    ],
)
def test_a_value_of_the_wrong_kind_is_the_askers_fault(
    client: TestClient, method: str, path: str, body: Any, status: int, words: str
) -> None:
    _make(client)
    answer = client.request(method, f"/collections/docs{path}", json=body)
    assert (answer.status_code, words in _error(answer)) == (status, True), answer.text
    assert client.post("/collections/docs/points/count", json={}).json()["result"] == {"count": 3}


@pytest.mark.parametrize(
    ("vectors", "status"),
    [
        ({"size": 0, "distance": "Dot"}, 422),
        ({"size": 65_537, "distance": "Dot"}, 422),
        ({"size": "4", "distance": "Dot"}, 400),
        ({"size": 4, "distance": "Dot", "datatype": "float128"}, 400),
        ("4", 400),
    ],
)
def test_a_collection_that_cannot_be_is_not_made(client: TestClient, vectors: Any, status: int) -> None:
    answer = client.put("/collections/docs", json={"vectors": vectors})
    assert (answer.status_code, answer.text.count("Python")) == (status, 0)
    assert client.get("/collections/docs").status_code == 404


def test_a_score_beyond_thirty_two_bits_is_null(client: TestClient) -> None:
    _make(client)
    answer = client.post("/collections/docs/points/query", json={"query": [3e38] * 4})
    assert answer.status_code == 200
    assert answer.json()["result"]["points"][0]["score"] is None


def test_who_does_not_wait_is_told_that_the_change_was_acknowledged(client: TestClient) -> None:
    _make(client)
    for wait, status in (("true", "completed"), ("false", "acknowledged")):
        answer = client.put(f"/collections/docs/points?wait={wait}", json={"points": [POINT]})
        assert answer.json()["result"]["status"] == status


def test_a_patch_changes_what_it_names_and_keeps_the_rest(client: TestClient) -> None:
    _make(client)
    assert client.patch("/collections/docs", json={"vectors": {"": {"on_disk": True}}}).status_code == 200
    scalar = {"quantization_config": {"scalar": {"type": "int8"}}, "metadata": {"of": "x"}}
    assert client.patch("/collections/docs", json=scalar).status_code == 200
    config = client.get("/collections/docs").json()["result"]["config"]
    assert config["params"]["vectors"] == {"size": 4, "distance": "Dot", "on_disk": True}
    assert (config["quantization_config"], config["metadata"]) == (scalar["quantization_config"], {"of": "x"})
    assert client.patch("/collections/docs", json={"quantization_config": "Disabled"}).status_code == 200
    assert client.get("/collections/docs").json()["result"]["config"]["quantization_config"] is None
    assert client.post("/collections/docs/points/count", json={}).json()["result"] == {"count": 3}


def test_a_snapshot_for_an_alias_goes_to_its_collection(client: TestClient) -> None:
    _make(client)
    create = {"actions": [{"create_alias": {"collection_name": "docs", "alias_name": "live"}}]}
    client.post("/collections/aliases", json=create)
    _, content = _snapshot(client)
    assert _upload(client, content, name="live").status_code == 200
    assert client.get("/collections").json()["result"]["collections"] == [{"name": "docs"}]
    assert _upload(client, content, name="%2e%2e").status_code in (404, 422)


@pytest.mark.parametrize(
    "filter_", [{"must": [{"key": "n"}]}, {"musst": []}, {"must": [{"key": "n", "match": {"like": 1}}]}]
)
def test_a_filter_that_makes_no_sense_is_refused(client: TestClient, filter_: dict[str, Any]) -> None:
    _make(client)
    assert client.post("/collections/docs/points/count", json={"filter": filter_}).status_code == 400


@pytest.mark.parametrize("name", ["..", ".hidden", "a:b", "a*", "x" * 300])
def test_a_name_that_is_no_folder_name_is_refused(client: TestClient, name: str) -> None:
    with_name = f"/collections/{name.replace('..', '%2e%2e')}"
    assert client.put(with_name, json={"vectors": {"size": 4, "distance": "Dot"}}).status_code in (
        404,
        405,
        422,
    )
    assert client.get("/collections").json()["result"]["collections"] == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/collections/docs/points/discover"),
        ("POST", "/collections/docs/points/recommend/batch"),
        ("PUT", "/collections/docs/vectors/other"),
        ("GET", "/collections/docs/shards/0/snapshots"),
        ("DELETE", "/cluster/peer/1"),
        ("POST", "/collections/docs/points/search/matrix/pairs"),
        ("PUT", "/collections/docs/shards"),
        ("POST", "/collections/docs/cluster"),
        ("GET", "/snapshots"),
    ],
)
def test_what_the_engine_cannot_do_is_501_and_says_so(client: TestClient, method: str, path: str) -> None:
    _make(client)
    answer = client.request(method, path, json={} if method != "GET" else None)
    assert answer.status_code == 501
    assert "embedded server" in _error(answer)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/points/query", {"query": [1, 2, 3, 4], "shard_key": "eu"}),
        ("PUT", "/index", {"field_name": "t", "field_schema": {"type": "text", "stopwords": "english"}}),
        ("POST", "/points/query/groups", {"group_by": "n", "with_lookup": "other"}),
    ],
)
def test_an_option_that_is_not_there_is_501_and_not_ignored(
    client: TestClient, method: str, path: str, body: dict[str, Any]
) -> None:
    _make(client)
    answer = client.request(method, f"/collections/docs{path}", json=body)
    assert answer.status_code == 501
    assert "embedded server" in _error(answer)


def test_aliases_lead_to_collections_and_go_with_them(client: TestClient) -> None:
    _make(client)
    create = {"actions": [{"create_alias": {"collection_name": "docs", "alias_name": "live"}}]}
    assert client.post("/collections/aliases", json=create).status_code == 200
    assert client.post("/collections/live/points/count", json={}).json()["result"]["count"] == 3
    rename = {"actions": [{"rename_alias": {"old_alias_name": "live", "new_alias_name": "prod"}}]}
    assert client.post("/collections/aliases", json=rename).status_code == 200
    assert client.get("/collections/docs/aliases").json()["result"]["aliases"] == [
        {"alias_name": "prod", "collection_name": "docs"}
    ]
    client.delete("/collections/docs")
    assert client.get("/aliases").json()["result"]["aliases"] == []


def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    first = _client(tmp_path)
    _make(first)
    create = {"actions": [{"create_alias": {"collection_name": "docs", "alias_name": "live"}}]}
    first.post("/collections/aliases", json=create)
    first.patch("/collections/docs", json={"hnsw_config": {"m": 32}})
    first.app.state.server.storage.close()  # type: ignore[attr-defined]
    second = _client(tmp_path)
    assert second.post("/collections/live/points/count", json={}).json()["result"]["count"] == 3
    assert second.get("/collections/docs").json()["result"]["config"]["hnsw_config"]["m"] == 32


def test_leftovers_of_an_interrupted_creation_are_removed(tmp_path: Path) -> None:
    half = tmp_path / "storage" / "collections" / "half" / "0"
    half.mkdir(parents=True)
    client = _client(tmp_path)
    assert client.get("/collections").json()["result"]["collections"] == []
    assert not half.exists()


# Snapshots


def _snapshot(client: TestClient, name: str = "docs") -> tuple[str, bytes]:
    taken = client.post(f"/collections/{name}/snapshots").json()["result"]
    content = client.get(f"/collections/{name}/snapshots/{taken['name']}").content
    assert len(content) == taken["size"]
    return taken["checksum"], content


def _upload(client: TestClient, content: bytes, name: str = "docs", **params: str) -> Any:
    files = {"snapshot": ("x.snapshot", io.BytesIO(content))}
    return client.post(f"/collections/{name}/snapshots/upload", files=files, params=params)


def test_a_downloaded_snapshot_restores_on_an_empty_server(client: TestClient, tmp_path: Path) -> None:
    _make(client)
    checksum, content = _snapshot(client)
    other = _client(tmp_path / "other")
    assert _upload(other, content, checksum=checksum).status_code == 200
    answer = other.post("/collections/docs/points", json={"ids": [2]}).json()["result"]
    assert answer == [{"id": 2, "payload": {"n": 2}}]


def test_a_snapshot_is_small_and_its_holes_stay_holes(client: TestClient, tmp_path: Path) -> None:
    _make(client)
    _, content = _snapshot(client)
    assert len(content) < 2_000_000
    archive = tmp_path / "x.snapshot"
    archive.write_bytes(content)
    target = tmp_path / "unpacked"
    target.mkdir()
    manifest = snapshots.unpack(archive, target)
    files = [path.stat() for path in target.rglob("*") if path.is_file()]
    assert manifest["points_count"] == 3
    assert sum(status.st_size for status in files) > 60_000_000
    assert sum(status.st_blocks * 512 for status in files) < 8_000_000


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda content: content[: len(content) // 2], "cannot be read"),
        (lambda content: b"not a snapshot", "cannot be read"),
        (lambda content: gzip.compress(b""), "cannot be read"),
        (lambda content: _foreign_archive(), "only its own snapshots"),
    ],
)
def test_a_damaged_or_foreign_snapshot_leaves_the_collection_alone(
    client: TestClient, spoil: Any, words: str
) -> None:
    _make(client)
    _, content = _snapshot(client)
    answer = _upload(client, spoil(content))
    assert answer.status_code == 400
    assert words in _error(answer)
    assert client.post("/collections/docs/points/count", json={}).json()["result"]["count"] == 3


def _foreign_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        header = tarfile.TarInfo("config.json")
        header.size = 2
        archive.addfile(header, io.BytesIO(b"{}"))
    return buffer.getvalue()


def test_a_snapshot_cannot_write_outside_its_folder(tmp_path: Path) -> None:
    archive = tmp_path / "evil.snapshot"
    manifest = json.dumps({"format": snapshots.FORMAT, "config": {}, "collection": "x"}).encode()
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in (
            ("manifest.json", manifest),
            ("data/../../evil", b"x"),
            ("data/config.json", b"{}"),
        ):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    target = tmp_path / "a" / "b"
    target.mkdir(parents=True)
    snapshots.unpack(archive, target)
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["config.json", "evil.snapshot"]


def test_a_wrong_checksum_and_a_wrong_collection_are_refused(client: TestClient) -> None:
    _make(client)
    _make(client, "small", size=2)
    _, content = _snapshot(client)
    assert "checksum" in _error(_upload(client, content, checksum="0" * 64))
    answer = _upload(client, content, name="small")
    assert answer.status_code == 400
    assert "not compatible" in _error(answer)
    assert client.get("/collections/small").json()["result"]["points_count"] == 3


@pytest.mark.parametrize("name", ["nope.snapshot", "..%2F..%2Faliases.json", ".x.partial"])
def test_only_snapshots_can_be_downloaded(client: TestClient, name: str) -> None:
    _make(client)
    assert client.get(f"/collections/docs/snapshots/{name}").status_code == 404


def test_a_snapshot_is_fetched_from_a_file_that_exists(client: TestClient) -> None:
    _make(client)
    for location, words in (("file:///nope", "does not exist"), ("s3://bucket", "is expected")):
        answer = client.put("/collections/docs/snapshots/recover", json={"location": location})
        assert answer.status_code == 400
        assert words in _error(answer)


def test_nothing_is_lost_while_indexes_are_built(tmp_path: Path) -> None:
    config = {"vectors": {"size": 32, "distance": "Cosine"}, "optimizers_config": {"indexing_threshold": 10}}
    made = Collection.create("docs", tmp_path / "docs", config)
    writing = threading.Event()
    writing.set()

    def build() -> None:
        while writing.is_set():
            made.maintain(now=float("inf"))

    builder = threading.Thread(target=build)
    builder.start()
    generator = random.Random(7)
    for start in range(0, 2000, 50):
        rows = [
            {"id": n, "vector": [generator.gauss(0, 1) for _ in range(32)]} for n in range(start, start + 50)
        ]
        made.update(operations.upsert({"points": rows}))
        nearest = made.query({"query": rows[-1]["vector"], "limit": 1}, lambda *_: None)
        assert nearest[0]["id"] == start + 49
    writing.clear()
    builder.join()
    made.update(operations.delete_points({"points": [0]}))
    made.maintain(now=float("inf"))
    assert made.info()["points_count"] == 1999
    assert made.info()["indexed_vectors_count"] > 0
    made.close()
    reopened = Collection.load("docs", tmp_path / "docs")
    assert reopened.points_count() == 1999
    reopened.close()


# Bad days


def test_a_full_disk_refuses_writes_and_allows_deletes(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    _make(client)
    monkeypatch.setattr(collection_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    refused = client.put("/collections/docs/points", json={"points": [POINT]})
    assert refused.status_code == 500
    assert "No space left on device" in _error(refused)
    assert client.post("/collections/docs/points/delete", json={"points": [2]}).status_code == 200
    assert client.post("/collections/docs/points/count", json={}).json()["result"]["count"] == 2


def test_a_collection_that_cannot_be_opened_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "storage" / "collections" / "docs"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{}")
    app = create_app(Settings(tmp_path / "storage", tmp_path / "snapshots"))
    codes: list[int] = []
    monkeypatch.setattr("qdrant_server.app.os._exit", codes.append)
    app.state.server.load_or_exit()
    assert codes == [101]
    assert not app.state.server.storage.is_ready


def test_settings_come_from_the_official_images_variables() -> None:
    settings = Settings.from_environment(
        {
            "QDRANT__SERVICE__HTTP_PORT": "7000",
            "QDRANT__SERVICE__API_KEY": "k",
            "QDRANT__STORAGE__STORAGE_PATH": "/s",
        }
    )
    assert (settings.http_port, settings.api_key, settings.storage_path) == (7000, "k", Path("/s"))
