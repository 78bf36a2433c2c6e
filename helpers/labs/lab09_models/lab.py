"""Lab 09's declaration, apart from its checks: three modules add theirs to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.grading import Lab
from helpers.grading.declare import Progress, quiet

if TYPE_CHECKING:
    from helpers.cluster import Cluster

lab = Lab(
    "09",
    "Models as data",
    namespaces=(),
    images=("vllm", "modelcar", "isvc-controller"),
)


@lab.start
def start(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """The namespace, the list of model versions, and the controller with its kinds."""
    from helpers.labs.lab09_models.ground import prepare

    return prepare(cluster, progress)


@lab.reset
def reset(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """What this lab's learner made goes, and what its start puts there is as the start has it."""
    from helpers.labs.lab09_models.ground import clear
    from helpers.labs.lab09_models.run import BOOK

    return clear(cluster, progress, BOOK.jobs())
