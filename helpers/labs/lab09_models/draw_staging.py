"""What lab 09 draws of staging and versions: names in its texts, what was measured, and who answered when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import altair as alt
import marimo as mo
import pandas as pd

from helpers.errors import LabError
from helpers.labs.draw_witness import Panels
from helpers.labs.draw_witness import run_or_stop as run_or_stop
from helpers.labs.lab09_models import witness_controller, witness_staging
from helpers.labs.lab09_models.ground import FILL, NAMESPACE, READERS, RELEASES, WAYS
from helpers.labs.lab09_models.run import BOOK, run, run_all
from helpers.labs.lab09_models.witness_staging import VERSIONS
from helpers.labs.witnessing import NoRecord
from helpers.notebook import panel
from helpers.notebook.charts import AMBER, BLUE, GREY, TEAL, look
from helpers.notebook.html import code, course, inline, note, spinner, table
from helpers.notebook.session import LabSession, needs_cluster
from helpers.stack import models

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.progress import Progress

_PANELS = Panels(BOOK, run)
MIB = 2**20
MOST_PODS = 5
READY_S = 180.0
LONGEST_WORDS = 320
# Events that say no more than the status does.
STATUS_AGAIN = ("Error: ErrImagePull", "Error: ImagePullBackOff")
KINDS = {
    "emptyDir": "a volume of the pod's own",
    "memory": "the pod's own memory",
    "claim": "a claim",
    "image": "an image volume",
    "container": "the server's own image",
}
COLOURS = dict(zip(WAYS, (AMBER, BLUE, TEAL, GREY), strict=True))
PHASES = ("before", "while both run", "after")


# The page's texts


def named(lab: LabSession) -> LabSession:
    """The session with more names for manifests: `$STORAGE_CLASS`, `$MODELS`, `$MODEL_V1` and `$MODEL_V2`."""
    if lab.cluster is None or lab.profile is None:
        return lab
    try:
        found = models.names(lab.cluster.view())
    except LabError:
        found = {}
    return replace(lab, images={**lab.images, "storage_class": lab.profile.storage_class, **found})


@needs_cluster
def preview(lab: LabSession, text: str) -> mo.Html:
    """What these objects would change."""
    return panel.preview(named(lab), text)


def apply_panel(lab: LabSession, text: str, button: Any) -> Any:
    """A button that applies these objects, and the way back."""
    return panel.apply_panel(named(lab), text, button)


@needs_cluster
def catalogue(lab: LabSession) -> Any:
    """The versions of the model, by digest."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    if view.find("ConfigMap", models.CATALOGUE, NAMESPACE) is None:
        return note("The list appears when the lab was started: it lies in the modelcar's image.")
    rows = [
        (item.number, code(item.image), code(f"$MODEL_V{item.number}"))
        for item in models.versions(view).values()
    ]
    return course(table(("version", "by digest", "in a text of this page"), rows), live=True)


# Witnesses


def witness_panel(lab: LabSession, name: str, buttons: Any) -> Any:
    """Buttons that run a witness in the background, and what its record says."""
    return _PANELS.panel(lab, name, buttons)


def seen_by(cluster: Cluster, name: str) -> Mapping[str, Any]:
    """What a witness saw; empty where it has no record that counts."""
    return _PANELS.seen(cluster, name)


def staging_witnesses(lab: LabSession) -> Any:
    """Where a solution runs: the first half's witnesses look that have not looked, and then the readers are waited for.

    Before the second half begins: with its InferenceService beside them, one more model server would run.
    """
    if lab.cluster is None or not lab.pressed:
        return note("")
    cluster = lab.cluster
    with spinner("Witnesses") as say:
        for name in (*WAYS, RELEASES[1]):
            cluster.scale("Deployment", name, 0, NAMESPACE)
        say("waiting until the claim is filled")
        cluster.wait_until(f"Job {FILL}", _is_filled, timeout_s=READY_S)
        _look(cluster, witness_staging.WITNESSES, say)
        for name in (*READERS, RELEASES[0]):
            cluster.wait_rollout("Deployment", name, NAMESPACE, READY_S)
    return note("Every witness of this half has looked.")


def controller_witnesses(lab: LabSession) -> Any:
    """Where a solution runs: the second half's witnesses look that have not looked."""
    if lab.cluster is None or not lab.pressed:
        return note("")
    with spinner("Witnesses") as say:
        _look(lab.cluster, witness_controller.WITNESSES, say)
    return note("Every witness of this half has looked.")


def _look(cluster: Cluster, names: Iterable[str], say: Progress) -> None:
    view = cluster.view()
    run_all(cluster, [name for name in names if not _has_looked(view, name)], on_progress=say)


def _is_filled(view: ClusterView) -> bool | None:
    """Whether the Job has brought the model to the claim."""
    return bool(view.get("Job", FILL, NAMESPACE).path("status.succeeded", 0)) or None


def _has_looked(view: ClusterView, name: str) -> bool:
    try:
        return not BOOK.record(view, name).error
    except NoRecord:
        return False


# What was measured


@needs_cluster
def measured(lab: LabSession) -> Any:
    """What the witnesses saw in the pods of each way, a line each."""
    assert lab.cluster is not None
    seen = {way: seen_by(lab.cluster, way) for way in WAYS}
    if not any(seen.values()):
        return note("The table fills as the four ways are looked at.")
    head = (
        "way",
        "the model lies in",
        "MiB of each pod's own",
        "number of the file",
        "a write",
        "users",
        "it said",
    )
    return course(table(head, [_measured_row(way, seen[way]) for way in WAYS]), live=True)


def _measured_row(way: str, seen: Mapping[str, Any]) -> list[Any]:
    pods = seen.get("pods") or []
    if not pods or "own" not in pods[0]:
        return [code(way), inline(str(seen.get("problem") or "not looked at yet")), "", "", "", "", ""]
    first = pods[0]
    where = (
        "a neighbour's root"
        if str(first["link"]).startswith("/proc/")
        else KINDS.get(first["kind"], first["kind"])
    )
    users = str(first["uid"]) + (f", sidecar {first['owner']}" if first.get("owner") is not None else "")
    own = ", ".join(f"{pod['own'] / MIB:.0f}" for pod in pods)
    files = ", ".join(str(pod.get("inode", "")).partition(":")[2] for pod in pods)
    return [code(way), where, own, files, first.get("write", ""), users, first.get("answer", "")]


@needs_cluster
def copies_picture(lab: LabSession) -> Any:
    """What one to five pods on a node take beside its image store, by way, from what was measured."""
    assert lab.cluster is not None
    seen = {way: seen_by(lab.cluster, way).get("pods") or [] for way in WAYS}
    costs = {way: cost for way, pods in seen.items() if (cost := cost_of(way, pods)) is not None}
    if not costs:
        return note("The picture appears when a way was looked at.")
    return copies_chart(costs)


def cost_of(way: str, pods: list[Mapping[str, Any]]) -> tuple[float, float] | None:
    """What a way takes once, and again for each pod, in MiB; None where it was not measured."""
    if not pods or "own" not in pods[0]:
        return None
    once = pods[0].get("bytes", 0) / MIB if pods[0]["kind"] == "claim" else 0.0
    return once, max(pod["own"] for pod in pods) / MIB


def copies_chart(costs: Mapping[str, tuple[float, float]]) -> Any:
    """MiB on a node's disk beside the image store, for one to five pods."""
    frame = pd.DataFrame(
        [
            (way, pods, round(once + each * pods))
            for way, (once, each) in costs.items()
            for pods in range(1, MOST_PODS + 1)
        ],
        columns=["way", "pods", "MiB"],
    )
    colour = alt.Color(
        "way:N",
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        legend=alt.Legend(orient="top", title=None),
    )
    bars = (
        alt.Chart(frame)
        .mark_bar()
        .encode(
            x=alt.X("pods:O", title="pods on one node", axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("way:N", sort=list(COLOURS)),
            y=alt.Y("MiB:Q", title="MiB beside the image store"),
            color=colour,
            tooltip=["way", "pods", "MiB"],
        )
    )
    return look(bars.properties(height=190))


# What the kubelet says


@needs_cluster
def reader_words(lab: LabSession) -> Any:
    """Status and newest warning of each reader's pod, side by side."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    rows = []
    for name in READERS:
        for pod in view.pods(NAMESPACE, labels=f"app={name}"):
            reasons = [state.reason for state in pod.container_states if state.reason]
            state = "Ready" if pod.is_ready else (reasons[0] if reasons else pod.phase)
            rows.append((code(name), state, _newest_warning(view, pod.name)))
    if not rows:
        return note("The table appears when the readers are applied.")
    return course(table(("reader", "its status says", "its newest warning says"), rows), live=True)


def _newest_warning(view: ClusterView, pod: str) -> str:
    found = [item for item in view.events(NAMESPACE, involved=("Pod", pod)) if item.type == "Warning"]
    told = [item for item in found if "Back-off" not in item.message and item.message not in STATUS_AGAIN]
    newest = max(told or found, key=lambda item: item.last_seen, default=None)
    return f"{newest.reason}: {newest.message}"[:LONGEST_WORDS] if newest else ""


# Versions


@needs_cluster
def versions_picture(lab: LabSession) -> Any:
    """Who answered behind the Service before version 2 came, beside it, and after it was taken back."""
    assert lab.cluster is not None
    seen = seen_by(lab.cluster, VERSIONS)
    if "after" not in seen:
        return note("The picture appears when version 2 was beside version 1, and taken back.")
    return mo.vstack([versions_chart(seen), course(inline(versions_words(seen)), live=True)], gap=0)


def versions_chart(seen: Mapping[str, Any]) -> Any:
    """The share of each version in three phases."""
    names = {
        str(seen["one"]["pods"][0]["prompt"]): "version 1",
        str(seen["two"]["pods"][0]["prompt"]): "version 2",
        "None": "nobody",
    }
    frame = pd.DataFrame(
        [
            (phase, names.get(length, "another"), count)
            for phase, key in zip(PHASES, ("before", "during", "after"), strict=True)
            for length, count in seen[key].items()
        ],
        columns=["phase", "who", "answers"],
    )
    colour = alt.Color(
        "who:N",
        scale=alt.Scale(
            domain=["version 1", "version 2", "nobody", "another"], range=[BLUE, TEAL, GREY, AMBER]
        ),
        legend=alt.Legend(orient="top", title=None),
    )
    bars = (
        alt.Chart(frame)
        .mark_bar(height=20)
        .encode(
            y=alt.Y("phase:N", sort=list(PHASES), title=None),
            x=alt.X("answers:Q", stack="normalize", title="share of the answers", axis=alt.Axis(format="%")),
            color=colour,
            tooltip=["phase", "who", "answers"],
        )
    )
    return look(bars.properties(height=120))


def versions_words(seen: Mapping[str, Any]) -> str:
    """What each version says of itself, and what was lost on the way."""
    one, two, callers = seen["one"]["pods"][0], seen["two"]["pods"][0], seen["callers"]
    return (
        f"“What is your name?” Version 1: *{one['answer']}* Version 2: *{two['answer']}* "
        f"{callers['answered']} other questions were answered meanwhile, and **{callers['lost'] or 'none'}** lost."
    )
