"""Imports point one way, so that a reader of one room need not know those above it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from helpers.embedded.images.build import SOURCES as IMAGES
from helpers.embedded.layers import _course_files
from helpers.settings import REPOSITORY

HELPERS = REPOSITORY / "helpers"
# From the ground up: a module knows its own room and those before it. In a lab's folder, what draws
# (`draw…`) stands above the shared widgets, as the notebooks do; what judges stands below them.
ROOMS = (
    *(
        "evidence",
        "errors",
        "settings",
        "atomic_file",
        "building",
        "kubeyaml",
        "progress",
        "course_process",
        "terminal",
        "cluster",
        "stack",
        "apps",
        "chaos",
    ),
    *("grading", "grading.pages", "review", "labs", "notebook", "labs.draw"),
    *("classroom.roster", "classroom.folder", "classroom.seats", "classroom.records", "classroom.marking"),
    *("classroom.board", "classroom.commands", "classroom", "restore", "shell", "cli"),
)
# The cluster on this machine is just another kubeconfig: the command line alone knows it, and it knows only these.
COMMAND_LINE = {"restore", "cli"}
EMBEDDED, BELOW_EMBEDDED = (
    "embedded",
    {
        "evidence",
        "errors",
        "settings",
        "building",
        "atomic_file",
        "progress",
        "kubeyaml",
        "terminal",
        "cluster",
    },
)
# Checks are declared in the words of these; the engine, which runs them, is none of their business.
DECLARING = {
    "helpers.grading",
    "helpers.grading.author",
    "helpers.grading.changes",
    "helpers.grading.declare",
    "helpers.grading.verdict",
}
DRAWING = {"marimo", "altair"}
DRAWERS = {"notebook", "labs.draw", "grading.pages", "classroom.board"}
# What the node's own Python has: `DAEMON_PACKAGES` in helpers/embedded/layers.py, as they are imported.
NODES_LIBRARIES = {*sys.stdlib_module_names, "grpc", "google", "yaml"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def in_an_image(path: Path) -> bool:
    """Programs that are copied into an image import what lies there, not the course."""
    return path.is_relative_to(IMAGES) and path.name != "__init__.py" and path.parent != IMAGES


@cache
def modules() -> dict[str, Path]:
    found = {
        module_name(path): path
        for path in HELPERS.rglob("*.py")
        if not in_an_image(path) and "qdrant_server" not in path.parts
    }
    assert len(found) > 100
    return found


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
            inside = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from {name if name in _names() else node.module for name in inside}


@cache
def _names() -> frozenset[str]:
    return frozenset(module_name(path) for path in HELPERS.rglob("*.py"))


def room(module: str) -> str:
    """The room of a module of `helpers`; a lab's folder has two."""
    parts = module.split(".")[1:]
    if not parts:
        return "evidence"  # the package `helpers` itself, which is empty
    if parts[0] == "labs" and parts[-1].startswith("draw"):
        return "labs.draw"
    two = ".".join(parts[:2])
    return two if two in ROOMS else parts[0]


def of_helpers(path: Path) -> set[str]:
    return {name for name in imports(path) if name.split(".")[0] == "helpers"}


def test_every_module_has_its_room() -> None:
    assert {room(name) for name in modules()} <= {*ROOMS, EMBEDDED}


@pytest.mark.parametrize("here", ROOMS)
def test_a_room_knows_only_those_below_it(here: str) -> None:
    known = set(ROOMS[: ROOMS.index(here) + 1]) | ({EMBEDDED} if here in COMMAND_LINE else set())
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        if room(name) == here
        for imported in sorted(of_helpers(path))
        if room(imported) not in known
    ]
    assert not wrong


def test_the_embedded_cluster_stands_apart() -> None:
    wrong = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        if room(name) == EMBEDDED
        for imported in sorted(of_helpers(path))
        if room(imported) not in BELOW_EMBEDDED | {EMBEDDED}
    ]
    assert not wrong


def test_no_module_needs_itself() -> None:
    graph = {name: of_helpers(path) - {name} for name, path in modules().items()}
    # `from helpers.grading import Lab` loads the module that has it, on first use.
    packages = {name for name, path in modules().items() if path.name == "__init__.py"}
    try:
        TopologicalSorter({name: needs - packages for name, needs in graph.items()}).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))


def test_checks_know_how_to_declare_and_not_how_they_are_run() -> None:
    known = {name for module, path in modules().items() if room(module) == "labs" for name in imports(path)}
    used = {name for name in known if name.startswith("helpers.grading")}
    assert used and used <= DECLARING


@pytest.mark.parametrize(
    ("libraries", "users"), [(DRAWING, DRAWERS), ({"kubernetes"}, {"cluster"})], ids=["drawing", "cluster"]
)
def test_a_library_is_imported_by_few(libraries: set[str], users: set[str]) -> None:
    found = {
        room(name)
        for name, path in modules().items()
        if libraries & {imported.split(".")[0] for imported in imports(path)}
    }
    assert found == users


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
