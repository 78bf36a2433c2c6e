"""Traces: one tree of spans for each question, sent to a Collector.

    chat                      the run, from the door to the answer; goes on the caller's trace
    ├─ retrieve               └─ POST …/points/query    each call to a backend, which gets `traceparent`
    ├─ assemble
    ├─ generate               └─ POST /v1/chat/completions
    └─ record                 the answer is kept

OpenTelemetry is imported only where OTEL_EXPORTER_OTLP_ENDPOINT is set. Sampler, batches and the service's
name are the SDK's own variables (OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_SERVICE_NAME). What stands on the five
named spans is the decision `trace.py`: it is asked when a span ends, with all that the run knows by then.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from helpers.apps.orchestrator.decisions import SpanFacts
from helpers.apps.orchestrator.errors import BackendFailed, NoAnswer
from helpers.apps.orchestrator.mounted import Decisions
from helpers.apps.orchestrator.settings import Settings

log = logging.getLogger("orchestrator")
FLUSH_S = 3.0
ROOT = "chat"
# Phoenix draws a span by its kind: https://arize-ai.github.io/openinference/spec/semantic_conventions.html
KIND = "openinference.span.kind"
KINDS = {"chat": "AGENT", "retrieve": "RETRIEVER", "assemble": "CHAIN", "generate": "LLM", "record": "CHAIN"}
MOST_SAID = 300
# What a product that answers from documents alone says when there is none: a refusal, and no failure.
EMPTY = "qdrant_nothing_found"
_known: ContextVar[dict[str, Any] | None] = ContextVar("known", default=None)
"""What the run in hand has learned so far, for all its spans."""


class Tracing:
    """No tracing: nothing is recorded, sent or imported."""

    def continued(self, headers: Mapping[str, str]) -> AbstractContextManager[object]:
        """Go on with the trace that these headers name, for as long as the block lasts."""
        return nullcontext()

    def run(self, **facts: Any) -> AbstractContextManager[object]:
        """The root of a run's tree, and what is known from the beginning: fields of SpanFacts."""
        return nullcontext()

    def span(self, name: str) -> AbstractContextManager[object]:
        """One of the run's steps; a failure that leaves the block is the span's."""
        return nullcontext()

    def call(self, backend: str, path: str) -> AbstractContextManager[object]:
        """One HTTP request to a backend."""
        return nullcontext()

    def learned(self, **facts: Any) -> None:
        """What the run knows from now on: fields of SpanFacts."""

    def headers(self) -> dict[str, str]:
        """What names the present span to whoever is called."""
        return {}

    def close(self) -> None:
        """Send what is left, for a moment."""


OFF = Tracing()


def tracing(settings: Settings, decisions: Decisions) -> Tracing:
    """Tracing as it is configured."""
    return Traced(settings, decisions) if settings.otel_exporter_otlp_endpoint else OFF


def failure_of(error: BaseException) -> str:
    """What kind of failure this is; empty for what is none: an empty result, or a request that was wrong itself."""
    if isinstance(error, BackendFailed):
        return "" if error.failure.kind == "nothing_found" else error.failure.kind
    if isinstance(error, NoAnswer):
        return "" if error.status < 500 or error.code == EMPTY else error.code
    return type(error).__name__


class Traced(Tracing):
    """Spans by OpenTelemetry's SDK.

    Args:
        exporter: where they go; OTLP over HTTP to the endpoint in the environment, unless given.
    """

    def __init__(self, settings: Settings, decisions: Decisions, exporter: Any = None) -> None:
        from opentelemetry import context, trace
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        if exporter is None:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter()
        self._context, self._trace, self._decisions = context, trace, decisions
        about = {"service.version": settings.release, "service.instance.id": settings.pod}
        self._provider = TracerProvider(
            resource=Resource.create({name: said for name, said in about.items() if said}),
            shutdown_on_exit=False,
        )
        processor = SimpleSpanProcessor if settings.otel_span_processor == "simple" else BatchSpanProcessor
        self._provider.add_span_processor(processor(exporter))
        self._tracer = self._provider.get_tracer("llm-orchestrator")
        named = {name.strip() for name in settings.otel_propagators.split(",")}
        self._propagator = TraceContextTextMapPropagator() if "tracecontext" in named else None
        self._hosts = {
            "vllm": urlsplit(settings.vllm_base_url).hostname or "",
            "qdrant": urlsplit(settings.qdrant_base_url).hostname or "",
        }

    @contextmanager
    def continued(self, headers: Mapping[str, str]) -> Iterator[None]:
        if self._propagator is None:
            yield
            return
        token = self._context.attach(self._propagator.extract(dict(headers)))
        try:
            yield
        finally:
            self._context.detach(token)

    @contextmanager
    def run(self, **facts: Any) -> Iterator[None]:
        known = _known.set(dict(facts))
        try:
            with self._opened(ROOT, self._trace.SpanKind.SERVER):
                yield
        finally:
            _known.reset(known)

    def span(self, name: str) -> AbstractContextManager[object]:
        kind = self._trace.SpanKind.CLIENT if name == "generate" else self._trace.SpanKind.INTERNAL
        return self._opened(name, kind)

    @contextmanager
    def call(self, backend: str, path: str) -> Iterator[None]:
        about = {
            "http.request.method": "POST",
            "server.address": self._hosts[backend],
            "url.path": path,
        }
        with self._raw(f"POST {path}", self._trace.SpanKind.CLIENT, lambda span, error: None) as span:
            span.set_attributes(about)
            try:
                yield
                span.set_attribute("http.response.status_code", 200)
            except BackendFailed as failed:
                if failed.failure.status is not None:
                    span.set_attribute("http.response.status_code", failed.failure.status)
                raise

    def learned(self, **facts: Any) -> None:
        known = _known.get()
        if known is not None:
            known.update(facts)

    def headers(self) -> dict[str, str]:
        said: dict[str, str] = {}
        if self._propagator is not None:
            self._propagator.inject(said)
        return said

    def close(self) -> None:
        ending = threading.Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(FLUSH_S)

    # -- spans --------------------------------------------------------------------------------

    def _opened(self, name: str, kind: Any) -> AbstractContextManager[Any]:
        """A span of which `trace.py` says what stands on it."""
        return self._raw(name, kind, lambda span, error: self._decide(name, span, error))

    @contextmanager
    def _raw(self, name: str, kind: Any, decide: Callable[[Any, str], None]) -> Iterator[Any]:
        with self._tracer.start_as_current_span(
            name, kind=kind, record_exception=False, set_status_on_exception=False
        ) as span:
            failure = ""
            try:
                yield span
            except (Exception, asyncio.CancelledError) as error:
                failure = failure_of(error)
                if failure:
                    self._failed(span, failure, error)
                raise
            finally:
                if span.is_recording():
                    decide(span, failure)

    def _failed(self, span: Any, failure: str, error: BaseException) -> None:
        """The status says what kind of failure it is: no redaction reads it. The words are an event's."""
        span.set_status(self._trace.Status(self._trace.StatusCode.ERROR, failure))
        span.set_attribute("error.type", failure)
        said = {"exception.type": type(error).__name__, "exception.message": str(error)[:MOST_SAID]}
        span.add_event("exception", said)

    def _decide(self, name: str, span: Any, failure: str) -> None:
        trace_id = format(span.get_span_context().trace_id, "032x")
        facts = replace(SpanFacts(**(_known.get() or {})), trace_id=trace_id, error=failure)
        span.set_attribute(KIND, KINDS[name])
        span.set_attributes(self._decisions.ask("span_attributes", name, facts))
        for event, about in self._decisions.ask("span_events", name, facts):
            span.add_event(event, about)
