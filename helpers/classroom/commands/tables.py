"""The class in a terminal: signs first, colour second; twenty learners as a matrix, two hundred as a summary."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from helpers.classroom.board.status import LabStatus, LearnerLab, State
from helpers.classroom.marking.marking import Marked
from helpers.classroom.records.history import Attempt, LabGrade, Standing
from helpers.classroom.records.verify import Verification
from helpers.grading.render import STYLES
from helpers.grading.verdict import Status

SIGNS = {
    Status.PASS.value: "✓",
    Status.PARTIAL.value: "½",
    Status.FAIL.value: "✗",
    Status.NOT_ATTEMPTED.value: "·",
    Status.BLOCKED.value: "–",
    Status.ENV_ERROR.value: "!",
}
STATE_STYLES = {
    State.BROKEN: "bold magenta",
    State.STUCK: "bold red",
    State.WORKING: "yellow",
    State.NOT_STARTED: "blue",
    State.PASSED: "bold green",
    State.UNSEEN: "dim",
}
# More learners than fit on a screen are summed up.
MATRIX_ROWS = 40
_NAMED = 12
_BAR = 20


def print_status(labs: Sequence[LabStatus], console: Console, *, everyone: bool = False) -> None:
    """Each lab: a matrix where it fits on a screen, else a summary of states and checks."""
    for lab in labs:
        console.print(Text(f"Lab {lab.lab}  {lab.title}", style="bold"), _states(lab))
        if everyone or len(lab.learners) <= MATRIX_ROWS:
            console.print(_matrix(lab))
            _print_legend(lab, console)
        else:
            console.print(_by_check(lab))
        _print_named(lab, console)
    if any(not everyone and len(lab.learners) > MATRIX_ROWS for lab in labs):
        console.print(Text("Everybody's row: add --all", style="dim"))


def _states(lab: LabStatus) -> Text:
    parts = [(f"{number} {state.value}", STATE_STYLES[state]) for state, number in lab.states.items()]
    return Text("  ").join(Text(words, style=style) for words, style in parts)


def _matrix(lab: LabStatus) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), show_header=True, header_style="dim")
    table.add_column("learner", no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column("state", no_wrap=True)
    table.add_column("points", justify="right", no_wrap=True)
    for number in range(1, len(lab.checks) + 1):
        table.add_column(str(number), justify="center", no_wrap=True, min_width=2)
    for item in lab.learners:
        cells = [_sign(item, check) for check in lab.checks]
        points = f"{item.earned:g}/{item.possible:g}" if item.checks else ""
        table.add_row(item.learner, _state_words(item), points, *cells)
    return table


def _state_words(item: LearnerLab) -> Text:
    words = item.state.value
    if item.state is State.STUCK:
        words += f" {_span(item.failing_minutes)}"
    return Text(words, style=STATE_STYLES[item.state])


def _sign(item: LearnerLab, check: str) -> Text:
    seen = item.check(check)
    if seen is None:
        return Text(" ")
    style = STYLES[Status(seen.status)] + (" reverse" if check in item.stuck_on else "")
    return Text(SIGNS[seen.status], style=style)


def _print_legend(lab: LabStatus, console: Console) -> None:
    names = "  ".join(f"{number}={name}" for number, name in enumerate(lab.checks, start=1))
    signs = "  ".join(f"{sign} {status.replace('_', ' ').lower()}" for status, sign in SIGNS.items())
    console.print(Text(names, style="dim"))
    console.print(Text(signs, style="dim"))


def _by_check(lab: LabStatus) -> Table:
    """For a class that is too long for a matrix: how far it is, check by check."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("check", "passed", ""):
        table.add_column(name, no_wrap=True)
    for status in Status:
        if status is not Status.PASS:
            table.add_column(status.value.replace("_", " ").lower(), justify="right", no_wrap=True)
    for check in lab.checks:
        counts = lab.verdicts(check)
        total = sum(counts.values())
        passed = counts.get(Status.PASS.value, 0)
        filled = round(_BAR * passed / total) if total else 0
        bar = Text("█" * filled, style="green") + Text("░" * (_BAR - filled), style="dim")
        rest = [str(counts.get(status.value, "")) for status in Status if status is not Status.PASS]
        table.add_row(check, f"{passed}/{total}", bar, *rest)
    return table


def _print_named(lab: LabStatus, console: Console) -> None:
    """Who needs somebody now, and why."""
    for state, words in ((State.STUCK, "Stuck"), (State.BROKEN, "Environment broken")):
        found = lab.in_state(state)
        for item in found[:_NAMED]:
            why = (
                f"{', '.join(item.stuck_on)}, {_span(item.failing_minutes)}" if item.stuck_on else item.cause
            )
            console.print(Text.assemble((words, STATE_STYLES[state]), f"  {item.learner}  {why}"))
        if len(found) > _NAMED:
            console.print(Text(f"and {len(found) - _NAMED} more", style="dim"))


def _span(minutes: float) -> str:
    whole = int(minutes)
    if whole < 60:
        return f"{whole} min"
    return f"{whole // 60} h {whole % 60} min" if whole < 60 * 24 else f"{whole // (60 * 24)} d"


def print_grades(
    rows: Sequence[tuple[Marked, Sequence[Standing]]], console: Console, *, most_rows: int = MATRIX_ROWS
) -> None:
    """What each learner has in each lab, with the late policy applied; who could not be judged comes last."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, justify in (("learner", "left"), ("lab", "left"), ("score", "right"), ("attempt", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("what was seen")
    for marked, standings in rows[:most_rows]:
        for place in standings:
            table.add_row(marked.member.learner.id, place.lab, *_grade_cells(marked, place))
    console.print(table)
    if len(rows) > most_rows:
        console.print(
            Text(f"and {len(rows) - most_rows} more learners: --csv FILE has everyone", style="dim")
        )


def _grade_cells(marked: Marked, place: Standing) -> tuple[str, str, Text]:
    results = [result for result in marked.report.verdicts if result.lab == place.lab]
    counts = "  ".join(
        f"{sum(result.status is status for result in results)} {status.value}"
        for status in Status
        if any(result.status is status for result in results)
    )
    style = "magenta" if any(result.status is Status.ENV_ERROR for result in results) else ""
    counted = place.counted
    if counted is None:
        return "not graded", "", Text(_broken_words(marked) or counts, style=style)
    again = "" if marked.is_new else " (unchanged)"
    return (
        f"{counted.score:g}/{counted.possible:g}",
        f"{counted.attempt}{again}",
        _late(counted, counts, style),
    )


def _late(counted: LabGrade, counts: str, style: str) -> Text:
    if not counted.late_days:
        return Text(counts, style=style)
    days = f"{counted.late_days} day{'s' if counted.late_days != 1 else ''} late"
    return Text.assemble((counts, style), f"  {days}: {counted.score:g} of {counted.earned:g} count")


def _broken_words(marked: Marked) -> str:
    broken = next((item for item in marked.report.verdicts if item.status is Status.ENV_ERROR), None)
    return f"environment: {broken.observed}" if broken else ""


def print_verification(found: Verification, console: Console) -> None:
    """Every sentence, those that speak against the Report in words and not only in colour."""
    for item in found.findings:
        word, style = ("NO", "bold red") if item.is_problem else ("ok", "green")
        if item.is_problem and item.subject == "environment":
            word, style = "?", "bold magenta"
        if not item.is_problem and item.subject in ("evidence", "course"):
            word, style = "note", "dim"
        console.print(Text.assemble((f"{word:<5}", style), item.text), soft_wrap=True)
    if found.recomputed is not None:
        words = f"{found.agreeing} of {len(found.report.verdicts)} verdicts are what the cluster says now"
        console.print(Text(words, style="bold"))
    console.print(Text(_conclusion(found), style="bold"))


def _conclusion(found: Verification) -> str:
    if found.exit_code == 0:
        return "Attested." if found.recomputed is None else "Attested, and the cluster agrees."
    if found.signer is None:
        return "Not attested."
    return (
        "Signed, but something speaks against it."
        if found.exit_code == 1
        else "Signed, not fully recomputed."
    )


def when(moment: datetime) -> str:
    """A time as instructors read it, in this machine's zone."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M")


def print_history(
    learner: str,
    attempts: Sequence[tuple[Attempt, datetime]],
    standings: Sequence[Standing],
    console: Console,
) -> None:
    """Every attempt in order, and below it what counts in each lab."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("attempt", "kind", "lab", "points", "handed in"):
        table.add_column(name, no_wrap=True)
    table.add_column("observed")
    for item, until in attempts:
        points = f"{item.report.earned:g}/{item.report.possible:g}"
        seen = when(item.graded_at) + (f", unchanged {when(until)}" if until > item.graded_at else "")
        row = (str(item.number), _kind(item), item.report.lab, points, when(item.submitted_at), seen)
        table.add_row(*row, style="dim" if item.kind == "claim" else "")
    console.print(table)
    if not attempts:
        console.print(f"{learner} has not been graded yet.")
    for place in standings:
        console.print(
            f"Lab {place.lab}: best {_short(place.best)}, latest {_short(place.latest)}, counts {_short(place.counted)}"
        )


def _kind(item: Attempt) -> str:
    if item.kind == "claim":
        return "claim"
    return "attested" if any(map(item.grades, item.report.lab.split(","))) else "not judged"


def _short(grade: LabGrade | None) -> str:
    if grade is None:
        return "none"
    return f"{grade.score:g}/{grade.possible:g} (attempt {grade.attempt})"
