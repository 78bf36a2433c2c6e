"""The quota as a picture: what is in the namespace, what is planned, and where admission stops it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import marimo as mo
from markupsafe import Markup

from helpers.errors import InvalidManifest, LabError
from helpers.notebook.html import card, code, course, problem_card, table, word
from helpers.notebook.session import LabSession
from helpers.stack.quota import (
    BRAKES,
    DIMENSIONS,
    PLANNED,
    VLLM,
    Line,
    Workload,
    amount_text,
    arithmetic,
    counted,
    hard_in,
    tightest,
)

if TYPE_CHECKING:
    from helpers.cluster import ResourceQuota

_WIDEST = Decimal("1.6")
_NARROWEST = Decimal("1.2")


def quota_picture(lab: LabSession, manifest: str, *, workloads: Sequence[Workload] = PLANNED) -> mo.Html:
    """One bar for each dimension of the quota as it is written in the cell, following every edit.

    Args:
        manifest: the learner's ResourceQuota; other objects in the text are ignored.
        workloads: what is planned, in the order in which it arrives.
    """
    from helpers.cluster.manifests import load

    try:
        quotas = [item for item in load(manifest) if item["kind"] == "ResourceQuota"]
        if not quotas:
            raise InvalidManifest("there is no ResourceQuota in this cell")
        hard = tightest(map(hard_in, quotas))
    except InvalidManifest as problem:
        return problem_card(str(problem), title="The picture waits for readable YAML.")
    live = _live_quota(lab, quotas[0]["metadata"].get("name", ""))
    used = counted(live.path("status.used", {})) if live else {}
    return card(_picture(arithmetic(hard, workloads, used=used), workloads, has_used=bool(live)), live=True)


def workload_table(workloads: Sequence[Workload] = PLANNED) -> mo.Html:
    """What each planned workload will take, dimension by dimension."""
    rows = [[code(name), *(_amount(workload, name) for workload in workloads)] for name in DIMENSIONS]
    return course(table(("dimension", *(workload.name for workload in workloads)), rows))


def _amount(workload: Workload, dimension: str) -> str:
    amount = workload.takes.get(dimension)
    return amount_text(dimension, amount) if amount else Markup("<small>none</small>")


def _live_quota(lab: LabSession, name: str) -> ResourceQuota | None:
    """The quota in the cluster, as far as there is one to be asked."""
    if lab.cluster is None:
        return None
    try:
        return lab.cluster.view().resource_quota(name)
    except LabError:
        return None


def _picture(lines: Sequence[Line], workloads: Sequence[Workload], *, has_used: bool) -> Markup:
    longest = max(
        ((line.total + _second(line)) / line.hard for line in lines if line.hard), default=Decimal(1)
    )
    scale = min(max(longest * Decimal("1.08"), _NARROWEST), _WIDEST)
    tones = {workload.name: workload.layer for workload in workloads}
    legend = [
        Markup('<span><i style="background:var(--c-{})"></i>{}, planned</span>').format(tone, name)
        for name, tone in tones.items()
    ]
    if has_used:
        legend.insert(0, Markup('<span><i style="background:var(--c-used)"></i>in use now</span>'))
    legend.append(Markup('<span><i class="second"></i>a second model server</span>'))
    legend.append(Markup("<span><b>┃</b> what the quota in the cell admits</span>"))
    rows = Markup("").join(_row(line, scale, tones) for line in lines)
    refused = [line.dimension for line in lines if not line.fits]
    open_ = [line.dimension for line in lines if line.hard is None and line.total]
    return Markup('<div class="legend">{}</div><div class="quota">{}</div>{}').format(
        Markup("").join(legend), rows, _conclusion(refused, open_, _roomy(lines))
    )


def _second(line: Line) -> Decimal:
    """What one more model server would take of a dimension in which the quota should stop it."""
    return VLLM.takes.get(line.dimension, Decimal(0)) if line.dimension in BRAKES else Decimal(0)


def _roomy(lines: Sequence[Line]) -> list[str]:
    """The limited dimensions in which a second model server would still be admitted."""
    return [
        line.dimension
        for line in lines
        if line.hard is not None and 0 < _second(line) <= line.hard - line.total
    ]


def _conclusion(refused: Sequence[str], open_: Sequence[str], roomy: Sequence[str]) -> Markup:
    parts: list[tuple[str, str, str]] = []
    if refused:
        parts.append((word("refused", "does not fit"), "The plan exceeds ", code(*refused)))
    else:
        parts.append((word("fits"), "Everything planned would be admitted", ""))
    if open_:
        parts.append((word("open", "not limited"), "Nothing stops the next one in ", code(*open_)))
    if roomy and not refused:
        said = "A second model server would still fit in "
        parts.append((word("open", "too much room"), said, code(*roomy)))
    row = Markup('<div style="margin-top:.5rem">{} {}{}.</div>')
    return Markup("").join(row.format(*part) for part in parts)


def _row(line: Line, scale: Decimal, tones: dict[str, str]) -> Markup:
    state = "none" if line.hard is None else "fits" if line.fits else "refused"
    shown = {"none": "no limit", "fits": "fits", "refused": "refused"}[state]
    return Markup('<span class="name">{}</span>{}<span class="says">{} {}</span>').format(
        line.dimension, _track(line, scale, tones), word(state, shown), line.says()
    )


def _track(line: Line, scale: Decimal, tones: dict[str, str]) -> Markup:
    """Bars as shares of the hard limit; without one, as shares of the plan itself."""
    whole = line.hard if line.hard else (line.total or Decimal(1))
    marks, start = [], Decimal(0)
    for name, amount in (("in use", line.used), *line.parts):
        if amount:
            width = min(amount / whole, scale - start)
            text = amount_text(line.dimension, amount) if width > Decimal("0.12") else ""
            part = Markup(
                '<span class="part" style="{place};background:var(--c-{tone})" title="{name}">{text}</span>'
            )
            place = _place(start, width, scale)
            marks.append(part.format(place=place, tone=tones.get(name, "used"), name=name, text=text))
            start += width
    second = min(_second(line) / whole, scale - start)
    if line.hard is not None and second > 0:
        mark = Markup('<span class="second" style="{}" title="a second model server"></span>')
        marks.append(mark.format(_place(start, second, scale)))
    if line.hard is not None and line.over:
        over = _place(Decimal(1), start - 1, scale)
        marks.append(Markup('<span class="over" style="{}"></span>').format(over))
    if line.hard is not None:
        marks.append(Markup('<span class="hard" style="left:{:.2f}%"></span>').format(100 / scale))
    return Markup('<span class="track" role="img" aria-label="{}: {}">{}</span>').format(
        line.dimension, line.says(), Markup("").join(marks)
    )


def _place(start: Decimal, width: Decimal, scale: Decimal) -> Markup:
    """Where a bar is, as CSS."""
    return Markup("left:{:.2f}%;width:{:.2f}%").format(
        100 * start / scale, 100 * max(width, Decimal(0)) / scale
    )
