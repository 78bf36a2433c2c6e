"""Lab 03 by Helm on a live cluster: refused by the quota, mended, an upgrade that cannot be, and the ways back.

The tests tell one story, in this order; each grades what it leaves.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.cluster import Cluster
from helpers.grading import Status, grade
from helpers.grading.changes import yaml_cells
from helpers.grading.report import CheckResult
from helpers.labs.lab03_memory import checks
from helpers.settings import REPOSITORY
from helpers.stack import helm, memory
from tests.live.course_command import course, typed

pytestmark = pytest.mark.live
READY_S = 120.0
VALUES = yaml_cells("03")["qdrant_values"]
DRAFT = (REPOSITORY / "solutions" / "given" / "03" / "qdrant_values.yaml").read_text()
QUOTA = REPOSITORY / "manifests" / "stack" / "substrate" / "quota.yaml"


@pytest.fixture(scope="module", autouse=True)
def quota(cluster: Cluster) -> None:
    """The lab's start state, and the quota of lab 01."""
    assert course("start", "03").returncode == 0
    cluster.apply(QUOTA.read_text())
    # Admission goes by its status, which a busy controller writes later than `apply` waits for.
    cluster.wait_until(
        "the quota is in force",
        lambda view: view.resource_quota("llm-system-quota", memory.NAMESPACE).path("status.hard"),
        timeout_s=120,
    )


def run(*words: str, values: str = "") -> subprocess.CompletedProcess[str]:
    """`helm …` as it is typed, in the course's folder."""
    command = [str(Path(sys.prefix) / "bin" / "helm"), *words, "-n", memory.NAMESPACE]
    return typed(command, given=values, timeout_s=600)


def release(values: str, *, timeout: str = "2m") -> subprocess.CompletedProcess[str]:
    words = ("upgrade", "--install", helm.RELEASE, helm.CHART, "-f", "-", "--wait", "--timeout", timeout)
    return run(*words, values=values)


def install_checks(cluster: Cluster) -> dict[str, CheckResult]:
    report = grade([checks.lab], cluster)
    return {item.check: item for item in report.verdicts if item.task == "install"}


def all_pass(cluster: Cluster) -> bool:
    # On a busy machine a probe may time out again right after Helm saw the pod ready.
    end = time.monotonic() + READY_S
    while True:
        cluster.wait_ready("StatefulSet", "qdrant", memory.NAMESPACE, timeout_s=READY_S)
        found = install_checks(cluster)
        short = {name: item.observed for name, item in found.items() if item.status is not Status.PASS}
        if not short:
            return len(found) == 4
        assert "no endpoints available" in str(short) and time.monotonic() < end, short


def history(cluster: Cluster) -> list[str]:
    return [revision.status for revision in helm.revisions(cluster.view())]


def test_the_colleagues_values_are_refused_by_the_quota_and_the_release_has_failed(cluster: Cluster) -> None:
    done = release(DRAFT, timeout="10s")
    assert done.returncode != 0
    ready = install_checks(cluster)["memory.ready"]
    assert ready.status is Status.FAIL
    assert "0 pods: failed quota: llm-system-quota: must specify" in ready.observed
    assert history(cluster) == ["failed"]


def test_the_same_command_with_better_values_mends_it(cluster: Cluster) -> None:
    done = release(VALUES)
    assert done.returncode == 0, done.stderr
    assert all_pass(cluster)
    # A failed revision is called superseded once a later one is deployed.
    assert history(cluster) == ["superseded", "deployed"]


def test_probes_off_are_graded_as_such(cluster: Cluster) -> None:
    done = release(VALUES.replace("livenessProbe: {enabled: true", "livenessProbe: {enabled: false"))
    assert done.returncode == 0, done.stderr
    probes = install_checks(cluster)["memory.probes"]
    assert "liveness asks nothing" in probes.observed
    assert run("rollback", helm.RELEASE, "2", "--wait").returncode == 0
    assert all_pass(cluster)


def test_another_size_is_refused_while_qdrant_runs_on(cluster: Cluster) -> None:
    before = cluster.view().pod("qdrant-0", memory.NAMESPACE).uid
    done = release(VALUES.replace("size: 10Gi", "size: 20Gi"))
    assert done.returncode != 0
    assert "orbidden" in done.stderr
    ready = install_checks(cluster)["memory.ready"]
    assert ready.status is Status.PARTIAL
    assert "is failed: " in ready.observed
    assert cluster.view().pod("qdrant-0", memory.NAMESPACE).uid == before
    assert ready.next == "helm rollback qdrant 4 -n llm-system --wait"


def test_the_printed_way_back_leads_back(cluster: Cluster) -> None:
    command = install_checks(cluster)["memory.ready"].next
    assert run(*command.split()[1:]).returncode == 0
    assert all_pass(cluster)


def test_an_image_that_is_not_there_is_named_and_a_rollback_brings_the_pod_back(cluster: Cluster) -> None:
    done = release(VALUES + "\nimage: {tag: 9.9.9}\n", timeout="20s")
    assert done.returncode != 0
    # Helm gives up after its own time; a busy node may only be making the pod's sandbox then.
    missing = "qdrant-0 has no image course.local/qdrant-edge:9.9.9"
    cluster.wait_until(
        missing,
        lambda view: missing in install_checks(cluster)["memory.ready"].observed,
        timeout_s=120,
    )
    command = helm.way_back(helm.revisions(cluster.view()), memory.NAMESPACE)
    assert run(*command.split()[1:]).returncode == 0
    assert all_pass(cluster)


def test_after_an_uninstall_the_claim_stays_and_a_reset_takes_it(cluster: Cluster) -> None:
    assert run("uninstall", helm.RELEASE).returncode == 0
    assert install_checks(cluster)["memory.ready"].status is Status.NOT_ATTEMPTED
    assert [claim.name for claim in cluster.view().pvcs(memory.NAMESPACE, labels="app=qdrant")]
    assert course("reset", "03").returncode == 0
    assert cluster.view().pvcs(memory.NAMESPACE, labels="app=qdrant") == []
