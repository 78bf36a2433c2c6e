"""Small pieces of HTML in the course's look; every text that comes from outside is escaped here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import marimo as mo

from helpers.grading.pages.page import esc

_CODE = re.compile(r"`([^`]+)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")
_ITALIC = re.compile(r"(?<![\w*])\*(\w[^*<>]*)\*(?![\w*])")


# What a button of the labs' pages does as well as this command.
_BUTTONS = {f"course start {lab}": "Put backends and probes in place" for lab in ("04", "05")}


def inline(text: object) -> str:
    """Escaped text in which `code`, **bold** and *italic* keep their meaning."""
    return _ITALIC.sub(r"<i>\1</i>", _BOLD.sub(r"<b>\1</b>", _CODE.sub(r"<code>\1</code>", esc(text))))


def plain(text: str) -> str:
    """Text for where marimo reads no markdown, as in the options of a radio: without its marks."""
    return text.replace("`", "").replace("**", "")


def cut(text: str, most: int) -> str:
    """Text of at most so many letters; where some were left off, it shows."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def word(status: str, shown: str | None = None) -> str:
    """A status as a word in a pill; the colour only repeats what the word says."""
    return f'<span class="word is-{esc(status)}">{esc(shown or status.replace("_", " "))}</span>'


def course(body: str, *, live: bool = False) -> mo.Html:
    """A block in the course's look; `live` blocks announce their changes to screen readers."""
    role = ' role="status" aria-live="polite"' if live else ""
    return mo.Html(f'<div class="course"{role}>{body}</div>')


def card(body: str) -> mo.Html:
    """A framed block."""
    return course(f'<div class="card">{body}</div>')


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """A table; cells are HTML already."""
    top = "".join(f"<th>{esc(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<table class="facts {esc(kind)}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def next_step(command: str) -> str:
    """The next command as a page says it: the page's own button first, where it does the same."""
    if not command:
        return ""
    button = _BUTTONS.get(command)
    return f"press **{button}** on this page, or in a terminal: `{command}`" if button else f"`{command}`"


def problem_card(
    message: str, next_command: str = "", *, title: str = "", details: Sequence[str] = ()
) -> mo.Html:
    """Something is missing or wrong that is not the learner's answer: what, and the next command.

    `details` are what was seen last: conditions, events, the end of a log.
    """
    first = f"<b>{inline(title)}</b><br>" if title else ""
    then = f"<div>Next: {inline(next_step(next_command))}</div>" if next_command else ""
    seen = "".join(f"<div><small>{inline(line)}</small></div>" for line in details)
    return course(f'<div class="card" role="status">{first}<div>{inline(message)}</div>{seen}{then}</div>')
