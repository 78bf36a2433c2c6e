"""What scales by what is measured: the pool of model servers, the workers, who scales them, and how far a quota lets them.

    scaler = scaling.scaled_object(view, scaling.POOL, scaling.BATCH)
    [trigger.kind for trigger in scaler.triggers], scaling.scalers_of(view, "vllm", scaling.BATCH)

KEDA makes a HorizontalPodAutoscaler of each ScaledObject: what that one wants and why stands in its status. What
Prometheus knows is read in `helpers.stack.prometheus`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers.cluster.quantity import quantity
from helpers.errors import InvalidManifest
from helpers.settings import REPOSITORY
from helpers.stack import gpu, serving
from helpers.stack.prometheus import MONITORING

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView, Profile
    from helpers.cluster.resource import Pod, Resource

MANIFESTS = REPOSITORY / "manifests" / "stack" / "pool"
BATCH, APPS = "llm-batch", "llm-apps"
POOL, PORT, POOL_LABELS = "vllm", 8000, "app=vllm"
QUOTA = "llm-batch-quota"
WORKER, WORKER_LABELS = "llm-worker", "app=llm-worker"
STREAM, GROUP = "jobs", "workers"
# The Deployments that are scaled; a ScaledObject of another name is found by what it scales.
SCALED = {POOL: BATCH, WORKER: APPS}
LENT = "course.llm-stack/replicas-before"
PAUSED = "autoscaling.keda.sh/paused"
Manifest = dict[str, Any]


# The pool


def manifests(cluster: Cluster) -> list[Manifest]:
    """The pool's objects for this cluster: its overlay, with the cluster's own storage class, image, model and card."""
    profile = cluster.profile()
    found = cluster.kustomize(MANIFESTS / "overlays" / profile.overlay)
    return [_adapted(item, profile) for item in found]


def _adapted(item: Manifest, profile: Profile) -> Manifest:
    item = serving.adapted(item, profile)
    resource = card(profile)
    if item["kind"] == "ResourceQuota":
        hard = item["spec"]["hard"]
        for name in [name for name in hard if gpu.is_gpu(name.removeprefix("requests."))]:
            hard[f"requests.{resource}"] = hard.pop(name)
    if item["kind"] == "Deployment":
        limits = serving.container_of(item)["resources"]["limits"]
        for name in [name for name in limits if gpu.is_gpu(name)]:
            limits[resource] = limits.pop(name)
    return item


def card(profile: Profile) -> str:
    """The resource that a model server of the pool asks for one of."""
    return gpu.HALF_CARD if profile.overlay == "embedded" else profile.gpu_resource


def most_admitted(view: ClusterView) -> int | None:
    """How many pods of the pool its quotas admit beside what else they count; None where nothing limits them.

    Raises:
        ObjectMissing: there is no pool.
    """
    template = view.get("Deployment", POOL, BATCH).path("spec.template.spec", {})
    each = _asked(template)
    pods = view.pods(BATCH, labels=POOL_LABELS)
    mine = [_asked(pod.path("spec", {})) for pod in pods if pod.phase not in ("Succeeded", "Failed")]
    most = None
    for quota in view.list("ResourceQuota", BATCH):
        hard, used = (
            quota.path("status.hard", {}) or quota.path("spec.hard", {}),
            quota.path("status.used", {}),
        )
        for dimension, amount in hard.items():
            takes = each.get(dimension.removeprefix("requests."))
            if not takes:
                continue
            own = sum(item.get(dimension.removeprefix("requests."), 0) for item in mine)
            others = max(0, float(quantity(used.get(dimension, 0))) - own)
            room = int((float(quantity(amount)) - others) // takes)
            most = room if most is None else min(most, room)
    return most


def _asked(pod_spec: Mapping[str, Any]) -> dict[str, float]:
    """What a pod asks of a quota's dimensions, without `requests.`; itself is one of `pods`."""
    total: dict[str, float] = {"pods": 1}
    for container in pod_spec.get("containers") or []:
        resources = container.get("resources") or {}
        # A resource that is limited and not requested is requested at its limit.
        asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for name, amount in asked.items():
            total[name] = total.get(name, 0) + float(quantity(amount))
    return total


def live_pods(view: ClusterView, labels: str, namespace: str) -> list[Pod]:
    """Pods that are meant to serve: neither ended nor ending."""
    pods = view.pods(namespace, labels=labels)
    return [pod for pod in pods if pod.is_live and not pod.is_terminating]


# Who scales what


@dataclass(frozen=True)
class Trigger:
    """One signal of a ScaledObject: KEDA's kind of scaler, and its settings, all of them text."""

    kind: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    metric_type: str = "AverageValue"

    @property
    def query(self) -> str:
        return self.metadata.get("query", "")

    @property
    def is_blind_at_empty(self) -> bool:
        """Whether an answer without a value counts as 0, which is KEDA's default."""
        return self.metadata.get("ignoreNullValues", "true").strip().lower() not in ("false", "f", "0")


@dataclass(frozen=True)
class Scaler:
    """One ScaledObject.

    Args:
        minimum, maximum: in replicas, with KEDA's defaults of 0 and 100.
        conditions: those of its status, by type: "True", "False", "Unknown".
        hpa: the name of the HorizontalPodAutoscaler that KEDA made of it; empty before that.
        down_window_s: for how long the highest of what was wanted counts before anything goes away.
    """

    name: str
    namespace: str
    target_kind: str
    target: str
    minimum: int = 0
    maximum: int = 100
    triggers: tuple[Trigger, ...] = ()
    fallback: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, str] = field(default_factory=dict)
    hpa: str = ""
    cooldown_s: float = 300.0
    polling_s: float = 30.0
    down_window_s: float = 300.0
    paused: bool = False
    raw: Resource | None = None

    @property
    def is_ready(self) -> bool:
        return self.conditions.get("Ready") == "True"


def scaled_object(view: ClusterView, name: str, namespace: str) -> Scaler | None:
    """The ScaledObject of this name, else the one that scales the Deployment of this name; None without either."""
    found = scaled_objects(view, namespace)
    by_target = (item for item in found if (item.target_kind, item.target) == ("Deployment", name))
    return next((item for item in found if item.name == name), next(by_target, None))


def scaled_objects(view: ClusterView, namespace: str) -> list[Scaler]:
    """All ScaledObjects of a namespace; none in a cluster without KEDA."""
    return [_scaler(item) for item in _listed(view, "ScaledObject", namespace)]


def _scaler(found: Resource) -> Scaler:
    spec = found.path("spec", {}) or {}
    target = spec.get("scaleTargetRef") or {}
    status = found.path("status", {}) or {}
    behavior = found.path("spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleDown", {}) or {}
    window = behavior.get("stabilizationWindowSeconds")
    return Scaler(
        found.name,
        found.namespace or "",
        str(target.get("kind") or "Deployment"),
        str(target.get("name") or ""),
        int(_or(spec.get("minReplicaCount"), 0)),
        int(_or(spec.get("maxReplicaCount"), 100)),
        tuple(_trigger(item) for item in spec.get("triggers") or []),
        spec.get("fallback") or {},
        {str(item.get("type")): str(item.get("status")) for item in status.get("conditions") or []},
        str(status.get("hpaName") or ""),
        float(_or(spec.get("cooldownPeriod"), 300)),
        float(_or(spec.get("pollingInterval"), 30)),
        float(_or(window, 300)),
        any(_pauses(key, value) for key, value in found.annotations.items()),
        found,
    )


def _pauses(annotation: str, value: str) -> bool:
    """As KEDA reads them: `paused-replicas` always pauses, and the others unless they say no."""
    if not annotation.startswith(PAUSED):
        return False
    return annotation == f"{PAUSED}-replicas" or value not in ("0", "f", "F", "false", "False", "FALSE")


def _trigger(item: Mapping[str, Any]) -> Trigger:
    metadata = {str(key): str(value) for key, value in (item.get("metadata") or {}).items()}
    return Trigger(str(item.get("type") or ""), metadata, str(item.get("metricType") or "AverageValue"))


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def scalers_of(view: ClusterView, deployment: str, namespace: str) -> list[str]:
    """Whoever scales this Deployment: ScaledObjects, and HorizontalPodAutoscalers that none of them made."""
    found = [
        f"ScaledObject {item.name}"
        for item in scaled_objects(view, namespace)
        if (item.target_kind, item.target) == ("Deployment", deployment)
    ]
    for hpa in view.list("HorizontalPodAutoscaler", namespace):
        target = hpa.path("spec.scaleTargetRef", {}) or {}
        owners = {owner.get("kind") for owner in hpa.metadata.get("ownerReferences") or []}
        if (target.get("kind"), target.get("name")) == (
            "Deployment",
            deployment,
        ) and "ScaledObject" not in owners:
            found.append(f"HorizontalPodAutoscaler {hpa.name}")
    return found


@dataclass(frozen=True)
class Standing:
    """A scaled Deployment now.

    Args:
        asked: replicas that are asked for.
        ready: of these, how many serve.
        desired: what the HorizontalPodAutoscaler of its ScaledObject wants; None without one.
        metrics: what that one read last, as a value per replica, by the metric's name.
        is_active: it has a figure to go by. At zero replicas it has none, and KEDA watches in its place.
        fallback: KEDA goes by the ScaledObject's `fallback`.
    """

    asked: int = 0
    ready: int = 0
    pods: int = 0
    desired: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    is_active: bool = False
    fallback: bool = False


def standing(view: ClusterView, name: str, namespace: str) -> Standing:
    """A scaled Deployment and its scaler, as they are now.

    Raises:
        ObjectMissing: there is no such Deployment.
    """
    deployment = view.get("Deployment", name, namespace)
    scaler = scaled_object(view, name, namespace)
    hpa = view.find("HorizontalPodAutoscaler", scaler.hpa, namespace) if scaler and scaler.hpa else None
    active = hpa.conditions("ScalingActive") if hpa else None
    return Standing(
        asked=int(deployment.path("spec.replicas", 1)),
        ready=int(deployment.path("status.readyReplicas", 0) or 0),
        pods=int(deployment.path("status.replicas", 0) or 0),
        desired=int(hpa.path("status.desiredReplicas", 0) or 0) if hpa else None,
        metrics=_metrics(hpa) if hpa else {},
        is_active=bool(active and active.is_true),
        fallback=scaler is not None and scaler.conditions.get("Fallback") == "True",
    )


def _metrics(hpa: Resource) -> dict[str, float]:
    found = {}
    for item in hpa.path("status.currentMetrics", []) or []:
        outer = item.get("external") or item.get("resource") or {}
        current = outer.get("current") or {}
        name = str((outer.get("metric") or {}).get("name") or outer.get("name") or "")
        value = current.get("averageValue", current.get("value", current.get("averageUtilization")))
        if value is not None:
            found[name] = float(quantity(value))
    return found


def _listed(view: ClusterView, kind: str, namespace: str) -> list[Resource]:
    try:
        return view.list(kind, namespace)
    except InvalidManifest:  # this cluster knows no such kind
        return []


# Prometheus goes away, and comes back


def prometheuses(view: ClusterView) -> list[Resource]:
    """Every Prometheus of llm-monitoring; none in a cluster without its Operator."""
    return _listed(view, "Prometheus", MONITORING)


def prometheus_away(cluster: Cluster) -> bool:
    """Scale every Prometheus of llm-monitoring to zero and remember its size on it; whether there was one.

    Raises:
        Forbidden: it is the instructor's.
    """
    names = []
    for found in prometheuses(cluster.view()):
        if LENT not in found.annotations:
            size = str(found.path("spec.replicas", 1))
            body = {"metadata": {"annotations": {LENT: size}}, "spec": {"replicas": 0}}
            cluster.patch("Prometheus", found.name, body, MONITORING)
        names.append(found.name)
    return bool(names)


def prometheus_is_away(view: ClusterView) -> bool:
    """Whether every Prometheus is still as `prometheus_away` left it."""
    found = prometheuses(view)
    return bool(found) and all(LENT in item.annotations for item in found)


def lent(view: ClusterView) -> list[Resource]:
    """Those that `prometheus_away` left away."""
    return [found for found in prometheuses(view) if LENT in found.annotations]


def prometheus_back(cluster: Cluster) -> list[str]:
    """Undo `prometheus_away`, whoever left it so; the names of those that came back."""
    if cluster.scope.suffix:  # in a class it is the instructor's, and no learner took it away
        return []
    found = lent(cluster.view())
    for item in found:
        cluster.patch("Prometheus", item.name, way_back(item), MONITORING)
    return [item.name for item in found]


def way_back(found: Resource) -> dict[str, Any]:
    """The patch after which a Prometheus has the size that it has now, or had before it was away."""
    size = found.annotations.get(LENT, found.path("spec.replicas", 1))
    return {"metadata": {"annotations": {LENT: None}}, "spec": {"replicas": int(size)}}
