"""What a learner may leave in a namespace: objects of nobody else, that a reset takes away again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from helpers.errors import Forbidden, InvalidManifest

if TYPE_CHECKING:
    from helpers.cluster import Cluster, Resource

DELETE_TIMEOUT_S = 120.0

# Anything owned by another object goes with its owner.
KINDS = (
    *("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "HorizontalPodAutoscaler", "ReplicaSet"),
    *("Pod", "Service", "Ingress", "NetworkPolicy", "PodDisruptionBudget", "ConfigMap", "Secret"),
    *("PersistentVolumeClaim", "ResourceQuota", "LimitRange", "RoleBinding", "Role", "ServiceAccount"),
)
# Of what labs install, where it is installed. A Rollout goes before its ReplicaSets, which it would make again, and a
# ScaledObject before its HPA.
CUSTOM_KINDS = (
    *("Rollout", "AnalysisTemplate", "AnalysisRun"),
    *("ScaledObject", "ScaledJob", "TriggerAuthentication"),
    *("ServiceMonitor", "PodMonitor", "PrometheusRule"),
)
# Carried by what an instructor put into a learner's namespace.
CLASS_LABEL = "course.llm-stack/class"
# What Kubernetes itself puts into every namespace.
_FURNITURE = frozenset({("ConfigMap", "kube-root-ca.crt"), ("ServiceAccount", "default")})


def leftovers(cluster: Cluster, namespace: str) -> Iterator[Resource]:
    """What the namespace holds beyond Kubernetes' own and the class's, in an order to delete it in."""
    view = cluster.view()
    for kind in (*CUSTOM_KINDS, *KINDS):
        try:
            found = view.list(kind, namespace)
        except (Forbidden, InvalidManifest):
            continue  # who may not see a kind could not make one either; and some clusters do not know it
        for item in found:
            theirs = (kind, item.name) in _FURNITURE or CLASS_LABEL in item.labels
            if not (theirs or item.metadata.get("ownerReferences") or item.is_terminating):
                yield item


def delete_leftovers(cluster: Cluster, namespace: str) -> list[str]:
    """Empty a namespace that stays, as those of a class do; what was done, a line each."""
    return [
        f"deleted {found.kind} {found.name}"
        for found in leftovers(cluster, namespace)
        if cluster.delete(found.kind, found.name, namespace, wait_s=DELETE_TIMEOUT_S)
    ]
