"""The forecast is held to the NetworkPolicy specification, case by case."""

from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.cluster.selectors import policy_types
from helpers.errors import InvalidManifest
from helpers.stack.policy_forecast import Party, World, decide, parse

VLLM = Party("vllm", "llm-system", {"app": "vllm"}, "10.244.0.10", {("http", "TCP"): 8000}, "substrate")
QDRANT = Party(
    "qdrant",
    "llm-system",
    {"app.kubernetes.io/name": "qdrant"},
    "10.244.0.11",
    {("http", "TCP"): 6333, ("grpc", "TCP"): 6334},
    "substrate",
)
APP = Party("app", "llm-apps", {"app": "client"}, "10.244.0.12", node="substrate")
OUTSIDER = Party("outsider", "llm-outside", {"app": "client"}, "10.244.0.13", node="substrate")
NODE = Party("node", "llm-probes", {"app": "vllm"}, "198.18.0.2", node="substrate", host_network=True)
ELSEWHERE = Party("elsewhere", ip="192.0.2.7")
DNS = Party("dns", "kube-system", {"k8s-app": "kube-dns"}, "10.244.0.2")

NAMESPACES = {
    "llm-system": {"kubernetes.io/metadata.name": "llm-system"},
    "llm-apps": {"kubernetes.io/metadata.name": "llm-apps", "kubedojo.dev/role": "llm-apps"},
    "llm-outside": {"kubernetes.io/metadata.name": "llm-outside"},
    "kube-system": {"kubernetes.io/metadata.name": "kube-system"},
}


def policy(name: str = "policy", namespace: str = "llm-system", **spec: Any) -> dict[str, Any]:
    return {"kind": "NetworkPolicy", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def world(*policies: dict[str, Any]) -> World:
    return World(NAMESPACES).with_manifests(policies)


def allowed(
    policies: list[dict[str, Any]], source: Party, target: Party, port: int, protocol: str = "TCP"
) -> bool:
    return decide(world(*policies), source, target, port, protocol).allowed


ONLY_APPS = policy(
    podSelector={"matchLabels": {"app": "vllm"}},
    policyTypes=["Ingress"],
    ingress=[
        {
            "from": [{"namespaceSelector": {"matchLabels": {"kubedojo.dev/role": "llm-apps"}}}],
            "ports": [{"protocol": "TCP", "port": 8000}],
        }
    ],
)


def ingress(*rules: dict[str, Any], selector: dict[str, Any] | None = None) -> dict[str, Any]:
    return policy(podSelector=selector or {}, policyTypes=["Ingress"], ingress=list(rules))


def egress(*rules: dict[str, Any], namespace: str = "llm-apps") -> dict[str, Any]:
    return policy(namespace=namespace, podSelector={}, policyTypes=["Egress"], egress=list(rules))


def test_without_a_policy_everything_is_allowed() -> None:
    assert allowed([], OUTSIDER, VLLM, 8000)


def test_the_allow_list_admits_the_labelled_namespace_and_no_other() -> None:
    assert allowed([ONLY_APPS], APP, VLLM, 8000)
    assert not allowed([ONLY_APPS], OUTSIDER, VLLM, 8000)


def test_the_allow_list_leaves_pods_that_it_does_not_select_open() -> None:
    assert allowed([ONLY_APPS], OUTSIDER, QDRANT, 6333)


def test_a_port_that_no_rule_names_is_denied() -> None:
    assert not allowed([ONLY_APPS], APP, VLLM, 9000)


def test_a_rule_without_ports_allows_every_port_and_protocol() -> None:
    rule = ingress({"from": [{"namespaceSelector": {}}]})
    assert allowed([rule], APP, VLLM, 9000)
    assert allowed([rule], APP, VLLM, 53, "UDP")


def test_no_ingress_rules_deny_all_and_an_empty_rule_allows_all() -> None:
    assert not allowed([ingress()], APP, VLLM, 8000)
    assert allowed([ingress({})], OUTSIDER, VLLM, 8000)


def test_policies_add_up() -> None:
    assert allowed(
        [ingress(), {**ONLY_APPS, "metadata": {"name": "b", "namespace": "llm-system"}}], APP, VLLM, 8000
    )


def test_an_absent_namespace_selector_means_the_policys_own_namespace() -> None:
    rule = ingress({"from": [{"podSelector": {"matchLabels": {"app": "client"}}}]})
    assert not allowed([rule], APP, VLLM, 8000)
    assert allowed([ingress({"from": [{"podSelector": {}}]})], QDRANT, VLLM, 8000)


def test_two_selectors_in_one_peer_are_joined_and_two_peers_are_alternatives() -> None:
    namespace = {"namespaceSelector": {"matchLabels": {"kubedojo.dev/role": "llm-apps"}}}
    pod = {"podSelector": {"matchLabels": {"app": "other"}}}
    assert not allowed([ingress({"from": [{**namespace, **pod}]})], APP, VLLM, 8000)
    assert allowed([ingress({"from": [namespace, pod]})], APP, VLLM, 8000)


@pytest.mark.parametrize(
    ("expression", "reachable"),
    [
        ({"operator": "In", "values": ["llm-apps"]}, True),
        ({"operator": "In", "values": ["other"]}, False),
        ({"operator": "NotIn", "values": ["other"]}, True),
        ({"operator": "NotIn", "values": ["llm-apps"]}, False),
        ({"operator": "Exists"}, True),
        ({"operator": "DoesNotExist"}, False),
    ],
)
def test_match_expressions_select_namespaces(expression: dict[str, Any], reachable: bool) -> None:
    peer = {"namespaceSelector": {"matchExpressions": [{"key": "kubedojo.dev/role", **expression}]}}
    assert allowed([ingress({"from": [peer]})], APP, VLLM, 8000) is reachable


def test_not_in_also_selects_namespaces_that_lack_the_key() -> None:
    expression = {"key": "kubedojo.dev/role", "operator": "NotIn", "values": ["x"]}
    assert allowed(
        [ingress({"from": [{"namespaceSelector": {"matchExpressions": [expression]}}]})], OUTSIDER, VLLM, 8000
    )


def test_a_named_port_is_looked_up_in_each_destination_pod() -> None:
    rule = ingress({"ports": [{"port": "http"}]})
    assert allowed([rule], APP, VLLM, 8000)
    assert allowed([rule], APP, QDRANT, 6333)
    assert not allowed([rule], APP, QDRANT, 6334)
    out = egress({"ports": [{"port": "http"}]})
    assert allowed([out], APP, VLLM, 8000)
    assert not allowed([out], APP, ELSEWHERE, 8000)


def test_a_range_of_ports_includes_both_ends() -> None:
    rule = ingress({"ports": [{"port": 6333, "endPort": 6334}]})
    assert [allowed([rule], APP, QDRANT, port) for port in (6332, 6333, 6334, 6335)] == [
        False,
        True,
        True,
        False,
    ]


def test_a_protocol_alone_allows_all_its_ports() -> None:
    rule = ingress({"ports": [{"protocol": "UDP"}]})
    assert allowed([rule], APP, DNS, 53, "UDP")
    assert not allowed([rule], APP, VLLM, 53, "TCP")


def test_the_default_protocol_is_tcp() -> None:
    assert not allowed([ingress({"ports": [{"port": 53}]})], APP, VLLM, 53, "UDP")


def test_an_address_block_has_holes() -> None:
    block = {"cidr": "10.244.0.0/16", "except": ["10.244.0.13/32"]}
    rule = ingress({"from": [{"ipBlock": block}]})
    assert allowed([rule], APP, VLLM, 8000)
    assert not allowed([rule], OUTSIDER, VLLM, 8000)
    assert not allowed([rule], ELSEWHERE, VLLM, 8000)


def test_a_hole_in_one_block_is_filled_by_another_peer() -> None:
    peers = [
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.244.0.13/32"]}},
        {"ipBlock": {"cidr": "10.244.0.13/32"}},
    ]
    assert allowed([ingress({"from": peers})], OUTSIDER, VLLM, 8000)


def test_egress_and_ingress_must_both_allow() -> None:
    assert not allowed([egress()], APP, VLLM, 8000)
    to_vllm = egress({"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "vllm"}}}]})
    assert allowed([to_vllm, ONLY_APPS], APP, VLLM, 8000)
    assert not allowed([to_vllm, ONLY_APPS], APP, QDRANT, 6333)
    assert not allowed([to_vllm, ingress()], APP, VLLM, 8000)


def test_forgetting_dns_is_forgetting_udp_53() -> None:
    to_vllm = egress({"to": [{"namespaceSelector": {}}], "ports": [{"port": 8000}]})
    assert not allowed([to_vllm], APP, DNS, 53, "UDP")


def test_replies_need_no_rule_so_an_egress_denial_does_not_close_ingress() -> None:
    assert allowed([egress(namespace="llm-system")], APP, VLLM, 8000)


def test_a_node_always_reaches_its_own_pods() -> None:
    assert allowed([ingress()], NODE, VLLM, 8000)
    other = Party("node-2", ip="198.18.0.9", node="other", host_network=True, namespace="llm-probes")
    assert not allowed([ingress()], other, VLLM, 8000)


def test_a_pod_in_its_nodes_network_is_no_pod_to_a_policy() -> None:
    by_label = ingress({"from": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "vllm"}}}]})
    far = Party("far", "llm-probes", {"app": "vllm"}, "198.18.0.9", node="other", host_network=True)
    assert not allowed([by_label], far, QDRANT, 6333)
    assert allowed(
        [policy(namespace="llm-probes", podSelector={}, policyTypes=["Egress"])], far, QDRANT, 6333
    )


def test_a_pod_reaches_itself_whatever_the_policies_say() -> None:
    deny = policy(podSelector={}, policyTypes=["Ingress", "Egress"])
    assert allowed([deny], VLLM, VLLM, 8000)


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, ("Ingress",)),
        ({"ingress": [{}]}, ("Ingress",)),
        ({"egress": [{}]}, ("Ingress", "Egress")),
        ({"egress": []}, ("Ingress",)),
        ({"policyTypes": ["Egress"], "ingress": [{}]}, ("Egress",)),
    ],
)
def test_policy_types_have_defaults(spec: dict[str, Any], types: tuple[str, ...]) -> None:
    assert tuple(policy_types(policy(**spec)["spec"])) == tuple(types)


def test_a_policy_without_types_but_with_egress_also_closes_ingress() -> None:
    surprising = policy(podSelector={"matchLabels": {"app": "vllm"}}, egress=[{}])
    assert not allowed([surprising], APP, VLLM, 8000)


def test_the_reason_names_the_policy_and_the_pod() -> None:
    decision = decide(world(ONLY_APPS), OUTSIDER, VLLM, 8000)
    assert "vllm is isolated for ingress by policy" in decision.reason
    assert decision.policies == ("policy",)


def test_applying_a_policy_of_the_same_name_replaces_it() -> None:
    opened = {**ONLY_APPS, "spec": {"podSelector": {}, "ingress": [{}]}}
    assert decide(world(ONLY_APPS).with_manifests([opened]), OUTSIDER, VLLM, 8000).allowed
    assert decide(world(ONLY_APPS).without("llm-system", "policy"), OUTSIDER, VLLM, 8000).allowed


def test_a_namespace_in_the_text_gets_its_label_and_its_name() -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: llm-outside, labels: {kubedojo.dev/role: llm-apps}}"
    assert decide(world(ONLY_APPS).with_manifests(text), OUTSIDER, VLLM, 8000).allowed


POLICY = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "not YAML"),
        ("a: 1", "has no apiVersion and no kind"),
        ("apiVersion: v1\nkind: NetworkPolicy", "metadata.name"),
        (POLICY, "NetworkPolicy x: spec is missing"),
        (POLICY + "spec: [a]", r"spec is `\['a'\]`: it is a mapping"),
        (POLICY + "spec: {podSelector: app}", "spec.podSelector is `'app'`: it is a mapping"),
        (POLICY + "spec: {podSelector: {app: vllm}}", "spec.podSelector.app is not a field"),
        (POLICY + "spec: {podselector: {}}", "spec.podselector is not a field"),
        (
            POLICY + "spec: {podSelector: {matchExpressions: [{key: app, operator: in, values: [a]}]}}",
            r"spec.podSelector.matchExpressions\[0\].operator is `'in'`: it is one of In, NotIn",
        ),
        (
            POLICY + "spec: {podSelector: {matchExpressions: [{key: app}]}}",
            r"matchExpressions\[0\].operator is missing",
        ),
        (
            POLICY + "spec: {podSelector: {matchExpressions: [{key: app, operator: In}]}}",
            r"matchExpressions\[0\].values is missing",
        ),
        (POLICY + "spec: {podSelector: {matchLabels: {on: 1}}}", r"matchLabels\[true\] is `1`: .* in quotes"),
        (POLICY + "spec: {policyTypes: [ingress]}", r"policyTypes\[0\] is `'ingress'`: it is one of Ingress"),
        (POLICY + "spec: {ingress: {from: []}}", "spec.ingress is .*: it is a list"),
        (
            POLICY + "spec: {ingress: [{from: [{pods: {}}]}]}",
            r"spec.ingress\[0\].from\[0\].pods is not a field",
        ),
        (POLICY + "spec: {ingress: [{from: [{}]}]}", r"from\[0\]: a peer has"),
        (POLICY + "spec: {ingress: [{from: [{ipBlock: {cidr: 1.2}}]}]}", "ipBlock.cidr is `1.2`"),
        (POLICY + "spec: {ingress: [{ports: [{port: 9, endPort: 8}]}]}", r"ports\[0\].endPort is `8`"),
        (POLICY + "spec: {ingress: [{ports: [{port: 9, endPort: x}]}]}", r"ports\[0\].endPort is `'x'`"),
        (POLICY + "spec: {ingress: [{ports: [{port: http, endPort: 8}]}]}", "because there is an endPort"),
        (POLICY + "spec: {ingress: [{ports: [{port: '80'}]}]}", "a number without quotes"),
        (POLICY + "spec: {egress: [{ports: [{protocol: ICMP}]}]}", "protocol is `'ICMP'`"),
    ],
)
def test_what_cannot_be_a_policy_is_refused_with_the_field(text: str, said: str) -> None:
    with pytest.raises(InvalidManifest, match=said):
        World({}).with_manifests(text)


def test_a_list_is_what_it_holds() -> None:
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "x"},
        "spec": {},
    }
    text = json.dumps(
        {"apiVersion": "v1", "kind": "List", "items": [policy, policy | {"metadata": {"name": "y"}}]}
    )
    assert len(World({}).with_manifests(text).policies) == 2


def test_empty_documents_are_skipped() -> None:
    assert parse("---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n") != []
