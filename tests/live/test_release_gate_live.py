"""The assistant's gate on a live cluster: a release is stopped for what it answers, let through on record, taken back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from helpers.apps.evals import scores
from helpers.cluster import Cluster
from helpers.labs.registry import lab_ids
from helpers.stack import assistant, evals, releases, rollouts

pytestmark = [pytest.mark.live, pytest.mark.gpu_engine, pytest.mark.solved(*lab_ids(), shared=True)]


@pytest.fixture(scope="module")
def at_rest(cluster: Cluster) -> Iterator[str]:
    """The release that users have; what a test leaves is taken back, and its records go."""
    before = rollouts.wait_decided(cluster).release
    kept = {record.name for record in rollouts.records(cluster.view())}
    yield before
    rollouts.back_to(cluster, before)
    rollouts.wait_decided(cluster)
    for record in rollouts.records(cluster.view()):
        if record.name not in kept:
            cluster.delete("ConfigMap", record.name, rollouts.NAMESPACE)


def test_a_release_without_citations_is_stopped_and_goes_through_on_record_alone(
    cluster: Cluster, at_rest: str
) -> None:
    before = rollouts.standing(cluster.view())
    rollouts.release(cluster, "no-citations")
    stopped = rollouts.wait_decided(cluster)
    assert stopped.is_stopped and stopped.stable == before.stable
    gate = rollouts.gate_of(cluster.view(), stopped.current)
    assert gate is not None
    assert (gate.phase, gate.verdict, gate.exit_code) == ("Failed", "quality", 1)
    assert any(words.startswith("citation") for words in gate.said["failed"])

    record = rollouts.break_glass(cluster, ticket="T-1", approver="a test", why="to see it")
    through = rollouts.wait_decided(cluster)
    assert through.is_through and through.release == "no-citations"
    kept = next(item for item in rollouts.records(cluster.view()) if item.revision == stopped.current)
    assert kept.figures == gate.said and kept.run_uid == gate.uid == record.run_uid
    events = cluster.view().events(rollouts.NAMESPACE)
    assert any(event.reason == "BreakGlass" and "T-1" in event.message for event in events)


def test_a_promotion_skips_the_gate_and_brings_the_release_back(cluster: Cluster, at_rest: str) -> None:
    judged = len(rollouts.gate_runs(cluster.view()))
    rollouts.back_to(cluster, releases.STABLE)
    now = rollouts.wait_decided(cluster)
    assert now.is_through and now.release == releases.STABLE
    assert rollouts.gate_of(cluster.view(), now.current) is None
    assert len(rollouts.gate_runs(cluster.view())) <= judged


def test_the_baseline_of_the_release_that_users_have_fits_the_gate(cluster: Cluster, at_rest: str) -> None:
    found = scores.Baseline.read(evals.measure_baseline(cluster))
    kept = scores.Baseline.read(assistant.data_in(cluster.view(), assistant.BASELINE)[evals.BASELINE_FILE])
    scores.check_pins(kept, found.pins)
    assert found.scores["retrieval_hit"].mean == kept.scores["retrieval_hit"].mean
