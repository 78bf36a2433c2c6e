"""What is seen of an incident: a dozen figures from Prometheus, and the table by which six incidents are told apart.

Nobody is told what was broken. Each figure is compared with itself from before, so that a slow machine is slow in
both; what decides is which of them changed, and which did not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from string import Template
from typing import TYPE_CHECKING

from helpers.errors import EnvironmentFault, ObjectMissing

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

# Rates over so long: long enough for a job in some seconds, short enough to see a change within a minute.
WINDOW = "30s"
Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Figure:
    """One thing that Prometheus is asked.

    Args:
        promql: `$WINDOW`, `$POOL` and `$WORKERS` stand for the time and for the labels of their pods.
    """

    name: str
    title: str
    unit: str
    promql: str


FIGURES: tuple[Figure, ...] = (
    Figure(
        "arriving",
        "jobs that are sent",
        "/s",
        "sum(rate(llm_jobs_accepted_total[$WINDOW])) + (sum(rate(llm_jobs_refused_total[$WINDOW])) or vector(0))",
    ),
    Figure("done", "jobs done", "/s", 'sum(rate(llm_jobs_total{outcome="done"}[$WINDOW]))'),
    Figure("waiting", "jobs that nobody has taken", "", "max(llm_jobs_waiting)"),
    Figure("workers", "workers that answer", "", "sum(up{$WORKERS}) or vector(0)"),
    Figure(
        "cached",
        "answered by the cache",
        "share",
        'sum(rate(llm_cache_total{result=~"exact|similar"}[$WINDOW])) / sum(rate(llm_cache_total[$WINDOW]))',
    ),
    Figure(
        "retrieval",
        "a retrieval takes",
        "s",
        "sum(rate(llm_retrieval_seconds_sum[$WINDOW])) / sum(rate(llm_retrieval_seconds_count[$WINDOW]))",
    ),
    Figure(
        "generation",
        "a generation takes",
        "s",
        "sum(rate(llm_generation_seconds_sum[$WINDOW])) / sum(rate(llm_generation_seconds_count[$WINDOW]))",
    ),
    Figure("asked", "generations asked for", "/s", 'sum(rate(llm_attempts_total{backend="vllm"}[$WINDOW]))'),
    # Counted by workers when an answer has come: others may use the pool too.
    Figure(
        "answered", "generations that came back", "/s", 'sum(rate(llm_cache_total{result="miss"}[$WINDOW]))'
    ),
    Figure("pool", "model servers that answer", "", "sum(up{$POOL}) or vector(0)"),
    Figure("inside", "requests waiting inside the pool", "", "sum(vllm:num_requests_waiting{$POOL})"),
)
BY_NAME = {item.name: item for item in FIGURES}


def read(view: ClusterView, *, batch: str = "llm-batch", apps: str = "llm-apps") -> dict[str, float | None]:
    """All figures as they are now; None for what has no value, such as the time of a retrieval when there was none.

    Raises:
        ObjectMissing, EnvironmentFault: there is no Prometheus, or it does not answer.
    """
    from helpers.stack import prometheus

    real = view.scope.namespace
    labels = {
        "WINDOW": WINDOW,
        "POOL": f'namespace="{real(batch)}",pod=~"vllm-.+"',
        "WORKERS": f'namespace="{real(apps)}",pod=~"llm-worker-.+"',
    }
    found: dict[str, float | None] = {}
    for item in FIGURES:
        value = prometheus.value(view, Template(item.promql).substitute(labels))
        found[item.name] = None if value is None or math.isnan(value) else round(value, 4)
    return found


def can_be_read(view: ClusterView) -> str:
    """What Prometheus must know and does not, in a sentence; empty where it knows enough."""
    try:
        found = read(view)
    except (ObjectMissing, EnvironmentFault) as error:
        return str(error)
    lacking = [BY_NAME[name].title for name in ("waiting", "inside") if found[name] is None]
    lacking += [] if found["pool"] else [BY_NAME["pool"].title]
    return f"Prometheus knows nothing of {', '.join(lacking)}" if lacking else ""


def typical(samples: Sequence[Figures]) -> dict[str, float | None]:
    """The median of each figure over some samples; None where it never had a value."""
    found: dict[str, float | None] = {}
    for item in FIGURES:
        values = [value for sample in samples if (value := sample.get(item.name)) is not None]
        found[item.name] = median(values) if values else None
    return found


# The table


@dataclass(frozen=True)
class Sign:
    """What an incident shows and no other does.

    Args:
        figure: the one that tells it.
        says: what it does, in a sentence.
        holds: of the figures before and now.
    """

    figure: str
    says: str
    holds: Callable[[Figures, Figures], bool]


def _of(figures: Figures, name: str) -> float:
    return figures.get(name) or 0.0


def _no_pool(before: Figures, now: Figures) -> bool:
    return _of(before, "pool") > 0 and _of(now, "pool") == 0


def _no_worker(before: Figures, now: Figures) -> bool:
    return _of(now, "workers") == 0 and _of(now, "waiting") > max(3.0, 2 * _of(before, "waiting"))


def _no_way(before: Figures, now: Figures) -> bool:
    return _of(now, "asked") > 0 and _of(now, "answered") == 0 and _of(now, "pool") > 0


def _slow_retrieval(before: Figures, now: Figures) -> bool:
    return _of(now, "retrieval") > max(1.0, 5 * _of(before, "retrieval"))


def _flood(before: Figures, now: Figures) -> bool:
    return _of(now, "arriving") > 3 * _of(before, "arriving") and _of(now, "waiting") > _of(before, "waiting")


def _no_hits(before: Figures, now: Figures) -> bool:
    return now.get("cached") is not None and _of(now, "cached") < 0.5 * _of(before, "cached")


# In this order: what is gone explains what is slow, and what comes in explains what waits.
SIGNS: Mapping[str, Sign] = {
    "gpu-lost": Sign("pool", "no model server answers any more", _no_pool),
    "worker-killed": Sign("workers", "no worker answers, and jobs that nobody takes pile up", _no_worker),
    "network-cut": Sign(
        "answered", "generations are asked of a pool that is up, and none comes back", _no_way
    ),
    "retriever-slow": Sign(
        "retrieval", "a retrieval takes seconds; the model is as fast as before", _slow_retrieval
    ),
    "queue-full": Sign("arriving", "many more jobs are sent than before, and they wait", _flood),
    "cache-cold": Sign("cached", "as many jobs as before, and the cache answers none", _no_hits),
}


def told_apart(before: Figures, now: Figures) -> str:
    """Which incident the figures show, by the table; empty where they show none."""
    return next((name for name, sign in SIGNS.items() if sign.holds(before, now)), "")
