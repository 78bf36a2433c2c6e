"""The exercise's panel: what an edit would change, the Apply button, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import marimo as mo

from helpers.errors import HalfReplaced, Refused, WaitFailed
from helpers.notebook.html import course, esc, inline, table, word
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


def apply_button(label: str = "Apply to the cluster", *, kind: Any = "success") -> Any:
    """The button of one exercise; define it in the hidden cell at the end of the notebook, so that no edit makes it anew."""
    return mo.ui.run_button(label=label, kind=kind)


def apply_panel(
    lab: LabSession,
    manifest: str,
    button: Any,
    *,
    namespaces: Sequence[str] = (),
) -> Any:
    """Apply button, what became of it, and the way back, of one exercise; its `preview` is a cell of its own.

    Args:
        manifest: the learner's YAML; `$TOOLBOX` and the like stand for the cluster's images.
        button: from `apply_button`; nothing reaches the cluster unless it was pressed.
        namespaces: apply the same manifest once in each of these.
    """
    if lab.cluster is None:
        return waiting_card()
    row = mo.hstack([button, reset_part(lab, manifest, namespaces=namespaces)], justify="start")
    if not lab.asked(button):
        return row
    return mo.vstack([row, applied(lab, manifest, namespaces=namespaces)], gap=0.5)


@needs_cluster
def preview(lab: LabSession, manifest: str, *, namespaces: Sequence[str] = ()) -> mo.Html:
    """What the manifest would change: the API server's own answer to a dry run."""
    assert lab.cluster is not None
    changes = lab.cluster.diff(objects_of(lab, manifest, namespaces), replacing=True)
    body = "".join(map(_change, changes))
    head = "<small>Preview: the API server's answer to a dry run. Nothing has been changed.</small>"
    return course(f'<div class="card">{head}{body}</div>', live=True)


@needs_cluster
def applied(lab: LabSession, manifest: str, *, namespaces: Sequence[str] = ()) -> mo.Html:
    """Apply the manifest, object by object, and say what became of each."""
    with mo.status.spinner(title="Applying", remove_on_exit=True) as spinner:
        said = [_apply(lab, item, spinner) for item in objects_of(lab, manifest, namespaces)]
    return course("".join(f"<div>{line}</div>" for line in said), live=True)


def _apply(lab: LabSession, item: dict[str, Any], spinner: Any) -> str:
    assert lab.cluster is not None
    named = f"{esc(item['kind'])} <code>{esc(item['metadata']['name'])}</code>"
    spinner.update(subtitle=f"{item['kind']} {item['metadata']['name']}")
    try:
        result = lab.cluster.apply_or_replace(item)
    except Refused as refusal:
        return f"{word('refused')} {named} {inline(refusal)}"
    except (HalfReplaced, WaitFailed) as problem:
        return f"{word('refused', 'not done')} {named} {inline(problem)}"
    return f"{word('PASS', 'applied')} {named} {esc(_BECAME[result.action])}"


def _change(change: Change) -> str:
    early = change.action == "refused" and change.reason.startswith("no Namespace named")
    action = "wait" if early else change.action
    where = f" in <code>{esc(change.namespace)}</code>" if change.namespace else ""
    head = (
        f'<div class="row">{word(action, _SAYS.get(action, action))}'
        f"<span>{esc(change.kind)} <code>{esc(change.name)}</code>{where}</span></div>"
    )
    if action == "replace":
        return f"{head}<small>Deleted and created anew: {inline(change.reason)}.</small>{_fields(change)}"
    if action in ("refused", "wait"):
        return head + f"<div>{inline(change.reason)}</div>"
    return head + _fields(change)


def _fields(change: Change) -> str:
    """The fields that differ; those of a new object are folded, for they are all that is written."""
    if not change.fields:
        return ""
    if change.action == "create":
        written = [(f"<code>{esc(item.path)}</code>", _value(item.after)) for item in change.fields]
        shown = table(("field", "value"), written, kind="diff")
        count = f"{len(written)} field{'s' * (len(written) != 1)}"
        return f"<details><summary>What is written: {count}</summary><div>{shown}</div></details>"
    rows = [
        (f"<code>{esc(path)}</code>", _value(before), _value(after)) for path, before, after in change.fields
    ]
    more = f"<small>and {len(rows) - _SHOWN_FIELDS} more</small>" if len(rows) > _SHOWN_FIELDS else ""
    return table(("field", "now", "then"), rows[:_SHOWN_FIELDS], kind="diff") + more


def _value(value: object) -> str:
    if value is None:
        return "<small>nothing</small>"
    return f"<code>{esc(str(value).lower() if isinstance(value, bool) else value)}</code>"
