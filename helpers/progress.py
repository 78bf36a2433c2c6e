"""How long work tells what it does: a function that takes a line of text."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
