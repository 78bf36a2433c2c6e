"""What lab 09 draws of the controller: what a learner's functions would do, before they are delivered, and what they did.

The examples are the course's own, and no cluster is asked for them: every edit redraws the tables. What a function
raises, or returns in the wrong shape, is told in a sentence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers import kubeyaml
from helpers.apps.isvc.decisions import (
    APPLY,
    FILE,
    LEAVE,
    PLUG_POINTS,
    POINTS,
    REFUSE,
    TYPES,
    InvalidSpec,
    Object,
    Problem,
    Seen,
    example_runtime,
    example_service,
)
from helpers.apps.orchestrator.decisions import DecisionWrong, load
from helpers.cluster.resource import Resource
from helpers.errors import InvalidManifest, LabError
from helpers.labs.draw_witness import Panels
from helpers.labs.lab06_orchestration.draw_decisions import _or_sentence, _Wrong
from helpers.labs.lab09_models import draw_staging
from helpers.labs.lab09_models.checks_controller import NAME
from helpers.labs.lab09_models.run import BOOK, run
from helpers.labs.lab09_models.witness_controller import faults_between, is_current, ready_of
from helpers.notebook.html import card, code, course, cut, inline, note, spinner, table, word
from helpers.notebook.reset import reset_button
from helpers.notebook.session import LabSession, needs_cluster
from helpers.stack import isvc
from helpers.stack.orchestrator import short_hash

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

NAMESPACE = isvc.NAMESPACE
READY_S, POLL_S = 300.0, 1.0
LONGEST = 90
_PANELS = Panels(BOOK, run)
_REFUSED = "InvalidSpec"


def _said(name: str, function: Any, *arguments: Any) -> Any:
    """What a learner's function says of a copy of these arguments; an InvalidSpec as it is.

    Raises:
        _Wrong: it raised something else, or said what it may not say.
    """
    if not callable(function):
        raise _Wrong(f"{function!r:.60} is no function")
    try:
        value = function(*deepcopy(arguments))
    except InvalidSpec as invalid:
        return invalid
    except Exception as error:  # the learner's own code: whatever it raises is told to them
        raise _Wrong(f"{name} raised {type(error).__name__}: {error}") from error
    if fault := POINTS[name].fault(value):
        raise _Wrong(f"{name} {fault}")
    return value


def _held(right: bool, said: str) -> Markup:
    return word("PASS" if right else "FAIL", said)


# From two objects to two others


def examples() -> Any:
    """An InferenceService and a ServingRuntime as the functions get them, to be opened."""
    asked: dict[str, Any] = {"args": ["--max-model-len=64"], "resources": {"limits": {"memory": "2Gi"}}}
    shown = {"An InferenceService": example_service(**asked), "A ServingRuntime": example_runtime()}
    return mo.accordion(
        {title: mo.md(f"```yaml\n{kubeyaml.dump(found)}\n```") for title, found in shown.items()}
    )


def _runtimes() -> list[Object]:
    return [
        example_runtime("archive", disabled=True),
        example_runtime("by-hand", supportedModelFormats=[{"name": "huggingface"}]),
        example_runtime("vllm"),
        example_runtime("triton", "onnx"),
    ]


_MODELS: tuple[tuple[str, Object, str], ...] = (
    ("`runtime: vllm`, format `huggingface`", {"runtime": "vllm"}, "vllm"),
    ("`runtime: by-hand`, format `huggingface`", {"runtime": "by-hand"}, "by-hand"),
    ("no runtime, format `huggingface`", {"runtime": None}, "vllm"),
    ("no runtime, format `onnx`", {"runtime": None, "modelFormat": {"name": "onnx"}}, "triton"),
    ("no runtime, format `gguf`", {"runtime": None, "modelFormat": {"name": "gguf"}}, ""),
    ("`runtime: vllm`, format `onnx`", {"runtime": "vllm", "modelFormat": {"name": "onnx"}}, ""),
    ("`runtime: archive`, format `huggingface`", {"runtime": "archive"}, ""),
    ("`runtime: tgi`, format `huggingface`", {"runtime": "tgi"}, ""),
)


@_or_sentence
def runtime_table(find_runtime: Any) -> mo.Html:
    """Models, and which runtime is found for them."""
    rows = []
    for asked, model, right in _MODELS:
        wanted = example_service(**model)["spec"]["predictor"]["model"]
        said = _said("find_runtime", find_runtime, wanted, _runtimes())
        name = _REFUSED if isinstance(said, InvalidSpec) else (said.get("metadata") or {}).get("name")
        rows.append((inline(asked), right or _REFUSED, _held(name == (right or _REFUSED), str(name))))
    about = Markup(
        "<small>There are <code>archive</code>, which is disabled, <code>by-hand</code>, without autoSelect, "
        "<code>vllm</code>, and <code>triton</code> for onnx.</small>"
    )
    return card(about + table(("the model asks for", "right", "your function"), rows), live=True)


_DIGEST = f"registry.example/tiny@sha256:{12 * 'ab'}"
_URIS: tuple[tuple[str, Object | None, str], ...] = (
    (f"oci+native://{_DIGEST}", {"image": {"reference": _DIGEST}}, "models"),
    ("pvc://shared/a/model", {"persistentVolumeClaim": {"claimName": "shared", "readOnly": True}}, "a/model"),
    ("pvc://shared", {"persistentVolumeClaim": {"claimName": "shared", "readOnly": True}}, ""),
    ("s3://bucket/model", None, ""),
    ("registry.example/tiny:1", None, ""),
)


@_or_sentence
def volume_table(model_volume: Any) -> mo.Html:
    """Addresses of models, and what is mounted for them."""
    rows = []
    for uri, right, path in _URIS:
        said = _said("model_volume", model_volume, uri)
        wanted = _volume_words(right, path) if right else _REFUSED
        if isinstance(said, InvalidSpec):
            found, is_right = _REFUSED, right is None
        else:
            found = _volume_words(*said)
            is_right = right is not None and _same_volume(said[0], right) and said[1].strip("/") == path
        rows.append((code(uri), inline(wanted), _held(is_right, found)))
    return card(table(("storageUri", "right", "your function"), rows), live=True)


def _volume_words(source: Mapping[str, Any], path: str) -> str:
    image, claim = source.get("image") or {}, source.get("persistentVolumeClaim") or {}
    at = f", path {path}" if path else ""
    if image:
        return f"image {str(image.get('reference'))[:34]}{at}"
    if claim:
        return (
            f"claim {claim.get('claimName')}{at}, {'read-only' if claim.get('readOnly') else 'to be written'}"
        )
    return f"{next(iter(source), 'nothing')}{at}"


def _same_volume(said: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    (kind,) = right
    return list(said) == [kind] and right[kind].items() <= (said[kind] or {}).items()


_SERVICES: tuple[tuple[str, Object], ...] = (
    (
        "a model in an image",
        {
            "storageUri": f"oci+native://{_DIGEST}",
            "args": ["--max-model-len=64"],
            "resources": {"limits": {"memory": "2Gi"}},
        },
    ),
    ("a model on a claim", {"storageUri": "pvc://shared/a/model"}),
)


@_or_sentence
def children_table(children: Any) -> Any:
    """Two InferenceServices, and what is not right with what would be made of them."""
    rows: list[tuple[str, Markup]] = []
    made: list[Object] = []
    runtime = example_runtime()
    for about, model in _SERVICES:
        service = example_service(**model)
        said = _said("children", children, service, runtime)
        if isinstance(said, InvalidSpec):
            rows.append((about, _held(False, f"InvalidSpec: {said}")))
            continue
        made += said
        faults = list(_faults(service, runtime, said))
        rows.append((about, _held(not faults, faults[0] if faults else "all as it was asked for")))
    again = {isvc.predictor("smol")}
    unknown = sorted({item["metadata"]["name"] for item in made} - again)
    if unknown:
        rows.append(("their names", _held(False, f"{unknown[0]}, and KServe's are NAME-predictor")))
    text = "---\n".join(kubeyaml.dump(item) for item in made[:2])
    shown = mo.accordion({"What would be made of the first": mo.md(f"```yaml\n{text}\n```")})
    return mo.vstack(
        [card(table(("InferenceService", "your function"), rows), live=True), *([shown] if made else [])],
        gap=0.3,
    )


def _faults(service: Object, runtime: Object, made: list[Object]) -> Iterator[str]:
    kinds = {item["kind"]: Resource(item) for item in made}
    missing = [kind for kind in ("Deployment", "Service") if kind not in kinds]
    if missing:
        yield f"there is no {missing[0]}"
        return
    yield from faults_between(Resource(service), Resource(runtime), kinds["Deployment"], kinds["Service"])


# What to do, and when


def _child(owner: Object | None = None, **spec: Any) -> Object:
    found: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "smol-predictor", "namespace": NAMESPACE, "generation": 1},
        "spec": {"replicas": 1, **spec},
    }
    if owner is not None:
        reference = {
            "apiVersion": isvc.ISVC_VERSION,
            "kind": isvc.SERVICE,
            "name": "smol",
            "controller": True,
        }
        found["metadata"]["ownerReferences"] = [reference | owner]
    return found


_OURS = {"uid": "uid-of-smol"}
_FOUND: tuple[tuple[str, Object | None, tuple[str, ...]], ...] = (
    ("there is none", None, (APPLY,)),
    ("ours, as it is wanted", _child(_OURS), (APPLY, LEAVE)),
    ("ours, with 3 replicas", _child(_OURS, replicas=3), (APPLY,)),
    ("of the same name, without an owner", _child(), (REFUSE,)),
    ("of an InferenceService `smol` that was deleted", _child({"uid": "uid-of-another"}), (REFUSE,)),
)


@_or_sentence
def step_table(step: Any) -> mo.Html:
    """What is found under the name of a child, and what becomes of it."""
    rows = []
    for about, found, right in _FOUND:
        said = _said("step", step, example_service(), _child(_OURS), found)
        said = _REFUSED if isinstance(said, InvalidSpec) else said
        rows.append((inline(about), " or ".join(right), _held(said in right, said)))
    return card(table(("Deployment smol-predictor", "right", "your function"), rows), live=True)


_HAPPENS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("somebody makes an InferenceService", (("InferenceService", "ADDED"),)),
    ("somebody changes it", (("InferenceService", "MODIFIED"),)),
    ("somebody deletes its Deployment", (("Deployment", "DELETED"),)),
    ("somebody edits its Deployment", (("Deployment", "MODIFIED"),)),
    ("somebody deletes its Service", (("Service", "DELETED"),)),
    ("somebody edits its Service", (("Service", "MODIFIED"),)),
    ("its pods become ready", (("Deployment", "MODIFIED"), ("EndpointSlice", "MODIFIED"))),
    ("the runtime that was missing comes", (("ServingRuntime", "ADDED"),)),
    ("an event is lost", ()),
)


@_or_sentence
def wakes_table(wakes: Any) -> mo.Html:
    """What happens in a cluster, and when the controller looks."""

    def looks(kind: str, change: str) -> bool:
        said = _said("wakes", wakes, kind, change)
        return bool(said) and not isinstance(said, InvalidSpec)

    by_clock, rows = looks("clock", "TICK"), []
    for about, events in _HAPPENS:
        at_once = any(looks(*event) for event in events)
        when = "at once" if at_once else ("within ten seconds" if by_clock else "never")
        rows.append((about, _held(when != "never", when)))
    return card(table(("what happens", "it looks"), rows), live=True)


# What is said


def _deployment(generation: int = 1, observed: int = 1, **counts: int) -> Object:
    found = _child(_OURS)
    found["metadata"]["generation"] = generation
    usual = {"replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    found["status"] = {"observedGeneration": observed, **usual, **counts}
    return found


_NONE = {"readyReplicas": 0, "availableReplicas": 0}
_FRONT: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "smol-predictor"}}
_SEEN: tuple[tuple[str, Seen, Problem | None, str, str], ...] = (
    (
        "made a moment ago",
        Seen(_deployment(observed=0, replicas=0, updatedReplicas=0, **_NONE), _FRONT),
        None,
        "False",
        "",
    ),
    ("its pod loads the model", Seen(_deployment(**_NONE), _FRONT), None, "False", ""),
    ("its pod serves", Seen(_deployment(), _FRONT, 1), None, "True", ""),
    (
        "changed: the old pod serves, the new one does not",
        Seen(_deployment(generation=2, observed=2, replicas=2, updatedReplicas=1), _FRONT, 1),
        None,
        "False",
        "",
    ),
    (
        "changed a moment ago",
        Seen(_deployment(generation=2, observed=1), _FRONT, 1),
        None,
        "False",
        "",
    ),
    ("its Service selects nobody", Seen(_deployment(), _FRONT, 0), None, "False", ""),
    ("its Deployment is gone", Seen(None, _FRONT, 0), None, "False", ""),
    ("a storageUri that nobody knows", Seen(), Problem("InvalidSpec", "s3://"), "False", "InvalidSpec"),
    (
        "the same, and what it was before serves on",
        Seen(_deployment(), _FRONT, 1),
        Problem("InvalidSpec", "s3://"),
        "False",
        "InvalidSpec",
    ),
    (
        "its name is taken",
        Seen(_deployment()),
        Problem("NotOurs", "a Deployment is there"),
        "False",
        "NotOurs",
    ),
)
_GENERATION = 7


@_or_sentence
def status_table(status: Any) -> mo.Html:
    """What is seen of children, and what the status says of it."""
    service = example_service()
    service["metadata"]["generation"] = _GENERATION
    rows, generations = [], set()
    for about, seen, problem, right, reason in _SEEN:
        said = _said("status", status, service, seen, problem)
        if isinstance(said, InvalidSpec):
            raise _Wrong("status raised InvalidSpec: it says what was found, and has nothing to refuse")
        ready = ready_of(Resource({"status": said}))
        generations.add(said.get("observedGeneration"))
        is_right = ready.get("status") == right and reason in ("", ready.get("reason"))
        words = ", ".join(str(ready.get(key)) for key in ("status", "reason") if ready.get(key)) or "no Ready"
        rows.append((about, ", ".join(filter(None, (right, reason))), _held(is_right, words)))
    of = generations == {_GENERATION}
    about = Markup("{} <small>The InferenceService is of generation {}.</small>").format(
        _held(of, f"observedGeneration: {', '.join(map(str, sorted(generations, key=str)))}"), _GENERATION
    )
    return card(table(("what is seen", "Ready is", "your function"), rows) + about, live=True)


# Delivered


@needs_cluster
def functions_panel(lab: LabSession, button: Any, *functions: Callable[..., Any]) -> Any:
    """A button that gives the controller the functions of the page, and whether it has these."""
    assert lab.cluster is not None
    cluster, text = lab.cluster, isvc.functions_text(*functions)
    if isvc.kserve_runs(cluster.view()):
        return note(
            "KServe itself runs on this cluster: it reconciles what you apply in part 11, and your functions are not asked."
        )
    if cluster.view().find("Deployment", isvc.CONTROLLER, NAMESPACE) is None:
        return note("The controller appears when the lab was started.")

    def back() -> str:
        isvc.deliver(cluster, None)
        return f"{FILE} is gone: the controller makes nothing any more. What it made stays."

    undo = reset_button(lab, back, tooltip="Takes the functions out of the ConfigMap.")
    row = mo.hstack([button, undo], justify="start")
    try:
        load(FILE, text.encode(), PLUG_POINTS, TYPES)
    except DecisionWrong as wrong:
        said = course(Markup("{} {}").format(word("FAIL", "not delivered"), str(wrong)), live=True)
        return mo.vstack([row, said], gap=0.5)
    if lab.asked(button):
        with spinner("Delivering", FILE) as say:
            isvc.deliver(cluster, text)
            isvc.wait_ready(cluster, say)
    there = isvc.delivered(cluster.view())
    is_there = there == short_hash(text)
    state = word("PASS", "delivered") if is_there else word("open", "not delivered")
    words = (
        f"ConfigMap `{isvc.DECISIONS}` holds {'these' if is_there else 'other' if there else 'no'} functions."
    )
    return mo.vstack([row, course(Markup("{} {}").format(state, inline(words)), live=True)], gap=0.5)


@needs_cluster
def isvc_panel(lab: LabSession, text: str, button: Any) -> Any:
    """A button that applies the InferenceService; where a solution runs it waits until the model is served."""
    assert lab.cluster is not None
    panel = draw_staging.apply_panel(lab, text, button)
    if lab.pressed and lab.asked(button):
        with spinner(f"InferenceService {NAME}") as say:
            until = time.monotonic() + READY_S
            while time.monotonic() < until and not _is_served(lab.cluster.view()):
                say("waiting until it is Ready")
                time.sleep(POLL_S)
    return panel


def _is_served(view: ClusterView) -> bool:
    try:
        service = view.find(isvc.SERVICE, NAME, NAMESPACE)
    except LabError:
        return False
    return service is not None and is_current(service) and ready_of(service).get("status") == "True"


def witness_panel(lab: LabSession, name: str, buttons: Any) -> Any:
    """Buttons that run a witness in the background, and what its record says."""
    return _PANELS.panel(lab, name, buttons)


# What is there


@needs_cluster
def wanted_and_seen(lab: LabSession) -> Any:
    """Every InferenceService: what is wanted, what was made of it, and what its status says."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    try:
        found = view.list(isvc.SERVICE, NAMESPACE)
    except InvalidManifest:
        return note("The kinds of KServe's API appear when the lab was started.")
    if not found:
        return note("Here stands every InferenceService of `llm-models`, as soon as there is one.")
    rows = [(code(item.name), _wanted(item), _made(view, item.name), _words(item)) for item in found]
    head = ("InferenceService", "wanted", "seen", "its status says")
    return card(table(head, rows), live=True)


def _wanted(service: Resource) -> Markup:
    model = service.path("spec.predictor.model", {}) or {}
    uri, count = str(model.get("storageUri") or "no model"), service.path("spec.predictor.minReplicas", 1)
    scheme, _, rest = uri.partition("://")
    shown = f"{scheme}://…{rest[-12:]}" if len(uri) > 40 else uri
    runtime = model.get("runtime") or (model.get("modelFormat") or {}).get("name") or "nobody"
    return Markup("{} × {}, {}").format(count, code(shown), runtime)


def _made(view: ClusterView, name: str) -> str:
    child = isvc.predictor(name)
    deployment, front = view.find("Deployment", child, NAMESPACE), view.find("Service", child, NAMESPACE)
    if deployment is None and front is None:
        return "nothing"
    if deployment is None:
        return "a Service, and no Deployment"
    status = deployment.path("status", {}) or {}
    counts = (
        f"{status.get('updatedReplicas', 0)} of {deployment.path('spec.replicas', 1)} new pods, "
        f"{status.get('availableReplicas', 0)} serve"
    )
    return counts if front else f"{counts}; no Service"


def _words(service: Resource) -> Markup:
    ready = ready_of(service)
    if not ready:
        return word("open", "nothing yet")
    state = {"True": "PASS", "False": "FAIL"}.get(str(ready.get("status")), "open")
    old = (
        "" if is_current(service) else f" (of generation {service.path('status.observedGeneration', 'none')})"
    )
    reason = f"{ready.get('reason') or ''}{old}: {cut(str(ready.get('message') or 'no message'), LONGEST)}"
    return Markup("{} {}").format(word(state, f"Ready: {ready.get('status')}"), reason)
