"""The controller's half of lab 09 as fakes keep it: kinds, controller and runtime, and the solution without its records.

`mutants_controller` begins here and leaves the witnesses' records. Objects come from the manifests and from the
solution's cells; the children are what the solution's own functions make of them.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

from helpers.apps.isvc.decisions import FILE, PLUG_POINTS, TYPES, asked
from helpers.apps.orchestrator.decisions import load
from helpers.settings import REPOSITORY
from helpers.stack import isvc

PAGE = REPOSITORY / "solutions" / "09_models.py"
PARTS = REPOSITORY / "solutions" / "09_parts_controller.py.txt"
# What the page delivers: the six functions, and two that they share.
FUNCTIONS = (*("find_runtime", "model_volume", "children", "step", "wakes", "condition", "serves", "status"),)


def source() -> Path:
    """The file that has the solution's cells."""
    return PAGE if PAGE.is_file() and "def find_runtime" in PAGE.read_text() else PARTS


@cache
def functions_text() -> str:
    """`reconcile.py` as the page delivers the solution's functions."""
    tree = ast.parse(source().read_text())
    named = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    texts = [
        ast.unparse(ast.FunctionDef(**{**vars(named[name]), "decorator_list": []})) for name in FUNCTIONS
    ]
    return isvc.HEAD + "\n\n\n".join(texts) + "\n"


@cache
def _functions() -> dict[str, Any]:
    return load(FILE, functions_text().encode(), PLUG_POINTS, TYPES)


def children_of(service: dict[str, Any], runtimes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the solution's functions make of an InferenceService."""
    model = service["spec"]["predictor"]["model"]
    runtime = asked(_functions(), "find_runtime", model, runtimes)
    found = asked(_functions(), "children", service, runtime)
    for item in found:
        item["metadata"] = {**item["metadata"], "namespace": isvc.NAMESPACE}
    copied: list[dict[str, Any]] = json.loads(json.dumps(found))
    return copied
