"""Lab 03 on a live cluster: started, solved headless, graded; its image, volume and identity."""

from __future__ import annotations

import json
import time

import pytest

from helpers.cluster import Cluster
from helpers.errors import LabError
from helpers.settings import REPOSITORY
from helpers.stack import memory
from helpers.stack.embeddings import Embedder
from tests.live.course_command import course

pytestmark = pytest.mark.live
OVERLAYS = REPOSITORY / "manifests" / "qdrant" / "overlays"


@pytest.fixture(scope="module")
def solved(cluster: Cluster) -> Cluster:
    for arguments in (("reset", "03"), ("start", "03"), ("solve", "03")):
        done = course(*arguments)
        assert done.returncode == 0, f"{arguments}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return cluster


@pytest.mark.parametrize("overlay", ["embedded", "gpu", "mig", "time-slicing"])
def test_every_overlay_is_accepted_by_the_api_server(cluster: Cluster, overlay: str) -> None:
    if cluster.view().find("Namespace", memory.NAMESPACE) is None:
        cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": memory.NAMESPACE}})
    objects = cluster.kustomize(OVERLAYS / overlay)
    # Under another name, so that a Qdrant that runs already does not turn this into an edit of it.
    for item in objects:
        item["metadata"]["name"] = f"try-{item['metadata']['name']}"
    refused = {str(change): change.reason for change in cluster.diff(objects) if change.action == "refused"}
    assert refused == {}


def test_a_service_monitor_is_refused_where_the_operator_is_absent(cluster: Cluster) -> None:
    manifest = (OVERLAYS.parent / "monitoring" / "servicemonitor.yaml").read_text()
    with pytest.raises(LabError, match="ServiceMonitor"):
        cluster.view().dry_run(manifest, namespace=memory.NAMESPACE)


def test_the_solution_passes_every_check(solved: Cluster) -> None:
    done = course("grade", "03", "--json")
    report = json.loads(done.stdout)
    assert {v["check"]: v["status"] for v in report["verdicts"] if v["status"] != "PASS"} == {}
    assert done.returncode == 0


def test_the_pod_runs_unprivileged_on_a_read_only_root(solved: Cluster) -> None:
    pod = solved.view().pod("qdrant-0", memory.NAMESPACE)
    (container,) = pod.containers
    assert pod.path("spec.securityContext.runAsNonRoot") is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert sum(state.restarts for state in pod.container_states) == 0


def test_a_replaced_pod_keeps_its_claim_and_its_points(solved: Cluster) -> None:
    claim = solved.view().pvc("qdrant-storage-qdrant-0", memory.NAMESPACE).uid
    started = time.monotonic()
    moments = memory.replace_pod(solved)
    assert time.monotonic() - started < 60
    assert {moment.pod for moment in moments} >= {"old", "new"}
    assert any(moment.endpoints == 0 for moment in moments)
    assert solved.view().pvc("qdrant-storage-qdrant-0", memory.NAMESPACE).uid == claim
    with memory.connect(solved) as qdrant:
        state = qdrant.state()
        assert state is not None
        assert state.points == 52
        assert qdrant.search("Which errors should a client retry?", Embedder())[0].key == "retry-what"


def test_a_second_reset_changes_nothing(solved: Cluster) -> None:
    assert course("reset", "03").returncode == 0
    assert solved.view().pvcs(memory.NAMESPACE, labels="app=qdrant") == []
    versions = {str(s): s.resource_version for s in solved.view().list("Service", memory.NAMESPACE)}
    assert course("reset", "03").returncode == 0
    assert {str(s): s.resource_version for s in solved.view().list("Service", memory.NAMESPACE)} == versions
