"""The exercise's panel: what an edit would change, the Apply button, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import marimo as mo

from helpers.errors import Refused
from helpers.notebook.html import course, esc, inline, table, word
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
_SHOWN_FIELDS = 12
# What the API server says to an edit of a Job's template, of a StatefulSet's claims or of a pod that is there already.
_FIXED = ("field is immutable", "pod updates may not change", "updates to statefulset spec for fields")


def apply_button(label: str = "Apply to the cluster", *, kind: Any = "success") -> Any:
    """The button of one exercise; define it in the hidden cell at the end of the notebook."""
    return mo.ui.run_button(label=label, kind=kind)


def apply_panel(
    lab: LabSession,
    manifest: str,
    button: Any,
    *,
    pressed: bool = False,
    replace: bool = False,
    namespaces: Sequence[str] = (),
) -> Any:
    """Preview, button and result of one exercise, in one cell.

    Args:
        manifest: the learner's YAML; `$TOOLBOX` and the like stand for the cluster's images.
        button: from `apply_button`; nothing reaches the cluster unless it was pressed.
        pressed: stands in for the button where a solution runs headless.
        replace: delete and create anew what cannot be edited in place (Jobs, pods).
        namespaces: apply the same manifest once in each of these.
    """
    if lab.cluster is None:
        return waiting_card()
    result = None
    if button.value or pressed:
        result = applied(lab, manifest, replace=replace, namespaces=namespaces)
    parts = [preview(lab, manifest, replace=replace, namespaces=namespaces), button]
    return mo.vstack([*parts, result] if result is not None else parts, gap=0.5)


@needs_cluster
def preview(
    lab: LabSession, manifest: str, *, replace: bool = False, namespaces: Sequence[str] = ()
) -> mo.Html:
    """What the manifest would change: the API server's own answer to a dry run."""
    assert lab.cluster is not None
    changes = lab.cluster.diff(_objects(lab, manifest, namespaces))
    body = "".join(_change(change, replace=replace) for change in changes)
    head = "<small>Preview: the API server's answer to a dry run. Nothing has been changed.</small>"
    return course(f'<div class="card">{head}{body}</div>', live=True)


@needs_cluster
def applied(
    lab: LabSession, manifest: str, *, replace: bool = False, namespaces: Sequence[str] = ()
) -> mo.Html:
    """Apply the manifest, object by object, and say what became of each."""
    said = [_apply(lab, item, replace=replace) for item in _objects(lab, manifest, namespaces)]
    return course("".join(f"<div>{line}</div>" for line in said), live=True)


def _objects(lab: LabSession, manifest: str, namespaces: Sequence[str]) -> list[dict[str, Any]]:
    from helpers.cluster.manifests import in_order, load

    objects = in_order(load(lab.render(manifest)))
    if not namespaces:
        return objects
    return [
        {**item, "metadata": {**item["metadata"], "namespace": name}}
        for name in namespaces
        for item in objects
    ]


def _apply(lab: LabSession, item: dict[str, Any], *, replace: bool) -> str:
    assert lab.cluster is not None
    metadata = item["metadata"]
    named = f"{esc(item['kind'])} <code>{esc(metadata['name'])}</code>"
    try:
        (result,) = lab.cluster.apply(item)
    except Refused as refusal:
        if not (replace and _is_fixed(str(refusal))):
            return f"{word('refused')} {named} {inline(refusal)}"
        lab.cluster.delete(item["kind"], metadata["name"], metadata.get("namespace"), wait_s=60, grace_s=1)
        lab.cluster.apply(item)
        return f"{word('PASS', 'applied')} {named} replaced"
    return f"{word('PASS', 'applied')} {named} {esc(result.action)}"


def _is_fixed(reason: str) -> bool:
    return any(words in reason for words in _FIXED)


def _change(change: Change, *, replace: bool) -> str:
    replaced = change.action == "refused" and replace and _is_fixed(change.reason)
    early = change.action == "refused" and change.reason.startswith("no Namespace named")
    action = "replace" if replaced else "wait" if early else change.action
    where = f" in <code>{esc(change.namespace)}</code>" if change.namespace else ""
    head = (
        f'<div class="row">{word(action, _SAYS.get(action, action))}'
        f"<span>{esc(change.kind)} <code>{esc(change.name)}</code>{where}</span></div>"
    )
    if replaced:
        return head + "<small>This part cannot be edited in place: it is deleted and created anew.</small>"
    if action in ("refused", "wait"):
        return head + f"<div>{inline(change.reason)}</div>"
    return head + (_fields(change) if action == "change" else "")


def _fields(change: Change) -> str:
    rows = [
        (f"<code>{esc(path)}</code>", _value(before), _value(after)) for path, before, after in change.fields
    ]
    more = f"<small>and {len(rows) - _SHOWN_FIELDS} more</small>" if len(rows) > _SHOWN_FIELDS else ""
    return table(("field", "now", "then"), rows[:_SHOWN_FIELDS], kind="diff") + more


def _value(value: object) -> str:
    if value is None:
        return "<small>nothing</small>"
    return f"<code>{esc(str(value).lower() if isinstance(value, bool) else value)}</code>"
