"""The gateway on a live cluster: real Envoy, its rate limit service and Redis in front of the real orchestrator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from helpers.chaos import evidence
from helpers.chaos.experiment import recover, run
from helpers.chaos.front_faults import fault, refuse
from helpers.chaos.journal import published
from helpers.cluster import Cluster, ClusterView
from helpers.labs.registry import lab_ids
from helpers.stack import gateway, state

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.solved(*lab_ids(), shared=True)]
QUESTION = "Which errors should a client retry?"
# Short answers: what is counted is the point, not what is said.
SHORT = {"x-budget-class": "fast"}


@pytest.fixture(scope="module")
def keys(cluster: Cluster) -> dict[str, str]:
    return gateway.keys(cluster.view())


@pytest.fixture
def undone(cluster: Cluster) -> Iterator[None]:
    yield
    recover(cluster, force=True)
    # Without Redis a pod of it is not Ready: it looks again within some seconds.
    cluster.wait_ready("Deployment", "llm-orchestrator", "llm-apps", timeout_s=60)


def left(cluster: Cluster, key: str) -> int:
    found = gateway.left(cluster.view(), key).left
    assert found is not None
    return found


def restarts(cluster: Cluster) -> dict[str, int]:
    pods = [pod for namespace in ("llm-apps", gateway.NAMESPACE) for pod in cluster.view().pods(namespace)]
    return {str(pod.uid): sum(item.restarts for item in pod.container_states) for pod in pods}


@pytest.mark.parametrize("overlay", ["embedded", "gpu", "mig", "time-slicing"])
def test_every_overlay_is_accepted_by_the_api_server(cluster: Cluster, overlay: str) -> None:
    objects = [
        item
        for item in cluster.kustomize(gateway.MANIFESTS / "overlays" / overlay)
        if item["kind"] != "Namespace"
    ]
    # Under another name, so that the gateway that runs does not turn this into an edit of it.
    for item in objects:
        item["metadata"]["name"] = f"try-{item['metadata']['name']}"
    refused = {str(change): change.reason for change in cluster.diff(objects) if change.action == "refused"}
    assert refused == {}


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_costs_its_key_what_it_says(cluster: Cluster, keys: dict[str, str], stream: bool) -> None:
    for _ in range(2):
        before, others = left(cluster, keys["docs"]), left(cluster, keys["research"])
        answer = gateway.ask(cluster.view(), keys["docs"], QUESTION, stream=stream, headers=SHORT)
        after = left(cluster, keys["docs"])
        if after <= before:  # else the hour has turned meanwhile
            break
    assert answer.status == 200
    assert answer.tokens
    assert after == before - answer.tokens
    assert left(cluster, keys["research"]) == others, "each key has its own budget"


def test_a_tenant_cannot_be_claimed(cluster: Cluster, keys: dict[str, str]) -> None:
    claimed = {**SHORT, "x-tenant-id": "docs"}
    answer = gateway.ask(cluster.view(), keys["research"], QUESTION, headers=claimed)
    thread = f"/v1/threads/{answer.body['thread_id']}"
    assert gateway.request(cluster.view(), "GET", thread, keys["research"]).status == 200
    assert gateway.request(cluster.view(), "GET", thread, keys["docs"]).status == 404


def test_without_a_key_and_beside_the_routes_nothing_is_answered(
    cluster: Cluster, keys: dict[str, str]
) -> None:
    view = cluster.view()
    assert [gateway.ask(view, key, QUESTION).code for key in ("", "guessed")] == ["no_such_key"] * 2
    for path in ("/metrics", "/readyz", "/openapi.json", "/stats"):
        assert gateway.request(view, "GET", path, keys["docs"]).status == 404


def test_a_spent_budget_is_refused_with_the_time_to_come_back(cluster: Cluster, keys: dict[str, str]) -> None:
    for _ in range(6):
        answer = gateway.ask(cluster.view(), keys["trial"], QUESTION, headers=SHORT)
        if answer.status == 429:
            break
    assert (answer.status, answer.code, answer.left) == (429, "tokens_spent", 0)
    assert answer.retry_after_s == answer.body["error"]["retry_after_s"]


def test_the_administration_is_reached_by_nobody(cluster: Cluster) -> None:
    (pod,) = cluster.view().pods(gateway.NAMESPACE, labels=f"app={gateway.NAME}")
    command = ["curl", "-s", "-o", "/dev/null", "--noproxy", "*", "-m", "2", f"http://{pod.ip}:9901/"]
    assert not cluster.view().exec("llm-apps", "probe-app", command).ok


def test_while_nobody_counts_nobody_is_let_in_and_nothing_restarts(
    cluster: Cluster, keys: dict[str, str], undone: None
) -> None:
    before = restarts(cluster)

    def refused(view: ClusterView) -> bool:
        return gateway.ask(view, keys["docs"], QUESTION, headers=SHORT).code == "budget_unknown"

    def look() -> None:
        cluster.wait_until("the gateway refuses", refused, timeout_s=20)

    finished = run(cluster, replace(fault("stop-redis"), watch_s=8), during=look)
    assert finished.steady_after
    cluster.wait_until("the budget is back", lambda view: gateway.left(view, keys["docs"]).left, timeout_s=30)
    assert restarts(cluster) == before


def test_a_stalled_backend_is_felt_by_its_client_alone_and_its_pod_stays(
    cluster: Cluster, undone: None
) -> None:
    pod = cluster.view().pods("llm-system", labels="app=vllm")[0].uid
    finished = run(cluster, replace(fault("stall-vllm"), watch_s=8))
    record = published(cluster.view(), "stall-vllm")
    assert finished.steady_after
    assert evidence.main_symptom(record, "vllm") == "timeout"
    assert not evidence.failures(record, "retrieval")
    assert evidence.recovered(record, "inference")
    assert cluster.view().pods("llm-system", labels="app=vllm")[0].uid == pod


def test_a_share_of_refusals_is_that_share(cluster: Cluster, undone: None) -> None:
    some = refuse(fault("refuse-qdrant").backend, status=429, share=50)
    finished = run(cluster, replace(fault("refuse-qdrant"), plan=some, watch_s=10))
    record = published(cluster.view(), "refuse-qdrant")
    assert finished.steady_after
    seen = evidence.failures(record, "retrieval")
    assert set(seen) == {"HTTP 429"}
    assert 5 <= seen["HTTP 429"] <= 40, "of about 40 attempts in ten seconds"


def test_a_killed_orchestrator_is_started_again_in_its_pod(cluster: Cluster, undone: None) -> None:
    before = restarts(cluster)
    assert run(cluster, fault("kill-orchestrator")).steady_after
    after = restarts(cluster)
    assert set(after) == set(before), "no pod was replaced"
    assert sum(after.values()) == sum(before.values()) + 1


def test_redis_is_read_without_a_client_in_its_image(cluster: Cluster) -> None:
    store = state.read(cluster.view())
    assert store.append_only
    assert store.policy == "noeviction"
    assert store.named(state.BUDGETS), "the gateway counts here"
    assert all(key.ttl_s for key in store.named(state.BUDGETS))
