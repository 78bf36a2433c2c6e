"""What Prometheus knows, asked through the API server's proxy: figures, targets, rules.

    prometheus.value(view, 'sum(vllm:num_requests_waiting{namespace="llm-batch"})')

It is asked at the Service that stands before it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from helpers.errors import EnvironmentFault

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

MONITORING, SERVICE, PORT = "llm-monitoring", "prometheus", 9090
# What the Prometheus of the course selects monitors and rules by.
RELEASE = {"release": "course"}


class MetricsUnavailable(EnvironmentFault):
    """Prometheus does not answer."""


class QueryRefused(EnvironmentFault):
    """Prometheus does not take the query, in its own words."""


@dataclass(frozen=True)
class Sample:
    """One series' value now."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Series:
    """One series over a while: (seconds since the window's begin, value) in order."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Target:
    """One address that Prometheus asks.

    Args:
        pool: which monitor it comes from, as the operator writes it: `serviceMonitor/NAMESPACE/NAME/0`.
        health: "up", "down", or "unknown" before the first time.
    """

    pool: str
    health: str
    labels: Mapping[str, str] = field(default_factory=dict)
    error: str = ""

    @property
    def namespace(self) -> str:
        return self.labels.get("namespace", "")

    @property
    def pod(self) -> str:
        return self.labels.get("pod", "")

    @property
    def job(self) -> str:
        return self.labels.get("job", "")

    @property
    def address(self) -> str:
        return self.labels.get("instance", "")

    @property
    def is_up(self) -> bool:
        return self.health == "up"


@dataclass(frozen=True)
class Rule:
    """One rule that Prometheus has loaded; `kind` is "recording" or "alerting"."""

    name: str
    kind: str
    query: str
    labels: Mapping[str, str] = field(default_factory=dict)
    health: str = "unknown"
    error: str = ""
    state: str = ""
    for_s: float = 0.0

    @property
    def is_alert(self) -> bool:
        return self.kind == "alerting"

    @property
    def layer(self) -> str:
        """Where to look, as an alert's label says; empty where it says nothing."""
        return self.labels.get("layer", "")


def query(view: ClusterView, promql: str) -> list[Sample]:
    """The value of each series of an instant query; none where nothing is known.

    Raises:
        ObjectMissing: there is no Prometheus.
        MetricsUnavailable, QueryRefused: it does not answer, or does not take the query.
    """
    data = _ask(view, "query", query=promql)
    if data.get("resultType") == "scalar":
        return [Sample({}, _number(data["result"][1]))]
    return [Sample(item["metric"], _number(item["value"][1])) for item in data.get("result") or []]


def value(view: ClusterView, promql: str) -> float | None:
    """The one value of a query; None where there is none, or more than one.

    Raises:
        ObjectMissing, MetricsUnavailable, QueryRefused: as `query`.
    """
    found = query(view, promql)
    return found[0].value if len(found) == 1 else None


def query_range(view: ClusterView, promql: str, *, seconds: float, step_s: float) -> list[Series]:
    """Each series of a query over the last `seconds`, a point every `step_s` seconds.

    Raises:
        ObjectMissing, MetricsUnavailable, QueryRefused: as `query`.
    """
    end = time.time()
    begin = end - seconds
    data = _ask(view, "query_range", query=promql, start=f"{begin:.3f}", end=f"{end:.3f}", step=f"{step_s:g}")
    return [
        Series(
            item["metric"], tuple((float(at) - begin, _number(text)) for at, text in item.get("values") or [])
        )
        for item in data.get("result") or []
    ]


def targets(view: ClusterView) -> list[Target]:
    """Every address that Prometheus asks now.

    Raises:
        ObjectMissing, MetricsUnavailable: as `query`.
    """
    data = _ask(view, "targets", state="active")
    return [
        Target(
            str(item.get("scrapePool") or ""),
            str(item.get("health") or "unknown"),
            item.get("labels") or {},
            str(item.get("lastError") or ""),
        )
        for item in data.get("activeTargets") or []
    ]


def scrape_pools(view: ClusterView) -> list[str]:
    """Every monitor that Prometheus has loaded, whether it selects anything or not: `podMonitor/NAMESPACE/NAME/0`.

    Raises:
        ObjectMissing, MetricsUnavailable: as `query`.
    """
    found: list[str] = _ask(view, "scrape_pools").get("scrapePools") or []
    return found


def rules(view: ClusterView) -> list[Rule]:
    """Every rule that Prometheus has loaded.

    Raises:
        ObjectMissing, MetricsUnavailable: as `query`.
    """
    data = _ask(view, "rules")
    return [
        Rule(
            str(item.get("name") or ""),
            str(item.get("type") or ""),
            str(item.get("query") or ""),
            item.get("labels") or {},
            str(item.get("health") or "unknown"),
            str(item.get("lastError") or ""),
            str(item.get("state") or ""),
            float(item.get("duration") or 0),
        )
        for group in data.get("groups") or []
        for item in group.get("rules") or []
    ]


def _ask(view: ClusterView, what: str, **parameters: str) -> Mapping[str, Any]:
    path = f"/api/v1/{what}" + (f"?{urlencode(parameters)}" if parameters else "")
    answer = view.http(MONITORING, SERVICE, PORT, path, timeout_s=8)
    try:
        said = answer.json() if answer.from_service else {}
    except ValueError:
        said = {}
    if answer.ok and said.get("status") == "success":
        data: Mapping[str, Any] = said["data"]
        return data
    if answer.from_service and said.get("errorType") == "bad_data":
        raise QueryRefused(f"Prometheus does not take the query: {said.get('error')}")
    raise MetricsUnavailable(
        f"Prometheus does not answer: {answer.status} {answer.body[:120]}",
        next_command=f"kubectl get prometheus,pods -n {MONITORING}",
    )


def _number(text: Any) -> float:
    """Prometheus writes numbers as text, with `NaN` and `+Inf` among them."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan
