"""Pages that stand alone: one HTML file that needs no network and no server, in light and dark.

Every text that comes from outside is escaped here; a page has no script at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from helpers.grading.report import CheckResult, Report

_CODE = re.compile(r"`([^`]+)`")
_STYLE = Path(__file__).with_name("page.css")
# Nothing from anywhere else, also when somebody finds a way past the escaping.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(title: str, body: str) -> str:
    """A whole page; `body` is HTML already."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{esc(title)}</title>\n<style>\n{_STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def esc(text: object) -> str:
    """Text as HTML shows it."""
    return escape(str(text), quote=True)


def inline(text: object) -> str:
    """Text in which `code` keeps its meaning."""
    return _CODE.sub(r"<code>\1</code>", esc(text))


def word(status: str) -> str:
    """A verdict as a word; the colour only repeats it."""
    return f'<span class="word is-{esc(status)}">{esc(status.replace("_", " "))}</span>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), kind: str = ""
) -> str:
    """A table that scrolls by itself; cells are HTML already, `numbers` are the columns set right."""

    def row(cells: Sequence[str], tag: str) -> str:
        marked = (' class="number"' if place in numbers else "" for place in range(len(cells)))
        return "".join(f"<{tag}{mark}>{cell}</{tag}>" for cell, mark in zip(cells, marked, strict=True))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f'<div class="wide"><table class="{esc(kind)}"><thead><tr>{row([esc(name) for name in head], "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(items: Iterable[tuple[str, str]]) -> str:
    """Figures with what they are, side by side."""
    return f'<div class="facts">{"".join(f"<div><b>{esc(figure)}</b>{esc(name)}</div>" for figure, name in items)}</div>'


def verdicts(report: Report) -> str:
    """Every verdict of a Report with the objects that it rests on."""
    rows = [
        [
            f"{esc(result.check)}<br><small>{inline(result.criterion)}</small>",
            word(result.status.value),
            f"{result.earned:g} / {result.points:g}",
            f"{inline(result.observed)}{_evidence(result)}",
        ]
        for result in report.verdicts
    ]
    if report.pending:
        count = report.pending.count
        hidden = (
            f"{count} hidden check{'' if count == 1 else 's'}<br><small>your instructor holds them</small>"
        )
        rows.append([hidden, word("pending"), f"– / {report.pending.points:g}", ""])
    head = ("check", "verdict", "points", "observed, and on which objects")
    return table(head, rows, numbers=(2,), kind="verdicts")


def _evidence(result: CheckResult) -> str:
    if not result.evidence:
        return ""
    lines = "".join(
        f"<div><code>{esc(item.kind)} {esc(f'{item.namespace}/' if item.namespace else '')}{esc(item.name)}</code> "
        f"<small>uid {esc(item.uid or 'none')}, resourceVersion {esc(item.resource_version or 'none')}</small></div>"
        for item in result.evidence
    )
    return f"<details><summary>evidence ({len(result.evidence)})</summary>{lines}</details>"
