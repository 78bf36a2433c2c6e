"""What lab 08 draws of figures: the batching knee, what users feel on one clock, and what scalers see of it.

Nothing here asks a cluster: the panels in `draw` and `draw_scale` read what was seen, and the charts are tested
without one. Charts that share a clock stand below each other, each with the same domain on its x axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

import altair as alt
import pandas as pd

from helpers.notebook.charts import AMBER, BLUE, GREEN, GREY, ONE_MARGIN_PX, RED, TEAL, look

# Twice the requests at once have to bring at least this many times the tokens, or the knee is behind.
WORTH = 1.2
_COLOURS = (BLUE, AMBER, TEAL, GREY, GREEN, RED)


# 2. Batching


@dataclass(frozen=True)
class Level:
    """One level of concurrency as it was measured.

    Args:
        at_once: how many requests are on their way at any time.
        tokens_per_s: of all of them together.
        first_token_s: the median of the time to first token.
        waiting: the most that waited in the engine, by its own metric.
    """

    at_once: int
    tokens_per_s: float
    first_token_s: float
    waiting: float = 0.0


def knee(levels: Sequence[Level]) -> Level | None:
    """The last level to which it was worth going: the next one brought less than a fifth more tokens.

    None where each step was still worth it, or only one level was measured.
    """
    for here, there in pairwise(levels):
        if there.tokens_per_s < WORTH * here.tokens_per_s:
            return here
    return None


def knee_charts(levels: Sequence[Level]) -> list[Any]:
    """Tokens a second, the first token's time, and who waits, by how many ask at once; the knee is marked."""
    found = knee(levels)
    frame = pd.DataFrame(
        [
            (
                level.at_once,
                level.tokens_per_s,
                level.first_token_s,
                level.waiting,
                "the knee" if level is found else "measured",
            )
            for level in levels
        ],
        columns=["at once", "tokens/s", "first token", "waiting", "level"],
    )
    tips = ["at once", *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("tokens/s", "first token"))]
    colour = alt.Color(
        "level:N",
        scale=alt.Scale(domain=["measured", "the knee"], range=[TEAL, RED]),
        legend=alt.Legend(orient="top", title=None),
    )
    charts = []
    for name, title, is_last in (
        ("tokens/s", "tokens a second", False),
        ("first token", "seconds to the first", False),
        ("waiting", "waiting inside", True),
    ):
        x = alt.X(
            "at once:O",
            title="requests at once" if is_last else None,
            axis=alt.Axis(labelAngle=0, labels=is_last, ticks=is_last),
        )
        y = alt.Y(f"{name}:Q", title=title, axis=alt.Axis(tickCount=4, minExtent=ONE_MARGIN_PX))
        line = alt.Chart(frame).mark_line(color=TEAL, strokeWidth=2).encode(x=x, y=y)
        marks = alt.Chart(frame).mark_point(filled=True, size=90, opacity=1)
        points = marks.encode(x=x, y=y, color=colour, tooltip=tips)
        charts.append(look((line + points).properties(height=115)))
    return charts


def knee_words(levels: Sequence[Level]) -> str:
    """What the charts show, in a sentence."""
    found = knee(levels)
    if found is None:
        last = levels[-1].at_once if levels else 0
        return f"Up to {last} at once each step still brought more tokens: the knee lies further out."
    after = levels[levels.index(found) + 1]
    more = (after.tokens_per_s / found.tokens_per_s - 1) * 100 if found.tokens_per_s else 0.0
    wait = after.first_token_s / found.first_token_s if found.first_token_s else 0.0
    return (
        f"The knee is at **{found.at_once}** at once. From there to {after.at_once}, tokens a second change by "
        f"{more:+.0f} per cent, and the first token takes {wait:.1f} times as long."
    )


# 5. On one clock


@dataclass(frozen=True)
class Line:
    """One series on the clock: (seconds since the picture's beginning, value), in order of time."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Row:
    """One of the charts that share a clock.

    Args:
        title: of the y axis.
        is_count: drawn as steps, because between two of them nothing lies.
        bound: a dashed line, such as a target; none where there is none.
    """

    title: str
    lines: tuple[Line, ...]
    is_count: bool = True
    bound: float | None = None


def clock_charts(rows: Sequence[Row], seconds: float) -> list[Any]:
    """Charts below each other on one clock of this many seconds; only the last one has its labels."""
    charts = []
    for number, row in enumerate(rows):
        frame = pd.DataFrame(
            [(line.name, at, value) for line in row.lines for at, value in line.points],
            columns=["series", "s", "value"],
        ).astype({"series": str, "s": float, "value": float})
        is_last = number == len(rows) - 1
        x = alt.X(
            "s:Q",
            title="seconds" if is_last else None,
            scale=alt.Scale(domain=[0, max(1.0, seconds)], nice=False),
            axis=alt.Axis(labels=is_last, ticks=is_last, tickCount=10, labelOverlap=True),
        )
        names = [line.name for line in row.lines]
        colour = alt.Color(
            "series:N",
            scale=alt.Scale(domain=names, range=list(_COLOURS[: max(1, len(names))])),
            legend=alt.Legend(orient="top", title=None, symbolType="stroke"),
        )
        steps: dict[str, Any] = {"tickMinStep": 1} if row.is_count else {}
        y_axis = alt.Axis(tickCount=4, minExtent=ONE_MARGIN_PX, **steps)
        y = alt.Y("value:Q", title=row.title, axis=y_axis)
        tips = ["series", alt.Tooltip("s:Q", format=".0f"), alt.Tooltip("value:Q", format=".2f")]
        mark = alt.Chart(frame).mark_line(
            interpolate="step-after" if row.is_count else "monotone", strokeWidth=2
        )
        layers: list[Any] = [mark.encode(x=x, y=y, color=colour, tooltip=tips)]
        if row.bound is not None:
            bound = alt.Chart(pd.DataFrame({"at": [row.bound]}))
            layers.append(bound.mark_rule(strokeDash=[5, 4], strokeWidth=2, color=RED).encode(y="at:Q"))
        charts.append(look(alt.layer(*layers).properties(height=96)))
    return charts


def gap_free(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Points in order of time, without those that are no number: Prometheus says NaN for a quantile of nothing."""
    return tuple(sorted((at, value) for at, value in points if value == value))


def held(points: Sequence[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """What is held over time, added up: a count of slices at each time becomes slice-minutes so far."""
    total, found = 0.0, [(at, 0.0) for at, _ in points[:1]]
    for (before, was), (at, _) in pairwise(points):
        total += was * (at - before) / 60
        found.append((at, total))
    return tuple(found)


def asked_for(replicas: float, value: float, target: float, *, at_least: int = 1, at_most: int = 2) -> int:
    """What a HorizontalPodAutoscaler asks for: ceil(replicas x value / target), within its bounds.

    Within a tenth of the target it leaves the count as it is (kube-controller-manager's default tolerance).

    Args:
        value: the average over the pods; `target` the average that is wanted.
    """
    if target <= 0:
        return at_least
    ratio = value / target
    wanted = replicas if abs(ratio - 1) <= 0.1 else ceil(replicas * ratio)
    return int(min(at_most, max(at_least, wanted)))


# 1. and 3. What became of jobs and askers


def outcome_bars(counts: Mapping[str, float], *, title: str, good: Sequence[str] = ()) -> Any:
    """Counts as bars, in their order; those named in `good` are green, the others grey."""
    frame = pd.DataFrame(
        [(name, value, "wanted" if name in good else "seen") for name, value in counts.items()],
        columns=["what", "count", "kind"],
    )
    y = alt.Y("what:N", title=None, sort=list(counts))
    colour = alt.Color("kind:N", scale=alt.Scale(domain=["wanted", "seen"], range=[GREEN, GREY]), legend=None)
    bars = (
        alt.Chart(frame)
        .mark_bar(height=18)
        .encode(x=alt.X("count:Q", title=title), y=y, color=colour, tooltip=["what", "count"])
    )
    return look(bars.properties(height=30 * max(1, len(counts))))
