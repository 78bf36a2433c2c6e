"""What later labs need, fetched and built before anybody asks for it: `course prefetch`.

Behind a page it runs at the lowest priority, gives way between two things to whoever waits for one, and
ends with the notebook server. Everything goes through the caches, whose locks say who makes a thing: who
asks for what is being made waits for that thing alone.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from helpers import settings
from helpers.embedded import entry, turns
from helpers.embedded.binaries import ensure_binaries
from helpers.embedded.elevate import Root
from helpers.embedded.helm import HELM, ensure_helm
from helpers.embedded.images import IMAGES, image
from helpers.embedded.launch import disk_faults
from helpers.embedded.steps import DiskFull, NoNetwork, Steps
from helpers.errors import LabError
from helpers.terminal import typed

# In the order of the labs that need them; the grader is an instructor's, and Kafka is made when it is asked for.
WORKLOADS = tuple(spec.name for spec in IMAGES if not spec.at_up and spec.name not in ("grader", "kafka"))
# A page that opens now comes first.
SETTLE_S = 10.0
AGAIN = "course prefetch"


@dataclass(frozen=True)
class Thing:
    """One thing that a later lab needs, and what brings it in."""

    title: str
    bring_in: Callable[[Steps], object]


def things(cluster: str, helper: Root | None) -> list[Thing]:
    """Everything that later labs need; images go into the cluster too, where it runs."""

    def images(name: str) -> Callable[[Steps], object]:
        return lambda steps: entry.fetch_ahead(cluster, [name], steps, helper=helper)

    return [*(Thing(image(name).about, images(name)) for name in WORKLOADS), Thing(HELM.title, ensure_helm)]


def everything(cluster: str, helper: Root | None) -> list[Thing]:
    """The same, after the cluster's own commands: behind a page these are being built already."""
    return [Thing("what the cluster is made of", ensure_binaries), *things(cluster, helper)]


def fetch(wanted: list[Thing], steps: Steps, *, before_each: Callable[[], object] = lambda: None) -> None:
    """Bring in one thing after the other; `before_each` is called in between.

    Raises:
        NoNetwork, DiskFull: in one sentence, with what to do.
    """
    for thing in wanted:
        before_each()
        with _in_a_sentence(thing), disk_faults():
            thing.bring_in(steps)


@contextmanager
def _in_a_sentence(thing: Thing) -> Iterator[None]:
    kept = "What was fetched before it is kept."
    try:
        yield
    except DiskFull as cause:
        raise DiskFull(
            f"The disk is full: {thing.title} was not fetched. {kept}", next_command=f"df -h; then: {AGAIN}"
        ) from cause
    except NoNetwork as cause:
        raise NoNetwork(
            f"The network does not answer: {thing.title} was not fetched. {kept}",
            next_command=f"check the network and its proxies; then: {AGAIN}",
        ) from cause


def behind_page(cluster: str, helper: Root | None) -> None:
    """Fetch everything at the lowest priority, unless another process does; what goes wrong is a sentence."""
    with turns.only_one() as alone, log_file().open("a", buffering=1) as log:
        if not alone:
            return
        steps = Steps(Console(file=log, highlight=False, width=120))
        turns.step_aside()
        time.sleep(SETTLE_S)
        try:
            if helper is not None:
                helper.call("step_aside", steps)
            fetch(things(cluster, helper), steps, before_each=turns.stand_back)
        except LabError as error:
            for stream in (log, sys.stderr):
                print(typed(f"{error}\nNext: {error.next_command or 'course doctor'}"), file=stream)


def log_file() -> Path:
    """What was fetched behind a page, and how long each thing took."""
    path = settings.home_dir() / "logs" / "prefetch.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
