"""Checks of lab 08 on clusters that are right in another way than the page's solution, and on wrong ones beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from helpers.cluster.fake import FakeCluster
from helpers.errors import Forbidden
from helpers.grading import author, engine
from helpers.grading.changes import Change, edited, manifest, steps
from helpers.grading.report import CheckResult
from helpers.grading.testing import VirtualRuntime
from helpers.grading.verdict import Status
from helpers.labs.lab08_scale import checks_scale
from helpers.labs.lab08_scale import mutants_scale as wrong
from helpers.labs.lab08_scale.checks import lab
from helpers.labs.lab08_scale.mutants import PROOFS
from helpers.stack import scaling

APPS, BATCH, POOL, WORKER = scaling.APPS, scaling.BATCH, scaling.POOL, scaling.WORKER
SELECTED = {"namespaceSelector": {"matchNames": [BATCH]}}
MAKE = author.fake_clusters(PROOFS)


@pytest.fixture
def judged(tmp_path: Any) -> Callable[..., CheckResult]:
    """What one check says of the solved cluster after some changes."""

    def judge(check: str, *changes: Change) -> CheckResult:
        cluster = MAKE(author.SOLUTION)
        assert isinstance(cluster, FakeCluster)
        steps(*changes)(cluster)
        found = engine.grade([lab], cluster, only={check}, journals=tmp_path, runtime=VirtualRuntime())
        (verdict,) = (item for item in found.verdicts if item.check == check)
        return verdict

    return judge


RIGHT = {
    "monitors in Prometheus' namespace": (
        "metrics.targets",
        wrong.moved("ServiceMonitor", "vllm", BATCH, **SELECTED),
        wrong.moved("PodMonitor", "llm-jobs", APPS, namespaceSelector={"any": True}),
    ),
    "the same without a worker there": (
        "metrics.targets",
        wrong.moved("PodMonitor", "llm-jobs", APPS, namespaceSelector={"matchNames": [APPS]}),
        wrong.no_workers,
    ),
    "a port by its number, and no worker there": (
        "metrics.targets",
        wrong.pods_monitor(podMetricsEndpoints=[{"portNumber": 9090}, {"port": "metrics"}]),
        wrong.no_workers,
    ),
    "rules in Prometheus' namespace": (
        "metrics.rules",
        wrong.moved("PrometheusRule", "llm-rules", BATCH),
    ),
    "scalers by names of their own": (
        "scale.signals",
        wrong.renamed(POOL, "the-pool"),
        wrong.renamed(WORKER, "the-workers"),
    ),
    "a scaler that is told not to pause": (
        "scale.signals",
        edited(
            "ScaledObject",
            POOL,
            lambda found: found["metadata"].update(annotations={scaling.PAUSED: "false"}),
            BATCH,
        ),
    ),
    "the cache in per cent": (
        "scale.signals",
        wrong.metadata(POOL, 1, query="100 * max(vllm:kv_cache_usage_perc)", threshold="80"),
    ),
    "the namespace by a pattern": (
        "scale.signals",
        wrong.metadata(POOL, 0, query='sum(vllm:num_requests_waiting{namespace=~"llm-ba.+"})'),
    ),
    "a fallback to the maximum": ("scale.blind", wrong.fallback(replicas=2, behavior=None)),
    "a fallback to what is there or more": (
        "scale.blind",
        wrong.fallback(replicas=1, behavior="currentReplicasIfHigher"),
    ),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_in_another_way_passes(judged: Callable[..., CheckResult], name: str) -> None:
    check, *changes = RIGHT[name]
    found = judged(check, *changes)
    assert found.status is Status.PASS, found.observed


class NoRightBesidePrometheus:
    """A view whose reader may not list in Prometheus' namespace."""

    def list(self, kind: str, namespace: str) -> list[str]:
        if namespace == scaling.MONITORING:
            raise Forbidden("you may not list here")
        return [f"{kind} in {namespace}"]


def test_where_nobody_may_look_nothing_is_found() -> None:
    view: Any = NoRightBesidePrometheus()
    assert checks_scale._objects(view, "PodMonitor") == ["PodMonitor in llm-batch", "PodMonitor in llm-apps"]


@pytest.mark.parametrize(
    ("annotations", "paused"),
    [
        ({"paused": "true"}, True),
        ({"paused": ""}, True),
        ({"paused": "False"}, False),
        ({"paused-replicas": "0"}, True),
        ({}, False),
    ],
)
def test_a_scaler_is_paused_as_keda_reads_it(annotations: dict[str, str], paused: bool) -> None:
    cluster = FakeCluster()
    cluster.serve_kind("ScaledObject", "keda.sh", "v1alpha1", "scaledobjects")
    metadata = {
        "name": POOL,
        "namespace": BATCH,
        "annotations": {f"autoscaling.keda.sh/{key}": value for key, value in annotations.items()},
    }
    cluster.put(manifest("Namespace", BATCH))
    cluster.put({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata, "spec": {}})
    found = scaling.scaled_object(cluster.view(), POOL, BATCH)
    assert found is not None and found.paused == paused
