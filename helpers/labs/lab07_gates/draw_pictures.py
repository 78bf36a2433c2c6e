"""What lab 07 draws of figures: scores with their spread, a judge beside chance, a release's weight, a trace's spans.

Nothing here asks a cluster: the panels in `draw` read what was seen, and the charts are tested without one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import altair as alt
import pandas as pd

from helpers.notebook.charts import AMBER, BLUE, GREEN, GREY, INK, RED, TEAL, WORDS, look, words_beside

# A mean of n rows lies so many standard errors around the true one, nineteen times of twenty.
_STANDARD_ERRORS = 1.96
KINDS = {"AGENT": GREY, "RETRIEVER": TEAL, "CHAIN": AMBER, "LLM": BLUE, "TOOL": GREEN, "ERROR": RED}
VERDICTS = {"pass": GREEN, "quality": RED, "infrastructure": AMBER, "configuration": AMBER}


@dataclass(frozen=True)
class Score:
    """One metric as a run of the gate saw it, and what the gate asks of it.

    Args:
        mean, deviation, count: over the rows of one run.
        floor: the least that passes; `ceiling` the most, for a metric of which less is better.
        baseline: the stable release's mean; `max_drop` how far below it a candidate may be.
    """

    name: str
    mean: float
    deviation: float = 0.0
    count: int = 1
    floor: float | None = None
    ceiling: float | None = None
    baseline: float | None = None
    max_drop: float | None = None
    release: str = ""

    @property
    def error(self) -> float:
        """Half of the interval in which the true mean lies."""
        return _STANDARD_ERRORS * self.deviation / sqrt(max(1, self.count))

    @property
    def least(self) -> float | None:
        """The higher of floor and baseline less drop: what a candidate has to reach."""
        drop = None if self.baseline is None or self.max_drop is None else self.baseline - self.max_drop
        bounds = [bound for bound in (self.floor, drop) if bound is not None]
        return max(bounds) if bounds else None

    @property
    def passes(self) -> bool:
        below = self.least is not None and self.mean < self.least
        return not below and (self.ceiling is None or self.mean <= self.ceiling)


def scores_chart(scores: Sequence[Score], others: Sequence[tuple[str, str, float]] = ()) -> Any:
    """Each metric's mean with its interval, the floor, the baseline, and what a candidate has to reach.

    Args:
        others: what other releases score: (metric, release, mean).
    """
    rows = [
        (
            f"{score.name}, {score.release}" if score.release else score.name,
            score.mean,
            score.mean - score.error,
            score.mean + score.error,
            "passes" if score.passes else "stopped",
            f"{score.mean:.3f} ± {score.error:.3f} ({score.count} rows)",
        )
        for score in scores
    ]
    frame = pd.DataFrame(rows, columns=["metric", "mean", "low", "high", "gate", "seen"])
    order = list(frame["metric"])
    y = alt.Y("metric:N", title=None, sort=order)
    scale = alt.Scale(domain=["passes", "stopped"], range=[GREEN, RED])
    colour = alt.Color("gate:N", scale=scale, legend=alt.Legend(orient="top", title=None))
    x_axis = alt.X("low:Q", title="mean over the rows", scale=alt.Scale(zero=False, nice=True))
    spread = alt.Chart(frame).mark_rule(strokeWidth=3).encode(x=x_axis, x2="high:Q", y=y, color=colour)
    means = (
        alt.Chart(frame)
        .mark_point(filled=True, size=90)
        .encode(x="mean:Q", y=y, color=colour, tooltip=["metric", "seen", "gate"])
    )
    bounds = pd.DataFrame(_bounds(scores, order), columns=["metric", "at", "what"])
    ticks = (
        alt.Chart(bounds)
        .mark_tick(thickness=3, size=22, opacity=1)
        .encode(
            x="at:Q",
            y=y,
            stroke=alt.Stroke(
                "what:N",
                scale=alt.Scale(
                    domain=["floor", "ceiling", "baseline", "baseline less drop"],
                    range=[RED, RED, GREY, AMBER],
                ),
                legend=alt.Legend(orient="top", title=None, symbolType="stroke"),
            ),
            tooltip=["metric", "what", alt.Tooltip("at:Q", format=".3f")],
        )
    )
    layers = [spread, ticks, means, *_others(others, y)]
    return look(alt.layer(*layers).properties(height=36 * max(1, len(scores))))


def _others(others: Sequence[tuple[str, str, float]], y: Any) -> list[Any]:
    """What other releases score, as hollow diamonds; their names are told where the pointer is."""
    if not others:
        return []
    frame = pd.DataFrame(others, columns=["metric", "release", "mean"])
    marks = alt.Chart(frame).mark_point(shape="diamond", size=70, color=BLUE, strokeWidth=2)
    return [marks.encode(x="mean:Q", y=y, tooltip=["release", "metric", alt.Tooltip("mean:Q", format=".3f")])]


def _bounds(scores: Sequence[Score], names: Sequence[str]) -> list[tuple[str, float, str]]:
    found = []
    for score, name in zip(scores, names, strict=True):
        drop = None if score.baseline is None or score.max_drop is None else score.baseline - score.max_drop
        for at, what in (
            (score.floor, "floor"),
            (score.ceiling, "ceiling"),
            (score.baseline, "baseline"),
            (drop, "baseline less drop"),
        ):
            if at is not None:
                found.append((name, at, what))
    return found


def judge_chart(agreement: float, chance: float, kappa: float, low: float, high: float) -> Any:
    """How often the judge agrees with the labels beside chance, and kappa with its 95 % interval; 0 is chance."""
    bars = pd.DataFrame(
        [("agrees with the labels", agreement), ("chance alone agrees", chance)], columns=["what", "share"]
    )
    shares = (
        alt.Chart(bars)
        .mark_bar(height=20)
        .encode(
            x=alt.X("share:Q", title="share of the labelled answers", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("what:N", title=None, sort=None),
            color=alt.Color(
                "what:N", scale=alt.Scale(domain=list(bars["what"]), range=[BLUE, GREY]), legend=None
            ),
            tooltip=["what", alt.Tooltip("share:Q", format=".2f")],
        )
    )
    seen = pd.DataFrame([("kappa", kappa, low, high)], columns=["what", "kappa", "low", "high"])
    y = alt.Y("what:N", title=None)
    axis = alt.X(
        "low:Q", title="kappa: 0 is chance, 1 always agrees", scale=alt.Scale(domain=[min(-0.4, low), 1])
    )
    interval = alt.Chart(seen).mark_rule(strokeWidth=3, color=BLUE).encode(x=axis, x2="high:Q", y=y)
    point = (
        alt.Chart(seen)
        .mark_point(filled=True, size=90, color=BLUE)
        .encode(
            x="kappa:Q",
            y=y,
            tooltip=[alt.Tooltip(f"{name}:Q", format=".2f") for name in ("kappa", "low", "high")],
        )
    )
    zero = alt.Chart(pd.DataFrame({"at": [0.0]})).mark_rule(color=RED, strokeWidth=2).encode(x="at:Q")
    return [look(shares.properties(height=70)), look((zero + interval + point).properties(height=40))]


@dataclass(frozen=True)
class Moment:
    """A release at one time: the weight that the Rollout gives it, and the share of answers that users had from it."""

    at_s: float
    weight: float
    share: float | None = None
    verdict: str = ""
    release: str = ""


def weight_chart(moments: Sequence[Moment]) -> Any:
    """The candidate's weight over time, as steps, the share of users' answers as points, and each verdict on it."""
    frame = pd.DataFrame(
        [(item.at_s, item.weight, item.share, item.verdict, item.release or "candidate") for item in moments],
        columns=["s", "weight", "share", "verdict", "release"],
    )
    x = alt.X("s:Q", title="seconds")
    y = alt.Y("weight:Q", title="per cent", scale=alt.Scale(domain=[0, 100]))
    releases = list(dict.fromkeys(frame["release"]))
    colour = alt.Color(
        "release:N",
        scale=alt.Scale(domain=releases, range=[BLUE, TEAL, AMBER, GREY][: max(1, len(releases))]),
        legend=alt.Legend(orient="top", title=None),
    )
    line = alt.Chart(frame).mark_line(interpolate="step-after", strokeWidth=3).encode(x=x, y=y, color=colour)
    layers = [line]
    shares = frame.dropna(subset=["share"])
    if len(shares):
        layers.append(
            alt.Chart(shares)
            .mark_point(size=45)
            .encode(
                x=x,
                y=alt.Y("share:Q", title="per cent"),
                color=colour,
                tooltip=["s", "weight", "share", "release"],
            )
        )
    verdicts = frame[frame["verdict"] != ""]
    if len(verdicts):
        marks = alt.Chart(verdicts).mark_rule(strokeDash=[5, 4], strokeWidth=2)
        layers.append(
            marks.encode(
                x=x,
                color=alt.value(INK),
                tooltip=["s", "release", "verdict"],
            )
        )
        middle = float(frame["s"].max()) / 2
        layers += [
            words.encode(x=x, y=alt.value(12), text="verdict:N")
            for words in words_beside(verdicts, "s", middle, dx=6)
        ]
    return look(alt.layer(*layers).properties(height=190))


@dataclass(frozen=True)
class Bar:
    """One span as the picture needs it."""

    id: str
    parent: str
    name: str
    start_ms: float
    end_ms: float
    kind: str = "CHAIN"
    is_error: bool = False
    attributes: Mapping[str, Any] = field(default_factory=dict)


def in_tree_order(bars: Sequence[Bar]) -> list[tuple[int, Bar]]:
    """Spans from the root down, each with its depth; one whose parent is not here stands at the left."""
    known = {bar.id for bar in bars}
    found: list[tuple[int, Bar]] = []

    def add(parent: str, depth: int) -> None:
        children = [bar for bar in bars if bar.parent == parent or (not parent and bar.parent not in known)]
        for bar in sorted(children, key=lambda item: (item.start_ms, -item.end_ms)):
            if all(bar is not seen for _, seen in found):
                found.append((depth, bar))
                add(bar.id, depth + 1)

    add("", 0)
    return found


def span_chart(bars: Sequence[Bar]) -> Any:
    """A trace as a tree: each span's time as a bar, indented below its parent; red where it failed."""
    begin = min((bar.start_ms for bar in bars), default=0.0)
    rows = [
        (
            f"{number:02d}",
            " " * depth + bar.name,
            bar.start_ms - begin,
            max(bar.end_ms - begin, bar.start_ms - begin + 0.5),
            bar.end_ms - bar.start_ms,
            "ERROR" if bar.is_error else bar.kind if bar.kind in KINDS else "CHAIN",
        )
        for number, (depth, bar) in enumerate(in_tree_order(bars))
    ]
    frame = pd.DataFrame(rows, columns=["order", "span", "from", "to", "ms", "kind"])
    there = [kind for kind in KINDS if kind in set(frame["kind"])]
    y = alt.Y("order:N", title=None, axis=None)
    end = float(frame["to"].max()) if len(frame) else 1.0
    base = alt.Chart(frame)
    blocks = base.mark_bar(height=16).encode(
        x=alt.X("from:Q", title="milliseconds", scale=alt.Scale(domain=[0, end], nice=False)),
        x2="to:Q",
        y=y,
        color=alt.Color(
            "kind:N",
            scale=alt.Scale(domain=there, range=[KINDS[kind] for kind in there]),
            legend=alt.Legend(orient="top", title=None),
        ),
        tooltip=["span", alt.Tooltip("ms:Q", format=".1f"), "kind"],
    )
    names = base.mark_text(align="left", dx=4, dy=-15, color=WORDS, fontWeight="bold").encode(
        x=alt.value(0), y=y, text="span:N"
    )
    return look((blocks + names).properties(height=38 * max(1, len(frame))))


def tree_text(bars: Sequence[Bar]) -> list[str]:
    """The tree in words, a line a span, for who does not see the picture."""
    return [
        f"{'  ' * depth}{bar.name}, {bar.end_ms - bar.start_ms:.0f} ms{', failed' if bar.is_error else ''}"
        for depth, bar in in_tree_order(bars)
    ]
