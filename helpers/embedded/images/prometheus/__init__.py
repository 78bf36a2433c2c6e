"""Prometheus's image: the server alone, without its page, whose scripts are not in its Go module.

Debian's package would have a page, and finds no target in Kubernetes: it is built without that.
"""

from __future__ import annotations

from pathlib import Path

from helpers.embedded.binaries import PROMETHEUS
from helpers.embedded.images.build import Progress
from helpers.embedded.images.compiled import build_compiled


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (compiled the first time)."""
    return build_compiled(
        "prometheus",
        PROMETHEUS,
        "prometheus",
        "/bin/prometheus",
        "github.com/prometheus/prometheus",
        progress,
    )
