"""Quota and limit-range admission as upstream's plugins do it, for the fake API server.

Messages have upstream's shape (k8s.io/apiserver admission/plugin/resourcequota/controller.go,
k8s.io/kubernetes pkg/quota/v1/evaluator/core/pods.go, plugin/pkg/admission/limitranger), because
checks read them. The contract tests compare with a live cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from helpers.cluster.kinds import ResourceType
from helpers.cluster.quantity import is_binary, quantity, quantity_text
from helpers.cluster.quota_scopes import counts_claims, counts_pod

Usage = dict[str, Decimal]
_COMPUTE = ("cpu", "memory", "ephemeral-storage")
_EXPLICIT = ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")


class Denied(Exception):
    """Admission refuses the object; the text is the reason without its prefix."""


# Usage


def usage_of(type_: ResourceType, item: dict[str, Any]) -> Usage:
    """What one object counts against a quota, in every dimension."""
    used: Usage = {f"count/{type_.resource}": Decimal(1)}
    if type_.kind == "Pod":
        if (item.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            return used
        return used | pod_usage(item.get("spec") or {})
    if type_.kind == "PersistentVolumeClaim":
        return used | _claim_usage(item.get("spec") or {})
    if not type_.group:
        used[type_.plural] = Decimal(1)
    if type_.kind == "Service":
        kind = (item.get("spec") or {}).get("type", "ClusterIP")
        used["services.loadbalancers"] = Decimal(kind == "LoadBalancer")
        used["services.nodeports"] = Decimal(
            len((item.get("spec") or {}).get("ports") or []) if kind in ("NodePort", "LoadBalancer") else 0
        )
    return used


def pod_usage(spec: dict[str, Any]) -> Usage:
    """A pod's requests and limits as the quota counts them."""
    used: Usage = {"pods": Decimal(1)}
    for name, amount in _totals(spec, "requests").items():
        used[f"requests.{name}"] = amount
        if name in _COMPUTE:
            used[name] = amount
    for name, amount in _totals(spec, "limits").items():
        if name in _COMPUTE:
            used[f"limits.{name}"] = amount
    return used


def _totals(spec: dict[str, Any], side: str) -> Usage:
    """The sum over containers, or the largest init step where that is more; plus overhead."""
    total: Usage = {}
    sidecars: Usage = {}
    peak: Usage = {}
    for container in spec.get("containers") or []:
        _add(total, _amounts(container, side))
    for container in spec.get("initContainers") or []:
        amounts = _amounts(container, side)
        if container.get("restartPolicy") == "Always":
            _add(total, amounts)
            _add(sidecars, amounts)
            step = dict(sidecars)
        else:
            step = dict(sidecars)
            _add(step, amounts)
        peak = {name: max(peak.get(name, Decimal(0)), amount) for name, amount in {**peak, **step}.items()}
    total = {name: max(total.get(name, Decimal(0)), peak.get(name, Decimal(0))) for name in {**total, **peak}}
    for name, amount in _amounts(spec, side).items():
        total[name] = amount
    _add(total, {name: quantity(value) for name, value in (spec.get("overhead") or {}).items()})
    return total


def _amounts(holder: dict[str, Any], side: str) -> Usage:
    written = (holder.get("resources") or {}).get(side) or {}
    return {name: quantity(value) for name, value in written.items()}


def _add(total: Usage, amounts: Usage) -> None:
    for name, amount in amounts.items():
        total[name] = total.get(name, Decimal(0)) + amount


def _claim_usage(spec: dict[str, Any]) -> Usage:
    storage = quantity(((spec.get("resources") or {}).get("requests") or {}).get("storage", 0))
    used = {"persistentvolumeclaims": Decimal(1), "requests.storage": storage}
    storage_class = spec.get("storageClassName")
    if storage_class:
        prefix = f"{storage_class}.storageclass.storage.k8s.io"
        used |= {f"{prefix}/requests.storage": storage, f"{prefix}/persistentvolumeclaims": Decimal(1)}
    return used


# Quota


def quota_status(
    quota: dict[str, Any], objects: Sequence[tuple[ResourceType, dict[str, Any]]]
) -> dict[str, Any]:
    """The status that the quota controller would write, from all objects of the namespace."""
    hard: dict[str, str] = (quota.get("spec") or {}).get("hard") or {}
    sums: Usage = {}
    for type_, item in objects:
        if _counts(quota, type_, item):
            _add(sums, usage_of(type_, item))
    used = {
        name: quantity_text(sums.get(name, Decimal(0)), binary=is_binary(limit))
        for name, limit in hard.items()
    }
    return {"hard": dict(hard), "used": used}


def admit_quota(
    type_: ResourceType, item: dict[str, Any], quotas: Iterable[dict[str, Any]], before: Usage | None
) -> None:
    """Raise Denied where a quota of the namespace does not have room for the object."""
    added = usage_of(type_, item)
    if before:
        added = {name: amount - before.get(name, Decimal(0)) for name, amount in added.items()}
    counting = [quota for quota in quotas if _counts(quota, type_, item)]
    ordered = sorted(counting, key=lambda quota: quota["metadata"]["name"])
    if type_.kind == "Pod" and before is None:
        for quota in ordered:
            _must_be_explicit(item.get("spec") or {}, quota)
    for quota in ordered:
        _must_fit(added, quota)


def _counts(quota: dict[str, Any], type_: ResourceType, item: dict[str, Any]) -> bool:
    spec = quota.get("spec") or {}
    if type_.kind == "Pod":
        return counts_pod(spec, item.get("spec") or {})
    return counts_claims(spec)


def _must_be_explicit(spec: dict[str, Any], quota: dict[str, Any]) -> None:
    if spec.get("resources"):
        return
    hard = (quota.get("spec") or {}).get("hard") or {}
    missing: dict[str, list[str]] = {}
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    for dimension in sorted(set(_EXPLICIT) & set(hard)):
        side, _, name = dimension.rpartition(".")
        for container in containers:
            if name not in _amounts(container, side or "requests"):
                missing.setdefault(dimension, []).append(container["name"])
    if missing:
        words = "; ".join(f"{name} for: {','.join(sorted(who))}" for name, who in missing.items())
        raise Denied(f"failed quota: {quota['metadata']['name']}: must specify {words}")


def _must_fit(added: Usage, quota: dict[str, Any]) -> None:
    status = quota.get("status") or {}
    hard, used = status.get("hard") or {}, status.get("used") or {}
    unknown = [name for name in sorted(hard) if name in added and name not in used]
    if unknown:
        # https://github.com/kubernetes/kubernetes/blob/v1.36.0/staging/src/k8s.io/apiserver/pkg/admission/plugin/resourcequota/controller.go
        raise Denied(f"status unknown for quota: {quota['metadata']['name']}, resources: {','.join(unknown)}")
    over = [
        name
        for name in sorted(hard)
        if added.get(name, Decimal(0)) > 0 and quantity(used[name]) + added[name] > quantity(hard[name])
    ]
    if not over:
        return
    requested = {name: quantity_text(added[name], binary=is_binary(hard[name])) for name in over}
    raise Denied(
        f"exceeded quota: {quota['metadata']['name']}, requested: {_print(over, requested)}, "
        f"used: {_print(over, used)}, limited: {_print(over, hard)}"
    )


def _print(names: list[str], amounts: dict[str, Any]) -> str:
    return ",".join(f"{name}={amounts[name]}" for name in names)


# Limit ranges


def apply_limit_ranges(
    type_: ResourceType, item: dict[str, Any], ranges: Iterable[dict[str, Any]], creating: bool
) -> None:
    """Give containers the default requests and limits, then refuse what is outside the bounds."""
    limits = [limit for found in ranges for limit in (found.get("spec") or {}).get("limits") or []]
    problems: list[str] = []
    for limit in limits:
        if limit["type"] == "Container" and type_.kind == "Pod" and creating:
            for container in _all_containers(item):
                _default(container, limit)
    for limit in limits:
        if type_.kind == "Pod" and creating:
            problems += _pod_problems(item, limit)
        if type_.kind == "PersistentVolumeClaim" and limit["type"] == type_.kind:
            problems += _bounds(_amounts(item.get("spec") or {}, "requests"), {}, limit)
    if problems:
        raise Denied(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")


def _all_containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    spec = pod.get("spec") or {}
    return [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]


def _default(container: dict[str, Any], limit: dict[str, Any]) -> None:
    resources = container.setdefault("resources", {})
    for side, key in (("limits", "default"), ("requests", "defaultRequest")):
        defaults = limit.get(key) or {}
        if defaults:
            resources[side] = {**defaults, **(resources.get(side) or {})}


def _pod_problems(pod: dict[str, Any], limit: dict[str, Any]) -> list[str]:
    if limit["type"] == "Container":
        return [
            problem
            for container in _all_containers(pod)
            for problem in _bounds(_amounts(container, "requests"), _amounts(container, "limits"), limit)
        ]
    if limit["type"] == "Pod":
        spec = pod.get("spec") or {}
        return _bounds(_totals(spec, "requests"), _totals(spec, "limits"), limit)
    return []


def _bounds(requests: Usage, limits: Usage, limit: dict[str, Any]) -> list[str]:
    problems = []
    for name, bound in sorted((limit.get("min") or {}).items()):
        start = f"minimum {name} usage per {limit['type']} is {bound}"
        if name not in requests:
            problems.append(f"{start}.  No request is specified")
        elif requests[name] < quantity(bound):
            problems.append(f"{start}, but request is {_like(requests[name], bound)}")
    for name, bound in sorted((limit.get("max") or {}).items()):
        start = f"maximum {name} usage per {limit['type']} is {bound}"
        asked = requests if limit["type"] == "PersistentVolumeClaim" else limits
        word = "request" if asked is requests else "limit"
        if name not in asked:
            problems.append(f"{start}.  No {word} is specified")
        elif asked[name] > quantity(bound):
            problems.append(f"{start}, but {word} is {_like(asked[name], bound)}")
    return problems


def _like(amount: Decimal, bound: Any) -> str:
    return quantity_text(amount, binary=is_binary(bound))
