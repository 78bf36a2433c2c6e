"""Moodle: a file for the gradebook's CSV import, or an assignment's offline grading worksheet, filled.

Import (docs.moodle.org, "Grade import"; moodle/grade/import/csv): UTF-8, a header, one row a learner.
The instructor maps "Email address" or "ID number" to the user and a lab's column to a grade item, or
lets Moodle create one. Moodle refuses the whole file for one unknown user, and grades over 100 unless
the site allows them. An empty grade means no grade.

Worksheet (moodle/mod/assign/feedback/offline/importgradeslib.php): Moodle finds rows by "Identifier",
reads "Grade" and "Feedback comments", and skips grades that were changed in Moodle after "Last
modified (grade)"; so these and all other columns stay as they are. An assignment with a scale has a
column "Scale" with its steps, the lowest first, in place of "Maximum Grade", and takes a step's name.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass

from helpers.errors import LabError
from helpers.grading.export.results import LabScore, Result, amount, is_formula, lab_scores, number
from helpers.grading.export.template import Finder, Merged, Sheet, TemplateInvalid, parse
from helpers.grading.report import CheckResult
from helpers.grading.verdict import Status

IDENTITY = ("Email address", "ID number", "Username")
FEEDBACK = "Feedback comments"
GRADE_LIMIT = 100


def to_moodle(results: Iterable[Result]) -> Merged:
    """A file for Grades, Import, CSV file.

    A learner whose id or address a spreadsheet would run as a formula is left out and named: a
    defused one would be an unknown user, for whom Moodle refuses the whole file.
    """
    finder = Finder(lab_scores(results))
    titles = [title for lab in finder.labs for title in (f"Lab {lab}", f"Lab {lab} (Feedback)")]
    learners = {score.learner.id.casefold(): score.learner for score in finder.scores.values()}
    skipped: list[str] = []
    filled = 0
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(["ID number", "Email address", *titles])
    for identity, learner in learners.items():
        if is_formula(learner.id) or is_formula(learner.email):
            skipped.append(f"{learner.id}: a spreadsheet would run this id or address as a formula")
            continue
        row = [learner.id, learner.email]
        for lab in finder.labs:
            score = finder.scores.get((identity, lab))
            problem = _problem(score)
            skipped += [f"{learner.id}, lab {lab}: {problem}"] if problem else []
            row += ["", ""] if score is None or problem else [number(score.earned), feedback(score)]
            filled += problem is None
        writer.writerow(row)
    return Merged(out.getvalue(), filled, (), tuple(skipped), tuple(_over_the_limit(finder)))


def merge_worksheet(
    template: str, results: Iterable[Result], *, lab: str | None = None, identity: str | None = None
) -> Merged:
    """Fill an assignment's grading worksheet (Assignment, View all submissions, Download grading worksheet).

    Args:
        lab: which lab the assignment is; may be left out when there is one only.
        identity: the column that says who a row is; that in which most learners are found unless given.

    Raises:
        TemplateInvalid: it is no worksheet, or it hides who the learners are (anonymous submissions).
        LabError: several labs and no word which one.
    """
    sheet = parse(template, what="Moodle")
    identifier, grade, modified = map(sheet.column, ("Identifier", "Grade", "Last modified (grade)"))
    if identifier is None or grade is None or modified is None:
        raise TemplateInvalid(
            "this is not a grading worksheet: it needs Identifier, Grade and Last modified (grade)",
            next_command="in Moodle: the assignment, View all submissions, Download grading worksheet",
        )
    if all(sheet.column(name) is None for name in IDENTITY):
        raise TemplateInvalid(
            "the worksheet has no Email address and no ID number: submissions are anonymous"
        )
    finder = Finder(lab_scores(results))
    chosen = _the_lab(finder, lab)
    places = _Places(grade, *map(sheet.column, ("Maximum Grade", "Scale", FEEDBACK, "Grade can be changed")))
    rows = range(1, len(sheet.rows))
    placed = finder.placed(sheet, rows, IDENTITY, chosen=identity)
    skipped: list[str] = []
    for line in rows:
        row = sheet.rows[line]
        problem = placed.why_not(line) or places.fill(row, finder.scores.get((placed.learners[line], chosen)))
        skipped += [f"{row[identifier]}: {problem}"] if problem else []
    filled = len(rows) - len(skipped)
    notes = (*placed.notes, *places.notes(sheet))
    return Merged(sheet.text(), filled, finder.missing(placed.found), tuple(skipped), notes)


@dataclass(frozen=True)
class _Places:
    """Where a worksheet has a row's grade, and what a grade is there."""

    grade: int
    maximum: int | None
    scale: int | None
    comments: int | None
    changeable: int | None

    def fill(self, row: list[str], score: LabScore | None) -> str | None:
        """Write one grade; the reason where the row stays as it was."""
        if self.changeable is not None and row[self.changeable].strip().casefold() == "no":
            return "Moodle says that this grade cannot be changed"
        problem = _problem(score)
        if problem or score is None:
            return problem
        grade = self._grade(row, score)
        if grade is None:
            return f"its maximum grade “{row[self.maximum or 0].strip()}” is not a number"
        row[self.grade] = grade
        if self.comments is not None:
            row[self.comments] = feedback(score)
        return None

    def _grade(self, row: list[str], score: LabScore) -> str | None:
        """The grade as this assignment counts: a step of its scale, or scaled to its maximum."""
        share = score.earned / score.possible if score.possible else 0.0
        if steps := _steps(row, self.scale):
            return steps[min(len(steps) - 1, int(share * (len(steps) - 1) + 0.5))]
        if self.maximum is None or not score.possible:
            return number(score.earned)
        full = amount(row[self.maximum])
        return None if full is None else number(share * full)

    def notes(self, sheet: Sheet) -> list[str]:
        """What an instructor has to know of the assignment's own way to count."""
        steps = next((found for row in sheet.rows[1:] if (found := _steps(row, self.scale))), [])
        if not steps:
            return []
        return [
            f"the assignment has a scale: each grade is the nearest of its {len(steps)} steps, full points are “{steps[-1]}”"
        ]


def _steps(row: list[str], scale: int | None) -> list[str]:
    return [step.strip() for step in row[scale].split(",") if step.strip()] if scale is not None else []


def feedback(score: LabScore) -> str:
    """What a learner reads beside the grade: one line, made of their Report as it was given to us."""
    short = [result.check for result in _of_lab(score) if result.status is not Status.PASS]
    pending = score.result.report.pending
    words = [f"Lab {score.lab}: {score.passed} of {score.checks} checks passed."]
    words += [f"Fell short: {', '.join(short)}."] if short else []
    words += [f"Hidden checks pending: {pending.count}."] if pending else []
    if score.result.share != 1:
        words.append(f"Handed in late: {number(100 * score.result.share)} % of the points.")
    return " ".join(words)


def _of_lab(score: LabScore) -> list[CheckResult]:
    return [result for result in score.result.report.verdicts if result.lab == score.lab]


def _problem(score: LabScore | None) -> str | None:
    if score is None:
        return "no result"
    return None if score.is_gradable else "the environment failed, so this is not a grade"


def _the_lab(finder: Finder, lab: str | None) -> str:
    if lab is None and len(finder.labs) == 1:
        return finder.labs[0]
    if lab is None or lab not in finder.labs:
        known = ", ".join(finder.labs) or "none"
        raise LabError(
            f"a worksheet is one assignment; which lab is it? Graded: {known}", next_command="add --lab 01"
        )
    return lab


def _over_the_limit(finder: Finder) -> Iterable[str]:
    for lab in finder.labs:
        possible = max(score.possible for (_, of), score in finder.scores.items() if of == lab)
        if possible > GRADE_LIMIT:
            yield f"lab {lab} has {number(possible)} points: Moodle refuses more than {GRADE_LIMIT}"
