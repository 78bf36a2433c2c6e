"""Kubeconfigs as kubectl reads them: several files as one, paths relative to the file that they stand in.

https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/ has the rules:
of several files the first that sets a name or a value wins, and a file that is empty or not there
counts for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from helpers import kubeyaml
from helpers.errors import EnvironmentFault, NoClusterChosen

SECTIONS = ("clusters", "users", "contexts")
_FILES = {
    "cluster": ("certificate-authority",),
    "user": ("client-certificate", "client-key", "tokenFile"),
}
_ENTRY = {"clusters": "cluster", "users": "user", "contexts": "context"}


def files_in(path: Path) -> list[Path]:
    """The files that a path names: itself, or each of a list as KUBECONFIG has it (`a:b`)."""
    if os.pathsep not in str(path) or path.exists():
        return [path]
    return [Path(part) for part in str(path).split(os.pathsep) if part]


def is_there(path: Path) -> bool:
    """Whether one of the files exists."""
    return any(file.exists() for file in files_in(path))


def absolute(path: Path) -> Path:
    """The same files wherever the command is run."""
    return Path(os.pathsep.join(str(file.expanduser().resolve()) for file in files_in(path)))


def kubectl(path: Path, arguments: str) -> str:
    """A kubectl command that reads these files."""
    if len(files_in(path)) > 1:
        return f"KUBECONFIG={path} kubectl {arguments}"
    return f"kubectl --kubeconfig {path} {arguments}"


def read(path: Path) -> dict[str, Any]:
    """One kubeconfig from all files of a path, with every file that it names as an absolute path.

    Raises:
        NoClusterChosen: no file is there.
        EnvironmentFault: a file is not readable, or none of a kubeconfig's shape.
    """
    found = [file for file in files_in(path) if file.exists()]
    if not found:
        raise NoClusterChosen(f"there is no kubeconfig at {path}", next_command="course up")
    return _merged([_read_one(file) for file in found])


def named(tree: dict[str, Any], section: str, name: str, path: Path) -> dict[str, Any]:
    """The entry of that name.

    Raises:
        NoClusterChosen: there is none; the sentence lists those that are there.
    """
    for item in tree[section]:
        if item["name"] == name:
            return dict(item)
    have = ", ".join(item["name"] for item in tree[section]) or "none"
    raise NoClusterChosen(
        f"{path} has no entry {name!r} in {section} (it has: {have})",
        next_command=kubectl(path, "config get-contexts"),
    )


def _read_one(file: Path) -> dict[str, Any]:
    try:
        tree = kubeyaml.load(file.read_text())
    except (OSError, kubeyaml.NotYaml, UnicodeDecodeError) as error:
        raise EnvironmentFault(f"{file} is not a readable kubeconfig: {error}") from error
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise EnvironmentFault(f"{file} is not a kubeconfig")
    base = file.resolve().parent
    sections = {section: [_entry(item, section, file, base) for item in _items(tree, section, file)]
                for section in SECTIONS}  # fmt: skip
    current = tree.get("current-context") or ""
    if not isinstance(current, str):
        raise EnvironmentFault(f"{file} is not a kubeconfig: current-context is {current!r}, not a text")
    return {"current-context": current, **sections}


def _items(tree: dict[str, Any], section: str, file: Path) -> list[Any]:
    items = tree.get(section) or []
    if not isinstance(items, list):
        raise EnvironmentFault(f"{file} is not a kubeconfig: {section} is not a list")
    return items


def _entry(item: Any, section: str, file: Path, base: Path) -> dict[str, Any]:
    kind = _ENTRY[section]
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise EnvironmentFault(f"{file} is not a kubeconfig: an entry of {section} has no name in quotes")
    holder = item.get(kind) or {}
    if not isinstance(holder, dict):
        raise EnvironmentFault(
            f"{file} is not a kubeconfig: {section}, {item['name']}: {kind} is not a mapping"
        )
    return {**item, kind: _with_paths(holder, kind, base, f"{file}: {section}, {item['name']}")}


def _with_paths(holder: dict[str, Any], kind: str, base: Path, where: str) -> dict[str, Any]:
    placed = dict(holder)
    for key in _FILES.get(kind, ()):
        if placed.get(key):
            if not isinstance(placed[key], str):
                raise EnvironmentFault(f"{where}: {key} is {placed[key]!r}, not a path")
            placed[key] = str(base / placed[key])
    plugin = placed.get("exec")
    if isinstance(plugin, dict) and os.sep in str(plugin.get("command") or ""):
        placed["exec"] = {**plugin, "command": str(base / str(plugin["command"]))}
    return placed


def _merged(trees: Sequence[dict[str, Any]]) -> dict[str, Any]:
    current = next((tree["current-context"] for tree in trees if tree["current-context"]), "")
    merged: dict[str, Any] = {"current-context": current}
    for section in SECTIONS:
        first: dict[str, Any] = {}
        for tree in trees:
            for item in tree[section]:
                first.setdefault(item["name"], item)
        merged[section] = list(first.values())
    return merged
