"""What would change, as data: a live object against the API server's answer to a dry run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_SERVER_ONLY = {"managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink"}
_HIDDEN = "(hidden)"


@dataclass(frozen=True)
class FieldChange:
    """One field; None stands for absent."""

    path: str
    before: Any
    after: Any

    def __iter__(self) -> Iterator[Any]:
        return iter((self.path, self.before, self.after))


@dataclass(frozen=True)
class Change:
    """What applying one object would do: create, change, none, replace, or refused; with the reason.

    `replace` is the answer where the object cannot be edited in place, or has ended, and may be created anew.
    `held_by` is the pod that has to go before that.
    """

    kind: str
    name: str
    namespace: str | None
    action: str
    fields: tuple[FieldChange, ...] = ()
    reason: str = ""
    code: int = 0
    held_by: str = ""


def field_changes(
    before: dict[str, Any] | None, after: dict[str, Any], written: dict[str, Any]
) -> tuple[FieldChange, ...]:
    """Every field that differs; for a new object, every field that the manifest writes."""
    secret = after.get("kind") == "Secret"
    if before is None:
        pairs = [change for change in _walk(None, written, "") if change.path not in _IDENTITY]
    else:
        pairs = list(_walk(_comparable(before), _comparable(after), ""))
    return tuple(_hide(change) if secret else change for change in pairs)


_IDENTITY = {"apiVersion", "kind", "metadata.name", "metadata.namespace"}


def _hide(change: FieldChange) -> FieldChange:
    if not change.path.startswith(("data", "stringData")):
        return change
    return FieldChange(
        change.path,
        None if change.before is None else _HIDDEN,
        None if change.after is None else _HIDDEN,
    )


def _comparable(tree: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in tree["metadata"].items() if key not in _SERVER_ONLY}
    return {**{key: value for key, value in tree.items() if key != "status"}, "metadata": metadata}


def _walk(before: Any, after: Any, path: str) -> Iterator[FieldChange]:
    if before == after:
        return
    if isinstance(after, dict) and isinstance(before, dict | None):
        for key in sorted({*(before or {}), *after}):
            yield from _walk((before or {}).get(key), after.get(key), _join(path, key))
    elif isinstance(before, dict) and after is None:
        for key in sorted(before):
            yield from _walk(before[key], None, _join(path, key))
    elif isinstance(before, list | None) and isinstance(after, list) and _are_objects(before or [], after):
        yield from _walk_list(before or [], after, path)
    else:
        yield FieldChange(path, before, after)


def _walk_list(before: list[Any], after: list[Any], path: str) -> Iterator[FieldChange]:
    """Lists of objects by name where they have one, by position otherwise."""
    old, new = _keyed(before), _keyed(after)
    for key in dict.fromkeys([*old, *new]):
        yield from _walk(old.get(key), new.get(key), f"{path}[{key}]")


def _keyed(items: list[Any]) -> dict[str, Any]:
    named = all("name" in item for item in items) and len({item["name"] for item in items}) == len(items)
    return {str(item["name"] if named else index): item for index, item in enumerate(items)}


def _are_objects(*lists: list[Any]) -> bool:
    return all(isinstance(item, dict) for items in lists for item in items)


def _join(path: str, key: str) -> str:
    if "." in key or "/" in key:
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key
