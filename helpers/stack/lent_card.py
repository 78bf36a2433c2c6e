"""Whoever serves gives up its card for an experiment, and gets it back: lab 01 where later labs were done before.

On a node with one card a model server holds it for good, and every pod of an experiment would wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.stack.gpu import holders, requested

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

NAMESPACE = "llm-system"
KINDS = ("Deployment", "StatefulSet")
LENT = "course.llm-stack/lent-card"
END_TIMEOUT_S = 120.0  # an ending model server drains for up to its grace period
READY_TIMEOUT_S = 300.0


def lend(cluster: Cluster) -> list[str]:
    """Scale to zero what holds GPUs in llm-system, remember its size on it, and wait until its pods are gone.

    A workload that has no pod, such as one that the quota refuses, holds nothing and stays as it is.
    """
    names = []
    for kind in KINDS:
        for found in cluster.view().list(kind, NAMESPACE):
            replicas = found.path("spec.replicas", 1)
            if (
                replicas
                and found.path("status.replicas", 0)
                and requested(found.path("spec.template.spec", {}))
            ):
                cluster.patch(kind, found.name, _remembered(str(replicas)), NAMESPACE)
                cluster.scale(kind, found.name, 0, NAMESPACE)
                names.append(found.name)
    if names:
        cluster.wait_until("the card is free", lambda view: _is_free(view, names), timeout_s=END_TIMEOUT_S)
    return names


def _is_free(view: ClusterView, names: list[str]) -> bool:
    return not any(
        held.pod.startswith(f"{name}-") for held in holders(view.pods(NAMESPACE)) for name in names
    )


def _remembered(replicas: str | None) -> dict[str, object]:
    return {"metadata": {"annotations": {LENT: replicas}}}


def give_back(cluster: Cluster) -> list[str]:
    """Scale what lent its card back to the size that it had, and wait until it is Ready; the names."""
    names = []
    for kind in KINDS:
        for found in cluster.view().list(kind, NAMESPACE):
            replicas = found.path("metadata.annotations", {}).get(LENT)
            if replicas is not None:
                cluster.scale(kind, found.name, int(replicas), NAMESPACE)
                cluster.wait_rollout(kind, found.name, NAMESPACE, timeout_s=READY_TIMEOUT_S)
                cluster.patch(kind, found.name, _remembered(None), NAMESPACE)
                names.append(found.name)
    return names
