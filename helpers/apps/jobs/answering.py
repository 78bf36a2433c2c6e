"""What happens to one question: the cache, one generation for many askers, and else Qdrant and vLLM."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import Histogram

from helpers.apps.jobs.cache import Cache
from helpers.apps.jobs.decisions import GENERATE, Ask
from helpers.apps.jobs.metrics import Metrics
from helpers.apps.jobs.settings import JobsSettings
from helpers.apps.jobs.store import StoreUnavailable
from helpers.apps.orchestrator import prompts
from helpers.apps.orchestrator.backends import Backends, Completion, Passage
from helpers.apps.orchestrator.decisions import Failure, Message
from helpers.apps.orchestrator.errors import BackendFailed
from helpers.apps.orchestrator.mounted import Decisions
from helpers.apps.orchestrator.tracing import Tracing
from helpers.stack.embeddings import Embedder

log = logging.getLogger("jobs")
POLL_S = 0.1
TOKENS_A_MESSAGE = 8  # more than any chat template adds
DEFAULT_TOKENS = 256
KILLED = 137


@dataclass(frozen=True)
class Answer:
    """What a job is answered with.

    Args:
        cached: exact or similar; empty where it was generated for this job.
        similarity: of the question that it was generated for; 1 for this very one.
    """

    text: str
    citations: tuple[str, ...] = ()
    model: str = ""
    tokens: int = 0
    cached: str = ""
    similarity: float = 1.0

    @classmethod
    def kept(cls, told: Mapping[str, Any], cached: str, similarity: float = 1.0) -> Answer:
        """An answer as the cache has it."""
        return cls(
            str(told["text"]), tuple(told["citations"]), str(told["model"]), 0, cached, round(similarity, 4)
        )

    def to_keep(self) -> dict[str, Any]:
        return {"text": self.text, "citations": list(self.citations), "model": self.model}


class Answering:
    """Answers to questions, and what they share."""

    def __init__(
        self,
        settings: JobsSettings,
        *,
        backends: Backends,
        cache: Cache,
        decisions: Decisions,
        embedder: Embedder,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._settings, self._backends, self._cache = settings, backends, cache
        self._decisions, self._embedder, self._metrics = decisions, embedder, metrics
        self._tracing = tracing
        self._systems = prompts.versions(settings.prompts)

    async def answer(self, name: str, job: Mapping[str, str]) -> Answer:
        """The answer to a job's question.

        Raises:
            BackendFailed: Qdrant or vLLM did not do what it was asked.
            StoreUnavailable: Redis did not.
        """
        self._survives(job)
        known = {"tenant": job["tenant"], "feature": "jobs", "session": name, "request_id": name}
        with self._tracing.run(version=self._settings.release, question=job["question"], **known):
            ask = await self._ask(job)
            if self._settings.cache == "off" or job.get("cache") == "off":
                return await self._generated(job, ask)
            return await self._cached(name, job, ask)

    def _survives(self, job: Mapping[str, str]) -> None:
        poison = self._settings.poison
        if poison and poison in job["question"]:
            log.error("this question ends the process, as one does that takes all memory")
            os._exit(KILLED)

    async def _ask(self, job: Mapping[str, str]) -> Ask:
        model = self._backends.model or await self._backends.learn_model()
        version = job.get("prompt_version") or self._settings.default_prompt_version.lower()
        retrieves = job.get("retrieve") != "off"
        collection = self._settings.qdrant_collection if retrieves else ""
        return Ask(job["tenant"], model, version, collection, job["question"])

    # -- the cache ----------------------------------------------------------------------------

    async def _cached(self, name: str, job: Mapping[str, str], ask: Ask) -> Answer:
        key = self._cache.key(ask)
        found = await self._cache.exact(key)
        if found is not None:
            return self._hit("exact", Answer.kept(found, "exact"))
        vector = await self._embedded(ask.question)
        similar = await self._cache.similar(ask, vector)
        if similar is not None:
            return self._hit("similar", Answer.kept(similar[0], "similar", similar[1]))
        return await self._one_of_many(name, job, ask, key, vector)

    def _hit(self, result: str, answer: Answer) -> Answer:
        self._metrics.cache.labels(result).inc()
        return answer

    async def _one_of_many(
        self, name: str, job: Mapping[str, str], ask: Ask, key: str, vector: list[float]
    ) -> Answer:
        """Generate, or wait for whoever generates the same; `waited_s` begins anew when another one begins."""
        lease_s = float(self._decisions.ask("lease_s", self._settings.generation_deadline_s))
        holder, me = "", f"{self._settings.pod}/{name}/{uuid.uuid4().hex[:8]}"
        since = time.monotonic()
        while lease_s > 0:
            if await self._cache.take(key, me, lease_s):
                return await self._as_holder(job, ask, key, vector, me)
            present = await self._cache.holder(key)
            if present != holder:
                holder, since = present, time.monotonic()
            waited_s = time.monotonic() - since
            if self._decisions.ask("while_another_works", waited_s, lease_s) == GENERATE:
                break
            await asyncio.sleep(POLL_S)
            found = await self._cache.exact(key)
            if found is not None:
                return self._hit("waited", Answer.kept(found, "exact"))
        return await self._generated_and_kept(job, ask, key, vector)

    async def _as_holder(
        self, job: Mapping[str, str], ask: Ask, key: str, vector: list[float], me: str
    ) -> Answer:
        try:
            found = await self._cache.exact(key)  # stored between the last look and the lease
            if found is not None:
                return self._hit("waited", Answer.kept(found, "exact"))
            return await self._generated_and_kept(job, ask, key, vector)
        finally:
            with contextlib.suppress(StoreUnavailable):  # then it lapses by itself
                await asyncio.shield(self._cache.release(key, me))

    async def _generated_and_kept(
        self, job: Mapping[str, str], ask: Ask, key: str, vector: list[float]
    ) -> Answer:
        answer = self._hit("miss", await self._generated(job, ask))
        await self._cache.keep(ask, key, vector, answer.to_keep())
        return answer

    # -- Qdrant and vLLM ----------------------------------------------------------------------

    async def _generated(self, job: Mapping[str, str], ask: Ask) -> Answer:
        passages = await self._retrieved(ask) if ask.collection else []
        most = self._tokens(job)
        with self._tracing.span("assemble"):
            prompt, passages = await self._window(ask, passages, most)
            self._tracing.learned(prompt=prompt, contexts=[passage.text for passage in passages])
        with self._tracing.span("generate"):
            done = await self._completed(prompt, most, ask.model)
        return Answer(done.text, tuple(passage.id for passage in passages), ask.model, done.completion_tokens)

    async def _completed(self, prompt: list[Message], most: int, model: str) -> Completion:
        self._metrics.generations.inc()
        self._tracing.learned(model=model, max_tokens=most)
        asking = self._backends.complete(prompt, most, 1)
        done: Completion = await self._within(
            self._settings.generation_deadline_s, "vllm", self._metrics.generation, asking
        )
        self._tracing.learned(
            input_tokens=done.prompt_tokens,
            output_tokens=done.completion_tokens,
            finish_reason=done.finish_reason,
            answer=done.text,
        )
        return done

    async def _retrieved(self, ask: Ask) -> list[Passage]:
        vector = await self._embedded(ask.question)
        asking = self._backends.search(vector, self._settings.retrieval_chunks, 1)
        deadline_s = self._settings.retrieval_deadline_s
        with self._tracing.span("retrieve"):
            try:
                found: list[Passage] = await self._within(
                    deadline_s, "qdrant", self._metrics.retrieval, asking
                )
            except BackendFailed as failed:
                if failed.failure.kind != "nothing_found":
                    raise
                found = []
            self._tracing.learned(collection=ask.collection, chunk_ids=[passage.id for passage in found])
        return found

    async def _within(self, deadline_s: float, backend: str, told: Histogram, asking: Any) -> Any:
        """One call within its time, which is counted."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(deadline_s):
                return await asking
        except TimeoutError as error:
            failure = Failure("timed_out", backend)
            raise BackendFailed(f"{backend} took more than {deadline_s:g} s", failure) from error
        finally:
            told.observe(time.monotonic() - began)

    async def _window(
        self, ask: Ask, passages: list[Passage], most: int
    ) -> tuple[list[Message], list[Passage]]:
        """The messages to send: passages give way where the engine's context is too short for all."""
        system, context = self._systems[ask.prompt_version], self._backends.context_tokens
        while True:
            messages = prompts.messages(system, [], ask.question, passages)
            if not passages or not context or await self._fits(messages, context - most):
                return messages, passages
            passages = passages[:-1]

    async def _fits(self, messages: list[Message], room: int) -> bool:
        at_most = sum(len(message["content"].encode()) + TOKENS_A_MESSAGE for message in messages)
        if at_most <= room:  # a token is at least one byte
            return True
        try:
            return await self._backends.count_tokens(messages) <= room
        except BackendFailed:
            return False

    def _tokens(self, job: Mapping[str, str]) -> int:
        """Tokens for the answer: what was asked for, within the operator's bound and half of the engine's context."""
        asked = int(job.get("max_tokens") or 0) or DEFAULT_TOKENS
        bounds = (self._settings.max_output_tokens, self._backends.context_tokens // 2)
        return min([asked, *(bound for bound in bounds if bound)])

    async def _embedded(self, text: str) -> list[float]:
        (vector,) = await asyncio.to_thread(self._embedder.embed, [text])
        return vector
