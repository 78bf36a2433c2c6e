"""From the cluster's state to an nftables table: one pure function, `compile_ruleset`.

Shape of the table: a pod that some policy isolates has an entry in a map from its address to a
chain; the chain lists what is allowed and ends in `drop`. An allow is `return` and never `accept`,
because a connection needs both its source's egress and its destination's ingress. Pods that need
the same chain share it.

Where packets are looked at:

- forward: pod to pod and pod to outside, after a Service's address was translated (the `ptp` CNI
  routes every packet between pods; on a bridge they would pass unseen);
- input: pod to its own node, where only egress applies;
- never output: the node reaches its pods, so the kubelet's probes always pass.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.cluster.selectors import policy_types
from helpers.embedded.policy.model import Pod, Policy, State
from helpers.embedded.policy.population import Population

TABLE = "inet course-policy"
DEFAULT_POD_RANGE = "10.244.0.0/16"

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Direction:
    """What differs between ingress and egress."""

    policy_type: str
    rules_key: str
    peers_key: str
    peer_address: str
    prefix: str


INGRESS = Direction("Ingress", "ingress", "from", "ip saddr", "in")
EGRESS = Direction("Egress", "egress", "to", "ip daddr", "eg")


class _Named:
    """Contents seen so far, numbered in order of their first use: equal contents share one name."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.names: dict[tuple[str, ...], str] = {}

    def name(self, content: Iterable[str]) -> str:
        return self.names.setdefault(tuple(content), f"{self._prefix}_{len(self.names) + 1}")


def compile_ruleset(state: State, pod_range: str = DEFAULT_POD_RANGE) -> str:
    """The nft script that replaces the table in one transaction by what `state` asks for."""
    return _Compiler(state).script(pod_range)


class _Compiler:
    def __init__(self, state: State) -> None:
        self._population = Population(state)
        self._policies = sorted(state.policies, key=lambda item: (item.namespace, item.name))
        self._peers = _Named("peer")
        self._ports = _Named("port")
        self._chains = {INGRESS: _Named("in"), EGRESS: _Named("eg")}
        self._cache: dict[tuple[object, ...], str] = {}

    def script(self, pod_range: str) -> str:
        ingress, egress = self._verdicts(INGRESS), self._verdicts(EGRESS)
        known = list(self._population.pods)
        body = [
            _set("known4", "ipv4_addr", known),
            _set("self4", "ipv4_addr . ipv4_addr", [f"{address} . {address}" for address in known]),
            *(_set(name, "ipv4_addr", content) for content, name in self._peers.names.items()),
            *(
                _set(name, "ipv4_addr . inet_proto . inet_service", content)
                for content, name in self._ports.names.items()
            ),
            *(
                _chain(name, content)
                for chains in self._chains.values()
                for content, name in chains.names.items()
            ),
            _map("ing4", ingress),
            _map("egr4", egress),
            *_hooks(pod_range),
        ]
        return f"table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n" + "\n".join(body) + "\n}\n"

    def _verdicts(self, direction: Direction) -> list[str]:
        """Map elements `address : jump chain` of every pod that is isolated in this direction."""
        isolating: dict[str, list[Policy]] = {}
        for policy in self._policies:
            if direction.policy_type in policy_types(policy.spec):
                for address in self._population.selected(policy.spec.get("podSelector"), policy.namespace):
                    isolating.setdefault(address, []).append(policy)
        return [f"{address} : jump {self._chain_of(address, direction, isolating[address])}"
                for address in sorted(isolating)]  # fmt: skip

    def _chain_of(self, address: str, direction: Direction, policies: list[Policy]) -> str:
        pod = self._population.pods[address]
        # Only ingress asks the isolated pod for its named ports; egress asks its peers.
        ports = pod.named_ports if direction is INGRESS else ()
        key = (direction, ports, *(policy.uid for policy in policies))
        if key not in self._cache:
            lines = dict.fromkeys(
                line
                for policy in policies
                for rule in policy.spec.get(direction.rules_key) or []
                for line in self._rule(rule, direction, policy.namespace, pod)
            )
            self._cache[key] = self._chains[direction].name([*lines, "drop"])
        return self._cache[key]

    def _rule(self, rule: Json, direction: Direction, namespace: str, pod: Pod) -> Iterable[str]:
        """What one rule allows: any of its peers on any of its ports; none given means all."""
        ports = rule.get("ports") or [None]
        for match, members in self._sides(rule.get(direction.peers_key), direction, namespace):
            for port in ports:
                for condition in self._port(port, match, members, direction, pod):
                    yield f"{condition} return".strip()

    def _sides(
        self, peers: list[Json] | None, direction: Direction, namespace: str
    ) -> list[tuple[str, frozenset[str]]]:
        """The other side, as a match and as the pods it means; all selectors make one set."""
        if not peers:
            return [("", self._population.everyone)]
        sides = []
        selecting = [peer for peer in peers if not peer.get("ipBlock")]
        chosen = frozenset().union(*(self._population.peers(peer, namespace) for peer in selecting))
        if chosen:
            sides.append((f"{direction.peer_address} @{self._peers.name(sorted(chosen))}", chosen))
        for block in (peer["ipBlock"] for peer in peers if peer.get("ipBlock")):
            if (match := block_match(block, direction.peer_address)) is not None:
                sides.append((match, self._population.in_block(block)))
        return sides

    def _port(
        self, port: Json | None, match: str, members: frozenset[str], direction: Direction, pod: Pod
    ) -> Iterable[str]:
        """Conditions for one port of a rule; none when a named port exists nowhere."""
        if port is None:
            return [match]
        protocol, number = (port.get("protocol") or "TCP"), port.get("port")
        if number is None:
            return [f"{match} meta l4proto {protocol.lower()}"]
        if not isinstance(number, str):
            return [f"{match} {_numeric_port(protocol, number, port.get('endPort'))}"]
        if direction is INGRESS:
            return [f"{match} {_numeric_port(protocol, n, None)}" for n in _resolve(pod, number, protocol)]
        triples = [
            f"{address} . {protocol.lower()} . {resolved}"
            for address in sorted(members)
            for resolved in _resolve(self._population.pods[address], number, protocol)
        ]
        return [f"ip daddr . meta l4proto . th dport @{self._ports.name(triples)}"] if triples else []


def block_match(block: Json, address: str) -> str | None:
    """The match for an ipBlock, None when it can match no IPv4 address."""
    network = ipaddress.ip_network(block["cidr"], strict=False)
    if not isinstance(network, ipaddress.IPv4Network):
        return None
    outside = [ipaddress.ip_network(item, strict=False) for item in block.get("except") or []]
    holes = list(ipaddress.collapse_addresses(n for n in outside if isinstance(n, ipaddress.IPv4Network)))
    if any(network.subnet_of(hole) for hole in holes):
        return None
    parts = ["meta nfproto ipv4"] if network.prefixlen == 0 else [f"{address} {network}"]
    if holes:
        parts.append(f"{address} != {{ {', '.join(map(str, holes))} }}")
    return " ".join(parts)


def _numeric_port(protocol: str, first: int, last: int | None) -> str:
    ports = str(first) if last is None or last == first else f"{first}-{last}"
    return f"meta l4proto {protocol.lower()} th dport {ports}"


def _resolve(pod: Pod, name: str, protocol: str) -> list[int]:
    """The numbers a named port has on this pod, for this protocol."""
    return sorted({p.number for p in pod.named_ports if p.name == name and p.protocol == protocol})


def _elements(items: Iterable[str]) -> str:
    text = ", ".join(items)
    return f" elements = {{ {text} }}" if text else ""


def _set(name: str, kind: str, items: Iterable[str]) -> str:
    return f"  set {name} {{ type {kind};{_elements(items)} }}"


def _map(name: str, items: Iterable[str]) -> str:
    return f"  map {name} {{ type ipv4_addr : verdict;{_elements(items)} }}"


def _chain(name: str, lines: Iterable[str]) -> str:
    return f"  chain {name} {{\n" + "".join(f"    {line}\n" for line in lines) + "  }"


def _hooks(pod_range: str) -> list[str]:
    """The two base chains. A packet of or to an address of the pod range that no pod has is dropped."""
    from_pods = [
        "ct state established,related accept",
        'meta nfproto ipv6 iifname "veth*" drop',
        f'iifname "veth*" ip saddr != {pod_range} drop',
    ]
    known_source = f"ip saddr {pod_range} ip saddr != @known4 drop"
    hook = "type filter hook {} priority filter - 5; policy accept;"
    return [
        _chain(
            "forward",
            [
                hook.format("forward"),
                *from_pods,
                'meta nfproto ipv6 oifname "veth*" drop',
                "ip saddr . ip daddr @self4 accept",
                known_source,
                f"ip daddr {pod_range} ip daddr != @known4 drop",
                "ip saddr vmap @egr4",
                "ip daddr vmap @ing4",
            ],
        ),
        _chain("input", [hook.format("input"), *from_pods, known_source, "ip saddr vmap @egr4"]),
    ]
