"""The words of proofs: what a learner applied, what the cluster made of it, and what is wrong with it.

A word gives a `Change`, a function of a FakeCluster, so that most wrong clusters are one line:

    Mutant("scaled to zero", without("Pod", "qdrant-0"), {"memory.ready": "0 pods"})

`applied` goes through admission, as what a learner applies does; all other words put objects down as
controllers, the scheduler and the kubelet leave them, status included. A right cluster is taken from
`manifests/` and from the YAML of the solutions (`solved`), so that both are proved with the checks.
"""

from __future__ import annotations

import ast
import zlib
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import cache
from string import Template
from textwrap import dedent
from typing import Any

from helpers import kubeyaml
from helpers.cluster.kinds import BUILTIN
from helpers.grading.solution import notebook_of

Change = Callable[[Any], object]  # gets a FakeCluster, or with `course check-author --live` a Cluster
Manifest = dict[str, Any]
Edit = Callable[[Manifest], object]
SYSTEM = "llm-system"
NODE = "substrate"
BEGUN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    """A moment so many seconds after the lab was begun, as the API server writes it."""
    return (BEGUN + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


# Objects


def manifest(
    kind: str,
    name: str,
    namespace: str = SYSTEM,
    *,
    labels: Mapping[str, str] | None = None,
    created: float | None = None,
    **parts: Any,
) -> Manifest:
    """An object of a built-in kind: `spec=…`, `status=…`, `data=…`; made so many seconds after the lab was begun."""
    type_ = next(item for item in BUILTIN if item.kind == kind)
    metadata: Manifest = {"name": name, "labels": dict(labels or {})}
    if type_.namespaced:
        metadata["namespace"] = namespace
    if created is not None:
        metadata["creationTimestamp"] = at(created)
    return {"apiVersion": type_.api_version, "kind": kind, "metadata": metadata, **parts}


def solved(lab: str, *cells: str, **values: str) -> list[Manifest]:
    """The objects, or fragments of objects, in YAML cells of a lab's solution: `solved("01", "quota_yaml")`.

    Args:
        values: what stands for `$NAME` in the text, beside the images of the fake cluster's profile.
    """
    from helpers.cluster.fake import default_profile

    names = {
        name.upper().replace("-", "_"): image for name, image in default_profile().images.items()
    } | values
    texts = (Template(yaml_cells(lab)[cell]).safe_substitute(names) for cell in cells)
    return [item for text in texts for item in kubeyaml.load_all(text) if item]


@cache
def yaml_cells(lab: str) -> Mapping[str, str]:
    tree = ast.parse(notebook_of(lab, "solutions").read_text())
    return {
        target.id: dedent(text)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name) and isinstance(text := node.value.value, str)
    }


def one(objects: Sequence[Manifest], kind: str, name: str | None = None) -> Manifest:
    """The object of this kind and name, to be changed freely."""
    (found,) = (item for item in objects if item["kind"] == kind and name in (None, item["metadata"]["name"]))
    return deepcopy(found)


def pod(
    name: str,
    spec: Mapping[str, Any],
    namespace: str = SYSTEM,
    *,
    labels: Mapping[str, str] | None = None,
    created: float | None = None,
    placed: float | None = 0,
    says: str = "",
    ran: tuple[float, float] | None = None,
    ready: bool = True,
    restarts: int = 0,
    reason: str = "",
    address: str = "",
) -> Manifest:
    """A pod as scheduler and kubelet left it: waiting for a node, running, or finished.

    Args:
        placed: when it was given its node, in seconds; None for a pod that waits.
        says: what the scheduler has against every node.
        ran: from when to when its container ran, once it has finished.
        reason: why its container waits, such as CrashLoopBackOff.
        address: its IP; one that follows from its name unless given.
    """
    scheduled: Manifest = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(placed or 0)}
    if placed is None:
        scheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": says}
        phase, state = "Pending", None
    elif ran:
        ended = {"exitCode": 0, "startedAt": at(ran[0]), "finishedAt": at(ran[1])}
        phase, state, ready = "Succeeded", {"terminated": ended}, False
    elif reason:
        phase = "Pending" if "Image" in reason else "Running"
        state, ready = {"waiting": {"reason": reason}}, False
    else:
        phase, state = "Running", {"running": {"startedAt": at(placed)}}
    status: Manifest = {
        "phase": phase,
        "conditions": [scheduled, {"type": "Ready", "status": str(ready and phase == "Running")}],
    }
    if state:
        container = {"name": spec["containers"][0]["name"], "ready": ready, "restartCount": restarts}
        status |= {"podIP": address or _address(name), "containerStatuses": [{**container, "state": state}]}
    node = {} if placed is None else {"nodeName": NODE}
    return manifest(
        "Pod", name, namespace, labels=labels, created=created, spec={**spec, **node}, status=status
    )


def _address(pod_name: str) -> str:
    return f"10.244.0.{10 + zlib.crc32(pod_name.encode()) % 240}"


# Changes


def steps(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(cluster: Any) -> None:
        for item in changes:
            item(cluster)

    return change


def applied(*manifests: Manifest) -> Change:
    """What a learner applies: admission has its say."""
    return lambda cluster: cluster.apply(list(manifests))


def stored(*manifests: Manifest) -> Change:
    """Objects as they are, with their status and without admission."""
    return lambda cluster: cluster.put(list(manifests))


def without(kind: str, name: str, namespace: str = SYSTEM) -> Change:
    """An object that is not there."""
    return lambda cluster: cluster.delete(kind, name, namespace)


def edited(kind: str, name: str, edit: Edit, namespace: str = SYSTEM) -> Change:
    """An object with another content, status included."""

    def change(cluster: Any) -> None:
        raw = deepcopy(cluster.view().get(kind, name, namespace).raw)
        edit(raw)
        cluster.put(raw)

    return change


def served(service: str, port: int, handler: Callable[[str, str, Any], tuple[int, str]]) -> Change:
    """Somebody who answers behind a Service of llm-system."""
    return lambda cluster: cluster.serve(SYSTEM, service, port, handler)


def event(about: str, reason: str, message: str, namespace: str = SYSTEM, *, when: float = 0) -> Change:
    """What the cluster said about a pod."""
    parts: Manifest = {"type": "Normal", "reason": reason, "message": message, "count": 1}
    parts |= {"firstTimestamp": at(when), "lastTimestamp": at(when)}

    def change(cluster: Any) -> None:
        involved = {"kind": "Pod", "name": about, "namespace": cluster.scope.namespace(namespace)}
        cluster.put(manifest("Event", f"{about}.{reason}", namespace, involvedObject=involved, **parts))

    return change


def endpoints(service: str, *pods: str, namespace: str = SYSTEM, address: str = "", port: int = 0) -> Change:
    """Who gets the traffic of a Service: these pods, ready; an address where no pod stands behind it."""

    def change(cluster: Any) -> None:
        view = cluster.view()
        found = [view.pod(name, namespace) for name in pods]
        behind: list[Manifest] = [
            {
                "addresses": [pod.ip],
                "conditions": {"ready": True},
                "targetRef": {"kind": "Pod", "name": pod.name},
            }
            for pod in found
        ]
        if address:
            behind.append({"addresses": [address], "conditions": {"ready": True}})
        known = view.find("Service", service, namespace)
        ports = [{"port": port}] if port else (known.path("spec.ports", []) if known else [])
        named = [{key: item[key] for key in ("name", "port") if key in item} for item in ports]
        labels = {"kubernetes.io/service-name": service}
        parts: Manifest = {"addressType": "IPv4", "ports": named, "endpoints": behind}
        cluster.put(manifest("EndpointSlice", f"{service}-1", namespace, labels=labels, **parts))

    return change


def job(wanted: Manifest, *, runs: Sequence[tuple[float, float]], says: str = "") -> Change:
    """A Job and its pods: one for each (start, end) in seconds; the others wait, because of what the scheduler says."""
    name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
    labels = {"batch.kubernetes.io/job-name": name}
    spec = wanted["spec"]["template"]["spec"]

    def change(cluster: Any) -> None:
        for left in cluster.view().pods(namespace, labels=f"batch.kubernetes.io/job-name={name}"):
            cluster.delete("Pod", left.name, namespace)
        cluster.put({**wanted, "status": {"succeeded": len(runs)}})
        for number in range(wanted["spec"].get("completions", 1)):
            ran = runs[number] if number < len(runs) else None
            placed = ran[0] if ran else None
            cluster.put(
                pod(
                    f"{name}-{number}",
                    spec,
                    namespace,
                    labels=labels,
                    created=0,
                    placed=placed,
                    ran=ran,
                    says=says,
                )
            )

    return change


def rolled_out(
    *objects: Manifest, made: float | None = None, claimed: float | None = None, **state: Any
) -> Change:
    """Objects as a rollout leaves them: each workload with one pod in place of those before, its claims
    bound, and behind every Service of its namespace the pods that it selects.

    Args:
        made, claimed: when the workloads and their claims were made, in seconds.
        state: how the pods fare, as `pod` takes it.
    """

    def change(cluster: Any) -> None:
        cluster.put([item for item in objects if item["kind"] not in _PODS])
        for workload in objects:
            if workload["kind"] in _PODS:
                _roll_out(cluster, workload, made, claimed, state)
        for namespace in {item["metadata"]["namespace"] for item in objects if item["kind"] in _PODS}:
            _lead(cluster, namespace)

    return change


_PODS = {"Deployment": "1", "StatefulSet": "0"}


def _roll_out(
    cluster: Any, workload: Manifest, made: float | None, claimed: float | None, state: Mapping[str, Any]
) -> None:
    kind, name, namespace = (workload["kind"], *(workload["metadata"][key] for key in ("name", "namespace")))
    selector = workload["spec"]["selector"]["matchLabels"]
    for old in cluster.view().pods(
        namespace, labels=",".join(f"{key}={value}" for key, value in selector.items())
    ):
        cluster.delete("Pod", old.name, namespace)
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
    settled = deepcopy(workload) | {"status": {"observedGeneration": 1, **counts}}
    settled["metadata"] |= {"generation": 1} | ({} if made is None else {"creationTimestamp": at(made)})
    owner = cluster.put(settled)[0]
    template = deepcopy(workload["spec"]["template"])
    running = f"{name}-{_PODS[kind]}"
    for wanted in workload["spec"].get("volumeClaimTemplates") or []:
        volume = wanted["metadata"]["name"]
        claim = manifest(
            "PersistentVolumeClaim",
            f"{volume}-{running}",
            namespace,
            labels=wanted["metadata"].get("labels"),
            created=claimed,
            spec=wanted["spec"],
            status={"phase": "Bound"},
        )
        cluster.put(claim)
        source = {"persistentVolumeClaim": {"claimName": claim["metadata"]["name"]}}
        template["spec"].setdefault("volumes", []).append({"name": volume, **source})
    one_pod = pod(running, template["spec"], namespace, labels=template["metadata"]["labels"], **state)
    reference = {"kind": kind, "name": name, "apiVersion": "apps/v1", "uid": owner.uid, "controller": True}
    one_pod["metadata"]["ownerReferences"] = [reference]
    cluster.put(one_pod)


def _lead(cluster: Any, namespace: str) -> None:
    """What the endpoint controller does: ready pods behind the Services that select them."""
    view = cluster.view()
    ready = [found for found in view.pods(namespace) if found.is_ready]
    for service in view.list("Service", namespace):
        selector = service.path("spec.selector", {})
        if selector:
            names = [found.name for found in ready if selector.items() <= found.labels.items()]
            endpoints(service.name, *names, namespace=namespace)(cluster)
