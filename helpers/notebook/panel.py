"""The exercise's panel: what an edit would change, the Apply button, and what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import marimo as mo

from helpers.notebook.html import course, esc, inline, table, word
from helpers.notebook.session import LabSession, needs_cluster, waiting_card

if TYPE_CHECKING:
    from helpers.cluster import Change

_SAYS = {"create": "would be created", "change": "would change", "none": "as it is", "refused": "refused"}
_SHOWN_FIELDS = 12


def apply_button(label: str = "Apply to the cluster", *, kind: Any = "success") -> Any:
    """The button of one exercise; define it in the hidden cell at the end of the notebook."""
    return mo.ui.run_button(label=label, kind=kind)


def apply_panel(lab: LabSession, manifest: str, button: Any, *, pressed: bool = False) -> Any:
    """Preview, button and result of one exercise, in one cell.

    Args:
        manifest: the learner's YAML; `$TOOLBOX` and the like stand for the cluster's images.
        button: from `apply_button`; nothing reaches the cluster unless it was pressed.
        pressed: stands in for the button where a solution runs headless.
    """
    if lab.cluster is None:
        return waiting_card()
    result = applied(lab, manifest) if button.value or pressed else None
    parts = [preview(lab, manifest), button]
    return mo.vstack([*parts, result] if result is not None else parts, gap=0.5)


@needs_cluster
def preview(lab: LabSession, manifest: str) -> mo.Html:
    """What the manifest would change: the API server's own answer to a dry run."""
    assert lab.cluster is not None
    changes = lab.cluster.diff(lab.render(manifest))
    body = "".join(_change(change) for change in changes)
    return course(
        f'<div class="card"><small>Preview: the API server\'s answer to a dry run</small>{body}</div>',
        live=True,
    )


@needs_cluster
def applied(lab: LabSession, manifest: str) -> mo.Html:
    """Apply the manifest and say what became of each object."""
    assert lab.cluster is not None
    results = lab.cluster.apply(lab.render(manifest))
    items = ", ".join(
        f"{esc(item.kind)} <code>{esc(item.name)}</code> {esc(item.action)}" for item in results
    )
    return course(f"<div>{word('PASS', 'applied')} {items}</div>", live=True)


def _change(change: Change) -> str:
    where = f" in <code>{esc(change.namespace)}</code>" if change.namespace else ""
    head = (
        f'<div class="row">{word(_tone(change.action), _SAYS.get(change.action, change.action))}'
        f"<span>{esc(change.kind)} <code>{esc(change.name)}</code>{where}</span></div>"
    )
    if change.action == "refused":
        return head + f"<div>{inline(change.reason)}</div>"
    if change.action != "change":
        return head
    rows = [
        (f"<code>{esc(path)}</code>", _value(before), _value(after)) for path, before, after in change.fields
    ]
    more = f"<small>and {len(rows) - _SHOWN_FIELDS} more</small>" if len(rows) > _SHOWN_FIELDS else ""
    return head + table(("field", "now", "then"), rows[:_SHOWN_FIELDS], kind="diff") + more


def _tone(action: str) -> str:
    return {"refused": "refused", "none": "none"}.get(action, action)


def _value(value: object) -> str:
    return "<small>nothing</small>" if value is None else f"<code>{esc(value)}</code>"
