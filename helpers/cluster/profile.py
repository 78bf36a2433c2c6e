"""What differs between clusters, and who a cluster is: read from it, never guessed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any

from helpers.cluster.resource import Node, Resource
from helpers.errors import ServerFault

PROFILE_NAMESPACE = "kube-public"
PROFILE_NAME = "course-profile"
SIMULATED = "simulated"
# What `derive` reads from nodes and storage classes.
_OBSERVABLE = {"gpu", "gpu_resource", "gpu_shape", "storage_class"}

# What a cluster without a profile of its own runs: the projects' official images.
OFFICIAL_IMAGES = {
    "vllm": "docker.io/vllm/vllm-openai:v0.32.0",
    "qdrant": "docker.io/qdrant/qdrant:v1.20.0",
    "redis": "docker.io/library/redis:8.2.3",
    "envoy": "docker.io/envoyproxy/envoy:v1.40.0",
    "ratelimit": "docker.io/envoyproxy/ratelimit:3fb70258",
    "argo-rollouts": "quay.io/argoproj/argo-rollouts:v1.10.2",
    "phoenix": "docker.io/arizephoenix/phoenix:version-20.26.1",
    "otel-collector": "docker.io/otel/opentelemetry-collector-contrib:0.161.0",
    "promptfoo": "ghcr.io/promptfoo/promptfoo:0.123.1",
    "keda": "ghcr.io/kedacore/keda:2.21.0",
    "keda-metrics-apiserver": "ghcr.io/kedacore/keda-metrics-apiserver:2.21.0",
    "prometheus-operator": "quay.io/prometheus-operator/prometheus-operator:v0.85.0",
    "prometheus-config-reloader": "quay.io/prometheus-operator/prometheus-config-reloader:v0.85.0",
    "prometheus": "quay.io/prometheus/prometheus:v3.14.0",
    "metrics-server": "registry.k8s.io/metrics-server/metrics-server:v0.9.0",
    "kafka": "docker.io/apache/kafka:4.4.0",
    "toolbox": "registry.k8s.io/e2e-test-images/agnhost:2.56",
    "pause": "registry.k8s.io/pause:3.10.2",
}
_GPU_RESOURCES = ("nvidia.com/", "amd.com/gpu", "gpu.intel.com/")


@dataclass(frozen=True)
class Profile:
    """What the labs need to know of the cluster at hand."""

    name: str = "generic"
    gpu: str = "none"
    gpu_resource: str = "nvidia.com/gpu"
    gpu_shape: str = "full"
    storage_class: str = ""
    images: dict[str, str] = field(default_factory=lambda: dict(OFFICIAL_IMAGES))
    model: str = "Qwen/Qwen3-0.6B"
    served_model_name: str = "course-model"
    overlay: str = "gpu"
    allows_faults: bool = False
    labels: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """As the ConfigMap keeps it."""
        return json.dumps({item.name: getattr(self, item.name) for item in fields(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str, base: Callable[[], Profile] | None = None) -> Profile:
        """Read a ConfigMap's entry; entries of later versions are ignored.

        What the entry does not say is taken from `base`, which is asked only when something is missing
        that a cluster can be asked for; images that an earlier version did not know are the official ones.
        """
        try:
            tree = json.loads(text)
            known = {item.name for item in fields(cls)}
            written = {key: value for key, value in tree.items() if key in known}
            if "images" in written:
                written["images"] = {**OFFICIAL_IMAGES, **written["images"]}
            return replace(cls() if base is None or written.keys() >= _OBSERVABLE else base(), **written)
        except (ValueError, AttributeError, TypeError) as error:
            raise ServerFault(
                f"ConfigMap {PROFILE_NAMESPACE}/{PROFILE_NAME} does not hold a course profile: {error}",
                next_command=f"kubectl get configmap -n {PROFILE_NAMESPACE} {PROFILE_NAME} -o yaml",
            ) from error


@dataclass(frozen=True)
class Identity:
    """Which cluster this is: what a report is bound to."""

    uid: str
    server_version: str
    profile: str
    gpu: str

    def to_dict(self) -> dict[str, str]:
        """As `course.report/v1` writes it."""
        return {
            "uid": self.uid,
            "server_version": self.server_version,
            "profile": self.profile,
            "gpu": self.gpu,
        }


def derive(nodes: Iterable[Node], storage_classes: Iterable[Resource]) -> Profile:
    """The profile of a cluster that carries none, from its nodes and storage classes."""
    nodes = list(nodes)
    resource = gpu_resource(nodes)
    shape = gpu_shape(nodes, resource)
    return Profile(
        name="generic",
        gpu=gpu_kind(nodes),
        gpu_resource=resource or "nvidia.com/gpu",
        gpu_shape=shape,
        storage_class=default_class(storage_classes),
        overlay="gpu" if shape == "full" else shape,
    )


def gpu_resource(nodes: Iterable[Node]) -> str:
    """The extended resource under which GPUs are offered; empty when none is."""
    offered = {
        resource
        for node in nodes
        for resource in node.resources
        if resource.startswith(_GPU_RESOURCES) and node.allocatable(resource) > 0
    }
    # Whole GPUs first: a node in MIG's mixed strategy offers both.
    return min(offered, key=lambda name: (not name.endswith("/gpu"), name), default="")


def gpu_shape(nodes: Iterable[Node], resource: str) -> str:
    """full, mig or time-slicing: from the resource's name and the labels that NVIDIA's tools set."""
    if "/mig-" in resource:
        return "mig"
    for node in nodes:
        replicas = node.labels.get("nvidia.com/gpu.replicas", "1")
        if (replicas.isdigit() and int(replicas) > 1) or resource.endswith(".shared"):
            return "time-slicing"
    return "full"


def gpu_kind(nodes: Iterable[Node]) -> str:
    """real, simulated or none; a node that says it simulates is believed over everything else."""
    kinds = {
        SIMULATED if _is_simulated(node) else "real"
        for node in nodes
        if gpu_resource([node]) or _is_simulated(node)
    }
    return SIMULATED if SIMULATED in kinds else next(iter(kinds), "none")


def _is_simulated(node: Node) -> bool:
    marks: dict[str, Any] = {**node.annotations, **node.labels}
    return any("gpu" in key and str(value) == SIMULATED for key, value in marks.items())


def default_class(storage_classes: Iterable[Resource]) -> str:
    """The default storage class, or the only one, or an empty string."""
    classes = list(storage_classes)
    marked = [
        item.name
        for item in classes
        if item.annotations.get("storageclass.kubernetes.io/is-default-class") == "true"
    ]
    return (marked or [item.name for item in classes if len(classes) == 1] or [""])[0]
