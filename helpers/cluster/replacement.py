"""Objects that can only be made anew: why, and what is lost with the old one.

An object's fixed fields differ by kind and by version; which they are is not listed here. The API
server answers an edit of one with 422, and then it can be asked about the same text as a creation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from helpers.cluster.diffs import Change
from helpers.cluster.resource import Pod, Resource

if TYPE_CHECKING:
    from helpers.cluster.view import ClusterView

_INVALID = 422
_COSTS = {
    "Pod": "what runs in it ends",
    "Job": "its pods end, and their logs go with them",
    "Deployment": "its pods end, and nothing is served until new ones are Ready",
    "StatefulSet": "its pods end, and its claims keep their data",
    "PersistentVolumeClaim": "all data on its volume is lost",
}


def reason(before: dict[str, Any] | None, change: Change) -> str:
    """Why only a new object leads to what is written; empty where an edit does."""
    if before is None:
        return ""
    if (before.get("metadata") or {}).get("deletionTimestamp"):
        return "the one that is there is being deleted"
    ended = _ended(Resource(before))
    if ended:
        return f"it has ended ({ended}), and Apply starts it again"
    if change.action == "refused" and change.code == _INVALID:
        return "what you changed is fixed once it exists"
    return ""


def _ended(found: Resource) -> str:
    """With which word an object that runs to an end has ended; empty while it has not, or never does."""
    if found.kind == "Pod":
        phase = str(found.path("status.phase", ""))
        return phase if phase in ("Succeeded", "Failed") else ""
    if found.kind == "Job":
        done = [item.type for item in found.all_conditions() if item.is_true]
        return next((word for word in ("Complete", "Failed") if word in done), "")
    return ""


def cost(kind: str) -> str:
    """What goes with the old object."""
    return _COSTS.get(kind, "the old one is deleted first")


def holder(claim: dict[str, Any], view: ClusterView) -> str:
    """A pod that uses the claim: deleting the claim would wait for its end."""
    metadata = claim["metadata"]
    for found in view.pods(metadata["namespace"]):
        if _uses(found, metadata["name"]):
            return found.name
    return ""


def _uses(pod: Pod, claim: str) -> bool:
    volumes = pod.path("spec.volumes", []) or []
    return pod.phase not in ("Succeeded", "Failed") and any(
        (item.get("persistentVolumeClaim") or {}).get("claimName") == claim for item in volumes
    )
