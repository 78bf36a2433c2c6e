"""Start, reset and solve: what they change, and what they must leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.cluster.resource import Resource
from helpers.errors import InvalidManifest
from helpers.grading import Lab, Verdict, expect, lifecycle
from helpers.grading.journal import journal_for
from helpers.grading.lifecycle import PrerequisiteMissing
from helpers.grading.testing import EPOCH

START = """
apiVersion: v1
kind: Namespace
metadata: {name: llm-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: vllm-model-config, namespace: llm-system}
data: {image: $TOOLBOX, literal: "$(HOSTNAME)"}
"""


def say(text: str) -> None:
    """Progress that nobody reads."""


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Lab 99 of a repository of its own: it starts with one namespace and one ConfigMap."""
    monkeypatch.setattr(lifecycle, "REPOSITORY", tmp_path)
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "manifests" / "labs" / "99" / "start"
    folder.mkdir(parents=True)
    (folder / "start.yaml").write_text(START)
    return Lab("99", "Tiny", namespaces=("llm-system", "llm-apps"))


def put(cluster: FakeCluster, kind: str, name: str, namespace: str = "llm-system", **rest: Any) -> None:
    metadata = {"name": name, "namespace": namespace, **rest.pop("metadata", {})}
    cluster.put({"apiVersion": rest.pop("api", "v1"), "kind": kind, "metadata": metadata, **rest})


def versions(cluster: FakeCluster) -> dict[Any, str]:
    return {key: item["metadata"]["resourceVersion"] for key, item in cluster.backend.objects.items()}


def test_start_puts_the_start_state_with_this_clusters_images(cluster: FakeCluster, lab: Lab) -> None:
    assert lifecycle.start(lab, cluster, say) == [
        "created Namespace llm-system",
        "created ConfigMap vllm-model-config",
    ]
    data = cluster.view().config_map("vllm-model-config").data
    assert data == {"image": cluster.profile().images["toolbox"], "literal": "$(HOSTNAME)"}


def test_start_leaves_the_learners_work_and_a_second_start_does_nothing(
    cluster: FakeCluster, lab: Lab
) -> None:
    lifecycle.start(lab, cluster, say)
    put(cluster, "ConfigMap", "mine")
    assert lifecycle.start(lab, cluster, say) == []
    assert cluster.view().find("ConfigMap", "mine", "llm-system")


def test_reset_removes_what_the_start_state_does_not_hold(cluster: FakeCluster, lab: Lab) -> None:
    lifecycle.start(lab, cluster, say)
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-apps"}})
    put(cluster, "Service", "vllm")
    put(cluster, "Deployment", "vllm", api="apps/v1")
    put(cluster, "ConfigMap", "kube-root-ca.crt")
    put(cluster, "ServiceAccount", "default")
    put(cluster, "Secret", "outside", "default")
    done = lifecycle.reset(lab, cluster, say)
    assert set(done) == {"deleted Deployment vllm", "deleted Service vllm", "deleted Namespace llm-apps"}
    view = cluster.view()
    assert view.find("ConfigMap", "kube-root-ca.crt", "llm-system")
    assert view.find("ServiceAccount", "default", "llm-system")
    assert view.find("Secret", "outside", "default")


def test_a_second_reset_changes_nothing(cluster: FakeCluster, lab: Lab) -> None:
    lifecycle.start(lab, cluster, say)
    put(cluster, "ConfigMap", "mine")
    lifecycle.reset(lab, cluster, say)
    before = versions(cluster)
    assert lifecycle.reset(lab, cluster, say) == []
    assert versions(cluster) == before


def test_reset_puts_back_what_was_changed_or_deleted(cluster: FakeCluster, lab: Lab) -> None:
    lifecycle.start(lab, cluster, say)
    cluster.patch("ConfigMap", "vllm-model-config", {"data": {"image": "mine"}}, "llm-system")
    assert lifecycle.reset(lab, cluster, say) == ["changed ConfigMap vllm-model-config"]
    cluster.delete("ConfigMap", "vllm-model-config", "llm-system")
    assert lifecycle.reset(lab, cluster, say) == ["created ConfigMap vllm-model-config"]


@pytest.mark.parametrize(
    ("entry", "by_hand"),
    [
        ({"manager": "course"}, False),
        ({"manager": "kube-controller-manager"}, False),
        ({"manager": "kubelet", "subresource": "status"}, False),
        ({"manager": "local-path-provisioner"}, False),
        ({"manager": "kubectl-edit"}, True),
        ({"manager": "kubectl", "subresource": "scale"}, False),
        ({"manager": "helm"}, True),
    ],
)
def test_an_object_that_a_person_edited_is_told_from_one_that_controllers_wrote(
    entry: dict[str, str], by_hand: bool
) -> None:
    found = Resource({"metadata": {"managedFields": [{"manager": "course"}, entry]}})
    assert lifecycle.edited_by_hand(found) is by_hand


def test_an_edited_object_of_the_start_state_is_made_anew(cluster: FakeCluster, lab: Lab) -> None:
    lifecycle.start(lab, cluster, say)
    put(
        cluster,
        "ConfigMap",
        "vllm-model-config",
        metadata={"managedFields": [{"manager": "kubectl-edit"}]},
        data={"image": "x", "added": "by hand"},
    )
    assert lifecycle.reset(lab, cluster, say) == [
        "deleted ConfigMap vllm-model-config",
        "created ConfigMap vllm-model-config",
    ]
    assert "added" not in cluster.view().config_map("vllm-model-config").data


def test_reset_forgets_what_was_seen_once(cluster: FakeCluster, lab: Lab) -> None:
    lifecycle.reset(lab, cluster, say)
    journal = journal_for("99", cluster.identity().uid)
    journal.record("edge", expect(1, equals=1), EPOCH)
    assert lifecycle.reset(lab, cluster, say) == ["forgot what was seen once (the journal)"]
    assert journal.entry("edge") is None


def test_a_broken_start_manifest_names_its_file(cluster: FakeCluster, lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "manifests/labs/99/start/broken.yaml").write_text("kind: Pod")
    with pytest.raises(InvalidManifest, match=r"manifests/labs/99/start/broken\.yaml: document 1"):
        lifecycle.start(lab, cluster, say)


def test_a_lab_may_declare_its_own_start_reset_and_prerequisites(cluster: FakeCluster, lab: Lab) -> None:
    verdict, said = expect("none", equals="a GPU").next("course gpu --shape full"), list[str]()

    @lab.prerequisites
    def a_gpu(view: Any) -> list[Verdict]:
        return [verdict]

    @lab.start
    def start(cluster: Any, progress: Any) -> list[str]:
        progress("waiting")
        return ["did something"]

    @lab.reset
    def reset(cluster: Any, progress: Any) -> list[str]:
        return []

    with pytest.raises(PrerequisiteMissing, match="lab 99 needs a GPU; the cluster has none") as caught:
        lifecycle.start(lab, cluster, said.append)
    assert caught.value.next_command == "course gpu --shape full"
    verdict = expect(1, equals=1)
    assert lifecycle.start(lab, cluster, said.append) == ["did something"]
    assert said == ["waiting"]
    assert lifecycle.reset(lab, cluster, said.append) == []
