"""The image of KEDA's adapter, the external metrics server."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded.binaries import KEDA
from helpers.embedded.images.build import Progress
from helpers.embedded.images.compiled import build_compiled


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (compiled with the operator)."""
    return build_compiled(
        "keda-metrics-apiserver", KEDA, "adapter", "/keda-adapter", "github.com/kedacore/keda", progress
    )
