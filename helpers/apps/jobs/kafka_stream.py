"""The stream of jobs in Kafka, in place of Redis's own: what is taken, given and told, and where the offset stands.

    jobs, jobs.dead      the topics; group `workers`, one consumer a pod. `PREFIX:` becomes `PREFIX.` in their names

Everything else stays in Redis, and with it what a job's state decides: a result is stored once, however often its entry
comes. Three things are another way here:

- Kafka has no acknowledgement of one entry. A group has one offset a partition, which is moved up to the first entry that
  is not done with: when a worker is lost, entries behind that one come again, done or not, and the job's state says which.
- A partition is one worker's. Which entry was begun by a worker that is lost, its job says: it is `running`.
- A job and its entry cannot be written in one step. An id lies in `jobs:outbox` until Kafka has acknowledged its entry.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.structs import OffsetAndMetadata

from helpers.apps.jobs.store import (
    FORGOTTEN_S,
    FORMAT,
    GROUP,
    HANDED_OVER,
    RUNNING,
    Depth,
    Enqueued,
    Entry,
    Queue,
    StoreUnavailable,
    failures,
)

log = logging.getLogger("jobs")
ANSWER_MS = 5_000
# What brokers allow at least, unless they are told otherwise.
LEAST_SESSION_MS = 6_000
# Of each tenant: whoever leaves very many fills these, and no others.
PARTITIONS_A_TENANT = 4
LEFT_BEHIND_S = 3.0
MOST_RELAYED = 200
BEGINNING = float("-inf")


@dataclass
class Taken:
    """What this worker has read of one partition.

    Args:
        position: the offset behind the last entry read.
        open: entries that are not done with, by offset, each with when this process last said that it is at it.
    """

    position: int = 0
    open: dict[int, tuple[Entry, float]] = field(default_factory=dict)

    def offset(self) -> OffsetAndMetadata:
        """What the group is told: where to go on, and beside it what was read and not done with."""
        return OffsetAndMetadata(min(self.open, default=self.position), f"{self.position} {len(self.open)}")


class KafkaQueue(Queue, ConsumerRebalanceListener):
    """A queue whose stream and dead letters are topics.

    Args:
        bootstrap: HOST:PORT of a broker.
        partitions, copies: of a topic that is missing. No more workers than partitions are ever at work.
        drain_s: what a worker has for what it holds, before its partitions go to others.
    """

    has_stream = False

    def __init__(
        self,
        url: str,
        *,
        bootstrap: str,
        partitions: int = 12,
        copies: int = 1,
        drain_s: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(url, **options)
        self._bootstrap, self._drain_s = bootstrap, drain_s
        self._partitions, self._copies = partitions, copies
        prefix = self.names.prefix.replace(":", ".")
        self.topic, self.dead_topic, self.group = f"{prefix}jobs", f"{prefix}jobs.dead", f"{prefix}{GROUP}"
        self._open = AsyncExitStack()
        self._producer: Any = None
        self._admin: Any = None
        self._reader: Any = None
        self._consumer_of_group: Any = None
        self._starting = asyncio.Lock()
        self._let_go: Callable[[], Awaitable[None]] | None = None
        self._taken: dict[int, Taken] = {}
        self._epoch, self._moving, self._turn = 0, False, 0

    # -- the clients --------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Make the topics; nothing happens where they are."""
        async with failures():
            await self.redis.ping()
        await self._clients()

    async def _clients(self) -> None:
        async with self._starting, _kafka(), AsyncExitStack() as opened:
            if self._producer is not None:
                return
            at: dict[str, Any] = {"bootstrap_servers": self._bootstrap, "request_timeout_ms": ANSWER_MS}
            admin = AIOKafkaAdminClient(**at)
            opened.push_async_callback(admin.close)
            await admin.start()
            await self._make_topics(admin)
            reader = AIOKafkaConsumer(**at, group_id=None, enable_auto_commit=False)
            opened.push_async_callback(reader.stop)
            await reader.start()
            producer = AIOKafkaProducer(**at, acks="all", enable_idempotence=True)
            opened.push_async_callback(producer.stop)
            await producer.start()
            self._admin, self._reader, self._producer = admin, reader, producer
            self._open = opened.pop_all()

    async def _make_topics(self, admin: Any) -> None:
        kept = {"retention.ms": str(1000 * FORGOTTEN_S)}
        wanted = ((self.topic, self._partitions), (self.dead_topic, 1))
        said = await admin.create_topics(
            [NewTopic(name, number, self._copies, topic_configs=kept) for name, number in wanted]
        )
        for name, code, *_ in said.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise error(f"topic {name}")

    async def _workers_consumer(self) -> Any:
        """This worker as a member of the group; it is one with its first look."""
        if self._consumer_of_group is None:
            await self._clients()
            session_ms = max(self._claim_idle_ms, LEAST_SESSION_MS)
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap,
                client_id=self._consumer or "worker",
                group_id=self.group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                session_timeout_ms=session_ms,
                heartbeat_interval_ms=session_ms // 5,
                rebalance_timeout_ms=int(1000 * self._drain_s) + 2 * LEAST_SESSION_MS,
                metadata_max_age_ms=30_000,
            )
            async with _kafka():
                try:
                    await consumer.start()
                except KafkaError:
                    await consumer.stop()
                    raise
            consumer.subscribe([self.topic], listener=self)
            self._consumer_of_group = consumer
        return self._consumer_of_group

    async def close(self) -> None:
        with suppress(StoreUnavailable, TimeoutError):
            async with _kafka(), asyncio.timeout(2 * ANSWER_MS / 1000):
                if self._consumer_of_group is not None:
                    await self._consumer_of_group.stop()  # and leaves the group, which need not miss it first
                await self._open.aclose()
        await super().close()

    # -- the front ----------------------------------------------------------------------------

    async def enqueue(self, job: str, fields: Mapping[str, str], **limits: Any) -> Enqueued:
        """Accept a job. Redis has it then; where Kafka does not answer, its entry follows by `relay`."""
        done = await super().enqueue(job, fields, **limits)
        if done.outcome == "taken":
            try:
                await self._bring(done.job, fields["tenant"])
            except StoreUnavailable as error:
                log.warning("job %s waits in the outbox: %s", done.job, error)
        return done

    async def relay(self) -> None:
        """Bring what was left in the outbox to Kafka, once more rather than never."""
        before = 1000 * (time.time() - LEFT_BEHIND_S)
        async with failures():
            left = await self.redis.zrangebyscore(self.names.outbox, "-inf", before, 0, MOST_RELAYED)
        for job in left:
            await self._bring(job, (await self.job(job)).get("tenant", ""))

    async def _bring(self, job: str, tenant: str) -> None:
        await self._send({"v": FORMAT, "job": job, "tenant": tenant}, crc32(tenant.encode()), job)
        async with failures():
            await self.redis.zrem(self.names.outbox, job)

    async def put(self, fields: Mapping[str, str]) -> str:
        return await self._send(fields, crc32(json.dumps(dict(fields)).encode()), "")

    async def _send(self, fields: Mapping[str, str], first: int, job: str) -> str:
        """An entry into one of a tenant's partitions, which begin with the one that `first` says."""
        await self._clients()
        async with _kafka():
            partitions = sorted(await self._producer.partitions_for(self.topic))
            chosen = partitions[(first + crc32(job.encode()) % PARTITIONS_A_TENANT) % len(partitions)]
            sent = await self._sent(self.topic, fields, chosen)
        return f"{sent.partition}-{sent.offset}"

    async def _sent(self, topic: str, fields: Mapping[str, str], partition: int) -> Any:
        # The client goes on trying for as long as there is no broker, and may send what is given up here all the same.
        async with asyncio.timeout(ANSWER_MS / 1000):
            value = json.dumps(dict(fields)).encode()
            return await self._producer.send_and_wait(topic, value, partition=partition)

    # -- workers ------------------------------------------------------------------------------

    def before_moving(self, let_go: Callable[[], Awaitable[None]]) -> None:
        self._let_go = let_go

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """All partitions are distributed anew, and wait for this worker to be done with what it holds."""
        self._epoch, self._moving = self._epoch + 1, True
        try:
            if self._let_go is not None and self._taken:
                await self._let_go()
        finally:
            offsets = self._offsets(self._taken)
            self._taken = {}
            with suppress(StoreUnavailable):
                await self._commit(offsets)

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._moving = False

    async def read(self, most: int, block_ms: int) -> list[Entry]:
        """Entries that nobody has begun yet, one of each partition in turn; waits for the first one."""
        consumer = await self._workers_consumer()
        if self._moving:
            await asyncio.sleep(block_ms / 1000)
            return []
        read: list[tuple[int, Any]] = []
        try:
            async with _kafka():
                await self._one_of_each(consumer, most, read)
                if not read:
                    await self._first(consumer, block_ms, read)
            entries = [Entry(f"{one.partition}-{one.offset}", _fields(one.value)) for _, one in read]
            begun = await self._begun(entries)
        except StoreUnavailable:
            for epoch, one in reversed(read):  # they are read again
                if epoch == self._epoch:
                    consumer.seek(self._place(one.partition), one.offset)
            raise
        found, now = [], time.monotonic()
        for (epoch, one), entry, is_begun in zip(read, entries, begun, strict=True):
            if epoch == self._epoch:  # else it is somebody else's by now
                taken = self._taken.setdefault(one.partition, Taken())
                taken.position = one.offset + 1
                taken.open[one.offset] = entry, BEGINNING if is_begun else now
                found += [] if is_begun else [entry]
        epoch = self._epoch
        await self._commit(self._offsets({one.partition for _, one in read} & self._taken.keys()))
        return found if epoch == self._epoch else []

    async def _one_of_each(self, consumer: Any, most: int, read: list[tuple[int, Any]]) -> None:
        """What is here already: a partition with a long tail comes no sooner than one with a single entry."""
        places = sorted(consumer.assignment())
        self._turn += 1
        quiet = 0
        for number in range(self._turn, self._turn + most * len(places)):
            if len(read) == most or quiet == len(places):
                return
            place = places[number % len(places)]
            found = (await consumer.getmany(place, timeout_ms=0, max_records=1)).get(place, [])
            read += [(self._epoch, one) for one in found]
            quiet = 0 if found else quiet + 1

    async def _first(self, consumer: Any, block_ms: int, read: list[tuple[int, Any]]) -> None:
        """The next entry, whenever it comes; while partitions are distributed, the client waits for longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(block_ms / 1000 + 1):
                found = await consumer.getmany(timeout_ms=block_ms, max_records=1)
                read += [(self._epoch, one) for records in found.values() for one in records]

    async def _begun(self, entries: Sequence[Entry]) -> list[bool]:
        """Which of these a worker has begun: it is lost, for their partition is this one's now."""
        if not entries:
            return []
        async with failures(), self.redis.pipeline(transaction=False) as pipeline:
            for entry in entries:
                pipeline.hget(self.names.job(entry.job), "status")
            return [status == RUNNING for status in await pipeline.execute()]

    async def claim(self, known: Iterable[str] = ()) -> Entry | None:
        """An entry of this worker's partitions that another one had begun, or that this one is to try again."""
        held, before = set(known), time.monotonic() - self._claim_idle_ms / 1000
        for number, taken in self._taken.items():
            for offset, (entry, since) in sorted(taken.open.items()):
                if since < before and entry.id not in held and not self._moving:
                    self._taken[number].open[offset] = entry, time.monotonic()
                    return entry
        return None

    async def renew(self, entries: Sequence[str]) -> set[str]:
        """The client's heartbeats keep the partitions; those entries whose partition is gone all the same."""
        for number, taken in self._taken.items():
            for offset, (entry, _) in taken.open.items():
                if f"{number}-{offset}" in entries:
                    taken.open[offset] = entry, time.monotonic()
        return {name for name in entries if _split(name)[0] not in self._taken}

    async def hand_over(self, entry: Entry) -> None:
        """It is not done with, so that whoever gets the partition gets it."""
        await self.failed(entry.job, HANDED_OVER)

    async def acknowledge(self, entry: Entry) -> None:
        """Done with: the offset is moved up to the first entry of the partition that is not."""
        number, offset = _split(entry.id)
        taken = self._taken.get(number)
        if taken is not None:
            taken.open.pop(offset, None)
            await self._commit(self._offsets([number]))

    def _offsets(self, numbers: Iterable[int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {self._place(number): self._taken[number].offset() for number in numbers}

    async def _commit(self, offsets: dict[TopicPartition, OffsetAndMetadata]) -> None:
        if not offsets:
            return
        try:
            async with _kafka():
                await self._consumer_of_group.commit(offsets)
        except NotMine as error:
            log.info("%s", error)

    async def bury(self, entry: Entry, reason: str, **about: Any) -> None:
        letter = {"job": entry.job, "entry": entry.id, "reason": reason[:400]}
        letter |= {name: str(about[name]) for name in ("kind", "deliveries", "tenant")}
        await self._clients()
        async with _kafka():
            await self._sent(self.dead_topic, letter, 0)
        await super().bury(entry, reason, **about)
        await self.acknowledge(entry)

    # -- looking ------------------------------------------------------------------------------

    async def depth(self) -> Depth:
        """As of Redis: Kafka's own lag counts what is in work, too, and is `waiting` and `pending` together."""
        await self._clients()
        async with failures():
            waiting, pending, length = await self.redis.zcard(self.names.outbox), 0, 0
        async with _kafka():
            numbers = sorted(await self._producer.partitions_for(self.topic))
            first, end = await self._range([self._place(number) for number in numbers])
            (dead_place,) = dead = [TopicPartition(self.dead_topic, 0)]
            dead_first, dead_end = await self._range(dead)
            stands = await self._admin.list_consumer_group_offsets(self.group)
        for place in end:
            said = stands.get(place)
            told = said.metadata.split() if said else []
            read, in_hand = (
                (int(word) for word in told) if len(told) == 2 else (said.offset if said else 0, 0)
            )
            waiting += max(0, end[place] - max(first[place], read))
            pending += in_hand
            length += end[place] - first[place]
        return Depth(waiting, pending, length, dead_end[dead_place] - dead_first[dead_place])

    async def _range(self, places: list[TopicPartition]) -> tuple[dict[Any, int], dict[Any, int]]:
        return await self._reader.beginning_offsets(places), await self._reader.end_offsets(places)

    async def letters(self, most: int = 500) -> list[dict[str, str]]:
        await self._clients()
        async with _kafka():
            (place,) = places = [TopicPartition(self.dead_topic, 0)]
            first, end = await self._range(places)
            if first[place] == end[place]:
                return []
            found: list[Any] = []
            async with AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap, enable_auto_commit=False
            ) as consumer:
                consumer.assign(places)
                consumer.seek(place, max(first[place], end[place] - most))
                while not found or found[-1].offset + 1 < end[place]:
                    found += (await consumer.getmany(place, timeout_ms=1000)).get(place, [])
        return [_fields(one.value) for one in reversed(found)]

    async def drop(self) -> None:
        await self._clients()
        async with _kafka():
            await self._admin.delete_topics([self.topic, self.dead_topic])

    def _place(self, number: int) -> TopicPartition:
        return TopicPartition(self.topic, number)


class NotMine(StoreUnavailable):
    """The partition is another worker's by now, which gets the entry again and finds its job done."""


@asynccontextmanager
async def _kafka() -> AsyncIterator[None]:
    """Map what Kafka's client raises to StoreUnavailable."""
    try:
        yield
    except (CommitFailedError, IllegalStateError) as error:
        raise NotMine(f"Kafka: {error}") from error
    except (KafkaError, OSError) as error:
        raise StoreUnavailable(f"Kafka: {error or type(error).__name__}") from error


def _fields(value: bytes | None) -> dict[str, str]:
    """The fields of an entry; empty where it is of another format, which the delivery says."""
    try:
        found = json.loads(value or b"")
    except ValueError:
        return {}
    return {str(name): str(text) for name, text in found.items()} if isinstance(found, dict) else {}


def _split(name: str) -> tuple[int, int]:
    """Partition and offset of an entry's id."""
    number, _, offset = name.partition("-")
    return int(number), int(offset)
