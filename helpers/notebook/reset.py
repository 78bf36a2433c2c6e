"""The way back from one part of a lab: what its text names is deleted, and the part can be done again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import marimo as mo

from helpers.cluster.leftovers import leftovers
from helpers.errors import LabError
from helpers.notebook.html import toast
from helpers.notebook.session import LabSession


def reset_part(lab: LabSession, manifest: str, *, namespaces: Sequence[str] = ()) -> Any:
    """A button that deletes the objects of a manifest; it answers in a corner of the page.

    What it does needs no cell to run: no name of the notebook is taken, and no edit re-creates it.
    """
    return mo.ui.button(
        label="Reset this part",
        kind="neutral",
        tooltip="Deletes what the text above names, so that this part can be done again.",
        on_click=lambda _: _announce(lab, manifest, namespaces),
    )


def _announce(lab: LabSession, manifest: str, namespaces: Sequence[str]) -> None:
    try:
        said, failed = undone(lab, manifest, namespaces=namespaces), False
    except LabError as problem:
        said, failed = f"{problem} {problem.next_command}".strip(), True
    toast("Reset this part", said, failed=failed)


def undone(lab: LabSession, manifest: str, *, namespaces: Sequence[str] = ()) -> str:
    """Delete what the manifest names, the last first; in a sentence what went, and what was kept."""
    assert lab.cluster is not None
    gone, kept = [], []
    for item in reversed(objects_of(lab, manifest, namespaces)):
        kind, name = item["kind"], item["metadata"]["name"]
        if kind == "Namespace" and (holds := [found.name for found in leftovers(lab.cluster, name)]):
            kept.append(f"Namespace {name} stays: it holds {', '.join(holds[:3])}")
        elif lab.cluster.delete(kind, name, item["metadata"].get("namespace"), grace_s=1):
            gone.append(f"{kind} {name}")
    first = f"Deleted: {', '.join(gone)}." if gone else "There was nothing to delete for this part."
    return " ".join([first, *(f"{line}." for line in kept)])


def objects_of(lab: LabSession, manifest: str, namespaces: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The objects of a learner's text, in the order that they need each other, once in each namespace given."""
    from helpers.cluster.manifests import in_order, load

    objects = in_order(load(lab.render(manifest)))
    if not namespaces:
        return objects
    return [
        {**item, "metadata": {**item["metadata"], "namespace": name}}
        for name in namespaces
        for item in objects
    ]
