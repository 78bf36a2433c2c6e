"""Label selectors and policy types, as the API defines them: pure functions for all who match labels.

The reachability forecast and the embedded cluster's policy engine must agree on what a selector
selects, so both call this. It imports nothing, because the engine runs inside the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str] | None) -> bool:
    """Whether a label selector in JSON form selects an object with these labels.

    None (no selector) selects nothing and `{}` selects everything; all requirements must hold.
    `NotIn` also selects objects without the key. Raises ValueError for an operator that does not exist.
    """
    if selector is None:
        return False
    have = labels or {}
    if any(have.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(holds(requirement, have) for requirement in selector.get("matchExpressions") or [])


def holds(requirement: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether labels meet one of `matchExpressions`. Raises ValueError for an operator that does not exist."""
    key, operator = requirement["key"], requirement["operator"]
    values = requirement.get("values") or []
    if operator == "In":
        return key in labels and labels[key] in values
    if operator == "NotIn":
        return key not in labels or labels[key] not in values
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    raise ValueError(f"unknown label selector operator: {operator}")


def policy_types(spec: Mapping[str, Any]) -> list[str]:
    """The directions a NetworkPolicy isolates: when unset, Ingress, and Egress where it has egress rules."""
    return list(spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])])
