"""Wrong clusters for lab 04: the policies that learners really write.

The fake cluster gets a data plane: an exec of curl in a probe pod answers what the specification
says of the stored policies, or lets everything through where nothing enforces them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from helpers.cluster.backend import ExecResult
from helpers.grading.author import Mutant, Proofs
from helpers.grading.verdict import Status
from helpers.settings import REPOSITORY
from helpers.stack.bring_up import first_policy
from helpers.stack.network import Target
from helpers.stack.policy_forecast import decide
from helpers.stack.probes import FOLDER, probe_pods
from helpers.stack.stage import read_stage

if TYPE_CHECKING:
    from helpers.cluster import Cluster
    from helpers.cluster.fake import FakeCluster

SOLUTION = REPOSITORY / "manifests" / "stack" / "isolation" / "solution.yaml"
_SYSTEM = "llm-system"
_NODE_IP = "198.18.0.2"


@dataclass
class FakeDataPlane:
    """Answers probes by the specification; `enforced=False` is a cluster that only stores policies."""

    cluster: FakeCluster
    enforced: bool = True
    dead: frozenset[str] = frozenset()

    def __call__(self, namespace: str, pod: str, command: list[str], stdin: str | None) -> ExecResult:
        stage = read_stage(self.cluster.view())
        caller = next(item for item in stage.callers if item.pod == pod)
        urls = [part for part in command if re.match(r"https?://", part)]
        by_place = {(target.host, target.port): target for target in stage.targets}
        lines = []
        for number, url in enumerate(urls):
            parts = urlsplit(url)
            target = by_place[(str(parts.hostname), int(parts.port or 80))]
            lines.append(f"PROBE {number} {self._answer(stage, caller.name, target)}")
        return ExecResult(0, "\n".join(lines) + "\n", "")

    def _answer(self, stage: Any, caller: str, target: Target) -> str:
        if target.down or target.name in self.dead:
            return "7 000 0.000000 0.001000 Failed to connect"
        allowed = all(
            decide(stage.world, stage.parties[caller], backend, target.backend_port, target.protocol).allowed
            for backend in target.backends
        )
        if allowed or not self.enforced:
            return "0 200 0.001000 0.002000 "
        return "28 000 0.000000 1.001000 Connection timed out after 1001 milliseconds"


def start(cluster: Cluster) -> None:
    """Both backends, their Services, the policy of lab 02, and the probe pods, all running."""
    from helpers.cluster.fake import FakeCluster

    assert isinstance(cluster, FakeCluster)
    for name, labels in ((_SYSTEM, {}), ("llm-apps", {"kubedojo.dev/role": "llm-apps"})):
        cluster.apply(_namespace(name, labels))
    cluster.apply((FOLDER / "namespaces.yaml").read_text())
    for name in (
        "default",
        "kube-system",
        _SYSTEM,
        "llm-apps",
        "llm-outside",
        "llm-impostor",
        "llm-monitoring",
        "llm-probes",
    ):
        # What the API server itself writes on every namespace.
        cluster.patch("Namespace", name, {"metadata": {"labels": {"kubernetes.io/metadata.name": name}}})
    _backend(cluster, "vllm", _SYSTEM, {"app": "vllm"}, 8000, "http", "10.244.0.10")
    _backend(cluster, "qdrant", _SYSTEM, {"app.kubernetes.io/name": "qdrant"}, 6333, "http", "10.244.0.11")
    _backend(cluster, "kube-dns", "kube-system", {"k8s-app": "kube-dns"}, 53, "dns-tcp", "10.244.0.2")
    cluster.put(_slice("kubernetes", "default", _NODE_IP, 6443, None))
    for number, pod in enumerate(probe_pods(cluster.profile().images["toolbox"])):
        on_node = pod["spec"].get("hostNetwork")
        status = {"podIP": _NODE_IP if on_node else f"10.244.0.{20 + number}"}
        metadata, spec = pod["metadata"], {**pod["spec"], "nodeName": "substrate"}
        cluster.add_pod(
            metadata["name"], metadata["namespace"], labels=metadata["labels"], spec=spec, status=status
        )
    cluster.apply(first_policy())
    cluster.exec_handler = FakeDataPlane(cluster)


def solution(cluster: Cluster) -> None:
    """The manifests of the solution."""
    cluster.apply(SOLUTION.read_text())


def _namespace(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}


def _backend(
    cluster: FakeCluster,
    name: str,
    namespace: str,
    labels: dict[str, str],
    port: int,
    port_name: str,
    ip: str,
) -> None:
    container = {"name": name, "image": name, "ports": [{"name": port_name, "containerPort": port}]}
    cluster.add_pod(
        f"{name}-0",
        namespace,
        labels=labels,
        spec={"containers": [container], "nodeName": "substrate"},
        status={"podIP": ip},
    )
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": labels, "ports": [{"name": port_name, "port": port, "targetPort": port_name}]},
    }
    cluster.put([service, _slice(name, namespace, ip, port, f"{name}-0")])


def _slice(service: str, namespace: str, ip: str, port: int, pod: str | None) -> dict[str, Any]:
    endpoint: dict[str, Any] = {"addresses": [ip], "conditions": {"ready": True}}
    if pod:
        endpoint["targetRef"] = {"kind": "Pod", "name": pod, "namespace": namespace}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"port": port, "protocol": "TCP"}],
        "endpoints": [endpoint],
    }


# Changes to single policies of the solution


def _policies() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all(SOLUTION.read_text())
    return {item["metadata"]["name"]: item for item in documents if item}


def _edited(name: str, edit: Any) -> Any:
    def apply(cluster: Cluster) -> None:
        policy = deepcopy(_policies()[name])
        edit(policy["spec"])
        cluster.delete("NetworkPolicy", name, _SYSTEM)
        cluster.apply([policy])

    return apply


def _without(*names: str) -> Any:
    def apply(cluster: Cluster) -> None:
        for name in names:
            cluster.delete("NetworkPolicy", name, _SYSTEM)

    return apply


def _extra(name: str, spec: dict[str, Any]) -> Any:
    def apply(cluster: Cluster) -> None:
        policy = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": _SYSTEM},
            "spec": spec,
        }
        cluster.apply([policy])

    return apply


def _label_on_the_wrong_namespace(cluster: Cluster) -> None:
    cluster.patch("Namespace", "llm-apps", {"metadata": {"labels": {"kubedojo.dev/role": None}}})
    cluster.patch("Namespace", "llm-outside", {"metadata": {"labels": {"kubedojo.dev/role": "llm-apps"}}})
    # The first policy, by label alone, is what this learner has.
    cluster.apply(first_policy())


def _not_enforced(cluster: Cluster) -> None:
    from helpers.cluster.fake import FakeCluster

    assert isinstance(cluster, FakeCluster)
    cluster.exec_handler = FakeDataPlane(cluster, enforced=False)


def _dead(*targets: str) -> Any:
    def apply(cluster: Cluster) -> None:
        from helpers.cluster.fake import FakeCluster

        assert isinstance(cluster, FakeCluster)
        cluster.exec_handler = FakeDataPlane(cluster, dead=frozenset(targets))

    return apply


VLLM, QDRANT, DENY, DNS = "vllm-ingress-from-llm-apps", "qdrant-ingress", "default-deny", "allow-dns"
_EVERYBODY: dict[str, Any] = {"namespaceSelector": {}}
_BY_LABEL = {"namespaceSelector": {"matchLabels": {"kubedojo.dev/role": "llm-apps"}}}
_METRICS_RULE = 1


def _first_from(peers: list[dict[str, Any]]) -> Any:
    return lambda spec: spec["ingress"][0].update({"from": peers})


def _ingress_only(cluster: Cluster) -> None:
    _without(DNS)(cluster)
    _edited(DENY, lambda spec: spec.update(policyTypes=["Ingress"]))(cluster)


def _no_probes(cluster: Cluster) -> None:
    for pod in probe_pods(cluster.profile().images["toolbox"]):
        cluster.delete("Pod", pod["metadata"]["name"], pod["metadata"]["namespace"])


MUTANTS = [
    Mutant(
        "a policy that selects nothing",
        _edited(VLLM, lambda spec: spec.update(podSelector={"matchLabels": {"app": "vlm"}})),
        {"isolation.vllm": "app to vllm: timed out"},
    ),
    Mutant(
        "vLLM's policy lets every namespace in",
        _edited(VLLM, _first_from([_EVERYBODY])),
        {"isolation.vllm": "outsider to vllm: HTTP 200"},
    ),
    Mutant(
        "the label on the wrong namespace",
        _label_on_the_wrong_namespace,
        {"isolation.vllm": "app to vllm: timed out"},
    ),
    Mutant(
        "a policy without its port",
        _edited(VLLM, lambda spec: spec["ingress"][0].pop("ports")),
        {"isolation.port": "port 8001"},
    ),
    Mutant(
        "a range of ports from 1 on",
        _edited(VLLM, lambda spec: spec["ingress"][0].update(ports=[{"port": 1, "endPort": 8001}])),
        {"isolation.port": "port 8001"},
    ),
    Mutant(
        "a second policy opens the debugger's port",
        _extra(
            "debug",
            {
                "podSelector": {"matchLabels": {"app": "vllm"}},
                "ingress": [{"from": [_BY_LABEL], "ports": [{"port": 22}]}],
            },
        ),
        {"isolation.port": "port 22"},
    ),
    Mutant(
        "Qdrant open to every namespace",
        _edited(QDRANT, _first_from([_EVERYBODY])),
        {"isolation.qdrant": "outsider to qdrant: HTTP 200"},
    ),
    Mutant(
        "Qdrant forgotten, everything denied by default",
        _without(QDRANT),
        {"isolation.qdrant": "app to qdrant: timed out"},
    ),
    Mutant(
        "Qdrant's policy opens vLLM's port",
        _edited(QDRANT, lambda spec: [rule.update(ports=[{"port": 8000}]) for rule in spec["ingress"]]),
        {"isolation.qdrant": "app to qdrant: timed out"},
    ),
    Mutant(
        "Prometheus was forgotten",
        _edited(VLLM, lambda spec: spec["ingress"].pop(_METRICS_RULE)),
        {"isolation.metrics": "prometheus to vllm: timed out"},
    ),
    Mutant(
        "Prometheus may scrape vLLM and not Qdrant",
        _edited(QDRANT, lambda spec: spec["ingress"].pop(_METRICS_RULE)),
        {"isolation.metrics": "prometheus to qdrant: timed out"},
    ),
    Mutant(
        "Prometheus sought in the policy's own namespace",
        _edited(
            VLLM,
            lambda spec: spec["ingress"][_METRICS_RULE].update(
                {"from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}]}
            ),
        ),
        {"isolation.metrics": "prometheus to vllm: timed out"},
    ),
    Mutant(
        "no policy isolates egress",
        _ingress_only,
        {"isolation.default_deny": "neighbour to"},
    ),
    Mutant(
        "default deny for egress only",
        _edited(DENY, lambda spec: spec.update(policyTypes=["Egress"])),
        {"isolation.default_deny": "app to neighbour: HTTP 200"},
    ),
    Mutant(
        "a default deny with one empty rule allows everything",
        _edited(DENY, lambda spec: spec.update(egress=[{}])),
        {"isolation.default_deny": "neighbour to api-server: HTTP 200"},
    ),
    Mutant("DNS forgotten", _without(DNS), {"isolation.dns": "neighbour to dns: timed out"}),
    Mutant(
        "DNS over TCP only",
        _edited(DNS, lambda spec: spec["egress"][0].update(ports=[{"protocol": "TCP", "port": 53}])),
        {"isolation.dns": "neighbour to dns: timed out"},
    ),
    Mutant(
        "DNS sought in llm-system",
        _edited(
            DNS,
            lambda spec: spec["egress"][0].update(
                to=[{"podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]
            ),
        ),
        {"isolation.dns": "neighbour to dns: timed out"},
    ),
    Mutant(
        "vLLM by label alone",
        _edited(VLLM, _first_from([_BY_LABEL])),
        {"isolation.impostor": "impostor to vllm: HTTP 200"},
    ),
    Mutant(
        "Qdrant by label alone",
        _edited(QDRANT, _first_from([_BY_LABEL])),
        {"isolation.impostor": "impostor to qdrant: HTTP 200"},
    ),
    Mutant(
        "label and name as two peers: either is enough",
        _edited(
            QDRANT,
            _first_from(
                [
                    _BY_LABEL,
                    {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llm-apps"}}},
                ]
            ),
        ),
        {"isolation.impostor": "impostor to qdrant: HTTP 200"},
    ),
    Mutant(
        "Prometheus may reach every pod",
        _extra(
            "scrape-all",
            {
                "podSelector": {},
                "ingress": [
                    {
                        "from": [
                            {
                                "namespaceSelector": {
                                    "matchLabels": {"kubernetes.io/metadata.name": "llm-monitoring"}
                                }
                            }
                        ]
                    }
                ],
            },
        ),
        {"isolation.default_deny": "prometheus to neighbour: HTTP 200"},
    ),
    Mutant(
        "a policy without enforcement",
        _not_enforced,
        {"isolation.enforced": "not enforced"},
        status=Status.ENV_ERROR,
    ),
    Mutant(
        "the sealed pod is dead",
        _dead("sealed"),
        {"isolation.enforced": "proved nothing"},
        status=Status.ENV_ERROR,
    ),
    Mutant(
        "the probe pods are gone",
        _no_probes,
        {"isolation.enforced": "probe pods are not in the cluster"},
        status=Status.ENV_ERROR,
    ),
    Mutant(
        "vLLM is down, which is no denial",
        _dead("vllm"),
        {
            "isolation.vllm": "vllm is down",
            "isolation.metrics": "vllm is down",
            "isolation.default_deny": "vllm is down",
        },
        status=Status.ENV_ERROR,
    ),
    Mutant(
        "egress of the whole namespace open to the API server",
        _extra(
            "api", {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 6443}]}]}
        ),
        {"isolation.default_deny": "neighbour to api-server: HTTP 200"},
    ),
    Mutant(
        "every pod of llm-monitoring may scrape",
        _edited(VLLM, lambda spec: spec["ingress"][_METRICS_RULE]["from"][0].pop("podSelector")),
        {"isolation.smallest": "a dashboard in llm-monitoring to vllm"},
    ),
    Mutant(
        "whoever calls itself prometheus may scrape",
        _edited(QDRANT, lambda spec: spec["ingress"][_METRICS_RULE]["from"][0].update(namespaceSelector={})),
        {"isolation.smallest": "a pod labelled prometheus elsewhere to qdrant"},
    ),
    Mutant(
        "DNS opens all of kube-system",
        _edited(DNS, lambda spec: spec["egress"][0]["to"][0].pop("podSelector")),
        {"isolation.smallest": "another pod of kube-system"},
    ),
    Mutant(
        "the application may open every port of Qdrant",
        _edited(QDRANT, lambda spec: spec["ingress"][0].pop("ports")),
        {"isolation.smallest": "TCP 6335"},
    ),
]

PROOFS = Proofs(
    start=start,
    solution=solution,
    mutants=MUTANTS,
    start_statuses={
        "isolation.enforced": Status.PASS,
        "isolation.vllm": Status.PASS,
        "isolation.port": Status.PASS,
    },
)
