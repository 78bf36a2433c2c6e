"""A question's tree of spans: what hangs under what, what stands where, and what is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from helpers.apps.orchestrator.decisions import DecisionWrong, Failure, load
from helpers.apps.orchestrator.errors import BackendFailed, BadRequest, DeadlinePassed, Refused
from helpers.apps.orchestrator.mounted import Decisions
from helpers.apps.orchestrator.settings import Settings
from helpers.apps.orchestrator.tracing import OFF, Traced, failure_of, tracing

CALLER = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}
SAYS_ALL = """
def span_attributes(span, facts):
    found = {"generate": {"gen_ai.usage.input_tokens": facts.input_tokens}, "chat": {"tenant_id": facts.tenant}}
    return found.get(span, {})


def span_events(span, facts):
    return [("captured", {"contexts": facts.contexts})] if span == "generate" else []
"""


class Seen:
    """Tracing into memory, and what it has recorded."""

    def __init__(self, folder: Path, decision: str = "", **settings: Any) -> None:
        if decision:
            (folder / "trace.py").write_text(decision)
        self.exporter = InMemorySpanExporter()
        self.decisions = Decisions(folder)
        configured = Settings(otel_span_processor="simple", release="r7", **settings)
        self.tracing = Traced(configured, self.decisions, self.exporter)

    @property
    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self.exporter.get_finished_spans()}


@pytest.fixture(autouse=True)
def always_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_always_on")


def a_run(seen: Seen) -> None:
    with seen.tracing.continued(CALLER), seen.tracing.run(tenant="docs", version="r7", question="q"):
        search = seen.tracing.call("qdrant", "/collections/c/points/query")
        with seen.tracing.span("retrieve"), search:
            seen.tracing.learned(chunk_ids=["1"])
        with seen.tracing.span("generate"):
            seen.tracing.learned(input_tokens=7, contexts=["one", "two"])


def test_a_run_is_a_tree_that_goes_on_the_callers_trace(tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    a_run(seen)
    spans = seen.spans
    root = spans["chat"]
    assert {format(span.context.trace_id, "032x") for span in spans.values()} == {CALLER["traceparent"][3:35]}
    assert format(root.parent.span_id, "016x") == "00f067aa0ba902b7"
    parents = {name: span.parent.span_id for name, span in spans.items() if name != "chat"}
    assert parents == {
        "retrieve": root.context.span_id,
        "generate": root.context.span_id,
        "POST /collections/c/points/query": spans["retrieve"].context.span_id,
    }
    assert all(span.status.is_unset for span in spans.values())


def test_without_a_propagator_a_run_is_a_trace_of_its_own_and_names_itself_to_nobody(tmp_path: Path) -> None:
    seen = Seen(tmp_path, otel_propagators="none")
    a_run(seen)
    with seen.tracing.span("record"):
        assert seen.tracing.headers() == {}
    assert seen.spans["chat"].parent is None


def test_who_is_called_is_told_the_present_span(tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    with seen.tracing.run(tenant="docs"), seen.tracing.call("vllm", "/v1/chat/completions"):
        said = seen.tracing.headers()["traceparent"]
    assert said.split("-")[2] == format(seen.spans["POST /v1/chat/completions"].context.span_id, "016x")


def test_the_decision_says_what_stands_where(tmp_path: Path) -> None:
    seen = Seen(tmp_path, SAYS_ALL)
    a_run(seen)
    spans = seen.spans
    assert spans["chat"].attributes["tenant_id"] == "docs"
    assert spans["generate"].attributes["gen_ai.usage.input_tokens"] == 7
    assert "tenant_id" not in spans["generate"].attributes
    (event,) = spans["generate"].events
    assert (event.name, event.attributes["contexts"]) == ("captured", ("one", "two"))


def test_the_courses_own_decision_says_the_version_and_nothing_that_was_said(tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    a_run(seen)
    assert seen.spans["chat"].attributes["version"] == "r7"
    assert not any(span.events for span in seen.spans.values())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BackendFailed("silent", Failure("timed_out", "qdrant", 504)), "timed_out"),
        (DeadlinePassed("over"), "deadline"),
        (RuntimeError("a fault"), "RuntimeError"),
    ],
)
def test_a_failure_is_its_spans_status_and_its_words_an_event(
    tmp_path: Path, error: Exception, said: str
) -> None:
    seen = Seen(tmp_path)
    with pytest.raises(type(error)), seen.tracing.run(tenant="docs"), seen.tracing.span("retrieve"):
        raise error
    for span in seen.spans.values():
        assert (span.status.status_code.name, span.status.description) == ("ERROR", said)
        assert span.events[0].attributes["exception.message"] == str(error)


@pytest.mark.parametrize(
    "error",
    [
        BackendFailed("none", Failure("nothing_found", "qdrant")),
        Refused("Qdrant knows no passage", code="qdrant_nothing_found"),
        BadRequest("no"),
    ],
)
def test_an_empty_result_and_a_wrong_request_are_no_failures(error: Exception) -> None:
    assert failure_of(error) == ""


def test_a_call_has_its_backends_status(tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    with pytest.raises(BackendFailed), seen.tracing.call("vllm", "/v1/chat/completions"):
        raise BackendFailed("busy", Failure("overloaded", "vllm", 429))
    (span,) = seen.spans.values()
    assert span.attributes["http.response.status_code"] == 429


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("return {'a': None}", "returned None for 'a'"),
        ("return {'a': [1]}", "returned [1] for 'a'"),
        ("return [('a', 1)]", "not a dict of attributes"),
    ],
)
def test_attributes_of_another_kind_are_named(written: str, wrong: str) -> None:
    text = f"def span_attributes(span, facts):\n    {written}\ndef span_events(span, facts):\n    return []\n"
    with pytest.raises(DecisionWrong) as raised:
        load("trace.py", text.encode())
    assert wrong in str(raised.value)


@pytest.mark.parametrize("written", ["return ['a']", "return [('a', None)]", "return {'a': {}}"])
def test_events_of_another_shape_are_named(written: str) -> None:
    text = (
        f"def span_attributes(span, facts):\n    return {{}}\ndef span_events(span, facts):\n    {written}\n"
    )
    with pytest.raises(DecisionWrong):
        load("trace.py", text.encode())


def test_without_an_endpoint_nothing_is_traced(tmp_path: Path) -> None:
    off = tracing(Settings(), Decisions(tmp_path))
    assert off is OFF and off.headers() == {}
    with off.continued(CALLER), off.run(tenant="docs"), off.span("retrieve"), off.call("qdrant", "/"):
        off.learned(chunk_ids=[])
