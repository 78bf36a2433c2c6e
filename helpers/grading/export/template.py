"""A gradebook's own CSV: read as it is, changed in a few cells, written as it was.

Canvas and Moodle take a file back when it still looks as they wrote it. So the delimiter, the line
ends, the mark at the beginning, every column and every other cell stay.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.errors import LabError
from helpers.grading.export.results import BOM, LabScore


class TemplateInvalid(LabError):
    """The file is not what the gradebook exports."""


@dataclass(frozen=True)
class Merged:
    """A filled template, and everything that an instructor has to know of it.

    `not_in_template` are learners with a result whom the template does not have; `not_graded` are
    rows that were left as they were, each with the reason.
    """

    text: str
    filled: int
    not_in_template: tuple[str, ...] = ()
    not_graded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class Sheet:
    """The rows of a gradebook's CSV, its header first, and how it was written."""

    rows: list[list[str]]
    delimiter: str = ","
    line_end: str = "\r\n"
    bom: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def header(self) -> list[str]:
        return self.rows[0]

    def column(self, *names: str) -> int | None:
        """The first column of one of these names; upper and lower case are the same."""
        wanted = [name.casefold() for name in names]
        found = [index for index, title in enumerate(self.header) if title.strip().casefold() in wanted]
        return found[0] if found else None

    def text(self) -> str:
        """The sheet as it was read, with the changed cells."""
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter=self.delimiter, lineterminator=self.line_end)
        writer.writerows(self.rows)
        return self.bom + out.getvalue()


def read_template(path: Path) -> str:
    """A template's text, its line ends and its mark kept.

    Raises:
        TemplateInvalid: there is no such file, or it is not UTF-8 as both gradebooks write it.
    """
    try:
        return path.read_bytes().decode()
    except OSError as problem:
        raise TemplateInvalid(f"cannot read {path}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise TemplateInvalid(f"{path} is not UTF-8: export it again, or save it as “CSV UTF-8”") from problem


def parse(text: str, *, what: str) -> Sheet:
    """The sheet in a template's text; gradebooks write commas or, in some languages, semicolons.

    Raises:
        TemplateInvalid: no header, broken quotes, or rows of different lengths.
    """
    bom = BOM if text.startswith(BOM) else ""
    body = text.removeprefix(BOM)
    head = body.partition("\n")[0]
    delimiter = ";" if head.count(";") > head.count(",") else ","
    try:
        reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True)
        rows = [row for row in reader if row]
    except csv.Error as problem:
        raise TemplateInvalid(f"this is no CSV as {what} exports it: {problem}") from problem
    if not rows:
        raise TemplateInvalid(f"this is no CSV as {what} exports it: it is empty")
    for line, row in enumerate(rows, 1):
        if len(row) > len(rows[0]):
            raise TemplateInvalid(f"row {line} has {len(row)} cells, the header only {len(rows[0])}")
        row.extend([""] * (len(rows[0]) - len(row)))
    return Sheet(rows, delimiter, "\r\n" if "\r\n" in body else "\n", bom)


class Finder:
    """Finds a learner's row by the columns that both sides know; an ambiguous one is nobody."""

    def __init__(self, scores: Iterable[LabScore]) -> None:
        self._by_key: dict[str, str | None] = {}
        self.scores: dict[tuple[str, str], LabScore] = {}
        for score in scores:
            identity = score.learner.id.casefold()
            self.scores[identity, score.lab] = score
            for key in (score.learner.id, score.learner.email):
                self._remember(key.strip().casefold(), identity)

    def _remember(self, key: str, identity: str) -> None:
        if key:
            known = self._by_key.setdefault(key, identity)
            self._by_key[key] = identity if known == identity else None

    def learner(self, cells: Iterable[str]) -> str | None:
        """Who a row is about: the first of its cells that is somebody's id or e-mail address."""
        for cell in cells:
            found = self._by_key.get(cell.strip().casefold())
            if found:
                return found
        return None

    @property
    def labs(self) -> list[str]:
        """The labs that were graded, in order."""
        return sorted({lab for _, lab in self.scores})

    def missing(self, found: Iterable[str]) -> tuple[str, ...]:
        """The ids of learners with a result whom nobody found."""
        seen = set(found)
        absent = {
            score.learner.id: None for (identity, _), score in self.scores.items() if identity not in seen
        }
        return tuple(absent)


def cells(row: Sequence[str], columns: Iterable[int | None]) -> list[str]:
    """The cells of a row in those of the columns that exist."""
    return [row[column] for column in columns if column is not None]
