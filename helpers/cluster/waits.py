"""Waiting for the cluster: poll on one monotonic deadline, end early on what cannot get better.

Watches are not used: the official client sets no client timeout for them, and a watch that ends
with 410 Gone does so silently. A poll costs a few milliseconds and cannot miss the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import TypeVar

from helpers.cluster.deadline import Deadline
from helpers.cluster.resource import Pod, Resource, Workload
from helpers.cluster.view import ClusterView
from helpers.errors import (
    ClusterUnreachable,
    LabError,
    ObjectMissing,
    ServerFault,
    WaitRejected,
    WaitTimeout,
)

T = TypeVar("T")
Progress = Callable[[float, str], None]

# Waiting reasons of a container that no amount of waiting mends.
_STUCK = {
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "CrashLoopBackOff",
}
_CRASHES = 3
# A quota counts pods for a moment after they are gone, and controllers try again: only what lasts is stuck.
_REFUSED_FOR_S = 15.0
# Where StatefulSets, DaemonSets and Jobs count the pods that they have.
_PRESENT = ("replicas", "currentNumberScheduled", "active", "succeeded")
_FAST_S, _FAST_FOR_S, _SLOW_S = 0.1, 2.0, 0.5


class NotYet(Exception):
    """A condition does not hold yet; its text says what was seen instead."""


def wait_until(
    view: ClusterView,
    description: str,
    condition: Callable[[ClusterView], T | None],
    *,
    deadline: Deadline,
    reject: Callable[[ClusterView], str | None] | None = None,
    on_progress: Progress | None = None,
    diagnose: Callable[[ClusterView], tuple[str, ...]] | None = None,
) -> T:
    """Poll until `condition` returns something other than None, False or an empty collection.

    The condition is observed at least once. It may raise NotYet or ObjectMissing to say what it saw;
    an API server that is briefly away is waited for too. `reject` ends the wait at once with a reason.
    """
    # The view's own calls get a little more than the wait, so that the last look can finish.
    looking = view.within(Deadline(deadline.seconds + 5, deadline.clock))
    while True:
        seen = _look(looking, condition)
        if not isinstance(seen, _Unmet):
            return seen
        reason = _rejection(looking, reject)
        if reason:
            raise WaitRejected(
                f"{description}: will not happen: {reason}", last=reason, diagnostics=_why(looking, diagnose)
            )
        if deadline.is_over:
            raise WaitTimeout(
                f"{description}: not within {deadline.seconds:g} s; last seen: {seen.text}",
                last=seen.text,
                diagnostics=_why(looking, diagnose),
            )
        if on_progress:
            on_progress(deadline.elapsed_s, seen.text)
        pause_s = _FAST_S if deadline.elapsed_s < _FAST_FOR_S else _SLOW_S
        deadline.clock.sleep(min(pause_s, deadline.remaining_s))


class _Unmet:
    def __init__(self, text: str) -> None:
        self.text = text


def _look(view: ClusterView, condition: Callable[[ClusterView], T | None]) -> T | _Unmet:
    try:
        value = condition(view)
    except (NotYet, ObjectMissing, ClusterUnreachable, ServerFault) as error:
        return _Unmet(str(error))
    # Nothing found is not what was waited for: an empty list is no endpoint.
    is_empty = isinstance(value, Sized) and len(value) == 0
    return _Unmet("nothing yet") if value is None or value is False or is_empty else value


def _rejection(view: ClusterView, reject: Callable[[ClusterView], str | None] | None) -> str | None:
    if reject is None:
        return None
    try:
        return reject(view)
    except (ObjectMissing, ClusterUnreachable, ServerFault):
        return None


def _why(view: ClusterView, diagnose: Callable[[ClusterView], tuple[str, ...]] | None) -> tuple[str, ...]:
    """Diagnostics are read only now that something failed, and may themselves fail."""
    if diagnose is None:
        return ()
    try:
        return diagnose(view)
    except LabError as error:
        return (f"no diagnostics: {error}",)


# What it means to be ready, and what stands in the way


def ready(kind: str, name: str, namespace: str | None) -> Callable[[ClusterView], object]:
    """The condition that an object of any common kind is ready to be used."""

    def condition(view: ClusterView) -> object:
        found = view.get(kind, name, namespace)
        gap = readiness_gap(found.kind, found.raw)
        if gap:
            raise NotYet(f"{found.kind} {name}: {gap}")
        return found

    return condition


def readiness_gap(kind: str, raw: dict[str, object]) -> str:
    """What is missing until an object is ready, in words; empty when nothing is."""
    if kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"):
        return Workload(raw).rollout_gap()
    if kind == "Pod":
        pod = Pod(raw)
        return "" if pod.is_ready or pod.phase == "Succeeded" else pod_trouble(pod) or f"phase {pod.phase}"
    found = Pod(raw)
    wanted = {"Job": "Complete", "CustomResourceDefinition": "Established"}.get(kind, "Ready")
    condition = found.conditions(wanted)
    if condition is None and kind in ("PersistentVolumeClaim", "Namespace"):
        phase = found.path("status.phase", "Pending")
        return "" if phase in ("Bound", "Active") else f"phase {phase}"
    if condition is None or not condition.is_true:
        return f"condition {wanted} is {condition.status if condition else 'not there'}"
    return ""


def pod_trouble(pod: Pod) -> str:
    """Why a pod does not run, in the scheduler's or the kubelet's own words; empty when unknown."""
    scheduled = pod.conditions("PodScheduled")
    if scheduled and not scheduled.is_true:
        return f"{scheduled.reason}: {scheduled.message}"
    for state in pod.container_states:
        if state.reason and not state.ready and state.reason != "Completed":
            exited = state.newest_exit_code
            code = f" (exit code {exited})" if exited is not None else ""
            return f"container {state.name}: {state.reason}{code} {state.message}".strip()
    return ""


def stuck(kind: str, name: str, namespace: str | None) -> Callable[[ClusterView], str | None]:
    """The standard reject condition: an image that cannot be pulled, a quota that refuses the pods."""
    refused_at: float | None = None

    def reject(view: ClusterView) -> str | None:
        nonlocal refused_at
        found = view.get(kind, name, namespace)
        failure = _failed(found)
        if failure:
            return failure
        refusal = _refused_replica(found) or _creation_refused(view, found, namespace)
        now_s = view.deadline.elapsed_s if view.deadline else 0.0
        refused_at = (now_s if refused_at is None else refused_at) if refusal else None
        if refused_at is not None and now_s - refused_at >= _REFUSED_FOR_S:
            return refusal
        reasons = (_pod_stuck(pod, found.kind) for pod in pods_of(view, found.kind, name, namespace))
        return next((reason for reason in reasons if reason), None)

    return reject


def _pod_stuck(pod: Pod, asked: str) -> str:
    # A workload replaces a failed pod; a pod that was waited for by name stays failed.
    if pod.phase == "Failed" and asked == "Pod":
        return f"pod {pod.name} failed: {pod_trouble(pod) or pod.path('status.reason', '')}"
    for state in pod.container_states:
        # One crash may be bad luck, such as a database that was not there yet.
        crashing = state.reason == "CrashLoopBackOff" and state.restarts < _CRASHES
        if state.reason in _STUCK and not crashing:
            return f"pod {pod.name}: {pod_trouble(pod)}"
    return ""


def pods_of(view: ClusterView, kind: str, name: str, namespace: str | None) -> list[Pod]:
    """The pods that belong to an object; the pod itself for a pod."""
    if not namespace:
        return []
    if kind == "Pod":
        return [view.pod(name, namespace)]
    found = Workload.of(view.get(kind, name, namespace))
    return view.pods(namespace, labels=found.selector) if found.selector else []


def _failed(found: Resource) -> str:
    """A controller's own word that it has given up: a Job that failed, a rollout past its deadline."""
    for condition in found.all_conditions():
        gave_up = condition.type == "Failed" and condition.is_true
        if gave_up or condition.reason == "ProgressDeadlineExceeded":
            return condition.message or condition.reason
    return ""


def _refused_replica(found: Resource) -> str:
    """A Deployment's word that its pods are refused now."""
    refusal = found.conditions("ReplicaFailure")
    return refusal.message or refusal.reason if refusal and refusal.is_true else ""


def _creation_refused(view: ClusterView, found: Resource, namespace: str | None) -> str | None:
    """An event that pods are refused by quota, admission or a limit range, from controllers without a condition."""
    if found.kind not in ("StatefulSet", "DaemonSet", "Job") or not namespace:
        return None
    events = view.events(namespace, involved=(found.kind, found.name))
    refused = [event for event in events if event.reason == "FailedCreate"]
    created = [event.last_seen for event in events if event.reason == "SuccessfulCreate"]
    # Events outlive their cause: they count only while pods are missing, and if no pod was created since.
    present = sum(int(found.path(f"status.{key}", 0)) for key in _PRESENT)
    if not refused or present >= Workload.of(found).replicas:
        return None
    latest = max(refused, key=lambda event: event.last_seen)
    return latest.message if latest.last_seen > max(created, default="") else None


def diagnose(kind: str, name: str, namespace: str | None) -> Callable[[ClusterView], tuple[str, ...]]:
    """Conditions, recent warnings and the end of the log of what was waited for."""

    def collect(view: ClusterView) -> tuple[str, ...]:
        lines: list[str] = []
        found = view.find(kind, name, namespace)
        if found is None:
            return (f"no {kind} {name}",)
        for condition in found.all_conditions():
            lines.append(
                f"condition {condition.type}={condition.status} {condition.reason}: {condition.message}"
            )
        if not namespace:
            return tuple(lines)
        pods = pods_of(view, found.kind, name, namespace)
        names = {name, *(pod.name for pod in pods)}
        warnings = [event for event in view.events(namespace) if event.type == "Warning"]
        lines += [f"event {event}" for event in warnings if event.involved[1] in names][-5:]
        for pod in [pod for pod in pods if not pod.is_ready][:1]:
            lines += _log_tail(view, pod, namespace)
        return tuple(lines)

    return collect


def _log_tail(view: ClusterView, pod: Pod, namespace: str) -> list[str]:
    for state in pod.container_states:
        crashed = state.restarts > 0 and not state.ready and not state.is_down
        try:
            text = view.logs(namespace, pod.name, container=state.name, previous=crashed, tail_lines=10)
        except LabError:
            continue
        if text.strip():
            return [f"log of {pod.name}/{state.name}: {line}" for line in text.strip().splitlines()[-10:]]
    return []
