"""The witnesses of staging and versions: each way of staging is scaled up, looked into, asked, and scaled down again.

One after the other, because the servers of all ways at once would not fit beside the stack of eight labs. A record
is bound to what it was made from: the Deployment's pods, the server's settings and, of a claim, the claim.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.cluster.manifests import load_one
from helpers.errors import LabError, StepMissing
from helpers.kubeyaml import filled
from helpers.labs import witnessing
from helpers.labs.lab09_models.ground import CLAIM, MANIFESTS, NAMESPACE, RELEASES, SERVICE
from helpers.labs.witnessing import Book, Witness
from helpers.stack import models
from helpers.stack.images import PULL_FAULTS
from helpers.stack.orchestrator import short_hash

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Pod
    from helpers.labs.witnessing import Record
    from helpers.progress import Progress

MANIFEST = MANIFESTS / "witness-staging.yaml"
PROGRAM = Path(__file__).with_name("witness_staging_program.py")
MEASURE = Path(__file__).with_name("measure_program.py")
READY_S, GONE_S, MEASURE_S = 240.0, 60.0, 90.0
# A pod that ended so often, or that waits for something for so long, will not become Ready by waiting.
HOPELESS_RESTARTS, HOPELESS_S, UNPLACED_S = 2, 25.0, 60.0
NO_NODE = "a pod waits for its node"
SETTLE_S = 0.5
LONGEST_WORDS = 260
# How many pods of each way are looked at: what is shared shows in two.
PODS: Mapping[str, int] = {
    "by-copy": 1,
    "by-claim": 2,
    "by-car": 1,
    "by-image": 1,
    **dict.fromkeys(RELEASES, 1),
}
VERSIONS = "versions"
Manifest = dict[str, Any]

WITNESSES: dict[str, Witness] = {
    item.name: item
    for item in (
        Witness("by-copy", "a pod with a copy of its own", NAMESPACE, 30),
        Witness("by-claim", "two pods on one claim", NAMESPACE, 40, alone=True),
        Witness("by-car", "a pod that reads a neighbour's files", NAMESPACE, 30),
        Witness("by-image", "a pod with an image for a volume", NAMESPACE, 30),
        Witness(VERSIONS, "version 2 beside version 1, and its way back", NAMESPACE, 60, alone=True),
    )
}


def made_from(name: str) -> tuple[str, ...]:
    """The Deployments that a witness looks at."""
    return RELEASES if name == VERSIONS else (name,)


def make(view: ClusterView, name: str) -> Manifest:
    """The Job of this witness as it would be started now.

    Raises:
        ObjectMissing: a Deployment that it would look at is not there.
    """
    said = revision(view, name)
    image = view.profile.images["vllm"]
    job: Manifest = json.loads(_text(name, image, said))
    return job


@cache
def _text(name: str, image: str, said: str) -> str:
    names = {"NAME": name, "VLLM": image, "REVISION": said}
    job = load_one(filled(MANIFEST.read_text(), names))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["command"] = witnessing.command(PROGRAM, name)
    return json.dumps(job)


def revision(view: ClusterView, name: str) -> str:
    """What a record of this witness rests on, as one short hash.

    Raises:
        ObjectMissing: a Deployment, or the settings of all servers, are not there.
    """
    found = [view.get("Deployment", item, NAMESPACE) for item in made_from(name)]
    parts: list[Any] = [
        [item.path("spec.template.spec"), item.path("spec.template.metadata.labels")] for item in found
    ]
    parts.append(dict(view.config_map(models.SERVER, NAMESPACE).data))
    if name == "by-claim":
        parts.append(view.get("PersistentVolumeClaim", CLAIM, NAMESPACE).uid)
    if name == VERSIONS:
        parts.append(view.get("Service", SERVICE, NAMESPACE).path("spec.selector"))
    return short_hash(json.dumps(parts, sort_keys=True))


BOOK = Book("09", WITNESSES, make)


# Running


def run(
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Run one of these witnesses to its end; its record.

    Raises:
        StepMissing: what it would look at is not there yet.
        WaitTimeout, Stopped: as `witnessing.run`.
    """
    missing = [item for item in made_from(name) if cluster.view().find("Deployment", item, NAMESPACE) is None]
    if missing:
        raise StepMissing(f"{missing[0]} is not there yet.", next_command="course open 09")
    looking = Looking(cluster, on_progress, should_stop)
    words = {f"{word}-{item}": looking.do for word in ("up", "down", "look") for item in made_from(name)}
    try:
        return witnessing.run(
            BOOK, cluster, name, on_progress=on_progress, should_stop=should_stop, asked=words
        )
    finally:
        # Version 1 goes on serving, and what did not start is there to be looked at; all else takes memory.
        last = made_from(name)[-1]
        if last not in looking.troubled and cluster.view().find("Deployment", last, NAMESPACE) is not None:
            cluster.scale("Deployment", last, 0, NAMESPACE)


class Looking:
    """What a witness asks for: servers up, servers down, and what is in their pods."""

    def __init__(
        self, cluster: Cluster, say: Progress, should_stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._cluster, self._say, self._should_stop = cluster, say, should_stop
        self.troubled: set[str] = set()

    def do(self, pod: Pod, line: str) -> None:
        """Answer one request: `up NAME`, `down NAME` or `look NAME`."""
        word, _, name = line.partition(" ")
        said = {"up": self.up, "down": self.down, "look": self.look}[word](name)
        witnessing.answer(self._cluster, pod, f"{word}-{name}", json.dumps(said))

    def up(self, name: str) -> dict[str, Any]:
        """Scale to as many pods as are looked at, wait until they are Ready or never will be, and look into them."""
        count = PODS[name]
        self._say(f"{name}: {count} {'pod' if count == 1 else 'pods'}, waiting until ready")
        self._cluster.scale("Deployment", name, count, NAMESPACE)
        problem = self._wait(name, count)
        if self._should_stop():
            return {"pods": [], "problem": ""}
        self.troubled |= {name} if problem else set()
        self._say(f"{name}: looking into its pods")
        return {**self.look(name), "problem": problem}

    def down(self, name: str) -> dict[str, Any]:
        """Scale to none; what did not start stays, for whoever wants to know why."""
        if name in self.troubled:
            return {"left": len(self._pods(name))}
        self._say(f"{name}: down to none")
        self._cluster.scale("Deployment", name, 0, NAMESPACE)
        until = time.monotonic() + GONE_S
        while self._pods(name) and time.monotonic() < until:
            time.sleep(SETTLE_S)
        return {"left": len(self._pods(name))}

    def look(self, name: str) -> dict[str, Any]:
        """What is in the pods of a Deployment that are Ready, or at least running."""
        return {"pods": [self._looked_into(pod) for pod in self._pods(name) if pod.is_live][: PODS[name]]}

    def _pods(self, name: str) -> list[Pod]:
        """The pods of a Deployment's newest specification."""
        view = self._cluster.view()
        deployment = view.deployment(name, NAMESPACE)
        hashes = {
            item.labels.get("pod-template-hash")
            for item in view.list("ReplicaSet", NAMESPACE)
            if _is_owned(item, deployment.uid) and item.path("spec.replicas", 0)
        }
        pods = view.pods(NAMESPACE, labels=deployment.selector)
        return [pod for pod in pods if not hashes or pod.labels.get("pod-template-hash") in hashes]

    def _wait(self, name: str, count: int) -> str:
        """Empty when so many pods are Ready, or when nobody waits any more; else why they will not be."""
        began = time.monotonic()
        since: dict[str, float] = {}
        while not self._should_stop():
            pods = [pod for pod in self._pods(name) if pod.is_live]
            if len(pods) == count and all(pod.is_ready for pod in pods):
                return ""
            now, troubles = time.monotonic(), [found for pod in pods if (found := trouble(pod))]
            for said, is_hopeless in troubles:
                patience_s = UNPLACED_S if said.startswith(NO_NODE) else HOPELESS_S
                if is_hopeless or now - since.setdefault(said, now) > patience_s:
                    return said + self._claims_words(pods)
            if now - began > READY_S:
                return f"{len(pods)} of {count} pods, not Ready in {READY_S:.0f} s"
            time.sleep(SETTLE_S)
        return ""

    def _claims_words(self, pods: list[Pod]) -> str:
        """What the provisioner says of a claim that pods wait for, after a colon; empty where they wait for none."""
        view = self._cluster.view()
        volumes = [item for pod in pods for item in pod.path("spec.volumes", []) or []]
        claims = [item["persistentVolumeClaim"] for item in volumes if "persistentVolumeClaim" in item]
        for name in sorted({str(item["claimName"]) for item in claims}):
            found = view.find("PersistentVolumeClaim", name, NAMESPACE)
            if found is None or found.path("status.phase") != "Bound":
                events = view.events(NAMESPACE, involved=("PersistentVolumeClaim", name))
                warned = [event.message for event in events if event.type == "Warning"]
                return f": the claim {name} is not bound. {warned[-1] if warned else ''}"[
                    :LONGEST_WORDS
                ].rstrip()
        return ""

    def _looked_into(self, pod: Pod) -> dict[str, Any]:
        spec = pod.path("spec", {})
        about = {"pod": pod.uid, "kind": kind_of(spec), "ready": pod.is_ready}
        if not pod.is_ready:
            return about
        about |= {"ip": pod.ip, **self._measured(pod, spec)}
        if about.get("link"):
            about |= {"probe": self._probe_without_files(pod, spec)}
        return about

    def _measured(self, pod: Pod, spec: Mapping[str, Any]) -> dict[str, Any]:
        container = pod.containers[0]
        own = {item["name"] for item in spec.get("volumes") or [] if "emptyDir" in item}
        places = [item["mountPath"] for item in container.get("volumeMounts") or [] if item["name"] in own]
        command = ["python3", "-c", MEASURE.read_text(), models.PATH, *places]
        try:
            done = self._cluster.exec(
                NAMESPACE, pod.name, command, container=container["name"], timeout_s=MEASURE_S
            )
            said: dict[str, Any] = json.loads(done.stdout)
        except (LabError, ValueError) as error:
            return {"missing": f"nothing could be run in {container['name']}: {error}"[:200]}
        return said

    def _probe_without_files(self, pod: Pod, spec: Mapping[str, Any]) -> str:
        """What the sidecar's own startup probe says while the link leads nowhere: `no` where it does its work."""
        sidecar = next((item for item in spec.get("initContainers") or [] if item.get("restartPolicy")), None)
        if sidecar is None:
            return "no sidecar"
        command = ((sidecar.get("startupProbe") or {}).get("exec") or {}).get("command")
        if not command:
            return "none"
        place = _place_in(sidecar, spec)
        script = 'mv "$0" "$0.kept" && ln -s /proc/none "$0" || exit 9; "$@"; said=$?; rm "$0"; mv "$0.kept" "$0"; exit "$said"'
        words = ["sh", "-c", script, place, *command]
        try:
            done = self._cluster.exec(NAMESPACE, pod.name, words, container=sidecar["name"])
        except LabError as error:
            return f"could not be tried: {error}"[:120]
        return {0: "yes", 9: "could not be tried"}.get(done.exit_code, "no")


def trouble(pod: Pod) -> tuple[str, bool] | None:
    """Why a pod is not Ready, in the kubelet's or the scheduler's words, and whether waiting cannot help."""
    if not pod.node:
        placed = pod.conditions("PodScheduled")
        return f"{NO_NODE}, {placed.message}"[:LONGEST_WORDS] if placed and placed.message else NO_NODE, False
    for state in pod.container_states:
        if state.reason in PULL_FAULTS or state.reason in (
            "CreateContainerConfigError",
            "CreateContainerError",
        ):
            return f"{state.name}: {state.reason}: {state.message}"[:LONGEST_WORDS], False
        if state.restarts >= HOPELESS_RESTARTS:
            return f"{state.name} ended {state.restarts} times ({state.last_reason or state.reason})", True
    return None


def kind_of(pod_spec: Mapping[str, Any]) -> str:
    """What the served folder lies in: emptyDir, memory, claim, image, another volume, or the container's own image."""
    volume = models.volume_of(pod_spec)
    if not volume:
        return "container"
    if "emptyDir" in volume:
        return "memory" if (volume["emptyDir"] or {}).get("medium") == "Memory" else "emptyDir"
    named = {"persistentVolumeClaim": "claim", "image": "image"}
    return next((named.get(key, key) for key in volume if key != "name"), "container")


def _place_in(sidecar: Mapping[str, Any], spec: Mapping[str, Any]) -> str:
    """Where the sidecar has the link that the server sees at /mnt/models: it may mount their volume elsewhere."""
    server = models.mount_of(spec)
    mounts = sidecar.get("volumeMounts") or []
    shared: Mapping[str, Any] = next((item for item in mounts if item.get("name") == server.get("name")), {})
    if not server or not shared:
        return models.PATH
    inside = models.PATH.removeprefix(str(server["mountPath"]).rstrip("/"))
    return str(shared["mountPath"]).rstrip("/") + inside


def _is_owned(item: Any, uid: str | None) -> bool:
    return any(owner.get("uid") == uid for owner in item.metadata.get("ownerReferences") or [])
