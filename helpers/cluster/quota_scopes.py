"""Which pods a ResourceQuota with scopes counts: all scopes must hold, as in the API server.

https://kubernetes.io/docs/concepts/policy/resource-quotas/#quota-scopes
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BEST_EFFORT = ("requests", "limits")


def counts_pod(quota_spec: Mapping[str, Any], pod_spec: Mapping[str, Any]) -> bool:
    """Whether the quota of this spec counts a pod of this one."""
    scopes = [{"scopeName": name, "operator": "Exists"} for name in quota_spec.get("scopes") or []]
    selected = (quota_spec.get("scopeSelector") or {}).get("matchExpressions") or []
    return all(_holds(requirement, pod_spec) for requirement in (*scopes, *selected))


def counts_claims(quota_spec: Mapping[str, Any]) -> bool:
    """Whether it counts claims: a quota with scopes counts nothing but what they are about."""
    return not quota_spec.get("scopes") and not (quota_spec.get("scopeSelector") or {}).get(
        "matchExpressions"
    )


def _holds(requirement: Mapping[str, Any], pod_spec: Mapping[str, Any]) -> bool:
    scope = requirement.get("scopeName")
    if scope in ("Terminating", "NotTerminating"):
        return (pod_spec.get("activeDeadlineSeconds") is not None) is (scope == "Terminating")
    if scope in ("BestEffort", "NotBestEffort"):
        return _is_best_effort(pod_spec) is (scope == "BestEffort")
    if scope == "CrossNamespacePodAffinity":
        return False  # no pod of this course has one
    if scope != "PriorityClass":
        return False  # a scope of claims, or none that exists
    name, operator = pod_spec.get("priorityClassName"), requirement.get("operator")
    values = requirement.get("values") or []
    return {
        "Exists": bool(name),
        "DoesNotExist": not name,
        "In": name in values,
        "NotIn": name not in values,
    }.get(str(operator), False)


def _is_best_effort(pod_spec: Mapping[str, Any]) -> bool:
    containers = [*(pod_spec.get("containers") or []), *(pod_spec.get("initContainers") or [])]
    written = [(item.get("resources") or {}).get(side) or {} for item in containers for side in BEST_EFFORT]
    return not any({"cpu", "memory"} & set(amounts) for amounts in written)
