"""The review as one HTML file, to be handed around: light or dark as the reader's system says."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from helpers.grading.pages.page import facts, inline, page, table, word
from helpers.review.answers import Line

_WORD = {"met": "PASS", "missing": "FAIL", "unknown": "ENV_ERROR"}
_HEAD = ("what is asked", "", "what was seen, and the next command")


def review_page(lines: Sequence[Line], *, cluster: str, at: str) -> Markup:
    """The whole page.

    Args:
        cluster: how the cluster is called.
        at: when it was asked, as text.
    """
    met = sum(line.is_met for line in lines)
    summary = facts([(f"{met} of {len(lines)}", "criteria met"), (cluster, "cluster"), (at, "asked at")])
    rows = [
        [_asks(line), word(_WORD[line.answer.standing], line.answer.standing), _seen(line)] for line in lines
    ]
    title = "May it go live?"
    body = Markup("<h1>{}</h1><p class='soft'>{}</p>{}{}").format(
        title,
        "Every line was asked of the running cluster, and nothing was changed.",
        summary,
        table(_HEAD, rows, kind="verdicts"),
    )
    return page(f"{title} {met} of {len(lines)}", body)


def _asks(line: Line) -> Markup:
    about = line.criterion
    return Markup("<b>{}</b><br>{}<br><small>{} Lab {}.</small>").format(
        about.title, about.asks, about.why, about.lab
    )


def _seen(line: Line) -> Markup:
    answer = line.answer
    said: Markup = inline(answer.seen)
    if not line.is_met and answer.next:
        said += Markup("<br><code>{}</code>").format(answer.next)
    items = [str(gap) for gap in answer.gaps] if len(answer.gaps) > 1 else []
    for name, listed in (("all that is missing", items), ("looked at", list(answer.objects))):
        if listed:
            entries = Markup("").join(Markup("<li>{}</li>").format(item) for item in listed)
            said += Markup("<details><summary>{} ({})</summary><ul>{}</ul></details>").format(
                name, len(listed), entries
            )
    return said
