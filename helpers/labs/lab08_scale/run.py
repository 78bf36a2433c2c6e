"""Running lab 08's witnesses: those of the queue and those of scaling, in one book."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from helpers.labs import witnessing
from helpers.labs.lab08_scale import witness_queue, witness_scale
from helpers.labs.witnessing import Book
from helpers.progress import Progress

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.labs.witnessing import Record


def make(view: ClusterView, name: str) -> dict[str, Any]:
    """The Job of this witness as it would be started now."""
    half = witness_queue if name in witness_queue.WITNESSES else witness_scale
    return half.make(view, name)


BOOK = Book("08", {**witness_queue.WITNESSES, **witness_scale.WITNESSES}, make)


def run(
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Run one witness to its end; its record."""
    half = witness_queue if name in witness_queue.WITNESSES else witness_scale
    return half.run(cluster, name, on_progress=on_progress, should_stop=should_stop)


def run_all(cluster: Cluster, names: Sequence[str], *, on_progress: Progress) -> None:
    """These witnesses, a few at once; those that want to be alone come last, one after the other."""
    witnessing.run_all(BOOK, names, lambda name: run(cluster, name, on_progress=on_progress))
