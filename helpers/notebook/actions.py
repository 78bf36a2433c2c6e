"""Panels of buttons that do one thing to the cluster, and say what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import marimo as mo
from markupsafe import Markup

from helpers.notebook.html import card, code, course, inline, note, spinner, with_outcome, word
from helpers.notebook.session import LabSession, needs_cluster, waiting_card
from helpers.stack import gpu

_FOREIGN = (
    "Only an administrator can change the shape of this cluster's cards (in the GPU operator: the device plugin's "
    "configuration, or `nvidia.com/mig.config` on the node). Ask for the right shape anyway: here a request also counts "
    "while it waits for a shape that no node offers. You will just not see it start."
)

_SHARED = (
    "This cluster is shared: a taint on its node would keep out everybody, so only your instructor sets the guard. "
    "Write the toleration anyway, apply both pods, and see that `model-server` is placed."
)


def shape_panel(lab: LabSession, buttons: Mapping[str, Any]) -> Any:
    """The administrator's switch: one button for each shape; on another cluster, who can change it."""
    if lab.cluster is None or lab.profile is None:
        return waiting_card(lab)
    if lab.profile.name != "embedded" or lab.cluster.scope.suffix:
        return card(inline(_FOREIGN))
    chosen = next((shape for shape, button in buttons.items() if lab.asked(button, by_hand=True)), None)
    row = mo.hstack(list(buttons.values()), justify="start")
    return with_outcome(row, _changed_shape(lab, chosen) if chosen else None)


@needs_cluster
def _changed_shape(lab: LabSession, shape: str) -> mo.Html:
    with spinner(f"course gpu --shape {shape}", "waiting for the node to advertise it"):
        gpu.change_shape(shape)
    done = word("PASS", "done")
    return course(Markup("{} {}").format(done, code(f"course gpu --shape {shape}")), live=True)


def guard_panel(lab: LabSession, buttons: Mapping[str, Any]) -> Any:
    """Two buttons, `up` and `down`. Raise the taint that guards GPU nodes, or take it down; the commands that do the same."""
    if lab.cluster is None:
        return waiting_card(lab)
    if lab.cluster.scope.suffix:
        return card(inline(_SHARED))
    pressed = next((way for way, button in buttons.items() if lab.asked(button, by_hand=True)), None)
    return with_outcome(mo.hstack(list(buttons.values()), justify="start"), _guard(lab, pressed))


@needs_cluster
def _guard(lab: LabSession, way: str | None) -> mo.Html:
    assert lab.cluster is not None
    if way:
        gpu.set_guard(lab.cluster, on=way == "up")
    nodes = gpu.guarded(lab.cluster.view().nodes())
    state = word("open", "guard up") if nodes else word("none", "no guard")
    command = "kubectl taint nodes --all nvidia.com/gpu=present:NoSchedule" + ("-" if nodes else "")
    return course(Markup("{} <small>In a terminal: {}</small>").format(state, code(command)), live=True)


def delete_panel(lab: LabSession, kind: str, name: str, namespace: str, button: Any) -> Any:
    """A button that deletes one object."""

    def delete() -> str:
        assert lab.cluster is not None
        was_there = lab.cluster.delete(kind, name, namespace, wait_s=30, grace_s=1)
        return f"{name} is gone" if was_there else f"there is no {name}"

    return with_outcome(button, _done(lab, delete) if lab.asked(button, by_hand=True) else None)


@needs_cluster
def _done(lab: LabSession, action: Callable[[], str]) -> mo.Html:
    return course(Markup("{} {}").format(word("PASS", "done"), action()), live=True)


def start_panel(lab: LabSession, button: Any) -> Any:
    """The button that puts the lab's start state in place, as `course start` does."""
    if lab.cluster is None:
        return note("This part needs a cluster.")
    return with_outcome(button, _started(lab) if lab.asked(button) else None)


@needs_cluster
def _started(lab: LabSession) -> mo.Html:
    from helpers.grading.lifecycle import start
    from helpers.labs.registry import load_lab

    assert lab.cluster is not None
    with spinner(f"course start {lab.id}") as say:
        done = start(load_lab(lab.id), lab.cluster, say)
    items = Markup("").join(Markup("<li>{}</li>").format(line) for line in done)
    return course(Markup("{}<ul>{}</ul>").format(word("PASS", "in place"), items), live=True)
