"""Runs of the graph: who may begin one, who finishes it, and who only waits for its answer.

    admitted → leases taken → graph → leases given up, answer kept under its key

A run is a task of its own, not of the connection that asked for it. A caller with an idempotency key
may go and come back for the answer; without a key nobody could, so the run ends with its caller. Every
pod looks for threads whose lease has lapsed and goes on where their holder stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from helpers.apps.orchestrator import graph as graphs
from helpers.apps.orchestrator.admission import Admission
from helpers.apps.orchestrator.backends import Backends, sent
from helpers.apps.orchestrator.decisions import CLASSES, Message, Request
from helpers.apps.orchestrator.errors import (
    BackendFailed,
    Conflict,
    DeadlinePassed,
    NoAnswer,
    StateUnavailable,
    ThreadNotFound,
)
from helpers.apps.orchestrator.graph import Graph, Run
from helpers.apps.orchestrator.meter import HopTimedOut, Meter
from helpers.apps.orchestrator.metrics import Metrics
from helpers.apps.orchestrator.mounted import Decisions
from helpers.apps.orchestrator.settings import Settings
from helpers.apps.orchestrator.state import (
    Begun,
    Lease,
    Store,
    checkpoint_thread,
    digest,
    metered,
    state_failures,
)
from helpers.apps.orchestrator.tracing import OFF, Tracing

log = logging.getLogger("orchestrator")
POLL_S = 0.1
LOOK_S = 1.0
FIRST_LOOK_S = 2.0
LEARN_S = 30.0
MOST_TAKEN = 8


@dataclass(frozen=True)
class Ask:
    """One question as it came in, checked."""

    tenant: str
    question: str
    budget_class: str
    product: str
    prompt_version: str
    history: tuple[Message, ...] = ()
    thread_id: str = ""
    key: str = ""
    max_tokens: int = 0
    body_sha256: str = ""
    request_id: str = field(default_factory=lambda: f"req-{uuid.uuid4().hex}")


class Runs:
    """All runs of this pod."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        backends: Backends,
        graph: Graph,
        admission: Admission,
        decisions: Decisions,
        metrics: Metrics,
        tracing: Tracing = OFF,
    ) -> None:
        self._tracing = tracing
        self._settings, self._store, self._backends = settings, store, backends
        self._graph, self._admission, self._decisions, self._metrics = graph, admission, decisions, metrics
        self._compiled: Any = graph.compiled()
        self._mine: dict[str, tuple[Lease, asyncio.Task[Any]]] = {}
        self._resuming: set[asyncio.Task[Any]] = set()
        self._upkeep: list[asyncio.Task[Any]] = []
        self.state_problem = "Redis has not been asked yet"
        """Why Redis cannot be used at present; empty when it can."""
        self.is_draining = False

    # -- one question -------------------------------------------------------------------------

    async def answer(self, ask: Ask, on_piece: Callable[[str], None] | None = None) -> dict[str, Any]:
        """The whole answer to a question.

        Raises:
            NoAnswer: there is none, and why.
        """
        known = {"tenant": ask.tenant, "feature": ask.product, "request_id": ask.request_id}
        with self._tracing.run(version=self._settings.release, question=ask.question, **known):
            return await self._answered(ask, on_piece)

    async def _answered(self, ask: Ask, on_piece: Callable[[str], None] | None) -> dict[str, Any]:
        budget = CLASSES[ask.budget_class]
        meter = Meter(budget, self._decisions, self._metrics)
        with self._admission.enter(ask.tenant, ask.budget_class) as ticket:
            lease, record = self._lease(ask)
            self._tracing.learned(session=lease.thread_id)
            begun = await self._begin(ask, lease, record, meter)
            if isinstance(begun, dict):
                self._metrics.replayed.inc()
                return begun | {"replayed": True}
            goes_on = begun.outcome == "mine_again" and await self._stopped_at(lease)
            if goes_on:
                self._metrics.resumed.inc()
            given = None if goes_on else _input(ask, lease)
            if given:
                given["request"] |= (
                    self._tracing.headers()
                )  # another pod that finishes it goes on with the trace
            return await self._run(lease, Run(meter, ticket, on_piece), given)

    def _lease(self, ask: Ask) -> tuple[Lease, dict[str, Any]]:
        """The leases that this question needs. The same key asks in the same thread, when it names none."""
        key = ""
        if ask.key:
            request = Request(ask.tenant, ask.thread_id, ask.key, ask.question, ask.request_id)
            key = digest(self._decisions.ask("idempotency_key", request))
        thread = ask.thread_id or (f"t-{key[:24]}" if key else f"t-{uuid.uuid4().hex[:24]}")
        holder = f"{self._settings.pod}/{ask.request_id}"
        record = {
            "state": "running",
            "request_id": ask.request_id,
            "thread_id": thread,
            "body": ask.body_sha256,
        }
        return Lease(ask.tenant, thread, holder, key), record

    async def _begin(
        self, ask: Ask, lease: Lease, record: dict[str, Any], meter: Meter
    ) -> Begun | dict[str, Any]:
        """Wait for the leases; an answer, when somebody else has given it meanwhile.

        Raises:
            Conflict: the key stands for another body, or is in use, or the thread is, at the deadline.
        """
        while True:
            begun = await self._store.begin(lease, record)
            if begun.outcome.startswith("mine"):
                return begun
            if begun.outcome == "known":
                if begun.record["body"] != ask.body_sha256:
                    raise Conflict("this Idempotency-Key was used for another request")
                if begun.record["state"] == "done":
                    answer: dict[str, Any] = begun.record["answer"]
                    return answer
            if meter.left_ms <= 1000 * POLL_S:
                if begun.outcome == "busy":
                    raise Conflict(
                        "the thread is busy with another question", code="thread_busy", retry_after_s=2
                    )
                raise Conflict(
                    "the same request is under way: ask again", code="in_progress", retry_after_s=2
                )
            await asyncio.sleep(POLL_S)

    async def _stopped_at(self, lease: Lease) -> bool:
        """Whether the thread stopped in the middle of this very request, which then only goes on."""
        async with state_failures():
            snapshot = await self._compiled.aget_state(_config(lease.tenant, lease.thread_id))
        return bool(
            lease.key and snapshot.next and snapshot.values.get("request", {}).get("key") == lease.key
        )

    async def _run(self, lease: Lease, run: Run, given: dict[str, Any] | None) -> dict[str, Any]:
        """Run the graph under a lease that is held; whatever happens, the lease is given up or handed over."""
        task = asyncio.current_task()
        assert task is not None
        self._mine[lease.member] = lease, task
        graphs.running.set(run)
        metered.set(run.meter)
        sent.set(run.sent)
        try:
            async with self._admission.place(run.ticket, run.meter), state_failures():
                config = _config(lease.tenant, lease.thread_id)
                state = await self._compiled.ainvoke(given, config, durability=self._settings.durability)
                return await self._finish(lease, run, state)
        except HopTimedOut as error:
            await self._give_up(lease)
            raise DeadlinePassed(str(error)) from error
        except asyncio.CancelledError:
            await (self._hand_over(lease) if self.is_draining else self._give_up(lease))
            raise
        except BaseException:
            await self._give_up(lease)
            raise
        finally:
            self._mine.pop(lease.member, None)

    async def _finish(self, lease: Lease, run: Run, state: graphs.State) -> dict[str, Any]:
        """Keep the answer, then give it: in this order, so that what was answered is never lost."""
        request = state["request"]
        answer = _answer(lease, run, state)
        record = {
            "state": "done",
            "request_id": request["request_id"],
            "body": request["body"],
            "answer": answer,
        }
        is_fresh = not answer["degraded"]
        stored = (graphs.answer_name(request), {"answer": answer["answer"], "citations": answer["citations"]})
        if answer["degraded"]:
            self._tracing.learned(degraded=answer["degraded"]["kind"])
        with self._tracing.span("record"):
            await self._kept(lease, run, record, stored if is_fresh else None)
        usage, name = answer["usage"], run.meter.budget.name
        self._metrics.tokens.labels(name, "input").inc(usage["prompt_tokens"])
        self._metrics.tokens.labels(name, "output").inc(usage["completion_tokens"])
        return answer

    async def _kept(self, lease: Lease, run: Run, record: dict[str, Any], stored: Any) -> None:
        async with run.meter.hop("record"):
            if not await self._store.end(lease, record, stored=stored):
                raise Conflict("another pod took this thread over", code="lease_lost", retry_after_s=1)

    async def _give_up(self, lease: Lease) -> None:
        """Free the thread and the key; a lease that cannot be freed lapses by itself."""
        try:
            await asyncio.shield(self._store.end(lease))
        except StateUnavailable as error:
            log.warning("lease of %s not freed: %s", lease.member, error)

    async def _hand_over(self, lease: Lease) -> None:
        try:
            await asyncio.shield(self._store.hand_over(lease))
        except StateUnavailable as error:
            log.warning("%s not handed over: %s", lease.member, error)

    # -- threads ------------------------------------------------------------------------------

    async def thread(self, tenant: str, thread_id: str) -> dict[str, Any]:
        """A thread as it stands.

        Raises:
            ThreadNotFound: the tenant has none of this name.
        """
        snapshot = await self._snapshot(tenant, thread_id)
        runs = await self._store.is_running(tenant, thread_id)
        step = snapshot.next[0] if snapshot.next else "done"
        status = "running" if runs else ("done" if step == "done" else "interrupted")
        values = snapshot.values
        return {
            "thread_id": thread_id,
            "step": step,
            "status": status,
            "messages": values.get("messages", []),
            "citations": values.get("citations", []),
            "retrieved_chunk_ids": values.get("retrieved_chunk_ids", []),
        }

    async def resume(self, tenant: str, thread_id: str) -> dict[str, Any]:
        """Finish an interrupted thread.

        Raises:
            ThreadNotFound: the tenant has none of this name.
            Conflict: it runs, or there is nothing to finish.
        """
        snapshot = await self._snapshot(tenant, thread_id)
        if not snapshot.next:
            raise Conflict("the thread is finished", code="nothing_to_resume")
        lease = Lease(tenant, thread_id, f"{self._settings.pod}/resume-{uuid.uuid4().hex[:8]}")
        if not (await self._store.begin(lease, {})).outcome.startswith("mine"):
            raise Conflict("the thread is being answered", code="thread_busy", retry_after_s=2)
        return await self._resume(lease, snapshot)

    async def _snapshot(self, tenant: str, thread_id: str) -> Any:
        async with state_failures():
            snapshot = await self._compiled.aget_state(_config(tenant, thread_id))
        if "request" not in snapshot.values:
            raise ThreadNotFound(f"there is no thread {thread_id!r}")
        return snapshot

    async def _resume(self, lease: Lease, snapshot: Any) -> dict[str, Any]:
        """Go on from the last checkpoint, under a lease that is held, with the time of the class anew."""
        request = snapshot.values["request"]
        lease = Lease(lease.tenant, lease.thread_id, lease.holder, request["key"])
        record = {"state": "running", "request_id": request["request_id"], "thread_id": lease.thread_id}
        await self._store.hold_key(lease, record | {"body": request["body"]})
        meter = Meter(CLASSES[request["class"]], self._decisions, self._metrics)
        with self._admission.enter(lease.tenant, request["class"], unasked=True) as ticket:
            self._metrics.resumed.inc()
            log.info("thread %s goes on at %s", lease.member, "/".join(snapshot.next))
            known = {"tenant": lease.tenant, "feature": request["product"], "session": lease.thread_id}
            known |= {"request_id": request["request_id"], "question": request["question"]}
            with self._tracing.continued(request), self._tracing.run(version=self._settings.release, **known):
                return await self._run(lease, Run(meter, ticket), None)

    # -- upkeep -------------------------------------------------------------------------------

    async def start(self) -> None:
        """Look at Redis once, then begin to prolong leases, to look for lapsed ones, and to learn what vLLM serves."""
        with contextlib.suppress(StateUnavailable, TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await self._look()
        work = ((self._prolong, self._settings.idempotency_lease_s / 3), (self._look, LOOK_S))
        self._upkeep = [asyncio.create_task(every(seconds, step)) for step, seconds in work]
        self._upkeep.append(asyncio.create_task(self._learn()))

    async def _prolong(self) -> None:
        held = list(self._mine.values())
        if not held:
            return
        lost = await self._store.prolong([lease for lease, _ in held])
        for lease, task in held:
            if lease.member in lost and self._mine.get(lease.member, (None, None))[1] is task:
                log.warning("thread %s is another pod's now", lease.member)
                task.cancel()

    async def _look(self) -> None:
        """Whether Redis answers, and what lies there unfinished."""
        try:
            if self.state_problem:
                await self._store.prepare()
            await self._store.ping()
            self.state_problem = ""
            room = MOST_TAKEN - len(self._resuming)
            if room > 0 and not self.is_draining:
                holder = f"{self._settings.pod}/take-over-{uuid.uuid4().hex[:8]}"
                for lease in await self._store.take_over(holder, room):
                    task = asyncio.create_task(self._take_over(lease))
                    self._resuming.add(task)
                    task.add_done_callback(self._resuming.discard)
        except Exception as error:
            self.state_problem = str(error) or type(error).__name__
            raise

    async def _take_over(self, lease: Lease) -> None:
        try:
            snapshot = await self._snapshot(lease.tenant, lease.thread_id)
            if snapshot.next:
                await self._resume(lease, snapshot)
            else:
                await self._store.end(lease)
        except ThreadNotFound:
            await self._store.end(lease)  # its holder died before the first checkpoint: nothing was begun
        except NoAnswer as error:
            log.warning("thread %s could not be finished: %s", lease.member, error)

    async def _learn(self) -> None:
        while True:
            try:
                await self._backends.learn_model()
                await asyncio.sleep(LEARN_S)
            except BackendFailed:
                await asyncio.sleep(LOOK_S)

    async def drain(self, deadline_s: float) -> None:
        """Let what runs come to its end; what cannot in time is handed over to another pod."""
        self.is_draining = True
        until = time.monotonic() + deadline_s
        while self._mine and time.monotonic() < until:
            await asyncio.sleep(POLL_S)
        for _, task in list(self._mine.values()):
            task.cancel()
        while self._mine and time.monotonic() < until + 2:
            await asyncio.sleep(POLL_S)

    async def close(self) -> None:
        for task in self._upkeep:
            task.cancel()
        await self._backends.close()
        await self._store.close()


async def every(seconds: float, step: Callable[[], Any]) -> None:
    """Do something again and again; what Redis refuses now, it may take the next time."""
    while True:
        try:
            await step()
        except StateUnavailable as error:
            log.warning("%s", error)
        except Exception:
            log.exception("upkeep failed, and goes on")
        await asyncio.sleep(seconds)


def _config(tenant: str, thread_id: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": checkpoint_thread(tenant, thread_id)}}


def _input(ask: Ask, lease: Lease) -> dict[str, Any]:
    request = {
        "request_id": ask.request_id,
        "tenant": ask.tenant,
        "thread_id": lease.thread_id,
        "key": lease.key,
        "body": ask.body_sha256,
        "class": ask.budget_class,
        "product": ask.product,
        "prompt_version": ask.prompt_version,
        "question": ask.question,
        "max_tokens": ask.max_tokens,
    }
    asked: Message = {"role": "user", "content": ask.question}
    return {"request": request, "messages": [*ask.history, asked], "status": "running"}


def _answer(lease: Lease, run: Run, state: graphs.State) -> dict[str, Any]:
    request = state["request"]
    return {
        "id": request["request_id"],
        "thread_id": lease.thread_id,
        "answer": state["answer"],
        "citations": state.get("citations", []),
        "degraded": state.get("degraded"),
        "attempts": {"retrieval": run.sent["qdrant"], "generation": run.sent["vllm"]},
        "usage": state["usage"],
        "budget": run.meter.report(),
        "prompt_version": request["prompt_version"],
        "replayed": False,
    }
