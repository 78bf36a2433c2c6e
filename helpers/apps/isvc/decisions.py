"""What the learner writes: pure functions in `/etc/isvc/decisions/reconcile.py`, read as the orchestrator's are.

They are asked on every pass, with objects as the API server has them, and answer with objects or with a word. None of
them reads the cluster or changes it: the controller does both, between its questions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from helpers.apps.orchestrator.decisions import PlugPoint, answer_of, returns

FILE = "reconcile.py"
GROUP = "serving.kserve.io"
APPLY, LEAVE, REFUSE = "apply", "leave", "refuse"
"""Make it so, by server-side apply; do not touch it; do not touch it, and say so: it is somebody else's."""
SERVICE_LABEL = f"{GROUP}/inferenceservice"
CHILDREN = {"Deployment": "apps/v1", "Service": "v1"}
"""The kinds that the controller may make, with their versions."""
EVENTS = (
    *(
        (kind, change)
        for kind in ("InferenceService", "ServingRuntime", "Deployment", "Service", "EndpointSlice")
        for change in ("ADDED", "MODIFIED", "DELETED")
    ),
    ("clock", "TICK"),
)
"""What can wake the controller: a change that the API server told it, or the clock, every ten seconds."""
Object = dict[str, Any]


class InvalidSpec(Exception):
    """What an InferenceService asks for cannot be served as it stands; the message says why, in its status."""


@dataclass(frozen=True)
class Problem:
    """Why a pass did not come to its end.

    Args:
        reason: one word: InvalidSpec, NotOurs (a child's name is taken), ApplyFailed (the API server refused a child),
            ControllerFault (a function failed).
        message: a sentence.
    """

    reason: str
    message: str


@dataclass(frozen=True)
class Seen:
    """What is in the cluster when the pass is over.

    Args:
        deployment, service: the children as the API server has them, with their status; None for none.
        addresses: how many ready addresses stand behind the Service.
    """

    deployment: Object | None = None
    service: Object | None = None
    addresses: int = 0


TYPES: tuple[type, ...] = (InvalidSpec, Problem, Seen)


# Examples: a function is tried with them when its file is read.


def example_service(name: str = "smol", **model: Any) -> Object:
    """An InferenceService as the API server has one; `model` is laid over its `spec.predictor.model`."""
    asked = {
        "modelFormat": {"name": "huggingface"},
        "runtime": "vllm",
        "storageUri": "oci+native://registry.example/tiny:1",
        **model,
    }
    return {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name, "namespace": "llm-models", "uid": f"uid-of-{name}", "generation": 1},
        "spec": {"predictor": {"model": {key: value for key, value in asked.items() if value is not None}}},
    }


def example_runtime(name: str = "vllm", *formats: str, **spec: Any) -> Object:
    """A ServingRuntime with one container that listens on 8000."""
    container = {
        "name": "kserve-container",
        "image": "registry.example/server:1",
        "args": ["--model=/mnt/models", "--served-model-name={{.Name}}", "--port=8000"],
        "ports": [{"name": "http", "containerPort": 8000}],
        "resources": {"requests": {"cpu": "10m"}, "limits": {"memory": "64Mi"}},
    }
    supported = [{"name": item, "autoSelect": True} for item in formats or ("huggingface",)]
    return {
        "apiVersion": f"{GROUP}/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": name, "namespace": "llm-models", "uid": f"uid-of-{name}"},
        "spec": {"supportedModelFormats": supported, "containers": [container], **spec},
    }


_MODEL = example_service()["spec"]["predictor"]["model"]
_DEPLOYMENT: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {
        "name": "smol-predictor",
        "namespace": "llm-models",
        "generation": 1,
        "ownerReferences": [
            {
                "apiVersion": f"{GROUP}/v1beta1",
                "kind": "InferenceService",
                "name": "smol",
                "uid": "uid-of-smol",
                "controller": True,
            }
        ],
    },
    "spec": {"replicas": 1},
    "status": {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "availableReplicas": 1},
}


# What may be answered


def _runtime(value: Any) -> str:
    wrong = returns(dict, "one of the ServingRuntimes")(value)
    return wrong or ("" if "containers" in (value.get("spec") or {}) else "returned no ServingRuntime")


def _volume(value: Any) -> str:
    if not isinstance(value, tuple) or len(value) != 2:
        return f"returned {value!r:.60}, not a volume's source and a path in it"
    source, path = value
    if not isinstance(source, dict) or not isinstance(path, str):
        return f"returned {value!r:.60}, not a volume's source and a path in it"
    return ""


def _children(value: Any) -> str:
    if not isinstance(value, list):
        return f"returned {value!r:.60}, not a list of objects"
    for item in value:
        kind = item.get("kind") if isinstance(item, dict) else None
        if kind not in CHILDREN or item.get("apiVersion") != CHILDREN[kind]:
            wanted = " or ".join(f"{name} ({version})" for name, version in CHILDREN.items())
            return f"returned {kind or item!r:.60} among the objects: the controller makes {wanted}"
        if not isinstance((item.get("metadata") or {}).get("name"), str):
            return f"returned a {kind} without a name"
    names = [(item["kind"], item["metadata"]["name"]) for item in value]
    return "" if len(set(names)) == len(names) else "returned two objects of one kind and name"


def _step(value: Any) -> str:
    right = (APPLY, LEAVE, REFUSE)
    return "" if value in right else f"returned {value!r:.40}, which is none of {', '.join(right)}"


def _status(value: Any) -> str:
    if not isinstance(value, dict):
        return f"returned {value!r:.60}, not a status"
    conditions = value.get("conditions")
    if not isinstance(conditions, list):
        return "returned a status without a list of conditions"
    for item in conditions:
        if not isinstance(item, dict) or not isinstance(item.get("type"), str):
            return f"returned {item!r:.60} among the conditions"
        if item.get("status") not in ("True", "False", "Unknown"):
            return f'returned {item.get("status")!r:.40} as a condition\'s status: it is "True", "False" or "Unknown"'
    return ""


PLUG_POINTS = (
    PlugPoint(FILE, "find_runtime", ("model", "runtimes"), ((_MODEL, [example_runtime()]),), _runtime),
    PlugPoint(FILE, "model_volume", ("uri",), (("oci+native://registry.example/tiny:1",),), _volume),
    PlugPoint(FILE, "children", ("service", "runtime"), ((example_service(), example_runtime()),), _children),
    PlugPoint(FILE, "step", ("service", "wanted", "found"), ((example_service(), _DEPLOYMENT, None),), _step),
    PlugPoint(FILE, "wakes", ("kind", "change"), EVENTS, returns(bool, "True or False")),
    PlugPoint(
        FILE,
        "status",
        ("service", "seen", "problem"),
        (
            (example_service(), Seen(), None),
            (example_service(), Seen(), Problem("InvalidSpec", "an example")),
            (example_service(), Seen(_DEPLOYMENT, {"metadata": {"name": "smol-predictor"}}, 1), None),
        ),
        _status,
    ),
)
POINTS = {point.name: point for point in PLUG_POINTS}


def asked(functions: Mapping[str, Callable[..., Any]], name: str, *arguments: Any) -> Any:
    """What a function says of these arguments.

    Raises:
        InvalidSpec: the function says so.
        DecisionWrong: it failed, or said what it may not say.
    """
    from helpers.apps.orchestrator.decisions import DecisionWrong

    try:
        return answer_of(POINTS[name], functions[name], arguments)
    except DecisionWrong as wrong:
        if isinstance(wrong.__cause__, InvalidSpec):
            raise wrong.__cause__ from None
        raise
