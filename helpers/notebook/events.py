"""What the cluster says about its objects: pods and events, as tables that a refresh keeps current."""

from __future__ import annotations

from typing import TYPE_CHECKING

import marimo as mo

from helpers.notebook.html import card, course, esc, inline, table, word
from helpers.notebook.session import LabSession, needs_cluster

if TYPE_CHECKING:
    from helpers.cluster.resource import Event, Pod


@needs_cluster
def event_table(
    lab: LabSession,
    namespaces: tuple[str, ...],
    *_triggers: object,
    reasons: tuple[str, ...] = ("FailedCreate", "FailedScheduling", "Scheduled"),
    last: int = 6,
) -> mo.Html:
    """The latest events of some namespaces: who reported, about what, in its own words."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    found: list[tuple[str, Event]] = [
        (name, event) for name in namespaces for event in view.events(name) if event.reason in reasons
    ]
    if not found:
        return course("<small>No such event yet.</small>")
    found.sort(key=lambda pair: pair[1].last_seen, reverse=True)
    rows = [_event(name, event) for name, event in found[:last]]
    return card(table(("when", "who reported", "about", "in its own words"), rows))


def _event(namespace: str, event: Event) -> tuple[str, str, str, str]:
    kind, name = event.involved
    source = event.path("reportingComponent") or event.path("source.component") or "?"
    said = f"{word(_tone(event), event.reason)} {inline(event.message)}"
    return (
        esc(event.last_seen[11:19]),
        esc(source),
        f"{esc(kind)}<br><code>{esc(namespace)}/{esc(name)}</code>",
        said,
    )


def _tone(event: Event) -> str:
    return "none" if event.type == "Normal" else "refused" if event.reason == "FailedCreate" else "open"


@needs_cluster
def pod_table(
    lab: LabSession, namespaces: tuple[str, ...], *_triggers: object, labels: str | None = None
) -> mo.Html:
    """Pods with their phase and, while they wait, what the scheduler says."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    pods = [(name, pod) for name in namespaces for pod in view.pods(name, labels=labels)]
    if not pods:
        return course("<small>No pod yet.</small>")
    return card(table(("pod", "phase", "node", "the scheduler says"), [_pod(*pair) for pair in pods]))


def _pod(namespace: str, pod: Pod) -> tuple[str, str, str, str]:
    scheduled = pod.conditions("PodScheduled")
    says = scheduled.message if scheduled and not scheduled.is_true else ""
    tone = {"Running": "PASS", "Succeeded": "PASS", "Pending": "open", "Failed": "refused"}
    phase = "Terminating" if pod.is_terminating else pod.phase
    return (
        f"<code>{esc(namespace)}/{esc(pod.name)}</code>",
        word(tone.get(phase, "none"), phase),
        esc(pod.node or "none yet"),
        inline(says),
    )
