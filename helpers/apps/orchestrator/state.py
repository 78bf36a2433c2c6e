"""Everything that is kept in Redis: LangGraph's checkpoints, leases of running threads, answers by key.

Three habits hold throughout. What belongs together is written in one transaction, so a step costs
one round trip and no key is ever without its time to live. A lease is a key that lapses by itself:
its holder prolongs it while it works, and whoever finds it lapsed may take over. Only the holder
may end a run: what a paused pod still writes after it lost its lease is not acknowledged.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
)
from langgraph.checkpoint.redis.aio import AsyncRedisSaver
from langgraph.checkpoint.redis.util import to_storage_safe_id, to_storage_safe_str
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redisvl.exceptions import RedisVLError

from helpers.apps.orchestrator.errors import StateUnavailable
from helpers.apps.orchestrator.meter import HopTimedOut, Meter

PREFIX = "orc"
CONNECTIONS = 32
CONNECT_S, ANSWER_S, POOL_S = 1.0, 2.0, 2.0
RETRY_AFTER_S = 2
metered: ContextVar[Meter | None] = ContextVar("metered", default=None)
"""The time of the run in hand: reading its checkpoint is the hop `load`, writing one is `record`."""


class Checkpoints(AsyncRedisSaver):
    """LangGraph's own saver for Redis, with its keys and its format, one transaction a write.

    The parent sends a command for each key and its time to live: some forty round trips for an
    answer, and a key that never expires if the process dies in between (langgraph-redis#137).
    """

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        async with _hop("load"):
            return await super().aget_tuple(config)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
        stream_mode: str = "values",
    ) -> RunnableConfig:
        configurable = config["configurable"]
        thread, space = configurable["thread_id"], configurable.get("checkpoint_ns", "")
        parent, run_id = configurable.get("checkpoint_id"), configurable.get("run_id", metadata.get("run_id"))
        name = checkpoint["id"]
        stored = {
            "thread_id": to_storage_safe_id(thread),
            "run_id": to_storage_safe_id(run_id) if run_id else "",
            "checkpoint_ns": to_storage_safe_str(space),
            "checkpoint_id": to_storage_safe_id(name),
            "parent_checkpoint_id": to_storage_safe_id(parent) if parent and parent != name else "",
            "checkpoint_ts": 1000 * time.time(),
            "checkpoint": self._dump_checkpoint(checkpoint.copy()),
            "metadata": self._dump_metadata(metadata),
            "has_writes": False,
        }
        stored |= {key: metadata[key] for key in ("source", "step") if {"source", "step"} <= set(metadata)}
        key = self._make_redis_checkpoint_key(thread, space, name)
        async with _hop("record"), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.execute_command("JSON.SET", key, "$", orjson.dumps(stored))
            pipeline.set(self._make_redis_checkpoint_latest_key(thread, space), key, ex=self._ttl_s)
            if self._ttl_s:
                pipeline.expire(key, self._ttl_s)
            await pipeline.execute()
        return {"configurable": {"thread_id": thread, "checkpoint_ns": space, "checkpoint_id": name}}

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        if not writes:
            return
        configurable = config["configurable"]
        place = (
            configurable["thread_id"],
            configurable.get("checkpoint_ns", ""),
            configurable["checkpoint_id"],
        )
        thread, space, name = place
        stored: dict[str, dict[str, Any]] = {}
        for number, (channel, value) in enumerate(writes):
            kind, blob = self.serde.dumps_typed(value)
            index = WRITES_IDX_MAP.get(channel, number)
            stored[self._make_redis_checkpoint_writes_key(*place, task_id, index)] = {
                "thread_id": to_storage_safe_id(thread),
                "checkpoint_ns": to_storage_safe_str(space),
                "checkpoint_id": to_storage_safe_id(name),
                "task_id": task_id,
                "task_path": task_path,
                "idx": index,
                "channel": channel,
                "type": kind,
                "blob": self._encode_blob(blob),
            }
        registry = self._key_registry.make_write_keys_zset_key(*place) if self._key_registry else ""
        async with self._redis.pipeline(transaction=True) as pipeline:
            for key, value in stored.items():
                pipeline.execute_command("JSON.SET", key, "$", orjson.dumps(value))
            if registry:
                pipeline.zadd(registry, {key: float(number) for number, key in enumerate(stored)})
            for key in filter(None, (*stored, registry)):
                if self._ttl_s:
                    pipeline.expire(key, self._ttl_s)
            await pipeline.execute()

    @property
    def _ttl_s(self) -> int | None:
        minutes = (self.ttl_config or {}).get("default_ttl")
        return int(60 * minutes) if minutes else None


@asynccontextmanager
async def _hop(name: str) -> AsyncIterator[None]:
    meter = metered.get()
    if meter is None:
        yield
        return
    async with meter.hop(name):
        yield


@dataclass(frozen=True)
class Lease:
    """The right to run a thread: who holds it, and for which request."""

    tenant: str
    thread_id: str
    holder: str
    key: str = ""
    """The idempotency key's sha256; empty where the caller gave none."""

    @property
    def member(self) -> str:
        return f"{self.tenant}/{self.thread_id}"


@dataclass(frozen=True)
class Begun:
    """What became of the wish to run.

    `mine` or, in a thread that was there before, `mine_again`; `known`: the key has a record; `busy`: the thread runs.
    """

    outcome: str
    record: dict[str, Any]


# Keys: run, thread, idem. Arguments: holder, lease in ms, thread's ttl in s, running set, member, the key's record.
_BEGIN = """
local known = KEYS[3] ~= '' and redis.call('GET', KEYS[3])
if known then return {'known', known} end
local busy = redis.call('GET', KEYS[1])
if busy then return {'busy', busy} end
local again = redis.call('EXISTS', KEYS[2])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if KEYS[3] ~= '' then redis.call('SET', KEYS[3], ARGV[6], 'PX', ARGV[2]) end
if ARGV[3] == '0' then redis.call('SET', KEYS[2], ARGV[1]) else redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[3]) end
local now = redis.call('TIME')
redis.call('ZADD', ARGV[4], now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2], ARGV[5])
return {again == 1 and 'mine_again' or 'mine', ''}
"""
# Arguments: running set, lease in ms, then four for each lease: run key, idem key, holder, member. Gives the lost.
_PROLONG = """
local now, lost = redis.call('TIME'), {}
local until_ms = now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2]
for i = 3, #ARGV, 4 do
  local holder = redis.call('GET', ARGV[i])
  -- A lease that lapsed while Redis was away, and that nobody took, is still its holder's.
  if holder == ARGV[i + 2] or (not holder and redis.call('ZSCORE', ARGV[1], ARGV[i + 3])) then
    redis.call('SET', ARGV[i], ARGV[i + 2], 'PX', ARGV[2])
    if ARGV[i + 1] ~= '' then redis.call('PEXPIRE', ARGV[i + 1], ARGV[2]) end
    redis.call('ZADD', ARGV[1], until_ms, ARGV[i + 3])
  else
    table.insert(lost, ARGV[i + 3])
  end
end
return lost
"""
# Keys: running set. Arguments: prefix of run keys, holder, lease in ms, how many. Gives the members taken.
_TAKE_OVER = """
local now, taken = redis.call('TIME'), {}
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_ms, 'LIMIT', 0, ARGV[4])) do
  local key = ARGV[1] .. string.gsub(member, '/', ':')
  redis.call('ZADD', KEYS[1], now_ms + ARGV[3], member)
  if redis.call('SET', key, ARGV[2], 'NX', 'PX', ARGV[3]) then table.insert(taken, member) end
end
return taken
"""
# Keys: run, idem, stored answer. Arguments: holder, running set, member, record, its ttl in s, answer, its ttl in s.
_END = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', ARGV[2], ARGV[3])
if KEYS[2] ~= '' then
  if ARGV[4] == '' then redis.call('DEL', KEYS[2]) else redis.call('SET', KEYS[2], ARGV[4], 'EX', ARGV[5]) end
end
if KEYS[3] ~= '' then redis.call('SET', KEYS[3], ARGV[6], 'EX', ARGV[7]) end
return 1
"""
# Keys: run, running set. Arguments: holder, member.
_HAND_OVER = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZADD', KEYS[2], 0, ARGV[2])
return 1
"""


class Store:
    """One Redis, as this service uses it.

    Args:
        url: of the server.
        group: pods of one group take over each other's threads.
        lease_s: how long a lease lasts unless it is prolonged.
        thread_ttl_minutes: how long a thread is kept after its last step; 0 for ever.
        answer_ttl_s: how long an answer is kept for its key.
    """

    def __init__(
        self, url: str, *, group: str, lease_s: float, thread_ttl_minutes: int, answer_ttl_s: int
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS,
            timeout=POOL_S,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=ANSWER_S,
            retry=Retry(NoBackoff(), 1),
        )
        self.redis: Redis = Redis(connection_pool=pool)
        self._lease_ms, self._answer_ttl_s = round(1000 * lease_s), answer_ttl_s
        self._thread_ttl_s = 60 * thread_ttl_minutes
        self._running = f"{PREFIX}:running:{group}"
        ttl = {"default_ttl": thread_ttl_minutes} if thread_ttl_minutes else None
        self.checkpoints = Checkpoints(redis_client=self.redis, ttl=ttl)
        scripts = (_BEGIN, _PROLONG, _TAKE_OVER, _END, _HAND_OVER)
        registered = [self.redis.register_script(script) for script in scripts]
        self._begin, self._prolong, self._take_over, self._end, self._hand_over = registered

    async def prepare(self) -> None:
        """Make the indexes that the saver needs; nothing happens where they are.

        Raises:
            StateUnavailable: Redis does not answer, or lacks its JSON and search modules.
        """
        async with state_failures():
            for indexes_left in (2, 1, 0):
                try:
                    await self.checkpoints.asetup()
                    break
                except RedisVLError as error:  # another pod made one of the two at the same time
                    if "already exists" not in str(error).lower() or not indexes_left:
                        raise

    async def ping(self) -> None:
        async with state_failures():
            await self.redis.ping()

    async def close(self) -> None:
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()

    # -- runs ---------------------------------------------------------------------------------

    async def begin(self, lease: Lease, record: dict[str, Any]) -> Begun:
        """Take the thread's lease, and with it the key's, unless either is taken."""
        async with state_failures():
            outcome, text = await self._begin(
                keys=[_run(lease), _thread(lease), _idem(lease.key)],
                args=[
                    lease.holder,
                    self._lease_ms,
                    self._thread_ttl_s,
                    self._running,
                    lease.member,
                    json.dumps(record),
                ],
            )
        if outcome == b"known":
            return Begun("known", json.loads(text))
        return Begun(outcome.decode(), {"holder": text.decode()} if outcome == b"busy" else {})

    async def prolong(self, leases: Sequence[Lease]) -> set[str]:
        """Prolong leases; the members of those that are another's now."""
        words = [
            word for lease in leases for word in (_run(lease), _idem(lease.key), lease.holder, lease.member)
        ]
        async with state_failures():
            lost = await self._prolong(args=[self._running, self._lease_ms, *words])
        return {member.decode() for member in lost}

    async def take_over(self, holder: str, most: int) -> list[Lease]:
        """Take the leases of threads whose holder let them lapse."""
        async with state_failures():
            taken = await self._take_over(
                keys=[self._running], args=[f"{PREFIX}:run:", holder, self._lease_ms, most]
            )
        threads = [member.decode().partition("/") for member in taken]
        return [Lease(tenant, thread_id, holder) for tenant, _, thread_id in threads]

    async def hold_key(self, lease: Lease, record: dict[str, Any]) -> None:
        """Hold an idempotency key for a run that was taken over."""
        if lease.key:
            async with state_failures():
                await self.redis.set(_idem(lease.key), json.dumps(record), px=self._lease_ms)

    async def end(
        self,
        lease: Lease,
        record: dict[str, Any] | None = None,
        *,
        stored: tuple[str, dict[str, Any]] | None = None,
    ) -> bool:
        """End a run: its leases go, its answer stays under its key; False when the lease was another's.

        `stored` is an answer that may stand in later for the same question: its name and itself.
        """
        async with state_failures():
            return bool(
                await self._end(
                    keys=[_run(lease), _idem(lease.key), _answer(stored[0]) if stored else ""],
                    args=[
                        lease.holder,
                        self._running,
                        lease.member,
                        json.dumps(record) if record else "",
                        self._answer_ttl_s,
                        json.dumps(stored[1]) if stored else "",
                        self._thread_ttl_s or self._answer_ttl_s,
                    ],
                )
            )

    async def hand_over(self, lease: Lease) -> bool:
        """Let another pod of the group take the run at once."""
        async with state_failures():
            return bool(
                await self._hand_over(keys=[_run(lease), self._running], args=[lease.holder, lease.member])
            )

    # -- looking ------------------------------------------------------------------------------

    async def record(self, key: str) -> dict[str, Any] | None:
        """What is known of an idempotency key."""
        async with state_failures():
            text = await self.redis.get(_idem(key))
        return json.loads(text) if text else None

    async def stored_answer(self, name: str) -> dict[str, Any] | None:
        """An earlier answer to the same question."""
        async with state_failures():
            text = await self.redis.get(_answer(name))
        return json.loads(text) if text else None

    async def is_running(self, tenant: str, thread_id: str) -> bool:
        async with state_failures():
            return bool(await self.redis.exists(_run(Lease(tenant, thread_id, ""))))


def checkpoint_thread(tenant: str, thread_id: str) -> str:
    """The thread's name among LangGraph's keys: a tenant never meets another's."""
    return f"{tenant}.{thread_id}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@asynccontextmanager
async def state_failures() -> AsyncIterator[None]:
    """Map what Redis' client raises, and a hop of ours that ran out of time, to StateUnavailable."""
    try:
        yield
    except HopTimedOut as error:
        if error.hop not in ("load", "record"):
            raise
        raise StateUnavailable(str(error), code="state_timed_out", retry_after_s=RETRY_AFTER_S) from error
    except (RedisError, RedisVLError, OSError) as error:
        raise StateUnavailable(
            f"Redis: {error or type(error).__name__}", retry_after_s=RETRY_AFTER_S
        ) from error


def _run(lease: Lease) -> str:
    return f"{PREFIX}:run:{lease.tenant}:{lease.thread_id}"


def _thread(lease: Lease) -> str:
    return f"{PREFIX}:thread:{lease.tenant}:{lease.thread_id}"


def _idem(key: str) -> str:
    return f"{PREFIX}:idem:{key}" if key else ""


def _answer(name: str) -> str:
    return f"{PREFIX}:answer:{name}"
