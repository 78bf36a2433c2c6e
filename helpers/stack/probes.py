"""The grader's own pods: put in place once, kept warm, taken away with `course reset`.

A probe that starts a pod for each question measures the scheduler. These wait in the namespaces of
the callers that they stand for, and answer an exec in about a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from string import Template
from typing import TYPE_CHECKING, Any

from helpers.cluster.manifests import load_one
from helpers.cluster.resource import OVER
from helpers.errors import Forbidden, LabError, ObjectMissing, Refused
from helpers.settings import REPOSITORY

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

PROBE_LABEL = "course.llm-stack/probe"


@dataclass(frozen=True)
class Caller:
    """A pod of the grader that stands for a kind of caller. `control`: policy never stops it."""

    name: str
    namespace: str
    pod: str
    stands_for: str = ""
    control: bool = False


CALLERS = (
    Caller("app", "llm-apps", "probe-app", "a pod of the application, in llm-apps"),
    Caller("outsider", "llm-outside", "probe-outsider", "a pod in a namespace without the label"),
    Caller("impostor", "llm-impostor", "probe-impostor", "a pod in a namespace that gave itself the label"),
    Caller("prometheus", "llm-monitoring", "probe-prometheus", "Prometheus, in llm-monitoring"),
    Caller("neighbour", "llm-system", "probe-neighbour", "any other pod in llm-system"),
    Caller("node", "llm-probes", "probe-node", "the node itself, as the kubelet's probes", control=True),
)


SEALED = "sealed"


SERVE_PORT = 9376


FOLDER = REPOSITORY / "manifests" / "probes"
PROBE_NAMESPACES = ("llm-outside", "llm-impostor", "llm-monitoring", "llm-probes")
EXTRA_LABELS = {
    "app": {"app": "llm-client"},
    "outsider": {"app": "llm-client"},
    "impostor": {"app": "llm-client"},
    "prometheus": {"app.kubernetes.io/name": "prometheus"},
}
# Among the learner's own workloads a probe must fit a quota that holds them exactly. Zero counts as stated,
# adds nothing, and bounds nothing: the pod sleeps, and answers an exec.
NOTHING = {side: {"cpu": "0", "memory": "0"} for side in ("requests", "limits")}
# Without a Service or a probe of its own, a hostNetwork pod must not listen on its node's address.
SLEEP = ["sh", "-c", "exec sleep 2147483647"]


@dataclass(frozen=True)
class Placed:
    """Which probe pods are Ready, and why others are not there."""

    ready: tuple[str, ...]
    missing: dict[str, str]


def probe_pods(image: str) -> list[dict[str, Any]]:
    """The manifests of all probe pods for a cluster's toolbox image; the caller's own to change."""
    return deepcopy(_probe_pods(image))


@cache  # in a class every probe's pod is compared with its manifest, at every look
def _probe_pods(image: str) -> list[dict[str, Any]]:
    template = Template((FOLDER / "pod.yaml").read_text())
    roles = [(caller.pod, caller.namespace, caller.name) for caller in CALLERS]
    pods = []
    for name, namespace, role in [*roles, ("probe-sealed", "llm-probes", "sealed")]:
        text = template.substitute(NAME=name, NAMESPACE=namespace, ROLE=role, TOOLBOX=image)
        pod = load_one(text)
        pod["metadata"]["labels"] |= EXTRA_LABELS.get(role, {})
        if role == "neighbour":
            pod["spec"]["containers"][0]["resources"] = NOTHING
        if role == "node":
            pod["spec"] |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
            pod["spec"]["containers"][0]["command"] = SLEEP
        pods.append(pod)
    return pods


def place_probes(
    cluster: Cluster, *, timeout_s: float = 90, on_progress: Callable[[str], None] | None = None
) -> Placed:
    """Put the probe pods in place and wait until they are Ready; a second call changes nothing.

    A pod that a quota refuses, or whose namespace is not there yet, is reported and left out.
    """
    _prepare_ground(cluster)
    wanted, missing = [], {}
    for pod in probe_pods(cluster.profile().images["toolbox"]):
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        try:
            _replace_if_over(cluster, name, namespace)
            cluster.apply([pod])
            wanted.append((name, namespace))
        except (Refused, ObjectMissing) as error:
            missing[name] = str(error)
        except Forbidden:
            if not cluster.scope.suffix:
                raise
            if cluster.view().find("Pod", name, namespace):
                wanted.append((name, namespace))
            else:
                missing[name] = "it is the instructor's to place: course class probes"
    ready = []
    for name, namespace in wanted:
        if on_progress:
            on_progress(f"probe pod {name}")
        try:
            cluster.wait_ready("Pod", name, namespace, timeout_s=timeout_s)
            ready.append(name)
        except LabError as error:
            missing[name] = str(error)
    return Placed(tuple(ready), missing)


def _prepare_ground(cluster: Cluster) -> None:
    """The callers' namespaces and the sealed pod's policy; those of a class are its instructor's."""
    try:
        cluster.apply((FOLDER / "namespaces.yaml").read_text())
    except Forbidden:
        if not cluster.scope.suffix:
            raise


def tampered(pod: Mapping[str, Any], image: str) -> str:
    """What makes a probe pod another than the grader's own; empty for a genuine one.

    A learner may start the pods that they are asked in. Whoever answers there must be the grader's
    image and nothing beside it: the pod's user cannot write where its programs lie.
    """
    name = pod["metadata"]["name"]
    expected = next((item for item in probe_pods(image) if item["metadata"]["name"] == name), None)
    if expected is None:
        return "the grader has no pod of that name"
    spec, wanted = pod.get("spec") or {}, expected["spec"]
    extra = [key for key in ("initContainers", "ephemeralContainers", "volumes") if spec.get(key)]
    containers = spec.get("containers") or []
    if extra or len(containers) != 1:
        return f"it has {', '.join(extra) or 'containers'} that the grader's does not have"
    for key in ("image", "command", "args", "env", "envFrom", "volumeMounts", "lifecycle"):
        if containers[0].get(key) != wanted["containers"][0].get(key):
            return f"its {key} is not the grader's"
    for key in ("hostNetwork", "securityContext", "hostAliases", "dnsConfig"):
        if spec.get(key) != wanted.get(key):
            return f"its {key} is not the grader's"
    return ""


def remove_probe_pods(cluster: Cluster) -> list[str]:
    """Delete the probe pods and leave their namespaces; the names of those that were there."""
    pods = [(item["metadata"]["name"], item["metadata"]["namespace"]) for item in probe_pods("")]
    return [name for name, namespace in pods if cluster.delete("Pod", name, namespace)]


def why_missing(view: ClusterView, name: str) -> str:
    """Why a probe pod is not running, in the API server's words if it would refuse the pod again."""
    pod = next(pod for pod in probe_pods(view.profile.images["toolbox"]) if pod["metadata"]["name"] == name)
    if view.find("Pod", name, pod["metadata"]["namespace"]):
        return f"the probe pod {name} is not Ready"
    answer = view.dry_run(pod)
    return f"the probe pod {name} is not there" + (
        "" if answer.allowed else f", and refused: {answer.reason}"
    )


def _replace_if_over(cluster: Cluster, name: str, namespace: str) -> None:
    """A finished or half-deleted probe pod cannot be mended by applying it again."""
    found = cluster.view().find("Pod", name, namespace)
    if found is None:
        return
    over = found.path("status.phase") in OVER or found.is_terminating
    # In a class the learner may have put another in its place; elsewhere what differs is the cluster's own doing.
    foreign = cluster.scope.suffix and tampered(found.raw, cluster.profile().images["toolbox"])
    if over or foreign or PROBE_LABEL not in found.labels:
        cluster.delete("Pod", name, namespace, wait_s=20)
