"""Prometheus metrics: sums, histograms, and the difference between zero and nothing."""

from __future__ import annotations

import pytest

from helpers.stack.metrics import Metrics, MetricsMalformed, percentile

TEXT = """\
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="a"} 3.0
vllm:num_requests_waiting{engine="1",model_name="a"} 4.0
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{le="0.1"} 2.0
vllm:time_to_first_token_seconds_bucket{le="0.5"} 8.0
vllm:time_to_first_token_seconds_bucket{le="+Inf"} 10.0
vllm:time_to_first_token_seconds_count 10.0
vllm:time_to_first_token_seconds_sum 4.0
# TYPE vllm:request_success counter
vllm:request_success_total{finished_reason="stop"} 7.0
vllm:request_success_total{finished_reason="length"} 2.0
"""


def test_a_value_is_the_sum_of_its_series() -> None:
    seen = Metrics.parse(TEXT)
    assert seen.value("vllm:num_requests_waiting") == 7
    assert seen.value("vllm:num_requests_waiting", engine="1") == 4
    assert seen.value("vllm:request_success_total", finished_reason="stop") == 7


def test_no_series_is_nothing_and_not_zero() -> None:
    assert Metrics.parse(TEXT).value("vllm:no_such_metric") is None


def test_a_histogram_has_mean_and_quantiles() -> None:
    found = Metrics.parse(TEXT).histogram("vllm:time_to_first_token_seconds")
    assert found.mean == pytest.approx(0.4)
    assert found.quantile(0.5) == pytest.approx(0.1 + 0.4 * 3 / 6)
    assert found.quantile(0.1) == pytest.approx(0.05)
    assert found.quantile(0.99) == 0.5  # beyond the last finite bound nothing more is known


def test_an_empty_histogram_knows_nothing() -> None:
    found = Metrics.parse(TEXT).histogram("vllm:inter_token_latency_seconds")
    assert (found.mean, found.quantile(0.5)) == (None, None)


def test_a_histogram_since_an_earlier_reading_is_what_came_in_between() -> None:
    earlier = Metrics.parse(TEXT).histogram("vllm:time_to_first_token_seconds")
    later = Metrics.parse(
        TEXT.replace('le="0.5"} 8.0', 'le="0.5"} 10.0')
        .replace("count 10.0", "count 12.0")
        .replace("sum 4.0", "sum 4.6")
    ).histogram("vllm:time_to_first_token_seconds")
    between = later.since(earlier)
    assert (between.count, between.mean) == (2, pytest.approx(0.3))


@pytest.mark.parametrize("text", ["<html>502</html>", '{"error": 1}', "a 1 2 3 4 x"])
def test_something_else_than_metrics_is_said_so(text: str) -> None:
    with pytest.raises(MetricsMalformed):
        Metrics.parse(text)


def test_percentiles_are_of_measured_values() -> None:
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile(range(1, 101), 0.95) == 95
    assert percentile([], 0.5) is None
