"""The way back from one part of a lab: what its text names is deleted, and the part can be done again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import marimo as mo

from helpers.cluster.leftovers import leftovers
from helpers.errors import LabError
from helpers.notebook.html import toast
from helpers.notebook.session import LabSession

if TYPE_CHECKING:
    from helpers.cluster import Cluster

CLAIM_TIMEOUT_S = 30.0
NOTHING_TO_DELETE = "There was nothing to delete for this part."


def reset_part(lab: LabSession, manifest: str, *, namespaces: Sequence[str] = (), first: str = "") -> Any:
    """A button that deletes the objects of a manifest, or puts them back as `first` has them."""
    return reset_button(
        lab,
        lambda: undone(lab, manifest, namespaces=namespaces, first=first),
        tooltip="Puts the cluster back to where it was before the text above, so that this part can be done again.",
    )


def reset_button(lab: LabSession, undo: Callable[[], str], *, tooltip: str) -> Any:
    """The button of a part that has no manifest; `undo` says what it did. It answers in a corner of the page.

    What it does needs no cell to run: no name of the notebook is taken, and no edit re-creates it.
    """
    button = mo.ui.button(
        label="Reset this part", kind="neutral", tooltip=tooltip, on_click=lambda _: _announce(lab, undo)
    )
    return lab.keep(button)


def _announce(lab: LabSession, undo: Callable[[], str]) -> None:
    lab.changed()
    try:
        said, failed = undo(), False
    except LabError as problem:
        said, failed = f"{problem} {problem.next_command}".strip(), True
    toast("Reset this part", said, failed=failed)


def undone(lab: LabSession, manifest: str, *, namespaces: Sequence[str] = (), first: str = "") -> str:
    """Delete what the manifest names, the last first; in a sentence what went, and what was kept.

    Args:
        first: what was there before this part; an object of it is put back instead.
    """
    assert lab.cluster is not None
    back = {_key(item): item for item in (objects_of(lab, first, namespaces) if first else [])}
    gone, kept, again = list[str](), list[str](), list[str]()
    for item in reversed(objects_of(lab, manifest, namespaces)):
        kind, name, namespace = item["kind"], item["metadata"]["name"], item["metadata"].get("namespace")
        claims = _claims_of(lab.cluster, item)
        if _key(item) in back:
            lab.cluster.apply_or_replace(back[_key(item)])
            again.append(f"{kind} {name}")
        elif kind == "Namespace" and (holds := [found.name for found in leftovers(lab.cluster, name)]):
            kept.append(f"Namespace {name} stays: it holds {', '.join(holds[:3])}")
        elif lab.cluster.delete(kind, name, namespace, grace_s=1):
            gone += [f"{kind} {name}", *_claims_gone(lab.cluster, claims, namespace)]
            kept += _still_there(lab.cluster, item)
    done = (("Deleted", gone), ("Put back", again))
    said = [f"{word}: {', '.join(names)}." for word, names in done if names] or [NOTHING_TO_DELETE]
    return " ".join([*said, *(f"{line}." for line in kept)])


def _key(item: Mapping[str, Any]) -> tuple[str, str, str]:
    return item["kind"], item["metadata"]["name"], item["metadata"].get("namespace", "")


def _claims_of(cluster: Cluster, item: Mapping[str, Any]) -> dict[str, list[str]]:
    """The claims that a StatefulSet made of its templates, by its pods; none of any other object."""
    kind, name, namespace = _key(item)
    found = cluster.view().find(kind, name, namespace or None) if kind == "StatefulSet" else None
    if found is None:
        return {}
    pods = [f"{name}-{number}" for number in range(found.path("spec.replicas", 1))]
    templates = [template["metadata"]["name"] for template in found.path("spec.volumeClaimTemplates", [])]
    return {pod: [f"{template}-{pod}" for template in templates] for pod in pods}


def _claims_gone(cluster: Cluster, claims: Mapping[str, Sequence[str]], namespace: str | None) -> list[str]:
    """Delete them once their pods have ended: kept, they would also keep a class or a size that was wrong."""
    gone = []
    for pod, names in claims.items():
        cluster.delete("Pod", pod, namespace, wait_s=CLAIM_TIMEOUT_S, grace_s=1)
        for name in names:
            if cluster.delete("PersistentVolumeClaim", name, namespace, wait_s=CLAIM_TIMEOUT_S):
                gone.append(f"PersistentVolumeClaim {name} with all that was on it")
    return gone


def _still_there(cluster: Cluster, item: Mapping[str, Any]) -> list[str]:
    """A claim that a pod still uses: it goes with that pod, and not before."""
    if item["kind"] != "PersistentVolumeClaim":
        return []
    kind, name, namespace = _key(item)
    found = cluster.view().find(kind, name, namespace or None)
    return [f"{kind} {name} goes when no pod uses it any more"] if found and found.is_terminating else []


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
