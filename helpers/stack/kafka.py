"""The queue on Kafka, for whoever wants it: the broker is put in place, front and workers are moved to it, and back.

    kafka.switch_on(cluster, say)
    kafka.switch_off(cluster, say)

No job is left behind: the front moves first, the workers work off the old stream, and then they move.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.cluster.waits import NotYet
from helpers.errors import EnvironmentFault
from helpers.settings import REPOSITORY
from helpers.stack import jobs, scaling
from helpers.stack.bring_up import load_images
from helpers.stack.images import missing
from helpers.stack.metrics import Metrics

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

Say = Callable[[str], object]
MANIFESTS = REPOSITORY / "manifests" / "stack" / "kafka"
KAFKA, SWITCH = "kafka", "JOBS_QUEUE"
BOOTSTRAP = f"{KAFKA}.{jobs.BATCH}.svc.cluster.local:9092"
ON: dict[str, str | None] = {SWITCH: KAFKA, "KAFKA_BOOTSTRAP": BOOTSTRAP}
OFF: dict[str, str | None] = dict.fromkeys(ON)
READY_S, WORKED_OFF_S = 300.0, 300.0
# Workers count once a second.
QUIET_S = 3.0
# A claim is kept for as long as a pod has it.
GONE_S, WAITED_FOR = 60.0, ("StatefulSet", "PersistentVolumeClaim")
PROMETHEUS = "http://prometheus-operated.llm-monitoring.svc.cluster.local:9090"
# The triggers that a ScaledObject had before the switch.
BEFORE = "course.llm-stack/triggers-before-kafka"
MADE = (
    ("StatefulSet", KAFKA, jobs.BATCH),
    ("Service", KAFKA, jobs.BATCH),
    ("ConfigMap", "kafka-config", jobs.BATCH),
    ("NetworkPolicy", KAFKA, jobs.BATCH),
    ("NetworkPolicy", "jobs-to-kafka", jobs.APPS),
    ("PersistentVolumeClaim", "kafka-data-kafka-0", jobs.BATCH),
)


def is_on(view: ClusterView) -> bool:
    """Whether front and workers are told to use Kafka."""
    return jobs.settings_in(view).get(SWITCH) == KAFKA


def manifests(cluster: Cluster) -> list[dict[str, Any]]:
    """The broker, for this cluster."""
    return cluster.kustomize(MANIFESTS / "overlays" / cluster.profile().overlay)


def switch_on(cluster: Cluster, say: Say) -> None:
    """Put Kafka in place and move the queue to it; harmless where it is there.

    Raises:
        EnvironmentFault: a seat of a class; or the image could not be made.
        ObjectMissing: front or workers are not there.
        WaitTimeout, WaitRejected: Kafka does not become ready, or the workers do not work off Redis's stream.
    """
    if cluster.scope.suffix:
        raise EnvironmentFault(
            "a class has no Kafka: this part needs a cluster of your own", next_command="course up"
        )
    cluster.view().get("Deployment", jobs.FRONT, jobs.APPS)
    if missing(cluster, [KAFKA]):
        say("making Kafka's image")
        load_images(KAFKA)
    say("Kafka: waiting until it is ready")
    cluster.apply(manifests(cluster))
    cluster.wait_rollout("StatefulSet", KAFKA, jobs.BATCH, timeout_s=READY_S)
    _move(cluster, say, ON)
    _scale_by_metric(cluster)


def switch_off(cluster: Cluster, say: Say) -> None:
    """Move the queue back to Redis, and take Kafka away with what it kept; harmless where it is not there.

    Raises:
        WaitTimeout, WaitRejected: the workers do not work off Kafka's topic.
    """
    if cluster.view().find("StatefulSet", KAFKA, jobs.BATCH):
        _move(cluster, say, OFF)  # also where an earlier try got half way
    take_away(cluster)


def reset(cluster: Cluster) -> list[str]:
    """As `switch_off`, whatever is still in the topic; nothing happens where Kafka is not there."""
    view = cluster.view()
    if not is_on(view) and view.find("StatefulSet", KAFKA, jobs.BATCH) is None:
        return []
    jobs.configure(cluster, OFF)
    return take_away(cluster)


def take_away(cluster: Cluster) -> list[str]:
    """Delete Kafka and what it kept, and let the workers be scaled as before; what was done."""
    _scale_as_before(cluster)
    return [
        f"{kind} {name} deleted"
        for kind, name, namespace in MADE
        if cluster.delete(kind, name, namespace, grace_s=1, wait_s=GONE_S if kind in WAITED_FOR else 0)
    ]


def _move(cluster: Cluster, say: Say, settings: dict[str, str | None]) -> None:
    """The front, then what is left in the stream before, then the workers."""
    jobs.configure(cluster, settings, at_once=False)
    say("the front moves")
    _replace(cluster, jobs.FRONT)
    if not _knows(cluster.view(), jobs.WORKER):
        say("the workers work off what is left")
        cluster.wait_until("all jobs are worked off", _worked_off(cluster), timeout_s=WORKED_OFF_S)
    say("the workers move")
    _replace(cluster, jobs.WORKER)


def _replace(cluster: Cluster, name: str) -> None:
    """New pods that know the settings, and none of the old ones, which may still take what comes."""
    if _knows(cluster.view(), name):
        return
    before = {pod.uid for pod in cluster.view().pods(jobs.APPS, labels=f"app={name}")}
    jobs.roll_out(cluster, name)
    cluster.wait_rollout("Deployment", name, jobs.APPS, timeout_s=jobs.READY_S)

    def gone(view: ClusterView) -> bool:
        return not before & {pod.uid for pod in view.pods(jobs.APPS, labels=f"app={name}")}

    cluster.wait_until(f"the pods of {name} before are gone", gone, timeout_s=jobs.READY_S)


def _knows(view: ClusterView, name: str) -> bool:
    """Whether this Deployment's pods are made with the settings as they are."""
    template = view.get("Deployment", name, jobs.APPS).path("spec.template.metadata.annotations", {})
    return jobs.checksums(view).items() <= template.items()


def _worked_off(cluster: Cluster) -> Callable[[ClusterView], bool]:
    """Whether workers that still have the stream before say, for a while, that nothing is left in it."""
    since = [time.monotonic()]

    def look(view: ClusterView) -> bool:
        left = _left(cluster, view)
        if left:
            since[0] = time.monotonic()
            raise NotYet(f"{left:.0f} are left")
        if time.monotonic() - since[0] < QUIET_S:
            raise NotYet("none is left just now")
        return True

    return look


def _left(cluster: Cluster, view: ClusterView) -> float:
    """How many entries a worker counts that are not done with; where there is none, one is started that tells."""
    import httpx

    pods = scaling.live_pods(view, jobs.WORKER_LABELS, jobs.APPS)
    if not pods:  # scaled to zero
        cluster.patch("Deployment", jobs.WORKER, {"spec": {"replicas": 1}}, jobs.APPS)
    ready = [pod for pod in pods if pod.is_ready]
    if not ready:
        return 1
    with cluster.port_forward(jobs.APPS, f"pod/{ready[0].name}", jobs.METRICS_PORT) as forward:
        seen = Metrics.parse(httpx.get(f"{forward.url}/metrics", timeout=10).text)
    return sum(seen.value(f"llm_jobs_{name}") or 0 for name in ("waiting", "pending"))


# Who scales the workers


def _scale_by_metric(cluster: Cluster) -> None:
    """The workers' ScaledObject, where there is one: KEDA is built without Kafka's trigger, and asks Prometheus."""
    scaler = scaling.scaled_object(cluster.view(), scaling.WORKER, jobs.APPS)
    if scaler is None or scaler.raw is None or BEFORE in scaler.raw.annotations:
        return
    lag = next(
        (item.metadata.get("lagCount") for item in scaler.triggers if item.kind == "redis-streams"), None
    )
    metadata = {"serverAddress": PROMETHEUS, "query": "max(llm_jobs_waiting)"}
    metadata |= {"threshold": lag or "4", "ignoreNullValues": "false"}
    told = json.dumps(scaler.raw.path("spec.triggers", []))
    body = {
        "metadata": {"annotations": {BEFORE: told}},
        "spec": {"triggers": [{"type": "prometheus", "metadata": metadata}]},
    }
    cluster.patch("ScaledObject", scaler.name, body, jobs.APPS)


def _scale_as_before(cluster: Cluster) -> None:
    for scaler in scaling.scaled_objects(cluster.view(), jobs.APPS):
        told = scaler.raw.annotations.get(BEFORE) if scaler.raw else None
        if told is not None:
            body = {"metadata": {"annotations": {BEFORE: None}}, "spec": {"triggers": json.loads(told)}}
            cluster.patch("ScaledObject", scaler.name, body, jobs.APPS)
