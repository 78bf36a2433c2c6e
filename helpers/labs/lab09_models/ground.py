"""What lab 09 stands on, what it puts there, and how it goes away again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from helpers.cluster.manifests import load
from helpers.errors import Forbidden, LabError, StepMissing
from helpers.kubeyaml import filled
from helpers.progress import Progress
from helpers.settings import REPOSITORY
from helpers.stack import models

if TYPE_CHECKING:
    from helpers.cluster import Cluster

NAMESPACE = models.NAMESPACE
MANIFESTS = REPOSITORY / "manifests" / "labs" / "09"
CATALOGUE_S = 120.0
DECISIONS = "staging-decisions"
WAYS = ("by-copy", "by-claim", "by-car", "by-image")
RELEASES = ("model-v1", "model-v2")
READERS = ("reader-a", "reader-b", "reader-c")
CLAIM, FILL, SERVICE = "models", "fill-the-claim", "model"

# What a learner makes in the first half, in the order in which it goes away: pods before the claim that they hold.
LAB_OBJECTS = (
    *(("Deployment", name) for name in (*WAYS, *RELEASES, *READERS)),
    ("Job", FILL),
    ("Service", SERVICE),
    ("PersistentVolumeClaim", CLAIM),
    ("ConfigMap", DECISIONS),
)
Manifest = dict[str, Any]


def prepare(cluster: Cluster, progress: Progress) -> list[str]:
    """The namespace, what model servers are told, the list of versions, and the controller with its kinds."""
    from helpers.stack.isvc import ensure_controller

    done = _said(cluster.apply(_own_ground(cluster)))
    done += _catalogue(cluster, progress)
    done += ensure_controller(cluster, progress)
    return done


def _own_ground(cluster: Cluster) -> list[Manifest]:
    """The lab's first objects; in a class the namespace is the instructor's."""
    found = load((MANIFESTS / "ground.yaml").read_text())
    return [item for item in found if item["kind"] != "Namespace" or not cluster.scope.suffix]


def _catalogue(cluster: Cluster, progress: Progress) -> list[str]:
    """The versions of the model as the modelcar's image lists them; they are asked for at each start, for it may be new."""
    car = cluster.profile().images.get("modelcar")
    if car is None:
        raise StepMissing(
            "the cluster is told of no modelcar: push the three images of this lab, and say where they are",
            next_command="course doctor",
        )
    progress("asking the modelcar's image for the versions of the model")
    said = ask_the_car(cluster, car)
    data = {models.VERSIONS: json.dumps(json.loads(said), indent=1)}
    metadata = {"name": models.CATALOGUE, "namespace": NAMESPACE}
    return _said(cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}))


def ask_the_car(cluster: Cluster, car: str) -> str:
    """What the list in the image says, by a Job that prints it.

    Raises:
        LabError: it did not end within two minutes, or what it said is no list of versions.
    """
    (job,) = load(filled((MANIFESTS / "catalogue.yaml").read_text(), {"MODELCAR": car}))
    name = job["metadata"]["name"]
    cluster.delete("Job", name, NAMESPACE, wait_s=30, grace_s=1)
    cluster.apply(job)
    labels = f"batch.kubernetes.io/job-name={name}"

    def message(view: Any) -> str | None:
        for pod in view.pods(NAMESPACE, labels=labels):
            for status in pod.path("status.containerStatuses", []) or []:
                ended = (status.get("state") or {}).get("terminated")
                if ended is not None:
                    return str(ended.get("message") or "nothing")
        return None

    said = cluster.wait_until("the modelcar's list of versions", message, timeout_s=CATALOGUE_S)
    try:
        models.read(said)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise LabError(
            f"the image {car} lists no versions of the model: {said[:200]}",
            next_command=f"kubectl logs -n {NAMESPACE} job/{name}",
        ) from error
    cluster.delete("Job", name, NAMESPACE, grace_s=1)
    return said


def _said(applied: Any) -> list[str]:
    return [f"{item.action} {item.kind} {item.name}" for item in applied if item.action != "unchanged"]


def clear(cluster: Cluster, progress: Progress, made: Iterable[tuple[str, str]]) -> list[str]:
    """What the learner made goes, and what the start puts there is as it was; a second time finds nothing to do."""
    from helpers.stack import isvc

    done = list(isvc.clear(cluster))
    witnesses = [("Job", name, namespace) for name, namespace in made]
    for kind, name, namespace in (*witnesses, *((kind, name, NAMESPACE) for kind, name in LAB_OBJECTS)):
        try:
            gone = cluster.delete(kind, name, namespace, grace_s=1, wait_s=60)
        except Forbidden:  # the instructor's
            continue
        if gone:
            progress(f"{kind} {name} deleted")
            done.append(f"{kind} {name} deleted")
    if cluster.view().find("Namespace", NAMESPACE) is not None:
        done += _said(cluster.apply(_own_ground(cluster)))
    return done
