"""Manifests as text or objects, read with the words of the person who wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

import yaml

from helpers.errors import InvalidManifest

Manifests = str | dict[str, Any] | Iterable[dict[str, Any]]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FIRST = {"Namespace": 0, "CustomResourceDefinition": 1, "StorageClass": 2, "PriorityClass": 2,
          "ResourceQuota": 3, "LimitRange": 3, "ServiceAccount": 4, "Secret": 5, "ConfigMap": 5}  # fmt: skip
_LAST = 9


def load(manifests: Manifests) -> list[dict[str, Any]]:
    """Every object in the text or list, copied; InvalidManifest says which line or document is wrong."""
    if isinstance(manifests, str):
        documents: list[Any] = _parse(manifests)
    elif isinstance(manifests, dict):
        documents = [deepcopy(manifests)]
    else:
        documents = [deepcopy(item) for item in manifests]
    found = [item for number, document in enumerate(documents, 1) for item in _objects(document, number)]
    if not found:
        raise InvalidManifest("there is no object in the manifest")
    return found


def load_one(manifest: dict[str, Any] | str) -> dict[str, Any]:
    """The only object in the text; InvalidManifest when there are more."""
    found = load(manifest)
    if len(found) != 1:
        raise InvalidManifest(f"one object was expected, not {len(found)}")
    return found[0]


def in_order(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The order to apply in: what others need first (namespaces, definitions, quotas, configuration)."""
    return sorted(manifests, key=lambda item: _FIRST.get(item["kind"], _LAST))


def name_of(manifest: dict[str, Any]) -> str:
    """The object's name, or what its generated name starts with."""
    metadata = manifest.get("metadata") or {}
    return str(metadata.get("name") or f"{metadata.get('generateName', '')}…")


def _parse(text: str) -> list[Any]:
    try:
        return [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InvalidManifest(f"this is not YAML: {where}{error.problem or error}") from error
    except yaml.YAMLError as error:
        raise InvalidManifest(f"this is not YAML: {error}") from error


def _objects(document: Any, number: int) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        raise InvalidManifest(f"document {number} is not an object but {type(document).__name__}")
    missing = [key for key in ("apiVersion", "kind") if not isinstance(document.get(key), str)]
    if missing:
        raise InvalidManifest(f"document {number} has no {' and no '.join(missing)}")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _objects(item, number)
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
        raise InvalidManifest(f"document {number} ({document['kind']}) has no metadata.name")
    yield document
