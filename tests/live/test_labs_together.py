"""A lab that is solved again after all others takes no point from them, and gets its own.

Lab 01 needs the card that vLLM of lab 02 holds. The other orders are tried on fakes, in
tests/unit/test_labs_together.py; tests/live/test_journey.py solves all labs in their own order,
so that what is kept of it was solved once, and here for the second time.
"""

from __future__ import annotations

import pytest

from helpers.cluster import Cluster
from helpers.grading.lifecycle import reset
from helpers.labs.registry import lab_ids, load_lab
from tests.live.course_command import course

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.solved(*lab_ids())]


def test_the_first_lab_solved_again_last_leaves_every_check_of_every_lab_passed(cluster: Cluster) -> None:
    solved = course("solve", "01")
    assert solved.returncode == 0, solved.stdout + solved.stderr
    graded = course("grade", *lab_ids())
    assert graded.returncode == 0, graded.stdout


def test_a_second_reset_of_it_changes_nothing(cluster: Cluster) -> None:
    assert "deleted Namespace llm-system" in reset(load_lab("01"), cluster, lambda text: None)
    assert reset(load_lab("01"), cluster, lambda text: None) == []
