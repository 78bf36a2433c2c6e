"""Imports point one way, so that a reader of one package need not know those above it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from helpers.embedded.layers import _course_files
from helpers.settings import REPOSITORY

HELPERS = REPOSITORY / "helpers"
FOR_ALL = {"errors", "evidence", "settings", "terminal"}
# What each package may know of, beside itself and what is for all.
BELOW = {
    "cluster": set(),
    "stack": {"cluster"},
    "chaos": {"cluster"},
    "checks": {"grading", "stack", "chaos", "cluster"},
    "grading": {"checks", "stack", "cluster"},
    "classroom": {"grading", "checks", "stack", "cluster"},
    "notebook": {"classroom", "grading", "checks", "stack", "chaos", "cluster"},
    "embedded": {"cluster"},
}
# Checks are declared in the words of these; the engine, which runs them, is none of their business.
DECLARING = {
    "helpers.grading",
    "helpers.grading.author",
    "helpers.grading.declare",
    "helpers.grading.verdict",
}
# A page that is opened and the commands that open pages stand above `notebook`, as the labs do.
ABOVE_NOTEBOOK = {"helpers.classroom.board", "helpers.classroom.commands_learner"}
DRAWING = {"marimo", "altair"}
# What the node's own Python has: `DAEMON_PACKAGES` in helpers/embedded/layers.py, as they are imported.
NODES_LIBRARIES = {*sys.stdlib_module_names, "grpc", "google", "yaml"}


@cache
def imports(path: Path) -> frozenset[str]:
    """All modules that a file imports, wherever in it; of `helpers`, no deeper than a module's name."""
    return frozenset(_imports(ast.parse(path.read_text())))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, "imports are absolute"
            whole = node.module == "helpers"
            yield from (f"helpers.{alias.name}" for alias in node.names) if whole else (node.module,)


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def python_files(package: str) -> list[Path]:
    found = sorted((HELPERS / package).rglob("*.py"))
    assert found, f"helpers/{package} has no code"
    return found


def test_every_package_has_its_place() -> None:
    assert {path.parent.name for path in HELPERS.glob("*/__init__.py")} == set(BELOW)


@pytest.mark.parametrize("package", BELOW)
def test_a_package_knows_only_those_below_it(package: str) -> None:
    wrong = [
        f"{module_name(path)} imports {imported}"
        for path in python_files(package)
        for imported in sorted(imports(path))
        if imported.startswith("helpers.")
        and imported.split(".")[1] not in BELOW[package] | FOR_ALL | {package}
        and not (imported.startswith("helpers.notebook") and module_name(path) in ABOVE_NOTEBOOK)
    ]
    assert not wrong


def test_checks_know_how_to_declare_and_not_how_they_are_run() -> None:
    known = {name for path in python_files("checks") for name in imports(path)}
    assert {name for name in known if name.startswith("helpers.grading")} <= DECLARING


@pytest.mark.parametrize(
    ("libraries", "package"), [(DRAWING, "notebook"), ({"kubernetes"}, "cluster")], ids=["drawing", "cluster"]
)
def test_a_library_is_imported_by_one_package_alone(libraries: set[str], package: str) -> None:
    users = {
        module_name(path)
        for path in HELPERS.rglob("*.py")
        if libraries & {name.split(".")[0] for name in imports(path)}
    }
    assert {name.split(".")[1] for name in users - ABOVE_NOTEBOOK} == {package}


def test_what_runs_in_the_node_imports_only_what_lies_there() -> None:
    inside = [path for name, path in _course_files() if name.endswith(".py")]
    known = {module_name(path) for path in inside} | {"helpers.cluster"}  # an empty one is made there
    wrong = [
        f"{module_name(path)} imports {imported}"
        for path in inside
        for imported in sorted(imports(path))
        if imported not in known and imported.split(".")[0] not in NODES_LIBRARIES
    ]
    assert inside and not wrong
