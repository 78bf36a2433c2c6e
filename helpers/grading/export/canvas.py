"""Canvas: grades go into the gradebook CSV that the instructor exported, and nothing else changes.

The format is what Canvas writes and reads itself (instructure/canvas-lms, lib/gradebook_exporter.rb and
lib/gradebook_importer.rb): columns Student (or LastName, FirstName), ID, SIS User ID, SIS Login ID,
Integration ID, Root Account, Section, then an instructor's own columns, then assignments as
"Title (12345)", then totals. Above the students stand a row "Manual Posting" (sometimes) and the row
"    Points Possible", where "(read only)" marks what Canvas ignores. A column whose title has no number
becomes a new assignment. "EX" is excused, "N/A" not assigned: neither is overwritten here.

Canvas takes the points possible from the file, so those of an assignment that exists are never
touched: where they differ from the lab's, the grade is scaled to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from helpers.grading.export.results import LabScore, Result, amount, lab_scores, number
from helpers.grading.export.template import Finder, Merged, Sheet, TemplateInvalid, cells, parse

# The columns that can say who a row is, the likeliest first; one of them does, for the whole file.
IDENTITY = ("SIS Login ID", "SIS User ID", "Integration ID", "Email", "ID")
_TOTALS = re.compile(r"(Current|Final) (Score|Points|Grade)|Override (Score|Grade|Status)")
_NUMBERED = re.compile(r"(?P<title>.*?)\s*\(\d+\)\s*")
_KEEP = {"EX": "excused in Canvas", "N/A": "not assigned in Canvas"}


@dataclass(frozen=True)
class _Column:
    """An assignment's place in the gradebook, and what a full grade is there (None: not said)."""

    lab: str
    index: int
    points: float | None


def merge_canvas(
    template: str,
    results: Iterable[Result],
    *,
    columns: Mapping[str, str] | None = None,
    identity: str | None = None,
) -> Merged:
    """Fill the labs' grades into a gradebook that Canvas exported.

    Args:
        template: the file's text, with its line ends (see `template.read_template`).
        results: learners and their Reports; the learner's id or e-mail address must be in one of
            the columns in `IDENTITY`, the same one for all.
        columns: for each lab the title of its assignment; "Lab 01" or "Lab 01 …" unless given. An
            assignment that the gradebook does not have is added, and Canvas will offer to create it.
        identity: the column that says who a row is; that in which most learners are found unless given.

    Raises:
        TemplateInvalid: this is no Canvas gradebook, or several columns could be meant.
    """
    sheet = parse(template, what="Canvas")
    _require_gradebook(sheet)
    finder = Finder(lab_scores(results))
    points_row = _points_row(sheet)
    places = [_place(sheet, lab, points_row, finder, (columns or {}).get(lab)) for lab in finder.labs]
    rows = range(points_row + 1, len(sheet.rows))
    placed = finder.placed(sheet, rows, IDENTITY, chosen=identity)
    skipped: list[str] = []
    filled = 0
    for line in rows:
        row = sheet.rows[line]
        if why := placed.why_not(line):
            skipped.append(f"{_who(sheet, row)}: {why}")
            continue
        for place in places:
            problem = _fill(row, place, finder.scores.get((placed.learners[line], place.lab)))
            filled += problem is None
            skipped += [f"{_who(sheet, row)}, lab {place.lab}: {problem}"] if problem else []
    notes = (*sheet.notes, *placed.notes, *_pending_notes(finder))
    return Merged(sheet.text(), filled, finder.missing(placed.found), tuple(skipped), notes)


def _require_gradebook(sheet: Sheet) -> None:
    first = sheet.header[0].strip()
    if first not in ("Student", "LastName") or sheet.column("ID") is None or sheet.column("Section") is None:
        raise TemplateInvalid(
            "this is not a gradebook as Canvas exports it: it needs the columns Student, ID and Section",
            next_command="in Canvas: Grades, Export, Export Entire Gradebook",
        )


def _points_row(sheet: Sheet) -> int:
    """The last row above the students; Canvas finds it by these words."""
    for index, row in enumerate(sheet.rows):
        if "Points Possible" in row[0]:
            return index
    raise TemplateInvalid("the gradebook has no row “Points Possible”: export it from Canvas again")


def _place(sheet: Sheet, lab: str, points_row: int, finder: Finder, title: str | None) -> _Column:
    found = [index for index, name in enumerate(sheet.header) if _means(name, lab, title)]
    if len(found) > 1:
        names = " and ".join(f"“{sheet.header[index]}”" for index in found)
        raise TemplateInvalid(
            f"lab {lab} could be {names}", next_command=f"add --column '{lab}=TITLE' with one of them"
        )
    possible = max(score.possible for (_, of), score in finder.scores.items() if of == lab)
    if not found:
        return _added(sheet, lab, points_row, possible, title)
    points = sheet.rows[points_row][found[0]].strip()
    if "read only" in points:
        raise TemplateInvalid(f"Canvas ignores the column “{sheet.header[found[0]]}”: it is read only")
    full = amount(points) or None
    if full is not None and full != possible:
        sheet.notes.append(
            f"lab {lab}: {number(possible)} points are scaled to the {number(full)} of "
            f"“{sheet.header[found[0]]}”"
        )
    return _Column(lab, found[0], full)


def _means(header: str, lab: str, title: str | None) -> bool:
    """Whether a column is this lab's assignment, with or without Canvas's number."""
    numbered = _NUMBERED.fullmatch(header)
    name = (numbered["title"] if numbered else header).strip().casefold()
    if title is not None:
        return title.strip().casefold() in (name, header.strip().casefold())
    number_pattern = rf"0*{int(lab)}" if lab.isdigit() else re.escape(lab.casefold())
    return not _TOTALS.search(header) and bool(re.match(rf"lab {number_pattern}(?!\w)", name))


def _added(sheet: Sheet, lab: str, points_row: int, possible: float, title: str | None) -> _Column:
    """A new column before the totals; rows above the points have nothing to say about it."""
    totals = (index for index, name in enumerate(sheet.header) if _TOTALS.search(name))
    index = next(totals, len(sheet.header))
    name = title or f"Lab {lab}"
    for position, row in enumerate(sheet.rows):
        row.insert(index, {0: name, points_row: number(possible)}.get(position, ""))
    sheet.notes.append(f"“{name}” is not in this gradebook: Canvas will offer to create the assignment")
    return _Column(lab, index, possible)


def _fill(row: list[str], place: _Column, score: LabScore | None) -> str | None:
    """Write one grade; the reason where the cell stays as it was."""
    present = row[place.index].strip().upper()
    if present in _KEEP:
        return _KEEP[present]
    if score is None:
        return "no result"
    if not score.is_gradable:
        return "the environment failed, so this is not a grade"
    earned = score.earned
    if place.points and score.possible:
        earned = earned * place.points / score.possible
    row[place.index] = number(earned)
    return None


def _who(sheet: Sheet, row: list[str]) -> str:
    login = next((cell for cell in cells(row, map(sheet.column, IDENTITY)) if cell), "no login")
    return f"{row[0].strip() or 'a row without a name'} ({login})"


def _pending_notes(finder: Finder) -> list[str]:
    pending = [score for score in finder.scores.values() if score.result.report.pending]
    return [f"hidden checks are pending: {len(pending)} grades are of the public checks"] if pending else []
