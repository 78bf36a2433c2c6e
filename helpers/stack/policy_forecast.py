"""What NetworkPolicies would allow, computed from their specification and nothing else.

A forecast is shown beside what the cluster does: where the two differ, either the policy engine is
not there or the reader of the policy was wrong, and both are lessons. So nothing here asks a
cluster: parties, namespaces' labels and policies come in, a decision and its reason come out.

The rules are those of `networking.k8s.io/v1`:
https://kubernetes.io/docs/reference/kubernetes-api/policy-resources/network-policy-v1/
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from helpers.cluster import shapes
from helpers.cluster.manifests import load
from helpers.cluster.selectors import matches, policy_types

Manifest = Mapping[str, Any]
Side = Literal["ingress", "egress"]
NAME_LABEL = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class Party:
    """One end of a connection: a pod, a pod in its node's network, or a bare address.

    `ports` are the pod's named container ports: {("http", "TCP"): 8000}.
    """

    name: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    ip: str | None = None
    ports: Mapping[tuple[str, str], int] = field(default_factory=dict)
    node: str | None = None
    host_network: bool = False

    @property
    def is_pod(self) -> bool:
        """Policies select pods of the pod network; a hostNetwork pod is its node to them."""
        return self.namespace is not None and not self.host_network


@dataclass(frozen=True)
class Decision:
    """Whether a connection would be allowed, why, and which policies had a say."""

    allowed: bool
    reason: str
    policies: tuple[str, ...] = ()


@dataclass(frozen=True)
class World:
    """Everything a NetworkPolicy can see: the namespaces' labels and the policies themselves."""

    namespaces: Mapping[str, Mapping[str, str]]
    policies: tuple[Manifest, ...] = ()

    def with_manifests(self, manifests: str | Iterable[Manifest]) -> World:
        """This world after the manifests were applied: policies and namespaces replaced or added.

        Raises:
            InvalidManifest: the text is not YAML, or a policy breaks the specification.
        """
        documents = parse(manifests) if isinstance(manifests, str) else list(manifests)
        namespaces = dict(self.namespaces)
        policies = {_key(policy): policy for policy in self.policies}
        for document in documents:
            metadata = document.get("metadata") or {}
            if document.get("kind") == "Namespace":
                name = metadata.get("name", "")
                labels = {**namespaces.get(name, {}), **(metadata.get("labels") or {}), NAME_LABEL: name}
                namespaces[name] = labels
            elif document.get("kind") == "NetworkPolicy":
                check_policy(document)
                policies[_key(document)] = document
        return replace(self, namespaces=namespaces, policies=tuple(policies.values()))

    def without(self, namespace: str, name: str) -> World:
        """This world after one policy was deleted."""
        kept = tuple(policy for policy in self.policies if _key(policy) != (namespace, name))
        return replace(self, policies=kept)


def parse(text: str) -> list[Manifest]:
    """The documents of a YAML text that are Kubernetes objects.

    Raises:
        InvalidManifest: with the line that is not YAML, or the field that is none of its type.
    """
    return list(load(text)) if text.strip() else []


def selects(policy: Manifest, party: Party) -> bool:
    """Whether the policy's podSelector selects this pod, in the policy's own namespace."""
    metadata, spec = policy.get("metadata") or {}, policy.get("spec") or {}
    if not party.is_pod or metadata.get("namespace", "default") != party.namespace:
        return False
    return matches(spec.get("podSelector") or {}, party.labels)


def decide(world: World, source: Party, target: Party, port: int, protocol: str = "TCP") -> Decision:
    """Whether `source` may open a connection to `port` of `target`.

    A Service is not a party: pass the pod behind it and its target port, because policy is judged
    after the Service's address was translated.
    """
    if (
        source.is_pod
        and target.is_pod
        and (source.namespace, source.name)
        == (
            target.namespace,
            target.name,
        )
    ):
        return Decision(True, "a pod always reaches itself")
    outgoing = _side(world, "egress", source, target, port, protocol)
    if not outgoing.allowed:
        return outgoing
    if target.is_pod and not source.is_pod and source.node is not None and source.node == target.node:
        return Decision(True, f"the node that {target.name} runs on always reaches it (kubelet probes)")
    incoming = _side(world, "ingress", target, source, port, protocol)
    if not incoming.allowed:
        return incoming
    reasons = [side.reason for side in (outgoing, incoming) if side.policies]
    reason = "; ".join(reasons) or "no policy selects either end, so everything is allowed"
    return Decision(True, reason, (*outgoing.policies, *incoming.policies))


def _side(world: World, side: Side, subject: Party, peer: Party, port: int, protocol: str) -> Decision:
    """One direction: isolated by any policy, then allowed by at least one rule of any of them."""
    direction = side.capitalize()
    selecting = [
        policy
        for policy in world.policies
        if selects(policy, subject) and direction in policy_types(policy.get("spec") or {})
    ]
    if not selecting:
        return Decision(True, f"no policy isolates {subject.name} for {side}")
    names = tuple(_label(policy) for policy in selecting)
    # Ports are always those of the connection's destination: of the subject on ingress, of the peer on egress.
    destination = subject if side == "ingress" else peer
    for policy in selecting:
        rules = (policy.get("spec") or {}).get(side) or []
        for number, rule in enumerate(rules, start=1):
            if _rule_allows(world, policy, rule, side, peer, destination, port, protocol):
                return Decision(
                    True, f"{side} rule {number} of {_label(policy)} allows it", (_label(policy),)
                )
    listed = ", ".join(names)
    return Decision(
        False,
        f"{subject.name} is isolated for {side} by {listed}, and no rule allows {peer.name} on {protocol} {port}",
        names,
    )


def _rule_allows(
    world: World,
    policy: Manifest,
    rule: Manifest,
    side: Side,
    peer: Party,
    destination: Party,
    port: int,
    protocol: str,
) -> bool:
    peers: Sequence[Manifest] = (rule or {}).get("from" if side == "ingress" else "to") or []
    ports: Sequence[Manifest] = (rule or {}).get("ports") or []
    peer_fits = not peers or any(_peer_matches(world, policy, item, peer) for item in peers)
    return peer_fits and (
        not ports or any(_port_matches(item, destination, port, protocol) for item in ports)
    )


def _peer_matches(world: World, policy: Manifest, item: Manifest, party: Party) -> bool:
    """Both selectors in one peer must hold; an absent namespaceSelector means the policy's own namespace."""
    block = item.get("ipBlock")
    if block is not None:
        return _in_block(block, party.ip)
    if not party.is_pod or party.namespace is None:
        return False
    namespace_selector, pod_selector = item.get("namespaceSelector"), item.get("podSelector")
    if namespace_selector is None:
        own = (policy.get("metadata") or {}).get("namespace", "default")
        if party.namespace != own:
            return False
    elif not matches(namespace_selector, world.namespaces.get(party.namespace, {})):
        return False
    return pod_selector is None or matches(pod_selector, party.labels)


def _in_block(block: Manifest, ip: str | None) -> bool:
    if ip is None:
        return False
    address = ipaddress.ip_address(ip)
    if address not in ipaddress.ip_network(block["cidr"], strict=False):
        return False
    return not any(address in ipaddress.ip_network(hole, strict=False) for hole in block.get("except") or [])


def _port_matches(item: Manifest, destination: Party, port: int, protocol: str) -> bool:
    if (item.get("protocol") or "TCP") != protocol:
        return False
    wanted = item.get("port")
    if wanted is None:
        return True
    if isinstance(wanted, str):
        # A named port is looked up in each destination pod: the same name may be another number there.
        return destination.ports.get((wanted, protocol)) == port
    return int(wanted) <= port <= int(item.get("endPort") or wanted)


def check_policy(policy: Manifest) -> None:
    """Refuse what the API server would refuse and the evaluation could not understand.

    Raises:
        InvalidManifest: naming the policy and what is wrong in it.
    """
    shapes.check(policy, shapes.POLICY)


def _key(policy: Manifest) -> tuple[str, str]:
    metadata = policy.get("metadata") or {}
    return metadata.get("namespace", "default"), metadata.get("name", "")


def _label(policy: Manifest) -> str:
    return _key(policy)[1] or "an unnamed policy"
