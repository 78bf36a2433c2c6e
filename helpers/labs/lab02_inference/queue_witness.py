"""The queue's witness: a Job that asks more than is admitted, and remembers that requests waited.

vLLM counts what waited in the memory of one process, and a replaced pod knows nothing of it. A Job
that ended stays in the cluster, for whoever looks later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from helpers.labs.lab02_inference import witness

if TYPE_CHECKING:
    from helpers.cluster import Cluster

JOB = "queue-witness"
TIMEOUT_S = 180.0


def run(cluster: Cluster, *, progress: Callable[[str], None] = lambda text: None) -> int | None:
    """Start the Job anew and wait for its end: the most requests that it saw waiting at one time.

    Raises:
        WaitTimeout: the Job did not end, or left no pod.
    """
    progress("twenty-four requests at once")
    witness.start(cluster, JOB)
    cluster.wait_until(
        "the queue's witness ended", lambda view: bool(witness.outcome(view, JOB)), timeout_s=TIMEOUT_S
    )
    found = re.search(r"most waiting at one time: (\d+)", witness.log(cluster, JOB))
    return int(found[1]) if found else None
