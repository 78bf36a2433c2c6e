"""Traces from a real answer to a real Phoenix, through the Collector that is there.

The assistant is a process of this machine, so that it can be ended and its backends taken away. Its tenant is one
whose traces every configuration of lab 07's keeps, and errors are kept by all of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.cluster import Cluster
from helpers.cluster.view import ClusterView
from helpers.labs.lab07_gates.proof_state import functions_text
from helpers.stack import assistant, traces
from helpers.stack.bring_up import bring_up_for_orchestration, ensure_observability, load_images
from tests.contract.orchestrator_process import OrchestratorProcess
from tests.contract.redis_process import RedisProcess

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.stack]
SYSTEM, TENANT = "llm-system", "docs"
QUESTION = "Why does a quota refuse my pod?"
PATIENT = "def hop_deadline_ms(budget, hop, left_ms): return left_ms"
STORED_S = 60.0


@pytest.fixture(scope="module")
def addresses(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Where vLLM, Qdrant and the Collector are reached from here."""
    load_images("vllm", "model", "qdrant", "phoenix", "otel-collector")
    bring_up_for_orchestration(cluster, print)
    ensure_observability(cluster, print)
    with (
        cluster.port_forward(SYSTEM, "service/vllm", 8000) as vllm,
        cluster.port_forward(SYSTEM, "service/qdrant", 6333) as qdrant,
        cluster.port_forward(assistant.OBSERVABILITY, "service/otel-collector", 4318) as collector,
    ):
        yield {
            "VLLM_BASE_URL": f"{vllm.url}/v1",
            "QDRANT_BASE_URL": qdrant.url,
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        }


@pytest.fixture
def make(tmp_path: Path, addresses: dict[str, str]) -> Iterator[Callable[..., OrchestratorProcess]]:
    """Make services with lab 07's own decision; each ends with its test."""
    made: list[OrchestratorProcess] = []
    state = RedisProcess(tmp_path / "redis")
    state.start()

    def one(**environment: str) -> OrchestratorProcess:
        settings = addresses | {
            "REDIS_URL": state.url,
            "THREAD_TTL_MINUTES": "10",
            "CLIENT_MAX_RETRIES": "0",
            "DEFAULT_BUDGET_CLASS": "background",
            "RELEASE": "of-the-tests",
            "OTEL_SERVICE_NAME": "llm-assistant",
            "OTEL_RESOURCE_ATTRIBUTES": f"openinference.project.name={traces.PROJECT}",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        }
        made.append(OrchestratorProcess(tmp_path, f"pod-{len(made)}", **settings | environment))
        made[-1].decide("budget.py", PATIENT)
        made[-1].decide("trace.py", functions_text("trace.py"))
        made[-1].start()
        return made[-1]

    yield one
    for service in made:
        if service.process and service.process.poll() is None:
            service.kill()
    state.kill()


def ask(service: OrchestratorProcess) -> tuple[str, Any]:
    """One question as part of a caller's trace: that trace's id, and the answer."""
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    with service.client(timeout_s=200, tenant=TENANT) as client:
        answer = client.post("/v1/chat", json={"question": QUESTION, "max_tokens": 8}, headers=headers)
    return trace_id, answer


def stored(cluster: Cluster, trace_id: str) -> traces.Tree:
    """The trace with its root, which is sent last."""

    def whole(view: ClusterView) -> bool:
        found = traces.of_trace(view, trace_id)
        return found is not None and found.named(traces.ROOT) is not None

    cluster.wait_until(f"Phoenix holds the trace {trace_id}", whole, timeout_s=STORED_S)
    found = traces.of_trace(cluster.view(), trace_id)
    assert found is not None
    return found


def test_an_answer_s_tree_is_stored_as_it_was_sent(
    cluster: Cluster, make: Callable[..., OrchestratorProcess]
) -> None:
    trace_id, answer = ask(make())
    tree, body = stored(cluster, trace_id), answer.raise_for_status().json()
    root = tree.root
    assert root is not None and (root.name, root.parent_id) == ("chat", "00f067aa0ba902b7")
    assert root.attributes[traces.TENANT] == TENANT and root.attributes["session_id"] == body["thread_id"]
    assert [span.name for span in tree.under(root)] == ["retrieve", "assemble", "generate", "record"]
    retrieve, call = tree.named("retrieve"), tree.named("generate")
    assert retrieve is not None and call is not None
    assert (root.kind, retrieve.kind, call.kind) == ("AGENT", "RETRIEVER", "LLM")
    assert set(body["citations"]) <= set(retrieve.attributes["retrieval.ids"])
    used = (call.attributes[traces.INPUT], call.attributes[traces.OUTPUT])
    assert used == (body["usage"]["prompt_tokens"], body["usage"]["completion_tokens"])
    assert [event.name for event in call.events] == ["captured"] and not tree.failed


def test_a_backend_that_is_away_is_an_error_of_its_call_its_step_and_its_run(
    cluster: Cluster, make: Callable[..., OrchestratorProcess]
) -> None:
    trace_id, answer = ask(make(QDRANT_BASE_URL="http://127.0.0.1:9"))
    tree = stored(cluster, trace_id)
    assert answer.status_code == 503
    failed = [span for span in tree.spans if span.failed]
    assert {span.name for span in failed if not span.name.startswith("POST ")} == {"chat", "retrieve"}
    assert {span.attributes["error.type"] for span in failed if span.name == "retrieve"} == {"unreachable"}
    assert any(span.name.startswith("POST /collections/") for span in failed)


def test_a_pod_that_ends_sends_its_last_spans(
    cluster: Cluster, make: Callable[..., OrchestratorProcess]
) -> None:
    service = make(OTEL_BSP_SCHEDULE_DELAY="600000")
    trace_id, answer = ask(service)
    assert answer.status_code == 200 and service.process is not None
    service.process.terminate()
    assert service.process.wait(60) is not None
    assert stored(cluster, trace_id).root is not None
