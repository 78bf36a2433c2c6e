"""Who is who: the pods that have an address, and a label index to select them by.

Selectors are repeated across policies and most name a label, so each is answered once, from the
pods that carry its rarest label.
"""

from __future__ import annotations

import ipaddress
import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from helpers.cluster.selectors import matches
from helpers.embedded.policy.model import Pod, State

Selector = Mapping[str, Any]


class Population:
    """The pods on the pod network, by address; sets of pods are frozensets of addresses."""

    def __init__(self, state: State) -> None:
        self.pods = addressed(state)
        self.everyone = frozenset(self.pods)
        self._namespaces = {item.name: item.labels for item in state.namespaces}
        self._of_namespace: dict[str, set[str]] = defaultdict(set)
        self._of_label: dict[tuple[str, str], set[str]] = defaultdict(set)
        self._answers: dict[tuple[str, str], frozenset[str]] = {}
        for address, pod in self.pods.items():
            self._of_namespace[pod.namespace].add(address)
            for label in pod.labels.items():
                self._of_label[label].add(address)

    def selected(self, selector: Selector | None, namespace: str) -> frozenset[str]:
        """Pods of one namespace that a policy's podSelector selects; an absent selector selects all."""
        return self._by_labels(selector or {}) & self._of_namespace.get(namespace, set())

    def peers(self, peer: Mapping[str, Any], namespace: str) -> frozenset[str]:
        """Pods that one peer of a policy in `namespace` means: both of its selectors must match."""
        spaces, pods = peer.get("namespaceSelector"), peer.get("podSelector")
        inside = self._of_namespace.get(namespace, set()) if spaces is None else self._in_namespaces(spaces)
        return frozenset(inside if pods is None else inside & self._by_labels(pods))

    def in_block(self, block: Mapping[str, Any]) -> frozenset[str]:
        """Pods whose address lies in an ipBlock."""
        key = ("block", json.dumps(block, sort_keys=True))
        if key not in self._answers:
            inside, outside = _network(block["cidr"]), [_network(item) for item in block.get("except") or []]
            self._answers[key] = frozenset(
                text
                for text in self.pods
                if (address := ipaddress.ip_address(text)) in inside
                and not any(address in hole for hole in outside)
            )
        return self._answers[key]

    def _in_namespaces(self, selector: Selector) -> frozenset[str]:
        key = ("namespaces", json.dumps(selector, sort_keys=True))
        if key not in self._answers:
            names = [name for name, labels in self._namespaces.items() if matches(selector, labels)]
            empty: set[str] = set()
            self._answers[key] = frozenset().union(*(self._of_namespace.get(n, empty) for n in names))
        return self._answers[key]

    def _by_labels(self, selector: Selector) -> frozenset[str]:
        key = ("pods", json.dumps(selector, sort_keys=True))
        if key not in self._answers:
            wanted = (selector.get("matchLabels") or {}).items()
            candidates = min((self._of_label.get(w, set()) for w in wanted), key=len, default=self.everyone)
            self._answers[key] = frozenset(a for a in candidates if matches(selector, self.pods[a].labels))
        return self._answers[key]


def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(cidr, strict=False)


def addressed(state: State) -> dict[str, Pod]:
    """The pods on the pod network by address, sorted.

    What the CNI handed out counts first: it is there before the pod's containers start, while the
    API learns the address later, and may still show that of a dead pod whose address is in use again.
    """
    owner = {address: uid for uid, address in state.attached.items()}
    found: dict[str, Pod] = {}
    for pod in sorted(state.pods, key=lambda pod: (pod.created, pod.uid)):
        address = state.attached.get(pod.uid) or pod.address
        if not pod.on_pod_network or not _is_ipv4(address) or owner.get(address, pod.uid) != pod.uid:
            continue
        found[address] = pod
    return dict(sorted(found.items()))


def _is_ipv4(address: str) -> bool:
    try:
        return isinstance(ipaddress.ip_address(address), ipaddress.IPv4Address)
    except ValueError:
        return False
