"""Qdrant by its official chart: graded as the course's own manifests are, and admitted by the course's quota."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.cluster.fake import FakeCluster
from helpers.grading import Status, grade
from helpers.grading.testing import VirtualRuntime
from helpers.labs.lab03_memory import checks, mutants
from helpers.settings import REPOSITORY

RENDERED = Path(__file__).with_name("qdrant_chart.yaml")
VALUES = REPOSITORY / "manifests" / "stack" / "qdrant" / "values.yaml"
QUOTA = REPOSITORY / "manifests" / "stack" / "substrate"


@pytest.fixture
def chart() -> dict[str, dict[str, Any]]:
    """The chart's objects by kind and name, in the namespace of the release."""
    found = {}
    for item in yaml.safe_load_all(RENDERED.read_text()):
        item["metadata"]["namespace"] = "llm-system"
        found[f"{item['kind']} {item['metadata']['name']}"] = item
    return found


def test_an_installation_by_the_chart_passes_every_check(
    chart: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    cluster = FakeCluster()
    mutants.solution(cluster)
    cluster.delete("StatefulSet", "qdrant", "llm-system")
    cluster.serve_kind("ServiceMonitor", "monitoring.coreos.com", "v1", "servicemonitors")
    mutants.settled(*chart.values())(cluster)
    report = grade([checks.lab], cluster, journals=tmp_path, runtime=VirtualRuntime())
    fell_short = {item.check: item.observed for item in report.verdicts if item.status is not Status.PASS}
    assert fell_short == {}


def test_the_courses_quota_admits_the_pod_of_the_chart(chart: dict[str, dict[str, Any]]) -> None:
    cluster = FakeCluster(
        (QUOTA / "namespaces.yaml").read_text() + "---\n" + (QUOTA / "quota.yaml").read_text()
    )
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "qdrant-0", "namespace": "llm-system"}}
    spec = {**chart["StatefulSet qdrant"]["spec"]["template"]["spec"]}
    spec.pop("serviceAccountName")
    claims = chart["StatefulSet qdrant"]["spec"]["volumeClaimTemplates"]  # a volume each, by the controller
    spec["volumes"] = [*spec.get("volumes", []), *({"name": claim["metadata"]["name"]} for claim in claims)]
    answer = cluster.view().dry_run({**pod, "spec": spec})
    assert answer.allowed, answer.reason


def test_the_rendered_chart_is_that_of_the_values(chart: dict[str, dict[str, Any]]) -> None:
    """Whoever changes the values renders the chart again."""
    values = yaml.safe_load(VALUES.read_text())
    workload = chart["StatefulSet qdrant"]["spec"]
    (container,) = workload["template"]["spec"]["containers"]
    (claim,) = workload["volumeClaimTemplates"]
    assert container["image"] == f"{values['image']['repository']}:{values['image']['tag']}"
    assert container["resources"] == values["resources"]
    assert workload["template"]["spec"]["terminationGracePeriodSeconds"] == 60
    assert [port["name"] for port in container["ports"]] == [
        port["name"] for port in values["service"]["ports"]
    ]
    assert claim["spec"]["resources"]["requests"]["storage"] == values["persistence"]["size"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = {name: value for name, value in values[probe].items() if name != "enabled"}
        assert asked.items() <= container[probe].items()
