"""The class's board in a real browser: who needs somebody, and the drill-down to what was observed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lab_page import PICTURES, free_port, open_page, served
from playwright.sync_api import Page, expect

from helpers.classroom.folder import ClassFolder, Member
from helpers.classroom.marking.observed import Observed
from helpers.classroom.roster import Learner
from helpers.cluster.fake import FakeCluster
from helpers.errors import ClusterUnreachable
from helpers.grading import Report, Status, grade
from helpers.grading.engine import environment_report
from helpers.labs.registry import load_lab

pytestmark = pytest.mark.browser

WHY_BROKEN = "the API server at https://198.18.4.2:6443 does not answer"


def look(passed: int, folder: Path) -> Report:
    """What a look sees of a learner who has done so many checks of lab 01, and fails the next."""
    nothing = grade([load_lab("01")], FakeCluster(), journals=folder)
    results = list(nothing.verdicts)
    for number, result in enumerate(results[: passed + 1]):
        done = number < passed
        status = Status.PASS if done else Status.FAIL
        words = "as it should be" if done else "a pod with two GPUs was admitted"
        earned = result.points if done else 0
        results[number] = replace(
            result, status=status, observed=words, earned=earned, expected="one at most"
        )
    return replace(nothing, verdicts=tuple(results))


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The board of a class of twenty that was looked at, served as the instructor serves it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COURSE_HOME", str(home))
        members = tuple(Member.new(Learner(f"s{n:02d}", f"Learner Number {n}", "")) for n in range(20))
        folder = replace(ClassFolder.at("class"), members=members).save()
        for number, member in enumerate(members):
            report = look(number % 15, folder.path) if number % 7 else nothing_there()
            at = datetime.now(UTC) - timedelta(minutes=3 * number)
            Observed(folder.path, member.key).take(replace(report, graded_at=at.isoformat()))
        port = free_port()
        command = [sys.executable, "-m", "helpers.cli", "class", "board", "--no-look", "--headless"]
        command += ["--labs", "01", "--port", str(port)]
        with served(command, port, home, env=dict(os.environ)) as url:
            yield url


def nothing_there() -> Report:
    return environment_report([load_lab("01")], ClusterUnreachable(WHY_BROKEN))


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=f"{PICTURES}/class-board-{name}.png", full_page=True)


def choose(page: Page, label: str, value: str) -> None:
    """Choose in a list that can be searched."""
    page.get_by_role("button").and_(page.get_by_label(label, exact=True)).click()
    page.keyboard.type(value)
    expect(page.locator("[role=option]", has_text=value)).to_have_count(1)
    page.keyboard.press("Enter")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_board_shows_everybody_and_drills_down(board: str, dark: bool) -> None:
    with open_page(board, dark=dark, shows="table") as page:
        checks = len(load_lab("01").checks)
        rows = page.locator("table.class-matrix tbody tr")
        expect(rows).to_have_count(20)
        expect(rows.first.locator("td")).to_have_count(2 + checks)
        expect(page.get_by_text(f"s07 environment broken: {WHY_BROKEN}")).to_be_visible()
        expect(page.locator("table.class-matrix td.stuck").first).to_be_visible()
        picture(page, "dark" if dark else "light")
        choose(page, "learner", "s08")
        expect(page.get_by_text("Learner Number 8")).to_be_visible()
        expect(
            page.locator(".verdict.is-FAIL").get_by_text("a pod with two GPUs was admitted")
        ).to_be_visible()
        choose(page, "check", "quota.brake")
        answers = page.locator("table.facts:not(.class-matrix)")
        expect(answers.get_by_role("columnheader", name="who")).to_be_visible()
        expect(answers.locator("tbody tr", has_text="FAIL").first).to_be_visible()
        picture(page, "dark-detail" if dark else "light-detail")
