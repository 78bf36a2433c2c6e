"""Each clause of the NetworkPolicy specification, as the verdict that the compiled table gives.

The compiled text is run by a small reading of it (`allowed`), so that a test states a connection and
not a spelling; that the kernel reads it alike is shown by test_policy_kernel.py.
"""

from __future__ import annotations

import ipaddress
import itertools
import random
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.cluster.selectors import policy_types
from helpers.embedded.policy import compile as compiler
from helpers.embedded.policy.compile import compile_ruleset
from helpers.embedded.policy.model import NamedPort, Namespace, Pod, Policy, State, pod_of
from helpers.stack.policy_forecast import Party, World, decide

HTTP = NamedPort("http", "TCP", 8080)
PODS = {
    "x/a": Pod("xa", "x", "a", {"app": "a"}, "10.244.0.2", (HTTP,)),
    "x/b": Pod("xb", "x", "b", {"app": "b"}, "10.244.0.3", (NamedPort("http", "TCP", 9090),)),
    "x/c": Pod("xc", "x", "c", {"app": "c", "tier": "web"}, "10.244.0.4"),
    "y/a": Pod("ya", "y", "a", {"app": "a"}, "10.244.0.5", (HTTP,)),
    "y/b": Pod("yb", "y", "b", {"app": "b"}, "10.244.0.6"),
}
NAMESPACES = (Namespace("x", "x", {"name": "x", "team": "red"}), Namespace("y", "y", {"name": "y"}))
OUTSIDE = "203.0.113.9"


def policy(spec: dict[str, Any], namespace: str = "x", name: str = "p") -> Policy:
    return Policy(f"{namespace}/{name}", namespace, name, spec)


def ingress(*rules: dict[str, Any], selector: dict[str, Any] | None = None) -> Policy:
    return policy({"podSelector": selector or {}, "policyTypes": ["Ingress"], "ingress": list(rules)})


def egress(*rules: dict[str, Any], selector: dict[str, Any] | None = None) -> Policy:
    return policy({"podSelector": selector or {}, "policyTypes": ["Egress"], "egress": list(rules)})


class Table:
    """A reading of the compiled text: sets, chains, and what the forward hook decides for a new flow."""

    def __init__(self, *policies: Policy, pods: dict[str, Pod] | None = None) -> None:
        chosen = PODS if pods is None else pods
        self.text = compile_ruleset(State(tuple(chosen.values()), NAMESPACES, policies))
        self.sets = {
            name: self._items(body)
            for name, body in re.findall(r"(?:set|map) (\w+) \{ type [^;]+;(.*) \}\n", self.text)
        }
        self.chains = {
            name: [line.strip() for line in body.strip().splitlines()]
            for name, body in re.findall(r"chain (\w+) \{\n(.*?)\n  \}", self.text, re.S)
        }

    @staticmethod
    def _items(body: str) -> list[str]:
        inner = re.search(r"\{ (.*) \}", body)
        return inner.group(1).split(", ") if inner else []

    def allows(self, source: str, target: str, port: int = 8080, protocol: str = "tcp") -> bool:
        saddr, daddr = self._address(source), self._address(target)
        packet = {"saddr": saddr, "daddr": daddr, "port": port, "protocol": protocol}
        known = self.sets["known4"]
        for address in (saddr, daddr):
            if address.startswith("10.244.") and address not in known:
                return False
        if saddr == daddr:
            return True
        return self._passes("egr4", saddr, packet) and self._passes("ing4", daddr, packet)

    @staticmethod
    def _address(who: str) -> str:
        return PODS[who].address if who in PODS else who

    def _passes(self, verdicts: str, address: str, packet: dict[str, Any]) -> bool:
        jumps = dict(element.split(" : jump ") for element in self.sets[verdicts])
        if address not in jumps:
            return True
        for line in self.chains[jumps[address]]:
            if line == "drop":
                return False
            assert line.endswith("return")
            if self._holds(line.removesuffix("return").strip(), packet):
                return True
        raise AssertionError("a chain must end in drop")

    def _holds(self, condition: str, packet: dict[str, Any]) -> bool:
        triple = f"{packet['daddr']} . {packet['protocol']} . {packet['port']}"
        if found := re.fullmatch(r"ip daddr \. meta l4proto \. th dport @(\w+)", condition):
            return triple in self.sets[found.group(1)]
        for which, negated, wanted in re.findall(r"ip ([sd]addr) (!= )?(\{[^}]*\}|\S+)", condition):
            if self._among(packet[which], wanted) == bool(negated):
                return False
        if (found := re.search(r"meta l4proto (\w+)", condition)) and found.group(1) != packet["protocol"]:
            return False
        if found := re.search(r"th dport (\d+)(?:-(\d+))?", condition):
            first, last = int(found.group(1)), int(found.group(2) or found.group(1))
            return first <= packet["port"] <= last
        return True

    def _among(self, address: str, wanted: str) -> bool:
        if wanted.startswith("@"):
            return address in self.sets[wanted[1:]]
        networks = wanted.strip("{} ").split(", ")
        return any(ipaddress.ip_address(address) in ipaddress.ip_network(item) for item in networks)


def test_the_skeleton_is_the_table_of_a_node_without_known_pods() -> None:
    skeleton = (Path(compiler.__file__).parent / "skeleton.nft").read_text()
    lines = [line for line in skeleton.splitlines() if not line.startswith("#")]
    assert "\n".join(lines) + "\n" == compile_ruleset(State())


def test_without_policies_known_pods_reach_all_and_unknown_addresses_none() -> None:
    table = Table()
    assert table.allows("x/a", "y/b")
    assert table.allows("x/a", OUTSIDE)
    assert table.allows(OUTSIDE, "x/a")
    assert not table.allows("10.244.0.77", "x/a")
    assert not table.allows("x/a", "10.244.0.77")


def test_an_empty_ingress_list_denies_all_and_leaves_egress_alone() -> None:
    table = Table(ingress())
    assert not table.allows("x/b", "x/a")
    assert not table.allows(OUTSIDE, "x/a")
    assert table.allows("x/a", "y/a")
    assert table.allows("x/a", "x/a"), "a pod always reaches itself"


def test_one_empty_rule_allows_everything() -> None:
    table = Table(ingress({}), egress({}))
    assert table.allows(OUTSIDE, "x/a", 1, "udp")
    assert table.allows("x/a", OUTSIDE)


def test_both_sides_must_allow_a_connection() -> None:
    deny_out = policy({"podSelector": {}, "policyTypes": ["Egress"]}, "y", "out")
    table = Table(ingress({}), deny_out)
    assert not table.allows("y/a", "x/a")
    assert table.allows("x/b", "x/a")


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ["Ingress"]),
        ({"egress": [{}]}, ["Ingress", "Egress"]),
        ({"egress": []}, ["Ingress"]),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, ["Egress"]),
    ],
)
def test_policy_types_default_to_ingress_and_to_egress_where_it_has_rules(
    spec: dict[str, Any], types: list[str]
) -> None:
    assert policy_types(spec) == types


def test_an_absent_namespace_selector_means_the_policys_own_namespace() -> None:
    table = Table(ingress({"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}))
    assert table.allows("x/b", "x/a")
    assert not table.allows("y/b", "x/a")


def test_an_empty_namespace_selector_means_all_namespaces() -> None:
    table = Table(ingress({"from": [{"namespaceSelector": {}}]}))
    assert table.allows("x/b", "x/a")
    assert table.allows("y/b", "x/a")
    assert not table.allows(OUTSIDE, "x/a")


def test_both_selectors_in_one_peer_must_match() -> None:
    peer = {
        "namespaceSelector": {"matchLabels": {"name": "y"}},
        "podSelector": {"matchLabels": {"app": "b"}},
    }
    table = Table(ingress({"from": [peer]}))
    assert table.allows("y/b", "x/a")
    assert not table.allows("y/a", "x/a")
    assert not table.allows("x/b", "x/a")


def test_peers_are_alternatives() -> None:
    spaces = {"namespaceSelector": {"matchLabels": {"name": "y"}}}
    pods = {"podSelector": {"matchLabels": {"app": "b"}}}
    table = Table(ingress({"from": [spaces, pods]}))
    assert table.allows("y/a", "x/a")
    assert table.allows("x/b", "x/a")
    assert not table.allows("x/c", "x/a")


def test_match_expressions_select_pods_and_namespaces() -> None:
    web = {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}
    not_red = {"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]}
    table = Table(ingress({"from": [{"podSelector": web}, {"namespaceSelector": not_red}]}))
    assert table.allows("x/c", "x/a")
    assert table.allows("y/a", "x/a")
    assert not table.allows("x/b", "x/a")


def test_a_peer_that_matches_no_pod_allows_nobody() -> None:
    table = Table(ingress({"from": [{"podSelector": {"matchLabels": {"app": "none"}}}]}))
    assert not any(table.allows(source, "x/a") for source in ("x/b", "y/a", OUTSIDE))


def test_an_ip_block_allows_outsiders_and_pods_within_it() -> None:
    table = Table(ingress({"from": [{"ipBlock": {"cidr": "203.0.113.0/24"}}]}))
    assert table.allows(OUTSIDE, "x/a")
    assert not table.allows("198.51.100.1", "x/a")
    assert not table.allows("x/b", "x/a")


def test_except_narrows_its_own_peer_only() -> None:
    block = {"ipBlock": {"cidr": "10.244.0.0/24", "except": ["10.244.0.3/32", "10.244.0.2/31"]}}
    pods = {"podSelector": {"matchLabels": {"app": "b"}}}
    alone = Table(ingress({"from": [block]}))
    both = Table(ingress({"from": [block, pods]}))
    assert alone.allows("x/c", "x/a")
    assert not alone.allows("x/b", "x/a")
    assert both.allows("x/b", "x/a")


def test_a_block_of_all_addresses_with_a_hole() -> None:
    table = Table(egress({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["203.0.113.0/24"]}}]}))
    assert table.allows("x/a", "198.51.100.1")
    assert not table.allows("x/a", OUTSIDE)


def test_a_block_that_is_all_hole_or_ipv6_allows_nobody() -> None:
    hole = {"ipBlock": {"cidr": "10.244.0.0/24", "except": ["10.244.0.0/16"]}}
    table = Table(ingress({"from": [hole, {"ipBlock": {"cidr": "2001:db8::/32"}}]}))
    assert not table.allows("x/b", "x/a")
    assert not table.allows(OUTSIDE, "x/a")


def test_ports_are_alternatives_and_bind_protocol_and_number() -> None:
    rule = {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}
    table = Table(ingress(rule))
    assert table.allows("x/b", "x/a", 80)
    assert table.allows("x/b", "x/a", 53, "udp")
    assert not table.allows("x/b", "x/a", 53)
    assert not table.allows("x/b", "x/a", 80, "udp")


def test_end_port_is_inclusive() -> None:
    table = Table(ingress({"ports": [{"port": 8000, "endPort": 8002}]}))
    assert [table.allows("x/b", "x/a", port) for port in (7999, 8000, 8002, 8003)] == [
        False, True, True, False,
    ]  # fmt: skip


def test_a_port_without_number_allows_the_whole_protocol() -> None:
    table = Table(ingress({"ports": [{"protocol": "UDP"}]}))
    assert table.allows("x/b", "x/a", 12345, "udp")
    assert not table.allows("x/b", "x/a", 12345)


def test_sctp_rules_are_compiled() -> None:
    table = Table(ingress({"ports": [{"port": 80, "protocol": "SCTP"}]}))
    assert table.allows("x/b", "x/a", 80, "sctp")
    assert not table.allows("x/b", "x/a", 80)


def test_a_named_ingress_port_is_each_destinations_own() -> None:
    table = Table(ingress({"ports": [{"port": "http"}]}))
    assert table.allows("x/c", "x/a", 8080)
    assert not table.allows("x/c", "x/a", 9090)
    assert table.allows("x/c", "x/b", 9090)
    assert not table.allows("x/a", "x/c", 8080), "a pod without that port gets nothing"


def test_a_named_egress_port_is_each_destinations_own() -> None:
    table = Table(egress({"to": [{"podSelector": {}}], "ports": [{"port": "http"}]}))
    assert table.allows("x/c", "x/a", 8080)
    assert table.allows("x/c", "x/b", 9090)
    assert not table.allows("x/c", "x/b", 8080)
    assert not table.allows("x/c", "y/a", 8080), "another namespace is not a peer"


def test_a_named_egress_port_within_an_ip_block_is_that_of_pods_in_it() -> None:
    block = {"ipBlock": {"cidr": "10.244.0.0/24", "except": ["10.244.0.3/32"]}}
    table = Table(egress({"to": [block], "ports": [{"port": "http"}]}))
    assert table.allows("x/c", "x/a", 8080)
    assert not table.allows("x/c", "x/b", 9090)


def test_policies_add_up() -> None:
    first = policy({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]}, name="one")
    second = policy({"podSelector": {"matchLabels": {"app": "a"}}, "ingress": [{"ports": [{"port": 81}]}]})
    table = Table(first, second)
    assert table.allows("x/c", "x/a", 80)
    assert table.allows("x/c", "x/a", 81)
    assert not table.allows("x/c", "x/b", 81)


def test_a_policy_isolates_only_pods_it_selects_in_its_namespace() -> None:
    table = Table(ingress(selector={"matchLabels": {"app": "a"}}))
    assert not table.allows("x/b", "x/a")
    assert table.allows("x/a", "x/b")
    assert table.allows("x/b", "y/a")


def test_pods_that_need_the_same_chain_share_it() -> None:
    table = Table(ingress({"from": [{"podSelector": {}}]}))
    assert len(table.sets["ing4"]) == 3
    assert [name for name in table.chains if name.startswith("in_")] == ["in_1"]


def test_the_text_does_not_depend_on_the_order_of_events() -> None:
    policies = (ingress({"from": [{"namespaceSelector": {}}]}), policy({"podSelector": {}}, "y", "q"))
    forward = State(tuple(PODS.values()), NAMESPACES, policies)
    backward = State(tuple(PODS.values())[::-1], NAMESPACES[::-1], policies[::-1])
    assert compile_ruleset(forward) == compile_ruleset(backward)


def api_pod(**changes: Any) -> dict[str, Any]:
    pod = {
        "metadata": {"uid": "u", "namespace": "x", "name": "p", "labels": {"app": "a"}},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80}]}]},
        "status": {"phase": "Running", "podIP": "10.244.0.9"},
    }
    for section, change in changes.items():
        pod[section] = {**pod[section], **change}
    return pod


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        ({}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, True),
        ({"spec": {"hostNetwork": True}}, False),
        ({"status": {"phase": "Succeeded"}}, False),
        ({"status": {"phase": "Failed"}}, False),
        ({"status": {"podIP": None}}, False),
    ],
)
def test_host_network_finished_and_unaddressed_pods_are_not_known(
    changes: dict[str, Any], known: bool
) -> None:
    text = compile_ruleset(State((pod_of(api_pod(**changes)),)))
    assert ("10.244.0.9 . 10.244.0.9" in text) is known


def test_sidecar_ports_count_and_init_container_ports_do_not() -> None:
    initial = [
        {"name": "init", "ports": [{"name": "once", "containerPort": 1}]},
        {"name": "mesh", "restartPolicy": "Always", "ports": [{"name": "mesh", "containerPort": 2}]},
    ]
    pod = pod_of(api_pod(spec={"initContainers": initial}))
    assert [port.name for port in pod.named_ports] == ["http", "mesh"]


def test_the_cni_knows_a_pods_address_before_the_api_does() -> None:
    pod = pod_of(api_pod(status={"podIP": None, "phase": "Pending"}))
    assert "10.244.0.12" in compile_ruleset(State((pod,), attached={"u": "10.244.0.12"}))


def test_an_address_in_use_again_belongs_to_the_pod_that_the_cni_gave_it_to() -> None:
    old = Pod("old", "x", "old", {"app": "old"}, "10.244.0.9")
    new = Pod("new", "x", "new", {"app": "new"}, "")
    shut = ingress(selector={"matchLabels": {"app": "new"}})
    state = State((old, new), NAMESPACES, (shut,), {"new": "10.244.0.9"})
    assert "10.244.0.9 : jump in_1" in compile_ruleset(state)


def test_an_attached_address_without_a_pod_in_the_api_stays_unknown() -> None:
    assert compile_ruleset(State(attached={"ghost": "10.244.0.9"})) == compile_ruleset(State())


def random_policy(rng: random.Random, name: str) -> Policy:
    """Any combination of clauses that the API server would accept."""
    selectors: list[Any] = [
        {},
        {"matchLabels": {"app": rng.choice("abc")}},
        {"matchExpressions": [{"key": "tier", "operator": rng.choice(["Exists", "DoesNotExist"])}]},
        {"matchExpressions": [{"key": "app", "operator": rng.choice(["In", "NotIn"]), "values": ["a", "c"]}]},
    ]
    spaces: list[Any] = [{}, {"matchLabels": {"name": rng.choice("xy")}}, {"matchLabels": {"team": "red"}}]
    blocks: list[Any] = [
        {"cidr": "10.244.0.0/29", "except": ["10.244.0.3/32", "10.244.0.4/31"]},
        {"cidr": "0.0.0.0/0", "except": [rng.choice(["10.244.0.0/16", "203.0.113.0/24"])]},
        {"cidr": "203.0.113.0/24"},
    ]

    def peer() -> dict[str, Any]:
        kind = rng.randrange(4)
        if kind == 0:
            return {"ipBlock": rng.choice(blocks)}
        pods, space = {"podSelector": rng.choice(selectors)}, {"namespaceSelector": rng.choice(spaces)}
        return [pods, space, {**pods, **space}][kind - 1]

    def port() -> dict[str, Any]:
        first = rng.choice([80, 8080, 9090])
        protocol = rng.choice([{}, {"protocol": "TCP"}, {"protocol": "UDP"}])
        return (
            rng.choice([{"port": first}, {"port": first, "endPort": first + 10}, {"port": "http"}, {}])
            | protocol
        )

    def rules(peers: str) -> list[dict[str, Any]]:
        made = []
        for _ in range(rng.randrange(3)):
            rule: dict[str, Any] = {}
            if rng.random() < 0.7:
                rule[peers] = [peer() for _ in range(rng.randrange(3))]
            if rng.random() < 0.6:
                rule["ports"] = [port() or {"protocol": "TCP"} for _ in range(rng.randrange(3))]
            made.append(rule)
        return made

    spec: dict[str, Any] = {"podSelector": rng.choice(selectors)}
    if rng.random() < 0.8:
        spec["ingress"] = rules("from")
    if rng.random() < 0.6:
        spec["egress"] = rules("to")
    if rng.random() < 0.6:
        spec["policyTypes"] = rng.choice([["Ingress"], ["Egress"], ["Ingress", "Egress"]])
    return Policy(name, rng.choice("xy"), name, spec)


def party(who: str) -> Party:
    if who == OUTSIDE:
        return Party(OUTSIDE, ip=OUTSIDE)
    pod = PODS[who]
    ports = {(port.name, port.protocol): port.number for port in pod.named_ports}
    return Party(pod.name, pod.namespace, pod.labels, pod.address, ports)


@pytest.mark.parametrize("seed", range(60))
def test_the_table_agrees_with_the_forecast_which_was_written_apart_from_it(seed: int) -> None:
    rng = random.Random(seed)
    policies = [random_policy(rng, f"p{number}") for number in range(rng.randint(1, 4))]
    manifests = tuple(
        {"metadata": {"namespace": p.namespace, "name": p.name}, "spec": p.spec} for p in policies
    )
    world = World({item.name: item.labels for item in NAMESPACES}, manifests)
    table = Table(*policies)
    for source, target in itertools.permutations([*PODS, OUTSIDE], 2):
        for port, protocol in itertools.product((80, 8080, 8085, 9090), ("TCP", "UDP")):
            forecast = decide(world, party(source), party(target), port, protocol)
            seen = table.allows(source, target, port, protocol.lower())
            assert seen is forecast.allowed, f"{source} to {target} {protocol} {port}: {forecast.reason}"
