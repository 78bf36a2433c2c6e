"""The image of metrics-server."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded.binaries import METRICS_SERVER
from helpers.embedded.images.build import Progress
from helpers.embedded.images.compiled import build_compiled


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (compiled the first time)."""
    return build_compiled(
        "metrics-server",
        METRICS_SERVER,
        "metrics-server",
        "/metrics-server",
        "github.com/kubernetes-sigs/metrics-server",
        progress,
    )
