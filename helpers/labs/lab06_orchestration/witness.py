"""Witnesses: Jobs that put the orchestrator into a situation, and say what became of it.

Most run a copy of it with the learner's ConfigMaps between two proxies that count calls and let some fail;
the others ask the Service and the gateway while something is broken for them. A record is the message with
which the witness's container ended. It counts when the Job is the course's own, word for word, when the pod
is that Job's, and when what it ran with is what the cluster holds now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from helpers.cluster.manifests import load_one
from helpers.errors import LabError, ObjectMissing
from helpers.settings import REPOSITORY
from helpers.stack import gateway, orchestrator

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.cluster.resource import Pod, Resource

MANIFESTS = REPOSITORY / "manifests" / "labs" / "06"
PROGRAM = Path(__file__).with_name("witness_program.py")
APPS, GATEWAY = orchestrator.NAMESPACE, gateway.NAMESPACE
CONTAINER = "witness"
IMAGE = "orchestrator"


@dataclass(frozen=True)
class Witness:
    """One witness: what it shows, and which decisions and settings its copy goes by.

    Args:
        of_service: it asks the Service and not a copy, and is bound to the Deployment's revision.
        seconds: about how long it runs.
    """

    name: str
    shows: str
    of_service: bool = False
    seconds: int = 15
    generation_concurrency: int = 4
    queue_limit: int = 32

    @property
    def job(self) -> str:
        return f"witness-{self.name}"

    @property
    def namespace(self) -> str:
        return GATEWAY if self.of_service else APPS


WITNESSES = {
    item.name: item
    for item in (
        Witness("answer", "one question to the Service, without its token too", of_service=True, seconds=10),
        Witness("budget", "a Qdrant that is silent, then both backends slow", seconds=20),
        Witness("state", "what Redis holds after one question"),
        Witness("survive", "a pod, Redis and a whole revision go while questions are answered", True, 120),
        Witness("again", "one question five times at once, and once more later"),
        Witness("window", "a conversation that is longer than the model's window", seconds=20),
        Witness("retry", "a vLLM that answers 400, 401, 422, 429, 503, or breaks off"),
        Witness("degrade", "no retrieval, for three products"),
        Witness("pressure", "a Qdrant that keeps failing, and forty questions at once", False, 30, 2, 8),
        Witness("gateway", "keys, tenants and tokens at the gateway", of_service=True, seconds=30),
    )
}


class NoRecord(LabError):
    """The witness has no record that counts; `is_wrong` where it has one that somebody else made."""

    def __init__(self, message: str, *, is_wrong: bool = False, next_command: str = "") -> None:
        super().__init__(message, next_command=next_command)
        self.is_wrong = is_wrong


@dataclass(frozen=True)
class Record:
    """What a witness left.

    Args:
        files: the decisions that its copy ran with, by their short hashes.
        error: why it could not look; empty where it did.
    """

    job: Resource
    files: Mapping[str, str]
    settings: Mapping[str, str | None]
    seen: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


def manifest(view: ClusterView, name: str) -> dict[str, Any]:
    """The Job as it would be started now, with this cluster's image and the program's text in it.

    Raises:
        ObjectMissing: what it would ask is not there.
    """
    witness = WITNESSES[name]
    deployment = view.deployment(orchestrator.DEPLOYMENT, orchestrator.NAMESPACE)
    image = view.profile.images.get(IMAGE) or deployment.path("spec.template.spec.containers.0.image", "")
    job: dict[str, Any] = json.loads(_text(witness, image, _revision(view, witness)))
    return job


def _revision(view: ClusterView, witness: Witness) -> str:
    """What a record of the Service or of the gateway is bound to; a copy's record names its files itself."""
    if witness.name == "gateway":
        maps = [view.config_map(name, gateway.NAMESPACE).data for name in (gateway.CONFIG, gateway.TOKENS)]
        return orchestrator.short_hash(json.dumps(maps, sort_keys=True))
    return orchestrator.revision(view) if witness.of_service else ""


@cache
def _text(witness: Witness, image: str, revision: str) -> str:
    file = MANIFESTS / f"witness-{'service' if witness.of_service else 'copy'}.yaml"
    names = {
        "NAME": witness.name,
        "ORCHESTRATOR": image,
        "REVISION": revision,
        "GENERATION_CONCURRENCY": str(witness.generation_concurrency),
        "REQUEST_QUEUE_LIMIT": str(witness.queue_limit),
    }
    job = load_one(Template(file.read_text()).safe_substitute(names))
    for container in job["spec"]["template"]["spec"]["containers"]:
        container["command"] = ["python3", "-c", PROGRAM.read_text(), witness.name]
    return json.dumps(job)


def record(view: ClusterView, name: str) -> Record:
    """What this witness saw.

    Raises:
        NoRecord: it was not run, has not ended, is not the course's own, or saw another revision.
    """
    witness = WITNESSES[name]
    again = f"course witness {name}"
    job = view.find("Job", witness.job, witness.namespace)
    if job is None:
        raise NoRecord(f"the witness {name} was not run yet", next_command=again)
    pod = _pod(view, witness, job)
    if pod is None:
        raise NoRecord(f"the witness {name} left no pod", next_command=again)
    try:
        wanted = view.scope.manifest(manifest(view, name))
    except ObjectMissing as missing:
        raise NoRecord(f"{missing}: what the witness {name} saw is gone", next_command=again) from missing
    if difference := _difference(pod.raw, wanted["spec"]["template"]):
        if difference == "REVISION":
            raise NoRecord(f"{name}: the service was changed since it was seen", next_command=again)
        raise NoRecord(f"{name}: {difference} is not the course's own", is_wrong=True, next_command=again)
    return _read(job, pod, witness, again)


def _pod(view: ClusterView, witness: Witness, job: Resource) -> Pod | None:
    """The Job's own pod, by the Job's uid."""
    pods = view.pods(witness.namespace, labels=f"batch.kubernetes.io/job-name={witness.job}")
    own = [
        pod
        for pod in pods
        if any(item.get("uid") == job.uid for item in pod.metadata.get("ownerReferences") or [])
    ]
    return own[0] if own else None


def _read(job: Resource, pod: Pod, witness: Witness, again: str) -> Record:
    ended = _ended(pod)
    if ended is None:
        raise NoRecord(
            f"the witness {witness.name} has not ended", next_command=f"kubectl get pods -n {pod.namespace}"
        )
    try:
        said = json.loads(ended)
        if not isinstance(said, dict):
            raise ValueError("no record")
    except ValueError as error:
        raise NoRecord(f"the witness {witness.name} left no record", next_command=again) from error
    if (said.get("witness"), said.get("job"), said.get("pod")) != (witness.name, job.uid, pod.name):
        raise NoRecord(f"{witness.name}: the record is another pod's", is_wrong=True, next_command=again)
    return Record(
        job,
        said.get("files") or {},
        said.get("settings") or {},
        said.get("seen") or {},
        said.get("error") or "",
    )


def _ended(pod: Pod) -> str | None:
    """The message with which the witness's container ended; None while it runs."""
    for status in pod.path("status.containerStatuses", []) or []:
        ended = (status.get("state") or {}).get("terminated")
        if status.get("name") == CONTAINER and ended is not None:
            return str(ended.get("message") or "")
    return None


_COMPARED = ("image", "command", "args", "envFrom", "volumeMounts", "lifecycle")
_POD_WIDE = ("hostNetwork", "hostAliases", "dnsConfig", "ephemeralContainers", "shareProcessNamespace")


def _difference(pod: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What makes a pod another than the course's own; empty for a genuine one."""
    spec, right = pod.get("spec") or {}, wanted["spec"]
    for kind in ("initContainers", "containers"):
        found = {item["name"]: item for item in spec.get(kind) or []}
        named = {item["name"]: item for item in right.get(kind) or []}
        if found.keys() != named.keys():
            return f"a container ({', '.join(sorted(found.keys() ^ named.keys()))})"
        for name, item in named.items():
            for key in _COMPARED:
                if (found[name].get(key) or None) != (item.get(key) or None):
                    return f"{key} of {name}"
            if other := _other_variable(found[name], item):
                return other if other == "REVISION" else f"{other} of {name}"
    if _sources(spec) != _sources(right):
        return "a volume"
    return next((key for key in _POD_WIDE if spec.get(key)), "")


def _other_variable(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    here, right = ({item["name"]: item for item in side.get("env") or []} for side in (found, wanted))
    return next((name for name in sorted({*here, *right}) if here.get(name) != right.get(name)), "")


def _sources(spec: Mapping[str, Any]) -> list[Any]:
    """Where the volumes come from, by their names; what the API server adds for a service account is not counted."""
    return sorted(
        (volume["name"], json.dumps(volume, sort_keys=True))
        for volume in spec.get("volumes") or []
        if not volume["name"].startswith("kube-api-access-")
    )
