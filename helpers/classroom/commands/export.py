"""`course export`; `course class export` and `feedback`: grades for other systems, and handed back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from helpers.classroom.commands.options import ClassName, Keys, LearnerIds, read_text
from helpers.errors import LabError
from helpers.terminal import CLASSES, FELL_SHORT, say

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.classroom.records.attest import PublicKey
    from helpers.grading.export.results import Result
    from helpers.grading.export.template import Merged
    from helpers.grading.report import Report

_ONE = ("csv", "junit", "markdown", "github", "github-output")
_CLASS = ("csv", "summary", "junit", "canvas", "moodle", "worksheet")

Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="FILE", help="A file; else the terminal.")
]
Template = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="canvas: the exported gradebook. worksheet: Moodle's worksheet."),
]
Column = Annotated[
    list[str] | None, typer.Option(metavar="01=TITLE", help="canvas: the lab's assignment (repeatable).")
]
Identity = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="canvas, worksheet: the column that says who a row is; that with the most learners unless given.",
    ),
]
Labs = Annotated[str, typer.Option(metavar="01,02", help="Only these labs.")]
Opened = Annotated[bool, typer.Option("--open-hidden", help="With what the hidden checks found.")]


def register(class_app: typer.Typer, app: typer.Typer) -> None:
    """Add the commands to `course class` and to `course`."""
    class_app.command("export")(class_export)
    class_app.command("feedback")(feedback)
    app.command("export", rich_help_panel=CLASSES)(export)


def export(
    reports: Annotated[list[Path], typer.Argument(metavar="REPORT...", help="Reports, or folders of them.")],
    format: Annotated[str, typer.Option(metavar="FORMAT", help=", ".join(dict.fromkeys(_ONE + _CLASS)))],
    template: Template = None,
    output: Output = None,
    key: Keys = None,
    lab: Annotated[str | None, typer.Option(metavar="01", help="worksheet: which lab it is.")] = None,
    column: Column = None,
    identity: Identity = None,
) -> None:
    """A Report in another format: `course grade 01 --json > report.json`, then this.

    Gradebooks (summary, canvas, moodle, worksheet) take signed Reports only, with --key. Without a key
    no export says that anybody attested it.
    """
    if format not in (*_ONE, *_CLASS):
        raise typer.BadParameter(f"--format is one of {', '.join(dict.fromkeys(_ONE + _CLASS))}")
    paths = _files(reports)
    if format not in _CLASS and len(paths) != 1:
        raise typer.BadParameter(f"{format} is of one Report; {len(paths)} were given")
    found = _signed_results(paths, key, must_be_signed=format not in _ONE)
    if format in _ONE and len(found) == 1:
        _write_one(format, found[0].report, output)
        return
    raise typer.Exit(_write_class(format, found, template, output, lab, _titles(column), identity))


def class_export(
    format: Annotated[str, typer.Option(metavar="FORMAT", help=", ".join(_CLASS))],
    template: Template = None,
    output: Output = None,
    labs: Labs = "",
    learner: LearnerIds = None,
    column: Column = None,
    identity: Identity = None,
    open_hidden: Opened = False,
    name: ClassName = "class",
) -> None:
    """The class's grades for another system, from its history: the attempt that counts, late policy applied.

    Hidden checks are left out until you open them. Exit code 1 if the template lacks a graded learner.
    """
    from helpers.classroom.marking.feedback import shown_results

    if format not in _CLASS:
        raise typer.BadParameter(f"--format is one of {', '.join(_CLASS)}")
    folder, members, chosen = _class(name, learner, labs)
    found = shown_results(folder, members, chosen, opened=open_hidden)
    lab = chosen[0] if len(chosen) == 1 else None
    raise typer.Exit(_write_class(format, found, template, output, lab, _titles(column), identity))


def feedback(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FOLDER", help="A folder a learner.")],
    labs: Labs = "",
    learner: LearnerIds = None,
    open_hidden: Opened = False,
    name: ClassName = "class",
) -> None:
    """Each learner's signed Reports to hand back; hidden checks stay closed unless you open them."""
    from helpers.classroom.marking.feedback import write_feedback

    folder, members, chosen = _class(name, learner, labs)
    count = write_feedback(folder, members, chosen, output, opened=open_hidden)
    state = "opened" if open_hidden else "closed"
    typer.echo(f"{count} signed Reports in {output}, hidden checks {state}.")


def _class(
    name: str, learners: Sequence[str] | None, labs: str
) -> tuple[ClassFolder, list[Member], list[str]]:
    from helpers.classroom.folder import ClassFolder
    from helpers.classroom.marking.feedback import labs_in_history
    from helpers.labs.registry import load_lab

    folder = ClassFolder.open(name)
    members = [folder.member(identity) for identity in learners] if learners else list(folder.active)
    chosen = [load_lab(part.strip()).id for part in labs.split(",") if part.strip()]
    chosen = chosen or labs_in_history(folder, members)
    if not chosen:
        raise LabError("nobody was graded yet", next_command="course class grade --labs 01")
    return folder, members, chosen


def _files(paths: Sequence[Path]) -> list[Path]:
    """The files meant; a folder stands for every JSON file under it."""
    found = [file for path in paths for file in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]
    if not found:
        raise LabError(f"there is no Report in {', '.join(map(str, paths))}")
    return found


def _claim(path: Path) -> Report:
    """A Report whose signature nobody looks at: whatever it says of who attested it is left out."""
    from dataclasses import replace

    from helpers.grading.report import Report

    found = Report.from_json(read_text(path))
    if found.attested_by:
        say(
            f"{path} says that {found.attested_by} attested it; without --key that is not checked, and left out"
        )
    return replace(found, attested_by=None)


def _signed_results(paths: Sequence[Path], keys: list[str] | None, *, must_be_signed: bool) -> list[Result]:
    """Reports of known learners; where a grade follows from them, only those that an instructor signed."""
    from helpers.classroom.records.attest import PublicKey
    from helpers.classroom.records.certificate import attested
    from helpers.classroom.roster import Learner
    from helpers.grading.export.results import Result

    if must_be_signed and not keys:
        raise typer.BadParameter("a gradebook takes signed Reports only: give --key")
    trusted: list[PublicKey] = [PublicKey.given(item) for item in keys or ()]
    found = []
    for path in paths:
        try:
            read = attested(read_text(path), trusted).report if trusted else _claim(path)
        except LabError as problem:
            raise LabError(f"{path}: {problem}", next_command=problem.next_command) from problem
        who = read.binding.learner if read.binding else path.stem
        found.append(Result(Learner(who, "", ""), read))
    return found


def _titles(columns: list[str] | None) -> dict[str, str]:
    pairs = [item.partition("=") for item in columns or ()]
    if not all(lab and title for lab, _, title in pairs):
        raise typer.BadParameter("--column is a lab and a title, such as --column '01=Week 3 (12345)'")
    return {lab.zfill(2): title for lab, _, title in pairs}


def _write_one(format: str, found: Report, output: Path | None) -> None:
    from helpers.grading.export.csvfile import report_csv
    from helpers.grading.export.github import to_github, to_github_output
    from helpers.grading.export.junit import to_junit
    from helpers.grading.export.markdown import to_markdown

    makers = {
        "csv": report_csv,
        "junit": to_junit,
        "markdown": to_markdown,
        "github": to_github,
        "github-output": to_github_output,
    }
    _put(makers[format](found), output, spreadsheet=format == "csv")


def _write_class(
    format: str,
    found: Sequence[Result],
    template: Path | None,
    output: Path | None,
    lab: str | None,
    columns: dict[str, str],
    identity: str | None,
) -> int:
    """Write a class's results; 1 if the template lacks somebody who has a result."""
    from helpers.grading.export.csvfile import to_csv, to_summary_csv
    from helpers.grading.export.junit import class_junit

    if format in ("csv", "summary", "junit"):
        text = {"csv": to_csv, "summary": to_summary_csv, "junit": class_junit}[format](found)
        _put(text, output, spreadsheet=format != "junit")
        return 0
    merged = _merged(format, found, template, lab, columns, identity)
    _put(merged.text, output, spreadsheet=False)
    for line in (*merged.notes, *merged.not_graded):
        say(line)
    for learner in merged.not_in_template:
        say(f"{learner}: has a result, and is not in {template}")
    say(f"{merged.filled} grades filled in, {len(merged.not_graded)} left as they were")
    return FELL_SHORT if merged.not_in_template else 0


def _merged(
    format: str,
    found: Sequence[Result],
    template: Path | None,
    lab: str | None,
    columns: dict[str, str],
    identity: str | None,
) -> Merged:
    from helpers.grading.export.canvas import merge_canvas
    from helpers.grading.export.moodle import merge_worksheet, to_moodle
    from helpers.grading.export.template import read_template

    if format == "moodle":
        return to_moodle(found)
    if template is None:
        raise typer.BadParameter(f"{format} fills a file that you export from there first: give --template")
    if format == "canvas":
        return merge_canvas(read_template(template), found, columns=columns, identity=identity)
    return merge_worksheet(read_template(template), found, lab=lab, identity=identity)


def _put(text: str, output: Path | None, *, spreadsheet: bool) -> None:
    from helpers.grading.export.results import save, write

    if output is None:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        return
    (save if spreadsheet else write)(output, text)
