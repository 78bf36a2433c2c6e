"""The second workload, `llm-assistant`: the orchestrator's image, released by Argo Rollouts.

Settings and the trace decision stand in ConfigMaps and reach the pods as the orchestrator's do; what a
*release* is (the prompt, retrieval, its collection) stands in the Rollout's pod template, so that
another release is another revision, and a canary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from helpers.settings import REPOSITORY
from helpers.stack.orchestrator import short_hash
from helpers.stack.serving import config_checksum

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

MANIFESTS = REPOSITORY / "manifests" / "stack" / "assistant"
NAMESPACE = "llm-apps"
ROLLOUT = CONTAINER = STABLE = "llm-assistant"
CANARY, PODS = "llm-assistant-canary", "llm-assistant-pods"
CONFIG, DECISIONS = "llm-assistant-config", "llm-assistant-decisions"
SETS, GATE, BASELINE, PRICES = "llm-eval-sets", "llm-eval-gate", "llm-eval-baseline", "llm-prices"
TEMPLATE = "llm-eval-gate"
LABELS = "app=llm-assistant"
PORT, METRICS_PORT = 8080, 9090
CHECKSUMS = {CONFIG: "checksum/config", DECISIONS: "checksum/decisions"}
OBSERVABILITY = "llm-observability"
PHOENIX, COLLECTOR, COLLECTOR_CONFIG = "phoenix", "otel-collector", "otel-collector-config"
COLLECTOR_FILE = "config.yaml"
# What the page's functions may use stands at the head of their file, too.
HEAD = "from __future__ import annotations\n\nimport json\nimport re\nfrom typing import Any\n\n\n"


def data_in(view: ClusterView, name: str, namespace: str = NAMESPACE) -> dict[str, str]:
    """What a ConfigMap holds; empty without one."""
    found = view.find("ConfigMap", name, namespace)
    return dict(found.raw.get("data") or {}) if found else {}


def hashes_in(view: ClusterView, name: str, namespace: str = NAMESPACE) -> dict[str, str]:
    """The files of a ConfigMap as their short hashes, by name: what a witness's record is bound to."""
    return {file: short_hash(text) for file, text in data_in(view, name, namespace).items()}


def put_data(cluster: Cluster, name: str, data: Mapping[str, str | None], namespace: str = NAMESPACE) -> None:
    """Put these entries into a ConfigMap, made where it is missing; None takes one out."""
    metadata = {"name": name, "namespace": namespace}
    if cluster.view().find("ConfigMap", name, namespace) is None:
        cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}})
    cluster.patch("ConfigMap", name, {"data": scoped(cluster, data)}, namespace)


def scoped(cluster: Cluster, data: Mapping[str, str | None]) -> dict[str, str | None]:
    """These texts as they stand in a learner's own namespaces: Services' names are those of the class's seat."""
    mapped: dict[str, str | None] = cluster.scope.manifest({"data": dict(data)})["data"]
    return mapped


def checksums(view: ClusterView) -> dict[str, str]:
    """The annotations that the pod template has when its pods know both ConfigMaps as they are."""
    return {key: config_checksum(data_in(view, name)) for name, key in CHECKSUMS.items()}
