"""Every door that the stored policies open and that the stack does not need, computed from their rules.

Connections that are tried are samples: a rule for ports 8002 to 65535 is not seen by trying 8001 and 22,
and a rule for a namespace that nobody has made yet cannot be tried at all. What a rule lets in is a
product of peers and ports, so both are read: each peer stands for the namespaces that its selector
selects, here and among those that somebody could make, and for a pod that carries no label but those
that it asks for.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from helpers.cluster.selectors import matches, policy_types
from helpers.stack.policy_forecast import NAME_LABEL, Manifest, Party, Side, World, selects
from helpers.stack.stage import Stage

SYSTEM, APPS, MONITORING, DNS = "llm-system", "llm-apps", "llm-monitoring", "kube-system"
# Policies in llm-system that another lab's learner writes: lab 06 closes Redis.
OF_OTHER_LABS = ("redis",)
PROTOCOLS = ("TCP", "UDP", "SCTP")
LAST_PORT = 65535
QDRANT_GRPC = 6334
LINK_LOCAL = ipaddress.ip_network("169.254.0.0/16")
# Where a namespace is anybody's who labels one so; no real namespace can have this name.
ANY_NAMESPACE = "(any namespace)"

Needed = Callable[[Party, int, str], bool]


@dataclass(frozen=True)
class Door:
    """One rule's way in or out that nothing needs; `number` counts the rules of its policy from 1."""

    policy: str
    side: Side
    number: int
    subject: str
    peer: Party
    protocol: str
    first: int
    last: int

    def __str__(self) -> str:
        if (self.first, self.last) == (1, LAST_PORT):
            ports = "every port"
        else:
            ports = f"port {self.first}" if self.first == self.last else f"ports {self.first} to {self.last}"
        way = (
            f"{self.peer.name} in to {self.subject}"
            if self.side == "ingress"
            else f"{self.subject} out to {self.peer.name}"
        )
        return f"{self.side} rule {self.number} of {self.policy} lets {way}: {self.protocol} {ports}"


def unneeded(stage: Stage) -> list[Door]:
    """All doors of llm-system's policies that the stack does not need."""
    return [
        *incoming(stage, "vllm"),
        *incoming(stage, "qdrant"),
        *incoming(stage, "neighbour"),
        *outgoing(stage),
    ]


def incoming(stage: Stage, target: str) -> list[Door]:
    """The doors into the pods behind a target (`vllm`, `qdrant`, `neighbour`)."""
    port = next((item.backend_port for item in stage.targets if item.name == target), 0)
    prometheus = stage.parties.get("prometheus")

    def needed(peer: Party, number: int, protocol: str) -> bool:
        if target == "neighbour" or protocol != "TCP":
            return False
        if peer.namespace == APPS:
            return number == port or (target == "qdrant" and number == QDRANT_GRPC)
        return peer.namespace == MONITORING and number == port and _is_like(peer, prometheus)

    doors = (
        door
        for pod in stage.backends(target)
        for door in _doors(stage.world, "ingress", pod, target, pod, needed)
    )
    return _different(doors)


def outgoing(stage: Stage) -> list[Door]:
    """The doors out of any other pod of llm-system; all that such a pod needs is the cluster's DNS."""
    subject = stage.parties.get("neighbour")
    resolver = next(iter(stage.backends("dns")), None)

    def needed(peer: Party, number: int, protocol: str) -> bool:
        if protocol == "SCTP" or number not in {53, *(resolver.ports.values() if resolver else ())}:
            return False
        if peer.namespace is None:  # a resolver on the node itself, as NodeLocal DNSCache sets it up
            return peer.ip is not None and ipaddress.ip_address(peer.ip) in LINK_LOCAL and number == 53
        return peer.namespace == DNS and _is_like(peer, resolver) and _serves(resolver, number)

    if subject is None:
        return []
    return _different(_doors(stage.world, "egress", subject, "any pod of llm-system", resolver, needed))


def _different(doors: Iterable[Door]) -> list[Door]:
    """Each door once: several pods may stand behind one target."""
    return list({str(door): door for door in doors}.values())


def _serves(resolver: Party | None, number: int) -> bool:
    """Whether the port is one that is asked for names, and not that of the resolver's metrics."""
    named = {port for (name, _), port in (resolver.ports if resolver else {}).items() if "dns" in name}
    return number == 53 or number in named


def _is_like(peer: Party, real: Party | None) -> bool:
    """Whether a selector asked for labels that the real pod has: with none it would take any pod."""
    return bool(peer.labels) and real is not None and peer.labels.items() <= dict(real.labels).items()


def _doors(
    world: World, side: Side, subject: Party, name: str, destination: Party | None, needed: Needed
) -> Iterator[Door]:
    for policy in world.policies:
        spec = policy.get("spec") or {}
        if not selects(policy, subject) or side.capitalize() not in policy_types(spec):
            continue
        label = str((policy.get("metadata") or {}).get("name", ""))
        for number, rule in enumerate(spec.get(side) or [], start=1):
            peers = (rule or {}).get("from" if side == "ingress" else "to") or []
            for peer in _parties(world, peers):
                for protocol, first, last in _ports((rule or {}).get("ports") or [], destination):
                    if any(not needed(peer, port, protocol) for port in _some(first, last)):
                        yield Door(label, side, number, name, peer, protocol, first, last)


def _some(first: int, last: int) -> Iterable[int]:
    """Ports of a range that decide it: no more than two of them are ever needed."""
    return range(first, min(last, first + 2) + 1)


def _ports(items: Sequence[Manifest], destination: Party | None) -> Iterator[tuple[str, int, int]]:
    """What a rule's `ports` open, as (protocol, first, last); without any, all of every protocol."""
    if not items:
        yield from ((protocol, 1, LAST_PORT) for protocol in PROTOCOLS)
    for item in items:
        protocol, wanted = item.get("protocol") or "TCP", item.get("port")
        if wanted is None:
            yield protocol, 1, LAST_PORT
        elif isinstance(wanted, str):
            number = (destination.ports if destination else {}).get((wanted, protocol))
            if number is not None:
                yield protocol, number, number
        else:
            yield protocol, int(wanted), int(item.get("endPort") or wanted)


def _parties(world: World, peers: Sequence[Manifest]) -> Iterator[Party]:
    """Whom a rule's `from` or `to` names, each by the pod with the fewest labels that it takes."""
    if not peers:
        yield Party("everybody", ANY_NAMESPACE)
    for peer in peers:
        if (block := peer.get("ipBlock")) is not None:
            network = ipaddress.ip_network(block["cidr"], strict=False)
            yield Party(f"the addresses {block['cidr']}", ip=str(network.network_address))
            continue
        pods = peer.get("podSelector")
        for labels in _labels(pods or {}):
            yield from (
                Party(f"{_pods(labels)} of {place}", place, labels)
                for place in _namespaces(world, peer.get("namespaceSelector"))
            )


def _pods(labels: Mapping[str, str]) -> str:
    words = ", ".join(f"{key}={value}" for key, value in labels.items())
    return f"any pod labelled {words}" if words else "any pod"


def _namespaces(world: World, selector: Manifest | None) -> Iterator[str]:
    if selector is None:
        yield SYSTEM
        return
    found = [name for name, labels in world.namespaces.items() if matches(selector, labels)]
    yield from found
    for labels in _labels(selector):
        # The API server writes the name's label: whoever asks for it means that one namespace.
        name = labels.get(NAME_LABEL)
        if name not in found and matches(selector, labels):
            rest = ", ".join(f"{key}={value}" for key, value in labels.items())
            yield name or (f"any namespace labelled {rest}" if rest else ANY_NAMESPACE)


def _labels(selector: Manifest) -> Iterator[dict[str, str]]:
    """The smallest sets of labels that a selector selects: one for each value that it lists."""
    choices: list[list[tuple[str, str]]] = [
        [(key, value)] for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for requirement in selector.get("matchExpressions") or []:
        if requirement["operator"] == "In":
            choices.append([(requirement["key"], value) for value in requirement.get("values") or []])
        elif requirement["operator"] == "Exists":
            choices.append([(requirement["key"], "any")])
    for chosen in product(*choices):
        labels: dict[str, Any] = dict(chosen)
        if matches(selector, labels):
            yield labels
