"""All labs solved on one cluster by the command, as a learner or a classroom would, and graded together.

Runs alone, before the other live tests: lab 05 measures queues and outages, and what is solved here is
kept for them, so that no other file solves a lab again.
"""

from __future__ import annotations

import os

import pytest
from rich.console import Console

from helpers import restore
from helpers.cluster import Cluster
from helpers.embedded.steps import Steps
from helpers.grading import Report
from helpers.labs.registry import lab_ids
from helpers.settings import cluster_name
from tests.live.course_command import course

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine]


@pytest.fixture(scope="module")
def solved(cluster: Cluster) -> None:
    """All labs on a cluster with nothing on it: their starts bring up what they stand on."""
    done = course("solve", *lab_ids())
    assert done.returncode == 0, done.stdout + done.stderr


def short() -> dict[str, tuple[str, str]]:
    """What `course grade` of all labs does not pass, and what it observed."""
    done = course("grade", *lab_ids(), "--json")
    report = Report.from_json(done.stdout)
    assert {result.lab for result in report.verdicts} == set(lab_ids())
    found = {f"{result.lab} {result.check}": (result.status, result.observed) for result in report.verdicts}
    assert (done.returncode == 0) is all(seen[0] == "PASS" for seen in found.values())
    return {check: seen for check, seen in found.items() if seen[0] != "PASS"}


def test_after_all_labs_are_solved_every_check_of_every_lab_passes(solved: None) -> None:
    assert short() == {}


@pytest.mark.embedded
@pytest.mark.skipif(bool(os.environ.get("COURSE_TEST_KUBECONFIG")), reason="copies the embedded node")
def test_a_copy_of_the_solved_cluster_passes_every_check_too(solved: None) -> None:
    steps = Steps(console=Console(stderr=True))
    restore.keep(lab_ids(), cluster_name(), steps)
    restore.bring_back(lab_ids(), cluster_name(), steps, replace=True)
    assert short() == {}
