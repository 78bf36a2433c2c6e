"""Who is where: states from verdicts and time, a matrix for twenty and a summary for two hundred."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from helpers.classroom.board.status import LabStatus, State, class_status, to_csv, to_dict
from helpers.classroom.commands.tables import print_status
from helpers.classroom.folder import Member
from helpers.classroom.marking.observed import Observed
from helpers.classroom.roster import Learner
from helpers.evidence import Evidence
from helpers.grading import Lab
from helpers.grading.declare import Check
from helpers.grading.report import Binding, CheckResult, ClusterFacts, CourseVersion, Report
from helpers.grading.verdict import Status, Verdict
from tests.unit.class_world import Room, room

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
WORDS = {
    "P": Status.PASS,
    "H": Status.PARTIAL,
    "F": Status.FAIL,
    "N": Status.NOT_ATTEMPTED,
    "B": Status.BLOCKED,
    "E": Status.ENV_ERROR,
}


def lab_of(size: int) -> Lab:
    lab = Lab("01", "Substrate")
    for number in range(size):

        def look(cluster: object) -> Verdict:
            """It holds."""
            return Verdict(Status.PASS)

        lab.check(f"part.check{number}")(look)
    return lab


def report(statuses: str, minutes_ago: float, *, kind: str = "Pod", scope: str = "") -> Report:
    """A Report with one verdict for each letter."""
    results = [
        CheckResult.of(
            Check(f"part.check{number}", "01", lambda cluster: Verdict(Status.PASS), "It holds."),
            Verdict(
                WORDS[letter], "so", f"seen {letter}", evidence=(Evidence(kind, "x", "llm-apps", "u", "1"),)
            ),
            0.1,
        )
        for number, letter in enumerate(statuses)
    ]
    at = (NOW - timedelta(minutes=minutes_ago)).isoformat()
    facts = ClusterFacts("uid", "v1.36.3", "embedded", "simulated")
    whole = Report("01", facts, at, 0.1, tuple(results), CourseVersion("0.1.0"))
    return replace(whole, binding=Binding("class", "x", "n", scope)) if scope else whole


def seen(folder: Room, learner: str, *looks: Report) -> None:
    for look in looks:
        Observed(folder.path, folder.member(learner).key).take(look)


def status(folder: Room, size: int, **options: float) -> LabStatus:
    (found,) = class_status(folder, folder.active, [lab_of(size)], now=NOW, **options)
    return found


@pytest.mark.parametrize(
    ("looks", "state"),
    [
        (["PPP", 1], State.PASSED),
        (["NBB", 90], State.NOT_STARTED),
        (["PFB", 14], State.WORKING),
        (["PFB", 16], State.STUCK),
        (["PHN", 16], State.STUCK),
        (["PNB", 90], State.WORKING),
        (["PEB", 90], State.BROKEN),
        (["EEE", 1], State.BROKEN),
    ],
)
def test_a_learners_state_follows_from_verdicts_and_time(
    tmp_path: Path, looks: tuple[str, float], state: State
) -> None:
    folder = room(tmp_path, "ada")
    seen(folder, "ada", report(*looks))
    assert status(folder, 3).learners[0].state is state


def test_nobody_has_looked_yet(tmp_path: Path) -> None:
    assert status(room(tmp_path, "ada"), 3).states == {State.UNSEEN: 1}


def test_stuck_counts_from_the_first_look_that_saw_it_fail(tmp_path: Path) -> None:
    folder = room(tmp_path, "ada")
    seen(folder, "ada", report("PF", 40), report("PF", 20), report("PF", 1))
    (ada,) = status(folder, 2).learners
    assert ada.state is State.STUCK and ada.stuck_on == ("part.check1",) and round(ada.failing_minutes) == 40


def test_another_verdict_starts_the_clock_anew(tmp_path: Path) -> None:
    folder = room(tmp_path, "ada")
    seen(folder, "ada", report("PF", 40), report("PH", 5))
    assert status(folder, 2).learners[0].state is State.WORKING


def test_a_broken_environment_in_between_stops_no_clock(tmp_path: Path) -> None:
    folder = room(tmp_path, "ada")
    seen(folder, "ada", report("PF", 40), report("EE", 10))
    (ada,) = status(folder, 2).learners
    assert ada.state is State.BROKEN and ada.stuck_on == ("part.check1",) and ada.cause == "seen E"
    seen(folder, "ada", report("PF", 1))
    assert status(folder, 2).learners[0].state is State.STUCK


def test_what_the_instructor_gave_is_no_start(tmp_path: Path) -> None:
    folder = room(tmp_path, "ada", "lin")
    seen(folder, "ada", report("PNB", 5, kind="Namespace", scope="ada"))
    seen(folder, "lin", report("PNB", 5, kind="Namespace"))
    assert [item.state for item in status(folder, 3).learners] == [State.NOT_STARTED, State.WORKING]


def test_the_csv_has_a_row_for_everybody_and_a_column_for_every_check(tmp_path: Path) -> None:
    folder = room(tmp_path, "ada", "lin")
    seen(folder, "ada", report("PF", 20))
    ada, lin = csv.DictReader(io.StringIO(to_csv([status(folder, 2)])))
    assert (ada["state"], ada["part.check1"], ada["stuck_on"]) == ("stuck", "FAIL", "part.check1")
    assert (lin["state"], lin["part.check0"]) == ("not looked at", "")
    assert to_dict([status(folder, 2)])["labs"][0]["states"] == {"stuck": 1, "not looked at": 1}


def shown(labs: Sequence[LabStatus], width: int, **options: bool) -> list[str]:
    console = Console(width=width, file=io.StringIO(), highlight=False)
    print_status(labs, console, **options)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def crowd(tmp_path: Path, size: int) -> Room:
    folder = room(tmp_path)
    members = tuple(Member.new(Learner(f"learner-{n:03d}", f"Learner {n}", "")) for n in range(size))
    folder = replace(folder, members=members)
    patterns = ("P" * 14, "P" * 6 + "F" + "B" * 7, "N" + "B" * 13, "E" * 14)
    for number, member in enumerate(members):
        Observed(folder.path, member.key).take(report(patterns[number % 4], 30))
    return folder


def test_twenty_by_fourteen_is_a_matrix_that_fits_a_terminal(tmp_path: Path) -> None:
    lines = shown([status(crowd(tmp_path, 20), 14)], 100)
    rows = [line for line in lines if line.startswith("learner-")]
    assert len(rows) == 20 and max(map(len, lines)) <= 100
    assert "✗" in rows[1] and "stuck 30 min" in rows[1] and rows[0].count("✓") == 14
    assert any("✓ pass" in line for line in lines), "the signs are explained"


def test_two_hundred_are_summed_up_and_those_who_wait_are_named(tmp_path: Path) -> None:
    found = status(crowd(tmp_path, 200), 14)
    lines = shown([found], 100)
    assert len(lines) < 60 and max(map(len, lines)) <= 100
    assert any("50 stuck" in line for line in lines) and any("50 passed" in line for line in lines)
    assert any("part.check6" in line and "50/" in line for line in lines)
    assert sum(line.startswith("learner-") for line in shown([found], 100, everyone=True)) == 200
