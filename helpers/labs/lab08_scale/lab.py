"""Lab 08's declaration, apart from its checks: three modules add theirs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.grading import Lab
from helpers.grading.declare import Progress, quiet

if TYPE_CHECKING:
    from helpers.cluster import Cluster

lab = Lab(
    "08",
    "Throughput and scale",
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
        "prometheus-operator",
        "prometheus-config-reloader",
        "prometheus",
        "metrics-server",
        "keda",
        "keda-metrics-apiserver",
    ),
)


@lab.start
def start(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """What lab 07 starts with, a second card, a pool of model servers, the queue with its workers, and what scales them."""
    from helpers.labs.lab08_scale.ground import prepare

    return prepare(cluster, progress)


@lab.reset
def reset(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """What the learner made in this lab goes, and queue, workers and pool are again as the start puts them."""
    from helpers.labs.lab08_scale.ground import clear
    from helpers.labs.lab08_scale.run import BOOK

    return clear(cluster, progress, BOOK.jobs())
