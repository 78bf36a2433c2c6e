"""The drain experiment: answers are in flight, the pod under them is replaced, and nobody may notice.

The witness is a Job in the applications' namespace, so that what happened can be read from the
cluster afterwards: by a learner, by the check, by an instructor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from string import Template
from typing import TYPE_CHECKING, Any

from helpers.errors import InvalidManifest, WaitTimeout
from helpers.settings import REPOSITORY
from helpers.stack import serving
from helpers.stack.load import RUNNING
from helpers.stack.metrics import Metrics

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView, Resource

APPS = "llm-apps"
JOB = "drain-witness"
MANIFEST = REPOSITORY / "manifests" / "labs" / "02" / "drain-witness.yaml"
ANSWERS = 4
IN_FLIGHT_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 120.0

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Testimony:
    """What the witness got: how many of its answers were whole, and its own words."""

    whole: int
    broken: int
    log: str

    @property
    def ok(self) -> bool:
        return self.whole == ANSWERS and not self.broken


def witness_manifest(toolbox: str) -> dict[str, Any]:
    """The Job, with this cluster's toolbox image."""
    import yaml

    item = yaml.safe_load(Template(MANIFEST.read_text()).safe_substitute(TOOLBOX=toolbox))
    if not isinstance(item, dict):
        raise InvalidManifest(f"{MANIFEST.name} holds no object")
    return item


def run(cluster: Cluster, roll: Callable[[], object], *, progress: Progress = lambda text: None) -> Testimony:
    """Start the witness, wait until its requests run, roll, and hear what it got.

    Raises:
        WaitTimeout: the requests did not begin, or the Job did not end.
    """
    progress("starting the witness")
    cluster.delete("Job", JOB, APPS, wait_s=30, grace_s=1)
    cluster.apply(witness_manifest(cluster.profile().images["toolbox"]))
    cluster.wait_until(
        f"{ANSWERS} answers in flight", _in_flight, timeout_s=IN_FLIGHT_TIMEOUT_S, reject=_ended_early
    )
    progress(f"{ANSWERS} answers are in flight: rolling out now")
    roll()
    progress("waiting for the witness to end")
    cluster.wait_until("the witness ended", _ended, timeout_s=FINISH_TIMEOUT_S)
    return testimony(cluster)


def testimony(cluster: Cluster) -> Testimony:
    """What the newest witness says.

    Raises:
        WaitTimeout: there is no pod of it to ask.
    """
    pods = cluster.view().pods(APPS, labels=f"app={JOB}")
    if not pods:
        raise WaitTimeout("the witness left no pod", next_command=f"kubectl describe job {JOB} -n {APPS}")
    newest = max(pods, key=lambda pod: str(pod.metadata.get("creationTimestamp")))
    log = cluster.logs(APPS, newest.name)
    return Testimony(log.count(": whole"), log.count(": broken off"), log.strip())


def _in_flight(view: ClusterView) -> bool:
    answer = view.http(serving.NAMESPACE, serving.SERVICE, serving.PORT, "/metrics")
    if not answer.ok:
        return False
    return (Metrics.parse(answer.body).value(RUNNING) or 0) >= ANSWERS


def _ended(view: ClusterView) -> bool:
    return bool(_outcome(view.find("Job", JOB, APPS)))


def _ended_early(view: ClusterView) -> str | None:
    outcome = _outcome(view.find("Job", JOB, APPS))
    return f"the witness ended ({outcome}) before its requests were seen" if outcome else None


def _outcome(job: Resource | None) -> str:
    for kind in ("Complete", "Failed"):
        condition = job.conditions(kind) if job else None
        if condition and condition.is_true:
            return kind
    return ""
