"""The controller's half of lab 09 as fakes keep it: kinds, controller and runtime, and the solution without its records.

`mutants_controller` begins here and leaves the witnesses' records. Objects come from the manifests and from the
solution's cells; the children are what the solution's own functions make of them.
"""

from __future__ import annotations

import ast
import json
from functools import cache
from typing import Any

from helpers.apps.isvc.decisions import FILE, GROUP, PLUG_POINTS, TYPES, asked
from helpers.apps.orchestrator.decisions import load
from helpers.cluster.fake import FakeCluster
from helpers.grading.changes import Change, Manifest, applied, manifest, one, rolled_out, solved
from helpers.labs.lab09_models.proof_staging import NAMES
from helpers.settings import REPOSITORY
from helpers.stack import isvc

PAGE = REPOSITORY / "solutions" / "09_models.py"
KINDS = (
    ("InferenceService", GROUP, "v1beta1", "inferenceservices"),
    ("ServingRuntime", GROUP, "v1alpha1", "servingruntimes"),
    ("LLMInferenceService", GROUP, "v1alpha2", "llminferenceservices"),
)
# What the page delivers: the six functions, and two that they share.
FUNCTIONS = (*("find_runtime", "model_volume", "children", "step", "wakes", "condition", "serves", "status"),)


@cache
def functions_text() -> str:
    """`reconcile.py` as the page delivers the solution's functions."""
    tree = ast.parse(PAGE.read_text())
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


# The start, and the solution


def start(cluster: Any) -> None:
    """What `course start 09` leaves of this half: KServe's kinds, the runtime, and a controller without functions."""
    for kind, group, version, plural in KINDS:
        cluster.serve_kind(kind, group, version, plural)
    mine = () if cluster.scope.suffix else ("ServiceAccount", "Role", "RoleBinding")
    applied(*(item for item in manifests() if item["kind"] in ("ServingRuntime", *mine)))(cluster)
    rolled_out(*(item for item in manifests() if item["kind"] == "Deployment"))(cluster)


def solution(cluster: Any) -> None:
    """The learner's functions in the controller, and their InferenceService served; no witness has looked."""
    delivered(functions_text())(cluster)
    serving(one(objects("isvc_yaml"), "InferenceService"))(cluster)


def manifests() -> list[Manifest]:
    """The controller and its runtime, for an embedded cluster."""
    found: list[Manifest] = json.loads(_manifests())
    return found


@cache
def _manifests() -> str:
    return json.dumps(isvc.manifests(FakeCluster()))


def objects(cell: str) -> list[Manifest]:
    """The objects of a YAML cell, as solved."""
    return solved("09", cell, **NAMES)


def delivered(text: str) -> Change:
    """These functions in the ConfigMap, and in the controller's pod template."""

    def change(cluster: Any) -> None:
        applied(manifest("ConfigMap", isvc.DECISIONS, isvc.NAMESPACE, data={FILE: text}))(cluster)
        isvc.roll_out(cluster)

    return change


def serving(service: Manifest, *, ready: str = "True", serves: bool = True) -> Change:
    """An InferenceService as the solution's controller leaves it: its children, its status, and who answers.

    Args:
        ready: what its status says.
        serves: whether a model answers.
    """

    def change(cluster: Any) -> None:
        applied(service)(cluster)
        name = service["metadata"]["name"]
        found = cluster.view().get(isvc.SERVICE, name, isvc.NAMESPACE)
        runtimes = [item.raw for item in cluster.view().list("ServingRuntime", isvc.NAMESPACE)]
        rolled_out(*children_of(found.raw, runtimes))(cluster)
        reason = "Serving" if ready == "True" else "PredictorNotReady"
        conditions = [{"type": "Ready", "status": ready, "reason": reason}]
        status = {"observedGeneration": found.metadata["generation"], "conditions": conditions}
        cluster.set_status(isvc.SERVICE, name, status, isvc.NAMESPACE)
        answers(name, serves=serves)(cluster)

    return change


def answers(name: str, *, model: str = "", serves: bool = True) -> Change:
    """A model behind an InferenceService's Service; `model` is how it calls itself."""

    def answer(method: str, path: str, body: Any) -> tuple[int, str]:
        if not serves:
            return 503, "no endpoints available"
        said = {"model": model or name, "usage": {"completion_tokens": 3}}
        return 200, json.dumps(said)

    return lambda cluster: cluster.serve(isvc.NAMESPACE, isvc.predictor(name), 80, answer)
