"""Reports in a terminal: words first, colour second, readable at 40 columns and without colour.

Each verdict speaks in the course's order: the word, expected and observed, why, the next command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from rich.console import Console
from rich.table import Table
from rich.text import Text

from helpers.grading.author import SOLUTION, START, Finding
from helpers.grading.declare import Lab
from helpers.grading.progress import LabProgress, next_lab
from helpers.grading.report import CheckResult, Report
from helpers.grading.verdict import Status
from helpers.terminal import typed

STYLES = {
    Status.PASS: "bold green",
    Status.PARTIAL: "bold yellow",
    Status.FAIL: "bold red",
    Status.NOT_ATTEMPTED: "bold blue",
    Status.BLOCKED: "dim",
    Status.ENV_ERROR: "bold magenta",
}
GPU_WORDS = {"simulated": "GPU simulated", "real": "GPU real", "none": "no GPU"}


def print_report(report: Report, console: Console, *, titles: dict[str, str], hints: bool = False) -> None:
    """Print every verdict, lab by lab, and what it adds up to."""
    for lab in dict.fromkeys(result.lab for result in report.verdicts):
        console.print(Text(f"Lab {lab}  {titles.get(lab, '')}".rstrip(), style="bold"))
        for result in report.verdicts:
            if result.lab == lab:
                print_result(result, console, hints=hints)
    console.print(summary(report))
    if report.exit_code == 1 and not hints and any(_has_hint(result) for result in report.verdicts):
        console.print(Text("Hints: add --hints", style="dim"))


def print_result(result: CheckResult, console: Console, *, hints: bool = False) -> None:
    """One verdict: a line when it passed or waits, its explanation when it fell short."""
    head = Text.assemble(
        (result.status.value, STYLES[result.status]),
        f"  {result.check}  ",
        (f"{result.earned:g}/{result.points:g}", "dim"),
        f"  {_line(result)}",
    )
    _print_indented(console, head, "  ", 4)
    for name, text in _explanation(result, hints=hints):
        _print_indented(console, Text(text), f"      {name:<{_LABEL}}", 6 + _LABEL)


_LABEL = 10


def _line(result: CheckResult) -> str:
    return result.observed if result.status is Status.BLOCKED else result.criterion


def _print_indented(console: Console, text: Text, first: str, rest: int) -> None:
    """Wrap a text under itself; on a screen too narrow for that, let it run over the full width."""
    width = console.width - rest
    if width < 20:
        console.print(Text(first.strip() + " ") + text, overflow="fold")
        return
    for number, line in enumerate(text.wrap(console, width, overflow="fold")):
        line.rstrip()
        console.print(Text(first if number == 0 else " " * rest, style="dim") + line, soft_wrap=True)


def _explanation(result: CheckResult, *, hints: bool) -> list[tuple[str, str]]:
    if result.status in (Status.PASS, Status.BLOCKED):
        return []
    rows = [("expected", result.expected), ("observed", result.observed), ("why", result.why)]
    if hints and _has_hint(result):
        rows.append(("hint", result.hint))
    rows.append(("next", typed(result.next)))
    return [(name, text) for name, text in rows if text]


def _has_hint(result: CheckResult) -> bool:
    silent = (Status.PASS, Status.BLOCKED, Status.ENV_ERROR)
    return bool(result.hint) and result.status not in silent


def summary(report: Report) -> Text:
    """Points, verdicts by word; which cluster, which GPU, how long."""
    counts = ", ".join(f"{number} {status}" for status, number in report.counts.items())
    cluster = report.cluster
    pending = f"{report.standing} ({report.pending.points:g} more points)\n" if report.pending else ""
    place = "the cluster did not answer"
    if cluster.uid:
        gpu = GPU_WORDS.get(cluster.gpu or "", str(cluster.gpu))
        place = f"{cluster.profile} cluster {cluster.server_version}, {gpu}"
    return Text.assemble(
        (f"{report.earned:g} of {report.possible:g} points", "bold"),
        f"  {counts}\n",
        pending,
        (f"{place}, {report.duration_s:.1f} s", "dim"),
    )


def print_proofs(findings: Sequence[Finding], console: Console, *, observed: bool = False) -> None:
    """The author's table, a row a state and a column a setting; below it what is wrong, or all that was observed."""
    console.print(proof_table(findings))
    for finding in findings:
        if finding.problem or observed:
            _print_finding(finding, console)


def proof_table(findings: Sequence[Finding]) -> Table:
    """Whether every check judged each state rightly, in each setting; a dash where the state cannot be there."""
    settings = list(dict.fromkeys(finding.setting for finding in findings))
    table = Table("state", "checks", *settings, box=None, pad_edge=False, header_style="bold")
    for state in dict.fromkeys(finding.state for finding in findings):
        here = [finding for finding in findings if finding.state == state]
        checks = list(dict.fromkeys(finding.check for finding in here))
        named = f"all {len(checks)}" if state in (START, SOLUTION) else ", ".join(checks)
        cells = [_cell([finding for finding in here if finding.setting == setting]) for setting in settings]
        table.add_row(Text(state), Text(named), *cells)
    return table


def _cell(findings: Sequence[Finding]) -> Text:
    if not findings:
        return Text("–", style="dim")
    wrong = any(finding.problem for finding in findings)
    return Text("WRONG", style="bold red") if wrong else Text("ok", style="green")


def _print_finding(finding: Finding, console: Console) -> None:
    word, style = ("WRONG", "bold red") if finding.problem else ("ok", "green")
    line = Text.assemble(
        (f"{word:<7}", style),
        f"{finding.setting}, {finding.state}: {finding.check} ",
        (finding.status.value, STYLES[finding.status]),
        f"  {finding.observed}",
        (f"  ({finding.problem})" if finding.problem else "", "bold red"),
    )
    _print_indented(console, line, "", 7)


def print_progress(labs: Mapping[str, LabProgress], known: Sequence[Lab], console: Console) -> None:
    """One line for each lab, and the next command."""
    for lab in known:
        line = Text.assemble((f"Lab {lab.id}  {lab.title}", "bold"), f"  {_standing(labs.get(lab.id), lab)}")
        _print_indented(console, line, "", 4)
    following = next_lab(labs, [lab.id for lab in known])
    if following is None:
        console.print("Every lab is done.")
        return
    command = f"course open {following}" if following in labs else f"course start {following}"
    console.print(Text(typed(f"Next: {command}")))


def _standing(progress: LabProgress | None, lab: Lab) -> str:
    if progress is None:
        return "not started"
    if progress.done_at is None:
        return f"{len(progress.passed)} of {len(lab.checks)} checks passed so far, begun {day(progress.started_at)}"
    where = GPU_WORDS.get(progress.gpu or "", str(progress.gpu))
    return f"done {day(progress.done_at)}, {span(progress.took)} after it was begun ({where})"


def day(stamp: str) -> str:
    """A moment as this machine's clock shows it."""
    return datetime.fromisoformat(stamp).astimezone().strftime("%Y-%m-%d %H:%M")


def span(took: timedelta | None) -> str:
    """A time that passed, in days, hours and minutes."""
    minutes = round(took.total_seconds() / 60) if took else 0
    hours, rest = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{rest} min" if rest else ""]
    return " ".join(part for part in parts if part) or "less than a minute"
