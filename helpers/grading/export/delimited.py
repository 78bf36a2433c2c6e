"""CSV as programs write it: how a file is delimited, and what a spreadsheet did to its identifiers.

A program may put a byte order mark and a line `sep=;` before the header, and delimit with commas,
semicolons or tabs. A spreadsheet that opens and saves such a file makes numbers of what looks like
one: `20261234567` becomes `2.02613E+10`, `00123` becomes `123`.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

BOM = "\ufeff"
DELIMITERS = ",;\t"

_SEP = re.compile(r'"?sep=(?P<delimiter>[^\r\n"])"?[ \t]*(\r\n|\n|\r)', re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"]|"")*"')
_SHORTENED = re.compile(r"[0-9]+(?:[.,][0-9]+)?[eE]\+[0-9]+|[0-9]+[.,]0+")


@dataclass(frozen=True)
class Delimited:
    """A file's text in its parts: `preamble` is the mark and the `sep=` line, word for word."""

    preamble: str
    body: str
    delimiter: str

    @property
    def first_line(self) -> int:
        """The line of the file on which `body` begins."""
        return 1 + self.preamble.count("\n")


def delimited(text: str) -> Delimited:
    """Find out how a file is delimited: what it says itself, or what its header has most of."""
    mark = BOM if text.startswith(BOM) else ""
    body = text.removeprefix(BOM)
    if said := _SEP.match(body):
        return Delimited(mark + said[0], body[said.end() :], said["delimiter"])
    header = _QUOTED.sub("", next((line for line in io.StringIO(body) if line.strip()), ""))
    return Delimited(mark, body, max(DELIMITERS, key=header.count))


def is_shortened(text: str) -> bool:
    """Whether a spreadsheet wrote this as a number: digits are lost, or a fraction was added."""
    return bool(_SHORTENED.fullmatch(text.strip()))
