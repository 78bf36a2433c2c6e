"""The drain experiment: answers are in flight, the pod under them is replaced, and nobody may notice.

Its witness asks four times at once, just before the pod is replaced, and counts the whole answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.labs.lab02_inference import witness
from helpers.progress import Progress
from helpers.stack import serving
from helpers.stack.load import RUNNING
from helpers.stack.metrics import Metrics

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

JOB = "drain-witness"
ANSWERS = 4
IN_FLIGHT_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Testimony:
    """What the witness got: how many of its answers were whole, and its own words."""

    whole: int
    broken: int
    log: str

    @property
    def ok(self) -> bool:
        return self.whole == ANSWERS and not self.broken


def run(cluster: Cluster, roll: Callable[[], object], *, progress: Progress = lambda text: None) -> Testimony:
    """Start the witness, wait until its requests run, roll, and hear what it got.

    Raises:
        WaitTimeout: the requests did not begin, or the Job did not end.
    """
    progress("starting the witness")
    witness.start(cluster, JOB)
    cluster.wait_until(
        f"{ANSWERS} answers in flight", _in_flight, timeout_s=IN_FLIGHT_TIMEOUT_S, reject=_ended_early
    )
    progress(f"{ANSWERS} answers are in flight: rolling out now")
    roll()
    progress("waiting for the witness to end")
    cluster.wait_until(
        "the witness ended", lambda view: bool(witness.outcome(view, JOB)), timeout_s=FINISH_TIMEOUT_S
    )
    log = witness.log(cluster, JOB)
    return Testimony(log.count(": whole"), log.count(": broken off"), log.strip())


def _in_flight(view: ClusterView) -> bool:
    answer = view.http(serving.NAMESPACE, serving.SERVICE, serving.PORT, "/metrics")
    if not answer.ok:
        return False
    return (Metrics.parse(answer.body).value(RUNNING) or 0) >= ANSWERS


def _ended_early(view: ClusterView) -> str | None:
    outcome = witness.outcome(view, JOB)
    return f"the witness ended ({outcome}) before its requests were seen" if outcome else None
