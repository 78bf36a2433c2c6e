"""A witness: a Job in the applications' namespace that asks the service something and reports what it got.

What it saw can be read from the cluster afterwards: by a learner, by a check, by an instructor.
"""

from __future__ import annotations

from string import Template
from typing import TYPE_CHECKING, Any

from helpers.cluster.manifests import load_one
from helpers.errors import WaitTimeout
from helpers.settings import REPOSITORY

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

APPS = "llm-apps"
MANIFESTS = REPOSITORY / "manifests" / "labs" / "02"


def manifest(job: str, toolbox: str) -> dict[str, Any]:
    """The Job of that name, with this cluster's toolbox image."""
    return load_one(Template((MANIFESTS / f"{job}.yaml").read_text()).safe_substitute(TOOLBOX=toolbox))


def start(cluster: Cluster, job: str) -> None:
    """Run the Job anew; what an earlier one saw is forgotten."""
    cluster.delete("Job", job, APPS, wait_s=30, grace_s=1)
    cluster.apply(manifest(job, cluster.profile().images["toolbox"]))


def outcome(view: ClusterView, job: str) -> str:
    """How the Job ended, "Complete" or "Failed"; empty while it runs, and when it is not there."""
    found = view.find("Job", job, APPS)
    for kind in ("Complete", "Failed"):
        condition = found.conditions(kind) if found else None
        if condition and condition.is_true:
            return kind
    return ""


def log(cluster: Cluster, job: str) -> str:
    """What the newest witness says.

    Raises:
        WaitTimeout: there is no pod of it to ask.
    """
    pods = cluster.view().pods(APPS, labels=f"app={job}")
    if not pods:
        raise WaitTimeout("the witness left no pod", next_command=f"kubectl describe job {job} -n {APPS}")
    newest = max(pods, key=lambda pod: str(pod.metadata.get("creationTimestamp")))
    return cluster.logs(APPS, newest.name)
