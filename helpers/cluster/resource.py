"""Objects as the cluster returned them: frozen, with the words that checks and notebooks use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Self

from helpers.cluster.quantity import quantity
from helpers.cluster.selectors import policy_types
from helpers.evidence import Evidence

_STEP = re.compile(r"\[([^\]]+)\]|([^.\[\]]+)")


def now_text() -> str:
    """The present moment as evidence and reports write it (UTC, seconds)."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def dig(tree: Any, path: str, default: Any = None) -> Any:
    """The value at `spec.containers.0.image` or `metadata.labels[kubedojo.dev/role]`, else the default."""
    for bracketed, plain in _STEP.findall(path):
        step = bracketed or plain
        if isinstance(tree, Mapping) and step in tree:
            tree = tree[step]
        elif isinstance(tree, list) and step.isdigit() and int(step) < len(tree):
            tree = tree[int(step)]
        else:
            return default
    return tree


@dataclass(frozen=True)
class Condition:
    """One entry of `status.conditions`."""

    type: str
    status: str
    reason: str = ""
    message: str = ""

    @property
    def is_true(self) -> bool:
        """Whether the status is the word True (it may also be False or Unknown)."""
        return self.status == "True"


@dataclass(frozen=True, eq=False)
class Resource:
    """One object, as it was when it was observed."""

    raw: dict[str, Any]
    observed_at: str = field(default_factory=now_text)

    @property
    def kind(self) -> str:
        return str(self.raw.get("kind", ""))

    @property
    def api_version(self) -> str:
        return str(self.raw.get("apiVersion", ""))

    @property
    def metadata(self) -> dict[str, Any]:
        return self.raw.get("metadata") or {}

    @property
    def name(self) -> str:
        return str(self.metadata.get("name", ""))

    @property
    def namespace(self) -> str | None:
        """The real namespace, also where a scope stands in between."""
        return self.metadata.get("namespace")

    @property
    def uid(self) -> str | None:
        return self.metadata.get("uid")

    @property
    def resource_version(self) -> str | None:
        return self.metadata.get("resourceVersion")

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.get("labels") or {}

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.get("annotations") or {}

    @property
    def is_terminating(self) -> bool:
        """Whether the object is being deleted."""
        return bool(self.metadata.get("deletionTimestamp"))

    def path(self, path: str, default: Any = None) -> Any:
        """The value at a path such as `spec.replicas`; keys with dots go in brackets."""
        return dig(self.raw, path, default)

    def conditions(self, type: str) -> Condition | None:
        """The condition of that type, if the object has it."""
        return next((found for found in self.all_conditions() if found.type == type), None)

    def all_conditions(self) -> list[Condition]:
        """All of `status.conditions`."""
        return [
            Condition(
                item.get("type", ""),
                item.get("status", "Unknown"),
                item.get("reason") or "",
                item.get("message") or "",
            )
            for item in self.path("status.conditions", [])
        ]

    def evidence(self, observation: str | None = None) -> Evidence:
        """A reference to this object for a verdict."""
        return Evidence(
            kind=self.kind,
            name=self.name,
            namespace=self.namespace,
            uid=self.uid,
            resource_version=self.resource_version,
            observed_at=self.observed_at,
            observation=observation,
        )

    @classmethod
    def of(cls, other: Resource) -> Self:
        """The same observation, read as a more specific kind."""
        return cls(other.raw, other.observed_at)

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"

    __repr__ = __str__


def _amount(holder: Any, dimension: str) -> Decimal | None:
    value = (holder or {}).get(dimension)
    return None if value is None else quantity(value)


class ResourceQuota(Resource):
    """What a namespace may hold, and what it holds."""

    def hard(self, dimension: str) -> Decimal | None:
        """The limit of one dimension, such as `requests.nvidia.com/gpu`; None when it is not limited."""
        return _amount(self.path("spec.hard"), dimension)

    def used(self, dimension: str) -> Decimal | None:
        """What the quota controller counted; None before it has counted."""
        return _amount(self.path("status.used"), dimension)


class Namespace(Resource):
    """A namespace; `phase` is Active or Terminating."""

    @property
    def phase(self) -> str:
        return self.path("status.phase", "Active")


@dataclass(frozen=True)
class ContainerState:
    """What the kubelet last said of one container."""

    name: str
    ready: bool
    restarts: int
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    last_exit_code: int | None = None
    last_reason: str = ""

    @property
    def is_down(self) -> bool:
        """Whether it has ended and was not started again: its own log, and no previous one, tells of that end."""
        return self.exit_code is not None

    @property
    def newest_exit_code(self) -> int | None:
        """Of the end that came last; None where there was none."""
        return self.exit_code if self.is_down else self.last_exit_code


# Phases in which no container of a pod runs or will run again; its controller has made another.
OVER = ("Succeeded", "Failed")


class Pod(Resource):
    """A pod with its kubelet's words."""

    @property
    def phase(self) -> str:
        return self.path("status.phase", "Unknown")

    @property
    def node(self) -> str | None:
        return self.path("spec.nodeName")

    @property
    def ip(self) -> str | None:
        return self.path("status.podIP")

    @property
    def is_live(self) -> bool:
        """Whether it counts as one of its workload's: neither ending nor over.

        A node that starts again refuses pods whose GPU its device plugin does not offer yet: they stay, Failed.
        """
        return not self.is_terminating and self.phase not in OVER

    @property
    def is_ready(self) -> bool:
        """Whether the Ready condition is true and the pod is not on its way out."""
        ready = self.conditions("Ready")
        return bool(ready and ready.is_true) and not self.is_terminating

    @property
    def containers(self) -> list[dict[str, Any]]:
        """The containers of the spec, without init containers."""
        return self.path("spec.containers", [])

    @property
    def container_states(self) -> list[ContainerState]:
        """Every container's state, init containers first."""
        statuses = self.path("status.initContainerStatuses", []) + self.path("status.containerStatuses", [])
        return [_container_state(status) for status in statuses]


def _container_state(status: dict[str, Any]) -> ContainerState:
    state = status.get("state") or {}
    detail = state.get("waiting") or state.get("terminated") or {}
    last = (status.get("lastState") or {}).get("terminated") or {}
    return ContainerState(
        name=status.get("name", ""),
        ready=bool(status.get("ready")),
        restarts=int(status.get("restartCount", 0)),
        reason=detail.get("reason") or "",
        message=detail.get("message") or "",
        exit_code=(state.get("terminated") or {}).get("exitCode"),
        last_exit_code=last.get("exitCode"),
        last_reason=last.get("reason") or "",
    )


class Workload(Resource):
    """A Deployment, StatefulSet, ReplicaSet or DaemonSet."""

    @property
    def replicas(self) -> int:
        """How many pods are wanted."""
        default = self.path("status.desiredNumberScheduled", 1)
        return int(self.path("spec.replicas", default))

    @property
    def ready_replicas(self) -> int:
        return int(self.path("status.readyReplicas", self.path("status.numberReady", 0)))

    @property
    def containers(self) -> list[dict[str, Any]]:
        """The containers of the pod template."""
        return self.path("spec.template.spec.containers", [])

    @property
    def selector(self) -> str:
        """The label selector of its pods, as a query writes it."""
        labels = self.path("spec.selector.matchLabels", {})
        return ",".join(f"{key}={value}" for key, value in sorted(labels.items()))

    def rollout_gap(self) -> str:
        """What is missing until the rollout is complete, in words; empty when nothing is."""
        generation = self.metadata.get("generation", 0)
        if int(self.path("status.observedGeneration", 0)) < int(generation):
            return "the controller has not seen the new specification yet"
        status = self.path("status", {})
        updated = int(status.get("updatedReplicas", status.get("updatedNumberScheduled", 0)))
        available = int(status.get("availableReplicas", status.get("numberAvailable", 0)))
        total = int(status.get("replicas", status.get("currentNumberScheduled", 0)))
        if self.kind != "ReplicaSet" and updated < self.replicas:
            return f"{updated} of {self.replicas} pods are of the new specification"
        if total > self.replicas:
            return f"{total - self.replicas} old pods are still there"
        if available < self.replicas or self.ready_replicas < self.replicas:
            return f"{min(available, self.ready_replicas)} of {self.replicas} pods are ready"
        return ""


class Node(Resource):
    """A node: what it offers and what it keeps away."""

    def allocatable(self, resource: str) -> Decimal:
        """What pods may request of a resource such as `nvidia.com/gpu`; 0 when it is not offered."""
        return _amount(self.path("status.allocatable"), resource) or Decimal(0)

    @property
    def resources(self) -> list[str]:
        """The names of everything allocatable."""
        return sorted(self.path("status.allocatable", {}))

    @property
    def taints(self) -> list[dict[str, str]]:
        return self.path("spec.taints", [])

    @property
    def is_ready(self) -> bool:
        ready = self.conditions("Ready")
        return bool(ready and ready.is_true)


class Service(Resource):
    """A service; `ports` as in its spec."""

    @property
    def ports(self) -> list[dict[str, Any]]:
        return self.path("spec.ports", [])

    @property
    def selector(self) -> dict[str, str]:
        return self.path("spec.selector", {})


class ConfigMap(Resource):
    """A config map's text entries."""

    @property
    def data(self) -> dict[str, str]:
        return self.raw.get("data") or {}


class PersistentVolumeClaim(Resource):
    """A claim; `requested` is in bytes."""

    @property
    def phase(self) -> str:
        return self.path("status.phase", "Pending")

    @property
    def storage_class(self) -> str | None:
        return self.path("spec.storageClassName")

    @property
    def requested(self) -> Decimal | None:
        return _amount(self.path("spec.resources.requests"), "storage")


class NetworkPolicy(Resource):
    """A network policy as written."""

    @property
    def types(self) -> list[str]:
        """Ingress, Egress: what the policy governs, by the rules for an absent policyTypes."""
        return policy_types(self.path("spec", {}))


class Event(Resource):
    """Something a component reported about an object."""

    @property
    def reason(self) -> str:
        return str(self.raw.get("reason") or "")

    @property
    def message(self) -> str:
        return str(self.raw.get("message") or self.raw.get("note") or "")

    @property
    def type(self) -> str:
        return str(self.raw.get("type") or "Normal")

    @property
    def count(self) -> int:
        return int(self.path("series.count") or self.raw.get("count") or 1)

    @property
    def last_seen(self) -> str:
        """When it was last reported (ISO time)."""
        return str(
            self.path("series.lastObservedTime")
            or self.raw.get("lastTimestamp")
            or self.raw.get("eventTime")
            or self.metadata.get("creationTimestamp", "")
        )

    @property
    def involved(self) -> tuple[str, str]:
        """Kind and name of the object it is about."""
        about = self.raw.get("involvedObject") or self.raw.get("regarding") or {}
        return str(about.get("kind", "")), str(about.get("name", ""))

    def __str__(self) -> str:
        kind, name = self.involved
        times = f" (x{self.count})" if self.count > 1 else ""
        return f"{self.type} {self.reason} on {kind} {name}: {self.message}{times}"


@dataclass(frozen=True)
class Endpoint:
    """One address behind a service, from its EndpointSlices."""

    address: str
    ready: bool
    port: int | None
    pod: str | None = None
    serving: bool = True
    terminating: bool = False


def endpoints_of(slices: list[Resource]) -> Iterator[Endpoint]:
    """The addresses in a service's EndpointSlices, one for each port."""
    for item in slices:
        ports = [port.get("port") for port in item.raw.get("ports") or []] or [None]
        for endpoint in item.raw.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            target = endpoint.get("targetRef") or {}
            for address in endpoint.get("addresses") or []:
                for port in ports:
                    yield Endpoint(
                        address=address,
                        # An absent condition means ready: upstream's own reading of nil.
                        ready=conditions.get("ready", True) is not False,
                        port=port,
                        pod=target.get("name") if target.get("kind") == "Pod" else None,
                        serving=conditions.get("serving", True) is not False,
                        terminating=bool(conditions.get("terminating")),
                    )
