"""The queue of a solved lab 08 moves to Kafka and back: the same witnesses look, and the same checks pass.

Only with COURSE_TEST_KAFKA=1: it makes an image of 286 MB, and breaks workers and queue for eight minutes.
"""

from __future__ import annotations

import os

import pytest

from helpers.cluster import Cluster
from helpers.grading.engine import grade
from helpers.labs.lab08_scale import run
from helpers.labs.registry import lab_ids, load_lab
from helpers.stack import jobs, kafka

pytestmark = [
    pytest.mark.live,
    pytest.mark.solved(*lab_ids()),
    pytest.mark.skipif(not os.environ.get("COURSE_TEST_KAFKA"), reason="COURSE_TEST_KAFKA=1 asks for it"),
]
WITNESSES = ("jobs", "delivery", "faults")


def of_the_queue(cluster: Cluster) -> dict[str, int]:
    """How many of the five checks of the queue stand how."""
    return grade([load_lab("08")], cluster, only={"queue"}).counts


def test_the_same_checks_pass_over_kafka(cluster: Cluster) -> None:
    kafka.switch_on(cluster, print)
    try:
        assert of_the_queue(cluster) == {"NOT_ATTEMPTED": 5}, "what was seen over Redis counts no more"
        run.run_all(cluster, WITNESSES, on_progress=print)
        assert of_the_queue(cluster) == {"PASS": 5}
    finally:
        kafka.switch_off(cluster, print)
    view = cluster.view()
    assert not any(view.find(*name) for name in kafka.MADE)
    job = jobs.submit(cluster, "What is a quota?", retrieve=False, max_tokens=4)
    done = cluster.wait_until(
        "a job is answered over Redis again",
        lambda _: jobs.look(cluster, job) if jobs.look(cluster, job)["status"] == "done" else None,
        timeout_s=120,
    )
    assert done["answer"]
