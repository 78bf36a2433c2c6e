"""What labs draw of a ConfigMap with settings, before it is changed."""

from __future__ import annotations

from collections.abc import Mapping

import marimo as mo
from markupsafe import Markup

from helpers.notebook.html import card, code, table


def settings_change(config: str, wanted: Mapping[str, str], there: Mapping[str, str]) -> mo.Html:
    """Which settings of this ConfigMap would change, and from what."""
    rows = [
        (code(name), code(there[name]) if name in there else "", code(value))
        for name, value in wanted.items()
        if there.get(name) != value
    ]
    name = code(config)
    if not rows:
        return card(Markup("<small>The ConfigMap {} has these values.</small>").format(name), live=True)
    head = Markup("<small>What would change in ConfigMap {}. Nothing has been changed.</small>").format(name)
    return card(head + table(("setting", "now", "then"), rows, kind="diff"), live=True)
