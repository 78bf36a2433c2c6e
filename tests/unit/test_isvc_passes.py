"""The course's controller for InferenceServices: a pass, whatever went before it, with the solution's functions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helpers.apps.isvc import course
from helpers.apps.isvc.api import ApiProblem
from helpers.apps.isvc.decisions import (
    EVENTS,
    FILE,
    PLUG_POINTS,
    POINTS,
    TYPES,
    InvalidSpec,
    Object,
    example_runtime,
    example_service,
)
from helpers.apps.isvc.operator import Controller, about
from helpers.apps.isvc.passes import Reconciler, reconcile
from helpers.apps.orchestrator.decisions import DecisionWrong, answer_of, load
from helpers.cluster.fake import FakeCluster
from helpers.labs.lab09_models.proof_controller import functions_text
from tests.unit.isvc_fakes import NAMESPACE, FakeApi, cluster_with, runs

SOLVED = Reconciler(load(FILE, functions_text().encode(), PLUG_POINTS, TYPES), "abc")
CLAIM = {"persistentVolumeClaim": {"claimName": "shared", "readOnly": True}}
NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def with_function(name: str, function: Any) -> Reconciler:
    return Reconciler({**SOLVED.functions, name: function}, "abc")


def one_pass(cluster: FakeCluster, name: str = "smol", reconciler: Reconciler = SOLVED) -> None:
    asyncio.run(reconcile(FakeApi(cluster), reconciler, name, lambda: NOW))


def found(cluster: FakeCluster, kind: str, name: str = "smol-predictor") -> Any:
    return cluster.view().find(kind, name, NAMESPACE)


def ready(cluster: FakeCluster, name: str = "smol") -> Mapping[str, Any]:
    conditions = cluster.view().get("InferenceService", name, NAMESPACE).path("status.conditions", [])
    return next((item for item in conditions if item["type"] == "Ready"), {})


@pytest.fixture
def cluster() -> FakeCluster:
    return cluster_with(example_runtime(), example_service())


# What is made


def test_a_pass_makes_a_deployment_and_a_service_that_belong_to_the_inference_service(
    cluster: FakeCluster,
) -> None:
    one_pass(cluster)
    owner = cluster.view().get("InferenceService", "smol", NAMESPACE)
    for kind in ("Deployment", "Service"):
        (reference,) = found(cluster, kind).metadata["ownerReferences"]
        assert (reference["uid"], reference["controller"]) == (owner.uid, True)
    pod = found(cluster, "Deployment").path("spec.template.spec")
    (container,) = pod["containers"]
    assert container["args"] == ["--model=/mnt/models", "--served-model-name=smol", "--port=8000"]
    assert pod["volumes"][-1]["image"]["reference"] == "registry.example/tiny:1"
    mount = container["volumeMounts"][-1]
    assert (mount["mountPath"], mount["subPath"], mount["readOnly"]) == ("/mnt/models", "models", True)
    service = found(cluster, "Service")
    assert service.path("spec.ports.0.targetPort") == 8000
    assert service.path("spec.selector") == found(cluster, "Deployment").path("spec.template.metadata.labels")


def test_a_claim_is_mounted_read_only_at_its_path() -> None:
    cluster = cluster_with(example_runtime(), example_service(storageUri="pvc://shared/a/model"))
    one_pass(cluster)
    pod = found(cluster, "Deployment").path("spec.template.spec")
    assert pod["volumes"][-1] == {"name": "model", **CLAIM}
    assert pod["containers"][0]["volumeMounts"][-1]["subPath"] == "a/model"


def test_arguments_are_added_and_resources_replaced() -> None:
    asked_for = example_service(args=["--max-model-len=64"], resources={"limits": {"memory": "2Gi"}})
    cluster = cluster_with(example_runtime(), asked_for)
    one_pass(cluster)
    container = found(cluster, "Deployment").path("spec.template.spec.containers.0")
    assert container["args"][-1] == "--max-model-len=64" and len(container["args"]) == 4
    assert container["resources"]["limits"] == {"memory": "2Gi"}


@pytest.mark.parametrize(
    ("asked_for", "served_by"),
    [
        ({"runtime": "other"}, "other"),
        ({"runtime": None}, "auto"),
        ({"runtime": "off"}, ""),
        ({"runtime": "absent"}, ""),
        ({"runtime": "vllm", "modelFormat": {"name": "onnx"}}, ""),
        ({"runtime": None, "modelFormat": {"name": "onnx"}}, ""),
    ],
)
def test_a_runtime_is_found_by_name_or_by_the_format_that_it_selects(
    asked_for: Object, served_by: str
) -> None:
    runtimes = [
        example_runtime("other", supportedModelFormats=[{"name": "huggingface"}]),
        example_runtime("off", disabled=True),
        example_runtime("auto"),
        example_runtime("vllm"),
    ]
    for item in runtimes:
        item["spec"]["containers"][0]["image"] = f"registry.example/{item['metadata']['name']}:1"
    cluster = cluster_with(*runtimes, example_service(**asked_for))
    one_pass(cluster)
    made = found(cluster, "Deployment")
    if served_by:
        assert made.path("spec.template.spec.containers.0.image") == f"registry.example/{served_by}:1"
    else:
        assert made is None and ready(cluster)["reason"] == "InvalidSpec"


# What is repaired


def test_what_somebody_deleted_is_there_again(cluster: FakeCluster) -> None:
    one_pass(cluster)
    first = found(cluster, "Deployment").uid
    for kind in ("Deployment", "Service"):
        cluster.delete(kind, "smol-predictor", NAMESPACE)
    one_pass(cluster)
    assert found(cluster, "Deployment").uid != first and found(cluster, "Service")


def test_what_somebody_edited_is_as_it_was(cluster: FakeCluster) -> None:
    one_pass(cluster)
    edits = {"spec": {"replicas": 3, "template": {"spec": {"enableServiceLinks": True}}}}
    cluster.patch("Deployment", "smol-predictor", edits, NAMESPACE)
    cluster.patch("Service", "smol-predictor", {"spec": {"selector": {"app": "another"}}}, NAMESPACE)
    one_pass(cluster)
    assert found(cluster, "Deployment").path("spec.replicas") == 1
    assert found(cluster, "Deployment").path("spec.template.spec.enableServiceLinks") is False
    assert found(cluster, "Service").path("spec.selector.app") == "isvc.smol-predictor"


def test_a_pass_that_finds_everything_in_place_writes_nothing(cluster: FakeCluster) -> None:
    one_pass(cluster)
    runs(cluster, "smol")
    one_pass(cluster)
    before = {kind: found(cluster, kind).metadata["resourceVersion"] for kind in ("Deployment", "Service")}
    status = cluster.view().get("InferenceService", "smol", NAMESPACE).metadata["resourceVersion"]
    for _ in range(3):
        one_pass(cluster)
    assert before == {kind: found(cluster, kind).metadata["resourceVersion"] for kind in before}
    assert status == cluster.view().get("InferenceService", "smol", NAMESPACE).metadata["resourceVersion"]


def test_children_go_with_their_owner_and_a_pass_brings_none_back(cluster: FakeCluster) -> None:
    one_pass(cluster)
    cluster.delete("InferenceService", "smol", NAMESPACE)
    one_pass(cluster)
    assert found(cluster, "Deployment") is None and found(cluster, "Service") is None


def test_nothing_is_made_for_an_inference_service_that_is_going() -> None:
    going = example_service()
    going["metadata"] |= {"deletionTimestamp": "2026-01-01T00:00:00Z", "namespace": NAMESPACE}
    cluster = cluster_with(example_runtime())
    cluster.put(going)
    one_pass(cluster)
    assert found(cluster, "Deployment") is None


# What is not touched


def test_somebody_else_s_deployment_of_the_same_name_stays_and_no_half_is_made(cluster: FakeCluster) -> None:
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "smol-predictor", "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": {"metadata": {"labels": {"app": "theirs"}}, "spec": {"containers": [{"name": "a"}]}},
        },
    }
    cluster.apply(theirs)
    before = deepcopy(found(cluster, "Deployment").raw)
    one_pass(cluster)
    assert found(cluster, "Deployment").raw == before
    assert found(cluster, "Service") is None
    assert (ready(cluster)["status"], ready(cluster)["reason"]) == ("False", "NotOurs")
    cluster.delete("Deployment", "smol-predictor", NAMESPACE)
    one_pass(cluster)
    assert found(cluster, "Service") is not None and ready(cluster)["reason"] != "NotOurs"


def test_a_name_that_was_used_before_by_another_of_that_name_waits_for_the_garbage_collector(
    cluster: FakeCluster,
) -> None:
    one_pass(cluster)
    old = deepcopy(found(cluster, "Deployment").raw)
    cluster.delete("InferenceService", "smol", NAMESPACE)
    cluster.put(old)  # not collected yet
    service = example_service()
    del service["metadata"]["uid"]
    service["metadata"]["namespace"] = NAMESPACE
    cluster.apply(service)
    one_pass(cluster)
    assert ready(cluster)["reason"] == "NotOurs"


@pytest.mark.parametrize("uri", ["s3://bucket/model", "oci+native://", "smollm", "pvc://"])
def test_an_unknown_scheme_is_said_and_nothing_is_made(uri: str) -> None:
    cluster = cluster_with(example_runtime(), example_service(storageUri=uri))
    one_pass(cluster)
    assert found(cluster, "Deployment") is None and found(cluster, "Service") is None
    said = cluster.view().get("InferenceService", "smol", NAMESPACE).path("status")
    assert (ready(cluster)["status"], ready(cluster)["reason"]) == ("False", "InvalidSpec")
    assert uri in ready(cluster)["message"] and said["observedGeneration"] == 1


def test_a_service_that_becomes_invalid_keeps_what_serves(cluster: FakeCluster) -> None:
    one_pass(cluster)
    runs(cluster, "smol")
    one_pass(cluster)
    before = found(cluster, "Deployment").raw
    model = {"predictor": {"model": {"storageUri": "s3://bucket"}}}
    cluster.patch("InferenceService", "smol", {"spec": model}, NAMESPACE)
    one_pass(cluster)
    assert found(cluster, "Deployment").raw == before
    said = cluster.view().get("InferenceService", "smol", NAMESPACE).path("status")
    assert (ready(cluster)["reason"], said["observedGeneration"]) == ("InvalidSpec", 2)
    assert "url" not in said, "a field that is not said any more is gone"


# What is said


def test_ready_is_said_when_pods_of_the_newest_template_serve_and_not_before(cluster: FakeCluster) -> None:
    one_pass(cluster)
    assert ready(cluster)["status"] == "False"
    runs(cluster, "smol", serving=0)
    one_pass(cluster)
    assert ready(cluster)["status"] == "False"
    runs(cluster, "smol")
    one_pass(cluster)
    said = cluster.view().get("InferenceService", "smol", NAMESPACE).path("status")
    assert ready(cluster)["status"] == "True"
    assert said["url"] == f"http://smol-predictor.{NAMESPACE}.svc.cluster.local"
    changed = {"predictor": {"model": {"args": ["--max-model-len=64"]}}}
    cluster.patch("InferenceService", "smol", {"spec": changed}, NAMESPACE)
    one_pass(cluster)
    said = cluster.view().get("InferenceService", "smol", NAMESPACE).path("status")
    assert ready(cluster)["status"] == "False", "the pods that serve are of the template before"
    assert said["observedGeneration"] == 2


def test_a_condition_keeps_the_time_at_which_it_became_what_it_is(cluster: FakeCluster) -> None:
    def at(minute: int) -> None:
        moment = NOW.replace(minute=minute)
        asyncio.run(reconcile(FakeApi(cluster), SOLVED, "smol", lambda: moment))

    at(1)
    runs(cluster, "smol", serving=0)
    at(2)
    assert ready(cluster)["lastTransitionTime"] == "2026-11-30T12:01:00Z"
    runs(cluster, "smol")
    at(3)
    at(4)
    assert ready(cluster)["lastTransitionTime"] == "2026-11-30T12:03:00Z"


def test_a_function_that_fails_is_told_in_the_status_and_nothing_is_touched(cluster: FakeCluster) -> None:
    one_pass(cluster)
    before = found(cluster, "Deployment").raw

    def children(service: Object, runtime: Object) -> list[Object]:
        return [{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}]

    one_pass(cluster, reconciler=with_function("children", children))
    assert found(cluster, "Deployment").raw == before
    assert ready(cluster)["reason"] == "ControllerFault" and "Pod" in ready(cluster)["message"]

    def status(service: Object, seen: object, problem: object) -> Object:
        raise KeyError("conditions")

    one_pass(cluster, reconciler=with_function("status", status))
    assert (ready(cluster)["status"], ready(cluster)["reason"]) == ("Unknown", "ControllerFault")


# The functions, and how they are read


def test_the_course_s_own_functions_make_nothing(cluster: FakeCluster, tmp_path: Path) -> None:
    own = Reconciler.of_folder(tmp_path)
    assert own.source == "" and not own.fault
    one_pass(cluster, reconciler=own)
    assert found(cluster, "Deployment") is None
    assert (ready(cluster)["status"], ready(cluster)["reason"]) == ("Unknown", course.NOT_YET)


def test_a_learner_s_file_is_read_with_its_hash_and_a_wrong_one_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(functions_text())
    read = Reconciler.of_folder(tmp_path)
    assert len(read.source) == 12 and not read.fault
    (tmp_path / FILE).write_text(functions_text().replace("def wakes(", "def awakes("))
    wrong = Reconciler.of_folder(tmp_path)
    assert "there is no function wakes" in wrong.fault and wrong.source != read.source
    cluster = cluster_with(example_runtime(), example_service())
    one_pass(cluster, reconciler=wrong)
    assert found(cluster, "Deployment") is None


def test_a_function_may_not_import_what_knows_the_cluster() -> None:
    with pytest.raises(DecisionWrong, match="may not import aiohttp"):
        load(FILE, b"import aiohttp\n", PLUG_POINTS, TYPES)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("find_runtime", None, "not one of the ServingRuntimes"),
        ("model_volume", {"image": {}}, "not a volume's source and a path in it"),
        ("children", {"kind": "Deployment"}, "not a list of objects"),
        ("children", [{"kind": "Service", "apiVersion": "v1", "metadata": {}}], "a Service without a name"),
        ("step", "update", "none of apply, leave, refuse"),
        ("wakes", "yes", "not True or False"),
        ("status", {"conditions": [{"type": "Ready", "status": True}]}, 'it is "True", "False" or "Unknown"'),
    ],
)
def test_what_a_function_may_not_say_is_told_in_a_sentence(name: str, value: Any, said: str) -> None:
    point = POINTS[name]
    with pytest.raises(DecisionWrong, match=said):
        answer_of(point, lambda *_: value, point.examples[0])


# What wakes it


@pytest.mark.parametrize(
    ("kind", "metadata", "names"),
    [
        ("InferenceService", {"name": "smol"}, ["smol"]),
        ("ServingRuntime", {"name": "vllm"}, None),
        ("Deployment", {"name": "smol-predictor"}, ["smol"]),
        (
            "Deployment",
            {"name": "x", "ownerReferences": [{"kind": "InferenceService", "name": "smol"}]},
            ["smol"],
        ),
        ("Service", {"name": "x", "labels": {"serving.kserve.io/inferenceservice": "smol"}}, ["smol"]),
        (
            "EndpointSlice",
            {"name": "smol-predictor-abc", "labels": {"kubernetes.io/service-name": "smol-predictor"}},
            ["smol"],
        ),
        ("Deployment", {"name": "isvc-controller"}, []),
    ],
)
def test_an_object_is_about_inference_services(kind: str, metadata: Object, names: list[str] | None) -> None:
    assert about(kind, {"metadata": metadata}) == names


def test_the_clock_finds_what_no_event_told(cluster: FakeCluster) -> None:
    asleep = with_function("wakes", lambda kind, change: kind == "clock")

    async def play() -> None:
        controller = Controller(FakeApi(cluster), asleep)
        await controller.told("InferenceService", "ADDED", example_service())
        assert not controller.queue.names
        await controller.tick()
        await controller.one()

    asyncio.run(play())
    assert found(cluster, "Deployment")


def test_ten_events_are_one_pass_and_a_runtime_wakes_all(cluster: FakeCluster) -> None:
    second = example_service("other")
    del second["metadata"]["uid"]
    cluster.apply(second)

    async def play() -> None:
        controller = Controller(FakeApi(cluster), SOLVED)
        for _ in range(10):
            await controller.told("Deployment", "MODIFIED", {"metadata": {"name": "smol-predictor"}})
        assert list(controller.queue.names) == ["smol"]
        await controller.told("ServingRuntime", "MODIFIED", example_runtime())
        assert sorted(controller.queue.names) == ["other", "smol"]

    asyncio.run(play())


def test_a_pass_that_the_api_server_cut_short_comes_again(cluster: FakeCluster) -> None:
    async def play() -> None:
        api = FakeApi(cluster)
        controller = Controller(api, SOLVED, again_s=0)
        api.broken = "503 the API server is being replaced"
        controller.queue.put("smol")
        await controller.one()
        assert found(cluster, "Deployment") is None
        api.broken = ""
        await controller.one()

    asyncio.run(play())
    assert found(cluster, "Deployment")


def test_a_pass_that_breaks_off_does_not_end_all_others(cluster: FakeCluster) -> None:
    def unheard_of(service: Object, runtime: Object) -> list[Object]:
        return [{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "a", "labels": {1, 2}}}]

    class Broken(FakeApi):
        async def apply(self, wanted: Object) -> Object:
            json.dumps(wanted)
            return await super().apply(wanted)

    async def play() -> None:
        controller = Controller(Broken(cluster), with_function("children", unheard_of))
        controller.queue.put("smol")
        await controller.one()
        controller.reconciler = SOLVED
        controller.queue.put("smol")
        await controller.one()

    asyncio.run(play())
    assert found(cluster, "Deployment")


def test_every_event_is_one_that_the_learner_is_asked_about() -> None:
    from helpers.apps.isvc.operator import WATCHED

    assert {kind for _, _, _, kind in WATCHED} | {"clock"} == {kind for kind, _ in EVENTS}


def test_a_pass_ends_with_the_api_server_s_own_words(cluster: FakeCluster) -> None:
    api = FakeApi(cluster)
    api.broken = "403 forbidden"
    with pytest.raises(ApiProblem, match="403"):
        asyncio.run(reconcile(api, SOLVED, "smol"))


def test_an_invalid_spec_is_told_apart_from_a_fault() -> None:
    from helpers.apps.isvc.decisions import asked

    with pytest.raises(InvalidSpec, match="s3://"):
        asked(SOLVED.functions, "model_volume", "s3://a")
    with pytest.raises(DecisionWrong):
        asked({"wakes": lambda kind, change: json.loads("{")}, "wakes", "clock", "TICK")
