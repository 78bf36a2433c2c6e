"""What the labs' own starts put on a cluster: no check may take it for the learner's work.

It is read from the manifests that the starts apply, so that a lab that comes later is known to the
checks of all labs before it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import yaml

from helpers.settings import REPOSITORY

PLACED = ("labs/*/start/*.yaml", "probes/namespaces.yaml")


@cache
def given_objects() -> tuple[dict[str, Any], ...]:
    """Every object of every lab's start, as its manifest writes it."""
    files = sorted(file for pattern in PLACED for file in (REPOSITORY / "manifests").glob(pattern))
    return tuple(item for file in files for item in yaml.safe_load_all(file.read_text()) if item)


def namespaces_given(label: str) -> frozenset[str]:
    """The namespaces that a lab's start itself makes with this label (`key=value`)."""
    key, _, value = label.partition("=")
    return frozenset(
        item["metadata"]["name"]
        for item in given_objects()
        if item["kind"] == "Namespace" and (item["metadata"].get("labels") or {}).get(key) == value
    )
