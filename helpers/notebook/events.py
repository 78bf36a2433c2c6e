"""What the cluster says about its objects: pods and events, as tables that a refresh keeps current."""

from __future__ import annotations

from typing import TYPE_CHECKING

import marimo as mo
from markupsafe import Markup

from helpers.notebook.html import card, code, inline, note, table, word
from helpers.notebook.session import LabSession, needs_cluster

if TYPE_CHECKING:
    from helpers.cluster.resource import Event, Pod, Resource


@needs_cluster
def event_table(
    lab: LabSession,
    namespaces: tuple[str, ...],
    *,
    reasons: tuple[str, ...] = ("FailedCreate", "FailedScheduling", "Scheduled"),
    about: str = "",
    last: int = 6,
) -> mo.Html:
    """The latest events of some namespaces: who reported, about what (names that begin so), in its own words."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    found: list[tuple[str, Event]] = [
        (name, event)
        for name in namespaces
        for event in view.events(name)
        if event.reason in reasons and event.involved[1].startswith(about)
    ]
    if not found:
        return note("No such event yet.")
    found.sort(key=lambda pair: pair[1].last_seen, reverse=True)
    # A controller repeats itself, each time with another pod's name: the latest word on each object is enough.
    latest: dict[tuple[object, ...], tuple[str, Event]] = {}
    for name, event in found:
        latest.setdefault((name, event.involved, event.reason), (name, event))
    rows = [_event(name, event) for name, event in list(latest.values())[:last]]
    return card(table(("when", "who reported", "about", "in its own words"), rows, kind="events"))


def _event(namespace: str, event: Event) -> tuple[str, str, str, str]:
    kind, name = event.involved
    source = event.path("reportingComponent") or event.path("source.component") or "?"
    return (
        event.last_seen[11:19],
        source,
        Markup("{} in {}<br>{}").format(kind, namespace, code(name)),
        Markup("{} {}").format(word(_tone(event), event.reason), inline(event.message)),
    )


def _tone(event: Event) -> str:
    return "none" if event.type == "Normal" else "refused" if event.reason == "FailedCreate" else "open"


@needs_cluster
def pod_table(
    lab: LabSession,
    namespaces: tuple[str, ...],
    *,
    labels: str | None = None,
    names: tuple[str, ...] = (),
) -> mo.Html:
    """Pods with their phase and, while they wait, what the scheduler says; only the named ones if names are given."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    pods = [
        (name, pod)
        for name in namespaces
        for pod in view.pods(name, labels=labels)
        if not names or pod.name in names
    ]
    if not pods:
        return note("No pod yet.")
    return card(
        table(("pod", "phase", "node", "the scheduler says"), [_pod(*pair) for pair in pods], kind="events")
    )


@needs_cluster
def job_table(lab: LabSession, namespace: str) -> mo.Html:
    """Jobs with how many of their pods run, wait and have finished, and why the waiting ones wait."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    jobs = view.list("Job", namespace)
    if not jobs:
        return note("No Job yet.")
    pods = view.pods(namespace)
    return card(
        table(
            ("job", "finished", "running", "waiting", "the scheduler says"), [_job(job, pods) for job in jobs]
        )
    )


def _job(job: Resource, pods: list[Pod]) -> tuple[str, str, str, str, str]:
    own = [pod for pod in pods if pod.labels.get("batch.kubernetes.io/job-name") == job.name]
    waiting = [pod for pod in own if pod.phase == "Pending" and not pod.node]
    running = sum(pod.phase == "Running" for pod in own)
    done, wanted = job.path("status.succeeded", 0), job.path("spec.completions", 1)
    state = word("fits" if done >= wanted else "open", f"{done} of {wanted}")
    says = next((words for words in map(_says, waiting) if words), "")
    return code(job.name), state, str(running), str(len(waiting)), inline(says)


def _says(pod: Pod) -> str:
    scheduled = pod.conditions("PodScheduled")
    return scheduled.message if scheduled and not scheduled.is_true else ""


def _pod(namespace: str, pod: Pod) -> tuple[str, str, str, str]:
    tone = {"Running": "PASS", "Succeeded": "PASS", "Pending": "open", "Failed": "refused"}
    phase = "Terminating" if pod.is_terminating else pod.phase
    return (
        code(f"{namespace}/{pod.name}"),
        word(tone.get(phase, "none"), phase),
        pod.node or "none yet",
        inline(_says(pod)),
    )
