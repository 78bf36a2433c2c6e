"""The queue on Kafka, without one: its image, its manifests, what is told to the group, and how the queue is moved.

What only a real broker shows is in `test_jobs_service.py` and `test_jobs_witness.py`, with COURSE_TEST_KAFKA=1.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError

from helpers.apps.jobs import kafka_stream
from helpers.apps.jobs.kafka_stream import KafkaQueue
from helpers.apps.jobs.settings import JobsSettings
from helpers.apps.jobs.store import RUNNING, StoreUnavailable
from helpers.apps.jobs.upkeep import queue_of
from helpers.apps.orchestrator.settings import SettingsWrong
from helpers.cluster.fake import FakeCluster
from helpers.cluster.profile import OFFICIAL_IMAGES
from helpers.embedded import ahead
from helpers.embedded.images import image
from helpers.embedded.images import kafka as of_kafka
from helpers.embedded.images.build import ImageBuildFailed
from helpers.embedded.registry import OFFICIAL
from helpers.embedded.steps import NoNetwork
from helpers.labs.lab08_scale import proof_state, witness_queue
from helpers.labs.lab08_scale.lab import lab
from helpers.stack import jobs, kafka, scaling
from tests.unit import byte_server

# The image


def test_every_jar_is_pinned_and_of_one_version() -> None:
    pinned = of_kafka.pinned()
    assert all(re.fullmatch(r"[0-9a-f]{64}", sha256) for sha256 in pinned.values())
    versions = {path.split("/")[-2] for path in pinned if path.startswith("org/apache/kafka/")}
    assert versions == {image("kafka").reference.rpartition(":")[2]}
    assert OFFICIAL["kafka"] == OFFICIAL_IMAGES["kafka"] and OFFICIAL["kafka"].endswith(versions.pop())


def test_nobody_has_it_made_who_did_not_ask() -> None:
    assert "kafka" not in lab.images and "kafka" not in ahead.WORKLOADS and not image("kafka").at_up


def test_a_jar_is_taken_from_a_mirror_where_it_is_the_pinned_one(monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = hashlib.sha256(b"a jar").hexdigest()
    for wanted in (sha256, "0" * 64):
        with byte_server.answering(byte_server.page("a jar")) as mirror:
            monkeypatch.setenv("COURSE_MAVEN_REPOSITORY", f"{mirror}/maven2/")
            if wanted == sha256:
                assert of_kafka._fetched(("a/b.jar", wanted)) == b"a jar"
                continue
            with pytest.raises(ImageBuildFailed, match=r"/maven2/a/b\.jar is not the file that is pinned"):
                of_kafka._fetched(("a/b.jar", wanted))
    monkeypatch.setenv("COURSE_MAVEN_REPOSITORY", "http://127.0.0.1:9")
    with pytest.raises(NoNetwork, match="was not fetched"):
        of_kafka._fetched(("a/b.jar", sha256))


# The manifests


@pytest.fixture
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    found = kafka.manifests(FakeCluster())
    return {(item["kind"], item["metadata"]["name"]): item for item in found}


def test_what_is_put_there_is_taken_away_again(objects: Mapping[tuple[str, str], Any]) -> None:
    places = {(*name, item["metadata"]["namespace"]) for name, item in objects.items()}
    claim = objects["StatefulSet", "kafka"]["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert {*places, ("PersistentVolumeClaim", f"{claim}-kafka-0", jobs.BATCH)} == set(kafka.MADE)


def test_both_ends_of_the_way_are_open_and_no_other(objects: Mapping[tuple[str, str], Any]) -> None:
    ins, out = (objects["NetworkPolicy", name]["spec"] for name in ("kafka", "jobs-to-kafka"))
    (source,), (way,) = ins["ingress"][0]["from"], out["egress"]
    assert source["podSelector"] == out["podSelector"] and ins["egress"] == []
    port = objects["Service", "kafka"]["spec"]["ports"][0]["port"]
    assert way["ports"] == ins["ingress"][0]["ports"] == [{"protocol": "TCP", "port": port}]
    assert f"kafka.{jobs.BATCH}.svc.cluster.local:{port}" == kafka.BOOTSTRAP
    assert JobsSettings().kafka_bootstrap == kafka.BOOTSTRAP


# The settings


def test_the_queue_is_on_redis_unless_it_is_said() -> None:
    assert type(queue_of(JobsSettings.from_environment({}))).__name__ == "Queue"
    (config,) = (item for item in jobs.manifests(FakeCluster()) if item["kind"] == "ConfigMap")
    assert kafka.SWITCH not in config["data"]
    assert isinstance(queue_of(JobsSettings.from_environment({"JOBS_QUEUE": "kafka"})), KafkaQueue)
    with pytest.raises(SettingsWrong, match="JOBS_QUEUE is one of redis, kafka"):
        JobsSettings.from_environment({"JOBS_QUEUE": "nats"})


# What the group is told


class Record:
    def __init__(self, partition: int, offset: int, **fields: str) -> None:
        self.partition, self.offset, self.value = partition, offset, json.dumps(fields).encode()


class FakeConsumer:
    """A member of the group, at its boundary: what it is given, and which offsets it was told."""

    def __init__(self, *records: Record) -> None:
        self.records = list(records)
        self.told: dict[int, tuple[int, str]] = {}
        self.is_broken = False

    def assignment(self) -> set[TopicPartition]:
        return {TopicPartition("jobs", number) for number in range(3)}

    async def getmany(self, *places: TopicPartition, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        for record in self.records:
            place = TopicPartition("jobs", record.partition)
            if not places or place in places:
                self.records.remove(record)
                return {place: [record]}
        return {}

    async def commit(self, offsets: Mapping[TopicPartition, Any]) -> None:
        if self.is_broken:
            raise KafkaConnectionError("no broker")
        self.told |= {place.partition: (said.offset, said.metadata) for place, said in offsets.items()}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.sought = place.partition, offset


class Standing(KafkaQueue):
    """A worker's queue whose jobs stand as told."""

    def __init__(self, consumer: FakeConsumer, **status: str) -> None:
        super().__init__("redis://127.0.0.1:9", bootstrap="127.0.0.1:9", claim_idle_ms=60_000)
        self._consumer_of_group, self._status = consumer, status
        self.is_away = False

    async def _begun(self, entries: Any) -> list[bool]:
        if self.is_away:
            raise StoreUnavailable("Redis is away")
        return [self._status.get(entry.job) == RUNNING for entry in entries]


def job(partition: int, offset: int, name: str) -> Record:
    return Record(partition, offset, v="1", job=name)


def test_the_offset_moves_up_to_the_first_entry_that_is_not_done_with() -> None:
    consumer = FakeConsumer(*(job(0, number, f"j-{number}") for number in range(3)))

    async def work() -> None:
        queue = Standing(consumer)
        first, second, third = [entry for _ in range(3) for entry in await queue.read(1, 0)]
        assert consumer.told == {0: (0, "3 3")}
        await queue.acknowledge(second)
        assert consumer.told == {0: (0, "3 2")}, "what is behind it is done, and it is not"
        await queue.acknowledge(first)
        assert consumer.told == {0: (2, "3 1")}
        consumer.is_broken = True
        with pytest.raises(StoreUnavailable, match="no broker"):
            await queue.acknowledge(third)
        consumer.is_broken = False
        await queue.acknowledge(third)
        assert consumer.told == {0: (3, "3 0")}, "asked again, it is told all the same"

    asyncio.run(work())


def test_a_partition_with_a_long_tail_comes_no_sooner_than_another() -> None:
    consumer = FakeConsumer(*(job(0, number, f"greedy-{number}") for number in range(9)), job(2, 0, "modest"))
    found = asyncio.run(Standing(consumer).read(4, 0))
    assert "modest" in [entry.job for entry in found[:2]]


def test_what_a_lost_worker_had_begun_is_taken_over_alone() -> None:
    consumer = FakeConsumer(job(0, 0, "begun"), job(1, 0, "new"))

    async def work() -> None:
        queue = Standing(consumer, begun=RUNNING)
        assert [entry.job for entry in await queue.read(4, 0)] == ["new"]
        left = await queue.claim({"1-0"})
        assert left is not None and left.job == "begun"
        assert await queue.claim({"1-0", "0-0"}) is None and await queue.claim() is None

    asyncio.run(work())


def test_what_could_not_be_looked_up_is_read_again() -> None:
    consumer = FakeConsumer(job(1, 7, "j"))

    async def work() -> None:
        queue = Standing(consumer)
        queue.is_away = True
        with pytest.raises(StoreUnavailable):
            await queue.read(4, 0)
        assert consumer.sought == (1, 7) and not consumer.told

    asyncio.run(work())


def test_before_partitions_move_the_worker_is_done_with_what_it_holds() -> None:
    consumer = FakeConsumer(job(0, 0, "a"), job(0, 1, "b"))

    async def work() -> None:
        queue = Standing(consumer)
        held = [*await queue.read(1, 0), *await queue.read(1, 0)]

        async def let_go() -> None:
            await queue.acknowledge(held[0])
            assert await queue.read(4, 0) == [], "nothing is begun meanwhile"

        queue.before_moving(let_go)
        await queue.on_partitions_revoked(set())
        assert consumer.told == {0: (1, "2 1")}
        assert await queue.renew(["0-1"]) == {"0-1"}, "it is another worker's"
        await queue.acknowledge(held[1])
        assert consumer.told == {0: (1, "2 1")}, "of a partition that is another's nothing is told"

    asyncio.run(work())


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"[1]", b"nonsense"])
def test_an_entry_of_another_format_has_a_fault_and_no_exception(value: bytes | None) -> None:
    assert kafka_stream._fields(value) == {}


# Moving


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """Front, workers and Redis; nothing here has controllers, and nobody waits for them."""
    monkeypatch.setattr(FakeCluster, "wait_rollout", lambda *_, **__: None)
    monkeypatch.setattr(kafka, "load_images", lambda *_: None)
    made = FakeCluster()
    proof_state.serves_operators(made)
    for name in (jobs.APPS, jobs.BATCH, "llm-observability"):
        made.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    made.apply([*jobs.queue_manifests(made), *jobs.manifests(made)])
    return made


def annotation(cluster: FakeCluster, name: str) -> str:
    template = cluster.view().get("Deployment", name, jobs.APPS).path("spec.template.metadata.annotations")
    return str(template["checksum/config"])


def test_the_front_moves_first_and_the_workers_when_nothing_is_left(
    cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[tuple[bool, bool]] = []
    before = annotation(cluster, jobs.WORKER)

    def left(*_: object) -> int:
        moved.append((annotation(cluster, jobs.FRONT) != before, annotation(cluster, jobs.WORKER) != before))
        return 1 if len(moved) == 1 else 0

    monkeypatch.setattr(kafka, "_left", left)
    monkeypatch.setattr(kafka, "QUIET_S", 0)
    kafka.switch_on(cluster, print)
    assert moved == [(True, False)] * 2 and annotation(cluster, jobs.WORKER) != before
    assert kafka.is_on(cluster.view()) and cluster.view().find("StatefulSet", "kafka", jobs.BATCH)
    kafka.switch_on(cluster, print)
    assert len(moved) == 2, "a second time nothing moves"
    kafka.switch_off(cluster, print)
    assert annotation(cluster, jobs.WORKER) == before and not kafka.is_on(cluster.view())
    assert not any(cluster.view().find(*name) for name in kafka.MADE) and kafka.reset(cluster) == []


def test_a_record_over_redis_says_nothing_of_kafka(cluster: FakeCluster) -> None:
    over_redis = witness_queue.revision(cluster.view(), "delivery")
    jobs.configure(cluster, kafka.ON)
    assert witness_queue.revision(cluster.view(), "delivery") != over_redis
    jobs.configure(cluster, kafka.OFF)
    assert witness_queue.revision(cluster.view(), "delivery") == over_redis


def test_the_workers_scaler_asks_prometheus_meanwhile(cluster: FakeCluster) -> None:
    redis = {"type": "redis-streams", "metadata": {"stream": "jobs", "lagCount": "6"}}
    made = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject"}
    metadata = {"name": scaling.WORKER, "namespace": jobs.APPS}
    spec = {"scaleTargetRef": {"name": scaling.WORKER}, "triggers": [redis]}
    cluster.apply([{**made, "metadata": metadata, "spec": spec}])
    for _ in range(2):
        kafka._scale_by_metric(cluster)
        (trigger,) = scaling.scaled_objects(cluster.view(), jobs.APPS)[0].triggers
        assert (trigger.kind, trigger.metadata["threshold"]) == ("prometheus", "6")
    kafka.take_away(cluster)
    (scaler,) = scaling.scaled_objects(cluster.view(), jobs.APPS)
    assert scaler.triggers[0].kind == "redis-streams" and kafka.BEFORE not in scaler.raw.annotations  # type: ignore[union-attr]
