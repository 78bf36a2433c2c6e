"""The exercise's panel: what an edit would change, the Apply button, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers.errors import HalfReplaced, Refused, WaitFailed
from helpers.notebook.html import (
    card,
    code,
    course,
    has_button,
    inline,
    next_step,
    spinner,
    table,
    with_outcome,
    word,
)
from helpers.notebook.reset import objects_of, reset_part
from helpers.notebook.session import LabSession, needs_cluster, waiting_card

if TYPE_CHECKING:
    from helpers.cluster import Change

_SAYS = {
    "create": "would be created",
    "change": "would change",
    "none": "as it is",
    "refused": "refused",
    "replace": "would be replaced",
    "wait": "not yet",
}
_BECAME = {
    "created": "created",
    "changed": "changed",
    "unchanged": "as it was",
    "replaced": "deleted and created anew",
}
_SHOWN_FIELDS = 12
_LET_GO = "**Reset this part**, where the pod was applied, deletes it too."
_NO_NAMESPACE = "no Namespace named"


def apply_button(label: str = "Apply to the cluster", *, kind: Any = "success") -> Any:
    """The button of one exercise; define it in the hidden cell at the end of the notebook, so that no edit makes it anew."""
    return mo.ui.run_button(label=label, kind=kind)


def apply_panel(
    lab: LabSession,
    manifest: str,
    button: Any,
    *,
    namespaces: Sequence[str] = (),
    first: str = "",
) -> Any:
    """Apply button, what became of it, and the way back, of one exercise; its `preview` is a cell of its own.

    Args:
        manifest: the learner's YAML; `$TOOLBOX` and the like stand for the cluster's images.
        button: from `apply_button`; nothing reaches the cluster unless it was pressed.
        namespaces: apply the same manifest once in each of these.
        first: what was there before this part: the way back puts it back.
    """
    if lab.cluster is None:
        return waiting_card(lab)
    row = mo.hstack([button, reset_part(lab, manifest, namespaces=namespaces, first=first)], justify="start")
    return with_outcome(row, applied(lab, manifest, namespaces=namespaces) if lab.asked(button) else None)


@needs_cluster
def preview(lab: LabSession, manifest: str, *, namespaces: Sequence[str] = ()) -> mo.Html:
    """What the manifest would change: the API server's own answer to a dry run."""
    assert lab.cluster is not None
    changes = lab.cluster.diff(objects_of(lab, manifest, namespaces), replacing=True)
    head = Markup("<small>Preview: the API server's answer to a dry run. Nothing has been changed.</small>")
    first = _comes_first(lab, [change.reason for change in changes])
    return card(head + Markup("").join(map(_change, changes)) + first, live=True)


@needs_cluster
def applied(lab: LabSession, manifest: str, *, namespaces: Sequence[str] = ()) -> mo.Html:
    """Apply the manifest, object by object, and say what became of each."""
    with spinner("Applying") as say:
        said = [_apply(lab, item, say) for item in objects_of(lab, manifest, namespaces)]
    lines = Markup("").join(Markup("<div>{}</div>").format(line) for line in said)
    return course(lines + _comes_first(lab, said), live=True)


def _comes_first(lab: LabSession, said: Sequence[str]) -> Markup:
    """Where a namespace of the lab's start state is missing: how the page puts that state in place."""
    command = f"course start {lab.id}"
    if not has_button(command) or not any(_NO_NAMESPACE in line for line in said):
        return Markup()
    return Markup("<div>This lab begins with its namespaces: {}.</div>").format(inline(next_step(command)))


def _apply(lab: LabSession, item: dict[str, Any], say: Callable[[str], None]) -> Markup:
    assert lab.cluster is not None
    named = Markup("{} {}").format(item["kind"], code(item["metadata"]["name"]))
    say(f"{item['kind']} {item['metadata']['name']}")
    try:
        result = lab.cluster.apply_or_replace(item)
    except Refused as refusal:
        return Markup("{} {} {}").format(word("refused"), named, inline(refusal))
    except (HalfReplaced, WaitFailed) as problem:
        return Markup("{} {} {}").format(word("refused", "not done"), named, inline(problem))
    return Markup("{} {} {}").format(word("PASS", "applied"), named, _BECAME[result.action])


def _change(change: Change) -> Markup:
    early = change.action == "refused" and change.reason.startswith(_NO_NAMESPACE)
    action = "wait" if early else change.action
    head = Markup('<div class="row">{}<span>{} {}{}</span></div>').format(
        word(action, _SAYS.get(action, action)),
        change.kind,
        code(change.name),
        Markup(" in {}").format(code(change.namespace)) if change.namespace else "",
    )
    if action == "replace":
        anew = Markup("<small>Deleted and created anew: {}.</small>").format(inline(change.reason))
        return head + anew + _fields(change)
    if action in ("refused", "wait"):
        held = Markup("<div>{}</div>").format(inline(_LET_GO)) if change.held_by else Markup()
        return head + Markup("<div>{}</div>").format(inline(change.reason)) + held
    return head + _fields(change)


def _fields(change: Change) -> Markup:
    """The fields that differ; those of a new object are folded, for they are all that is written."""
    if not change.fields:
        return Markup()
    if change.action == "create":
        written = [(code(item.path), _value(item.after)) for item in change.fields]
        shown = table(("field", "value"), written, kind="diff")
        count = f"{len(written)} field{'s' * (len(written) != 1)}"
        return Markup("<details><summary>What is written: {}</summary><div>{}</div></details>").format(
            count, shown
        )
    rows = [(code(path), _value(before), _value(after)) for path, before, after in change.fields]
    left = len(rows) - _SHOWN_FIELDS
    more = Markup("<small>and {} more</small>").format(left) if left > 0 else ""
    return table(("field", "now", "then"), rows[:_SHOWN_FIELDS], kind="diff") + more


def _value(value: object) -> Markup:
    if value is None:
        return Markup("<small>nothing</small>")
    return code(str(value).lower() if isinstance(value, bool) else value)
