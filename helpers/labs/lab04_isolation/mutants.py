"""Wrong clusters for lab 04: the policies that learners really write.

The fake cluster gets a data plane: an exec of curl in a probe pod answers what the specification
says of the stored policies, or lets everything through where nothing enforces them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from helpers.cluster.backend import ExecResult
from helpers.grading.author import Mutant, Proofs
from helpers.grading.changes import Change, applied, edited, manifest, solved, steps, without
from helpers.grading.verdict import Status
from helpers.labs.backends import both_with_probes
from helpers.stack.bring_up import first_policy
from helpers.stack.network import Target
from helpers.stack.policy_forecast import decide
from helpers.stack.probes import probe_pods
from helpers.stack.stage import read_stage

if TYPE_CHECKING:
    from helpers.cluster.fake import FakeCluster


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


def start(cluster: Any) -> None:
    """Both backends, the policy of lab 02, and the probe pods, all running."""
    both_with_probes(cluster)
    _data_plane()(cluster)


# Changes to single policies of the solution


def _edited(name: str, edit: Callable[[dict[str, Any]], object]) -> Change:
    return edited("NetworkPolicy", name, lambda policy: edit(policy["spec"]))


def _without(name: str) -> Change:
    return without("NetworkPolicy", name)


def _extra(name: str, **spec: Any) -> Change:
    return applied(manifest("NetworkPolicy", name, spec=spec))


def _label_on_the_wrong_namespace(cluster: Any) -> None:
    for name, role in (("llm-apps", None), ("llm-outside", "llm-apps")):
        cluster.patch("Namespace", name, {"metadata": {"labels": {"kubedojo.dev/role": role}}})
    # The first policy, by label alone, is what this learner has.
    cluster.delete("NetworkPolicy", VLLM, "llm-system")
    cluster.apply(first_policy())


def _data_plane(**state: Any) -> Change:
    """Another data plane than one that is whole; see FakeDataPlane."""

    def change(cluster: Any) -> None:
        cluster.exec_handler = FakeDataPlane(cluster, **state)

    return change


def _dead(*targets: str) -> Change:
    return _data_plane(dead=frozenset(targets))


VLLM, QDRANT, DENY, DNS = "vllm-ingress-from-llm-apps", "qdrant-ingress", "default-deny", "allow-dns"
_EVERYBODY: dict[str, Any] = {"namespaceSelector": {}}
_BY_LABEL = {"namespaceSelector": {"matchLabels": {"kubedojo.dev/role": "llm-apps"}}}
_BY_NAME = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llm-apps"}}}
_MONITORING = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "llm-monitoring"}}}
_PROMETHEUS = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}
_METRICS_RULE = 1


def _first_from(*peers: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    return lambda spec: spec["ingress"][0].update({"from": list(peers)})


def _no_probes(cluster: Any) -> None:
    for probe in probe_pods(cluster.profile().images["toolbox"]):
        cluster.delete("Pod", probe["metadata"]["name"], probe["metadata"]["namespace"])


MUTANTS = [
    Mutant(
        "a policy that selects nothing",
        _edited(VLLM, lambda spec: spec.update(podSelector={"matchLabels": {"app": "vlm"}})),
        {"isolation.vllm": "app to vllm: timed out"},
    ),
    Mutant(
        "vLLM's policy lets every namespace in",
        _edited(VLLM, _first_from(_EVERYBODY)),
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
        {"isolation.port": "TCP every port; and 2 more like it"},
    ),
    Mutant(
        "a range of ports from 1 on",
        _edited(VLLM, lambda spec: spec["ingress"][0].update(ports=[{"port": 1, "endPort": 8001}])),
        {"isolation.port": "TCP ports 1 to 8001"},
    ),
    Mutant(
        "a second policy opens the debugger's port",
        _extra(
            "debug",
            podSelector={"matchLabels": {"app": "vllm"}},
            ingress=[{"from": [_BY_LABEL], "ports": [{"port": 22}]}],
        ),
        {"isolation.port": "port 22"},
    ),
    Mutant(
        "Qdrant open to every namespace",
        _edited(QDRANT, _first_from(_EVERYBODY)),
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
        _edited(VLLM, lambda spec: spec["ingress"][_METRICS_RULE].update({"from": [_PROMETHEUS]})),
        {"isolation.metrics": "prometheus to vllm: timed out"},
    ),
    Mutant(
        "no policy isolates egress",
        steps(_without(DNS), _edited(DENY, lambda spec: spec.update(policyTypes=["Ingress"]))),
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
        _edited(VLLM, _first_from(_BY_LABEL)),
        {"isolation.impostor": "impostor to vllm: HTTP 200"},
    ),
    Mutant(
        "Qdrant by label alone",
        _edited(QDRANT, _first_from(_BY_LABEL)),
        {"isolation.impostor": "impostor to qdrant: HTTP 200"},
    ),
    Mutant(
        "label and name as two peers: either is enough",
        _edited(QDRANT, _first_from(_BY_LABEL, _BY_NAME)),
        {"isolation.impostor": "impostor to qdrant: HTTP 200"},
    ),
    Mutant(
        "Prometheus may reach every pod",
        _extra("scrape-all", podSelector={}, ingress=[{"from": [_MONITORING]}]),
        {"isolation.default_deny": "prometheus to neighbour: HTTP 200"},
    ),
    Mutant(
        "a policy without enforcement",
        _data_plane(enforced=False),
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
        _extra("api", podSelector={}, policyTypes=["Egress"], egress=[{"ports": [{"port": 6443}]}]),
        {"isolation.default_deny": "neighbour to api-server: HTTP 200"},
    ),
    Mutant(
        "every pod of llm-monitoring may scrape",
        _edited(VLLM, lambda spec: spec["ingress"][_METRICS_RULE]["from"][0].pop("podSelector")),
        {"isolation.smallest": "any pod of llm-monitoring in to vllm"},
    ),
    Mutant(
        "whoever calls itself prometheus may scrape",
        _edited(QDRANT, lambda spec: spec["ingress"][_METRICS_RULE]["from"][0].update(namespaceSelector={})),
        {"isolation.smallest": "any pod labelled app.kubernetes.io/name=prometheus of "},
    ),
    Mutant(
        "DNS opens all of kube-system",
        _edited(DNS, lambda spec: spec["egress"][0]["to"][0].pop("podSelector")),
        {"isolation.smallest": "any pod of kube-system: UDP port 53"},
    ),
    Mutant(
        "the application may open every port of Qdrant",
        _edited(QDRANT, lambda spec: spec["ingress"][0].pop("ports")),
        {"isolation.smallest": "any pod of llm-apps in to qdrant: TCP every port"},
    ),
    Mutant(
        "a second policy opens all ports above the next one",
        _extra(
            "extra-door",
            podSelector={"matchLabels": {"app": "vllm"}},
            ingress=[{"from": [_BY_NAME], "ports": [{"port": 8002, "endPort": 65535}]}],
        ),
        {"isolation.port": "TCP ports 8002 to 65535"},
    ),
    Mutant(
        "a range of addresses may reach Qdrant",
        _extra(
            "by-address",
            podSelector={"matchLabels": {"app.kubernetes.io/name": "qdrant"}},
            ingress=[{"from": [{"ipBlock": {"cidr": "192.168.0.0/16"}}], "ports": [{"port": 6333}]}],
        ),
        {"isolation.smallest": "the addresses 192.168.0.0/16 in to qdrant"},
    ),
    Mutant(
        "a namespace that nobody has made yet may reach vLLM",
        _extra(
            "partners",
            podSelector={"matchLabels": {"app": "vllm"}},
            ingress=[
                {
                    "from": [{"namespaceSelector": {"matchLabels": {"team": "partners"}}}],
                    "ports": [{"port": 8000}],
                }
            ],
        ),
        {"isolation.smallest": "any namespace labelled team=partners in to vllm"},
    ),
    Mutant(
        "a dashboard is let in beside Prometheus",
        _edited(
            VLLM,
            lambda spec: spec["ingress"][_METRICS_RULE]["from"].append(
                {**_MONITORING, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "grafana"}}}
            ),
        ),
        {"isolation.smallest": "app.kubernetes.io/name=grafana of llm-monitoring in to vllm"},
    ),
]

PROOFS = Proofs(
    start=start,
    solution=applied(*solved("04", "deny_yaml", "label_yaml")),
    mutants=MUTANTS,
    start_statuses={
        "isolation.enforced": Status.PASS,
        "isolation.vllm": Status.PASS,
        "isolation.port": Status.PASS,
    },
)
