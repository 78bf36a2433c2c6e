"""Pages that stand alone: one HTML file that needs no network and no server, in light and dark.

HTML is `Markup` here and in all that draws: what is put into it is escaped, unless it is Markup itself. So a
text that comes from outside is never read as HTML, and nobody has to remember that. A page has no script at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from markupsafe import Markup, escape

from helpers.grading.report import CheckResult, Report

_CODE = re.compile(r"`([^`]+)`"), Markup(r"<code>\1</code>")
_STYLE = Path(__file__).with_name("page.css")
# Nothing from anywhere else, also when somebody finds a way past the escaping.
_POLICY = Markup("default-src 'none'; style-src 'unsafe-inline'; img-src data:")


def page(title: str, body: str) -> Markup:
    """A whole page."""
    style = Markup(_STYLE.read_text(encoding="utf-8"))  # noqa: S704 - the course's own file
    return Markup(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>{title}</title>\n<style>\n{style}</style></head>\n"
        "<body>\n{body}\n</body></html>\n"
    ).format(policy=_POLICY, title=title, style=style, body=body)


def inline(text: object, *more: tuple[re.Pattern[str], Markup]) -> Markup:
    """Text in which `code` keeps its meaning; `more` are other marks, with the tags that they stand for."""
    shown = str(escape(text))
    for mark, tags in (_CODE, *more):
        shown = mark.sub(str(tags), shown)
    return Markup(shown)  # noqa: S704 - escaped above, before the course's own tags came in


def word(status: str, shown: str | None = None) -> Markup:
    """A status as a word in a pill; the colour only repeats what the word says."""
    return Markup('<span class="word is-{}">{}</span>').format(status, shown or status.replace("_", " "))


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), kind: str = ""
) -> Markup:
    """A table that scrolls by itself; `numbers` are the columns set right."""

    def row(cells: Sequence[str], plain: Markup, number: Markup) -> Markup:
        drawn = ((number if place in numbers else plain).format(cell) for place, cell in enumerate(cells))
        return Markup("<tr>{}</tr>").format(Markup("").join(drawn))

    top = row(head, Markup("<th>{}</th>"), Markup('<th class="number">{}</th>'))
    body = (row(cells, Markup("<td>{}</td>"), Markup('<td class="number">{}</td>')) for cells in rows)
    return Markup(
        '<div class="wide"><table class="{kind}"><thead>{top}</thead><tbody>{body}</tbody></table></div>'
    ).format(kind=kind, top=top, body=Markup("").join(body))


def facts(items: Iterable[tuple[str, str]]) -> Markup:
    """Figures with what they are, side by side."""
    figures = (Markup("<div><b>{}</b>{}</div>").format(figure, name) for figure, name in items)
    return Markup('<div class="facts">{}</div>').format(Markup("").join(figures))


def verdicts(report: Report) -> Markup:
    """Every verdict of a Report with the objects that it rests on."""
    rows = [
        [
            Markup("{}<br><small>{}</small>").format(result.check, inline(result.criterion)),
            word(result.status.value),
            f"{result.earned:g} / {result.points:g}",
            inline(result.observed) + _evidence(result),
        ]
        for result in report.verdicts
    ]
    if report.pending:
        hidden = Markup("{} hidden check{}<br><small>your instructor holds them</small>").format(
            report.pending.count, "" if report.pending.count == 1 else "s"
        )
        rows.append([hidden, word("pending"), f"– / {report.pending.points:g}", ""])
    head = ("check", "verdict", "points", "observed, and on which objects")
    return table(head, rows, numbers=(2,), kind="verdicts")


def _evidence(result: CheckResult) -> Markup:
    if not result.evidence:
        return Markup()
    lines = (
        Markup("<div><code>{} {}{}</code> <small>uid {}, resourceVersion {}</small></div>").format(
            item.kind,
            f"{item.namespace}/" if item.namespace else "",
            item.name,
            item.uid or "none",
            item.resource_version or "none",
        )
        for item in result.evidence
    )
    return Markup("<details><summary>evidence ({})</summary>{}</details>").format(
        len(result.evidence), Markup("").join(lines)
    )
