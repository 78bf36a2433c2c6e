"""Fields that are fixed once an object exists, and names that must fit, for the fake API server.

Messages have upstream's shape (k8s.io/kubernetes pkg/apis/core/validation, pkg/apis/apps/validation,
pkg/apis/batch/validation). Only what the labs' objects meet is here; the contract tests compare it
with a live cluster.
"""

from __future__ import annotations

from typing import Any

_STATEFUL_SET_MAY = (
    "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
)  # fmt: skip
_POD_MAY = (
    "activeDeadlineSeconds",
    "terminationGracePeriodSeconds",
    "tolerations",
    "containers",
    "initContainers",
)
_TEMPLATED = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job")


class Invalid(Exception):
    """Validation refuses the object; the text is the reason without its prefix."""


def validate_creation(kind: str, item: dict[str, Any]) -> None:
    """Raise Invalid where a container mounts a volume that the pod does not have."""
    spec = item.get("spec") or {}
    path, pod = ("spec", spec) if kind == "Pod" else ("spec.template.spec", _dig(spec, "template", "spec"))
    if kind != "Pod" and kind not in _TEMPLATED:
        return
    claims = [_dig(claim, "metadata").get("name") for claim in spec.get("volumeClaimTemplates") or []]
    known = {*claims, *(volume["name"] for volume in pod.get("volumes") or [])}
    for number, container in enumerate(pod.get("containers") or []):
        for index, mount in enumerate(container.get("volumeMounts") or []):
            if mount.get("name") not in known:
                where = f"{path}.containers[{number}].volumeMounts[{index}].name"
                raise Invalid(f'{where}: Not found: "{mount.get("name")}"')


def validate_update(kind: str, item: dict[str, Any], before: dict[str, Any], sub: str = "") -> None:
    """Raise Invalid where an edit touches what is fixed; through `resize`, a pod's resources are not."""
    new, old = item.get("spec") or {}, before.get("spec") or {}
    if kind == "Pod":
        _pod(new, old, resizing=sub == "resize")
    elif kind == "StatefulSet" and _without(new, *_STATEFUL_SET_MAY) != _without(old, *_STATEFUL_SET_MAY):
        may = ", ".join(f"'{name}'" for name in _STATEFUL_SET_MAY)
        raise Invalid(
            f"spec: Forbidden: updates to statefulset spec for fields other than {may} are forbidden"
        )
    elif kind == "PersistentVolumeClaim" and _without(new, "resources") != _without(old, "resources"):
        raise Invalid(
            "spec: Forbidden: spec is immutable after creation except resources.requests and "
            "volumeAttributesClassName for bound claims"
        )
    fixed = {"Deployment": "selector", "Job": "template"}.get(kind)
    if fixed and new.get(fixed) != old.get(fixed):
        raise Invalid(f"spec.{fixed}: Invalid value: {new.get(fixed)}: field is immutable")


def _pod(new: dict[str, Any], old: dict[str, Any], *, resizing: bool) -> None:
    kept = new.get("tolerations") or []
    if any(item not in kept for item in old.get("tolerations") or []):
        said = "existing toleration can not be modified except its tolerationSeconds"
        raise Invalid(f"spec.tolerations: Forbidden: {said}")
    if _without(new, *_POD_MAY) != _without(old, *_POD_MAY) or _bare(new, resizing) != _bare(old, resizing):
        may = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`"
        raise Invalid(f"spec: Forbidden: pod updates may not change fields other than {may}")


def _bare(spec: dict[str, Any], resizing: bool) -> list[dict[str, Any]]:
    """The containers without what may change: their images, or in a resize their resources."""
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    return [_without(item, "resources" if resizing else "image") for item in containers]


def _without(tree: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in tree.items() if name not in names}


def _dig(tree: dict[str, Any], *steps: str) -> dict[str, Any]:
    for step in steps:
        tree = tree.get(step) or {}
    return tree
