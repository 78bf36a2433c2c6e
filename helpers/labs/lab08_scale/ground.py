"""What lab 08 stands on, what it puts there, and how it goes away again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from helpers.cluster.manifests import load
from helpers.errors import Forbidden, InvalidManifest
from helpers.labs.lab07_gates import ground as ground_of_lab_07
from helpers.progress import Progress
from helpers.settings import REPOSITORY
from helpers.stack import gpu, jobs, kafka, orchestrator, scaling

if TYPE_CHECKING:
    from helpers.cluster import Cluster

APPS, BATCH = scaling.APPS, scaling.BATCH
STACK = REPOSITORY / "manifests" / "stack"
QUOTA = "llm-system-quota"
LEFT_BY_LAB_01 = REPOSITORY / "manifests" / "labs" / "02" / "start" / "substrate.yaml"
READY_S = 300.0
CPU_HPA = "vllm-cpu"
Manifest = dict[str, Any]

# What the lab's parts make, in the order in which it goes away: scalers first, for they undo what they are not told.
LAB_OBJECTS = (
    ("ScaledObject", scaling.POOL, BATCH),
    ("ScaledObject", scaling.WORKER, APPS),
    ("HorizontalPodAutoscaler", CPU_HPA, BATCH),
    ("PrometheusRule", "llm-rules", BATCH),
    ("ServiceMonitor", "vllm", BATCH),
    ("ServiceMonitor", "vllm", "llm-system"),
    ("PodMonitor", "llm-jobs", APPS),
    ("ConfigMap", jobs.DECISIONS, APPS),
)
# Deployments whose size scalers change, and what the start gives each.
SIZES = ((scaling.POOL, BATCH, 1), (scaling.WORKER, APPS, 1))


def prepare(cluster: Cluster, progress: Progress) -> list[str]:
    """What lab 07 starts with where it is missing, the second card, pool, queue, jobs and operators, all Ready."""
    from helpers.stack.operators import ensure_scaling

    done = ground_of_lab_07.prepare(cluster, progress)
    scaling.prometheus_back(cluster)
    done += _durable_redis(cluster, progress)
    done += _bounded(cluster)
    if cluster.profile().overlay == "embedded" and not cluster.scope.suffix:
        progress("the second card, in two halves")
        gpu.add_second_card()
    done += _put(cluster, progress, "the pool", scaling.manifests(cluster))
    done += _put(cluster, progress, "the queue", jobs.queue_manifests(cluster))
    done += _put(cluster, progress, "llm-jobs and llm-worker", jobs.manifests(cluster))
    done += ensure_scaling(cluster, progress)
    done += _monitor_of_lab_03(cluster)
    for kind, name, namespace in (
        ("StatefulSet", jobs.QUEUE, BATCH),
        ("Deployment", scaling.POOL, BATCH),
        ("Deployment", jobs.FRONT, APPS),
        ("Deployment", jobs.WORKER, APPS),
    ):
        progress(f"{name}: waiting until it is ready")
        cluster.wait_rollout(kind, name, namespace, timeout_s=READY_S)
    return done


def _put(cluster: Cluster, progress: Progress, name: str, found: list[Manifest]) -> list[str]:
    """These objects, where their workloads are not there yet: what a learner or a scaler did since stays."""
    view, workloads = cluster.view(), ("Deployment", "StatefulSet")
    wanted = [(item["kind"], item["metadata"]) for item in found if item["kind"] in workloads]
    if all(view.find(kind, metadata["name"], metadata["namespace"]) for kind, metadata in wanted):
        return []
    progress(f"applying {name}")
    return _said(cluster.apply(found))


def _said(applied: Any) -> list[str]:
    return [f"{item.action} {item.kind} {item.name}" for item in applied if item.action != "unchanged"]


def _durable_redis(cluster: Cluster, progress: Progress) -> list[str]:
    """Lab 06's Redis as its solution has it, where it is a prototype's: nothing may go live on an emptyDir."""
    found = cluster.view().get("StatefulSet", orchestrator.REDIS, orchestrator.SYSTEM)
    if found.path("spec.volumeClaimTemplates"):
        return []
    progress("redis: a claim of its own")
    overlay = orchestrator.REDIS_MANIFESTS / "overlays" / cluster.profile().overlay
    (wanted,) = (item for item in cluster.kustomize(overlay) if item["kind"] == "StatefulSet")
    cluster.apply_or_replace(wanted)
    cluster.wait_rollout("StatefulSet", orchestrator.REDIS, orchestrator.SYSTEM)
    return ["StatefulSet redis has a claim of its own, as lab 06 leaves it"]


def _bounded(cluster: Cluster) -> list[str]:
    """The quota that lab 01 leaves in llm-system, where it is missing."""
    if cluster.view().find("ResourceQuota", QUOTA, orchestrator.SYSTEM):
        return []
    found = load(LEFT_BY_LAB_01.read_text())
    return _said(cluster.apply([item for item in found if item["kind"] == "ResourceQuota"]))


def _monitor_of_lab_03(cluster: Cluster) -> list[str]:
    """Qdrant's ServiceMonitor, which lab 03 could not make while nobody served the kind; its label is another one's."""
    if cluster.view().list("ServiceMonitor", orchestrator.SYSTEM):
        return []
    return _said(cluster.apply(cluster.kustomize(STACK / "qdrant" / "monitoring")))


def clear(cluster: Cluster, progress: Progress, made: Iterable[tuple[str, str]]) -> list[str]:
    """What the lab made goes, and pool, queue and jobs are as the start has them; a second time finds nothing to do."""
    scaling.prometheus_back(cluster)
    done = []
    witnesses = [("Job", name, namespace) for name, namespace in made]
    for kind, name, namespace in (*witnesses, *LAB_OBJECTS):
        try:
            gone = cluster.delete(kind, name, namespace, grace_s=1)
        except (Forbidden, InvalidManifest):  # the instructor's; or no such kind is served here
            continue
        if gone:
            progress(f"{kind} {name} deleted")
            done.append(f"{kind} {name} deleted")
    done += kafka.reset(cluster)
    view = cluster.view()
    for name, namespace, replicas in SIZES:
        found = view.find("Deployment", name, namespace)
        if found is not None and found.path("spec.replicas", 1) != replicas:
            cluster.patch("Deployment", name, {"spec": {"replicas": replicas}}, namespace)
            done.append(f"Deployment {name} has {replicas} replica again")
    if view.find("Deployment", jobs.FRONT, APPS) is not None:
        done += _said(item for item in cluster.apply(_settings(cluster)) if item.action != "unchanged")
        jobs.roll_out(cluster)
    return done


def _settings(cluster: Cluster) -> list[Manifest]:
    """The settings of queue and jobs as the start has them."""
    found = [*jobs.queue_manifests(cluster), *jobs.manifests(cluster)]
    return [item for item in found if item["kind"] == "ConfigMap"]
