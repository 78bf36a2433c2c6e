"""KServe's kinds and the course's controller on a cluster: who brings them, whose they are, and what is told how."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.apps.isvc import decisions
from helpers.classroom.seats import rights
from helpers.cluster.fake import FakeCluster
from helpers.cluster.faults import Response
from helpers.cluster.kubectl import kustomize
from helpers.cluster.profile import OFFICIAL_IMAGES
from helpers.cluster.scope import Scope
from helpers.embedded.images import image, isvc_controller
from helpers.embedded.registry import OFFICIAL
from helpers.errors import EnvironmentFault, Forbidden
from helpers.grading.changes import manifest
from helpers.labs.lab09_models.proof_controller import functions_text, manifests
from helpers.settings import REPOSITORY
from helpers.stack import isvc
from tests.conformance import kserve_crds
from tests.unit.isvc_fakes import KINDS, NAMESPACE, cluster_with

NOT_ALLOWED = (
    b'{"kind": "Status", "reason": "Forbidden", "code": 403,'
    b' "message": "customresourcedefinitions is forbidden: User \\"eve\\" cannot get resource"}'
)
OVERLAYS = ("embedded", "gpu", "mig", "time-slicing")
DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": isvc.DEFINITION},
    "spec": {"group": isvc.GROUP},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing becomes ready on a fake by waiting."""
    monkeypatch.setattr(FakeCluster, "wait_ready", lambda *_, **__: None)


# Kinds


@pytest.mark.parametrize(
    "name", ["inference-service.yaml", "serving-runtime.yaml", "llm-inference-service.yaml"]
)
def test_the_definitions_say_whose_api_they_are_and_whose_controller(name: str) -> None:
    (found,) = yaml.safe_load_all((kserve_crds.FOLDER / name).read_text())
    assert "this is not KServe" in found["metadata"]["annotations"]["kubedojo.dev/about"]
    assert found["spec"]["group"] == isvc.GROUP
    names = [item["name"] for item in found["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert "Age" in names
    listed = yaml.safe_load((kserve_crds.FOLDER / "kustomization.yaml").read_text())
    assert name in listed["resources"] and {isvc.PART_OF: isvc.OURS} in [
        item["pairs"] for item in listed["labels"]
    ]


def test_an_inference_service_has_the_fields_that_the_lab_speaks_of_and_is_not_open() -> None:
    (found,) = yaml.safe_load_all((kserve_crds.FOLDER / "inference-service.yaml").read_text())
    spec = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert {"predictor", "explainer", "transformer"} <= set(spec)
    model = spec["predictor"]["properties"]["model"]["properties"]
    assert {"modelFormat", "runtime", "storageUri", "args", "resources"} <= set(model)
    assert "x-kubernetes-preserve-unknown-fields" not in spec["predictor"]["properties"]["model"]


def test_the_committed_definitions_are_what_the_sdk_makes() -> None:
    """With the SDK at hand (COURSE_KSERVE_WHEEL=FILE); what it needs is said in tests/conformance/kserve_crds.py."""
    wheel = os.environ.get("COURSE_KSERVE_WHEEL")
    if not wheel:
        pytest.skip("COURSE_KSERVE_WHEEL names no wheel of the SDK")
    for name, found in kserve_crds.made(kserve_crds.models_of(Path(wheel))).items():
        assert (kserve_crds.FOLDER / name).read_text() == kserve_crds.text(found), name


MODEL = """
class V1beta1InferenceServiceSpec(object):
    openapi_types = {'predictor': 'V1beta1PredictorSpec', 'more': 'dict(str, list[V1Container])', 'at': 'datetime'}
    attribute_map = {'predictor': 'predictor', 'more': 'moreOfIt', 'at': 'at'}

class V1beta1PredictorSpec(object):
    openapi_types = {'min_replicas': 'int', 'quota': 'ResourceQuantity', 'free': 'object'}
    attribute_map = {'min_replicas': 'minReplicas', 'quota': 'quota', 'free': 'free'}

class Helper(object):
    pass
"""


def test_a_schema_has_every_field_of_a_model_and_leaves_kubernetes_own_types_open() -> None:
    models = kserve_crds._classes(MODEL)
    assert set(models) == {"V1beta1InferenceServiceSpec", "V1beta1PredictorSpec"}
    assert kserve_crds.schema(models, "V1beta1InferenceServiceSpec") == {
        "type": "object",
        "properties": {
            "predictor": {
                "type": "object",
                "properties": {
                    "minReplicas": {"type": "integer"},
                    "quota": kserve_crds.QUANTITY,
                    "free": kserve_crds.ANYTHING,
                },
            },
            "moreOfIt": {
                "type": "object",
                "additionalProperties": {"type": "array", "items": kserve_crds.OPEN},
            },
            "at": {"type": "string"},
        },
    }


# Manifests


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_overlay_has_the_controller_its_role_and_vllm_as_the_runtime(overlay: str) -> None:
    found = {
        (item["kind"], item["metadata"]["name"]): item
        for item in kustomize(isvc.MANIFESTS / "overlays" / overlay)
    }
    assert set(found) == {
        *((kind, isvc.CONTROLLER) for kind in ("ServiceAccount", "Role", "RoleBinding", "Deployment")),
        ("ServingRuntime", isvc.RUNTIME),
    }
    assert {item["metadata"]["namespace"] for item in found.values()} == {NAMESPACE}
    (server,) = found["ServingRuntime", isvc.RUNTIME]["spec"]["containers"]
    assert server["image"] == (image("vllm").reference if overlay == "embedded" else OFFICIAL_IMAGES["vllm"])
    has_card = any("nvidia.com/" in key for key in server["resources"]["limits"])
    assert has_card is (overlay != "embedded")
    kinds = kustomize(isvc.API_MANIFESTS / "overlays" / overlay)
    assert {item["metadata"]["labels"][isvc.PART_OF] for item in kinds} == {isvc.OURS}


def test_the_controller_may_delete_nothing_and_reads_no_secret() -> None:
    (role,) = (item for item in manifests() if item["kind"] == "Role")
    verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
    resources = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert "delete" not in verbs and "*" not in verbs
    assert not resources & {"secrets", "pods", "configmaps", "*"}


def test_the_controller_s_image_is_pinned_and_made_here() -> None:
    assert image("isvc-controller").reference == "course.local/isvc-controller:1"
    assert "isvc-controller" not in OFFICIAL and "isvc-controller" not in OFFICIAL_IMAGES
    text = isvc_controller.REQUIREMENTS.read_text()
    assert "kopf==1.45.2" in text and "kserve" not in text
    assert (isvc_controller.REQUIREMENTS.with_suffix(".in")).read_text().count("kopf==1.45.2") == 1
    packed = {str(path.relative_to(REPOSITORY)) for path in isvc_controller.sources()}
    assert "helpers/apps/isvc/operator.py" in packed


def test_what_the_image_holds_is_all_that_the_controller_imports() -> None:
    """Its modules are imported by a Python that has nothing else of the course."""
    packed = [str(path.relative_to(REPOSITORY)) for path in isvc_controller.sources()]
    script = (
        "import sys\n"
        "import helpers.apps.isvc.__main__, helpers.apps.isvc.operator, helpers.apps.isvc.api\n"
        "names = [name for name in sys.modules if name.startswith('helpers')]\n"
        "print(*(sys.modules[name].__file__ for name in names), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    used = {str(Path(line).relative_to(REPOSITORY)) for line in done.stdout.split()}
    assert used <= set(packed), used - set(packed)


def test_names_are_said_once_more_and_are_the_same() -> None:
    assert (isvc.FILE, isvc.GROUP) == (decisions.FILE, decisions.GROUP)


# Whose it is


def test_kserve_is_known_by_its_definitions_and_by_its_manager() -> None:
    assert not isvc.kserve_runs(FakeCluster().view())
    ours = {**DEFINITION, "metadata": {"name": isvc.DEFINITION, "labels": {isvc.PART_OF: isvc.OURS}}}
    assert not isvc.kserve_runs(FakeCluster(ours).view())
    assert isvc.kserve_runs(FakeCluster(DEFINITION).view())
    labels = {"control-plane": "kserve-controller-manager"}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {}}}
    manager = manifest("Deployment", "kserve-controller-manager", "kserve", labels=labels, spec=spec)
    assert isvc.kserve_runs(FakeCluster(ours, manifest("Namespace", "kserve"), manager).view())


@pytest.mark.parametrize(
    ("served", "is_kserve"),
    [
        (Response(200, b'{"resources": [{"kind": "ServingRuntime"}]}'), False),
        (Response(200, b'{"resources": [{"kind": "ClusterServingRuntime"}]}'), True),
        (Response(404, b"404 page not found"), False),
    ],
)
def test_a_learner_of_a_class_who_may_not_see_definitions_asks_what_is_served(
    served: Response, is_kserve: bool
) -> None:
    no = Response(403, NOT_ALLOWED)
    cluster = FakeCluster()
    answers = {"/apis/serving.kserve.io/v1alpha1": served}
    cluster.fail_with(lambda method, path: answers.get(path, no))
    assert isvc.kserve_runs(cluster.view()) is is_kserve


def test_whoever_may_ask_nothing_is_told_so() -> None:
    no = Response(403, NOT_ALLOWED)
    cluster = FakeCluster()
    cluster.fail_with(lambda method, path: no)
    with pytest.raises(Forbidden):
        isvc.kserve_runs(cluster.view())


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster that has served the kinds since they were applied, and made what `isvc` needs of them."""
    cluster = cluster_with()

    def overlay(path: Any) -> list[dict[str, Any]]:
        ours = {**DEFINITION, "metadata": {"name": isvc.DEFINITION, "labels": {isvc.PART_OF: isvc.OURS}}}
        return [ours] if "kserve-api" in str(path) else manifests()

    monkeypatch.setattr(cluster, "kustomize", overlay)
    return cluster


def test_a_start_brings_kinds_controller_and_runtime_and_a_second_one_changes_nothing(
    fake: FakeCluster,
) -> None:
    done = isvc.ensure_controller(fake)
    assert any("ServingRuntime vllm" in line for line in done)
    assert fake.view().find("Deployment", isvc.CONTROLLER, NAMESPACE)
    isvc.deliver(fake, functions_text())
    assert isvc.ensure_controller(fake) == []
    assert isvc.delivered(fake.view()), "what the learner delivered stays"


def test_where_kserve_runs_the_runtime_alone_is_brought(fake: FakeCluster) -> None:
    fake.apply(DEFINITION)
    isvc.ensure_controller(fake)
    assert fake.view().find("Deployment", isvc.CONTROLLER, NAMESPACE) is None
    assert fake.view().find("Role", isvc.CONTROLLER, NAMESPACE) is None
    assert fake.view().find("ServingRuntime", isvc.RUNTIME, NAMESPACE)


def test_a_seat_of_a_class_has_the_kinds_of_its_instructor(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster(manifest("Namespace", f"{NAMESPACE}-ada"), scope=Scope("ada"))
    monkeypatch.setattr(cluster, "kustomize", lambda path: manifests())
    with pytest.raises(EnvironmentFault) as missing:
        isvc.ensure_controller(cluster)
    assert missing.value.next_command.endswith("manifests/stack/kserve-api/overlays/gpu")
    for kind in KINDS:
        cluster.serve_kind(*kind)
    isvc.ensure_controller(cluster)
    assert cluster.view().find("Role", isvc.CONTROLLER, NAMESPACE) is None, (
        "rights are the instructor's to give"
    )
    assert cluster.view().find("Deployment", isvc.CONTROLLER, NAMESPACE)


def test_a_seat_binds_the_controller_to_its_own_namespace_with_the_lab_s_own_rules() -> None:
    objects = rights.class_objects("k8s")
    role = next(item for item in objects if item["metadata"]["name"] == "course-class-k8s-isvc-controller")
    (own,) = (item for item in manifests() if item["kind"] == "Role")
    assert role["rules"] == own["rules"]
    models = next(item for item in objects if item["metadata"]["name"] == "course-class-k8s-models")
    granted = {resource for rule in models["rules"] for resource in rule["resources"]}
    assert "inferenceservices" in granted and not granted & {
        "roles",
        "rolebindings",
        "inferenceservices/status",
    }


# What it is told


def test_functions_reach_the_controller_in_two_steps_and_go_the_same_way(fake: FakeCluster) -> None:
    isvc.ensure_controller(fake)
    isvc.deliver(fake, functions_text())
    path = "spec.template.metadata.annotations"
    first = fake.view().get("Deployment", isvc.CONTROLLER, NAMESPACE).path(path)[isvc.CHECKSUM]
    assert len(first) == 64 and isvc.delivered(fake.view())
    isvc.deliver(fake, None)
    assert fake.view().get("Deployment", isvc.CONTROLLER, NAMESPACE).path(path)[isvc.CHECKSUM] != first
    assert isvc.delivered(fake.view()) == ""


def test_a_reset_takes_services_and_functions_away_and_a_second_finds_nothing(fake: FakeCluster) -> None:
    isvc.ensure_controller(fake)
    isvc.deliver(fake, functions_text())
    service = decisions.example_service()
    service["metadata"]["namespace"] = NAMESPACE
    fake.apply(service)
    left = decisions.example_runtime("w1")
    left["metadata"] = {"name": "w1", "namespace": NAMESPACE, "labels": {isvc.WITNESS_LABEL: "repair"}}
    fake.apply(left)
    isvc.asleep(fake)
    done = isvc.clear(fake)
    assert fake.view().find("ServingRuntime", "w1", NAMESPACE) is None
    assert "InferenceService smol deleted" in done and f"ConfigMap {isvc.DECISIONS} deleted" in done
    assert fake.view().get("Deployment", isvc.CONTROLLER, NAMESPACE).path("spec.replicas") == 1
    assert isvc.clear(fake) == []
    assert isvc.clear(FakeCluster()) == [], "where the kinds are not served there is nothing"


def test_the_checksum_in_the_manifest_is_that_of_no_functions() -> None:
    from helpers.stack.serving import config_checksum

    (found,) = (item for item in manifests() if item["kind"] == "Deployment")
    assert found["spec"]["template"]["metadata"]["annotations"][isvc.CHECKSUM] == config_checksum({})
