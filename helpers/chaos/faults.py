"""The faults: each reads the cluster and answers with a plan, how to inject it and how to undo it.

A fault names the layer that owns it and its cause: what a learner diagnoses on a game day. Nothing
here changes anything; `steps.py` does, and only in the lab's namespaces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.chaos.steps import Plan, Step
from helpers.errors import ObjectMissing

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

SYSTEM, APPS = "llm-system", "llm-apps"
CLIENT_OF = {"vllm": "inference", "qdrant": "retrieval"}
# The kubelet never writes a quota below 1 ms in 100 ms, which is what the kernel accepts at least:
# https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/kubelet/cm/helpers_linux.go (MinQuotaPeriod)
LEAST_CPU = "1m"


@dataclass(frozen=True)
class Backend:
    """One service and the workload that runs it."""

    name: str
    kind: str
    labels: str
    layer: str
    namespace: str = SYSTEM

    @property
    def wait(self) -> Step:
        """The last step of every undo: the backend serves again."""
        return Step(
            "wait_ready",
            self.kind,
            self.name,
            self.namespace,
            {"timeout_s": 240, "labels": self.labels, "service": self.name},
        )


VLLM = Backend("vllm", "Deployment", "app=vllm", "inference")
QDRANT = Backend("qdrant", "StatefulSet", "app.kubernetes.io/name=qdrant", "memory")
BACKENDS = {backend.name: backend for backend in (VLLM, QDRANT)}
# What lab 06 puts between the backends and their users; a fault of these is none of lab 05's.
REDIS = Backend("redis", "StatefulSet", "app=redis", "state")
ORCHESTRATOR = Backend("llm-orchestrator", "Deployment", "app=llm-orchestrator", "orchestration", APPS)


@dataclass(frozen=True)
class Fault:
    """One way to break one backend.

    `heals`: Kubernetes repairs it without the undo. `watch_s`: how long to look at it otherwise.
    `queries`: how many requests in a row retrieval must make for the fault to be felt.
    """

    name: str
    title: str
    backend: Backend
    layer: str
    cause: str
    plan: Callable[[ClusterView], Plan]
    heals: bool = False
    watch_s: float = 10
    needs_simulated_gpu: bool = False
    queries: int = 1
    images: tuple[str, ...] = ()


def pods_of(view: ClusterView, backend: Backend) -> list[Any]:
    """The backend's own pods; ObjectMissing when it has none, for there is nothing to break then."""
    pods = [pod for pod in view.pods(backend.namespace, labels=backend.labels) if pod.is_live]
    if not pods:
        raise ObjectMissing("Pod", f"of {backend.name} ({backend.labels})", backend.namespace)
    return pods


def _delete_pods(view: ClusterView, backend: Backend) -> tuple[Step, ...]:
    return tuple(Step("delete", "Pod", pod.name, SYSTEM) for pod in pods_of(view, backend))


def delete_pod(backend: Backend) -> Callable[[ClusterView], Plan]:
    """Delete the backend's pods; its controller replaces them."""

    def plan(view: ClusterView) -> Plan:
        return Plan(_delete_pods(view, backend), (backend.wait,))

    return plan


def scale_to_zero(backend: Backend) -> Callable[[ClusterView], Plan]:
    """Scale the workload to zero; the undo scales it back to what it was."""

    def plan(view: ClusterView) -> Plan:
        before = int(view.get(backend.kind, backend.name, SYSTEM).path("spec.replicas", 1)) or 1
        down, up = {"replicas": 0}, {"replicas": before}
        return Plan(
            (Step("scale", backend.kind, backend.name, SYSTEM, down),),
            (Step("scale", backend.kind, backend.name, SYSTEM, up), backend.wait),
        )

    return plan


def _template_fault(
    backend: Backend, change: Callable[[Mapping[str, Any]], dict[str, Any]], field: str
) -> Callable[[ClusterView], Plan]:
    """Change one field of the first container in the pod template; the undo puts the field back."""

    def plan(view: ClusterView) -> Plan:
        container = view.get(backend.kind, backend.name, SYSTEM).path("spec.template.spec.containers.0")
        if not container:
            raise ObjectMissing("container", backend.name, SYSTEM)
        path = f"/spec/template/spec/containers/0/{field}"
        before = container.get(field)
        put = [{"op": "add", "path": path, "value": change(container)}]
        back = (
            [{"op": "add", "path": path, "value": before}]
            if before is not None
            else [{"op": "remove", "path": path}]
        )
        undo = [Step("patch", backend.kind, backend.name, SYSTEM, back)]
        if backend.kind == "StatefulSet":
            # A StatefulSet never replaces a pod that is not Ready by itself ("forced rollback"):
            # https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#forced-rollback
            undo.append(Step("delete", "Pod", f"{backend.name}-0", SYSTEM))
        return Plan((Step("patch", backend.kind, backend.name, SYSTEM, put),), (*undo, backend.wait))

    return plan


def failing_probe(backend: Backend) -> Callable[[ClusterView], Plan]:
    """Point the readiness probe at a path that does not exist: the process lives, no traffic comes."""

    def change(container: Mapping[str, Any]) -> dict[str, Any]:
        probe = container.get("readinessProbe") or {"httpGet": {"port": "http"}}
        return {**probe, "httpGet": {**(probe.get("httpGet") or {}), "path": "/no-such-path"}}

    return _template_fault(backend, change, "readinessProbe")


def too_little_memory(backend: Backend, limit: str) -> Callable[[ClusterView], Plan]:
    """Limit the container's memory below what it needs to start: the kernel kills it, again and again."""

    def change(container: Mapping[str, Any]) -> dict[str, Any]:
        resources = container.get("resources") or {}
        limits = {**(resources.get("limits") or {}), "memory": limit}
        requests = {**(resources.get("requests") or {}), "memory": limit}
        return {**resources, "limits": limits, "requests": requests}

    return _template_fault(backend, change, "resources")


def full_quota(backend: Backend) -> Callable[[ClusterView], Plan]:
    """A quota without room for one more pod, then a deleted pod: the replacement is refused."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "pod-budget", "namespace": SYSTEM},
        "spec": {"hard": {"pods": "0"}},
    }

    def plan(view: ClusterView) -> Plan:
        undo = [Step("delete", "ResourceQuota", "pod-budget", SYSTEM)]
        kind = "ReplicaSet" if backend.kind == "Deployment" else backend.kind
        undo.append(Step("nudge", kind, backend.name, SYSTEM, {"labels": backend.labels}))
        inject = (Step("apply", "ResourceQuota", "pod-budget", SYSTEM, quota), *_delete_pods(view, backend))
        return Plan(inject, (*undo, backend.wait))

    return plan


def unhealthy_gpu(view: ClusterView) -> Plan:
    """The node's GPU reports itself unhealthy, then the pod that holds it dies: nowhere to go."""
    pods = pods_of(view, VLLM)
    nodes = sorted({pod.node for pod in pods if pod.node})
    inject = [Step("gpu", "Node", node, None, {"unhealthy": True}) for node in nodes]
    undo = [Step("gpu", "Node", node, None, {"unhealthy": False}) for node in nodes]
    return Plan((*inject, *_delete_pods(view, VLLM)), (*undo, VLLM.wait))


def cut_dependency(view: ClusterView) -> Plan:
    """A policy on the application's side that allows everything but the memory layer."""
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "tighten-egress", "namespace": APPS},
        "spec": {
            "podSelector": {},
            "policyTypes": ["Egress"],
            "egress": [
                {
                    "to": [
                        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
                    ]
                },
                {"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "vllm"}}}]},
            ],
        },
    }
    pods_of(view, QDRANT)
    return Plan(
        (Step("apply", "NetworkPolicy", "tighten-egress", APPS, policy),),
        (Step("delete", "NetworkPolicy", "tighten-egress", APPS), QDRANT.wait),
    )


def slow(backend: Backend, cpu: str) -> Callable[[ClusterView], Plan]:
    """Take nearly all CPU from the running container, in place: no restart, every answer late."""

    def resized(name: str, container: str, values: Mapping[str, str]) -> Step:
        spec = {
            "containers": [
                {"name": container, "resources": {"limits": dict(values), "requests": dict(values)}}
            ]
        }
        return Step("patch", "Pod", name, SYSTEM, {"spec": spec}, subresource="resize")

    def plan(view: ClusterView) -> Plan:
        inject, undo = [], []
        for pod in pods_of(view, backend):
            container = pod.containers[0]
            before = container.get("resources") or {}
            inject.append(resized(pod.name, container["name"], {"cpu": cpu}))
            spec = {"containers": [{"name": container["name"], "resources": before}]}
            undo.append(Step("patch", "Pod", pod.name, SYSTEM, {"spec": spec}, subresource="resize"))
        return Plan(tuple(inject), (*undo, backend.wait))

    return plan


def drained_node(backend: Backend) -> Callable[[ClusterView], Plan]:
    """Cordon the node and evict the backend's pods, as an administrator's drain would."""

    def plan(view: ClusterView) -> Plan:
        pods = pods_of(view, backend)
        nodes = sorted({pod.node for pod in pods if pod.node})
        inject = [Step("cordon", "Node", node) for node in nodes]
        inject += [Step("evict", "Pod", pod.name, SYSTEM) for pod in pods]
        return Plan(tuple(inject), (*(Step("uncordon", "Node", node) for node in nodes), backend.wait))

    return plan


def lost_service(backend: Backend) -> Callable[[ClusterView], Plan]:
    """A misspelled selector in the Service: healthy pods, and no traffic is sent to them."""

    def plan(view: ClusterView) -> Plan:
        before = view.service(backend.name, SYSTEM).selector
        typo = {key: f"{value}-v2" for key, value in before.items()}

        def put(selector: Mapping[str, str]) -> Step:
            body = [{"op": "replace", "path": "/spec/selector", "value": dict(selector)}]
            return Step("patch", "Service", backend.name, SYSTEM, body)

        return Plan((put(typo),), (put(before), backend.wait))

    return plan


def _both(
    name: str,
    title: str,
    cause: str,
    make: Callable[[Backend], Callable[[ClusterView], Plan]],
    **options: Any,
) -> list[Fault]:
    layer = options.pop("layer", "")
    return [
        Fault(
            f"{name}-{item.name}",
            title.format(item.name),
            item,
            layer or item.layer,
            cause,
            make(item),
            **options,
        )
        for item in BACKENDS.values()
    ]


_ALL = [
    *_both("delete", "the {} pod is deleted", "pod-deleted", delete_pod, heals=True),
    *_both("scale", "{} is scaled to zero", "scaled-to-zero", scale_to_zero),
    *_both("probe", "{}'s readiness probe asks for the wrong path", "failing-probe", failing_probe, watch_s=15),
    *_both(
        "memory",
        "{} may use less memory than it needs",
        "memory-limit",
        lambda item: too_little_memory(item, "24Mi"),
        watch_s=15,
    ),
    *_both("quota", "no room for another pod, and {}'s is deleted", "quota-full", full_quota, layer="substrate"),
    Fault(
        "gpu-vllm", "the GPU turns unhealthy and vLLM's pod dies", VLLM, "substrate", "gpu-unhealthy",
        unhealthy_gpu, watch_s=15, needs_simulated_gpu=True,
    ),
    Fault("policy-qdrant", "a policy cuts the application off from Qdrant", QDRANT, "network", "policy-cut", cut_dependency),
    Fault(
        "slow-qdrant", "Qdrant gets almost no CPU", QDRANT, "memory", "cpu-starved", slow(QDRANT, LEAST_CPU),
        queries=16,
    ),
    *_both("drain", "{}'s node is drained", "node-drained", drained_node, layer="substrate"),
    *_both("service", "the Service {} selects nothing", "service-selector", lost_service, layer="network"),
]  # fmt: skip
FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}
CAUSES: dict[str, str] = {
    "pod-deleted": "somebody deleted the pod",
    "scaled-to-zero": "the workload was scaled to zero",
    "failing-probe": "the readiness probe fails although the process is healthy",
    "memory-limit": "the memory limit kills the container",
    "quota-full": "the quota refuses the replacement pod",
    "gpu-unhealthy": "no healthy GPU is left for the pod",
    "policy-cut": "a NetworkPolicy stops the connection",
    "cpu-starved": "the container gets almost no CPU",
    "node-drained": "the node is cordoned and was drained",
    "service-selector": "the Service's selector matches no pod",
}
LAYERS = ("substrate", "inference", "memory", "network")
# A client's own words (`clients.outcome_of`).
SYMPTOMS = ("refused", "timeout", "reset", "dns", "HTTP and a number")
_SYMPTOM = re.compile(r"refused|timeout|reset|dns|HTTP \d{3}|curl \d+")


def not_on_the_list(said: Mapping[str, Any]) -> list[str]:
    """What a diagnosis names that cannot be, a sentence each with what can; what is still empty is none."""
    wrong = []
    for key, value in said.items():
        known = _words_for(key.rpartition(".")[2])
        is_symptom = known is SYMPTOMS and _SYMPTOM.fullmatch(str(value))
        if value and known and value not in known and not is_symptom:
            wrong.append(f"`{key}` is `{value}`: it is one of {', '.join(known)}")
    return wrong


def _words_for(key: str) -> Collection[str]:
    return {"layer": LAYERS, "unaffected": LAYERS, "cause": CAUSES, "symptom": SYMPTOMS}.get(key, ())


def fault(name: str) -> Fault:
    """A fault by its name."""
    if name not in FAULTS:
        raise ObjectMissing("fault", f"{name} (there are {', '.join(FAULTS)})")
    return FAULTS[name]
