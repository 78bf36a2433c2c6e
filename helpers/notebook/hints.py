"""Hints that come one step at a time: each one opens the next, nothing is remembered."""

from __future__ import annotations

import marimo as mo
from markupsafe import Markup

from helpers.notebook.html import course, inline


def hints(*steps: str, solution: str = "") -> mo.Html:
    """Folded hints, from a nudge to the way; `solution` names where the solved notebook is, last of all."""
    body = Markup()
    texts = [*steps, *([solution] if solution else [])]
    for number, text in reversed(list(enumerate(texts, start=1))):
        title = "Hint" if len(texts) == 1 else f"Hint {number} of {len(texts)}"
        body = Markup("<details><summary>{}</summary><div>{}{}</div></details>").format(
            title, inline(text), body
        )
    return course(body)
