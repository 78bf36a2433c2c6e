"""The witnesses of the controller, and its checks, in a world that is played: right functions, and plausible wrong ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from helpers.apps.isvc.decisions import APPLY, FILE, LEAVE, PLUG_POINTS, TYPES, InvalidSpec, Object
from helpers.apps.isvc.passes import Reconciler
from helpers.apps.orchestrator.decisions import load
from helpers.cluster.fake import FakeCluster
from helpers.errors import EnvironmentFault, StepMissing
from helpers.grading.verdict import Status, Verdict
from helpers.labs.lab09_models import checks_controller as checks
from helpers.labs.lab09_models import witness_controller
from helpers.labs.lab09_models.proof_controller import functions_text
from helpers.stack import isvc
from tests.unit.isvc_fakes import World, witness_saw

RIGHT = load(FILE, functions_text().encode(), PLUG_POINTS, TYPES)
CHECKS: Mapping[str, Callable[..., Verdict]] = {
    "children": checks.children_are_what_was_asked_for,
    "repair": checks.children_come_back,
    "conditions": checks.the_status_says_what_was_seen,
    "refusals": checks.what_cannot_be_served_is_said,
    "endings": checks.nothing_is_left_behind,
}


def judged(name: str, seen: Mapping[str, Any]) -> Verdict:
    """What the check says of what the witness saw, whatever record it lies in."""
    check = CHECKS[name].__wrapped__  # type: ignore[attr-defined]
    verdict: Verdict = check(FakeCluster().view(), seen)
    return verdict


def world(**functions: Any) -> World:
    return World(Reconciler({**RIGHT, **functions}, "abc"))


@pytest.mark.parametrize("name", CHECKS)
def test_the_solution_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = witness_saw(world(), name, monkeypatch)
    verdict = judged(name, seen)
    assert verdict.status is Status.PASS, (verdict.observed, seen)


@pytest.mark.parametrize("name", CHECKS)
def test_a_witness_leaves_nothing_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played = world()
    witness_saw(played, name, monkeypatch)
    view = played.cluster.view()
    for kind in ("InferenceService", "ServingRuntime", "Service"):
        assert view.list(kind, "llm-models") == []
    assert [item.name for item in view.list("Deployment", "llm-models")] == ["isvc-controller"]
    assert view.get("Deployment", "isvc-controller", "llm-models").path("spec.replicas") == 1


# Plausible wrong functions


def _children(change: Callable[[list[Object], Object, Object], object]) -> Callable[..., list[Object]]:
    """The solution's children, with something else about them."""

    def children(service: Object, runtime: Object) -> list[Object]:
        found = RIGHT["children"](service, runtime)
        return change(found, service, runtime) or found  # type: ignore[return-value]

    return children


def _pod(found: list[Object]) -> Object:
    pod: Object = found[0]["spec"]["template"]["spec"]
    return pod


def _no_owner(found: list[Object], *_: Object) -> None:
    for item in found:
        item["metadata"] = {key: value for key, value in item["metadata"].items() if key != "ownerReferences"}


def _writable(found: list[Object], *_: Object) -> None:
    _pod(found)["containers"][0]["volumeMounts"][-1].pop("readOnly")
    _pod(found)["volumes"][-1].get("persistentVolumeClaim", {}).pop("readOnly", None)


def _no_path(found: list[Object], *_: Object) -> None:
    _pod(found)["containers"][0]["volumeMounts"][-1].pop("subPath", None)


def _own_args_alone(found: list[Object], service: Object, _: Object) -> None:
    if own := service["spec"]["predictor"]["model"].get("args"):
        _pod(found)["containers"][0]["args"] = own


def _given_resources(found: list[Object], _: Object, runtime: Object) -> None:
    _pod(found)["containers"][0]["resources"] = runtime["spec"]["containers"][0]["resources"]


def _selects_all(found: list[Object], *_: Object) -> None:
    labels = {"component": "predictor"}
    for item in (
        found[0]["spec"]["selector"]["matchLabels"],
        found[0]["spec"]["template"]["metadata"]["labels"],
    ):
        item |= labels
    found[1]["spec"]["selector"] = labels


def _half_made(service: Object, runtime: Object) -> list[Object]:
    """The Service first, whatever becomes of the rest."""
    try:
        return list(RIGHT["children"](service, runtime))
    except InvalidSpec:
        whole = {**service, "spec": {"predictor": {"model": {"storageUri": "pvc://x"}}}}
        return [RIGHT["children"](whole, runtime)[1]]


def _first_runtime(model: Object, runtimes: list[Object]) -> Object:
    return next(
        item
        for item in runtimes
        if item["metadata"]["name"] == model.get("runtime", item["metadata"]["name"])
    )


def _by_name_only(model: Object, runtimes: list[Object]) -> Object:
    for item in runtimes:
        if item["metadata"]["name"] == model.get("runtime"):
            return item
    raise InvalidSpec("no such runtime")


def _create_only(service: Object, wanted: Object, found: Object | None) -> str:
    return APPLY if found is None else LEAVE


def _takes_over(service: Object, wanted: Object, found: Object | None) -> str:
    return APPLY


def _when_asked(kind: str, change: str) -> bool:
    return kind == "InferenceService"


def _status(ready: Callable[[Any], bool], **more: Any) -> Callable[..., Object]:
    """A status by another rule."""

    def status(service: Object, seen: Any, problem: Any) -> Object:
        found: Object = RIGHT["status"](service, seen, problem)
        if problem is None:
            for item in found["conditions"]:
                item["status"] = "True" if ready(seen) else "False"
        return {key: value for key, value in {**found, **more}.items() if value is not None}

    return status


def _available(seen: Any) -> bool:
    deployment = seen.deployment or {}
    return bool((deployment.get("status") or {}).get("availableReplicas", 0) >= 1)


def _counts(service: Object, seen: Any, problem: Any) -> Object:
    """One more each time, whatever the InferenceService's own generation is."""
    found: Object = RIGHT["status"](service, seen, problem)
    before = (service.get("status") or {}).get("observedGeneration", 0)
    return {**found, "observedGeneration": before + 1}


def _reason_of_its_own(service: Object, seen: Any, problem: Any) -> Object:
    found: Object = RIGHT["status"](service, seen, problem)
    if problem:
        found["conditions"] = [
            {"type": "Ready", "status": "Unknown", "reason": "Error", "message": problem.message}
        ]
    return found


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("no owner references", {"children": _children(_no_owner)}, "children", "has no owner reference"),
    (
        "no owner references",
        {"children": _children(_no_owner)},
        "endings",
        "left of the first name: Deployment, Service",
    ),
    ("a model that can be written", {"children": _children(_writable)}, "children", "not mounted read-only"),
    ("the whole volume", {"children": _children(_no_path)}, "children", "is the path /, not models"),
    ("arguments replaced", {"children": _children(_own_args_alone)}, "children", "its arguments are not"),
    ("resources of the runtime", {"children": _children(_given_resources)}, "children", "its limits are"),
    ("a selector for all", {"children": _children(_selects_all)}, "children", "selects pods of other"),
    (
        "the first runtime",
        {"find_runtime": _first_runtime},
        "children",
        "the server is not that of the runtime",
    ),
    ("a runtime by name alone", {"find_runtime": _by_name_only}, "children", "there is no Deployment"),
    ("create only", {"step": _create_only}, "repair", "what somebody edited stayed"),
    ("edge-triggered", {"wakes": _when_asked}, "repair", "a deleted Deployment did not come back"),
    ("edge-triggered", {"wakes": _when_asked}, "conditions", "Ready was never said"),
    ("a status that is never the same", {"status": _counts}, "repair", "in which nothing happened"),
    ("takes over", {"step": _takes_over}, "refusals", "was taken over"),
    ("half made", {"children": _half_made}, "refusals", "s3://: Ready is False, PredictorNotReady"),
    ("a word of its own", {"status": _reason_of_its_own}, "refusals", "Ready is Unknown, Error"),
    ("Ready when made", {"status": _status(lambda seen: True)}, "conditions", "before anybody served"),
    (
        "Ready by old pods",
        {"status": _status(_available)},
        "conditions",
        "of a change whose pods never served",
    ),
    (
        "no generation",
        {"status": _status(_available, observedGeneration=None)},
        "conditions",
        "another observedGeneration, or none",
    ),
    (
        "the generation of the beginning",
        {"status": _status(_available, observedGeneration=1)},
        "conditions",
        "did not follow a change",
    ),
]


@pytest.mark.parametrize(
    ("wrong", "functions", "name", "said"), WRONG, ids=[f"{one[0]}, {one[2]}" for one in WRONG]
)
def test_a_wrong_function_falls_short_for_the_right_reason(
    wrong: str, functions: dict[str, Any], name: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = witness_saw(world(**functions), name, monkeypatch)
    verdict = judged(name, seen)
    assert verdict.status in (Status.FAIL, Status.PARTIAL), seen
    assert said in verdict.observed, (verdict.observed, seen)


def test_a_clock_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late, and right: whoever looks at what is there needs no event."""
    played = world(wakes=lambda kind, change: kind == "clock")
    verdict = judged("repair", witness_saw(played, "repair", monkeypatch))
    assert verdict.status is Status.PASS, verdict.observed


def test_where_kserve_runs_its_own_controller_is_not_judged() -> None:
    played = world()
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": isvc.DEFINITION},
        "spec": {"group": isvc.GROUP},
    }
    played.cluster.apply(definition)
    isvc.deliver(played.cluster, functions_text())
    for name in CHECKS:
        verdict = CHECKS[name](played.cluster.view())
        assert (verdict.status, verdict.observed) == (
            Status.NOT_ATTEMPTED,
            "KServe itself runs on this cluster",
        )
    with pytest.raises(EnvironmentFault, match="KServe itself runs"):
        witness_controller.run(played.cluster, "repair", on_progress=lambda line: None)


def test_a_witness_wants_functions_that_were_delivered() -> None:
    with pytest.raises(StepMissing, match="deliver them first"):
        witness_controller.run(world().cluster, "repair", on_progress=lambda line: None)
