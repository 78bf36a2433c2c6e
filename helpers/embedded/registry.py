"""Where workload images come from: their projects' registries where one answers, else this machine.

An image is pulled by containerd's client outside the node, in the machine's own network and with its
proxies: so the node itself never needs a way out. Mirrors are set as for any containerd, by a folder of
`HOST/hosts.toml` files (https://github.com/containerd/containerd/blob/main/docs/hosts.md) that
COURSE_REGISTRY_HOSTS names.
"""

from __future__ import annotations

import enum
import os
import urllib.error
import urllib.request
from pathlib import Path

from helpers.embedded.images import ImageSpec
from helpers.errors import LabError

PROBE = "https://registry-1.docker.io/v2/"
PROBE_S = 3.0
REMEMBERED = "etc/course/images-from"
# What the projects publish themselves, for CPU; an image of ours without an entry is always made here.
OFFICIAL = {
    "vllm": "public.ecr.aws/q9t5s3a7/vllm-cpu-release-repo:v0.32.0",
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
}


class Source(enum.StrEnum):
    """Where workload images come from; AUTO asks the network and becomes one of the others."""

    AUTO = "auto"
    OFFICIAL = "official"
    LOCAL = "local"


class NoSuchSource(LabError):
    """Images come from their registries or from this machine."""


def source_named(text: str) -> Source | None:
    """The source of that name; None for none named."""
    if not text:
        return None
    try:
        return Source(text)
    except ValueError as cause:
        names = ", ".join(Source)
        raise NoSuchSource(
            f"no image source {text!r}: {names}", next_command="course up --images auto"
        ) from cause


def settled(source: Source | None, remembered: Path) -> Source:
    """The source a cluster uses: the one asked for, else the one it began with, else images made here.

    Images made here are the default because they are what the tests prove; AUTO asks the network.
    """
    if source is None:
        return Source(remembered.read_text().strip()) if remembered.exists() else Source.LOCAL
    if source is Source.AUTO:
        return Source.OFFICIAL if _registry_answers() else Source.LOCAL
    return source


def reference(spec: ImageSpec, source: Source) -> str:
    """The name under which manifests use an image."""
    return OFFICIAL.get(spec.name, spec.reference) if source is Source.OFFICIAL else spec.reference


def hosts_folder() -> Path | None:
    """The folder of registry mirrors, if there is one."""
    named = os.environ.get("COURSE_REGISTRY_HOSTS")
    return Path(named) if named else None


def _registry_answers() -> bool:
    if hosts_folder() is not None:
        return True
    try:
        with urllib.request.urlopen(PROBE, timeout=PROBE_S):
            return True
    except urllib.error.HTTPError as answer:
        # An anonymous question is answered with 401 and where to log in.
        return answer.code == 401
    except OSError:
        return False
