"""Objects, manifests and diffs: what is read from what the API server sends."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from helpers.cluster import Pod, Profile, Resource, ResourceQuota, Workload
from helpers.cluster.diffs import field_changes
from helpers.cluster.fake import FakeCluster
from helpers.cluster.manifests import in_order, load, load_one
from helpers.cluster.profile import OFFICIAL_IMAGES, derive
from helpers.cluster.resource import Event, Node, endpoints_of
from helpers.cluster.waits import pod_trouble
from helpers.errors import InvalidManifest, ServerFault

QUOTA = ResourceQuota(
    {
        "kind": "ResourceQuota",
        "metadata": {"name": "q", "labels": {"kubedojo.dev/role": "llm-apps"}},
        "spec": {"hard": {"requests.nvidia.com/gpu": "1", "requests.memory": "32Gi"}},
        "status": {"used": {"requests.memory": "512Mi"}},
    }
)


def test_paths_reach_keys_with_dots_and_list_items() -> None:
    pod = Resource({"spec": {"containers": [{"image": "a"}]}})
    assert QUOTA.path("spec.hard[requests.nvidia.com/gpu]") == "1"
    assert QUOTA.path("metadata.labels[kubedojo.dev/role]") == "llm-apps"
    assert pod.path("spec.containers.0.image") == "a"
    assert pod.path("spec.containers.1.image", "none") == "none"
    assert pod.path("spec.containers.image") is None


def test_quota_amounts_are_numbers_and_absence_is_none() -> None:
    assert QUOTA.hard("requests.memory") == 32 * Decimal(1024) ** 3
    assert QUOTA.used("requests.memory") == 512 * Decimal(1024) ** 2
    assert QUOTA.hard("pods") is None
    assert QUOTA.used("requests.nvidia.com/gpu") is None


def test_a_rollout_gap_names_what_is_missing() -> None:
    spec = {"replicas": 2}
    done = {
        "observedGeneration": 2,
        "replicas": 2,
        "updatedReplicas": 2,
        "availableReplicas": 2,
        "readyReplicas": 2,
    }

    def gap(**status: int) -> str:
        raw = {
            "kind": "Deployment",
            "metadata": {"generation": 2},
            "spec": spec,
            "status": {**done, **status},
        }
        return Workload(raw).rollout_gap()

    assert gap() == ""
    assert "has not seen" in gap(observedGeneration=1)
    assert gap(updatedReplicas=1) == "1 of 2 pods are of the new specification"
    assert gap(replicas=3) == "1 old pods are still there"
    assert gap(readyReplicas=1) == "1 of 2 pods are ready"


def test_a_terminating_pod_is_not_ready() -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    assert Pod({"metadata": {}, "status": ready}).is_ready
    assert not Pod({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "status": ready}).is_ready


def test_pod_trouble_speaks_with_the_scheduler_s_and_the_kubelet_s_words() -> None:
    pending = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    crashed = {
        "name": "main",
        "restartCount": 2,
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
        "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
    }
    assert pod_trouble(Pod({"status": {"conditions": [pending]}})) == "Unschedulable: 0/1 nodes"
    words = pod_trouble(Pod({"status": {"containerStatuses": [crashed]}}))
    assert words == "container main: CrashLoopBackOff (exit code 137) back-off"


def test_endpoints_read_an_absent_condition_as_ready() -> None:
    item = Resource(
        {
            "ports": [{"name": "http", "port": 8000}],
            "endpoints": [
                {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "a"}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": False, "terminating": True}},
            ],
        }
    )
    first, second = endpoints_of([item])
    assert (first.address, first.ready, first.port, first.pod) == ("10.0.0.1", True, 8000, "a")
    assert (second.ready, second.terminating) == (False, True)


def test_events_of_both_apis_read_alike() -> None:
    old = Event({"involvedObject": {"kind": "Pod", "name": "a"}, "message": "m", "reason": "R", "count": 3})
    new = Event(
        {"regarding": {"kind": "Pod", "name": "a"}, "note": "m", "reason": "R", "series": {"count": 3}}
    )
    assert str(old) == str(new) == "Normal R on Pod a: m (x3)"


# Manifests


def test_text_with_several_documents_and_lists_is_read_whole() -> None:
    text = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}
---
---
apiVersion: v1
kind: Namespace
metadata: {name: c}
"""
    found = load(text)
    assert [item["metadata"]["name"] for item in found] == ["a", "b", "c"]
    assert [item["kind"] for item in in_order(found)] == ["Namespace", "ConfigMap", "ConfigMap"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\n  b: 2", "not YAML: line 2"),
        ("a: b: c", "not YAML: line 1"),
        ("- 1", r"document 1 is `\[1\]`, and no object: it has no `kind:`"),
        ("apiVersion: v1\nmetadata: {name: a}", "document 1 has no kind"),
        ("metadata: {name: a}", "no apiVersion and no kind"),
        ("apiVersion: v1\nkind: Pod", "has no metadata.name"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: 12345}",
            "metadata.name is `12345`: it is a text, so write it",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: 42}", "metadata.namespace is `42`"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: on}", "metadata.name is `True`"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: [a]}", "metadata.name is"),
        ("apiVersion: v1\nkind: Pod\nmetadata: [a]", "metadata is .*: it is a mapping"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {a: 1}}", r"metadata.labels\[a\] is `1`"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a/b}",
            "metadata.name is `a/b`: it may not contain '/'",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: ..}", "it may not be '..'"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b%c}", "may not contain '%'"),
        ("apiVersion: 1\nkind: Pod\nmetadata: {name: a}", "apiVersion is `1`"),
        ("apiVersion: v1\nkind: List\nitems: x", "items is not a list"),
        ("apiVersion: v1\nkind: List\nitems: [x]", "document 1 is `'x'`, and no object"),
        ("", "no object"),
        ("# only a comment", "no object"),
    ],
)
def test_what_is_no_manifest_is_told_with_its_place(text: str, words: str) -> None:
    with pytest.raises(InvalidManifest, match=words):
        load(text)


def test_an_empty_namespace_is_the_default_one() -> None:
    (found,) = load("apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: }")
    assert "namespace" not in found["metadata"]


def test_a_generated_name_can_be_created_and_not_applied(fake_cluster: FakeCluster) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: a-}"
    assert fake_cluster.create(text).name.startswith("a-")
    with pytest.raises(InvalidManifest, match="generateName cannot be applied"):
        fake_cluster.apply(text)
    (change,) = fake_cluster.diff(text)
    assert change.action == "refused" and "generateName cannot be applied" in change.reason


def test_one_object_means_one() -> None:
    with pytest.raises(InvalidManifest, match="not 2"):
        load_one(
            "{apiVersion: v1, kind: A, metadata: {name: a}}\n---\n{apiVersion: v1, kind: B, metadata: {name: b}}"
        )


def test_what_is_loaded_is_a_copy() -> None:
    item = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}
    load(item)[0]["metadata"]["name"] = "b"
    assert item["metadata"] == {"name": "a"}


# Diffs


def test_a_diff_leaves_out_what_only_the_server_writes() -> None:
    before = {
        "kind": "X",
        "metadata": {"name": "a", "resourceVersion": "1"},
        "status": {"x": 1},
        "spec": {"a": 1},
    }
    after = {
        "kind": "X",
        "metadata": {"name": "a", "resourceVersion": "2"},
        "status": {"x": 2},
        "spec": {"a": 2},
    }
    assert [tuple(change) for change in field_changes(before, after, after)] == [("spec.a", 1, 2)]


def test_a_diff_shows_what_is_added_and_what_goes() -> None:
    before = {"metadata": {}, "spec": {"gone": {"deep": 1}, "list": [1]}}
    after = {"metadata": {}, "spec": {"new": 2, "list": [1, 2]}}
    assert [tuple(change) for change in field_changes(before, after, after)] == [
        ("spec.gone.deep", 1, None),
        ("spec.list", [1], [1, 2]),
        ("spec.new", None, 2),
    ]


# Profiles


def node(resource: str = "", amount: str = "1", **labels: str) -> Node:
    allocatable = {"cpu": "4", **({resource: amount} if resource else {})}
    names = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    return Node({"metadata": {"name": "n", "labels": names}, "status": {"allocatable": allocatable}})


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node()], ("none", "nvidia.com/gpu", "full")),
        ([node("nvidia.com/gpu")], ("real", "nvidia.com/gpu", "full")),
        ([node("nvidia.com/gpu", "0")], ("none", "nvidia.com/gpu", "full")),
        ([node("nvidia.com/mig-1g.10gb", "7")], ("real", "nvidia.com/mig-1g.10gb", "mig")),
        ([node("nvidia.com/gpu", "4", nvidia_com__gpu_replicas="4")], ("real", "nvidia.com/gpu", "time-slicing")),
        ([node("nvidia.com/gpu", course_dev__gpu="simulated")], ("simulated", "nvidia.com/gpu", "full")),
        ([node("nvidia.com/gpu"), node("nvidia.com/gpu", course_dev__gpu="simulated")], ("simulated", "nvidia.com/gpu", "full")),
        ([node("amd.com/gpu")], ("real", "amd.com/gpu", "full")),
    ],
)  # fmt: skip
def test_a_profile_is_read_from_the_nodes(nodes: list[Node], expected: tuple[str, str, str]) -> None:
    found = derive(nodes, [])
    assert (found.gpu, found.gpu_resource, found.gpu_shape) == expected


def test_the_default_storage_class_is_the_marked_or_the_only_one() -> None:
    marked = Resource(
        {
            "metadata": {
                "name": "fast",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            }
        }
    )
    other, third = Resource({"metadata": {"name": "slow"}}), Resource({"metadata": {"name": "slower"}})
    assert derive([], [other, marked]).storage_class == "fast"
    assert derive([], [other]).storage_class == "slow"
    assert derive([], [other, third]).storage_class == ""


def test_a_profile_survives_its_config_map_and_later_versions() -> None:
    profile = Profile(name="embedded", gpu="simulated", images={"vllm": "x"})
    read = Profile.from_json(profile.to_json())
    assert replace(read, images=profile.images) == profile
    assert read.images == {**OFFICIAL_IMAGES, "vllm": "x"}, (
        "an entry that was written before lab 06 names no Redis"
    )
    assert Profile.from_json('{"name": "embedded", "from_the_future": 1}').name == "embedded"


def test_a_profile_that_says_little_leaves_the_rest_to_the_cluster() -> None:
    def observed() -> Profile:
        return Profile(gpu="real", storage_class="fast")

    found = Profile.from_json('{"allows_faults": true}', observed)
    assert (found.allows_faults, found.gpu, found.storage_class) == (True, "real", "fast")


@pytest.mark.parametrize("text", ["", "[]", "nonsense", '"text"'])
def test_a_broken_profile_is_the_cluster_s_fault(text: str) -> None:
    with pytest.raises(ServerFault, match="does not hold a course profile"):
        Profile.from_json(text)
