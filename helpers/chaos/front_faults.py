"""The faults of lab 06: a backend that is healthy and does not answer, lost state, an orchestrator that dies.

A backend stalls or refuses through Envoy's own fault filter: a proxy in front of the backend's pods, to which
the Service is turned. The pods stay what they are, and their probes, which do not pass by the Service, too. An
open connection stays where it is: clients notice when theirs is new, or was idle for some seconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.chaos.faults import (
    APPS,
    FAULTS,
    ORCHESTRATOR,
    QDRANT,
    REDIS,
    SYSTEM,
    VLLM,
    Backend,
    Fault,
    pods_of,
    scale_to_zero,
)
from helpers.chaos.steps import Plan, Step
from helpers.cluster.selectors import matches
from helpers.errors import InvalidInput, ObjectMissing

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

# What the faults touch: questions, and neither probes nor metrics.
PORTS = {"vllm": 8000, "qdrant": 6333}
PATHS = {"vllm": "/v1/c", "qdrant": "/collections"}  # /v1/chat/completions, /v1/completions
STALL_S = 600
# Longer than httpx and uvicorn keep a connection that nobody uses, and kube-proxy takes to follow.
KEPT_S = 7.0
IN_FLIGHT = "llm_orchestrator_inflight_requests"
UID = 1000
_TYPES = "type.googleapis.com/envoy.extensions.filters"
_DNS = {
    "to": [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
    ],
    "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}],
}
# It must fit a quota that holds the learner's own workloads exactly: zero counts as stated, and bounds nothing.
_NOTHING = {side: {"cpu": "0", "memory": "0"} for side in ("requests", "limits")}


def stall(backend: Backend) -> Callable[[ClusterView], Plan]:
    """Questions are taken and never answered."""
    delay = {"fixed_delay": f"{STALL_S}s", "percentage": {"numerator": 100}}
    return diverted(backend, {"delay": delay})


def refuse(backend: Backend, *, status: int = 503, share: int = 100) -> Callable[[ClusterView], Plan]:
    """So many in a hundred questions are answered with this status at once.

    Raises:
        InvalidInput: no status of an error, or no share.
    """
    if not 400 <= status <= 599 or not 1 <= share <= 100:
        raise InvalidInput(f"a status from 400 to 599 and a share from 1 to 100, not {status} and {share}")
    return diverted(backend, {"abort": {"http_status": status, "percentage": {"numerator": share}}})


def diverted(backend: Backend, fault: dict[str, Any]) -> Callable[[ClusterView], Plan]:
    """Turn the backend's Service to a proxy that has this fault; the undo turns it back first."""
    name, behind = f"{backend.name}-fault", f"{backend.name}-behind"

    def plan(view: ClusterView) -> Plan:
        pods = pods_of(view, backend)
        before = view.service(backend.name, SYSTEM).selector
        placed = [
            _config(backend, name, behind, fault),
            _service(backend, behind, before),
            *_policies(backend, name, behind, before),
            *_ways_out(view, backend, name, pods[0].labels),
            _proxy(backend, name, view.profile.images["envoy"]),
        ]
        about = [(item["kind"], item["metadata"]["name"], item["metadata"]["namespace"]) for item in placed]
        inject = [Step("apply", *where, item) for where, item in zip(about, placed, strict=True)]
        undo = [Step("delete", *where) for where in about]
        wait = Step("wait_ready", "Pod", name, SYSTEM, {"timeout_s": 60, "labels": f"app={name}"})
        turned = Step("wait_turned", "Service", backend.name, SYSTEM, {"pod": name, "settle_s": KEPT_S})
        return Plan(
            (*inject, wait, _turned(backend, {"app": name}), turned),
            (_turned(backend, before), *reversed(undo), backend.wait),
        )

    return plan


def _turned(backend: Backend, selector: dict[str, str]) -> Step:
    body = [{"op": "replace", "path": "/spec/selector", "value": selector}]
    return Step("patch", "Service", backend.name, SYSTEM, body)


def _object(kind: str, name: str, labels: dict[str, str], api: str = "v1", **parts: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": SYSTEM, "labels": labels}
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **parts}


def _config(backend: Backend, name: str, behind: str, fault: dict[str, Any]) -> dict[str, Any]:
    filter_ = {
        "@type": f"{_TYPES}.http.fault.v3.HTTPFault",
        **fault,
        "headers": [{"name": ":path", "string_match": {"prefix": PATHS[backend.name]}}],
    }
    router = {"@type": f"{_TYPES}.http.router.v3.Router"}
    routes = [{"match": {"prefix": "/"}, "route": {"cluster": "backend", "timeout": "0s"}}]
    manager = {
        "@type": f"{_TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "fault",
        "http_filters": [
            {"name": "envoy.filters.http.fault", "typed_config": filter_},
            {"name": "envoy.filters.http.router", "typed_config": router},
        ],
        "route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": routes}]},
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    port = PORTS[backend.name]
    listener = {"name": "http", "address": _address("0.0.0.0", port), "filter_chains": [{"filters": filters}]}
    endpoint = {"endpoint": {"address": _address(f"{behind}.{SYSTEM}.svc.cluster.local", port)}}
    cluster = {
        "name": "backend",
        "type": "STRICT_DNS",
        "dns_lookup_family": "V4_ONLY",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "backend", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    bootstrap = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
    # YAML is a superset of JSON, and Envoy goes by the file's name.
    return _object("ConfigMap", name, {"app": name}, data={"envoy.json": json.dumps(bootstrap)})


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _service(backend: Backend, behind: str, selector: dict[str, str]) -> dict[str, Any]:
    ports = [{"name": "http", "port": PORTS[backend.name], "targetPort": "http"}]
    return _object("Service", behind, {"app": behind}, spec={"selector": selector, "ports": ports})


def _policies(
    backend: Backend, name: str, behind: str, selector: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The proxy is reached by the applications only, and reaches the backend only, where a default denies the rest."""
    ports = [{"protocol": "TCP", "port": PORTS[backend.name]}]
    apps = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": APPS}}}
    pods = {"podSelector": {"matchLabels": selector}}
    proxy = {"podSelector": {"matchLabels": {"app": name}}}
    api = "networking.k8s.io/v1"
    front = {
        **proxy,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [apps], "ports": ports}],
        "egress": [_DNS, {"to": [pods], "ports": ports}],
    }
    back = {**pods, "policyTypes": ["Ingress"], "ingress": [{"from": [apps, proxy], "ports": ports}]}
    return (
        _object("NetworkPolicy", name, {"app": name}, api, spec=front),
        _object("NetworkPolicy", behind, {"app": behind}, api, spec=back),
    )


def _ways_out(view: ClusterView, backend: Backend, name: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Who may leave llm-apps for the backend's pods may go to the proxy as well: a policy beside each that says so."""
    proxy = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": SYSTEM}},
        "podSelector": {"matchLabels": {"app": name}},
    }
    rule = {"to": [proxy], "ports": [{"protocol": "TCP", "port": PORTS[backend.name]}]}
    found = []
    for policy in view.network_policies(APPS):
        peers = [peer for item in policy.path("spec.egress", []) or [] for peer in item.get("to") or []]
        if any(peer.get("podSelector") and matches(peer["podSelector"], labels) for peer in peers):
            spec = {
                "podSelector": policy.path("spec.podSelector", {}),
                "policyTypes": ["Egress"],
                "egress": [rule],
            }
            item = _object(
                "NetworkPolicy", f"{policy.name}-{name}", {"app": name}, "networking.k8s.io/v1", spec=spec
            )
            item["metadata"]["namespace"] = APPS
            found.append(item)
    return found


def _proxy(backend: Backend, name: str, image: str) -> dict[str, Any]:
    container = {
        "name": "envoy",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["envoy"],
        "args": ["-c", "/etc/envoy/envoy.json", "--concurrency", "1", "--log-level", "warning"],
        "ports": [{"name": "http", "containerPort": PORTS[backend.name]}],
        "readinessProbe": {"tcpSocket": {"port": "http"}, "periodSeconds": 1},
        "resources": _NOTHING,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "config", "mountPath": "/etc/envoy", "readOnly": True}],
    }
    spec = {
        "terminationGracePeriodSeconds": 0,
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": name}}],
    }
    return _object("Pod", name, {"app": name}, spec=spec)


def kill_busiest(view: ClusterView) -> Plan:
    """SIGKILL for the orchestrator whose pod has most requests in flight; the kubelet starts it again."""
    pods_of(view, ORCHESTRATOR)
    body = {"container": ORCHESTRATOR.name, "labels": ORCHESTRATOR.labels, "port": 9090, "busy": IN_FLIGHT}
    return Plan((Step("kill", "Pod", ORCHESTRATOR.name, APPS, body),), (ORCHESTRATOR.wait,))


_ALL = [
    *(
        Fault(
            f"stall-{item.name}",
            f"{item.name} takes questions and does not answer",
            item,
            item.layer,
            "stalled",
            stall(item),
            watch_s=30,
            images=("envoy",),
        )
        for item in (VLLM, QDRANT)
    ),
    *(
        Fault(
            f"refuse-{item.name}",
            f"{item.name} answers questions with an error",
            item,
            item.layer,
            "refused",
            refuse(item),
            watch_s=30,
            images=("envoy",),
        )
        for item in (VLLM, QDRANT)
    ),
    Fault(
        "stop-redis",
        "Redis is scaled to zero",
        REDIS,
        "state",
        "scaled-to-zero",
        scale_to_zero(REDIS),
        watch_s=20,
    ),
    Fault(
        "kill-orchestrator",
        "an orchestrator is killed in the middle of its work",
        ORCHESTRATOR,
        "orchestration",
        "process-killed",
        kill_busiest,
        heals=True,
    ),
]
FRONT_FAULTS: dict[str, Fault] = {fault.name: fault for fault in _ALL}


def fault(name: str) -> Fault:
    """A fault by its name, of lab 05 or of lab 06."""
    known = {**FAULTS, **FRONT_FAULTS}
    if name not in known:
        raise ObjectMissing("fault", f"{name} (there are {', '.join(known)})")
    return known[name]
