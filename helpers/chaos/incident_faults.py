"""Six incidents of a stack that is not down: who injects what, and how it is undone.

What the platform can be made to do is a plan of steps; what only users do (asking more, asking anew) is load, which
ends with the process that makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.chaos.faults import APPS, QDRANT, Backend, pods_of
from helpers.chaos.front_faults import diverted
from helpers.chaos.steps import Plan, Step

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

BATCH = "llm-batch"
POOL = Backend("vllm", "Deployment", "app=vllm", "inference", BATCH)
WORKER, WORKER_LABELS, FRONT = "llm-worker", "app=llm-worker", "llm-jobs"
SLOW_S = 3
# Far below what a Python process needs to start: the kernel kills it at once.
TOO_LITTLE = "24Mi"


@dataclass(frozen=True)
class Incident:
    """One of the six.

    Args:
        layer: who is to be woken.
        load: "usual", "flood" (many more jobs) or "forgetful" (the cache is emptied all the time).
    """

    name: str
    title: str
    layer: str
    plan: Callable[[ClusterView], Plan]
    load: str = "usual"
    needs_simulated_gpu: bool = False
    images: tuple[str, ...] = ()


def _nothing(view: ClusterView) -> Plan:
    """Only the load changes."""
    return Plan(())


def _new_connections(view: ClusterView) -> tuple[Step, ...]:
    """Workers begin anew: a connection that is open stays as it is, whatever was changed under it."""
    return tuple(
        Step("delete", "Pod", pod.name, APPS) for pod in view.pods(APPS, labels=WORKER_LABELS) if pod.is_live
    )


def slow_retriever(view: ClusterView) -> Plan:
    """A proxy before Qdrant that holds every search back for some seconds."""
    fault = {"delay": {"fixed_delay": f"{SLOW_S}s", "percentage": {"numerator": 100}}}
    plan = diverted(QDRANT, fault)(view)
    return Plan((*plan.inject, *_new_connections(view)), plan.undo)


def killed_worker(view: ClusterView) -> Plan:
    """Less memory than a worker needs to start, for all of them at once."""
    deployment = view.get("Deployment", WORKER, APPS)
    path = "/spec/template/spec/containers/0/resources"
    resources = deployment.path("spec.template.spec.containers.0.resources", {}) or {}
    little = deepcopy(resources)
    for side in ("requests", "limits"):
        little[side] = {**(little.get(side) or {}), "memory": TOO_LITTLE}
    strategy = deployment.path("spec.strategy", {"type": "RollingUpdate"})
    at_once = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%", "maxSurge": 1}}

    def put(wanted: Any, how: Any) -> Step:
        body = [
            {"op": "add", "path": "/spec/strategy", "value": how},
            {"op": "add", "path": path, "value": wanted},
        ]
        return Step("patch", "Deployment", WORKER, APPS, body)

    return Plan((put(little, at_once),), (put(resources, strategy),))


def cut_network(view: ClusterView) -> Plan:
    """The workers' policy without the way to the pool; everything else stays open."""
    policy = view.get("NetworkPolicy", WORKER, APPS)
    egress = policy.path("spec.egress", []) or []
    kept = [rule for rule in egress if not _leads_to_pool(rule)]

    def put(rules: Any) -> Step:
        body = [{"op": "replace", "path": "/spec/egress", "value": rules}]
        return Step("patch", "NetworkPolicy", WORKER, APPS, body)

    return Plan((put(kept), *_new_connections(view)), (put(egress),))


def _leads_to_pool(rule: Any) -> bool:
    return any(
        ((peer.get("podSelector") or {}).get("matchLabels") or {}).get("app") == "vllm"
        for peer in rule.get("to") or []
    )


def lost_card(view: ClusterView) -> Plan:
    """The cards report themselves unhealthy, and the model servers of the pool die: nowhere to go."""
    pods = pods_of(view, POOL)
    nodes = sorted({pod.node for pod in pods if pod.node})
    inject = [Step("gpu", "Node", node, None, {"unhealthy": True}) for node in nodes]
    inject += [Step("delete", "Pod", pod.name, BATCH) for pod in pods]
    undo = [Step("gpu", "Node", node, None, {"unhealthy": False}) for node in nodes]
    return Plan(tuple(inject), (*undo, POOL.wait))


_ALL = (
    Incident("retriever-slow", "the retriever is slow", "memory", slow_retriever, images=("envoy",)),
    Incident("worker-killed", "workers are killed for their memory", "orchestration", killed_worker),
    Incident("queue-full", "more jobs come than can be done", "queue", _nothing, load="flood"),
    Incident("cache-cold", "the cache has nothing", "cache", _nothing, load="forgetful"),
    Incident("network-cut", "a policy cuts workers off from the model servers", "network", cut_network),
    Incident("gpu-lost", "the cards are gone", "substrate", lost_card, needs_simulated_gpu=True),
)
INCIDENTS: dict[str, Incident] = {item.name: item for item in _ALL}
