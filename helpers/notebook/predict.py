"""Predictions: an answer is committed before the truth is shown.

guess = predict("What happens to the second workload?", {"both": "Both run", "second": "…"})
reveal(guess.value, truth="second", because="…", instead={"both": "…"})      # in the next cell
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import marimo as mo
from markupsafe import Markup

from helpers.notebook.html import card, inline, note, plain, word


def predict(question: str, options: Mapping[str, str]) -> Any:
    """A form with one choice; its value is the chosen key, and None until it is committed.

    Args:
        question: asked in markdown.
        options: key to the text of each answer.
    """
    choices = {plain(text): key for key, text in options.items()}
    return mo.ui.radio(options=choices, label=f"**Predict.** {question}").form(
        submit_button_label="Commit my prediction",
        validate=lambda value: "Choose one answer first." if value is None else None,
    )


def reveal(
    committed: str | None,
    *,
    truth: str,
    because: str,
    instead: Mapping[str, str] | None = None,
) -> mo.Html:
    """What happens really, once a prediction stands; until then only where to commit it.

    Args:
        committed: the form's value.
        truth: the key that holds.
        because: the reason, shown to everybody.
        instead: for a wrong key, what speaks against it.
    """
    if committed is None:
        return note("The answer appears here once your prediction is committed.")
    if committed == truth:
        return card(Markup("{} {}").format(word("PASS", "as you predicted"), inline(because)))
    doubt = (instead or {}).get(committed, "")
    said = Markup("").join(Markup("<div>{}</div>").format(inline(text)) for text in (doubt, because) if text)
    return card(word("open", "not as predicted") + said)
