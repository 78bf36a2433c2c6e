"""Who can connect to what: an expected and an observed truth table.

A NetworkPolicy object proves nothing, a refused packet does. So the course keeps small probe pods
of its own, one for each kind of caller, and asks them. Each caller is asked once, about all targets
at the same time: a denied connection costs one time-out in all, however many pairs are denied.

What upstream's tests taught (kubernetes/test/e2e/network/netpol): a dead target looks like a denied
one, so a control connection that no policy may stop (from the target's own node) must succeed
first; and a probe that could not run is neither allowed nor denied.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from helpers.errors import EnvironmentFault, Forbidden, ObjectMissing, ProbeInconclusive
from helpers.stack.policy_forecast import Decision, Party, World, decide

if TYPE_CHECKING:
    from helpers.cluster import ClusterView, ExecResult, Resource

    Execute = Callable[[str, str, list[str], float], ExecResult]

PROBE_LABEL = "course.llm-stack/probe"
CONNECT_TIMEOUT_S = 1.0
# After connecting, an HTTP answer may take a moment; a gRPC port never gives one.
ANSWER_TIMEOUT_S = 0.6
EXEC_MARGIN_S = 6.0
_LINE = re.compile(r"^PROBE (\d+) (\d+) (\d{3}) ([\d.]+) ([\d.]+) ?(.*)$", re.MULTILINE)

# curl's exit codes: https://curl.se/libcurl/c/libcurl-errors.html
_COULD_NOT_RESOLVE, _COULD_NOT_CONNECT, _TIMED_OUT = 6, 7, 28


class Outcome(StrEnum):
    """What became of one connection attempt."""

    CONNECTED = "connected"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    DNS = "dns"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Seen:
    """One observed attempt; `status` is the HTTP status where one came back, a 403 and a 500 included."""

    outcome: Outcome
    status: int | None = None
    duration_s: float = 0.0
    detail: str = ""

    @property
    def connected(self) -> bool:
        return self.outcome is Outcome.CONNECTED

    @property
    def stopped(self) -> bool:
        """Whether nothing got through; only with a living target does that mean denied."""
        return self.outcome in (Outcome.TIMEOUT, Outcome.REFUSED)

    @property
    def words(self) -> str:
        """As the matrix and the verdicts show it."""
        if self.connected:
            return f"HTTP {self.status}" if self.status else "connected"
        return {"timeout": "timed out", "refused": "refused", "dns": "no DNS"}.get(self.outcome, "no probe")


@dataclass(frozen=True)
class Caller:
    """A pod of the grader that stands for a kind of caller. `control`: policy never stops it."""

    name: str
    namespace: str
    pod: str
    stands_for: str = ""
    control: bool = False


@dataclass(frozen=True)
class Target:
    """Something to connect to: through a Service's name, or at an address."""

    name: str
    host: str
    port: int
    path: str = "/"
    scheme: str = "http"
    backends: tuple[Party, ...] = ()
    backend_port: int = 0
    protocol: str = "TCP"
    shown: str = ""
    down: str = ""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}{self.path}"

    @property
    def is_dns(self) -> bool:
        """Whether failing to resolve is this target's own time-out, not somebody else's trouble."""
        return self.port == 53


Pair = tuple[str, str]


@dataclass(frozen=True)
class Reachability:
    """Observed and forecast truth tables over the same callers and targets."""

    callers: tuple[Caller, ...]
    targets: tuple[Target, ...]
    seen: Mapping[Pair, Seen] = field(default_factory=dict)
    forecast: Mapping[Pair, Decision] = field(default_factory=dict)

    def target(self, name: str) -> Target:
        return next(target for target in self.targets if target.name == name)

    def alive(self, target: str) -> bool:
        """Whether the target answers at all: the control connection decides, else its endpoints do.

        From a node that is not the target's own, a refused control proves nothing.
        """
        control = [caller.name for caller in self.callers if caller.control]
        found = [self.seen[(name, target)] for name in control if (name, target) in self.seen]
        if any(seen.connected for seen in found):
            return True
        if any(seen.stopped for seen in found):
            return False
        return not self.target(target).down

    def answer(self, caller: str, target: str) -> bool | None:
        """True: it connects. False: it is stopped on the way to a living target. None: not proven."""
        seen = self.seen.get((caller, target))
        if seen is None:
            return None
        if seen.connected:
            return True
        return False if seen.stopped and self.alive(target) else None

    def words(self, caller: str, target: str) -> str:
        """The observation in a few words, with the dead target named as such."""
        seen = self.seen.get((caller, target))
        if seen is None:
            return "not probed"
        if seen.stopped and not self.alive(target):
            return f"{seen.words}, but {target} is down"
        return seen.words

    def differences(self) -> list[Pair]:
        """Pairs where the forecast and the cluster disagree."""
        return [
            pair
            for pair, decision in self.forecast.items()
            if self.answer(*pair) is not None and self.answer(*pair) != decision.allowed
        ]


def probe_command(targets: Sequence[Target], *, timeout_s: float = CONNECT_TIMEOUT_S) -> list[str]:
    """One command that tries all targets at once and prints a line for each."""
    command = [
        "curl",
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        "200",
        "--noproxy",
        "*",
        "-s",
        "-k",
    ]
    command += ["--connect-timeout", f"{timeout_s:g}", "--max-time", f"{timeout_s + ANSWER_TIMEOUT_S:g}"]
    command += ["-w", "PROBE %{urlnum} %{exitcode} %{http_code} %{time_connect} %{time_total} %{errormsg}\\n"]
    for target in targets:
        command += ["-o", "/dev/null", target.url]
    return command


def parse_probe(output: str, targets: Sequence[Target]) -> dict[str, Seen]:
    """What the command printed, by target; a target without a line was not probed.

    >>> parse_probe("PROBE 0 7 000 0.000000 0.001 refused", [Target("qdrant", "qdrant", 6333)])["qdrant"].outcome
    <Outcome.REFUSED: 'refused'>
    """
    lines = {int(number): rest for number, *rest in _LINE.findall(output)}
    return {
        target.name: _read(target, *lines[number])
        if number in lines
        else Seen(Outcome.INCONCLUSIVE, detail="the probe printed nothing about this target")
        for number, target in enumerate(targets)
    }


def _read(target: Target, code: str, status: str, connected: str, total: str, said: str) -> Seen:
    exit_code, http, duration = int(code), int(status), float(total)
    if float(connected) > 0 or http:
        return Seen(Outcome.CONNECTED, http or None, duration, said)
    resolving = exit_code == _COULD_NOT_RESOLVE or (exit_code == _TIMED_OUT and "esolv" in said)
    if resolving and not target.is_dns:
        return Seen(Outcome.DNS, None, duration, said)
    if exit_code == _TIMED_OUT or (resolving and "timed out" in said.lower()):
        return Seen(Outcome.TIMEOUT, None, duration, said)
    if exit_code == _COULD_NOT_CONNECT:
        return Seen(Outcome.REFUSED, None, duration, said)
    # Resolvers report a dropped query as "could not resolve" after their own time-out.
    if resolving:
        return Seen(Outcome.TIMEOUT, None, duration, said)
    return Seen(Outcome.INCONCLUSIVE, None, duration, f"curl {exit_code}: {said}")


def observe(
    execute: Execute,
    callers: Iterable[Caller],
    targets: Iterable[Target],
    *,
    timeout_s: float = CONNECT_TIMEOUT_S,
) -> Reachability:
    """Ask every caller about every target: one exec for each caller, all of them at once.

    Args:
        execute: runs a command in a pod: (namespace, pod, command, timeout in seconds).
        timeout_s: how long one connection may take, in seconds.
    """
    callers, targets = tuple(callers), tuple(targets)
    command = probe_command(targets, timeout_s=timeout_s)

    def ask(caller: Caller) -> dict[str, Seen]:
        try:
            result = execute(caller.namespace, caller.pod, command, timeout_s + EXEC_MARGIN_S)
        except (ProbeInconclusive, ObjectMissing, Forbidden) as error:
            return {target.name: Seen(Outcome.INCONCLUSIVE, detail=str(error)) for target in targets}
        found = parse_probe(result.stdout, targets)
        if all(seen.outcome is Outcome.INCONCLUSIVE for seen in found.values()) and result.stderr:
            said = result.stderr.strip().splitlines()[-1]
            return {name: Seen(Outcome.INCONCLUSIVE, detail=said) for name in found}
        return found

    if not callers or not targets:
        raise ProbeInconclusive("no probe pod or no target: there is nothing to observe")
    with ThreadPoolExecutor(max_workers=len(callers)) as pool:
        rows = list(pool.map(ask, callers))
    seen = {
        (caller.name, target): answer
        for caller, row in zip(callers, rows, strict=True)
        for target, answer in row.items()
    }
    return Reachability(callers, targets, seen)


def predict(world: World, parties: Mapping[str, Party], targets: Iterable[Target]) -> dict[Pair, Decision]:
    """What the policies of this world would allow, for every caller and target.

    A Service with several backends is allowed only when each of them is: a connection may land on any.
    """
    table: dict[Pair, Decision] = {}
    for name, party in parties.items():
        for target in targets:
            answers = [
                decide(world, party, backend, target.backend_port or target.port, target.protocol)
                for backend in target.backends
            ]
            if answers:
                table[(name, target.name)] = min(answers, key=lambda answer: answer.allowed)
    return table


# The course's own callers and targets

CALLERS = (
    Caller("app", "llm-apps", "probe-app", "a pod of the application, in llm-apps"),
    Caller("outsider", "llm-outside", "probe-outsider", "a pod in a namespace without the label"),
    Caller("impostor", "llm-impostor", "probe-impostor", "a pod in a namespace that gave itself the label"),
    Caller("prometheus", "llm-monitoring", "probe-prometheus", "Prometheus, in llm-monitoring"),
    Caller("neighbour", "llm-system", "probe-neighbour", "any other pod in llm-system"),
    Caller("node", "llm-probes", "probe-node", "the node itself, as the kubelet's probes", control=True),
)
SEALED = "sealed"
SERVE_PORT = 9376


@dataclass(frozen=True)
class Stage:
    """What the cluster holds at this moment: the callers, the targets, and what policies see of them."""

    callers: tuple[Caller, ...]
    targets: tuple[Target, ...]
    parties: Mapping[str, Party]
    world: World

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
        if caller.pod in pods.get(caller.namespace, {})
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
    from helpers.stack.probes import tampered

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
