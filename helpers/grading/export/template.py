"""A gradebook's own CSV: read as it is, changed in a few cells, written as it was.

Canvas and Moodle take a file back when it still looks as they wrote it. So the delimiter, the line
ends, the mark at the beginning, every column and every other cell stay.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from helpers.errors import LabError
from helpers.grading.export.delimited import delimited, is_shortened
from helpers.grading.export.results import LabScore


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
    """The rows of a gradebook's CSV, its header first, and how it was written.

    `preamble` is what stands before the header: a byte order mark, a line that says the delimiter.
    """

    rows: list[list[str]]
    delimiter: str = ","
    line_end: str = "\r\n"
    preamble: str = ""
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
        return self.preamble + out.getvalue()


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
    """The sheet in a template's text; gradebooks write commas or, in some languages, semicolons or tabs.

    Raises:
        TemplateInvalid: no header, broken quotes, or rows of different lengths.
    """
    file = delimited(text)
    try:
        reader = csv.reader(io.StringIO(file.body, newline=""), delimiter=file.delimiter, strict=True)
        rows = [row for row in reader if row]
    except csv.Error as problem:
        raise TemplateInvalid(f"this is not a CSV as {what} exports it: {problem}") from problem
    if not rows:
        raise TemplateInvalid(f"this is not a CSV as {what} exports it: it is empty")
    for line, row in enumerate(rows, 1):
        if len(row) > len(rows[0]):
            raise TemplateInvalid(f"row {line} has {len(row)} cells, the header only {len(rows[0])}")
        row.extend([""] * (len(rows[0]) - len(row)))
    return Sheet(rows, file.delimiter, "\r\n" if "\r\n" in file.body else "\n", file.preamble)


@dataclass(frozen=True)
class Placed:
    """Which learner each row is about; rows of a learner who fits several are in `several` instead."""

    learners: Mapping[int, str]
    several: Mapping[int, str]
    notes: tuple[str, ...] = ()

    def why_not(self, row: int) -> str | None:
        """Why a row gets no grade, if it gets none."""
        if row in self.several:
            return "the learner fits several rows"
        return None if row in self.learners else "no result"

    @property
    def found(self) -> set[str]:
        """The learners whom the sheet has."""
        return {*self.learners.values(), *self.several.values()}


class Finder:
    """Finds learners' rows by one column that both sides know; an ambiguous learner is nobody."""

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

    def placed(
        self, sheet: Sheet, rows: range, columns: Sequence[str], *, chosen: str | None = None
    ) -> Placed:
        """Which learner each of these rows is about.

        One column says so for the whole sheet: cells of different columns are numbers of different
        offices, and one person's number may be another's login. It is the column in which the most
        learners are found, the first of those in doubt.

        Args:
            rows: the sheet's rows that are about learners.
            columns: titles that could be meant, the likeliest first.
            chosen: the instructor's own choice.

        Raises:
            TemplateInvalid: the sheet has no such column, or a spreadsheet rewrote the numbers in it.
        """
        titles = [chosen] if chosen else list(columns)
        found = {title: self._in(sheet, rows, title) for title in titles if sheet.column(title) is not None}
        if not found:
            raise TemplateInvalid(f"there is no column {' or '.join(titles)}: nothing says who a row is")
        best = max(found, key=lambda title: len(set(found[title].values())))
        _require_whole(sheet, rows, best)
        times = Counter(found[best].values())
        return Placed(
            {row: identity for row, identity in found[best].items() if times[identity] == 1},
            {row: identity for row, identity in found[best].items() if times[identity] > 1},
            tuple(self._elsewhere(found, best)),
        )

    def _in(self, sheet: Sheet, rows: range, title: str) -> dict[int, str]:
        column = sheet.column(title)
        assert column is not None
        keys = {row: self._by_key.get(sheet.rows[row][column].strip().casefold()) for row in rows}
        return {row: identity for row, identity in keys.items() if identity}

    def _elsewhere(self, found: Mapping[str, Mapping[int, str]], best: str) -> Iterable[str]:
        """Learners whom another column would have given to another row."""
        names = {score.learner.id.casefold(): score.learner.id for score in self.scores.values()}
        for title, by_row in found.items():
            others = {identity for row, identity in by_row.items() if found[best].get(row) != identity}
            if others:
                listed = ", ".join(sorted(names[identity] for identity in others))
                yield f"“{best}” says who a row is; “{title}” would have said otherwise of {listed}"

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


def _require_whole(sheet: Sheet, rows: range, title: str) -> None:
    """Refuse numbers that a spreadsheet shortened: they are other learners', or nobody's."""
    column = sheet.column(title)
    assert column is not None
    for row in rows:
        if is_shortened(sheet.rows[row][column]):
            raise TemplateInvalid(
                f"row {row + 1}: a spreadsheet made the number {sheet.rows[row][column].strip()} of “{title}”: "
                "export the file again, and give it here before a spreadsheet saves it"
            )


def cells(row: Sequence[str], columns: Iterable[int | None]) -> list[str]:
    """The cells of a row in those of the columns that exist."""
    return [row[column] for column in columns if column is not None]
