"""A container's environment as the kubelet makes it, as far as the objects say: what its process really reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

_REFERENCE = re.compile(r"\$(\$)|\$\(([-._a-zA-Z][-._a-zA-Z0-9]*)\)")


def variables_of(view: ClusterView, container: Mapping[str, Any], namespace: str) -> dict[str, str]:
    """The variables that a container of this namespace gets from its spec and from ConfigMaps."""

    def read(name: str) -> Mapping[str, str]:
        found = view.find("ConfigMap", name, namespace)
        data: Mapping[str, str] = found.path("data", {}) if found is not None else {}
        return data

    return variables(container, read)


def variables(
    container: Mapping[str, Any], read: Callable[[str], Mapping[str, str]] = lambda name: {}
) -> dict[str, str]:
    """The variables of a container; `read` gives a ConfigMap's data by its name.

    What comes from a Secret, a field or a resource is left out: its value is not in these objects.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom") or []:
        reference = source.get("configMapRef") or {}
        if reference.get("name"):
            prefix = source.get("prefix") or ""
            found |= {f"{prefix}{key}": str(value) for key, value in read(reference["name"]).items()}
    for item in container.get("env") or []:
        reference = (item.get("valueFrom") or {}).get("configMapKeyRef") or {}
        if reference.get("name"):
            value = read(reference["name"]).get(str(reference.get("key")))
        elif item.get("valueFrom"):
            value = None
        else:
            value = expanded(str(item.get("value") or ""), found)
        if value is None:
            found.pop(item["name"], None)
        else:
            found[item["name"]] = str(value)
    return found


def expanded(text: str, known: Mapping[str, str]) -> str:
    """A text with each `$(NAME)` replaced, as the kubelet does it: an unknown name stays, `$$` is `$`."""
    return _REFERENCE.sub(
        lambda found: "$" if found.group(1) else known.get(found.group(2), found.group()), text
    )
