"""Which ways lead to the orchestrator, to Redis and out of the orchestrator, and which of them are open.

A way that must be closed is tried from the grader's probe pods, where there is one to try it from; a way of
the orchestrator's or the gateway's own pods is computed from the stored policies, whose forecast lab 04 holds
against real connections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.errors import ProbeInconclusive
from helpers.stack import gateway, orchestrator
from helpers.stack.network import Outcome, Reachability, Target, observe, parse_probe, probe_command
from helpers.stack.policy_forecast import Party, World, decide, selects
from helpers.stack.stage import course_policy, party_of, read_stage

if TYPE_CHECKING:
    from helpers.cluster import ClusterView, ExecResult

APPS, SYSTEM, GATEWAY = orchestrator.NAMESPACE, orchestrator.SYSTEM, gateway.NAMESPACE
PROBE = "probe-app"
CALLERS = ("app", "outsider", "impostor")
# An address of documentation (RFC 5737): it stands for everything outside the cluster.
OUTSIDE = Party("outside the cluster", ip="203.0.113.10")
_NAMESPACES = (APPS, SYSTEM, GATEWAY, "kube-system", "llm-outside", "llm-impostor", "llm-monitoring")
_EXEC_S = 9.0
_START = "course start 06"


@dataclass(frozen=True)
class Road:
    """One way from somebody to somebody's port, and what became of it."""

    caller: str
    target: str
    is_open: bool
    words: str

    def __str__(self) -> str:
        return f"{self.caller} to {self.target}"


def resolved(view: ClusterView, hosts: Sequence[str]) -> set[str]:
    """Which of these names a pod of llm-apps finds in DNS.

    Raises:
        ProbeInconclusive: the probe pod is not there.
    """
    targets = [Target(host, host, 80) for host in dict.fromkeys(hosts)]
    if "app" not in read_stage(view).parties:
        raise ProbeInconclusive(f"the probe pod {PROBE} is not there", next_command=_START)
    done = view.exec(APPS, PROBE, probe_command(targets), timeout_s=_EXEC_S)
    seen = parse_probe(done.stdout, targets)
    if len(seen) < len(targets):
        raise ProbeInconclusive("the probe pod did not look up every name", next_command=_START)
    return {name for name, found in seen.items() if found.outcome is not Outcome.DNS}


def round_it(view: ClusterView) -> list[Road]:
    """The ways that nobody may go: tried where a probe pod stands for the caller, computed elsewhere."""
    tried = _tried(view)
    out = _forecast(view, _orchestrator(view), OUTSIDE, 443, "a server outside the cluster")
    return [*tried, out]


def needed(view: ClusterView) -> list[Road]:
    """The ways without which the stack does not work, by the stored policies."""
    ours, redis = _orchestrator(view), _behind(view, SYSTEM, "app=redis", "Redis")
    gate = Party("the gateway", GATEWAY, {"app": gateway.NAME}, "10.244.0.250")
    counter = Party("the counter", GATEWAY, {"app": gateway.RATELIMIT}, "10.244.0.251")
    vllm = _behind(view, SYSTEM, "app=vllm", "vLLM")
    qdrant = _behind(view, SYSTEM, "app.kubernetes.io/name=qdrant", "Qdrant")
    return [
        _forecast(view, gate, ours, orchestrator.PORT, "the orchestrator"),
        _forecast(view, ours, vllm, 8000, "vLLM"),
        _forecast(view, ours, qdrant, 6333, "Qdrant"),
        _forecast(view, ours, redis, orchestrator.REDIS_PORT, "Redis"),
        _forecast(view, counter, redis, orchestrator.REDIS_PORT, "Redis"),
        _forecast(view, ours, _behind(view, "kube-system", "k8s-app=kube-dns", "DNS"), 53, "DNS", "UDP"),
    ]


def is_isolated(view: ClusterView, namespace: str, labels: str) -> bool:
    """Whether any stored policy selects these pods."""
    key, _, value = labels.partition("=")
    party = Party("", namespace, {key: value})
    return any(selects(policy, party) for policy in _world(view).policies)


def rate_limit_filter(config: Any) -> Mapping[str, Any]:
    """The rate limit filter in Envoy's configuration; empty where there is none."""
    found = [
        item.get("typed_config") or {}
        for item in _mappings(config)
        if item.get("name") == "envoy.filters.http.ratelimit" and "typed_config" in item
    ]
    return found[0] if found else {}


def route_limits(config: Any) -> dict[str, Any]:
    """Where Envoy's configuration has the limits of its route: what is put there changes the configuration."""
    (found,) = (
        item for item in _mappings(config) if str(item.get("@type", "")).endswith("RateLimitPerRoute")
    )
    assert isinstance(found, dict)
    return found


def _mappings(node: Any) -> list[Mapping[str, Any]]:
    if isinstance(node, list):
        return [found for item in node for found in _mappings(item)]
    if isinstance(node, dict):
        return [node, *(found for item in node.values() for found in _mappings(item))]
    return []


def _tried(view: ClusterView) -> list[Road]:
    """Connections from the probe pods; one that is stopped counts only while its target is alive.

    Raises:
        ProbeInconclusive: a probe could not be made, or the target is down.
    """
    stage = read_stage(view)
    callers = [caller for caller in stage.callers if caller.name in CALLERS or caller.control]
    targets = [
        _target(view, "the orchestrator", orchestrator.SERVICE, APPS, orchestrator.PORT),
        _target(view, "Redis", orchestrator.REDIS, SYSTEM, orchestrator.REDIS_PORT),
    ]

    def execute(namespace: str, pod: str, command: list[str], limit_s: float) -> ExecResult:
        return view.exec(namespace, pod, command, timeout_s=limit_s)

    table = observe(execute, callers, targets)
    return [
        _road(table, caller.name, target.name)
        for caller in callers
        if not caller.control
        for target in targets
    ]


def _road(table: Reachability, caller: str, target: str) -> Road:
    answer = table.answer(caller, target)
    if answer is None:
        raise ProbeInconclusive(
            f"{caller} to {target}: {table.words(caller, target)}, which proves nothing", next_command=_START
        )
    return Road(caller, target, answer, table.words(caller, target))


def _target(view: ClusterView, name: str, service: str, namespace: str, port: int) -> Target:
    host = f"{service}.{view.scope.namespace(namespace)}.svc.cluster.local"
    ready = [item for item in view.endpoints(service, namespace) if item.ready]
    return Target(
        name, host, port, "/livez", down="" if ready else f"Service {service} has no ready endpoint"
    )


def _forecast(
    view: ClusterView, source: Party, target: Party, port: int, shown: str, protocol: str = "TCP"
) -> Road:
    found = decide(_world(view), source, target, port, protocol)
    caller = source.name if source.namespace == GATEWAY else "the orchestrator"
    return Road(caller, f"{shown} on {port}", found.allowed, found.reason)


def _world(view: ClusterView) -> World:
    """The namespaces with their labels and the stored policies, in the course's own names."""
    labels: dict[str, Mapping[str, str]] = {}
    policies: list[Mapping[str, Any]] = []
    for name in _NAMESPACES:
        found = view.find("Namespace", name)
        if found is None:
            continue
        labels[name] = {key: view.scope.course_name(value) for key, value in found.labels.items()}
        if name in (APPS, SYSTEM, GATEWAY):
            policies += [course_policy(view, policy.raw, name) for policy in view.network_policies(name)]
    return World(labels, tuple(policies))


def _orchestrator(view: ClusterView) -> Party:
    return _behind(view, APPS, orchestrator.LABELS, "the orchestrator")


def _behind(view: ClusterView, namespace: str, labels: str, name: str) -> Party:
    """One of the pods with these labels, as policies see it.

    Raises:
        ProbeInconclusive: there is none.
    """
    for pod in view.pods(namespace, labels=labels):
        if pod.is_live and pod.ip:
            return party_of(pod.raw, namespace)
    raise ProbeInconclusive(
        f"{name} has no running pod", next_command=f"kubectl get pods -n {namespace} -l {labels}"
    )
