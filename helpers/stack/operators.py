"""What scales, and whom it asks: KEDA, metrics-server, the Prometheus Operator, and the course's Prometheus.

One of each serves a whole cluster, so one that somebody else installed is used as it is. Whether an API that another
server answers is to be had is said by its APIService: a pod may be Ready before the API server has reached it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.cluster.waits import NotYet
from helpers.errors import EnvironmentFault
from helpers.progress import Progress
from helpers.stack.bring_up import MANIFESTS, READY_TIMEOUT_S, every_ten, served_to_the_class

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

MONITORING, PROMETHEUS = "llm-monitoring", "course"
# Where Prometheus looks for targets: it has a Role in each.
SCRAPED = ("llm-apps", "llm-batch", "llm-gateway", MONITORING, "llm-system")
EXTERNAL_METRICS, POD_METRICS = "v1beta1.external.metrics.k8s.io", "v1beta1.metrics.k8s.io"


@dataclass(frozen=True)
class Operator:
    """One part that serves the whole cluster.

    Args:
        folder: of its manifests, below `manifests/stack`.
        labels: upstream's; a Deployment with one of them, in any namespace, is an installation.
        deployments: name and namespace of ours.
        kind, api_version: of what a learner makes for it; empty where it has no kinds.
        api: the APIService that it answers for.
    """

    title: str
    folder: str
    labels: tuple[str, ...]
    deployments: tuple[tuple[str, str], ...]
    kind: str = ""
    api_version: str = ""
    api: str = ""


KEDA = Operator(
    "KEDA",
    "keda",
    ("app.kubernetes.io/name=keda-operator",),
    (("keda-operator", "keda"), ("keda-metrics-apiserver", "keda")),
    "ScaledObject",
    "keda.sh/v1alpha1",
    EXTERNAL_METRICS,
)
PROMETHEUS_OPERATOR = Operator(
    "Prometheus Operator",
    "prometheus-operator",
    # The second is the Helm chart's.
    ("app.kubernetes.io/name=prometheus-operator", "app.kubernetes.io/component=prometheus-operator"),
    (("prometheus-operator", MONITORING),),
    "ServiceMonitor",
    "monitoring.coreos.com/v1",
)
METRICS_SERVER = Operator(
    "metrics-server",
    "metrics-server",
    ("k8s-app=metrics-server", "app.kubernetes.io/name=metrics-server"),
    (("metrics-server", "kube-system"),),
    api=POD_METRICS,
)
OPERATORS = (KEDA, PROMETHEUS_OPERATOR, METRICS_SERVER)


def ensure_scaling(cluster: Cluster, progress: object = None) -> list[str]:
    """The three operators and the course's Prometheus, Ready, and both metrics APIs Available; what was done.

    Raises:
        EnvironmentFault: another server answers for external metrics; or a seat of a class, whose instructor
            did not install them.
        WaitTimeout, WaitRejected: one of them does not become Ready, with its events.
    """
    say: Progress = progress if callable(progress) else lambda line: None
    if cluster.scope.suffix:
        for part in OPERATORS:
            if part.kind:
                served_to_the_class(cluster, part.title, part.folder, part.kind, part.api_version)
        return []
    done: list[str] = []
    # All begin at once: KEDA's first start waits for certificates that it makes itself.
    for operator in OPERATORS:
        done += _install(cluster, operator, say)
    done += _apply_prometheus(cluster, say)
    for operator in OPERATORS:
        _wait_for(cluster, operator, say)
    cluster.wait_until(
        "Prometheus runs",
        prometheus_available,
        timeout_s=READY_TIMEOUT_S,
        on_progress=every_ten("Prometheus", say),
    )
    return done


def is_installed(view: ClusterView, operator: Operator) -> bool:
    """Whether the cluster has it, ours or somebody else's."""
    return any(view.list("Deployment", labels=label, all_namespaces=True) for label in operator.labels)


def _install(cluster: Cluster, operator: Operator, say: Progress) -> list[str]:
    view = cluster.view()
    if is_installed(view, operator):
        return []
    other = view.find("APIService", operator.api) if operator.api else None
    if other is not None and not _is_ours(other.path("spec.service", {}) or {}, operator):
        if operator is METRICS_SERVER:
            return []  # another server's answers about pods' CPU are as good
        raise EnvironmentFault(
            f"{operator.api} is answered by {other.path('spec.service.namespace')}/{other.path('spec.service.name')}: "
            "a cluster has one server of external metrics, and lab 08 needs KEDA's",
            next_command=f"kubectl get apiservice {operator.api} -o yaml",
        )
    say(f"applying {operator.title}")
    objects = _overlay(cluster, operator.folder)
    definitions = [item for item in objects if item["kind"] == "CustomResourceDefinition"]
    done = _applied(cluster, objects)
    for item in definitions:
        cluster.wait_ready(item["kind"], item["metadata"]["name"])
    return done


def _is_ours(service: dict[str, Any], operator: Operator) -> bool:
    return (service.get("name"), service.get("namespace")) in operator.deployments


def _apply_prometheus(cluster: Cluster, say: Progress) -> list[str]:
    view = cluster.view()
    missing = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in SCRAPED
        if view.find("Namespace", name) is None
    ]
    say("applying Prometheus")
    return _applied(cluster, [*missing, *_overlay(cluster, "monitoring")])


def _overlay(cluster: Cluster, folder: str) -> list[dict[str, Any]]:
    return cluster.kustomize(MANIFESTS / folder / "overlays" / cluster.profile().overlay)


def _applied(cluster: Cluster, objects: list[dict[str, Any]]) -> list[str]:
    return [
        f"{item.action} {item.kind} {item.name}"
        for item in cluster.apply(objects)
        if item.action != "unchanged"
    ]


def _wait_for(cluster: Cluster, operator: Operator, say: Progress) -> None:
    for name, namespace in operator.deployments:
        if cluster.view().find("Deployment", name, namespace):
            cluster.wait_rollout(
                "Deployment", name, namespace, timeout_s=READY_TIMEOUT_S, on_progress=every_ten(name, say)
            )
    if operator.api:
        cluster.wait_until(
            f"APIService {operator.api} Available",
            lambda view: api_available(view, operator.api),
            timeout_s=READY_TIMEOUT_S,
            on_progress=every_ten(operator.api, say),
        )


def api_available(view: ClusterView, name: str) -> bool:
    """Whether the API server reaches the server behind an APIService; NotYet with its words where it does not.

    Raises:
        ObjectMissing: there is no such APIService.
    """
    return _condition(view.get("APIService", name).path("status.conditions"), "Available")


def prometheus_available(view: ClusterView) -> bool:
    """Whether the operator says of the course's Prometheus that its pod is up with its newest configuration.

    Raises:
        ObjectMissing: there is no such Prometheus.
    """
    found = view.get("Prometheus", PROMETHEUS, MONITORING)
    conditions = found.path("status.conditions")
    generation = found.metadata.get("generation", 0)
    if any(item.get("observedGeneration", generation) != generation for item in conditions or []):
        raise NotYet("the operator has not seen the change")
    return _condition(conditions, "Reconciled") and _condition(conditions, "Available")


def _condition(conditions: Any, wanted: str) -> bool:
    for item in conditions or []:
        if item.get("type") == wanted and item.get("status") == "True":
            return True
        if item.get("type") == wanted:
            raise NotYet(f"{wanted} is {item.get('status')}: {item.get('message') or item.get('reason')}")
    raise NotYet(f"{wanted} is not said yet")
