"""Manifests as text or objects, read with the words of the person who wrote them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from typing import Any

from helpers import kubeyaml
from helpers.cluster import shapes
from helpers.errors import InvalidManifest

Manifests = str | dict[str, Any] | Iterable[dict[str, Any]]

_FIRST = {"Namespace": 0, "CustomResourceDefinition": 1, "StorageClass": 2, "PriorityClass": 2,
          "ResourceQuota": 3, "LimitRange": 3, "ServiceAccount": 4, "Secret": 5, "ConfigMap": 5}  # fmt: skip
_LAST = 9


def load(manifests: Manifests) -> list[dict[str, Any]]:
    """Every object in the text or list, copied; InvalidManifest says which line or document is wrong."""
    if isinstance(manifests, str):
        documents: list[Any] = parse(manifests)
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


def parse(text: str) -> list[Any]:
    """Every document of a text as Kubernetes reads it; InvalidManifest where it is not YAML."""
    try:
        return kubeyaml.load_all(text)
    except kubeyaml.NotYaml as error:
        raise InvalidManifest(f"this is not YAML: {error}") from error


def _objects(document: Any, number: int) -> Iterator[dict[str, Any]]:
    if not isinstance(document, dict):
        raise InvalidManifest(f"document {number} is `{document!r:.40}`, and no object: it has no `kind:`")
    missing = [key for key in ("apiVersion", "kind") if not document.get(key)]
    if missing:
        raise InvalidManifest(f"document {number} has no {' and no '.join(missing)}")
    for key in ("apiVersion", "kind"):
        if not isinstance(document[key], str):
            raise InvalidManifest(f"document {number}: {key} is `{document[key]!r:.40}`: it is a text")
    if document["kind"].endswith("List") and "items" in document:
        items = document["items"] or []
        if not isinstance(items, list):
            raise InvalidManifest(f"document {number} ({document['kind']}): items is not a list")
        for item in items:
            yield from _objects(item, number)
        return
    _check_metadata(document, f"document {number} ({document['kind']})")
    yield document


def _check_metadata(document: dict[str, Any], where: str) -> None:
    """What kubectl itself refuses before it asks: a name must be a text that can stand in a path."""
    metadata = document.get("metadata")
    if metadata is None or metadata == {}:
        raise InvalidManifest(f"{where} has no metadata.name")
    try:
        shapes.fields(metadata=shapes.METADATA)(document, "")
    except InvalidManifest as error:
        raise InvalidManifest(f"{where}: {error}") from error
    if not (metadata.get("name") or metadata.get("generateName")):
        raise InvalidManifest(f"{where} has no metadata.name")
    for key in ("name", "namespace"):
        written = metadata.get(key) or ""
        sign = next((sign for sign in "/%" if sign in written), "")
        if sign or written in (".", ".."):
            problem = f"may not contain '{sign}'" if sign else f"may not be '{written}'"
            raise InvalidManifest(f"{where}: metadata.{key} is `{written}`: it {problem}")
    if "namespace" in metadata and not metadata["namespace"]:
        del metadata["namespace"]  # kubectl goes to the default one
