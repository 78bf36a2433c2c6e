"""What an experiment does to a cluster, and undoes, as data.

Faults and their undo are lists of steps that can be written to disk, read back by another process
and carried out twice without harm. Every step is checked against the namespaces that an experiment
may touch, both when it is planned and when it is carried out.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from helpers.cluster.quantity import quantity
from helpers.cluster.waits import NotYet, ready
from helpers.course_process import run_course
from helpers.errors import LabError, ObjectMissing

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

BUSY_S = 20.0
FIRST_PROCESS = 9
# The kernel keeps the first process of a namespace from signals of its own. The shell that runs this is no Python.
_KILL = f"""
killed={FIRST_PROCESS}
for process in /proc/[0-9]*; do
  case "$(readlink $process/exe)" in
    *python*) [ $process != /proc/1 ] && kill -9 ${{process#/proc/}} && killed=0 ;;
  esac
done
exit $killed
"""
ALLOWED_NAMESPACES = frozenset({"llm-system", "llm-apps", "llm-batch", "llm-gateway", "llm-probes"})
# What else may be patched, outside of these: lab 08 takes Prometheus away for a while, and nothing beside it.
ALLOWED_PATCHES = frozenset({("Prometheus", "llm-monitoring")})
Verb = Literal[
    "delete",
    "patch",
    "apply",
    "scale",
    "cordon",
    "uncordon",
    "evict",
    "wait_ready",
    "nudge",
    "stop_clients",
    "gpu",
    "kill",
    "wait_turned",
]


class FaultNotAllowed(LabError):
    """This fault may not be injected here: another namespace, or a cluster that does not allow faults."""


@dataclass(frozen=True)
class Step:
    """One change. `body` is a patch, a manifest or `{"replicas": n}`, as the verb needs."""

    verb: Verb
    kind: str
    name: str
    namespace: str | None = None
    body: Any = None
    subresource: str = ""

    def __str__(self) -> str:
        where = f" in {self.namespace}" if self.namespace else ""
        return f"{self.verb.replace('_', ' ')} {self.kind} {self.name}{where}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Step:
        return cls(**data)


@dataclass(frozen=True)
class Plan:
    """A fault for one cluster at one moment: how to inject it, how to undo it."""

    inject: tuple[Step, ...]
    undo: tuple[Step, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        guard((*self.inject, *self.undo))


def guard(steps: Iterable[Step]) -> None:
    """Refuse steps outside the course's namespaces; of nodes, only cordon, uncordon and its marks.

    Raises:
        FaultNotAllowed: naming the step.
    """
    for step in steps:
        if step.kind == "Node":
            if step.verb not in ("cordon", "uncordon", "gpu"):
                raise FaultNotAllowed(f"an experiment may not {step}")
        elif step.verb == "patch" and (step.kind, step.namespace) in ALLOWED_PATCHES:
            continue
        elif step.namespace not in ALLOWED_NAMESPACES:
            raise FaultNotAllowed(f"an experiment may not {step}: that namespace is not the lab's")


def carry_out(cluster: Cluster, step: Step) -> None:
    """Carry out one step; an object that is not there (any more) needs no undoing.

    Raises:
        FaultNotAllowed: the step is outside the lab.
    """
    guard([step])
    try:
        _DO[step.verb](cluster, step)
    except ObjectMissing:
        if step.verb not in (
            "patch",
            "delete",
            "scale",
            "uncordon",
            "nudge",
            "stop_clients",
            "evict",
            "kill",
        ):
            raise


def _delete(cluster: Cluster, step: Step) -> None:
    cluster.delete(step.kind, step.name, step.namespace)


def _patch(cluster: Cluster, step: Step) -> None:
    # A resize names one container of a list: only a strategic patch merges it by name.
    strategic = step.subresource == "resize"
    cluster.patch(
        step.kind, step.name, step.body, step.namespace, subresource=step.subresource, strategic=strategic
    )
    if strategic:
        _wait_resized(cluster, step)


def _wait_resized(cluster: Cluster, step: Step) -> None:
    """Until the kubelet has carried the resize out: before that, nothing has changed for the container."""

    def resized(view: ClusterView) -> bool:
        pod = view.pod(step.name, str(step.namespace))
        for wanted in step.body["spec"]["containers"]:
            status: Mapping[str, Any] = next(
                (s for s in pod.path("status.containerStatuses", []) if s["name"] == wanted["name"]), {}
            )
            # The status shows what the container really has, not what was asked for:
            # https://kubernetes.io/docs/tasks/configure-pod-container/resize-container-resources/
            has = ((status.get("resources") or {}).get("limits") or {}).get("cpu")
            limit = (wanted["resources"].get("limits") or {}).get("cpu")
            if limit and "resources" in status and quantity(has or 0) != quantity(limit):
                raise NotYet(f"{step.name} still has {has or 'unlimited'} CPU")
        return True

    cluster.wait_until(f"{step.name} resized", resized, timeout_s=60)


def _apply(cluster: Cluster, step: Step) -> None:
    cluster.apply([step.body])


def _scale(cluster: Cluster, step: Step) -> None:
    cluster.scale(step.kind, step.name, int(step.body["replicas"]), step.namespace)


def _evict(cluster: Cluster, step: Step) -> None:
    cluster.evict(step.name, str(step.namespace))


def _cordon(cluster: Cluster, step: Step) -> None:
    cluster.cordon(step.name, unschedulable=True)


def _uncordon(cluster: Cluster, step: Step) -> None:
    cluster.cordon(step.name, unschedulable=False)


def _wait_ready(cluster: Cluster, step: Step) -> None:
    """Wait for the workload, its pods and its Service; what stood in the way may linger in conditions."""
    body = step.body or {}
    is_ready = ready(step.kind, step.name, step.namespace)

    def serves(view: ClusterView) -> bool:
        # A controller's status may still be the one from before the fault: pods and endpoints are not.
        pods = view.pods(str(step.namespace), labels=body.get("labels"))
        waiting = [pod.name for pod in pods if not pod.is_ready]
        if waiting or not pods:
            raise NotYet(f"{', '.join(waiting) or 'no pod'} is not Ready")
        if body.get("service") and not view.endpoint_slices(body["service"], str(step.namespace)):
            raise NotYet(f"Service {body['service']} has no ready endpoint")
        return bool(is_ready(view))

    cluster.wait_until(f"{step.kind} {step.name} serves", serves, timeout_s=float(body.get("timeout_s", 180)))


def _nudge(cluster: Cluster, step: Step) -> None:
    """Make a controller look again now: after many refusals it waits for minutes before the next try."""
    view = cluster.view()
    for owned in view.list(step.kind, step.namespace, labels=(step.body or {}).get("labels")):
        if owned.path("spec.replicas", 0):
            stamp = {"metadata": {"annotations": {"course.llm-stack/nudged": owned.resource_version}}}
            cluster.patch(step.kind, owned.name, stamp, step.namespace)


def _stop_clients(cluster: Cluster, step: Step) -> None:
    run = str(step.body["run"])
    cluster.exec(str(step.namespace), step.name, ["sh", "-c", f"touch /tmp/course-{run}/stop"], timeout_s=10)


def _gpu(cluster: Cluster, step: Step) -> None:
    """Mark the simulated GPUs, through the command line: the embedded cluster is known to it alone."""
    option = "--unhealthy" if step.body["unhealthy"] else "--healthy"
    run_course("gpu", option, "all", timeout_s=60)


def _kill(cluster: Cluster, step: Step) -> None:
    """SIGKILL for the process of one pod's container: no handler runs, nothing is written any more.

    The pod is the one with most work, waited for a moment until one has some.
    """
    body, namespace = step.body, str(step.namespace)
    until = time.monotonic() + BUSY_S
    while True:
        pods = [pod.name for pod in cluster.view().pods(namespace, labels=body["labels"]) if pod.is_ready]
        if not pods:
            raise ObjectMissing("ready pod of", step.name, namespace)
        work = {pod: gauge(cluster.view(), namespace, pod, body["port"], body["busy"]) for pod in pods}
        busiest = max(pods, key=lambda pod: work[pod])
        if work[busiest] or time.monotonic() > until:
            break
        time.sleep(0.1)
    before = _restarts(cluster.view(), busiest, namespace)
    result = cluster.exec(namespace, busiest, ["sh", "-c", _KILL], container=body["container"], timeout_s=10)
    if result.exit_code == FIRST_PROCESS:
        raise LabError(
            f"{busiest} cannot be killed from within: without shareProcessNamespace its service is the first process "
            "of its container, which the kernel keeps from signals",
            next_command=f"kubectl explain pod.spec.shareProcessNamespace; kubectl get pod {busiest} -n {namespace} -o yaml",
        )

    def noticed(view: ClusterView) -> bool:
        if _restarts(view, busiest, namespace) == before:
            raise NotYet(f"the kubelet has not started {busiest} again")
        return True

    cluster.wait_until(f"{busiest} started again", noticed, timeout_s=60)


def _restarts(view: ClusterView, pod: str, namespace: str) -> int:
    return sum(state.restarts for state in view.pod(pod, namespace).container_states)


def _wait_turned(cluster: Cluster, step: Step) -> None:
    """Until a Service leads to this pod alone, and connections that were idle meanwhile are closed."""

    def turned(view: ClusterView) -> bool:
        wanted = view.pod(step.body["pod"], str(step.namespace)).ip
        found = view.endpoint_slices(step.name, str(step.namespace))
        if found != [wanted]:
            raise NotYet(f"Service {step.name} leads to {', '.join(found) or 'nobody'}")
        return True

    cluster.wait_until(f"Service {step.name} turned", turned, timeout_s=30)
    time.sleep(float(step.body["settle_s"]))


def gauge(view: ClusterView, namespace: str, pod: str, port: int, name: str) -> float:
    """The sum of one metric over its labels, from a pod's own metrics; 0 where they cannot be read."""
    with view.forward(namespace, pod, port) as way:
        connection = http.client.HTTPConnection(way.host, way.port, timeout=2)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return 0.0
        finally:
            connection.close()
    lines = (line for line in text.splitlines() if re.match(rf"{re.escape(name)}(\{{| )", line))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


_DO = {
    "gpu": _gpu,
    "kill": _kill,
    "wait_turned": _wait_turned,
    "delete": _delete,
    "patch": _patch,
    "apply": _apply,
    "scale": _scale,
    "evict": _evict,
    "cordon": _cordon,
    "uncordon": _uncordon,
    "wait_ready": _wait_ready,
    "nudge": _nudge,
    "stop_clients": _stop_clients,
}
