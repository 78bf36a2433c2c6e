"""Answers that were given before, and one generation where many ask the same at once.

cache:…     an answer under the digest of the decision `key`; ends after `ttl_s`
near        which questions are kept, by the moment at which each ends; near:… one of them, with its vector
flight:…    who generates the answer to a key now: a lease that lapses by itself, if `lease_s` says when
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helpers.apps.jobs.decisions import Ask
from helpers.apps.jobs.store import failures
from helpers.apps.orchestrator.mounted import Decisions

MOST_NEAR = 256
MOST_OFFERED = 8
# Keys: lease. Arguments: holder.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Near:
    """A question that is kept, and where its answer is."""

    ask: Ask
    key: str
    vector: Vector


class Cache:
    """The cache of one queue, as a worker uses it.

    Args:
        redis: the queue's client.
        prefix: stands before every key.
        base_ttl_s: what `ttl_s` is asked about.
        floor: questions that are less similar are not offered to `may_share`.
    """

    def __init__(
        self, redis: Any, decisions: Decisions, *, prefix: str, base_ttl_s: float, floor: float
    ) -> None:
        self._redis, self._decisions = redis, decisions
        self._prefix, self._base_ttl_s, self._floor = prefix, base_ttl_s, floor
        self._release = redis.register_script(_RELEASE)
        self._known: dict[str, Near] = {}

    def key(self, ask: Ask) -> str:
        """The digest of what the decision makes of a question."""
        return _digest(self._decisions.ask("key", ask))

    # -- answers ------------------------------------------------------------------------------

    async def exact(self, key: str) -> dict[str, Any] | None:
        """The answer that is kept under a key."""
        async with failures():
            text = await self._redis.get(self._answer(key))
        return json.loads(text) if text else None

    async def similar(self, ask: Ask, vector: Sequence[float]) -> tuple[dict[str, Any], float] | None:
        """The answer to a question that the decision `may_share` lets stand for this one, and its similarity."""
        kept = await self._kept()
        if not kept:
            return None
        scores = np.stack([item.vector for item in kept]) @ np.asarray(vector, dtype=np.float32)
        for place in np.argsort(-scores)[:MOST_OFFERED]:
            item, similarity = kept[int(place)], min(1.0, max(0.0, float(scores[int(place)])))
            if similarity < self._floor:
                return None
            if item.ask != ask and self._decisions.ask("may_share", ask, item.ask, similarity):
                answer = await self.exact(item.key)
                if answer is not None:
                    return answer, similarity
        return None

    async def keep(self, ask: Ask, key: str, vector: Sequence[float], answer: Mapping[str, Any]) -> None:
        """Keep an answer, for as long as the decision `ttl_s` says."""
        ttl_s = float(self._decisions.ask("ttl_s", self._base_ttl_s, random.random()))
        ttl_ms = int(1000 * ttl_s) if math.isfinite(ttl_s) else 0
        packed = base64.b64encode(np.asarray(vector, dtype=np.float32).tobytes()).decode()
        name = _digest(json.dumps(asdict(ask), sort_keys=True))
        told = json.dumps({"ask": asdict(ask), "key": key, "vector": packed})
        options: dict[str, Any] = {"px": max(1, ttl_ms)} if ttl_ms else {}
        async with failures(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(self._answer(key), json.dumps(answer), **options)
            pipeline.set(self._near(name), told, **options)
            pipeline.zadd(f"{self._prefix}near", {name: 1000 * (time.time() + min(ttl_s, 10**9))})
            pipeline.zremrangebyrank(f"{self._prefix}near", 0, -MOST_NEAR - 1)
            await pipeline.execute()

    async def _kept(self) -> list[Near]:
        async with failures():
            names = await self._redis.zrangebyscore(f"{self._prefix}near", 1000 * time.time(), "+inf")
            unseen = [name for name in names if name not in self._known]
            texts = await self._redis.mget([self._near(name) for name in unseen]) if unseen else []
        for name, text in zip(unseen, texts, strict=True):
            if text:
                self._known[name] = _near(text)
        self._known = {name: self._known[name] for name in names if name in self._known}
        return list(self._known.values())

    # -- one generation -----------------------------------------------------------------------

    async def take(self, key: str, holder: str, lease_s: float) -> bool:
        """Become the one who generates the answer to this key; false where somebody else is."""
        options: dict[str, Any] = {"px": max(1, int(1000 * lease_s))} if math.isfinite(lease_s) else {}
        async with failures():
            return bool(await self._redis.set(self._flight(key), holder, nx=True, **options))

    async def holder(self, key: str) -> str:
        """Who generates the answer to this key; empty where nobody does."""
        async with failures():
            return str(await self._redis.get(self._flight(key)) or "")

    async def release(self, key: str, holder: str) -> None:
        """Others may generate; nothing happens where somebody else does already."""
        async with failures():
            await self._release(keys=[self._flight(key)], args=[holder])

    def _answer(self, key: str) -> str:
        return f"{self._prefix}cache:{key}"

    def _near(self, name: str) -> str:
        return f"{self._prefix}near:{name}"

    def _flight(self, key: str) -> str:
        return f"{self._prefix}flight:{key}"


def _near(text: str) -> Near:
    told = json.loads(text)
    vector = np.frombuffer(base64.b64decode(told["vector"]), dtype=np.float32)
    return Near(Ask(**told["ask"]), told["key"], vector)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
