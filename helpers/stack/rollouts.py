"""The assistant's Rollout: releasing a candidate, where it stands, what its gate said, and what overrides a gate.

What Argo Rollouts knows of an analysis Job is whether it failed. Why it failed is the termination message of
the Job's pod, which the eval runner leaves; `Verdict` reads both.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from helpers.errors import Forbidden, StepMissing, WaitTimeout
from helpers.stack import assistant, releases

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Resource
    from helpers.progress import Progress

NAMESPACE, ROLLOUT = assistant.NAMESPACE, assistant.ROLLOUT
HASH = "rollouts-pod-template-hash"
TRIED = "course/tried-at"
BREAK_GLASS, BREAK_GLASS_LABEL = "llm-break-glass", "course/break-glass"
RELEASE_S = 300.0
POLL_S = 0.5
SEEN_S = 30.0


@dataclass(frozen=True)
class Standing:
    """Where the Rollout is.

    Args:
        stable, current: hashes of the revision that users are promised and of the newest one.
        weight: the share of pods, in percent, that the newest revision has.
        is_stopped: the newest revision was aborted, and the old one is whole again.
    """

    release: str
    stable: str
    current: str
    phase: str
    message: str = ""
    weight: int = 0
    is_stopped: bool = False

    @property
    def is_through(self) -> bool:
        return self.phase == "Healthy" and self.stable == self.current

    @property
    def is_decided(self) -> bool:
        """Through, or stopped with the old revision whole again."""
        return self.is_through or (self.is_stopped and self.phase == "Degraded")


@dataclass(frozen=True)
class GateRun:
    """One analysis of one revision, and what its Job's pod left."""

    name: str
    uid: str
    phase: str
    revision: str
    job: str = ""
    said: Mapping[str, Any] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def verdict(self) -> str:
        """pass, quality, infrastructure, configuration; empty where nothing was said."""
        return str(self.said.get("verdict") or "")


def rollout(view: ClusterView) -> Resource:
    """The Rollout.

    Raises:
        ObjectMissing: there is none.
    """
    return view.get("Rollout", ROLLOUT, NAMESPACE)


def standing(view: ClusterView) -> Standing:
    """Where the Rollout is now, by its own status.

    Raises:
        ObjectMissing: there is no Rollout.
    """
    found = rollout(view)
    status = found.path("status", {}) or {}
    observed = str(status.get("observedGeneration", "")) == str(found.metadata.get("generation", ""))
    return Standing(
        release=found.path("spec.template.metadata.annotations", {}).get(releases.ANNOTATION, ""),
        stable=str(status.get("stableRS") or ""),
        current=str(status.get("currentPodHash") or ""),
        phase=str(status.get("phase") or "") if observed else "Progressing",
        message=str(status.get("message") or ""),
        weight=_share(status),
        is_stopped=observed and bool(status.get("abort")),
    )


def _share(status: Mapping[str, Any]) -> int:
    """The newest revision's part of all pods, in percent: without a mesh that is its weight."""
    pods = int(status.get("replicas") or 0)
    return round(100 * int(status.get("updatedReplicas") or 0) / pods) if pods else 0


def gate_runs(view: ClusterView) -> list[GateRun]:
    """The analyses of the Rollout's revisions, the oldest first."""
    runs = [
        item
        for item in view.list("AnalysisRun", NAMESPACE)
        if any(owner.get("name") == ROLLOUT for owner in item.metadata.get("ownerReferences") or [])
    ]
    runs.sort(key=lambda item: str(item.metadata.get("creationTimestamp", "")))
    return [_gate_run(view, item) for item in runs]


def _gate_run(view: ClusterView, run: Resource) -> GateRun:
    job = ""
    for result in run.path("status.metricResults", []) or []:
        for measured in result.get("measurements") or []:
            job = (measured.get("metadata") or {}).get("job-name", job)
    said, code = _said(view, job) if job else ({}, None)
    return GateRun(
        run.name,
        run.uid or "",
        str(run.path("status.phase", "") or ""),
        run.labels.get(HASH, ""),
        job,
        said,
        code,
    )


def _said(view: ClusterView, job: str) -> tuple[Mapping[str, Any], int | None]:
    """What the Job's pod left when it ended, and its exit code."""
    for pod in view.pods(NAMESPACE, labels=f"batch.kubernetes.io/job-name={job}"):
        for status in pod.path("status.containerStatuses", []) or []:
            ended = (status.get("state") or {}).get("terminated")
            if ended:
                return _object(str(ended.get("message") or "")), ended.get("exitCode")
    return {}, None


def _object(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def gate_of(view: ClusterView, revision: str) -> GateRun | None:
    """The newest analysis of one revision; None where there is none."""
    return next((run for run in reversed(gate_runs(view)) if run.revision == revision), None)


# Releasing


def release(cluster: Cluster, name: str) -> str:
    """Put a release into the Rollout's pod template, as a revision of its own even where it was tried before.

    Returns the release that was there before.

    Raises:
        StepMissing: there is no Rollout.
        KeyError: there is no such release.
    """
    found = cluster.view().find("Rollout", ROLLOUT, NAMESPACE)
    if found is None:
        raise StepMissing("The assistant is not there: course start 07")
    template = releases.with_release(deepcopy(found.raw["spec"]["template"]), name, assistant.CONTAINER)
    template["metadata"]["annotations"][TRIED] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    before = (found.path("spec.template.metadata.annotations", {}) or {}).get(releases.ANNOTATION, "")
    cluster.patch(
        "Rollout",
        ROLLOUT,
        {
            "spec": {
                "template": {
                    "metadata": template["metadata"],
                    "spec": {"containers": template["spec"]["containers"]},
                }
            }
        },
        NAMESPACE,
    )
    return str(before)


def wait_decided(
    cluster: Cluster,
    *,
    on_progress: Progress = lambda line: None,
    should_stop: Callable[[], bool] = lambda: False,
    timeout_s: float = RELEASE_S,
) -> Standing:
    """Until the newest revision is through, or stopped and the old one whole again.

    Raises:
        WaitTimeout: it is neither by then.
    """
    until = time.monotonic() + timeout_s
    while True:
        now = standing(cluster.view())
        if now.is_decided:
            return now
        if should_stop() or time.monotonic() > until:
            raise WaitTimeout(
                f"the release is neither through nor stopped: {now.phase} {now.message}".strip(),
                next_command=f"kubectl describe rollout {ROLLOUT} -n {NAMESPACE}",
            )
        on_progress(f"{now.release}: {now.phase}, weight {now.weight} {now.message}".strip())
        time.sleep(POLL_S)


def promote(cluster: Cluster) -> None:
    """Let the newest revision through whatever its gate says: all its steps are skipped, an abort is undone.

    As `kubectl argo rollouts retry` and `promote --full` do it.
    """
    patch = {"status": {"abort": False, "abortedAt": None, "promoteFull": True}}
    cluster.patch("Rollout", ROLLOUT, patch, NAMESPACE, subresource="status")


def back_to(cluster: Cluster, name: str) -> None:
    """A release that users had already, without asking the gate again."""
    before = standing(cluster.view()).current
    release(cluster, name)
    promote_next(cluster, before)


def promote_next(cluster: Cluster, before: str) -> None:
    """Promote the revision that follows the one with this hash, as soon as the controller knows it.

    A promotion that comes before the controller has seen the revision is forgotten with the old one.
    """

    def has_seen(view: ClusterView) -> bool:
        return standing(view).current not in ("", before)

    with suppress(WaitTimeout):  # a change that makes no other revision needs none
        cluster.wait_until("the controller has seen the revision", has_seen, timeout_s=SEEN_S)
    promote(cluster)


def roll_out(cluster: Cluster, *, judged: bool = False) -> bool:
    """Give the pod template the checksums of the ConfigMaps as they are; whether that replaces any pods.

    Without a Rollout nothing happens.

    Args:
        judged: by the Rollout's own steps. Otherwise all pods of the release that users have are replaced at
            once: telemetry changes no answer. One that its gate has stopped, or still judges, is dropped.
    """
    view = cluster.view()
    found = view.find("Rollout", ROLLOUT, NAMESPACE)
    if found is None:
        return False
    wanted = assistant.checksums(view)
    there = found.path("spec.template.metadata.annotations", {}) or {}
    if wanted.items() <= there.items():
        return False
    template = {} if judged else _of_stable(view)
    annotations = {**template.get("metadata", {}).get("annotations", {}), **wanted}
    template = {**template, "metadata": {"annotations": annotations}}
    before = str(found.path("status.currentPodHash", "") or "")
    cluster.patch("Rollout", ROLLOUT, {"spec": {"template": template}}, NAMESPACE)
    if not judged:
        promote_next(cluster, before)
    return True


def _of_stable(view: ClusterView) -> dict[str, Any]:
    """What makes a pod template the release that users have, where the newest revision is another; else nothing."""
    now = standing(view)
    if now.stable in ("", now.current):
        return {}
    for item in view.list("ReplicaSet", NAMESPACE, labels=f"{HASH}={now.stable}"):
        template = item.path("spec.template", {})
        name = (template["metadata"].get("annotations") or {}).get(releases.ANNOTATION)
        return {
            "metadata": {"annotations": {releases.ANNOTATION: name}},
            "spec": {"containers": deepcopy(template["spec"]["containers"])},
        }
    return {}


# Break-glass


@dataclass(frozen=True)
class BrokenGlass:
    """A gate that somebody overrode: for which ticket, by whose word, why, and against which figures."""

    revision: str
    release: str
    ticket: str
    approver: str
    why: str
    figures: Mapping[str, Any]
    run: str
    run_uid: str
    at: str = ""

    @property
    def name(self) -> str:
        return f"{BREAK_GLASS}-{self.revision}"

    def manifest(self) -> dict[str, Any]:
        """The record where an auditor looks for it."""
        data = {key: str(value) for key, value in vars(self).items() if key != "figures"}
        return {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name,
                "namespace": NAMESPACE,
                "labels": {"app": ROLLOUT, BREAK_GLASS_LABEL: self.revision},
            },
            "immutable": True,
            "data": data | {"figures": json.dumps(dict(self.figures), sort_keys=True)},
        }


def records(view: ClusterView) -> list[BrokenGlass]:
    """Every override that left a record."""
    found = []
    for item in view.list("ConfigMap", NAMESPACE, labels=BREAK_GLASS_LABEL):
        data = item.path("data", {}) or {}
        fields = {key: str(data.get(key, "")) for key in BrokenGlass.__dataclass_fields__ if key != "figures"}
        found.append(BrokenGlass(**fields, figures=_object(str(data.get("figures", "")))))
    return found


def break_glass(cluster: Cluster, *, ticket: str, approver: str, why: str) -> BrokenGlass:
    """Let the stopped revision through, and leave a record before anything moves.

    Raises:
        StepMissing: no revision is stopped, or nobody is named.
    """
    for name, value in (("ticket", ticket), ("approver", approver), ("why", why)):
        if not value.strip():
            raise StepMissing(f"A broken glass has a {name}.")
    view = cluster.view()
    now = standing(view)
    run = gate_of(view, now.current)
    if not now.is_stopped or run is None:
        raise StepMissing(
            f"No release is stopped by its gate: the newest one is {now.phase or 'unknown'}.",
            next_command=f"course release {releases.BAD[0]}",
        )
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    record = BrokenGlass(
        now.current,
        now.release,
        ticket.strip(),
        approver.strip(),
        why.strip(),
        run.said,
        run.name,
        run.uid,
        at,
    )
    cluster.create(record.manifest())
    with suppress(Forbidden):  # in a class learners write no events; the record is what counts
        cluster.create(_event(rollout(view), record))
    promote(cluster)
    return record


def _event(about: Resource, record: BrokenGlass) -> dict[str, Any]:
    """What `kubectl describe rollout` shows of it."""
    failed = ", ".join(record.figures.get("failed") or []) or "no figures"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": f"{ROLLOUT}.", "namespace": NAMESPACE},
        "involvedObject": {
            "apiVersion": about.api_version,
            "kind": "Rollout",
            "namespace": about.namespace,
            "name": about.name,
            "uid": about.uid,
        },
        "type": "Warning",
        "reason": "BreakGlass",
        "message": f"{record.ticket}, {record.approver}: {record.why} (against: {failed})"[:1000],
        "source": {"component": "course"},
        "firstTimestamp": record.at,
        "lastTimestamp": record.at,
        "count": 1,
    }
