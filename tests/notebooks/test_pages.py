"""Every lab's page: it opens without changing the cluster, reads well without one, and has a solution like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cluster import Cluster
from helpers.settings import REPOSITORY
from tests.notebooks.notebook_app import app_of

LABS = sorted((REPOSITORY / "labs").glob("[0-9][0-9]_*.py"))
PAGES = [*LABS, *sorted((REPOSITORY / "solutions").glob("[0-9][0-9]_*.py"))]
KINDS = (
    *("Namespace", "Node", "ConfigMap", "Secret", "ServiceAccount", "ResourceQuota", "LimitRange", "Pod"),
    *("Service", "PersistentVolumeClaim", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"),
    *("NetworkPolicy", "StorageClass", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"),
)

each_lab = pytest.mark.parametrize("lab", LABS, ids=lambda path: path.stem)


@each_lab
def test_the_page_reads_to_its_end_without_a_cluster(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    outputs, definitions = app_of(lab).run()
    assert definitions["lab"].cluster is None
    texts = [getattr(output, "text", "") for output in outputs]
    assert any("No cluster yet" in text and "course up" in text for text in texts)


@each_lab
def test_the_solution_is_the_same_page(lab: Path) -> None:
    """The lab's headings are in the solution, in the same order."""

    def headings(path: Path) -> list[str]:
        return [line.strip() for line in path.read_text().splitlines() if line.strip().startswith("## ")]

    assert headings(REPOSITORY / "solutions" / lab.name) == headings(lab)


def _everything(cluster: Cluster) -> dict[str, str | None]:
    """Every object with its resourceVersion, but for what the cluster itself keeps writing."""
    view = cluster.view()
    found = [item for kind in KINDS for item in view.list(kind, all_namespaces=True)]
    # A kubelet reports its node's status all the time: there the specification and the labels are compared.
    # The provisioner's helper Pods wipe volumes of tests before this one, in their own time; a claim is seen by itself.
    return {
        str(item): str((item.path("spec"), item.labels)) if item.kind == "Node" else item.resource_version
        for item in found
        if not str(item).startswith("Pod local-path-storage/helper-pod-")
    }


@pytest.mark.live
@pytest.mark.parametrize("page", PAGES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_opening_the_page_changes_nothing_in_the_cluster(cluster: Cluster, page: Path) -> None:
    before = _everything(cluster)
    app_of(page).run()
    assert _everything(cluster) == before
