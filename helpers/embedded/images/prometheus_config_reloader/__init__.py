"""The image that writes Prometheus's configuration and has it read again."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded.binaries import PROMETHEUS_OPERATOR
from helpers.embedded.images.build import Progress
from helpers.embedded.images.compiled import build_compiled


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (compiled with the operator)."""
    return build_compiled(
        "prometheus-config-reloader",
        PROMETHEUS_OPERATOR,
        "prometheus-config-reloader",
        "/bin/prometheus-config-reloader",
        "github.com/prometheus-operator/prometheus-operator",
        progress,
    )
