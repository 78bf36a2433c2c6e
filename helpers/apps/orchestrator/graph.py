"""What happens to one question: retrieve, assemble, generate, record.

LangGraph writes a checkpoint before the first node and after each. A pod that dies leaves the last
one, and another pod goes on after it. The state holds ids of passages, never their texts: those are
in Qdrant, and a conversation of ten turns would carry each of them ten times through Redis.
"""

from __future__ import annotations

import asyncio
import operator
import random
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict, TypeVar

from langgraph.graph import END, START, StateGraph

from helpers.apps.orchestrator import prompts
from helpers.apps.orchestrator.admission import Admission, Ticket
from helpers.apps.orchestrator.backends import BREAKS, Backends, Completion, Passage
from helpers.apps.orchestrator.circuit import Circuits
from helpers.apps.orchestrator.decisions import Degradation, Failure, Message
from helpers.apps.orchestrator.errors import BackendFailed, DeadlinePassed, NoAnswer, Refused
from helpers.apps.orchestrator.meter import HopTimedOut, Meter
from helpers.apps.orchestrator.metrics import Metrics
from helpers.apps.orchestrator.mounted import Decisions
from helpers.apps.orchestrator.state import Store, digest
from helpers.apps.orchestrator.tracing import OFF, Tracing
from helpers.stack.embeddings import Embedder

T = TypeVar("T")
RETRIEVAL_ATTEMPTS = 2
BACKOFF_S = 0.1
TOKENS_A_MESSAGE = 8  # more than any chat template adds


class State(TypedDict, total=False):
    """A thread, as it stands in Redis."""

    request: dict[str, Any]
    """The turn in hand: its ids, tenant, class, product, prompt version and question."""
    messages: Annotated[list[Message], operator.add]
    retrieved_chunk_ids: list[str]
    citations: list[str]
    generation_attempts: int
    budget_remaining_tokens: int
    usage: dict[str, int]
    degraded: dict[str, str] | None
    answer: str
    status: str


# What an earlier turn of the thread has left is none of this one's.
FRESH: State = {"retrieved_chunk_ids": [], "citations": [], "degraded": None, "answer": ""}


@dataclass
class Run:
    """What a run needs beside its state, and what is not kept."""

    meter: Meter
    ticket: Ticket
    on_piece: Callable[[str], None] | None = None
    sent: dict[str, int] = field(default_factory=lambda: {"qdrant": 0, "vllm": 0})
    prompt: list[Message] | None = None
    has_spoken: bool = False
    """Whether the caller has had a piece of the answer: then it cannot be begun anew."""

    def speaker(self) -> Callable[[str], None] | None:
        """What the pieces of a streamed answer are told to."""
        if self.on_piece is None:
            return None
        tell = self.on_piece

        def speak(piece: str) -> None:
            self.has_spoken = True
            tell(piece)

        return speak


running: ContextVar[Run] = ContextVar("running")


class Graph:
    """The four nodes, and what they share."""

    def __init__(
        self,
        *,
        backends: Backends,
        store: Store,
        embedder: Embedder,
        decisions: Decisions,
        circuits: Circuits,
        admission: Admission,
        metrics: Metrics,
        systems: dict[str, str],
        retrieves: bool = True,
        tracing: Tracing = OFF,
        collection: str = "",
    ) -> None:
        self._backends, self._store, self._embedder = backends, store, embedder
        self._decisions, self._circuits, self._admission, self._metrics = (
            decisions,
            circuits,
            admission,
            metrics,
        )
        self._systems, self._retrieves = systems, retrieves
        self._tracing, self._collection = tracing, collection

    def compiled(self) -> Any:
        """The graph with Redis behind it."""
        graph = StateGraph(State)
        for name in ("retrieve", "assemble", "generate", "record"):
            graph.add_node(name, getattr(self, name))
        graph.add_edge(START, "retrieve")
        graph.add_conditional_edges("retrieve", _is_answered, {True: "record", False: "assemble"})
        graph.add_edge("assemble", "generate")
        graph.add_edge("generate", "record")
        graph.add_edge("record", END)
        return graph.compile(checkpointer=self._store.checkpoints)

    # -- nodes --------------------------------------------------------------------------------

    async def retrieve(self, state: State) -> State:
        """Find the passages, or do what the product does without."""
        run, request = running.get(), state["request"]
        if not self._retrieves:
            return FRESH
        try:
            with self._tracing.span("retrieve"):
                found = await self._search(run, request["question"])
                ids = [passage.id for passage in found]
                self._tracing.learned(collection=self._collection, chunk_ids=ids)
        except BackendFailed as failed:
            return FRESH | await self._without(failed, request)
        return FRESH | {"retrieved_chunk_ids": ids}

    async def assemble(self, state: State) -> State:
        """Choose what goes into the window; what is chosen is named by ids."""
        run = running.get()
        with self._tracing.span("assemble"):
            async with run.meter.hop("assemble"):
                run.prompt, passages = await self._window(run, state)
            self._tracing.learned(prompt=run.prompt, contexts=[passage.text for passage in passages])
        left = run.meter.budget.input_tokens - _at_most(run.prompt)
        return {"citations": [passage.id for passage in passages], "budget_remaining_tokens": max(0, left)}

    async def generate(self, state: State) -> State:
        """Ask vLLM, within the hop's time and the class's attempts."""
        run, request = running.get(), state["request"]
        prompt = run.prompt or (await self._window(run, state))[0]
        try:
            with self._tracing.span("generate"):
                done = await self._told(run, request, prompt)
        except BackendFailed as failed:
            return await self._without(failed, request)
        usage = {"prompt_tokens": done.prompt_tokens, "completion_tokens": done.completion_tokens}
        usage["total_tokens"] = sum(usage.values())
        return {"answer": done.text, "usage": usage, "generation_attempts": run.sent["vllm"]}

    async def record(self, state: State) -> State:
        """The answer becomes part of the conversation."""
        return {"messages": [{"role": "assistant", "content": state["answer"]}], "status": "done"}

    # -- backends -----------------------------------------------------------------------------

    async def _search(self, run: Run, question: str) -> list[Passage]:
        async with self._admission.retrieval(run.ticket):
            return await self._in_hop(run, "retrieve", "qdrant", lambda: self._nearest(run, question))

    async def _nearest(self, run: Run, question: str) -> list[Passage]:
        (vector,) = await asyncio.to_thread(self._embedder.embed, [question])

        async def search(attempt: int) -> list[Passage]:
            return await self._backends.search(vector, run.meter.budget.chunks, attempt)

        return await self._call("qdrant", RETRIEVAL_ATTEMPTS, search)

    async def _told(self, run: Run, request: dict[str, Any], prompt: list[Message]) -> Completion:
        """The completion, of which the trace learns before its span ends."""
        self._tracing.learned(
            prompt=prompt, model=self._backends.model, max_tokens=self._output_tokens(request)
        )
        done = await self._complete(run, request, prompt)
        self._tracing.learned(
            model=self._backends.model,
            input_tokens=done.prompt_tokens,
            output_tokens=done.completion_tokens,
            finish_reason=done.finish_reason,
            answer=done.text,
        )
        return done

    async def _complete(self, run: Run, request: dict[str, Any], prompt: list[Message]) -> Completion:
        async def complete(attempt: int) -> Completion:
            most = self._output_tokens(request)
            return await self._backends.complete(prompt, most, attempt, run.speaker())

        attempts = run.meter.budget.generation_attempts
        return await self._in_hop(run, "generate", "vllm", lambda: self._call("vllm", attempts, complete))

    async def _in_hop(self, run: Run, hop: str, backend: str, work: Callable[[], Awaitable[T]]) -> T:
        """A hop whose time is up has failed as a call does that nobody answers."""
        try:
            async with run.meter.hop(hop):
                return await work()
        except HopTimedOut as error:
            self._circuits.outcome(backend, False)
            raise BackendFailed(str(error), Failure("timed_out", backend)) from error

    async def _call(self, backend: str, most: int, ask: Callable[[int], Awaitable[T]]) -> T:
        """Ask a backend, and again where the decision says that it is worth it."""
        attempt = 1
        while True:
            try:
                return await self._once(backend, ask, attempt)
            except BackendFailed as failed:
                may = (
                    attempt < most and failed.failure.kind != "circuit_open" and not running.get().has_spoken
                )
                if not may or not self._decisions.ask("worth_a_retry", failed.failure):
                    raise
            self._metrics.retries.labels(backend).inc()
            await asyncio.sleep(random.uniform(0, BACKOFF_S * 2**attempt))
            attempt += 1

    async def _once(self, backend: str, ask: Callable[[int], Awaitable[T]], attempt: int) -> T:
        if wait_s := self._circuits.wait_s(backend):
            raise BackendFailed(
                f"the circuit of {backend} is open: it is asked again in {wait_s:.0f} s",
                Failure("circuit_open", backend, None, attempt),
            )
        ok: bool | None = None
        try:
            answer = await ask(attempt)
            ok = True
            return answer
        except BackendFailed as failed:
            ok = failed.failure.kind not in BREAKS
            raise
        finally:  # cancelled: either the caller left, or the hop's time is up, which `_in_hop` counts
            self._circuits.outcome(backend, ok)

    # -- the window ---------------------------------------------------------------------------

    async def _window(self, run: Run, state: State) -> tuple[list[Message], list[Passage]]:
        """The messages to send, and the passages among them: documents give way before turns do."""
        request = state["request"]
        room = self._room(run, self._output_tokens(request))
        passages = await self._passages(state)
        system = self._system(request, state.get("degraded"))
        history, question = state["messages"][:-1], request["question"]
        while passages and _at_most(prompts.messages(system, [], question, passages)) > room:
            if await self._count(prompts.messages(system, [], question, passages)) <= room:
                break
            passages = passages[:-1]
        messages = prompts.messages(system, history, question, passages)
        if _at_most(messages) > room:  # what fits by the coarsest measure is not counted
            messages = await self._trimmed(messages, room)
        return messages, passages

    async def _passages(self, state: State) -> list[Passage]:
        ids = state.get("citations") or state.get("retrieved_chunk_ids") or []
        try:
            return await self._backends.passages(ids)
        except BackendFailed:
            return []

    def _room(self, run: Run, output_tokens: int) -> int:
        """Tokens for the prompt: what the class grants, and what the engine's context leaves."""
        granted, context = run.meter.budget.input_tokens, self._backends.context_tokens
        return min(granted, context - output_tokens) if context else granted

    def _output_tokens(self, request: dict[str, Any]) -> int:
        """Tokens for the answer: what was asked for, and never more than half of the engine's context."""
        most: int = request["max_tokens"]
        context = self._backends.context_tokens
        return min(most, context // 2) if context else most

    async def _count(self, messages: list[Message]) -> int:
        try:
            return await self._backends.count_tokens(messages)
        except BackendFailed:
            return _at_most(messages)

    async def _trimmed(self, messages: list[Message], room: int) -> list[Message]:
        """The decision `trim`, in a thread: its `count` asks the engine and waits for the answer."""
        loop = asyncio.get_running_loop()

        def count(some: list[Message]) -> int:
            return asyncio.run_coroutine_threadsafe(self._count(some), loop).result()

        trimmed: list[Message] = await asyncio.to_thread(self._decisions.ask, "trim", messages, room, count)
        return trimmed

    def _system(self, request: dict[str, Any], degraded: dict[str, str] | None) -> str:
        system = self._systems[request["prompt_version"]]
        return prompts.degraded(system) if degraded else system

    # -- without a backend --------------------------------------------------------------------

    async def _without(self, failed: BackendFailed, request: dict[str, Any]) -> State:
        """What the product does instead.

        Raises:
            NoAnswer: it refuses, or what should stand in is not there.
        """
        failure = failed.failure
        chosen: Degradation = self._decisions.ask("degrade", failure, request["product"])
        kind = chosen.kind
        if failure.backend == "vllm" and kind in ("general_answer", "continue"):
            kind = "refuse"  # without an engine there is nothing to go on with
        stored = await self._store.stored_answer(answer_name(request)) if kind == "stored_answer" else None
        if kind == "refuse" or (kind == "stored_answer" and stored is None):
            self._metrics.fallbacks.labels("refuse").inc()
            raise _refusal(failed, self._circuits)
        self._metrics.fallbacks.labels(kind).inc()
        degraded = {"reason": failure.kind, "kind": kind, "label": chosen.label} if chosen.label else None
        if stored is None:
            return {"degraded": degraded}
        return {
            "answer": stored["answer"],
            "citations": stored["citations"],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
            "degraded": degraded,
        }


def answer_name(request: dict[str, Any]) -> str:
    """Under what an answer is kept for the same question of the same tenant."""
    return digest(
        "\n".join((request["tenant"], request["prompt_version"], request["question"].strip().lower()))
    )


def _is_answered(state: State) -> bool:
    return bool(state.get("answer"))


def _at_most(messages: Sequence[Message]) -> int:
    """An upper bound of a prompt's tokens: a token is at least one byte."""
    return sum(len(message["content"].encode()) + TOKENS_A_MESSAGE for message in messages)


def _refusal(failed: BackendFailed, circuits: Circuits) -> NoAnswer:
    failure = failed.failure
    if failure.kind == "circuit_open":
        return Refused(str(failed), code="circuit_open", retry_after_s=circuits.open_s)
    if failure.kind == "timed_out" and failure.backend == "vllm":
        return DeadlinePassed(str(failed))
    if failure.kind == "context_exceeded":
        return Refused(str(failed), code="context_exceeded")
    return Refused(str(failed), code=f"{failure.backend}_{failure.kind}", retry_after_s=5)
