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
    counted_as,
    exceeded,
    hard_in,
    question_claim,
    question_pod,
    tightest,
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


ALIASED = {"requests.nvidia.com/gpu": 1, "cpu": 2, "limits.cpu": 14, "memory": "32Gi", "count/pods": 1}


def test_a_dimension_counts_by_whichever_of_its_names_it_is_limited() -> None:
    """shared/cases: `cpu: 2` is a limit on requests.cpu, of which the plan takes 3."""
    hard = hard_in({"spec": {"hard": ALIASED}})
    over = {line.dimension: line.says() for line in arithmetic(hard) if not line.fits}
    assert over == {"requests.cpu": "3 of 2: 1 too many", "pods": "2 of 1: 1 too many"}
    assert hard_in({"spec": {"hard": {"cpu": 2, "requests.cpu": 8}}})["requests.cpu"] == 2


def test_a_refusal_by_another_name_is_understood() -> None:
    refusal = "exceeded quota: q, requested: cpu=4,count/pods=1, used: cpu=0,count/pods=1, limited: cpu=2,count/pods=1"
    assert exceeded(refusal) == {"requests.cpu", "pods"}


def test_a_limit_on_the_storage_class_in_use_is_one_on_all_storage() -> None:
    dimension = "fast-nvme.storageclass.storage.k8s.io/requests.storage"
    assert counted_as(dimension, "fast-nvme") == "requests.storage"
    assert counted_as(dimension, "slow") == dimension


@pytest.mark.parametrize(
    ("scoped", "limits"),
    [
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopes": ["NotBestEffort", "NotTerminating"]}, True),
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["BestEffort"]}, False),
        ({"scopes": ["NotTerminating", "BestEffort"]}, False),
        ({"scopes": ["CrossNamespacePodAffinity"]}, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}}, False),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "DoesNotExist"}]}}, True),
        (
            {"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}},
            False,
        ),
    ],
)  # fmt: skip
def test_a_quota_with_scopes_limits_only_the_pods_that_it_counts(scoped: dict, limits: bool) -> None:
    hard = hard_in({"spec": {"hard": {"limits.cpu": 2, "pods": 1}, **scoped}})
    assert bool(hard) is limits


def test_a_quota_with_scopes_counts_no_claims() -> None:
    spec = {"hard": {"pods": 4, "requests.storage": "1Gi"}, "scopes": ["NotTerminating"]}
    assert set(hard_in({"spec": spec})) == {"pods"}


def test_of_several_quotas_the_tightest_counts() -> None:
    quotas = [{"spec": {"hard": {"cpu": 8, "pods": 4}}}, {"spec": {"hard": {"requests.cpu": 3}}}]
    assert tightest(map(hard_in, quotas)) == {"requests.cpu": 3, "pods": 4}


@pytest.mark.parametrize("hard", [ALIASED, {"cpu": 3}, {"pods": 1}])
def test_the_fake_api_server_refuses_what_the_arithmetic_says(hard: dict) -> None:
    metadata = {"name": "q", "namespace": "default"}
    cluster = FakeCluster()
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}})
    both = total_of(PLANNED)
    answer = cluster.view().dry_run(question_pod(both, "both", "default"))
    fits = all(
        line.fits for line in arithmetic(hard_in({"spec": {"hard": hard}})) if line.dimension != "pods"
    )
    assert answer.allowed is fits


def test_scopes_are_counted_by_the_fake_as_by_the_api_server() -> None:
    cluster = FakeCluster()
    spec = {"hard": {"pods": 0}, "scopes": ["BestEffort"]}
    metadata = {"name": "q", "namespace": "default"}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": spec})
    assert cluster.view().dry_run(question_pod(QDRANT.takes, "counted", "default")).allowed
    assert not cluster.view().dry_run(question_pod({}, "best-effort", "default")).allowed
