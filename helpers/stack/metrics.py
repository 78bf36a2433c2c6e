"""Prometheus metrics as a server exposes them, read with Prometheus' own parser.

seen = Metrics.parse(text)
seen.value("vllm:num_requests_waiting")
seen.histogram("vllm:time_to_first_token_seconds").quantile(0.95)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from helpers.errors import LabError


class MetricsMalformed(LabError):
    """The answer is not in Prometheus' text format."""


@dataclass(frozen=True)
class Sample:
    """One line of an exposition: a name, its labels, a number."""

    name: str
    labels: dict[str, str]
    value: float


@dataclass(frozen=True)
class Histogram:
    """A cumulative histogram: upper bounds with the count at or below each, and the sum of all values."""

    buckets: tuple[tuple[float, float], ...]
    count: float
    total: float

    @property
    def mean(self) -> float | None:
        """The mean of what was observed; None when nothing was."""
        return self.total / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """An estimate by linear interpolation within the bucket, as PromQL's histogram_quantile does."""
        if not self.count:
            return None
        rank, lower, below = share * self.count, 0.0, 0.0
        for upper, cumulative in self.buckets:
            if cumulative >= rank:
                if math.isinf(upper):
                    return lower
                inside = cumulative - below
                return lower + (upper - lower) * ((rank - below) / inside if inside else 1.0)
            lower, below = upper, cumulative
        return lower

    def since(self, earlier: Histogram) -> Histogram:
        """What was observed after an earlier reading of the same histogram."""
        before = dict(earlier.buckets)
        buckets = tuple((bound, value - before.get(bound, 0.0)) for bound, value in self.buckets)
        return Histogram(buckets, self.count - earlier.count, self.total - earlier.total)


@dataclass(frozen=True)
class Metrics:
    """All samples of one reading."""

    samples: tuple[Sample, ...]

    @classmethod
    def parse(cls, text: str) -> Metrics:
        """Read Prometheus' text format.

        Raises:
            MetricsMalformed: it is something else, such as an error page.
        """
        from prometheus_client.parser import text_string_to_metric_families

        try:
            families = list(text_string_to_metric_families(text))
        except (ValueError, KeyError, IndexError) as error:
            raise MetricsMalformed(f"not Prometheus' text format: {error}") from error
        found = (sample for family in families for sample in family.samples)
        return cls(tuple(Sample(item.name, dict(item.labels), float(item.value)) for item in found))

    @property
    def names(self) -> set[str]:
        """Every sample name there is."""
        return {sample.name for sample in self.samples}

    def select(self, name: str, **labels: str) -> list[Sample]:
        """The series of a name whose labels include these."""
        return [
            sample
            for sample in self.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]

    def value(self, name: str, **labels: str) -> float | None:
        """The sum over all matching series; None when there is none, which is not zero."""
        found = self.select(name, **labels)
        return sum(sample.value for sample in found) if found else None

    def histogram(self, name: str, **labels: str) -> Histogram:
        """A histogram by its base name, its series added up; empty when there is none."""
        buckets: dict[float, float] = {}
        for sample in self.select(f"{name}_bucket", **labels):
            bound = float(sample.labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + sample.value
        return Histogram(
            tuple(sorted(buckets.items())),
            self.value(f"{name}_count", **labels) or 0.0,
            self.value(f"{name}_sum", **labels) or 0.0,
        )


def percentile(values: Iterable[float], share: float) -> float | None:
    """The nearest-rank percentile of measured values; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
