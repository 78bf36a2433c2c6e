"""The image of the Prometheus Operator."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded.binaries import PROMETHEUS_OPERATOR
from helpers.embedded.images.build import Progress
from helpers.embedded.images.compiled import build_compiled


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (compiled the first time)."""
    return build_compiled(
        "prometheus-operator",
        PROMETHEUS_OPERATOR,
        "operator",
        "/bin/operator",
        "github.com/prometheus-operator/prometheus-operator",
        progress,
    )
