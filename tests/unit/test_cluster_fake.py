"""The fake's own hands: what controllers, kubelets and services do is put there by the test."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from helpers.cluster import ExecResult, Profile, Scope
from helpers.cluster.fake import FakeCluster
from helpers.cluster.faults import Response
from helpers.errors import ClusterUnreachable, ObjectMissing, ProbeInconclusive, Refused, ServerFault

NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}}


@pytest.fixture
def fake() -> FakeCluster:
    return FakeCluster(NAMESPACE)


def quota(**hard: str) -> dict[str, Any]:
    metadata = {"name": "llm-system-quota", "namespace": "llm-system"}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


def test_it_starts_as_the_embedded_cluster_does(fake: FakeCluster) -> None:
    (node,) = fake.view().nodes()
    assert (node.name, node.is_ready, node.allocatable("nvidia.com/gpu")) == ("substrate", True, 1)
    assert (fake.profile().name, fake.profile().gpu) == ("embedded", "simulated")
    assert fake.profile().storage_class == "fast-nvme"


def test_a_profile_of_the_test_s_own_is_read_from_the_cluster() -> None:
    assert FakeCluster(profile=Profile(name="generic", gpu="real")).identity().gpu == "real"


def test_two_fakes_are_two_clusters() -> None:
    assert FakeCluster().identity().uid != FakeCluster().identity().uid


def test_a_put_object_keeps_its_status_and_counts(fake: FakeCluster) -> None:
    fake.apply(quota(pods="2"))
    fake.add_pod("vllm-0", "llm-system", labels={"app": "vllm"})
    (pod,) = fake.view().pods("llm-system", labels="app=vllm")
    assert pod.is_ready and pod.phase == "Running"
    assert fake.view().resource_quota().used("pods") == 1


def test_a_finished_pod_counts_no_more(fake: FakeCluster) -> None:
    fake.apply(quota(pods="2"))
    fake.add_pod("job", "llm-system", phase="Succeeded")
    assert fake.view().resource_quota().used("pods") == 0


def test_what_the_kubelet_puts_is_not_asked_of_admission(fake: FakeCluster) -> None:
    fake.apply(quota(pods="0"))
    assert fake.add_pod("static", "llm-system").name == "static"


def test_a_status_is_replaced_and_the_rest_stays(fake: FakeCluster) -> None:
    fake.add_pod("a", "llm-system", labels={"app": "a"})
    before = fake.view().pod("a", "llm-system")
    fake.set_status("Pod", "a", {"phase": "Failed"}, "llm-system")
    after = fake.view().pod("a", "llm-system")
    assert (after.phase, after.labels, after.uid) == ("Failed", {"app": "a"}, before.uid)
    assert after.resource_version != before.resource_version


def test_what_is_read_cannot_reach_into_the_store(fake: FakeCluster) -> None:
    fake.view().namespace("llm-system").labels["hacked"] = "yes"
    assert "hacked" not in fake.view().namespace("llm-system").labels


def test_events_come_in_order_and_with_their_count(fake: FakeCluster) -> None:
    fake.add_event("llm-system", ("Pod", "a"), "FailedScheduling", "0/1 nodes", count=3)
    (event,) = fake.view().events("llm-system", involved=("Pod", "a"))
    assert str(event) == "Warning FailedScheduling on Pod a: 0/1 nodes (x3)"


def test_commands_are_answered_by_the_newest_fitting_answer(fake: FakeCluster) -> None:
    fake.add_pod("probe-1", "llm-system")
    fake.answer_exec("llm-system", "probe-.*", "curl", ExecResult(7, "", "refused"))
    fake.answer_exec(
        "llm-system", "probe-1", "curl .*vllm", lambda command, stdin: ExecResult(0, command[-1], "")
    )
    assert fake.exec("llm-system", "probe-1", ["curl", "http://vllm"]).stdout == "http://vllm"
    assert fake.exec("llm-system", "probe-1", ["curl", "http://qdrant"]).exit_code == 7
    with pytest.raises(ProbeInconclusive, match="has no answer to 'ls'"):
        fake.exec("llm-system", "probe-1", ["ls"])


def test_a_handler_answers_the_rest_and_only_in_pods_that_exist(fake: FakeCluster) -> None:
    fake.exec_handler = lambda namespace, pod, command, stdin: ExecResult(0, f"{namespace}/{pod}", "")
    with pytest.raises(ObjectMissing):
        fake.exec("llm-system", "nobody", ["ls"])
    fake.add_pod("a", "llm-system")
    assert fake.exec("llm-system", "a", ["ls"]).stdout == "llm-system/a"


def test_services_are_answered_by_the_test(fake: FakeCluster) -> None:
    metadata = {"name": "vllm", "namespace": "llm-system"}
    fake.apply(
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 8000}]}}
    )
    fake.serve("llm-system", "vllm", 8000, lambda method, path, json: (200, f"{method} {path} {json}"))
    answer = fake.view().http("llm-system", "vllm", 8000, "/v1/models", method="POST", json={"a": 1})
    assert (answer.ok, answer.body) == (True, "POST /v1/models {'a': 1}")
    assert fake.view().http("llm-system", "vllm", 8001, "/").from_service is False


def test_logs_are_per_container_and_per_life(fake: FakeCluster) -> None:
    fake.add_pod("a", "llm-system")
    fake.set_log("llm-system", "a", "one\ntwo\n")
    fake.set_log("llm-system", "a", "crashed\n", previous=True)
    assert fake.logs("llm-system", "a", tail_lines=1) == "two\n"
    assert fake.logs("llm-system", "a", previous=True) == "crashed\n"


def test_a_cluster_can_be_away_or_broken_and_come_back(fake: FakeCluster) -> None:
    fake.go_down()
    with pytest.raises(ClusterUnreachable):
        fake.view().nodes()
    fake.fail_with(lambda method, path: Response(500, b"oops") if path.endswith("/nodes") else None)
    with pytest.raises(ServerFault):
        fake.view().nodes()
    assert fake.view().namespace("llm-system").name == "llm-system"
    fake.fail_with(None)
    assert fake.view().nodes()


def test_kinds_can_be_added_as_definitions_do(fake: FakeCluster) -> None:
    fake.serve_kind("InferencePool", "inference.networking.k8s.io", "v1", "inferencepools")
    fake.apply(
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": {"name": "pool", "namespace": "llm-system"},
            "spec": {"targetPorts": [{"number": 8000}]},
        }
    )
    assert fake.view().get("InferencePool", "pool", "llm-system").path("spec.targetPorts.0.number") == 8000


def test_an_owner_takes_what_it_owns_along(fake: FakeCluster) -> None:
    owner = fake.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "o", "namespace": "llm-system"}}
    )
    reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": owner[0].resource.uid}
    metadata = {"name": "owned", "namespace": "llm-system", "ownerReferences": [reference]}
    fake.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    fake.delete("ConfigMap", "o", "llm-system")
    assert fake.view().find("ConfigMap", "owned", "llm-system") is None


def test_a_bad_quantity_is_refused_as_such(fake: FakeCluster) -> None:
    with pytest.raises(Exception, match="is not a Kubernetes quantity"):
        fake.apply(quota(pods="many"))


def test_an_outdated_update_is_a_conflict(fake: FakeCluster) -> None:
    found = fake.view().namespace("llm-system").raw
    fake.patch("Namespace", "llm-system", {"metadata": {"labels": {"a": "b"}}})
    response = fake.backend.request("PUT", "/api/v1/namespaces/llm-system", body=found)
    assert response.status == 409


def test_eviction_and_cordon_do_what_kubectl_does(fake: FakeCluster) -> None:
    fake.add_pod("a", "llm-system")
    fake.evict("a", "llm-system")
    assert fake.view().find("Pod", "a", "llm-system") is None
    fake.cordon("substrate")
    assert fake.view().nodes()[0].path("spec.unschedulable") is True
    fake.cordon("substrate", unschedulable=False)
    assert fake.view().nodes()[0].path("spec.unschedulable") is None


def test_a_scope_reaches_every_hand() -> None:
    fake = FakeCluster(NAMESPACE, scope=Scope("ada"))
    fake.add_pod("a", "llm-system")
    fake.set_log("llm-system", "a", "text")
    fake.answer_exec("llm-system", "a", "ls", ExecResult(0, "files", ""))
    fake.add_event("llm-system", ("Pod", "a"), "Pulled", "ok")
    assert fake.view().pod("a", "llm-system").namespace == "llm-system-ada"
    assert fake.logs("llm-system", "a") == "text"
    assert fake.exec("llm-system", "a", ["ls"]).stdout == "files"
    assert len(fake.view().events("llm-system", involved=("Pod", "a"))) == 1


def test_many_threads_may_use_it(fake: FakeCluster) -> None:
    problems: list[BaseException] = []

    def work(number: int) -> None:
        metadata = {"name": f"c{number}", "namespace": "llm-system"}
        try:
            for value in range(20):
                fake.apply(
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"v": str(value)}}
                )
                fake.view().dry_run(
                    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {**metadata, "name": "x"}}
                )
                fake.view().list("ConfigMap", "llm-system")
        except (Refused, ObjectMissing, AssertionError) as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert sorted(item.name for item in fake.view().list("ConfigMap", "llm-system")) == [
        f"c{n}" for n in range(8)
    ]
