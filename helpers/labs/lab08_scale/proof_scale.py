"""What the operators make of the learner's objects on a fake cluster: Prometheus by its monitors and rules, KEDA's status.

Prometheus answers from what is in the cluster when it is asked: a monitor with a label that it does not select, or
with a port that nobody has, brings no target, as it does in a real one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from helpers.cluster.selectors import matches
from helpers.errors import InvalidManifest
from helpers.grading.changes import Change, Manifest, manifest
from helpers.stack import prometheus, scaling

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.cluster.resource import Resource

PROMETHEUS = "course"
# What the stack reports, as far as rules of the page read it.
REPORTED = (
    *("up", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc"),
    *("llm_jobs_waiting", "llm_jobs_pending", "llm_jobs_dead_letters", "llm_jobs_total"),
    *(f"llm_{name}_seconds_bucket" for name in ("job", "retrieval", "generation")),
)
SCALED_BY = {scaling.POOL: "keda-hpa-vllm", scaling.WORKER: "keda-hpa-llm-worker"}


def start(cluster: Any) -> None:
    """A Prometheus that knows nothing yet."""
    spec = {"replicas": 1, "serviceMonitorSelector": {"matchLabels": dict(prometheus.RELEASE)}}
    cluster.put(
        {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "Prometheus",
            "metadata": {"name": PROMETHEUS, "namespace": prometheus.MONITORING},
            "spec": spec,
        }
    )
    ports = [{"name": "web", "port": prometheus.PORT}]
    cluster.put(manifest("Service", prometheus.SERVICE, prometheus.MONITORING, spec={"ports": ports}))
    prometheus_answers()(cluster)


def solved(cluster: Any) -> None:
    """KEDA has taken both ScaledObjects, and made a HorizontalPodAutoscaler of each."""
    for name in scaling.SCALED:
        taken(name)(cluster)


def taken(name: str, *, hpa: bool = True, **conditions: str) -> Change:
    """A ScaledObject as KEDA leaves it: its conditions, and the HorizontalPodAutoscaler that it made."""
    namespace = scaling.SCALED[name]
    found = {"Ready": "True", "Active": "False", "Fallback": "False", "Paused": "False"} | conditions

    def change(cluster: Any) -> None:
        status: Manifest = {"conditions": [{"type": key, "status": value} for key, value in found.items()]}
        if hpa:
            status["hpaName"] = SCALED_BY[name]
        scaled = cluster.set_status("ScaledObject", name, status, namespace)
        if hpa:
            cluster.put(_hpa(scaled, namespace))

    return change


def _hpa(scaled: Resource, namespace: str) -> Manifest:
    owner = {"kind": "ScaledObject", "name": scaled.name, "apiVersion": "keda.sh/v1alpha1", "uid": scaled.uid}
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": scaled.path("spec.scaleTargetRef.name")}
    found = manifest(
        "HorizontalPodAutoscaler",
        SCALED_BY[scaled.name],
        namespace,
        spec={"scaleTargetRef": target, "maxReplicas": 2},
        status={"desiredReplicas": 1, "conditions": [{"type": "ScalingActive", "status": "True"}]},
    )
    found["metadata"]["ownerReferences"] = [owner]
    return found


def prometheus_answers(
    *, down: str = "", failing: str = "", silent: str = "", gone: bool = False, remembers: bool = False
) -> Change:
    """Prometheus, as the cluster's monitors and rules make it.

    Args:
        down: the name of a pod that does not answer it; failing: of a rule that it cannot evaluate; silent: of a
            recorded series without a value.
        gone: it does not answer at all.
        remembers: it asked everybody within the hour, whomever it asks now.
    """

    def change(cluster: Any) -> None:
        def answer(method: str, path: str, body: Any) -> tuple[int, str]:
            if gone:
                return 503, "no healthy upstream"
            asked = urlsplit(path)
            if remembers and "up{" in parse_qs(asked.query).get("query", [""])[0]:
                result = {"resultType": "vector", "result": [{"metric": {}, "value": [0, "1"]}]}
                return 200, json.dumps({"status": "success", "data": result})
            data = _data(
                cluster.view(), asked.path.rpartition("/")[2], parse_qs(asked.query), down, failing, silent
            )
            return 200, json.dumps({"status": "success", "data": data})

        cluster.serve(prometheus.MONITORING, prometheus.SERVICE, prometheus.PORT, answer)

    return change


def _data(
    view: ClusterView, what: str, asked: Mapping[str, list[str]], down: str, failing: str, silent: str
) -> Any:
    if what == "targets":
        return {"activeTargets": list(_targets(view, down))}
    if what == "scrape_pools":
        kinds = {"ServiceMonitor": "serviceMonitor", "PodMonitor": "podMonitor"}
        found = [(kind, item) for kind in kinds for item in _selected(view, kind)]
        return {"scrapePools": [f"{kinds[kind]}/{item.namespace}/{item.name}/0" for kind, item in found]}
    if what == "rules":
        return {"groups": [{"rules": list(_rules(view, failing))}]}
    if what == "values":  # of the label __name__
        return [*REPORTED, *(rule["name"] for rule in _rules(view, "") if rule["type"] == "recording")]
    (query,) = asked["query"]
    return {"resultType": "vector", "result": list(_values(view, query, down, silent))}


def _selected(view: ClusterView, kind: str) -> Iterator[Resource]:
    try:
        found = view.list(kind, all_namespaces=True)
    except InvalidManifest:
        return
    yield from (item for item in found if item.labels.items() >= prometheus.RELEASE.items())


def _targets(view: ClusterView, down: str) -> Iterator[Manifest]:
    for monitor in _selected(view, "ServiceMonitor"):
        for service in view.list("Service", all_namespaces=True):
            if not _looks_into(monitor, service) or not matches(
                monitor.path("spec.selector", {}), service.labels
            ):
                continue
            ports = {item.get("name") for item in service.path("spec.ports", [])}
            chosen = {"matchLabels": service.path("spec.selector", {})}
            for _ in (item for item in monitor.path("spec.endpoints", []) if item.get("port") in ports):
                yield from _of_pods(view, monitor, chosen, None, down, service.namespace)
    for monitor in _selected(view, "PodMonitor"):
        for endpoint in monitor.path("spec.podMetricsEndpoints", []):
            yield from _of_pods(view, monitor, monitor.path("spec.selector", {}), endpoint.get("port"), down)


def _looks_into(monitor: Resource, found: Resource) -> bool:
    """Whether a monitor selects in this object's namespace: in its own, unless it names others."""
    chosen = monitor.path("spec.namespaceSelector", {}) or {}
    return bool(chosen.get("any")) or found.namespace in (chosen.get("matchNames") or [monitor.namespace])


def _of_pods(
    view: ClusterView,
    monitor: Resource,
    selector: Mapping[str, Any],
    port: str | None,
    down: str,
    namespace: str | None = None,
) -> Iterator[Manifest]:
    for pod in view.list("Pod", all_namespaces=True):
        inside = pod.namespace == namespace if namespace else _looks_into(monitor, pod)
        if not inside or not matches(selector, pod.labels):
            continue
        ports = {
            item.get("name") for box in pod.path("spec.containers", []) for item in box.get("ports") or []
        }
        if port is not None and port not in ports:
            continue
        broken = pod.name == down
        yield {
            "scrapePool": f"{monitor.kind[0].lower()}{monitor.kind[1:]}/{monitor.namespace}/{monitor.name}/0",
            "labels": {"namespace": pod.namespace, "pod": pod.name, "job": monitor.name},
            "health": "down" if broken else "up",
            "lastError": "context deadline exceeded" if broken else "",
        }


def _rules(view: ClusterView, failing: str) -> Iterator[Manifest]:
    for found in _selected(view, "PrometheusRule"):
        for rule in (rule for group in found.path("spec.groups", []) for rule in group.get("rules") or []):
            name = rule.get("record") or rule.get("alert")
            yield {
                "name": name,
                "type": "recording" if "record" in rule else "alerting",
                "query": rule.get("expr", ""),
                "labels": deepcopy(rule.get("labels") or {}),
                "annotations": deepcopy(rule.get("annotations") or {}),
                "health": "err" if name == failing else "ok",
                "lastError": "found duplicate series" if name == failing else "",
                "state": "inactive",
            }


def _values(view: ClusterView, query: str, down: str, silent: str) -> Iterator[Manifest]:
    """1 for what was asked and up within the hour, 0 for whatever else is recorded or exists."""
    if "up{" in query:
        pattern = re.search(r'namespace="([^"]+)",pod=~"([^"]+)"', query)
        wanted = pattern.groups() if pattern else ("", "")
        hits = [
            item["health"]
            for item in _targets(view, down)
            if item["labels"]["namespace"] == wanted[0] and re.fullmatch(wanted[1], item["labels"]["pod"])
        ]
        if hits:
            yield {"metric": {}, "value": [0, "1" if "up" in hits else "0"]}
        return
    names = {rule["name"] for rule in _rules(view, "")}
    if query != silent and (query in names or not re.fullmatch(r"[a-z_:]+", query)):
        yield {"metric": {"__name__": query}, "value": [0, "0"]}
