"""All labs solved on one cluster by the command, as a learner or a classroom would, and graded together.

Runs alone, before the other live tests: lab 05 measures queues and outages, and what is solved here is
kept for them, so that no other file solves a lab again. It is kept under the hash of all that solves and
grades: where this very version was solved before, its copy is started and graded, which takes 2 minutes
instead of half an hour. `COURSE_TEST_ANEW=1` solves it again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from rich.console import Console

from helpers import restore
from helpers.embedded.steps import Steps
from helpers.grading import Report
from helpers.labs.registry import lab_ids
from helpers.settings import cluster_name
from tests.live.course_command import course

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine]

# What stands side by side is solved at the same time; the next begins when all of it is done. Labs 01 and 02
# want the same card, 04 stands on 02 and 03, 05 measures, 06 ends pods and Redis, and 07 asks vLLM all the time:
# beside these nothing may run, nor beside 08, which watches what scales. A lab that is not named here comes last, alone.
TOGETHER = [["01 02", "03"], ["04"], ["05"], ["06"], ["07"], ["08"]]

SETTLED_S = 180.0
FOREIGN = bool(os.environ.get("COURSE_TEST_KUBECONFIG"))


def rounds() -> list[list[str]]:
    named = {lab for beside in TOGETHER for labs in beside for lab in labs.split()}
    return [*TOGETHER, *([lab] for lab in lab_ids() if lab not in named)]


def solve(beside: Sequence[str]) -> None:
    """Each by a command of its own; what it said where it failed."""
    with ThreadPoolExecutor(len(beside)) as pool:
        ended = list(pool.map(lambda labs: course("solve", *labs.split()), beside))
    assert all(done.returncode == 0 for done in ended), "".join(done.stdout + done.stderr for done in ended)


@pytest.fixture(scope="module")
def solved(request: pytest.FixtureRequest) -> bool:
    """All labs on a cluster with nothing on it: their starts bring up what they stand on. True where a copy was kept."""
    if not FOREIGN and os.environ.get("COURSE_TEST_ANEW") != "1":
        with suppress(restore.NotKept):
            restore.bring_back(lab_ids(), cluster_name(), Steps(console=Console(stderr=True)), replace=True)
            return True
    request.getfixturevalue("cluster")
    for beside in rounds():
        solve(beside)
    return False


def short() -> dict[str, tuple[str, str]]:
    """What `course grade` of all labs does not pass, and what it observed."""
    done = course("grade", *lab_ids(), "--json")
    report = Report.from_json(done.stdout)
    assert {result.lab for result in report.verdicts} == set(lab_ids())
    found = {f"{result.lab} {result.check}": (result.status, result.observed) for result in report.verdicts}
    assert (done.returncode == 0) is all(seen[0] == "PASS" for seen in found.values())
    return {check: seen for check, seen in found.items() if seen[0] != "PASS"}


def left_in_the_end() -> dict[str, tuple[str, str]]:
    """The same, when a cluster that has just begun has come to rest.

    Lab 08's review asks what Prometheus and KEDA say, which then ask again every few seconds.
    """
    until = time.monotonic() + SETTLED_S
    while (left := short()) and time.monotonic() < until:
        time.sleep(10)
    return left


def test_after_all_labs_are_solved_every_check_of_every_lab_passes(solved: bool) -> None:
    assert (left_in_the_end() if solved else short()) == {}


@pytest.mark.embedded
@pytest.mark.skipif(FOREIGN, reason="copies the embedded node")
def test_a_copy_of_the_solved_cluster_passes_every_check_too(solved: bool) -> None:
    steps = Steps(console=Console(stderr=True))
    if not solved:
        assert short() == {}, "nothing is kept that does not pass"
        restore.keep(lab_ids(), cluster_name(), steps)
        restore.bring_back(lab_ids(), cluster_name(), steps, replace=True)
    assert left_in_the_end() == {}
