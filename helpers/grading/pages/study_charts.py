"""A learner's own progress as charts: SVG with everything in it, coloured by the page around it.

Charts are drawn by Vega inside vl-convert, so the page needs neither a script nor a network. Colours
are CSS variables, which the reader's system sets to light or dark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import altair as alt
from markupsafe import Markup

from helpers.grading.progress import LabProgress
from helpers.grading.render import span
from helpers.grading.report import Report
from helpers.grading.verdict import Status

WIDTH = 660
PENDING = "hidden, pending"
_COLOURS = {
    Status.PASS.value: "var(--pass)",
    Status.PARTIAL.value: "var(--partial)",
    Status.FAIL.value: "var(--fail)",
    Status.ENV_ERROR.value: "var(--env)",
    Status.NOT_ATTEMPTED.value: "var(--idle)",
    Status.BLOCKED.value: "var(--blocked)",
    PENDING: "var(--pending)",
}


def verdict_chart(reports: Mapping[str, Report], known: Iterable[str]) -> Markup:
    """How many checks of each lab have which verdict, in the order of the six words."""
    rows = [row for lab in known if lab in reports for row in _counts(lab, reports[lab])]
    colours = {name.replace("_", " "): colour for name, colour in _COLOURS.items()}
    present = [name for name in colours if any(row["verdict"] == name for row in rows)]
    scale = alt.Scale(domain=present, range=[colours[name] for name in present])
    base = alt.Chart(_data(rows)).encode(
        y=alt.Y("lab:N", title=None, sort=None),
        x=alt.X("checks:Q", title="checks", stack="zero", axis=alt.Axis(tickMinStep=1, format="d")),
        order=alt.Order("place:Q"),
    )
    bars = base.mark_bar().encode(
        color=alt.Color("verdict:N", title=None, scale=scale, sort=None, legend=alt.Legend(orient="top"))
    )
    counts = base.mark_text(color="var(--on-bar)", fontWeight="bold", align="right", dx=-5).encode(
        text="checks:Q"
    )
    return _svg(bars + counts, "verdicts")


def time_chart(labs: Mapping[str, LabProgress]) -> Markup:
    """From the start of each lab that is done to the moment when everything passed, in hours."""
    rows = [
        {"lab": f"lab {lab}", "hours": item.took.total_seconds() / 3600, "words": span(item.took)}
        for lab, item in labs.items()
        if item.took is not None
    ]
    base = alt.Chart(_data(rows)).encode(
        y=alt.Y("lab:N", title=None, sort=None),
        x=alt.X("hours:Q", title="hours from start to all passed, breaks included"),
    )
    words = base.mark_text(align="left", dx=5, color="var(--ink)").encode(text="words:N")
    return _svg(base.mark_bar(color="var(--accent)") + words, "times")


def passed_chart(labs: Mapping[str, LabProgress]) -> Markup:
    """When checks passed for the first time: a step for each, labs together."""
    moments = sorted(
        (_local(stamp), lab) for lab, item in labs.items() for stamp in item.passed.values() if stamp
    )
    begun = min((_local(item.started_at) for item in labs.values()), default="")
    rows: list[dict[str, Any]] = [{"at": begun, "checks": 0, "lab": ""}] if begun else []
    rows += [{"at": at, "checks": number, "lab": f"lab {lab}"} for number, (at, lab) in enumerate(moments, 1)]
    axis = alt.Axis(tickCount=6, labelOverlap=True)
    base = alt.Chart(_data(rows)).encode(
        x=alt.X("at:T", title=None, axis=axis, scale=alt.Scale(padding=36)),
        y=alt.Y("checks:Q", title="checks passed", axis=alt.Axis(tickMinStep=1, format="d")),
    )
    line = base.mark_line(interpolate="step-after", color="var(--accent)", strokeWidth=2)
    ends = base.transform_joinaggregate(last="max(checks)", groupby=["lab"]).transform_filter(
        "datum.checks == datum.last && datum.lab != ''"
    )
    dots = ends.mark_point(filled=True, size=60, color="var(--accent)")
    names = ends.mark_text(dy=-11, color="var(--ink)").encode(text="lab:N")
    return _svg(line + dots + names, "passed", height=180)


def _counts(lab: str, report: Report) -> Iterable[dict[str, Any]]:
    """A row for each verdict that occurs in a lab's Report."""
    found = dict(report.counts)
    if report.pending:
        found[PENDING] = report.pending.count
    names = list(_COLOURS)
    for name, count in found.items():
        yield {
            "lab": f"lab {lab}",
            "verdict": name.replace("_", " "),
            "checks": count,
            "place": names.index(name),
        }


def _data(rows: list[dict[str, Any]]) -> alt.Data:
    return alt.Data(values=rows)


def _local(stamp: str) -> str:
    """The time of this machine's clock, without its zone: Vega draws it as it stands."""
    return datetime.fromisoformat(stamp).astimezone().replace(tzinfo=None).isoformat()


def _svg(chart: Any, name: str, *, height: int | None = None) -> Markup:
    import vl_convert

    sized = chart.properties(width=WIDTH, **({"height": height} if height else {}))
    drawn = (
        sized.configure(background="transparent", font="system-ui, DejaVu Sans, sans-serif")
        .configure_view(strokeWidth=0)
        .configure_axis(
            labelColor="var(--ink)",
            titleColor="var(--soft-ink)",
            gridColor="var(--line)",
            domainColor="var(--line)",
            tickColor="var(--line)",
            labelFontSize=13,
            titleFontSize=13,
            titleFontWeight="normal",
        )
        .configure_legend(labelColor="var(--ink)", labelFontSize=13)
        .configure_text(fontSize=13)
    )
    svg: str = vl_convert.vegalite_to_svg(json.dumps(drawn.to_dict()))
    # Ids that are unique on a page of several charts: clip paths refer to them.
    apart = re.sub(r'(id="|url\(#)', rf"\g<1>{name}-", svg)
    return Markup(apart)  # noqa: S704 - Vega escapes the texts of its SVG
