"""Jobs: the queue, its front and its workers: where they are, what they are told, and how one asks them.

A decision or a setting reaches the pods in two steps, as the orchestrator's do: the ConfigMap changes, and the
pod templates get its checksum, so that a rollout replaces the pods. `deliver` and `configure` do both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from helpers.errors import LabError
from helpers.settings import REPOSITORY
from helpers.stack import orchestrator
from helpers.stack.assistant import data_in, hashes_in, put_data
from helpers.stack.orchestrator import short_hash
from helpers.stack.serving import config_checksum

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

MANIFESTS = REPOSITORY / "manifests" / "stack" / "jobs"
QUEUE_MANIFESTS = REPOSITORY / "manifests" / "stack" / "queue"
APPS, BATCH = "llm-apps", "llm-batch"
FRONT, WORKER, QUEUE = "llm-jobs", "llm-worker", "queue"
CONFIG, DECISIONS, SECRET = "llm-jobs-config", "llm-jobs-decisions", orchestrator.SECRET
PORT, METRICS_PORT, REDIS_PORT = 8080, 9090, 6379
WORKER_LABELS, QUEUE_LABELS = f"app={WORKER}", f"app={QUEUE}"
CHECKSUMS = {CONFIG: "checksum/config", DECISIONS: "checksum/decisions"}
DECISION_FILES = ("delivery", "cache", "flight")
# What the page's functions may use stands at the head of their file, too.
HEAD = "from __future__ import annotations\n\nimport hashlib\nimport json\n\n\n"
READY_S = 180.0
Manifest = dict[str, Any]


class JobRefused(LabError):
    """The front did not take a job, or knows none of that number; in its words."""


# Manifests


def queue_manifests(cluster: Cluster) -> list[Manifest]:
    """Redis as a queue, for this cluster."""
    return cluster.kustomize(QUEUE_MANIFESTS / "overlays" / cluster.profile().overlay)


def manifests(cluster: Cluster) -> list[Manifest]:
    """Front and workers, for this cluster; their pod templates name the configuration that is applied with them."""
    found = cluster.kustomize(MANIFESTS / "overlays" / cluster.profile().overlay)
    data = {item["metadata"]["name"]: item.get("data") or {} for item in found if item["kind"] == "ConfigMap"}
    for item in found:
        if item["kind"] == "Deployment":
            metadata = item["spec"]["template"].setdefault("metadata", {})
            sums = {CHECKSUMS[CONFIG]: config_checksum(data[CONFIG])}
            metadata["annotations"] = {**(metadata.get("annotations") or {}), **sums}
    return found


# What they are told


def decisions_in(view: ClusterView) -> dict[str, str]:
    """The files in the ConfigMap, by name without ending, as their short hashes; empty without one."""
    return {name.removesuffix(".py"): sha for name, sha in hashes_in(view, DECISIONS, APPS).items()}


def settings_in(view: ClusterView) -> dict[str, str]:
    """What the ConfigMap says; empty without one."""
    return data_in(view, CONFIG, APPS)


def deliver(cluster: Cluster, files: Mapping[str, str | None], *, at_once: bool = True) -> None:
    """Put these decisions (`cache.py`: its text; None takes one out), and let a rollout bring them to the pods.

    Args:
        at_once: roll out now; what delivers several does it once, at the end.
    """
    put_data(cluster, DECISIONS, files, APPS)
    if at_once:
        roll_out(cluster)


def configure(cluster: Cluster, settings: Mapping[str, str | None], *, at_once: bool = True) -> None:
    """The same for settings."""
    put_data(cluster, CONFIG, settings, APPS)
    if at_once:
        roll_out(cluster)


def checksums(view: ClusterView) -> dict[str, str]:
    """The annotations that the pod templates have when their pods know both ConfigMaps as they are."""
    return {key: config_checksum(data_in(view, name, APPS)) for name, key in CHECKSUMS.items()}


def roll_out(cluster: Cluster, *names: str) -> None:
    """Give pod templates (both, where none is named) the checksums of the ConfigMaps as they are.

    Without a Deployment nothing happens.
    """
    annotations = checksums(cluster.view())
    for name in names or (FRONT, WORKER):
        if cluster.view().find("Deployment", name, APPS) is not None:
            template = {"spec": {"template": {"metadata": {"annotations": annotations}}}}
            cluster.patch("Deployment", name, template, APPS)


def wait_ready(cluster: Cluster, timeout_s: float = READY_S) -> None:
    """Until front and workers are rolled out and Ready.

    Raises:
        WaitTimeout, WaitRejected: they are not, with their events.
    """
    for name in (FRONT, WORKER):
        cluster.wait_rollout("Deployment", name, APPS, timeout_s)


def revision(view: ClusterView) -> str:
    """What the pods are made from, without what only says when: templates, strategies and both ConfigMaps.

    Raises:
        ObjectMissing: front or workers are not there.
    """
    found = [view.get("Deployment", name, APPS) for name in (FRONT, WORKER)]
    made_from = [
        [[item.path("spec.template.spec"), item.path("spec.strategy")] for item in found],
        settings_in(view),
        decisions_in(view),
    ]
    return short_hash(json.dumps(made_from, sort_keys=True))


# Asking


def submit(
    cluster: Cluster,
    question: str,
    *,
    tenant: str = "page",
    max_tokens: int | None = None,
    retrieve: bool = True,
    cache: bool = True,
) -> str:
    """Leave a job with the front, through a port-forward; its id.

    Raises:
        JobRefused: it was not taken.
    """
    asked: Manifest = {"question": question, "retrieve": retrieve, "cache": "on" if cache else "off"}
    asked |= {"max_tokens": max_tokens} if max_tokens else {}
    said = _call(cluster, "POST", "/v1/jobs", tenant, asked)
    return str(said["job_id"])


def look(cluster: Cluster, job: str, *, tenant: str = "page") -> Manifest:
    """A job as the front tells it.

    Raises:
        JobRefused: this tenant has none of this id.
    """
    return _call(cluster, "GET", f"/v1/jobs/{job}", tenant)


def _call(cluster: Cluster, method: str, path: str, tenant: str, body: Manifest | None = None) -> Manifest:
    import httpx

    headers = {"X-Internal-Token": orchestrator.token(cluster.view()), "X-Tenant-Id": tenant}
    with cluster.port_forward(APPS, f"service/{FRONT}", PORT) as forward:
        answer = httpx.request(method, f"{forward.url}{path}", json=body, headers=headers, timeout=30)
    said: Manifest = answer.json()
    if not answer.is_success:
        raise JobRefused(
            f"{FRONT} answered {answer.status_code}: {(said.get('error') or {}).get('message')}",
            next_command=f"kubectl logs -n {APPS} deploy/{FRONT}",
        )
    return said
