"""Lab 03 on a live cluster: started, cluster headless, graded; its image, volume and identity."""

from __future__ import annotations

import pytest

from helpers.cluster import Cluster
from helpers.errors import LabError
from helpers.settings import REPOSITORY
from helpers.stack import memory
from helpers.stack.embeddings import Embedder
from tests.live.course_command import course

pytestmark = [pytest.mark.live, pytest.mark.solved("03")]
OVERLAYS = REPOSITORY / "manifests" / "stack" / "qdrant" / "overlays"


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


def test_the_pod_runs_unprivileged_on_a_read_only_root(cluster: Cluster) -> None:
    pod = cluster.view().pod("qdrant-0", memory.NAMESPACE)
    (container,) = pod.containers
    assert pod.path("spec.securityContext.runAsNonRoot") is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert sum(state.restarts for state in pod.container_states) == 0


def test_a_replaced_pod_keeps_its_claim_and_its_points(cluster: Cluster) -> None:
    claim = cluster.view().pvc("qdrant-storage-qdrant-0", memory.NAMESPACE).uid
    moments = memory.replace_pod(cluster)
    assert {moment.pod for moment in moments} >= {"old", "new"}
    assert any(moment.endpoints == 0 for moment in moments)
    assert cluster.view().pvc("qdrant-storage-qdrant-0", memory.NAMESPACE).uid == claim
    with memory.connect(cluster) as qdrant:
        state = qdrant.state()
        assert state is not None
        assert state.points == 52
        assert qdrant.search("Which errors should a client retry?", Embedder())[0].key == "retry-what"


def test_a_pod_lost_while_points_are_sent_is_named_with_the_next_command(cluster: Cluster) -> None:
    def lose(progress: memory.Ingested) -> None:
        cluster.delete("Pod", "qdrant-0", memory.NAMESPACE, grace_s=0, wait_s=60)

    with memory.connect(cluster) as qdrant:
        with pytest.raises((memory.MemoryUnavailable, memory.MemoryNotReady)) as caught:
            qdrant.ingest(memory.corpus(), Embedder(), on_progress=lose)
        assert "kubectl get pods" in caught.value.next_command
        cut_off = qdrant
    with pytest.raises(memory.MemoryUnavailable, match="broke"):
        cut_off.state()
    cluster.wait_ready("StatefulSet", "qdrant", memory.NAMESPACE, timeout_s=120)
    with memory.connect(cluster) as qdrant:
        assert qdrant.ingest(memory.corpus(), Embedder()) == 51


def test_a_full_volume_is_named_with_the_next_command(cluster: Cluster, namespace: str) -> None:
    """The same image on a volume of 16 MiB: it starts, and refuses what does not fit."""
    (container,) = cluster.view().pod("qdrant-0", memory.NAMESPACE).containers
    kept = {name: container[name] for name in ("name", "image", "ports", "env") if name in container}
    small = {"name": "storage", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
    mounts = [{"name": "storage", "mountPath": "/qdrant/storage"}]
    mounts.append({"name": "storage", "mountPath": "/qdrant/snapshots", "subPath": "snapshots"})
    spec = {
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": cluster.view().pod("qdrant-0", memory.NAMESPACE).path("spec.securityContext"),
        "containers": [{**kept, "volumeMounts": mounts}],
        "volumes": [small],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "small", "namespace": namespace}}
    cluster.apply({**pod, "spec": spec})
    cluster.wait_ready("Pod", "small", namespace, timeout_s=90)
    with cluster.port_forward(namespace, "pod/small", memory.PORT) as forward:
        qdrant = memory.Memory(forward.url)
        cluster.wait_until("it answers", lambda view: set(qdrant.probes().values()) == {200}, timeout_s=60)
        with pytest.raises(memory.MemoryFull, match="No space left on device") as caught:
            qdrant.create_collection()
            qdrant.ingest(memory.corpus(), Embedder())
        assert "df -h" in caught.value.next_command
        qdrant.close()


def test_a_second_reset_changes_nothing(cluster: Cluster) -> None:
    assert course("reset", "03").returncode == 0
    assert cluster.view().pvcs(memory.NAMESPACE, labels="app=qdrant") == []
    versions = {str(s): s.resource_version for s in cluster.view().list("Service", memory.NAMESPACE)}
    assert course("reset", "03").returncode == 0
    assert {str(s): s.resource_version for s in cluster.view().list("Service", memory.NAMESPACE)} == versions
