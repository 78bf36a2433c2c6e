"""Everything that is kept in Redis: the stream of jobs, each job's state, and the dead letters.

    jobs                 the stream; group `workers`, one consumer a pod
    job:ID               a job as it stands, a hash
    jobs:dead            entries that nobody works on any more, each with its reason
    jobs:unfinished      ids of accepted and unfinished jobs by time, in all; jobs:unfinished:TENANT of one tenant
    jobs:key:…           which job an Idempotency-Key stands for
    jobs:outbox          ids that are accepted and not in the stream yet, where that is elsewhere: kafka_stream.py

What belongs together is one script, so that nothing lies between. A job's result is stored by whoever comes
first: a second one is counted and thrown away.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

GROUP = "workers"
FORMAT = "1"
MOST_ENTRIES = 10_000
MOST_DEAD = 1_000
FORGOTTEN_S = 24 * 3600  # a job that never ends is kept so long
CONNECTIONS = 64
CONNECT_S, ANSWER_S, POOL_S = 1.0, 5.0, 5.0
WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
UNFINISHED = (WAITING, RUNNING)
HANDED_OVER = "handed_over"


class StoreUnavailable(Exception):
    """Redis, or the stream, did not take or give what was asked."""


@dataclass(frozen=True)
class Names:
    """The keys of one queue."""

    prefix: str = ""

    @property
    def stream(self) -> str:
        return f"{self.prefix}jobs"

    @property
    def dead(self) -> str:
        return f"{self.prefix}jobs:dead"

    @property
    def outbox(self) -> str:
        return f"{self.prefix}jobs:outbox"

    def job(self, name: str) -> str:
        return f"{self.prefix}job:{name}"

    def unfinished(self, tenant: str = "") -> str:
        return f"{self.prefix}jobs:unfinished" + (f":{tenant}" if tenant else "")

    def key(self, tenant: str, key: str) -> str:
        digest = hashlib.sha256(f"{tenant}\n{key}".encode()).hexdigest()
        return f"{self.prefix}jobs:key:{digest}"


@dataclass(frozen=True)
class Entry:
    """An entry of the stream, as a worker got it."""

    id: str
    fields: Mapping[str, str]

    @property
    def job(self) -> str:
        return self.fields.get("job", "")

    @property
    def fault(self) -> str:
        """Why it is no job of this format; empty where it is one."""
        if self.fields.get("v") != FORMAT:
            return f"the format is {self.fields.get('v', 'not named')!r:.40}, not {FORMAT!r}"
        return "" if self.job else "it names no job"


@dataclass(frozen=True)
class Enqueued:
    """What became of the wish to enqueue: taken, known, other_body, tenant_full or queue_full."""

    outcome: str
    job: str = ""
    count: int = 0


@dataclass(frozen=True)
class Started:
    """What a worker is told when it begins: `start`, or the status of a job that is none of its business.

    Args:
        attempts: deliveries so far, with this one.
        last_failure: how the delivery before ended; empty where its worker said nothing.
        fields: the job.
    """

    outcome: str
    attempts: int = 0
    last_failure: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Depth:
    """How the queue stands."""

    waiting: int
    pending: int
    length: int
    dead: int


_NOW = """
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
"""
# Keys: all unfinished, the tenant's, idempotency key or '', job, stream or '', outbox. Arguments: id, limit, tenant's limit, sha of
# the body, ttl in s, most entries, format, tenant, how long an unfinished job is kept in s, then the job's fields.
_ENQUEUE = (
    _NOW
    + """
if KEYS[3] ~= '' then
  local known = redis.call('HMGET', KEYS[3], 'job', 'body')
  if known[1] then return {known[2] == ARGV[4] and 'known' or 'other_body', known[1], 0} end
end
if redis.call('EXISTS', KEYS[4]) == 1 then return {'taken', ARGV[1], 0} end  -- asked again: the answer was lost
for i = 1, 2 do redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now_ms - ARGV[5] * 1000) end
local mine = redis.call('ZCARD', KEYS[2])
if tonumber(ARGV[3]) > 0 and mine >= tonumber(ARGV[3]) then return {'tenant_full', '', mine} end
local all = redis.call('ZCARD', KEYS[1])
if all >= tonumber(ARGV[2]) then return {'queue_full', '', all} end
redis.call('HSET', KEYS[4], 'status', 'waiting', 'attempts', 0, 'created_ms', now_ms, unpack(ARGV, 10))
redis.call('EXPIRE', KEYS[4], ARGV[9])
for i = 1, 2 do redis.call('ZADD', KEYS[i], now_ms, ARGV[1]) end
if KEYS[5] ~= '' then
  redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[6], '*', 'v', ARGV[7], 'job', ARGV[1], 'tenant', ARGV[8])
else
  redis.call('ZADD', KEYS[6], now_ms, ARGV[1])
end
if KEYS[3] ~= '' then
  redis.call('HSET', KEYS[3], 'job', ARGV[1], 'body', ARGV[4])
  redis.call('EXPIRE', KEYS[3], ARGV[5])
end
return {'taken', ARGV[1], mine + 1}
"""
)
# Keys: job. Arguments: worker.
_START = (
    _NOW
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'unknown', 0, '', {}} end
if status ~= 'waiting' and status ~= 'running' then return {status, 0, '', {}} end
local failure = redis.call('HGET', KEYS[1], 'last_failure') or ''
redis.call('HDEL', KEYS[1], 'last_failure')
redis.call('HSET', KEYS[1], 'status', 'running', 'worker', ARGV[1], 'started_ms', now_ms)
local attempts = redis.call('HINCRBY', KEYS[1], 'attempts', 1)
return {'start', attempts, failure, redis.call('HGETALL', KEYS[1])}
"""
)
# Keys: job, all unfinished, the tenant's. Arguments: id, ttl in s, status, then fields. Gives {outcome, ms since accepted}.
_END = (
    _NOW
    + """
local status = redis.call('HGET', KEYS[1], 'status')
if not status then return {'unknown', 0} end
if status == 'done' or status == 'failed' then
  if ARGV[3] == 'done' then redis.call('HINCRBY', KEYS[1], 'second_results', 1) end
  return {'second_result', 0}
end
if status == 'cancelled' then return {'cancelled', 0} end
redis.call('HSET', KEYS[1], 'status', ARGV[3], 'done_ms', now_ms, unpack(ARGV, 4))
redis.call('EXPIRE', KEYS[1], ARGV[2])
for i = 2, 3 do redis.call('ZREM', KEYS[i], ARGV[1]) end
return {'stored', now_ms - (redis.call('HGET', KEYS[1], 'created_ms') or now_ms)}
"""
)
# Keys: stream or '', dead letters, job or '', all unfinished, the tenant's. Arguments: group, entry, id, reason, kind,
# deliveries, tenant, most dead, ttl in s.
_BURY = (
    _NOW
    + """
if KEYS[1] ~= '' then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[8], '*', 'job', ARGV[3], 'entry', ARGV[2], 'reason', ARGV[4],
    'kind', ARGV[5], 'deliveries', ARGV[6], 'tenant', ARGV[7])
end
if KEYS[3] ~= '' then
  local status = redis.call('HGET', KEYS[3], 'status')
  if status == 'waiting' or status == 'running' then
    redis.call('HSET', KEYS[3], 'status', 'failed', 'error', ARGV[4], 'attempts', ARGV[6], 'done_ms', now_ms)
    redis.call('EXPIRE', KEYS[3], ARGV[9])
  end
  for i = 4, 5 do redis.call('ZREM', KEYS[i], ARGV[3]) end
end
return KEYS[1] ~= '' and redis.call('XACK', KEYS[1], ARGV[1], ARGV[2]) or 0
"""
)
# Keys: job. Arguments: how the delivery ended.
_FAILED = """
local status = redis.call('HGET', KEYS[1], 'status')
if status ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'status', 'waiting', 'last_failure', ARGV[1])
return 1
"""
# Keys: stream. Arguments: group, consumer, idle in ms from now on, then entries. Gives those that are another's.
_RENEW = """
local lost = {}
for i = 4, #ARGV do
  local found = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  if found[1] and found[1][2] == ARGV[2] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, ARGV[i], 'IDLE', ARGV[3], 'JUSTID')
  elseif found[1] then
    table.insert(lost, ARGV[i])
  end
end
return lost
"""


class Queue:
    """One queue in one Redis; `kafka_stream.KafkaQueue` has its stream in Kafka, and the rest here too.

    Args:
        url: of the server.
        prefix: stands before every key.
        consumer: this process's name in the group.
        claim_idle_ms: after how long without a renewal an entry may be taken over.
        job_ttl_s: how long a finished job, and a key that stands for one, is kept.
    """

    has_stream = True

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "",
        consumer: str = "",
        claim_idle_ms: int = 15_000,
        job_ttl_s: int = 3600,
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            decode_responses=True,
            max_connections=CONNECTIONS,
            timeout=POOL_S,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 1),
        )
        self.redis: Any = Redis(connection_pool=pool)  # its stubs know neither decoded answers nor awaiting
        self.names, self._consumer = Names(prefix), consumer
        self._claim_idle_ms, self._job_ttl_s = claim_idle_ms, job_ttl_s
        scripts = (_ENQUEUE, _START, _END, _BURY, _FAILED, _RENEW)
        registered = [self.redis.register_script(script) for script in scripts]
        self._enqueue, self._start, self._end, self._bury, self._failed, self._renew = registered

    async def prepare(self) -> None:
        """Make the stream and its group; nothing happens where they are."""
        async with failures():
            try:
                await self.redis.xgroup_create(self.names.stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if "BUSYGROUP" not in str(error):
                    raise

    @property
    def _stream(self) -> str:
        return self.names.stream if self.has_stream else ""

    async def put(self, fields: Mapping[str, str]) -> str:
        """An entry into the stream as it is, of whatever format; its id."""
        async with failures():
            name: str = await self.redis.xadd(self.names.stream, dict(fields))
        return name

    async def relay(self) -> None:
        """Bring to the stream what is accepted and not in it yet: nothing, where both are one script."""

    def before_moving(self, let_go: Callable[[], Awaitable[None]]) -> None:
        """What a worker does before entries that it holds are given to others: nobody does that here unasked."""

    async def close(self) -> None:
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()

    # -- the front ----------------------------------------------------------------------------

    async def enqueue(
        self,
        job: str,
        fields: Mapping[str, str],
        *,
        limit: int,
        tenant_limit: int = 0,
        key: str = "",
        body: str = "",
    ) -> Enqueued:
        """Accept a job, unless too many are unfinished or its key stands for another."""
        tenant = fields["tenant"]
        named = self.names.key(tenant, key) if key else ""
        given = [word for pair in fields.items() for word in pair]
        async with failures():
            outcome, name, count = await self._enqueue(
                keys=[
                    *self._unfinished(tenant),
                    named,
                    self.names.job(job),
                    self._stream,
                    self.names.outbox,
                ],
                args=[
                    job,
                    limit,
                    tenant_limit,
                    body,
                    self._job_ttl_s,
                    MOST_ENTRIES,
                    FORMAT,
                    tenant,
                    FORGOTTEN_S,
                    *given,
                ],
            )
        return Enqueued(outcome, name, int(count))

    async def job(self, name: str) -> dict[str, str]:
        """A job as it stands; empty where there is none."""
        async with failures():
            found: dict[str, str] = await self.redis.hgetall(self.names.job(name))
        return found

    async def cancel(self, name: str, tenant: str) -> str:
        """Cancel a job that is not finished; `stored`, or what it was already."""
        return (await self._ended(name, tenant, CANCELLED))[0]

    # -- workers ------------------------------------------------------------------------------

    async def read(self, most: int, block_ms: int) -> list[Entry]:
        """Entries that nobody has had yet; waits for the first one."""
        async with failures():
            try:
                found = await self.redis.xreadgroup(
                    GROUP, self._consumer, {self.names.stream: ">"}, count=most, block=block_ms
                )
            except ResponseError as error:
                if "NOGROUP" not in str(error):
                    raise
                found = []
                await self.prepare()
        entries = found[0][1] if found else []
        return [Entry(name, fields or {}) for name, fields in entries]

    async def claim(self, known: Iterable[str] = ()) -> Entry | None:
        """Take over one entry whose worker has not renewed it; `known` are those that this process holds itself."""
        held, cursor = set(known), "0-0"
        async with failures():
            while True:
                said = await self.redis.xautoclaim(
                    self.names.stream,
                    GROUP,
                    self._consumer,
                    min_idle_time=self._claim_idle_ms,
                    start_id=cursor,
                    count=1,
                )
                cursor, entries = said[0], said[1]
                for name, fields in entries:
                    if fields is not None and name not in held:
                        return Entry(name, fields)
                if cursor == "0-0":
                    return None

    async def renew(self, entries: Sequence[str]) -> set[str]:
        """Say that these are still worked on; those that another worker has by now."""
        async with failures():
            lost = await self._renew(keys=[self.names.stream], args=[GROUP, self._consumer, 0, *entries])
        return set(lost)

    async def hand_over(self, entry: Entry) -> None:
        """Let another worker take this entry at once."""
        await self.failed(entry.job, HANDED_OVER)
        async with failures():
            await self._renew(
                keys=[self.names.stream], args=[GROUP, self._consumer, self._claim_idle_ms + 1, entry.id]
            )

    async def start(self, name: str) -> Started:
        """Begin with a job, or learn that there is nothing to begin with."""
        async with failures():
            outcome, attempts, failure, flat = await self._start(
                keys=[self.names.job(name)], args=[self._consumer]
            )
        return Started(outcome, int(attempts), failure, dict(zip(flat[::2], flat[1::2], strict=True)))

    async def acknowledge(self, entry: Entry) -> None:
        """The stream may forget that this entry was delivered."""
        async with failures():
            await self.redis.xack(self.names.stream, GROUP, entry.id)

    async def store(self, name: str, tenant: str, fields: Mapping[str, str]) -> tuple[str, float]:
        """Keep a result, once: `stored` and the seconds since the job was accepted, or why it was not."""
        return await self._ended(name, tenant, DONE, fields)

    async def failed(self, name: str, kind: str) -> None:
        """The delivery came to nothing; the job waits for another one."""
        async with failures():
            await self._failed(keys=[self.names.job(name)], args=[kind])

    async def bury(
        self, entry: Entry, reason: str, *, kind: str, deliveries: int, tenant: str, is_known: bool
    ) -> None:
        """Put an entry among the dead letters, with its reason; its job, where there is one, has failed."""
        job = self.names.job(entry.job) if is_known else ""
        async with failures():
            await self._bury(
                keys=[self._stream, self.names.dead, job, *self._unfinished(tenant)],
                args=[
                    GROUP,
                    entry.id,
                    entry.job,
                    reason[:400],
                    kind,
                    deliveries,
                    tenant,
                    MOST_DEAD,
                    self._job_ttl_s,
                ],
            )

    # -- looking ------------------------------------------------------------------------------

    async def depth(self) -> Depth:
        """How many wait, how many are worked on, how long the stream is, how many are dead."""
        async with failures():
            groups = await self.redis.xinfo_groups(self.names.stream)
            length, dead = (
                await self.redis.xlen(self.names.stream),
                await self.redis.xlen(self.names.dead),
            )
            group = next((item for item in groups if item["name"] == GROUP), None)
            if group is None:
                return Depth(length, 0, length, dead)
            lag = group.get("lag")
            if lag is None:  # Redis cannot tell once entries were deleted in the middle
                after = f"({group['last-delivered-id']}"
                lag = len(await self.redis.xrange(self.names.stream, min=after, count=MOST_ENTRIES))
        return Depth(int(lag), int(group["pending"]), int(length), int(dead))

    async def letters(self, most: int = 500) -> list[dict[str, str]]:
        """The newest dead letters."""
        async with failures():
            found = await self.redis.xrevrange(self.names.dead, count=most)
        return [fields for _, fields in found]

    async def drop(self) -> None:
        """Delete stream and dead letters: for a queue of a witness's own."""
        async with failures():
            await self.redis.delete(self.names.stream, self.names.dead)

    def _unfinished(self, tenant: str) -> list[str]:
        return [self.names.unfinished(), self.names.unfinished(tenant or "?")]

    async def _ended(
        self, name: str, tenant: str, status: str, fields: Mapping[str, str] | None = None
    ) -> tuple[str, float]:
        given: list[Any] = [word for pair in (fields or {"error": ""}).items() for word in pair]
        async with failures():
            outcome, since_ms = await self._end(
                keys=[self.names.job(name), *self._unfinished(tenant)],
                args=[name, self._job_ttl_s, status, *given],
            )
        return outcome, float(since_ms) / 1000


@asynccontextmanager
async def failures() -> AsyncIterator[None]:
    """Map what Redis' client raises to StoreUnavailable."""
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailable(f"Redis: {error or type(error).__name__}") from error
