"""A verdict about pods that cannot run for want of an image says so, in every lab.

A check that finds nobody behind a Service, or no pod Ready, cannot know why. The view knows about
whose pods it was asked: if one of those waits for an image, that is the reason, and its cure the
next step. An image of the course that a node lacks is brought in by starting the lab; one that nobody
knows is a name that the learner can correct. The status stays what it was: nothing serves yet.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from helpers.errors import LabError
from helpers.grading.verdict import Verdict
from helpers.stack.images import PullFault, bringing, pull_faults

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.grading.declare import Check

_WHY = "A container starts from an image: until the node has it, there is no process that could be ready or answer."


def or_missing_image(verdict: Verdict, check: Check, view: ClusterView) -> Verdict:
    """The verdict, or in its place that an image is missing, where that is why its pods do not run."""
    try:
        fault = _fault(view)
    except LabError:
        return verdict  # what was seen stands; why is asked again at the next look
    if fault is None:
        return verdict
    observed = f"pod {fault.pod} has no image {fault.image} ({fault.reason})"
    name = next((name for name, image in view.profile.images.items() if image == fault.image), None)
    if name is None:
        return replace(
            verdict,
            observed=f"{observed}: no registry has it, so its name is misspelled or it is private",
            why_text=_WHY,
            hint_text="Compare the name and the tag, letter by letter, with the image you meant.",
            next_command=f"kubectl describe pod {fault.pod} -n {fault.namespace}",
        )
    return replace(
        verdict,
        expected=verdict.expected or check.criterion,
        observed=f"{observed}. {_on_its_way()}".strip(),
        why_text=_WHY,
        hint_text="",
        next_command=f"course start {check.lab}",
    )


def _fault(view: ClusterView) -> PullFault | None:
    asked = set(view.asked_pods)
    for namespace, name in set(view.asked_services):
        service = view.find("Service", name, namespace)
        chosen = service.path("spec.selector", {}) if service else {}
        if chosen:
            asked.add((namespace, ",".join(f"{key}={value}" for key, value in sorted(chosen.items()))))
    for namespace, labels in sorted(asked):
        for fault in pull_faults(view, namespace, labels=labels or None):
            return fault
    return None


def _on_its_way() -> str:
    now = bringing()
    if now is None or not now.is_running:
        return ""
    return f"It is being loaded ({now.elapsed_s:.0f} s so far): the kubelet tries again by itself."
