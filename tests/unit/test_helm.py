"""Qdrant by Helm: the course's chart beside the official one's rendering, and what Helm remembers of a release."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.cluster.fake import FakeCluster
from helpers.embedded.helm import ensure_helm
from helpers.embedded.steps import Steps
from helpers.grading import Status, grade
from helpers.grading.changes import yaml_cells
from helpers.grading.testing import VirtualRuntime
from helpers.labs.lab03_memory import checks, mutants
from helpers.settings import REPOSITORY
from helpers.stack import helm

CHART = REPOSITORY / "manifests" / "stack" / "qdrant" / "chart"
VALUES = CHART.parent / "values.yaml"
OFFICIAL = Path(__file__).with_name("qdrant_chart.yaml")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# What a label says of a chart's version is each chart's own.
VERSIONS = ("helm.sh/chart", "app.kubernetes.io/version")
Objects = dict[str, dict[str, Any]]


def run(*arguments: str, values: str = "") -> subprocess.CompletedProcess[str]:
    """Helm, built now where it was not yet."""
    command = [str(ensure_helm(Steps())), *arguments]
    return subprocess.run(command, input=values, capture_output=True, text=True, timeout=60, check=False)


def render(values: str = "") -> Objects:
    done = run("template", "qdrant", str(CHART), "-n", "llm-system", "-f", "-", values=values)
    assert done.returncode == 0, done.stderr
    return by_name(done.stdout)


def by_name(text: str) -> Objects:
    """The objects of a rendering, without what their labels say of versions."""
    found = [_without_versions(item) for item in yaml.safe_load_all(text) if item]
    return {f"{item['kind']} {item['metadata']['name']}": item for item in found}


def _without_versions(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _without_versions(value) for key, value in node.items() if key not in VERSIONS}
    return [_without_versions(value) for value in node] if isinstance(node, list) else node


def container_of(objects: Objects) -> dict[str, Any]:
    (container,) = objects["StatefulSet qdrant"]["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.fixture(scope="module")
def ours() -> Objects:
    return render(VALUES.read_text())


@pytest.fixture(scope="module")
def official() -> Objects:
    return by_name(OFFICIAL.read_text())


# The chart beside the official one, with the same values


def test_objects_have_the_official_charts_names_and_labels(ours: Objects, official: Objects) -> None:
    assert {name: item["metadata"]["labels"] for name, item in ours.items()} == {
        name: item["metadata"]["labels"] for name, item in official.items()
    }


def test_services_are_the_official_charts(ours: Objects, official: Objects) -> None:
    for name in ("Service qdrant", "Service qdrant-headless"):
        assert ours[name]["spec"] == official[name]["spec"]


def test_the_pods_labels_and_what_selects_them_are_the_official_charts(
    ours: Objects, official: Objects
) -> None:
    for field in ("selector", "serviceName", "replicas", "podManagementPolicy", "updateStrategy"):
        assert ours["StatefulSet qdrant"]["spec"][field] == official["StatefulSet qdrant"]["spec"][field]
    labels = [
        item["StatefulSet qdrant"]["spec"]["template"]["metadata"]["labels"] for item in (ours, official)
    ]
    assert labels[0] == labels[1]


def test_ports_probes_and_resources_are_the_official_charts(ours: Objects, official: Objects) -> None:
    for field in ("ports", *PROBES, "resources", "securityContext", "lifecycle"):
        assert container_of(ours)[field] == container_of(official)[field], field


def test_the_claim_is_the_official_charts(ours: Objects, official: Objects) -> None:
    claims = [item["StatefulSet qdrant"]["spec"]["volumeClaimTemplates"] for item in (ours, official)]
    assert claims[0] == claims[1]


def test_the_service_monitor_is_the_official_charts(ours: Objects, official: Objects) -> None:
    assert ours["ServiceMonitor qdrant"] == official["ServiceMonitor qdrant"]


def test_nothing_else_differs_than_what_the_embedded_image_has_no_use_for(
    ours: Objects, official: Objects
) -> None:
    """Its settings are variables, so it needs neither start script nor settings file; nor an account."""
    assert _without_its_own(ours) == _without_its_own(official)


def _without_its_own(objects: Objects) -> Objects:
    found = deepcopy(objects)
    workload = found["StatefulSet qdrant"]
    workload["metadata"].pop("annotations", None)
    template = workload["spec"]["template"]
    template["metadata"].pop("annotations", None)
    pod = template["spec"]
    for field in ("serviceAccountName", "enableServiceLinks", "automountServiceAccountToken"):
        pod.pop(field, None)
    assert not pod.pop("initContainers", None)
    (container,) = pod["containers"]
    for field in ("command", "args"):
        container.pop(field, None)
    container["env"] = [item for item in container["env"] if not item["name"].startswith("QDRANT__CLUSTER__")]
    container["volumeMounts"] = [
        item for item in container["volumeMounts"] if item["name"] != "qdrant-config"
    ]
    pod["volumes"] = [item for item in pod["volumes"] if item["name"] != "qdrant-config"]
    return found


# What the chart does by itself, and what it refuses


def test_the_charts_own_defaults_are_what_the_lab_warns_of() -> None:
    objects = render()
    container = container_of(objects)
    assert container["resources"] == {}
    assert [name for name in PROBES if name in container] == ["readinessProbe"]
    pod = objects["StatefulSet qdrant"]["spec"]["template"]["spec"]
    assert [item["name"] for item in pod["initContainers"]] == ["ensure-dir-ownership"]
    assert "resources" not in pod["initContainers"][0]


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ("livenesProbe: {enabled: true}", "livenesProbe"),
        ("livenessProbe: {enabled: 'yes'}", "enabled"),
        ("replicaCount: 3", "replicaCount"),
        ("config: {cluster: {enabled: true}}", "no cluster mode"),
        ("apiKey: true", "apiKey"),
    ],
)
def test_what_the_chart_cannot_do_is_refused_by_name(values: str, word: str) -> None:
    done = run("template", "qdrant", str(CHART), "-f", "-", values=values)
    assert done.returncode != 0
    assert word in done.stderr


def test_the_schema_lists_what_the_chart_reads() -> None:
    known = json.loads((CHART / "values.schema.json").read_text())["properties"]
    assert yaml.safe_load((CHART / "values.yaml").read_text()).keys() <= known.keys()


def test_the_courses_quota_refuses_the_defaults_by_container() -> None:
    folder = REPOSITORY / "manifests" / "stack" / "substrate"
    cluster = FakeCluster(
        (folder / "namespaces.yaml").read_text() + "---\n" + (folder / "quota.yaml").read_text()
    )

    def reason(values: str) -> str:
        spec = render(values)["StatefulSet qdrant"]["spec"]["template"]["spec"]
        spec["volumes"].append({"name": "qdrant-storage", "emptyDir": {}})
        metadata = {"name": "qdrant-0", "namespace": "llm-system"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        return cluster.view().dry_run(pod).reason

    sized = "resources: {requests: {cpu: 100m, memory: 256Mi}, limits: {cpu: 1, memory: 1Gi}}\n"
    assert "llm-system-quota" in reason("resources: {}")
    assert "ensure-dir-ownership" in reason(sized)
    assert reason(f"{sized}updateVolumeFsOwnership: false") == ""


# The lab's values


def test_the_solutions_values_pass_every_check(tmp_path: Path) -> None:
    objects = render(yaml_cells("03")["qdrant_values"])
    for item in objects.values():
        item["metadata"]["namespace"] = "llm-system"
    cluster = solved_by_helm(("deployed", "Install complete"))
    cluster.delete("StatefulSet", "qdrant", "llm-system")
    mutants.settled(*objects.values())(cluster)
    assert graded(cluster, tmp_path) == {}


def test_the_colleagues_values_lack_what_the_text_names() -> None:
    draft = render((REPOSITORY / "solutions" / "given" / "03" / "qdrant_values.yaml").read_text())
    assert container_of(draft)["resources"] == {}
    assert "livenessProbe" not in container_of(draft)
    assert draft["StatefulSet qdrant"]["spec"]["template"]["spec"]["initContainers"]


def test_the_official_chart_can_have_the_labs_values_too() -> None:
    """Their names are the official chart's own: the values of the official chart in this repository have them all."""
    known = yaml.safe_load(VALUES.read_text())
    assert yaml.safe_load(yaml_cells("03")["qdrant_values"]).keys() <= known.keys()


# The command


def test_helm_stands_beside_course() -> None:
    ensure_helm(Steps())
    beside = Path(sys.prefix) / "bin" / "helm"
    done = subprocess.run([str(beside), "version"], capture_output=True, text=True, timeout=60, check=False)
    assert 'Version:"v4.' in done.stdout, done.stderr


# What Helm remembers, graded


def graded(cluster: FakeCluster, folder: Path) -> dict[str, str]:
    """What each check observed that did not pass."""
    report = grade([checks.lab], cluster, journals=folder, runtime=VirtualRuntime())
    return {item.check: item.observed for item in report.verdicts if item.status is not Status.PASS}


def solved_by_helm(*history: tuple[str, str]) -> FakeCluster:
    cluster = FakeCluster()
    mutants.solution(cluster)
    mutants.released(*history)(cluster)
    return cluster


def test_a_release_is_graded_as_the_manifest_is(tmp_path: Path) -> None:
    assert graded(solved_by_helm(("deployed", "Install complete")), tmp_path) == {}


def test_after_a_rollback_the_failed_revision_does_not_count(tmp_path: Path) -> None:
    history = (
        ("superseded", "Install complete"),
        ("failed", "Upgrade failed"),
        ("deployed", "Rollback to 1"),
    )
    assert graded(solved_by_helm(*history), tmp_path) == {}


def test_a_failed_first_release_is_named_where_nothing_else_is_there(tmp_path: Path) -> None:
    cluster = FakeCluster()
    cluster.put([mutants._record(1, "failed", "no matches for kind ServiceMonitor")])
    report = grade([checks.lab], cluster, journals=tmp_path, runtime=VirtualRuntime())
    ready = next(item for item in report.verdicts if item.check == "memory.ready")
    assert ready.status is Status.FAIL
    assert "revision 1 of release qdrant is failed: no matches for kind ServiceMonitor" in ready.observed
    assert ready.next == "helm history qdrant -n llm-system"


@pytest.mark.parametrize(
    ("history", "command"),
    [
        ([("failed", "")], ""),
        ([("pending-install", "")], "helm uninstall qdrant -n llm-system"),
        # Helm calls a failed revision superseded, too, once a later one is deployed.
        ([("superseded", mutants.TIMED_OUT), ("failed", "")], ""),
        (
            [("deployed", ""), ("superseded", mutants.TIMED_OUT), ("failed", "")],
            "helm rollback qdrant 1 -n llm-system --wait",
        ),
        (
            [("superseded", ""), ("deployed", ""), ("failed", "")],
            "helm rollback qdrant 2 -n llm-system --wait",
        ),
        ([("superseded", ""), ("failed", ""), ("failed", "")], "helm rollback qdrant 1 -n llm-system --wait"),
    ],
)
def test_the_way_back_is_the_newest_revision_that_was_deployed(
    history: list[tuple[str, str]], command: str
) -> None:
    assert helm.way_back(helm.revisions(solved_by_helm(*history).view()), "llm-system") == command


def test_a_record_that_cannot_be_read_is_still_a_revision() -> None:
    cluster = solved_by_helm(("deployed", "Install complete"))
    record = mutants._record(2, "failed", "")
    record["data"]["release"] = "bm90IHBhY2tlZA=="
    cluster.put([record])
    newest = helm.revisions(cluster.view())[-1]
    assert (newest.number, newest.status, newest.said) == (2, "failed", "its record cannot be read")


def test_a_reset_forgets_the_release_and_no_other() -> None:
    cluster = solved_by_helm(("superseded", "Install complete"), ("deployed", "Upgrade complete"))
    other = mutants._record(1, "deployed", "Install complete")
    other["metadata"]["name"] = "sh.helm.release.v1.other.v1"
    other["metadata"]["labels"]["name"] = "other"
    cluster.put([other])
    done = checks.reset(cluster)
    assert [line for line in done if "record" in line] == [
        "Helm's record of revision 1 deleted",
        "Helm's record of revision 2 deleted",
    ]
    assert [item.name for item in cluster.view().list("Secret", "llm-system")] == [
        "sh.helm.release.v1.other.v1"
    ]
    assert checks.reset(cluster) == []
