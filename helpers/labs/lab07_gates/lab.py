"""Lab 07's declaration, apart from its checks: two modules add theirs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.grading import Lab
from helpers.grading.declare import Progress, quiet

if TYPE_CHECKING:
    from helpers.cluster import Cluster

lab = Lab(
    "07",
    "Gates and traces",
    namespaces=(),
    images=(
        "vllm",
        "model",
        "qdrant",
        "redis",
        "orchestrator",
        "envoy",
        "ratelimit",
        "argo-rollouts",
        "phoenix",
        "otel-collector",
        "eval-runner",
        "promptfoo",
    ),
)


@lab.start
def start(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """What lab 06 leaves, the assistant's stable release, the Rollouts controller, Phoenix, and a naive Collector."""
    from helpers.labs.lab07_gates.ground import prepare

    return prepare(cluster, progress)


@lab.reset
def reset(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """What this lab made goes, and the assistant and the Collector are again as the start puts them."""
    from helpers.labs.lab07_gates.ground import clear
    from helpers.labs.lab07_gates.run import BOOK

    return clear(cluster, progress, BOOK.jobs())
