"""Helm, the learner's tool: built when it is first needed, never by `course up`.

Its Kubernetes libraries are those of the cluster's own version, so that what was compiled for kubectl
is not compiled again.
"""

from __future__ import annotations

from pathlib import Path

from helpers.embedded.binaries import BIN, Source, ensure_source
from helpers.embedded.steps import Steps

VERSION = "v4.2.4"
HELM = Source(
    "helm",
    f"Helm {VERSION}",
    ("helm.sh/helm/v4/cmd/helm",),
    link=f"-s -w -X helm.sh/helm/v4/internal/version.version={VERSION}",
)


def ensure_helm(steps: Steps) -> Path:
    """The helm of this version, built now where the cache lacks it."""
    return ensure_source(HELM, steps) / BIN / "helm"
