"""How the API server lays a patch over an object: merge patch, strategic merge, apply, JSON patch.

Strategic merge and server-side apply merge lists of objects by a key. Which key is in Kubernetes'
schemas; the fake takes the first of the usual ones that all items have.
"""

from __future__ import annotations

from typing import Any

# Lists of objects that server-side apply merges by a key instead of replacing.
_MERGE_KEYS = ("name", "containerPort", "key", "type", "ip")


def merge(before: Any, patch: Any, *, keyed: bool) -> Any:
    """Lay a patch over a tree: None removes; lists of named objects merge by name where `keyed`.

    What was there keeps its place in such a list, and what is new follows it. `before` is changed.
    """
    if isinstance(before, dict) and isinstance(patch, dict):
        for key, value in patch.items():
            if value is None:
                before.pop(key, None)
            else:
                before[key] = merge(before.get(key), value, keyed=keyed)
        return before
    if keyed and isinstance(before, list) and isinstance(patch, list):
        name = _merge_key(before, patch)
        if name:
            new = {item[name]: item for item in patch}
            kept = [merge(item, new.pop(item[name], {}), keyed=keyed) for item in before]
            return kept + [merge({}, item, keyed=keyed) for item in new.values()]
    if isinstance(patch, dict):
        return merge({}, patch, keyed=keyed)
    return patch


def drop(tree: Any, last: Any, now: Any) -> Any:
    """Remove from a tree what `last` had and `now` has not; lists of named objects go by name."""
    if isinstance(tree, dict) and isinstance(last, dict):
        for key in last:
            if key not in tree:
                continue
            if not isinstance(now, dict) or key not in now:
                gone = drop(tree[key], last[key], None) if isinstance(last[key], dict) else None
                if gone:
                    tree[key] = gone
                else:
                    del tree[key]
            else:
                tree[key] = drop(tree[key], last[key], now[key])
    elif isinstance(tree, list) and isinstance(last, list) and isinstance(now, list):
        name = _merge_key(tree, last, now)
        if name:
            before, after = ({item[name]: item for item in items} for items in (last, now))
            return [
                drop(item, before.get(item[name]), after.get(item[name]))
                for item in tree
                if item[name] in after or item[name] not in before
            ]
    return tree


def _merge_key(*lists: list[Any]) -> str | None:
    """The first usual key that every item has, and no two items of one list have alike."""
    items = [item for found in lists for item in found]
    for key in _MERGE_KEYS if items else ():
        if not all(isinstance(item, dict) and isinstance(item.get(key), str | int) for item in items):
            continue
        if all(len({item[key] for item in found}) == len(found) for found in lists):
            return key
    return None


def json_patch(tree: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Carry out `add`, `remove` and `replace` of RFC 6902 on a tree, which is changed and returned."""
    for operation in operations:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in operation["path"].split("/")[1:]]
        holder: Any = tree
        for step in steps[:-1]:
            holder = holder[int(step)] if isinstance(holder, list) else holder.setdefault(step, {})
        last: Any = steps[-1]
        if isinstance(holder, list):
            last = len(holder) if last == "-" else int(last)
            if operation["op"] == "add":
                holder.insert(last, operation["value"])
                continue
        if operation["op"] == "remove":
            del holder[last]
        else:
            holder[last] = operation["value"]
    return tree
