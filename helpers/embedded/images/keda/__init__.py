"""The image of KEDA's operator."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded.binaries import KEDA
from helpers.embedded.images.build import Progress
from helpers.embedded.images.compiled import build_compiled


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (a quarter of an hour of compiling the first time, the adapter too)."""
    return build_compiled("keda", KEDA, "operator", "/keda", "github.com/kedacore/keda", progress)
