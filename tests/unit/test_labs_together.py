"""Solving any lab, in any order, takes no point from another: on fakes, for every lab that there is."""

from __future__ import annotations

from copy import deepcopy
from itertools import permutations
from pathlib import Path

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.grading import Report, Status, grade
from helpers.grading.testing import VirtualRuntime
from helpers.labs.registry import lab_ids, load_labs, load_proofs
from helpers.labs.rehearsal import solve

LABS = tuple(lab_ids())
ORDERS = sorted(
    {LABS, LABS[::-1]}
    | {(first, *(lab for lab in LABS if lab != first)) for first in LABS}
    | {(*(lab for lab in LABS if lab != last), last) for last in LABS}
)


def graded(cluster: FakeCluster, home: Path) -> Report:
    return grade(load_labs(LABS), cluster, journals=home, runtime=VirtualRuntime())


def short(report: Report) -> dict[str, str]:
    return {
        result.check: f"{result.status}: {result.observed}"
        for result in report.verdicts
        if result.status is not Status.PASS
    }


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
def test_all_labs_solved_are_all_passed_in_any_order(order: tuple[str, ...], tmp_path: Path) -> None:
    cluster = FakeCluster()
    solve(cluster, order)
    assert short(graded(cluster, tmp_path)) == {}


@pytest.mark.parametrize("again", LABS)
def test_a_lab_that_is_solved_once_more_changes_no_verdict(again: str, tmp_path: Path) -> None:
    cluster = FakeCluster()
    solve(cluster, [*LABS, again])
    assert short(graded(cluster, tmp_path)) == {}


@pytest.mark.parametrize("pair", list(permutations(LABS, 2)), ids=" ".join)
def test_what_the_starts_of_two_labs_leave_is_nobodys_mistake(pair: tuple[str, str], tmp_path: Path) -> None:
    """Work that a start brings may count as done; it may not be called wrong, and the order does not matter."""
    cluster, other = FakeCluster(), FakeCluster()
    for number in pair:
        load_proofs(number).start(cluster)
    for number in reversed(pair):
        load_proofs(number).start(other)
    assert set(cluster.backend.objects) == set(other.backend.objects)
    wrong = (Status.FAIL, Status.ENV_ERROR)
    found = [result for result in graded(cluster, tmp_path).verdicts if result.status in wrong]
    # Without its probe pods lab 04 can prove nothing, and says so; where its start ran, they are there.
    untold = [item for item in found if item.lab in pair or item.status is Status.FAIL]
    assert untold == []


@pytest.mark.parametrize(("app", "name"), [("vllm", "vllm"), ("app.kubernetes.io/name=qdrant", "qdrant")])
def test_a_pod_that_a_restarted_node_refused_is_not_one_of_the_backends(
    app: str, name: str, tmp_path: Path
) -> None:
    """After `course down` and `course up`: the kubelet was there before the GPU's plugin, and the pod stays, Failed."""
    cluster = FakeCluster()
    solve(cluster, LABS)
    labels = app if "=" in app else f"app={app}"
    (pod,) = cluster.view().pods("llm-system", labels=labels)
    refused = deepcopy(dict(pod.raw))
    refused["metadata"] = {**refused["metadata"], "name": f"{name}-refused", "uid": "refused"}
    refused["status"] = {"phase": "Failed", "reason": "UnexpectedAdmissionError"}
    cluster.put(refused)
    assert short(graded(cluster, tmp_path)) == {}
