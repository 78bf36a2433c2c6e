"""The orchestration layer: where its objects are, what it is told, and what it says of itself.

A decision or a setting reaches the pods in two steps: the ConfigMap changes, and the pod template gets its
checksum, so that a rollout replaces the pods. `deliver` does both; kubectl can do either.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidInput, ObjectMissing
from helpers.settings import REPOSITORY
from helpers.stack.metrics import Metrics
from helpers.stack.serving import config_checksum

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

MANIFESTS = REPOSITORY / "manifests" / "stack" / "orchestrator"
REDIS_MANIFESTS = REPOSITORY / "manifests" / "stack" / "redis"
NAMESPACE, SYSTEM = "llm-apps", "llm-system"
DEPLOYMENT = SERVICE = CONTAINER = "llm-orchestrator"
CONFIG, DECISIONS, SECRET = (
    "llm-orchestrator-config",
    "llm-orchestrator-decisions",
    "llm-orchestrator-secrets",
)
LABELS = "app=llm-orchestrator"
PORT, METRICS_PORT = 8080, 9090
REDIS, REDIS_PORT = "redis", 6379
TOKEN = "INTERNAL_API_TOKEN"
# In the pod template: what of each ConfigMap the pods were made with.
CHECKSUMS = {CONFIG: "checksum/config", DECISIONS: "checksum/decisions"}
DECISION_FILES = ("budget", "idempotency", "window", "retry", "degrade", "circuit", "admission")
# What a page's functions may use stands at the head of their file, too.
_HEAD = "from __future__ import annotations\n\nimport hashlib\nimport json\n\n\n"


def decision_text(*functions: Callable[..., Any], head: str = _HEAD) -> str:
    """The file that holds these functions, as the orchestrator reads it.

    Args:
        head: what stands before them: the modules that they may use.

    Raises:
        InvalidInput: one is no function, or its source is not to be had.
    """
    texts = []
    for function in functions:
        try:
            texts.append(dedent(inspect.getsource(function)).strip())
        except (OSError, TypeError) as error:
            name = getattr(function, "__name__", repr(function))
            raise InvalidInput(f"`{name}` is no function written in this page: run its cell again") from error
    return head + "\n\n\n".join(texts) + "\n"


def short_hash(text: str) -> str:
    """What a witness and the service's metrics call a decision's file."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def decisions_in(view: ClusterView) -> dict[str, str]:
    """The files in the ConfigMap, by name without ending, as their short hashes; empty without one."""
    found = view.find("ConfigMap", DECISIONS, NAMESPACE)
    data = (found.raw.get("data") or {}) if found else {}
    return {name.removesuffix(".py"): short_hash(text) for name, text in data.items()}


def settings_in(view: ClusterView) -> dict[str, str]:
    """The settings in the ConfigMap; empty without one."""
    found = view.find("ConfigMap", CONFIG, NAMESPACE)
    return dict(found.raw.get("data") or {}) if found else {}


def deliver(
    cluster: Cluster, config_map: str, data: Mapping[str, str | None], *, at_once: bool = True
) -> None:
    """Put these entries into one of the ConfigMaps (None takes one out), and let a rollout bring it to the pods.

    Args:
        at_once: roll out now; what delivers several entries does it once, at the end.
    """
    metadata = {"name": config_map, "namespace": NAMESPACE}
    if cluster.view().find("ConfigMap", config_map, NAMESPACE) is None:
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})
    cluster.patch("ConfigMap", config_map, {"data": dict(data)}, NAMESPACE)
    if at_once:
        roll_out(cluster)


def checksums(view: ClusterView) -> dict[str, str]:
    """The annotations that the pod template has when its pods know both ConfigMaps as they are."""
    found = {name: view.find("ConfigMap", name, NAMESPACE) for name in CHECKSUMS}
    return {
        CHECKSUMS[name]: config_checksum((item.raw.get("data") or {}) if item else {})
        for name, item in found.items()
    }


def roll_out(cluster: Cluster) -> None:
    """Give the pod template the checksums of the ConfigMaps as they are; without a Deployment nothing happens."""
    if cluster.view().find("Deployment", DEPLOYMENT, NAMESPACE) is None:
        return
    annotations = checksums(cluster.view())
    template = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
    cluster.patch("Deployment", DEPLOYMENT, template, NAMESPACE)


def metrics(view: ClusterView) -> Metrics:
    """What one of the pods counts.

    Raises:
        ObjectMissing: no pod is ready to say so.
    """
    answer = view.http(NAMESPACE, SERVICE, METRICS_PORT, "/metrics")
    if not answer.ok:
        raise ObjectMissing("Pod", f"with {LABELS}, ready", NAMESPACE)
    return Metrics.parse(answer.body)


def token(view: ClusterView) -> str:
    """What the service asks of whoever calls it, as the gateway has it.

    Raises:
        ObjectMissing: there is no such Secret.
    """
    data = view.get("Secret", SECRET, NAMESPACE).path("data", {}) or {}
    return base64.b64decode(data.get(TOKEN, "")).decode()


def revision(view: ClusterView) -> str:
    """What the pods are made from, without what only says when: template, strategy and both ConfigMaps."""
    deployment = view.get("Deployment", DEPLOYMENT, NAMESPACE)
    made_from = [
        deployment.path("spec.template.spec"),
        deployment.path("spec.strategy"),
        settings_in(view),
        decisions_in(view),
    ]
    return short_hash(json.dumps(made_from, sort_keys=True))


@dataclass(frozen=True)
class Said:
    """The service's answer to one question."""

    status: int
    body: dict[str, Any]
    seconds: float

    @property
    def spent_ms(self) -> dict[str, float]:
        return (self.body.get("budget") or {}).get("spent_ms") or {}

    @property
    def error(self) -> str:
        """Why there is no answer; empty where there is one."""
        return str((self.body.get("error") or {}).get("message") or "")


def ask(
    cluster: Cluster,
    question: str,
    *,
    budget: str = "standard",
    thread_id: str = "",
    product: str = "",
    timeout_s: float = 60.0,
) -> Said:
    """Ask the Service through a port-forward, with the token that the gateway has."""
    import httpx

    headers = {"X-Internal-Token": token(cluster.view()), "X-Tenant-Id": "page", "X-Budget-Class": budget}
    body = {"question": question} | ({"thread_id": thread_id} if thread_id else {})
    body |= {"product": product} if product else {}
    with cluster.port_forward(NAMESPACE, f"service/{SERVICE}", PORT) as forward:
        answer = httpx.post(f"{forward.url}/v1/chat", json=body, headers=headers, timeout=timeout_s)
    return Said(answer.status_code, answer.json(), answer.elapsed.total_seconds())
