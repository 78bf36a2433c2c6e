"""What the engine needs to know of pods, namespaces and policies, and nothing more.

Objects of the API are reduced on arrival: the daemon stays small, and an update that changes
nothing here (a condition, a heartbeat) compiles nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True)
class NamedPort:
    """A container port with a name, which policies may refer to."""

    name: str
    protocol: str
    number: int


@dataclass(frozen=True)
class Pod:
    """One pod; `address` is what its status says, "" before the kubelet reported it."""

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    address: str = ""
    named_ports: tuple[NamedPort, ...] = ()
    on_pod_network: bool = True
    created: str = ""


@dataclass(frozen=True)
class Namespace:
    """One namespace and the labels that namespaceSelectors match."""

    uid: str
    name: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Policy:
    """One NetworkPolicy; `spec` is the API's own JSON."""

    uid: str
    namespace: str
    name: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class State:
    """All that decides the ruleset. `attached` maps pod UIDs to addresses that the CNI handed out."""

    pods: tuple[Pod, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    policies: tuple[Policy, ...] = ()
    attached: Mapping[str, str] = field(default_factory=dict)


def pod_of(item: Mapping[str, Any]) -> Pod:
    """Reduce an API Pod. Host-network and finished pods are not on the pod network; terminating ones are."""
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    return Pod(
        uid=metadata["uid"],
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        address=status.get("podIP") or "",
        named_ports=_named_ports(spec),
        on_pod_network=not spec.get("hostNetwork") and status.get("phase") not in FINISHED,
        created=metadata.get("creationTimestamp") or "",
    )


def _named_ports(spec: Mapping[str, Any]) -> tuple[NamedPort, ...]:
    sidecars = [c for c in spec.get("initContainers") or [] if c.get("restartPolicy") == "Always"]
    return tuple(
        NamedPort(port["name"], port.get("protocol") or "TCP", port["containerPort"])
        for container in [*(spec.get("containers") or []), *sidecars]
        for port in container.get("ports") or []
        if port.get("name")
    )


def namespace_of(item: Mapping[str, Any]) -> Namespace:
    """Reduce an API Namespace."""
    metadata = item["metadata"]
    return Namespace(metadata["uid"], metadata["name"], metadata.get("labels") or {})


def policy_of(item: Mapping[str, Any]) -> Policy:
    """Reduce an API NetworkPolicy."""
    metadata = item["metadata"]
    return Policy(metadata["uid"], metadata["namespace"], metadata["name"], item.get("spec") or {})
