"""The quota as a picture: what is in the namespace, what is planned, and where admission stops it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import marimo as mo

from helpers.errors import InvalidManifest, LabError
from helpers.notebook.html import course, esc, problem_card, table, word
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
    return course(_picture(arithmetic(hard, workloads, used=used), workloads, has_used=bool(live)), live=True)


def workload_table(workloads: Sequence[Workload] = PLANNED) -> mo.Html:
    """What each planned workload will take, dimension by dimension."""
    rows = [
        [f"<code>{esc(name)}</code>", *(_amount(workload, name) for workload in workloads)]
        for name in DIMENSIONS
    ]
    return course(table(("dimension", *(workload.name for workload in workloads)), rows))


def _amount(workload: Workload, dimension: str) -> str:
    amount = workload.takes.get(dimension)
    return esc(amount_text(dimension, amount)) if amount else "<small>none</small>"


def _live_quota(lab: LabSession, name: str) -> ResourceQuota | None:
    """The quota in the cluster, as far as there is one to be asked."""
    if lab.cluster is None:
        return None
    try:
        return lab.cluster.view().resource_quota(name)
    except LabError:
        return None


def _picture(lines: Sequence[Line], workloads: Sequence[Workload], *, has_used: bool) -> str:
    longest = max(
        ((line.total + _second(line)) / line.hard for line in lines if line.hard), default=Decimal(1)
    )
    scale = min(max(longest * Decimal("1.08"), _NARROWEST), _WIDEST)
    tones = {workload.name: workload.layer for workload in workloads}
    legend = [
        f'<span><i style="background:var(--c-{tones[name]})"></i>{esc(name)}, planned</span>'
        for name in tones
    ]
    if has_used:
        legend.insert(0, '<span><i style="background:var(--c-used)"></i>in use now</span>')
    legend.append('<span><i class="second"></i>a second model server</span>')
    legend.append("<span><b>┃</b> what the quota in the cell admits</span>")
    rows = "".join(_row(line, scale, tones) for line in lines)
    refused = [line.dimension for line in lines if not line.fits]
    open_ = [line.dimension for line in lines if line.hard is None and line.total]
    return (
        f'<div class="card"><div class="legend">{"".join(legend)}</div><div class="quota">{rows}</div>'
        f"{_conclusion(refused, open_, _roomy(lines))}</div>"
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


def _conclusion(refused: Sequence[str], open_: Sequence[str], roomy: Sequence[str]) -> str:
    parts = []
    if refused:
        named = ", ".join(f"<code>{esc(name)}</code>" for name in refused)
        parts.append(f"{word('refused', 'does not fit')} The plan exceeds {named}.")
    else:
        parts.append(f"{word('fits')} Everything planned would be admitted.")
    if open_:
        named = ", ".join(f"<code>{esc(name)}</code>" for name in open_)
        parts.append(f"{word('open', 'not limited')} Nothing stops the next one in {named}.")
    if roomy and not refused:
        named = ", ".join(f"<code>{esc(name)}</code>" for name in roomy)
        parts.append(f"{word('open', 'too much room')} A second model server would still fit in {named}.")
    return "".join(f'<div style="margin-top:.5rem">{part}</div>' for part in parts)


def _row(line: Line, scale: Decimal, tones: dict[str, str]) -> str:
    state = "none" if line.hard is None else "fits" if line.fits else "refused"
    shown = {"none": "no limit", "fits": "fits", "refused": "refused"}[state]
    return (
        f'<span class="name">{esc(line.dimension)}</span>{_track(line, scale, tones)}'
        f'<span class="says">{word(state, shown)} {esc(line.says())}</span>'
    )


def _track(line: Line, scale: Decimal, tones: dict[str, str]) -> str:
    """Bars as shares of the hard limit; without one, as shares of the plan itself."""
    whole = line.hard if line.hard else (line.total or Decimal(1))
    marks, start = [], Decimal(0)
    for name, amount in (("in use", line.used), *line.parts):
        if amount:
            width = min(amount / whole, scale - start)
            tone = f"var(--c-{tones[name]})" if name in tones else "var(--c-used)"
            text = esc(amount_text(line.dimension, amount)) if width > Decimal("0.12") else ""
            marks.append(
                f'<span class="part" style="{_place(start, width, scale)};background:{tone}" title="{esc(name)}">{text}</span>'
            )
            start += width
    second = min(_second(line) / whole, scale - start)
    if line.hard is not None and second > 0:
        marks.append(
            f'<span class="second" style="{_place(start, second, scale)}" title="a second model server"></span>'
        )
    if line.hard is not None and line.over:
        marks.append(f'<span class="over" style="{_place(Decimal(1), start - 1, scale)}"></span>')
    if line.hard is not None:
        marks.append(f'<span class="hard" style="left:{100 / scale:.2f}%"></span>')
    return f'<span class="track" role="img" aria-label="{esc(line.dimension)}: {esc(line.says())}">{"".join(marks)}</span>'


def _place(start: Decimal, width: Decimal, scale: Decimal) -> str:
    return f"left:{100 * start / scale:.2f}%;width:{100 * max(width, Decimal(0)) / scale:.2f}%"
