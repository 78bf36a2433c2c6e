"""The queue's witness: a Job that asks more than is admitted, and remembers that requests waited.

vLLM counts what waited in the memory of one process, and a replaced pod knows nothing of it. A Job
that ended stays in the cluster, for whoever looks later.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from string import Template
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidManifest
from helpers.settings import REPOSITORY

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

APPS = "llm-apps"
JOB = "queue-witness"
MANIFEST = REPOSITORY / "manifests" / "labs" / "02" / "queue-witness.yaml"
TIMEOUT_S = 180.0


def manifest(toolbox: str) -> dict[str, Any]:
    """The Job, with this cluster's toolbox image."""
    import yaml

    item = yaml.safe_load(Template(MANIFEST.read_text()).safe_substitute(TOOLBOX=toolbox))
    if not isinstance(item, dict):
        raise InvalidManifest(f"{MANIFEST.name} holds no object")
    return item


def run(cluster: Cluster, *, progress: Callable[[str], None] = lambda text: None) -> int | None:
    """Start the Job anew and wait for its end: the most requests that it saw waiting at one time.

    Raises:
        WaitTimeout: the Job did not end.
    """
    progress("twenty-four requests at once")
    cluster.delete("Job", JOB, APPS, wait_s=30, grace_s=1)
    cluster.apply(manifest(cluster.profile().images["toolbox"]))
    cluster.wait_until("the queue's witness ended", _ended, timeout_s=TIMEOUT_S)
    pods = cluster.view().pods(APPS, labels=f"app={JOB}")
    log = cluster.logs(APPS, max(pods, key=lambda pod: str(pod.metadata.get("creationTimestamp"))).name)
    found = re.search(r"most waiting at one time: (\d+)", log)
    return int(found[1]) if found else None


def _ended(view: ClusterView) -> bool:
    job = view.get("Job", JOB, APPS)
    ends = (job.conditions(kind) for kind in ("Complete", "Failed"))
    return any(end and end.is_true for end in ends)
