"""Labs solved one after another by the command, as a learner or a classroom would, and graded."""

from __future__ import annotations

import pytest

from helpers.cluster import Cluster
from helpers.grading import Report
from tests.live.course_command import course

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine]


@pytest.fixture(scope="module")
def solved(cluster: Cluster) -> None:
    """Labs 04 and 05 on a cluster with nothing on it: their start brings both backends up."""
    done = course("solve", "04", "05")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("lab", ["04", "05"])
def test_a_solved_lab_passes_every_check(solved: None, lab: str) -> None:
    done = course("grade", lab, "--json")
    report = Report.from_json(done.stdout)
    short = {result.check: (result.status, result.observed) for result in report.verdicts}
    assert {check: seen for check, seen in short.items() if seen[0] != "PASS"} == {}
    assert done.returncode == 0
