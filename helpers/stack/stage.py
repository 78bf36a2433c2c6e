"""The course's own callers and targets in the cluster at this moment, and what policies see of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.errors import EnvironmentFault, ObjectMissing, ProbeInconclusive
from helpers.stack.network import CONNECT_TIMEOUT_S, Pair, Reachability, Target, observe, predict
from helpers.stack.policy_forecast import Decision, Party, World
from helpers.stack.probes import CALLERS, PROBE_LABEL, SEALED, SERVE_PORT, Caller, tampered

if TYPE_CHECKING:
    from helpers.cluster import ClusterView, ExecResult, Resource


@dataclass(frozen=True)
class Stage:
    """What the cluster holds at this moment: the callers, the targets, and what policies see of them."""

    callers: tuple[Caller, ...]
    targets: tuple[Target, ...]
    parties: Mapping[str, Party]
    world: World

    def backends(self, target: str) -> tuple[Party, ...]:
        """The pods behind a target; none where there is no such target."""
        return next((item.backends for item in self.targets if item.name == target), ())

    def forecast(self, manifests: str = "") -> dict[Pair, Decision]:
        """The table that the policies would give, with the manifests applied on top."""
        return predict(self.world.with_manifests(manifests), self.parties, self.targets)


def read_stage(view: ClusterView) -> Stage:
    """Read callers, targets, namespaces and policies from the cluster, in a dozen small reads.

    Raises:
        ProbeInconclusive: the grader's probe pods are not there; `course start 04` puts them there.
    """
    namespaces = sorted({caller.namespace for caller in CALLERS} | {"llm-system", "kube-system"})
    read = _read_each if view.scope.suffix else _read_all
    pods, world = read(view, namespaces)
    parties = {
        caller.name: pods[caller.namespace][caller.pod]
        for caller in CALLERS
        # Without its label a pod is none of the grader's own, and may not be asked anything.
        if caller.pod in (found := pods.get(caller.namespace, {})) and PROBE_LABEL in found[caller.pod].labels
    }
    callers = tuple(caller for caller in CALLERS if caller.name in parties)
    if not callers:
        raise ProbeInconclusive(
            "the grader's probe pods are not in the cluster", next_command="course start 04"
        )
    return Stage(callers, tuple(_targets(view, pods)), parties, world)


Pods = dict[str, dict[str, Party]]


def _read_all(view: ClusterView, namespaces: Sequence[str]) -> tuple[Pods, World]:
    """Three lists over all namespaces, where one may read them."""
    pods: Pods = {name: {} for name in namespaces}
    for pod in view.list("Pod", all_namespaces=True):
        if pod.namespace in pods:
            _add_pod(pods[pod.namespace], pod, pod.namespace)
    labels = {item.name: item.labels for item in view.list("Namespace")}
    policies = [dict(item.raw) for item in view.list("NetworkPolicy", all_namespaces=True)]
    return pods, World(labels, tuple(policies))


def _read_each(view: ClusterView, namespaces: Sequence[str]) -> tuple[Pods, World]:
    """Namespace by namespace: a learner in a shared class may read no others than these."""
    pods: Pods = {}
    labels: dict[str, Mapping[str, str]] = {}
    policies: list[Mapping[str, Any]] = []
    for name in namespaces:
        pods[name] = {}
        found = view.find("Namespace", name)
        if found is None:
            continue
        labels[name] = {key: view.scope.course_name(value) for key, value in found.labels.items()}
        policies += [course_policy(view, policy.raw, name) for policy in view.network_policies(name)]
        for pod in view.pods(name):
            _refuse_tampered(view, pod)
            _add_pod(pods[name], pod, name)
    return pods, World(labels, tuple(policies))


def _refuse_tampered(view: ClusterView, pod: Resource) -> None:
    """In a class the learner may start probe pods: one that answers as they like proves nothing."""
    if PROBE_LABEL not in pod.labels:
        return
    reason = tampered(pod.raw, view.profile.images["toolbox"])
    if reason:
        raise ProbeInconclusive(
            f"{pod.name} is not the grader's own probe pod: {reason}",
            next_command=f"kubectl delete pod {pod.name} -n {pod.namespace}; course start 04",
        )


def look(
    view: ClusterView, stage: Stage | None = None, *, timeout_s: float = CONNECT_TIMEOUT_S
) -> Reachability:
    """Observe the whole matrix now and set the forecast of the stored policies beside it."""
    stage = stage or read_stage(view)

    def execute(namespace: str, pod: str, command: list[str], limit_s: float) -> ExecResult:
        return view.exec(namespace, pod, command, timeout_s=limit_s)

    observed = observe(execute, stage.callers, stage.targets, timeout_s=timeout_s)
    return Reachability(observed.callers, observed.targets, observed.seen, stage.forecast())


SHARED_FOR_S = 1.5


class SharedLook:
    """One sweep for all checks of a run: the matrix is the same for each of them.

    A sweep is used again only while nothing that policies see has changed, and for a moment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stage: Stage | None = None
        self._table: Reachability | None = None
        self._until = 0.0

    def look(self, view: ClusterView) -> Reachability:
        """The matrix, swept now or a moment ago.

        Raises:
            ProbeInconclusive: the grader's probe pods are not there.
        """
        stage = read_stage(view)
        with self._lock:
            if self._table is None or stage != self._stage or time.monotonic() > self._until:
                self._table = look(view, stage)
                self._stage, self._until = stage, time.monotonic() + SHARED_FOR_S
            return self._table


@dataclass(frozen=True)
class Enforcement:
    """Whether this cluster enforces NetworkPolicy, found out by experiment."""

    enforced: bool | None
    observed: str


def enforcement(table: Reachability) -> Enforcement:
    """Read it off the sealed pod: a policy denies it all ingress, and its own node reaches it.

    Enforced where every other caller is stopped; None where the experiment itself failed.
    """
    callers = [caller.name for caller in table.callers if not caller.control]
    if SEALED not in {target.name for target in table.targets}:
        return Enforcement(None, "the sealed pod of the experiment is not there")
    answers = {name: table.answer(name, SEALED) for name in callers}
    through = [name for name, answer in answers.items() if answer]
    stopped = [name for name, answer in answers.items() if answer is False]
    if through:
        return Enforcement(False, f"{', '.join(through)} reached a pod that a policy denies to everybody")
    if stopped:
        return Enforcement(
            True, f"{len(stopped)} callers were stopped at a pod that a policy denies to everybody"
        )
    words = table.words(callers[0], SEALED) if callers else "no caller"
    return Enforcement(None, f"the experiment proved nothing: {words}")


def _add_pod(pods: dict[str, Party], pod: Resource, namespace: str) -> None:
    """Only pods that have an address and are not over: policies see no others."""
    running = pod.path("status.phase") == "Running" and pod.path("status.podIP")
    if running and not pod.is_terminating:
        pods[pod.name] = party_of(pod.raw, namespace)


def party_of(pod: Mapping[str, Any], namespace: str) -> Party:
    """A pod as policies see it; named ports count only where a container declares them."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = [item for item in spec.get("initContainers") or [] if item.get("restartPolicy") == "Always"]
    ports = {
        (port["name"], port.get("protocol") or "TCP"): int(port["containerPort"])
        for container in (spec.get("containers") or []) + sidecars
        for port in container.get("ports") or []
        if port.get("name")
    }
    return Party(
        name=pod["metadata"]["name"],
        namespace=namespace,
        labels=pod["metadata"].get("labels") or {},
        ip=status.get("podIP"),
        ports=ports,
        node=spec.get("nodeName"),
        host_network=bool(spec.get("hostNetwork")),
    )


def course_policy(view: ClusterView, policy: Mapping[str, Any], namespace: str) -> Mapping[str, Any]:
    """A stored policy in the course's own names, also where a class gave the namespaces suffixes."""

    def renamed(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: renamed(value) for key, value in node.items()}
        if isinstance(node, list):
            return [renamed(item) for item in node]
        return view.scope.course_name(node) if isinstance(node, str) else node

    metadata = {**(policy.get("metadata") or {}), "namespace": namespace}
    return {**policy, "metadata": metadata, "spec": renamed(policy.get("spec") or {})}


def _targets(view: ClusterView, pods: Mapping[str, Mapping[str, Party]]) -> list[Target]:
    backing, system = pods.get("llm-system", {}), pods.get("kube-system", {})
    targets = [
        _service(view, "vllm", "vllm", "llm-system", 8000, "/health", backing),
        _service(view, "qdrant", "qdrant", "llm-system", 6333, "/readyz", backing),
        _service(view, "qdrant-grpc", "qdrant", "llm-system", 6334, "/", backing),
    ]
    neighbour = backing.get("probe-neighbour")
    if neighbour and neighbour.ip:
        targets.append(_pod_target("neighbour", neighbour, f"a pod of llm-system, {SERVE_PORT}"))
    targets += [*_api_server(view), _dns(view, system)]
    probes = pods.get("llm-probes", {})
    node, sealed = probes.get("probe-node"), probes.get("probe-sealed")
    if node and node.ip:
        # The kubelet of the node: an address outside the pod network that always listens.
        party = Party("the node's address", ip=node.ip, node=node.node)
        targets.append(
            Target("outside", node.ip, 10250, "/healthz", "https", (party,), 10250, shown="outside the pods")
        )
    if sealed and sealed.ip:
        targets.append(_pod_target(SEALED, sealed, "sealed by a policy"))
    return [target for target in targets if target is not None]


def _pod_target(name: str, party: Party, shown: str) -> Target:
    return Target(name, str(party.ip), SERVE_PORT, "/", "http", (party,), SERVE_PORT, shown=shown)


def _service(
    view: ClusterView,
    name: str,
    service: str,
    namespace: str,
    port: int,
    path: str,
    pods: Mapping[str, Party],
    *,
    scheme: str = "http",
) -> Target:
    """A target behind a Service; its backends are the pods of its ready endpoints."""
    host = f"{service}.{view.scope.namespace(namespace)}"
    shown = f"{service} {port}"
    try:
        ports = view.service(service, namespace).ports
    except ObjectMissing:
        return Target(name, host, port, path, scheme, shown=shown, down=f"there is no Service {service}")
    declared = next((item for item in ports if int(item.get("port", 0)) == port), None)
    if declared is None:
        return Target(
            name, host, port, path, scheme, shown=shown, down=f"Service {service} has no port {port}"
        )
    ready = [item for item in view.endpoints(service, namespace) if item.ready]
    backends = tuple(
        pods.get(item.pod or "", Party(item.address, ip=item.address))
        for item in {item.address: item for item in ready}.values()
    )
    return Target(
        name,
        host,
        port,
        path,
        scheme,
        backends=backends or _behind(view, service, namespace, pods),
        backend_port=_number(declared, backends, port),
        protocol=declared.get("protocol") or "TCP",
        shown=shown,
        down="" if backends else f"Service {service} has no ready endpoint",
    )


def _behind(view: ClusterView, service: str, namespace: str, pods: Mapping[str, Party]) -> tuple[Party, ...]:
    """Without ready endpoints: the pods that the Service selects, so that a forecast is still possible."""
    selector = view.service(service, namespace).selector
    return tuple(
        party for party in pods.values() if selector and selector.items() <= dict(party.labels).items()
    )


def _number(declared: Mapping[str, Any], backends: Sequence[Party], port: int) -> int:
    """The pods' own port: policy is judged after the Service's translation."""
    wanted = declared.get("targetPort", port)
    if isinstance(wanted, int) or str(wanted).isdigit():
        return int(wanted)
    named = (party.ports.get((wanted, declared.get("protocol") or "TCP")) for party in backends)
    return next((number for number in named if number), port)


def _api_server(view: ClusterView) -> list[Target]:
    """The API server; its endpoints are addresses, not pods, for any policy."""
    try:
        endpoints = view.endpoints("kubernetes", "default")
    except EnvironmentFault:
        return []
    address = next((item for item in endpoints if item.ready), None)
    if address is None:
        return []
    party = Party("the API server", ip=address.address)
    return [
        Target(
            "api-server",
            "kubernetes.default",
            443,
            "/readyz",
            "https",
            (party,),
            address.port or 6443,
            shown="API server",
        )
    ]


def _dns(view: ClusterView, pods: Mapping[str, Party]) -> Target:
    """Cluster DNS: its name is resolved over UDP 53 and then connected to over TCP 53."""
    target = _service(view, "dns", "kube-dns", "kube-system", 53, "/", pods)
    return Target(
        "dns", target.host, 53, "/", "http", target.backends, 53, "UDP", shown="DNS", down=target.down
    )
