"""What checks may rely on, of any cluster: the fake must answer as the real API server does."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.cluster import Cluster, Scope
from helpers.errors import InvalidManifest, ObjectMissing, Refused

HARD = {
    "requests.nvidia.com/gpu": "1",
    "requests.cpu": "4",
    "requests.memory": "32Gi",
    "limits.cpu": "12",
    "limits.memory": "96Gi",
    "requests.storage": "400Gi",
    "persistentvolumeclaims": "4",
    "pods": "8",
}


def config_map(namespace: str, name: str = "settings", **data: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def quota(namespace: str, hard: dict[str, str], name: str = "llm-system-quota") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}


def container(name: str = "main", **resources: dict[str, str]) -> dict[str, Any]:
    return {"name": name, "image": "registry.k8s.io/pause:3.10.2", "resources": resources}


def pod(
    namespace: str,
    *containers: dict[str, Any],
    name: str = "probe",
    labels: dict[str, str] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"containers": list(containers) or [container()], "nodeSelector": {"no": "node"}, **spec},
    }


def claim(namespace: str, size: str, name: str = "cache") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "no-such-class",
            "resources": {"requests": {"storage": size}},
        },
    }


def deployment(namespace: str, *, replicas: int = 0, image: str = "one") -> dict[str, Any]:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "web", "image": image}]},
            },
        },
    }


# Reading


def test_a_missing_object_is_missing_and_not_an_error_of_the_cluster(
    any_cluster: Cluster, space: str
) -> None:
    view = any_cluster.view()
    assert view.find("ConfigMap", "settings", space) is None
    with pytest.raises(ObjectMissing, match=f"no ConfigMap named settings in namespace {space}"):
        view.get("ConfigMap", "settings", space)


def test_an_object_read_carries_what_evidence_needs(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(config_map(space, mode="demo"))
    found = any_cluster.view().config_map("settings", space)
    evidence = found.evidence("seen")
    assert found.data == {"mode": "demo"}
    assert (evidence.kind, evidence.name, evidence.namespace) == ("ConfigMap", "settings", space)
    assert evidence.uid and evidence.resource_version and evidence.observed_at


def test_a_listed_object_knows_its_kind_as_one_that_was_read_alone_does(
    any_cluster: Cluster, space: str
) -> None:
    any_cluster.apply(config_map(space))
    listed = [item for item in any_cluster.view().list("ConfigMap", space) if item.name == "settings"]
    assert [(item.kind, item.api_version) for item in listed] == [("ConfigMap", "v1")]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=vllm", ["a"]),
        ("app==vllm", ["a"]),
        ("app!=vllm", ["b", "c"]),
        ("app in (vllm, qdrant)", ["a", "b"]),
        ("app notin (vllm)", ["b", "c"]),
        ("app", ["a", "b"]),
        ("!app", ["c"]),
        ("app,tier=back", ["b"]),
        ("kubedojo.dev/role=llm-apps", ["c"]),
        ("app=nothing", []),
    ],
)
def test_label_selectors(any_cluster: Cluster, space: str, selector: str, expected: list[str]) -> None:
    labels = {
        "a": {"app": "vllm", "test": "yes"},
        "b": {"app": "qdrant", "tier": "back", "test": "yes"},
        "c": {"kubedojo.dev/role": "llm-apps", "test": "yes"},
    }
    for name, values in labels.items():
        item = config_map(space, name)
        item["metadata"]["labels"] = values
        any_cluster.apply(item)
    found = any_cluster.view().list("ConfigMap", space, labels=f"test=yes,{selector}")
    assert sorted(item.name for item in found) == expected


def test_events_are_found_by_what_they_are_about(any_cluster: Cluster, space: str) -> None:
    for name, reason in (("one", "FailedScheduling"), ("one", "Pulled"), ("two", "FailedScheduling")):
        any_cluster.apply(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{name}.{reason.lower()}", "namespace": space},
                "involvedObject": {"kind": "Pod", "name": name, "namespace": space},
                "reason": reason,
                "message": f"about {name}",
                "type": "Warning",
            }
        )
    found = any_cluster.view().events(space, involved=("Pod", "one"), reason="FailedScheduling")
    assert [(event.involved, event.message) for event in found] == [(("Pod", "one"), "about one")]
    assert len(any_cluster.view().events(space, involved=("Pod", "one"))) == 2


def test_a_list_needs_a_namespace_or_the_wish_for_all(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(config_map(space))
    with pytest.raises(ValueError, match="all_namespaces"):
        any_cluster.view().list("ConfigMap")
    everywhere = any_cluster.view().list("ConfigMap", all_namespaces=True)
    assert (space, "settings") in {(item.namespace, item.name) for item in everywhere}


def test_an_unknown_kind_is_a_wrong_manifest(any_cluster: Cluster) -> None:
    with pytest.raises(InvalidManifest, match=r"does not serve example\.org/v1 Gadget"):
        any_cluster.apply({"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "x"}})


def test_the_identity_names_the_cluster(any_cluster: Cluster) -> None:
    identity = any_cluster.identity()
    assert identity == any_cluster.identity()
    assert identity.uid and identity.server_version.startswith("v1.")
    assert identity.gpu in ("real", "simulated", "none")


def test_the_values_of_a_secret_stay_where_they_are(any_cluster: Cluster, space: str) -> None:
    metadata = {"name": "huggingface-token", "namespace": space}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": "hf_x"}}
    any_cluster.apply(secret)
    assert any_cluster.view().secret_keys("huggingface-token", space) == ("token",)
    secret["stringData"] = {"token": "hf_y"}
    (change,) = any_cluster.diff(secret)
    assert "hf_" not in str(change)


def test_a_service_without_pods_is_answered_for_by_the_api_server(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "vllm", "namespace": space},
            "spec": {"selector": {"app": "vllm"}, "ports": [{"port": 8000}]},
        }
    )
    answer = any_cluster.view().http(space, "vllm", 8000, "/health")
    assert (answer.status, answer.from_service, answer.ok) == (503, False, False)
    with pytest.raises(ObjectMissing):
        any_cluster.view().http(space, "nobody", 8000, "/health")


# Applying


def test_apply_says_what_it_did(any_cluster: Cluster, space: str) -> None:
    def actions(**data: str) -> list[str]:
        return [applied.action for applied in any_cluster.apply(config_map(space, **data))]

    assert actions(a="1") == ["created"]
    assert actions(a="1") == ["unchanged"]
    assert actions(a="2") == ["changed"]


def test_applying_the_same_again_leaves_the_resource_version(any_cluster: Cluster, space: str) -> None:
    first = any_cluster.apply(deployment(space))[0].resource
    second = any_cluster.apply(deployment(space))[0].resource
    assert first.path("metadata.generation") == second.path("metadata.generation") == 1


def test_a_field_that_the_manifest_no_longer_has_goes(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(config_map(space, kept="1", dropped="2"))
    any_cluster.apply(config_map(space, kept="1"))
    assert any_cluster.view().config_map("settings", space).data == {"kept": "1"}


def test_a_field_of_another_manager_stays(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(config_map(space, ours="1"))
    any_cluster.apply(config_map(space, theirs="2"), field_manager="someone")
    any_cluster.apply(config_map(space, ours="3"))
    assert any_cluster.view().config_map("settings", space).data == {"ours": "3", "theirs": "2"}


def test_a_container_dropped_from_the_manifest_goes(any_cluster: Cluster, space: str) -> None:
    item = deployment(space)
    containers = item["spec"]["template"]["spec"]["containers"]
    containers.append({"name": "sidecar", "image": "two"})
    any_cluster.apply(item)
    containers.pop()
    any_cluster.apply(item)
    names = [entry["name"] for entry in any_cluster.view().deployment("web", space).containers]
    assert names == ["web"]


def test_namespaces_are_applied_before_what_they_hold(any_cluster: Cluster, space: str) -> None:
    extra = f"{space}-b"
    text = f"""
apiVersion: v1
kind: ConfigMap
metadata: {{name: settings, namespace: {extra}}}
data: {{a: "1"}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: {extra}}}
"""
    try:
        assert [applied.kind for applied in any_cluster.apply(text)] == ["Namespace", "ConfigMap"]
        assert any_cluster.view().config_map("settings", extra).data == {"a": "1"}
    finally:
        any_cluster.delete_namespace(extra, wait_s=0)


def test_a_pod_can_be_applied_with_its_namespace(any_cluster: Cluster, space: str) -> None:
    """On a real cluster the namespace's service account takes its controller a moment."""
    extra = f"{space}-c"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": extra}}
    try:
        applied = any_cluster.apply([namespace, pod(extra)])
        assert [item.action for item in applied] == ["created", "created"]
    finally:
        any_cluster.delete_namespace(extra, wait_s=0)


def test_an_object_in_a_missing_namespace_is_not_attempted(any_cluster: Cluster) -> None:
    for act in (any_cluster.apply, any_cluster.view().dry_run):
        with pytest.raises(ObjectMissing, match="no Namespace named llm-nowhere"):
            act(config_map("llm-nowhere"))


def test_create_refuses_what_exists(any_cluster: Cluster, space: str) -> None:
    any_cluster.create(config_map(space))
    with pytest.raises(Refused, match="already exists"):
        any_cluster.create(config_map(space))


def test_patches_set_and_remove(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(deployment(space))
    any_cluster.patch("Deployment", "web", {"metadata": {"labels": {"a": "1", "b": "2"}}}, space)
    any_cluster.patch("Deployment", "web", {"metadata": {"labels": {"a": None}}}, space)
    template = {"spec": {"containers": [{"name": "web", "env": [{"name": "A", "value": "1"}]}]}}
    any_cluster.patch("Deployment", "web", {"spec": {"template": template}}, space, strategic=True)
    found = any_cluster.view().deployment("web", space)
    assert found.labels == {"b": "2"}
    assert found.containers[0]["image"] == "one" and found.containers[0]["env"][0]["name"] == "A"


def test_a_json_patch_changes_one_place(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(config_map(space, a="1"))
    any_cluster.patch("ConfigMap", "settings", [{"op": "replace", "path": "/data/a", "value": "2"}], space)
    assert any_cluster.view().config_map("settings", space).data == {"a": "2"}


def test_scale_changes_the_replicas_alone(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(deployment(space))
    any_cluster.scale("Deployment", "web", 3, space)
    found = any_cluster.view().deployment("web", space)
    assert found.replicas == 3
    assert found.path("metadata.generation") == 2


def test_delete_says_whether_there_was_something(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(config_map(space))
    assert any_cluster.delete("ConfigMap", "settings", space, wait_s=10) is True
    assert any_cluster.delete("ConfigMap", "settings", space) is False


def test_a_deleted_namespace_takes_everything_along(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(config_map(space))
    assert any_cluster.delete_namespace(space, wait_s=30) is True
    assert any_cluster.view().find("ConfigMap", "settings", space) is None
    assert any_cluster.delete_namespace(space) is False


# Asking


def test_a_dry_run_leaves_no_trace(any_cluster: Cluster, space: str) -> None:
    answer = any_cluster.view().dry_run(config_map(space, a="1"))
    assert answer.allowed and answer.code == 201 and answer.object
    assert any_cluster.view().find("ConfigMap", "settings", space) is None


def test_a_dry_run_of_what_exists_asks_about_the_change(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(config_map(space, a="1"))
    answer = any_cluster.view().dry_run(config_map(space, a="2"))
    assert answer.allowed and answer.object and answer.object["data"] == {"a": "2"}
    assert any_cluster.view().config_map("settings", space).data == {"a": "1"}


def test_diff_knows_create_change_and_none(any_cluster: Cluster, space: str) -> None:
    (change,) = any_cluster.diff(config_map(space, a="1"))
    assert (change.action, [tuple(field) for field in change.fields]) == ("create", [("data.a", None, "1")])
    any_cluster.apply(config_map(space, a="1"))
    (change,) = any_cluster.diff(config_map(space, a="1"))
    assert (change.action, change.fields) == ("none", ())
    (change,) = any_cluster.diff(config_map(space, a="2"))
    assert (change.action, [tuple(field) for field in change.fields]) == ("change", [("data.a", "1", "2")])


def test_diff_reads_lists_by_name(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(deployment(space))
    (change,) = any_cluster.diff(deployment(space, image="two"))
    assert [tuple(field) for field in change.fields] == [
        ("spec.template.spec.containers[web].image", "one", "two")
    ]


def test_diff_tells_a_refusal_in_the_server_s_words(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, {"requests.nvidia.com/gpu": "1"}))
    (change,) = any_cluster.diff(pod(space, container(limits={"nvidia.com/gpu": "2"})))
    assert change.action == "refused" and "exceeded quota: llm-system-quota" in change.reason


def test_diff_of_a_new_namespace_says_that_its_content_was_not_asked_about(
    any_cluster: Cluster, space: str
) -> None:
    extra = f"{space}-d"
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": extra}}
    changes = any_cluster.diff([namespace, config_map(extra, a="1")])
    assert [change.action for change in changes] == ["create", "create"]
    assert "not asked" in changes[1].reason


# Quota arithmetic


def test_every_exceeded_dimension_is_named_in_upstream_s_words(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, HARD))
    big = container(
        limits={"cpu": "14", "memory": "100Gi", "nvidia.com/gpu": "2"},
        requests={"cpu": "500m", "memory": "40Gi"},
    )
    answer = any_cluster.view().dry_run(pod(space, big))
    assert answer.code == 403
    assert answer.reason == (
        'pods "probe" is forbidden: exceeded quota: llm-system-quota, '
        "requested: limits.cpu=14,limits.memory=100Gi,requests.memory=40Gi,requests.nvidia.com/gpu=2, "
        "used: limits.cpu=0,limits.memory=0,requests.memory=0,requests.nvidia.com/gpu=0, "
        "limited: limits.cpu=12,limits.memory=96Gi,requests.memory=32Gi,requests.nvidia.com/gpu=1"
    )


def test_what_just_fits_is_admitted_and_the_next_is_not(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, {"requests.cpu": "1", "pods": "2"}))
    half = container(requests={"cpu": "500m"})
    any_cluster.create(pod(space, half, name="one"))
    view = any_cluster.view()
    assert view.dry_run(pod(space, half, name="two")).allowed
    answer = view.dry_run(pod(space, container(requests={"cpu": "600m"}), name="two"))
    assert "requested: requests.cpu=600m, used: requests.cpu=500m, limited: requests.cpu=1" in answer.reason


def test_the_seed_s_workloads_do_not_fit_its_own_quota(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, HARD))
    vllm = container(
        "vllm",
        requests={"cpu": "2", "memory": "24Gi"},
        limits={"cpu": "10", "memory": "64Gi", "nvidia.com/gpu": "1"},
    )
    qdrant = container(
        "qdrant", requests={"cpu": "1", "memory": "4Gi"}, limits={"cpu": "4", "memory": "16Gi"}
    )
    any_cluster.create(pod(space, vllm, name="vllm"))
    answer = any_cluster.view().dry_run(pod(space, qdrant, name="qdrant"))
    assert "requested: limits.cpu=4, used: limits.cpu=10, limited: limits.cpu=12" in answer.reason


def test_what_a_quota_counts_must_be_written(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, HARD))
    answer = any_cluster.view().dry_run(pod(space, container("b"), container("a", requests={"cpu": "1"})))
    assert answer.reason == (
        'pods "probe" is forbidden: failed quota: llm-system-quota: must specify limits.cpu for: a,b; '
        "limits.memory for: a,b; requests.cpu for: b; requests.memory for: a,b"
    )


def test_a_limit_alone_is_a_request_too(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, {"requests.cpu": "1"}))
    assert any_cluster.view().dry_run(pod(space, container(limits={"cpu": "1"}))).allowed
    assert not any_cluster.view().dry_run(pod(space, container(limits={"cpu": "1100m"}))).allowed


def test_init_containers_count_by_the_largest_step(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, {"requests.cpu": "2"}))
    main = container(requests={"cpu": "1"})
    small, big = container("init", requests={"cpu": "2"}), container("init", requests={"cpu": "2100m"})
    view = any_cluster.view()
    assert view.dry_run(pod(space, main, initContainers=[small])).allowed
    assert not view.dry_run(pod(space, main, initContainers=[big])).allowed


def test_storage_is_counted_by_claims(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, HARD))
    any_cluster.create(claim(space, "120Gi", "vllm-model-cache"))
    any_cluster.create(claim(space, "200Gi", "qdrant"))
    view = any_cluster.view()
    assert view.dry_run(claim(space, "80Gi", "third")).allowed
    answer = view.dry_run(claim(space, "81Gi", "third"))
    assert answer.reason == (
        'persistentvolumeclaims "third" is forbidden: exceeded quota: llm-system-quota, '
        "requested: requests.storage=81Gi, used: requests.storage=320Gi, limited: requests.storage=400Gi"
    )


def test_the_quota_tells_what_is_used(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, HARD))
    any_cluster.create(
        pod(
            space, container(requests={"cpu": "1500m", "memory": "1Gi"}, limits={"cpu": "2", "memory": "2Gi"})
        )
    )

    def counted(view: Any) -> Any:
        found = view.resource_quota(namespace=space)
        return found if found.used("pods") == 1 else None

    found = any_cluster.wait_until("the quota counts", counted, timeout_s=60)
    assert float(found.used("requests.cpu")) == 1.5
    assert found.used("requests.memory") == 1024**3
    assert found.hard("requests.nvidia.com/gpu") == 1
    assert found.hard("services") is None


# Limit ranges


def limit_range(namespace: str, **limit: Any) -> dict[str, Any]:
    metadata = {"name": "defaults", "namespace": namespace}
    spec = {"limits": [{"type": "Container", **limit}]}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": spec}


def test_a_limit_range_writes_what_the_quota_asks_for(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(quota(space, {"limits.cpu": "2", "requests.cpu": "2"}))
    any_cluster.apply(limit_range(space, default={"cpu": "1"}, defaultRequest={"cpu": "250m"}))
    answer = any_cluster.view().dry_run(pod(space))
    assert answer.allowed and answer.object
    resources = answer.object["spec"]["containers"][0]["resources"]
    assert resources == {"limits": {"cpu": "1"}, "requests": {"cpu": "250m"}}


def test_a_limit_range_refuses_more_than_its_maximum(any_cluster: Cluster, space: str) -> None:
    any_cluster.apply(limit_range(space, max={"nvidia.com/gpu": "1", "cpu": "2"}))
    answer = any_cluster.view().dry_run(pod(space, container(limits={"cpu": "3", "nvidia.com/gpu": "1"})))
    assert 'pods "probe" is forbidden: maximum cpu usage per Container is 2, but limit is 3' in answer.reason


# Scope


def test_a_scope_maps_course_namespaces_everywhere(any_cluster: Cluster, space: str) -> None:
    suffix = space.rsplit("-", 1)[1]
    scoped = Cluster(any_cluster.backend, scope=Scope(suffix))
    manifests = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}},
        config_map("llm-system", a="1"),
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": "p", "namespace": "llm-system"},
            "spec": {
                "podSelector": {},
                "ingress": [
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchLabels": {"kubernetes.io/metadata.name": "llm-apps"}
                                }
                            }
                        ]
                    }
                ],
            },
        },
    ]
    try:
        scoped.apply(manifests)
        real = f"llm-system-{suffix}"
        assert any_cluster.view().config_map("settings", real).data == {"a": "1"}
        assert scoped.view().config_map("settings", "llm-system").namespace == real
        assert scoped.view().namespace("llm-system").name == real
        (policy,) = scoped.view().network_policies("llm-system")
        selector = policy.path("spec.ingress.0.from.0.namespaceSelector.matchLabels")
        assert selector == {"kubernetes.io/metadata.name": f"llm-apps-{suffix}"}
        assert [change.action for change in scoped.diff(manifests)] == ["none", "none", "none"]
    finally:
        scoped.delete_namespace("llm-system", wait_s=0)


# Pods that are not there


def test_logs_and_commands_of_a_missing_pod(any_cluster: Cluster, space: str) -> None:
    with pytest.raises(ObjectMissing):
        any_cluster.logs(space, "nobody")
    with pytest.raises(ObjectMissing):
        any_cluster.exec(space, "nobody", ["true"], timeout_s=30)
