"""What lab 09 stands on, what it puts there, and how it goes away again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.progress import Progress

if TYPE_CHECKING:
    from helpers.cluster import Cluster

NAMESPACE = "llm-models"


def prepare(cluster: Cluster, progress: Progress) -> list[str]:
    """The namespace, and what both halves of the lab find in it."""
    return []


def clear(cluster: Cluster, progress: Progress) -> list[str]:
    """What the lab made goes; a second time finds nothing to do."""
    return []
