"""Another team's stack on a fake cluster, in its own names, that meets all twelve criteria of the review."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from helpers.cluster.fake import FakeCluster
from helpers.grading.changes import Manifest, applied, manifest, pod, rolled_out
from helpers.review.stack import Places

SERVING, WEB, TRACES, MONITORING = "serving", "web", "tracing", "metrics"
PLACES = Places((SERVING,), (WEB,), (TRACES,), (MONITORING,))
CARD = "nvidia.com/gpu"
AMOUNTS = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
KINDS = (
    ("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects"),
    ("Rollout", "argoproj.io", "v1alpha1", "rollouts"),
    ("AnalysisTemplate", "argoproj.io", "v1alpha1", "analysistemplates"),
)
SPANS = """# TYPE otelcol_receiver_accepted_spans counter
otelcol_receiver_accepted_spans_total{receiver="otlp"} 120
otelcol_exporter_sent_spans_total{exporter="otlp"} 90
otelcol_exporter_send_failed_spans_total{exporter="otlp"} 1
"""


class World:
    """The cluster, and what its Prometheus and its Collector say; change either, then ask."""

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        for kind in KINDS:
            self.cluster.serve_kind(*kind)
        applied(*(manifest("Namespace", name) for name in (SERVING, WEB, TRACES, MONITORING)))(self.cluster)
        rolled_out(*(item for make in (model, store, front, worker, collector) for item in make()))(
            self.cluster
        )
        self.cluster.put(release())
        self.cluster.put([bound(f"data-{name}-0") for name in ("vectors",)])
        applied(*policies(), share(), scaler("model"), template())(self.cluster)
        self.cluster.put(service("prometheus-operated", MONITORING, 9090, "web", {"app": "prometheus"}))
        self.spans = SPANS
        self.kept: list[Manifest] = []
        self.targets = [target("model-1"), target("worker-1", WEB)]
        self.rules = [
            alert("Waiting", "sum(engine_waiting) > 4", "inference"),
            alert("GivenUp", "max(jobs_dead_letters) > 0", "queue"),
        ]
        self.metrics = ["engine_waiting", "jobs_dead_letters", "up"]
        self.cluster.serve(MONITORING, "prometheus-operated", 9090, self._prometheus)
        self.cluster.serve(TRACES, "collector", 8888, lambda *_: (200, self.spans))
        self.cluster.put(service("phoenix", TRACES, 6006))
        self.cluster.serve(TRACES, "phoenix", 6006, self._phoenix)

    def _prometheus(self, method: str, path: str, body: Any) -> tuple[int, str]:
        if path.startswith("/api/v1/targets"):
            data: Any = {"activeTargets": self.targets}
        elif path.startswith("/api/v1/rules"):
            data = {"groups": [{"rules": self.rules}]}
        else:
            data = self.metrics
        return 200, json.dumps({"status": "success", "data": data})

    def _phoenix(self, method: str, path: str, body: Any) -> tuple[int, str]:
        return 200, json.dumps({"data": self.kept if "/spans" in path else [{"name": "llm stack"}]})

    def edit(self, kind: str, name: str, namespace: str, change: Callable[[Manifest], object]) -> None:
        """Change a stored object, and of a workload its pods too."""
        from copy import deepcopy

        raw = deepcopy(self.cluster.view().get(kind, name, namespace).raw)
        change(raw)
        self.cluster.put(raw)
        template = raw.get("spec", {}).get("template")
        if not template:
            return
        for old in self.cluster.view().pods(namespace):
            if old.labels == template["metadata"]["labels"]:
                spec = {
                    **template["spec"],
                    "volumes": old.path("spec.volumes", template["spec"].get("volumes", [])),
                }
                self.cluster.put({**deepcopy(old.raw), "spec": {**spec, "nodeName": "substrate"}})


def target(name: str, namespace: str = SERVING, health: str = "up") -> Manifest:
    return {"labels": {"namespace": namespace, "pod": name, "job": "x"}, "health": health, "lastError": ""}


def alert(name: str, expression: str, layer: str, **other: Any) -> Manifest:
    labels = {"layer": layer} if layer else {}
    usual = {"type": "alerting", "name": name, "query": expression, "labels": labels, "health": "ok"}
    return {**usual, "annotations": {"summary": "It is so."}, **other}


def recording(name: str, expression: str) -> Manifest:
    return {"type": "recording", "name": name, "query": expression, "health": "ok"}


def work(kind: str, name: str, namespace: str, container: Manifest, **spec: Any) -> Manifest:
    labels = {"app": name}
    inner = {"containers": [{"name": name, "resources": AMOUNTS, **container}]}
    grace = spec.pop("grace", None)
    if grace:
        inner["terminationGracePeriodSeconds"] = grace
    template = {"metadata": {"labels": labels}, "spec": inner}
    return manifest(
        kind,
        name,
        namespace,
        spec={"replicas": 1, "selector": {"matchLabels": labels}, "template": template, **spec},
    )


def service(
    name: str, namespace: str, port: int, called: str = "http", selector: dict[str, str] | None = None
) -> Manifest:
    ports = [{"name": called, "port": port, "targetPort": called}]
    return manifest("Service", name, namespace, spec={"selector": selector or {"app": name}, "ports": ports})


def get(path: str, port: str = "http") -> Manifest:
    return {"httpGet": {"path": path, "port": port}}


PRE_STOP = {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}}


def model() -> list[Manifest]:
    container = {
        "image": "registry.example/engine:1.4.2",
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {**AMOUNTS, "limits": {"memory": "1Gi", CARD: "1"}},
        **{kind: get("/health") for kind in ("startupProbe", "readinessProbe", "livenessProbe")},
        **PRE_STOP,
    }
    return [work("Deployment", "model", SERVING, container, grace=60), service("model", SERVING, 8000)]


def store() -> list[Manifest]:
    container = {
        "image": "registry.example/qdrant:v1.20.0",
        "ports": [{"name": "http", "containerPort": 6333}],
        "readinessProbe": get("/readyz"),
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    claim = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": "1Gi"}}}}
    wanted = work("StatefulSet", "vectors", SERVING, container, volumeClaimTemplates=[claim])
    return [wanted, service("vectors", SERVING, 6333)]


def front() -> list[Manifest]:
    container = {
        "image": "registry.example/front@sha256:" + "0" * 64,
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": get("/readyz"),
        "livenessProbe": get("/livez"),
        **PRE_STOP,
    }
    return [work("Deployment", "front", WEB, container), service("front", WEB, 8080)]


def worker() -> list[Manifest]:
    container = {
        "image": "registry.example/front:2.0",
        "livenessProbe": get("/livez", "metrics"),
        "env": [{"name": "DRAIN_DEADLINE_S", "value": "30"}],
    }
    return [work("Deployment", "worker", WEB, container, grace=45)]


def collector() -> list[Manifest]:
    container = {"image": "registry.example/collector:0.161.0", "readinessProbe": get("/", "metrics")}
    return [work("Deployment", "collector", TRACES, container), service("collector", TRACES, 8888, "metrics")]


def release() -> list[Manifest]:
    """A Rollout of the front's other version, with an analysis on its way."""
    steps = [{"setWeight": 25}, {"analysis": {"templates": [{"templateName": "judge"}]}}, {"setWeight": 100}]
    (wanted, of_it) = front()
    wanted["kind"], wanted["apiVersion"] = "Rollout", "argoproj.io/v1alpha1"
    wanted["metadata"]["name"] = of_it["metadata"]["name"] = "answers"
    labels = {"app": "answers"}
    wanted["spec"] |= {"selector": {"matchLabels": labels}, "strategy": {"canary": {"steps": steps}}}
    wanted["spec"]["template"]["metadata"]["labels"] = labels
    of_it["spec"]["selector"] = labels
    return [wanted, of_it, pod("answers-1", wanted["spec"]["template"]["spec"], WEB, labels=labels)]


def template() -> Manifest:
    metric = {"name": "errors", "provider": {"prometheus": {"query": "1"}}}
    return {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "AnalysisTemplate",
        "metadata": {"name": "judge", "namespace": WEB},
        "spec": {"metrics": [metric]},
    }


def bound(name: str) -> Manifest:
    return manifest("PersistentVolumeClaim", name, SERVING, spec={}, status={"phase": "Bound"})


def share() -> Manifest:
    hard = {f"requests.{CARD}": "2", "requests.memory": "8Gi"}
    return manifest("ResourceQuota", "share", SERVING, spec={"hard": hard})


def scaler(name: str, target_name: str = "", **spec: Any) -> Manifest:
    usual = {
        "scaleTargetRef": {"name": target_name or name},
        "minReplicaCount": 1,
        "maxReplicaCount": 2,
        "triggers": [{"type": "prometheus", "metadata": {}}],
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name, "namespace": SERVING},
        "spec": {**usual, **spec},
    }


def policy(name: str, namespace: str, selector: Manifest, types: list[str], **rules: Any) -> Manifest:
    return manifest(
        "NetworkPolicy", name, namespace, spec={"podSelector": selector, "policyTypes": types, **rules}
    )


def policies() -> list[Manifest]:
    web = [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": WEB}}}]}]
    both = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["front", "answers"]}]}
    return [
        policy("default-deny", SERVING, {}, ["Ingress", "Egress"]),
        policy("model", SERVING, {"matchLabels": {"app": "model"}}, ["Ingress"], ingress=web),
        policy("vectors", SERVING, {"matchLabels": {"app": "vectors"}}, ["Ingress"], ingress=web),
        policy("front", WEB, both, ["Ingress"], ingress=web),
    ]
