"""Quota arithmetic: every dimension, the figures of the course, and upstream's words."""

from __future__ import annotations

from decimal import Decimal

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.errors import InvalidManifest
from helpers.stack.quota import (
    DIMENSIONS,
    PLANNED,
    QDRANT,
    VLLM,
    amount_text,
    amounts,
    arithmetic,
    exceeded,
    hard_in,
    question_claim,
    question_pod,
    total_of,
)

HANDED_OUT = amounts(
    {
        "requests.nvidia.com/gpu": 1,
        "requests.cpu": 4,
        "limits.cpu": 12,
        "requests.memory": "32Gi",
        "limits.memory": "96Gi",
        "requests.storage": "400Gi",
        "persistentvolumeclaims": 4,
        "pods": 8,
    }
)


def test_the_quota_as_handed_out_overruns_in_one_dimension_only() -> None:
    over = {line.dimension: line.over for line in arithmetic(HANDED_OUT) if not line.fits}
    assert over == {"limits.cpu": 2}


@pytest.mark.parametrize("workload", PLANNED, ids=lambda workload: workload.name)
def test_each_workload_alone_fits(workload: object) -> None:
    assert all(line.fits for line in arithmetic(HANDED_OUT, [workload]))  # type: ignore[list-item]


def test_what_is_in_use_counts_as_well() -> None:
    lines = arithmetic(HANDED_OUT, [QDRANT], used=VLLM.takes)
    assert [line.dimension for line in lines if not line.fits] == ["limits.cpu"]


def test_a_dimension_without_a_limit_fits_and_says_so() -> None:
    line = next(line for line in arithmetic({}) if line.dimension == "limits.memory")
    assert line.fits and line.says() == "80 GiB, not limited"


def test_a_limit_outside_the_courses_dimensions_gets_a_line_too() -> None:
    lines = arithmetic({"services": Decimal(2)})
    assert [line.dimension for line in lines] == [*DIMENSIONS, "services"]


def test_an_overrun_is_said_in_the_units_of_people() -> None:
    hard = amounts({"requests.storage": "300Gi"})
    line = next(line for line in arithmetic(hard) if line.dimension == "requests.storage")
    assert line.says() == "320 GiB of 300 GiB: 20 GiB too many"
    assert amount_text("limits.cpu", Decimal("0.5")) == "0.5"


def test_a_quantity_that_is_none_is_named() -> None:
    with pytest.raises(InvalidManifest, match=r"limits\.cpu"):
        hard_in({"spec": {"hard": {"limits.cpu": "twelve"}}})


def test_a_refusal_names_exactly_the_exceeded_dimensions() -> None:
    refusal = (
        'pods "x" is forbidden: exceeded quota: q, requested: limits.cpu=24,limits.memory=144Gi, '
        "used: limits.cpu=0,limits.memory=0, limited: limits.cpu=14,limits.memory=96Gi"
    )
    assert exceeded(refusal) == {"limits.cpu", "limits.memory"}
    assert exceeded('pods "x" is forbidden: failed quota: q: must specify limits.cpu for: c') == set()


def test_the_questions_are_asked_in_words_that_admission_counts() -> None:
    cluster = FakeCluster({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-system"}})
    hard = {name: amount_text(name, value).replace(" GiB", "Gi") for name, value in HANDED_OUT.items()}
    metadata = {"name": "q", "namespace": "llm-system"}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})
    both = cluster.view().dry_run(question_pod(total_of(PLANNED), "both"))
    assert exceeded(both.reason) == {"limits.cpu"}
    claim = cluster.view().dry_run(question_claim(Decimal(500 * 1024**3), "large"))
    assert exceeded(claim.reason) == {"requests.storage"}
    assert cluster.view().dry_run(question_pod(VLLM.takes, "vllm")).allowed
