"""The memory library against the embedded server as a process: what labs call, and what goes wrong."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.stack import memory
from helpers.stack.embeddings import Embedder
from helpers.stack.memory import Ingested, Memory, MemoryRefused, MemoryUnauthorized, MemoryUnavailable
from tests.contract.qdrant_process import QdrantProcess, free_port


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder()


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantProcess]:
    process = QdrantProcess(tmp_path_factory.mktemp("qdrant"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def qdrant(process: QdrantProcess) -> Iterator[Memory]:
    opened = Memory(process.url)
    opened.delete_collection()
    opened.create_collection()
    yield opened
    opened.close()


def test_ingesting_twice_changes_nothing_and_shows_its_progress(qdrant: Memory, embedder: Embedder) -> None:
    seen: list[Ingested] = []
    assert qdrant.ingest(memory.corpus(), embedder, on_progress=seen.append) == 51
    assert qdrant.ingest(memory.corpus(), embedder) == 51
    state = qdrant.state()
    assert state is not None
    assert (state.points, state.dimensions, state.distance, dict(state.indexes)) == (
        51, 384, "Cosine", {"layer": "keyword"},
    )  # fmt: skip
    assert [s.done for s in seen] == [16, 32, 48, 51]
    assert all(s.total == 51 for s in seen)


def test_an_ingestion_can_be_stopped_and_goes_on(qdrant: Memory, embedder: Embedder) -> None:
    answers = iter([False, True])
    assert qdrant.ingest(memory.corpus(), embedder, should_stop=lambda: next(answers)) == 16
    assert qdrant.ingest(memory.corpus(), embedder) == 51
    state = qdrant.state()
    assert state is not None
    assert state.points == 51


def test_questions_find_their_passage_and_filters_keep_to_their_layer(
    qdrant: Memory, embedder: Embedder
) -> None:
    qdrant.ingest(memory.corpus(), embedder)
    assert (
        qdrant.search("Is a snapshot on the same volume a backup?", embedder)[0].key == "snapshot-not-backup"
    )
    hits = qdrant.search("Is a snapshot on the same volume a backup?", embedder, layer="chaos", limit=7)
    assert {hit.layer for hit in hits} == {"chaos"}
    assert len(hits) == 7


def test_a_copy_off_the_cluster_brings_back_even_what_no_corpus_holds(
    qdrant: Memory, embedder: Embedder, tmp_path: Path
) -> None:
    qdrant.ingest(memory.corpus(), embedder)
    identifier = qdrant.write_note("the note", embedder)
    taken = qdrant.take_snapshot()
    assert taken in qdrant.snapshots()
    archive = qdrant.download(taken, tmp_path)
    qdrant.delete_collection()
    assert qdrant.state() is None
    qdrant.restore(archive)
    state = qdrant.state()
    assert state is not None
    assert state.points == 52
    assert qdrant.client.retrieve(memory.COLLECTION, [identifier])[0].payload == memory.note_payload(
        "the note"
    )


def test_a_copy_that_was_cut_is_refused(qdrant: Memory, embedder: Embedder, tmp_path: Path) -> None:
    qdrant.ingest(memory.corpus(), embedder)
    archive = qdrant.download(qdrant.take_snapshot(), tmp_path)
    archive.write_bytes(archive.read_bytes()[:1000])
    with pytest.raises(MemoryRefused, match="cannot be read"):
        qdrant.restore(archive)
    state = qdrant.state()
    assert state is not None
    assert state.points == 51


def test_vectors_of_another_model_are_refused_by_name(qdrant: Memory) -> None:
    with pytest.raises(MemoryRefused, match="expected dim: 384, got 2") as caught:
        qdrant.search_vector([1.0, 2.0])
    assert caught.value.status == 400
    with pytest.raises(MemoryRefused, match="unknown variant `Manhatten`"):
        qdrant.recreate_collection(size=4, distance="Manhatten", index=None)


def test_three_broken_memories_stand_behind_green_probes(qdrant: Memory, embedder: Embedder) -> None:
    symptoms = memory.broken_memories(qdrant, embedder)
    assert [set(item.probes.values()) for item in symptoms] == [{200}, {200}, {200}]
    assert "0 hits" in symptoms[0].query
    assert "expected dim: 256, got 384" in symptoms[1].query
    assert "0 hits" in symptoms[2].query
    assert qdrant.state(memory.SCRATCH) is None


def test_metrics_report_what_was_written(qdrant: Memory, embedder: Embedder) -> None:
    qdrant.ingest(memory.corpus(), embedder)
    assert qdrant.metrics()['collection_points{id="course_docs"}'] == 51


def test_a_wrong_key_is_refused_and_not_retried(tmp_path: Path) -> None:
    process = QdrantProcess(tmp_path, QDRANT__SERVICE__API_KEY="right")
    process.start()
    with pytest.raises(MemoryUnauthorized, match="Invalid API key") as caught:
        Memory(process.url, api_key="wrong").state()
    assert "API_KEY" in caught.value.next_command
    with pytest.raises(MemoryUnauthorized, match="Must provide an API key"):
        Memory(process.url).create_collection()
    assert Memory(process.url, api_key="right").state() is None
    process.stop()


def test_a_server_that_is_gone_is_the_environments_fault(tmp_path: Path, embedder: Embedder) -> None:
    with pytest.raises(MemoryUnavailable, match="broke") as caught:
        Memory(f"http://127.0.0.1:{free_port()}").state()
    assert "kubectl get pods" in caught.value.next_command
    process = QdrantProcess(tmp_path)
    process.start()
    opened = Memory(process.url)
    opened.create_collection()
    process.stop(signal.SIGKILL)
    with pytest.raises(MemoryUnavailable):
        opened.ingest(memory.corpus()[:1], embedder)
