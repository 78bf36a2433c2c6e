"""Small pieces of HTML in the course's look.

What stands in `Markup("…")` is HTML; a plain text that is put into it is escaped, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import marimo as mo
from markupsafe import Markup, escape

from helpers.grading.pages import page
from helpers.grading.pages.page import word as word

_BOLD = re.compile(r"\*\*([^*]+)\*\*"), Markup(r"<b>\1</b>")
_ITALIC = re.compile(r"(?<![\w*])\*(\w[^*<>]*)\*(?![\w*])"), Markup(r"<i>\1</i>")


# What a button of the labs' pages does as well as this command.
_BUTTONS = {
    "course start 02": "Put what this lab needs in place",
    "course start 03": "Put what this lab needs in place",
    "course start 04": "Put backends and probes in place",
    "course start 05": "Put backends and probes in place",
    "course start 06": "Put what this lab needs in place",
    "course start 07": "Put what this lab needs in place",
    "course start 08": "Put what this lab needs in place",
}


def inline(text: object) -> Markup:
    """Text in which `code`, **bold** and *italic* keep their meaning."""
    return page.inline(text, _BOLD, _ITALIC)


def code(*names: object) -> Markup:
    """Names as code, with commas between them."""
    return Markup(", ").join(Markup("<code>{}</code>").format(name) for name in names)


def plain(text: str) -> str:
    """Text for where marimo reads no markdown, as in the options of a radio: without its marks."""
    return text.replace("`", "").replace("**", "")


def cut(text: str, most: int) -> str:
    """Text of at most so many letters; where some were left off, it shows."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def course(body: str, *, live: bool = False) -> mo.Html:
    """A block in the course's look; `live` blocks announce their changes to screen readers."""
    role = Markup(' role="status" aria-live="polite"') if live else ""
    # marimo puts pages together as plain text: Markup would escape what stands beside it.
    return mo.Html(str(Markup('<div class="course"{}>{}</div>').format(role, body)))


def card(body: str, *, live: bool = False) -> mo.Html:
    """A framed block."""
    return course(Markup('<div class="card">{}</div>').format(body), live=live)


def note(text: str, *, live: bool = False) -> mo.Html:
    """A line in small letters, such as what a part of the page waits for; `code` and **bold** keep their meaning."""
    return course(Markup("<small>{}</small>").format(inline(text)), live=live)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> Markup:
    """A table of texts and of HTML."""
    top = Markup("").join(Markup("<th>{}</th>").format(name) for name in head)
    cells = (Markup("").join(Markup("<td>{}</td>").format(cell) for cell in row) for row in rows)
    body = Markup("").join(Markup("<tr>{}</tr>").format(row) for row in cells)
    return Markup('<table class="facts {}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>').format(
        kind, top, body
    )


def definitions(rows: Iterable[tuple[str, str]]) -> Markup:
    """What is expected, observed …: names with their texts; a row without a text is left out."""
    listed = (Markup("<dt>{}</dt><dd>{}</dd>").format(name, inline(text)) for name, text in rows if text)
    return Markup("<dl>{}</dl>").format(Markup("").join(listed))


def has_button(command: str) -> bool:
    """Whether a button of the page does the first of these commands: then a step of the page comes first."""
    return command.partition("; ")[0] in _BUTTONS


def next_step(command: str) -> str:
    """The next command as a page says it: the page's own button first, where it does the same."""
    if not command:
        return ""
    button = _BUTTONS.get(command.partition("; ")[0])
    return f"press **{button}** above, or in a terminal: `{command}`" if button else f"`{command}`"


def problem_card(
    message: str, next_command: str = "", *, title: str = "", details: Sequence[str] = ()
) -> mo.Html:
    """Something is missing or wrong that is not the learner's answer: what, and the next command.

    `details` are what was seen last: conditions, events, the end of a log.
    """
    first = Markup("<b>{}</b><br>").format(inline(title)) if title else ""
    then = Markup("<div>Next: {}</div>").format(inline(next_step(next_command))) if next_command else ""
    seen = Markup("").join(Markup("<div><small>{}</small></div>").format(inline(line)) for line in details)
    return course(
        Markup('<div class="card" role="status">{}<div>{}</div>{}{}</div>').format(
            first, inline(message), seen, then
        )
    )


def with_outcome(buttons: Any, outcome: Any = None) -> Any:
    """Buttons, and below them what became of pressing one.

    Always one below the other: the page then keeps the buttons where they are, also for who presses one right now.
    """
    return mo.vstack([buttons, *([] if outcome is None else [outcome])], gap=0.5)


@contextmanager
def spinner(title: str, line: str = "") -> Iterator[Callable[[str], None]]:
    """What is being done while it lasts; yields what takes each further line. marimo reads all of it as HTML."""
    with mo.status.spinner(title=str(escape(title)), subtitle=str(escape(line)) or None) as shown:
        yield lambda text: shown.update(subtitle=str(escape(text)))


def toast(title: str, text: str, *, failed: bool = False) -> None:
    """A message in a corner of the page; marimo reads its text as HTML."""
    mo.status.toast(title, str(escape(text)), kind="danger" if failed else None)
