"""What a text tells its reader to type exists: commands and options named in the README, pages and errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from helpers import cli
from helpers.settings import REPOSITORY

# In backticks, or as the next command of an error or a verdict.
_NAMED = re.compile(
    r'(?:`|next_command=f?"|\.next\(f?"|\bnext=f?"|Next: )(?:\.venv/bin/)?course ([^`"\n;,]+)'
)
_OPTION = re.compile(r"--[a-z][a-z-]*")
TEXTS = ("README.md", "Makefile", "helpers/**/*.py", "helpers/**/*.md", "labs/*.py", "solutions/*.py")


@pytest.fixture(scope="module")
def course() -> Any:
    """The whole command, as click knows it."""
    cli._register_parts()
    return typer.main.get_command(cli.app)


def named(pattern: str) -> Iterator[tuple[Path, list[str]]]:
    for path in sorted(REPOSITORY.glob(pattern)):
        for found in _NAMED.findall(path.read_text()):
            words = found.split(" or course ")[0].split()
            if re.match(r"[a-z]", words[0]):
                yield path, words


def missing(course: Any, words: list[str]) -> str:
    """What of the command line does not exist; empty when all of it does."""
    command = course
    for word in words:
        below = getattr(command, "commands", {})
        if word not in below:
            break
        command = below[word]
    if command is course:
        return words[0]
    if getattr(command, "ignore_unknown_options", False):
        return ""
    known = {name for item in command.params for name in (*item.opts, *item.secondary_opts)} | {"--help"}
    return ", ".join(sorted({option for word in words for option in _OPTION.findall(word)} - known))


@pytest.mark.parametrize("pattern", TEXTS)
def test_the_commands_that_a_text_names_exist(course: Any, pattern: str) -> None:
    wrong = [
        f"{path.name}: course {' '.join(words)}: no {lost}"
        for path, words in named(pattern)
        if (lost := missing(course, words))
    ]
    assert not wrong


def test_the_texts_are_read() -> None:
    assert sum(1 for pattern in TEXTS for _ in named(pattern)) > 100
