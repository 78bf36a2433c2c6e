"""Lab 03's library without a server: sizes, the corpus, embeddings, the wire's forms, the manifests."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from helpers.cluster.fake import FakeCluster
from helpers.errors import ObjectMissing
from helpers.labs.lab03_memory import checks, sizing
from helpers.settings import REPOSITORY
from helpers.stack import memory
from helpers.stack.embeddings import DIMENSIONS, Embedder, ModelDamaged
from tests.unit.byte_server import answering, page

MANIFESTS = REPOSITORY / "manifests" / "stack" / "qdrant"


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


# Sizes


def test_memory_follows_qdrants_rule_of_thumb() -> None:
    million = sizing.size(sizing.Collection(vectors=1_000_000, dimensions=1024))
    assert million.memory == 1_000_000 * 1024 * 4 * 1.5


def test_each_snapshot_costs_what_is_stored() -> None:
    def disk(snapshots: int) -> float:
        return sizing.size(sizing.Collection(1000, 384, payload_bytes=100, snapshots=snapshots)).disk

    stored = 1000 * (384 * 4 + 16 * 2 * 4 + 100)
    assert disk(3) - disk(2) == stored


def test_a_smaller_datatype_and_vectors_on_disk_save_what_they_say() -> None:
    full = sizing.size(sizing.Collection(1000, 384))
    assert sizing.size(sizing.Collection(1000, 384, datatype="uint8")).vectors == full.vectors / 4
    on_disk = sizing.size(sizing.Collection(1000, 384, on_disk=True))
    assert on_disk.disk == full.disk
    assert on_disk.memory < full.memory


def test_the_parts_of_a_size_add_up_to_its_disk() -> None:
    result = sizing.size(sizing.Collection(2_000_000, 384, payload_bytes=512, snapshots=2))
    assert sum(result.disk_parts.values()) == pytest.approx(result.disk / sizing.GIB)


@pytest.mark.parametrize("plan", [sizing.Collection(-1, 384), sizing.Collection(1, 384, datatype="int3")])
def test_a_plan_that_makes_no_sense_is_refused(plan: sizing.Collection) -> None:
    with pytest.raises(ValueError, match=r"negative|datatype"):
        sizing.size(plan)


# Corpus and embeddings


def test_the_corpus_is_one_idea_a_passage_without_repetition() -> None:
    passages = memory.corpus()
    assert len(passages) == len({p.key for p in passages}) == len({p.text for p in passages}) == 51
    assert min(Counter(p.layer for p in passages).values()) >= 7
    assert all(80 < len(p.text) < 400 for p in passages)


def test_ids_of_passages_are_the_same_everywhere() -> None:
    assert uuid.UUID(memory.point_id("a")).version == 5
    assert memory.point_id("a") == memory.point_id("a") != memory.point_id("b")


def test_embeddings_have_the_models_size_and_length_one(embedder: Embedder) -> None:
    vectors = np.array(embedder.embed(["a pod", "", "x " * 2000]))
    assert vectors.shape == (3, DIMENSIONS)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 1], abs=1e-5)


def test_the_vector_of_a_text_does_not_depend_on_its_neighbours(embedder: Embedder) -> None:
    assert embedder.embed(["a pod", "something much longer than a pod"])[0] == embedder.embed(["a pod"])[0]


def test_what_means_the_same_is_nearer_than_what_looks_the_same(embedder: Embedder) -> None:
    asked, same, other = np.array(
        embedder.embed(
            ["The container cannot start", "The pod fails to launch", "The contractor cannot stay"]
        )
    )
    assert asked @ same > asked @ other


def test_a_truncated_model_file_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "model.onnx"
    damaged.write_bytes(b"half of a model")
    with pytest.raises(ModelDamaged, match="is not the published model"):
        Embedder(weights=damaged).embed(["x"])


def test_the_golden_vectors_are_those_of_the_model(embedder: Embedder) -> None:
    queries = checks.golden()
    made = np.array(embedder.embed([query["question"] for query in queries]))
    assert made == pytest.approx(np.array([query["vector"] for query in queries]), abs=2e-3)
    layers = {passage.key: passage.layer for passage in memory.corpus()}
    assert all(layers[query["expected"]] == query["layer"] for query in queries)


# The wire


def test_a_filtered_query_asks_for_one_layer() -> None:
    assert memory.query_body([1.0], "memory", 3)["filter"] == {
        "must": [{"key": "layer", "match": {"value": "memory"}}]
    }
    assert "filter" not in memory.query_body([1.0], None, 3)


def test_metrics_are_read_with_their_labels_in_order() -> None:
    text = 'collection_points{id="a"} 3\n# TYPE x_total counter\nx_total{b="2",a="1"} 4\n'
    assert memory.parse_metrics(text) == {'collection_points{id="a"}': 3.0, 'x_total{a="1",b="2"}': 4.0}


def test_hits_without_payload_fields_are_empty_not_errors() -> None:
    (hit,) = memory.hits_of({"points": [{"id": 1, "score": 0.5, "payload": None}]})
    assert (hit.layer, hit.score) == ("", 0.5)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (404, '{"status": {"error": "Not found: x"}}', memory.MemoryRefused, "404: Not found"),
        (401, "Must provide an API key", memory.MemoryUnauthorized, "Must provide"),
        (503, '{"status": {"error": "collections are loading"}}', memory.MemoryNotReady, "loading"),
        (502, "port-forward: no ready pod", memory.MemoryUnavailable, "no ready pod"),
        (401, "Invalid API key or JWT", memory.MemoryUnauthorized, "Invalid API key"),
        (
            500,
            '{"status": {"error": "Service internal error: No space left on device: WAL buffer"}}',
            memory.MemoryFull,
            "No space left",
        ),
    ],
)
def test_refusals_are_told_apart_by_cause(status: int, body: str, kind: type, words: str) -> None:
    error = memory._refused(status, body)
    assert type(error) is kind
    assert words in str(error)
    assert error.next_command.startswith("kubectl ")


ASKED: dict[str, Callable[[memory.Memory], object]] = {
    "version": lambda m: m.version(),
    "metrics": lambda m: m.metrics(),
    "state": lambda m: m.state(),
    "search": lambda m: m.search_vector([0.0]),
    "snapshots": lambda m: m.snapshots(),
    "create": lambda m: m.create_collection(),
    "delete": lambda m: m.delete_collection(),
}


@pytest.mark.parametrize("text", ["<html>nginx</html>", "{}", "[1]", "null"])
@pytest.mark.parametrize("name", ASKED)
def test_what_answers_and_is_not_qdrant_is_named_so(name: str, text: str) -> None:
    with answering(page(text)) as url, pytest.raises(memory.MemoryMalformed, match="is not Qdrant") as caught:
        ASKED[name](memory.Memory(url))
    assert "endpointslices" in caught.value.next_command


@pytest.mark.parametrize("name", ["state", "delete"])
def test_being_asked_to_slow_down_is_a_refusal(name: str) -> None:
    with answering(page("{}", "429 Too Many Requests\r\nRetry-After: 3")) as url:
        with pytest.raises(memory.MemoryRefused, match="429") as caught:
            ASKED[name](memory.Memory(url))
        assert caught.value.status == 429


def test_a_server_that_drips_is_given_up_when_the_call_is_over() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
    with (
        answering(head, then="drip") as url,
        pytest.raises(memory.MemoryUnavailable, match=r"did not answer GET /collections/x within 0\.3 s"),
    ):
        memory.Memory(url, timeout_s=0.3).state("x")


def test_there_is_no_way_to_a_service_that_is_not_there() -> None:
    cluster = FakeCluster({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}})
    with pytest.raises(ObjectMissing), memory.connect(cluster):
        pass


# Manifests


def _base(kind: str, name: str) -> dict[str, Any]:
    for path in (MANIFESTS / "base").glob("*.yaml"):
        tree = yaml.safe_load(path.read_text())
        if tree.get("kind") == kind and tree["metadata"]["name"] == name:
            return dict(tree)
    raise AssertionError(f"no {kind} {name}")


def test_chart_values_and_manifests_say_the_same() -> None:
    values = yaml.safe_load((MANIFESTS / "values.yaml").read_text())
    workload = _base("StatefulSet", "qdrant")
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    (claim,) = workload["spec"]["volumeClaimTemplates"]
    assert container["image"] == f"{values['image']['repository']}:{values['image']['tag']}"
    assert container["resources"] == values["resources"]
    assert claim["spec"]["resources"]["requests"]["storage"] == values["persistence"]["size"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert values[probe]["enabled"] is True
        for number in ("periodSeconds", "timeoutSeconds", "failureThreshold"):
            assert container[probe][number] == values[probe][number], (probe, number)


def test_the_planned_size_fits_the_quota_beside_vllm_in_every_dimension() -> None:
    from helpers.cluster.quantity import quantity

    (container,) = _base("StatefulSet", "qdrant")["spec"]["template"]["spec"]["containers"]
    vllm = {"requests.cpu": "2", "limits.cpu": "10", "requests.memory": "24Gi", "limits.memory": "64Gi"}
    hard = {"requests.cpu": "4", "limits.cpu": "12", "requests.memory": "32Gi", "limits.memory": "96Gi"}
    for dimension, limit in hard.items():
        side, resource = dimension.split(".")
        own = quantity(container["resources"][side][resource])
        assert own + quantity(vllm[dimension]) <= quantity(limit), dimension


def test_the_monitor_selects_the_headless_service_and_no_other() -> None:
    monitor = yaml.safe_load((MANIFESTS / "monitoring" / "servicemonitor.yaml").read_text())
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    assert wanted <= _base("Service", "qdrant-headless")["metadata"]["labels"].items()
    assert not wanted <= _base("Service", "qdrant")["metadata"]["labels"].items()


def test_every_overlay_is_there_for_every_shape() -> None:
    for overlay in ("embedded", "gpu", "mig", "time-slicing"):
        assert (MANIFESTS / "overlays" / overlay / "kustomization.yaml").exists()


def test_the_solution_notebooks_manifest_has_what_the_lab_lacks() -> None:
    lab, solved = ((REPOSITORY / folder / "03_memory.py").read_text() for folder in ("labs", "solutions"))
    for words in (
        "\n      volumeClaimTemplates:",
        "\n      clusterIP: None",
        "path: /readyz, port: http",
        "passage.id,",
    ):
        assert words in solved
        assert words not in lab


def test_a_report_can_carry_the_checks_evidence() -> None:
    answer = checks._Answer(503, "no endpoints", False, "/")
    assert json.dumps(answer.evidence().observation)
    assert "not Qdrant but the API server answered" in answer.words()
