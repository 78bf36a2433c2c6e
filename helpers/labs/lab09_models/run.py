"""Running lab 09's witnesses: those of staging and versions, and those of the controller, in one book."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from helpers.labs import witnessing
from helpers.labs.lab09_models import witness_controller, witness_staging
from helpers.labs.witnessing import Book
from helpers.progress import Progress

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.labs.witnessing import Record

# Two model servers load at once on two cores; more of them only wait for each other.
AT_ONCE = 2


def _half(name: str) -> Any:
    return witness_staging if name in witness_staging.WITNESSES else witness_controller


def make(view: ClusterView, name: str) -> dict[str, Any]:
    """The Job of this witness as it would be started now."""
    job: dict[str, Any] = _half(name).make(view, name)
    return job


BOOK = Book("09", {**witness_staging.WITNESSES, **witness_controller.WITNESSES}, make)


def run(
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Run one witness to its end; its record."""
    found: Record = _half(name).run(cluster, name, on_progress=on_progress, should_stop=should_stop)
    return found


def run_all(cluster: Cluster, names: Sequence[str], *, on_progress: Progress) -> None:
    """These witnesses, two at once; those that want to be alone come last, one after the other."""
    witnessing.run_all(BOOK, names, lambda name: run(cluster, name, on_progress=on_progress), at_once=AT_ONCE)
