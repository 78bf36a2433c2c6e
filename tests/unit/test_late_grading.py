"""A right cluster is graded right by whoever comes late: another machine, no journal, no events any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.grading import Status, grade
from helpers.grading.author import SOLUTION, fake_clusters
from helpers.grading.testing import VirtualRuntime
from helpers.labs.registry import lab_ids, load_lab, load_proofs


def test_a_queue_is_remembered_by_its_witness_when_the_process_it_waited_in_is_gone(tmp_path: Path) -> None:
    from helpers.labs.lab02_inference.mutants import _queue_job

    cluster = fake_clusters(load_proofs("02"))(SOLUTION)
    _queue_job()(cluster)
    report = grade([load_lab("02")], cluster, journals=tmp_path, runtime=VirtualRuntime())
    (queue,) = (result for result in report.verdicts if result.check == "vllm.queue")
    assert (queue.status, queue.evidence[0].name) == (Status.PASS, "queue-witness")


@pytest.mark.parametrize("number", lab_ids())
def test_a_solved_lab_passes_a_day_later_and_with_an_empty_journal(number: str, tmp_path: Path) -> None:
    lab = load_lab(number)
    cluster = fake_clusters(load_proofs(number))(SOLUTION)
    assert isinstance(cluster, FakeCluster)
    for key in [key for key in cluster.backend.objects if key[1] == "events"]:
        del cluster.backend.objects[key]
    report = grade([lab], cluster, journals=tmp_path, runtime=VirtualRuntime())
    short = {result.check: result.observed for result in report.verdicts if result.status is not Status.PASS}
    assert short == {}
