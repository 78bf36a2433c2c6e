"""What a page sees of the cluster: it looks again and again, and redraws only what has changed.

Running a cell again costs a browser far more than its output is worth: every editor of the page is measured
anew. So no panel runs again because time has passed. Each look wakes the panels that follow it, one thread
a panel; they draw, and send what they drew only where it differs from what the page shows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import marimo as mo

from helpers.errors import LabError

if TYPE_CHECKING:
    from helpers.grading import CheckResult, Report
    from helpers.stack.images import Bringing

# How long a panel that nobody wakes may take to notice that its cell has run again.
_REST_S = 30.0


@dataclass(frozen=True)
class LiveReport:
    """One grading run for a page: a Report, or the reason why there is none."""

    report: Report | None = None
    problem: LabError | None = None
    connected: bool = True
    images: Bringing | None = None

    def task(self, task: str) -> list[CheckResult]:
        """The verdicts of one task, in the lab's order."""
        return [result for result in self.report.verdicts if result.task == task] if self.report else []

    def says_the_same(self, other: LiveReport) -> bool:
        """Whether a reader could not tell the two apart but for how long the grading took."""
        return self._said() == other._said()

    def _said(self) -> tuple[object, ...]:
        report = self.report
        verdicts = (
            [replace(item, duration_s=0.0, evidence=()) for item in report.verdicts] if report else None
        )
        problem = (str(self.problem), self.problem.next_command) if self.problem else None
        return verdicts, report and report.pending, problem, self.connected, self.images


class Looks:
    """The looks of one page: what the latest one saw, and the panels that wait for the next.

    Args:
        grade: looks at the cluster.
    """

    def __init__(self, grade: Callable[[], LiveReport]) -> None:
        self._grade = grade
        self._report: LiveReport | None = None
        self._count = 0
        self._grading = threading.Lock()
        self._drawing = threading.Lock()
        self._taken = threading.Condition()

    @property
    def report(self) -> LiveReport:
        """What was seen last; the first to ask looks."""
        with self._grading:
            if self._report is None:
                self._report = self._grade()
            return self._report

    def look(self) -> None:
        """Look now, and wake every panel that follows."""
        with self._grading:
            seen = self._grade()
            if self._report is None or not seen.says_the_same(self._report):
                self._report = seen
        with self._taken:
            self._count += 1
            self._taken.notify_all()

    def follow(self, draw: Callable[[], Any]) -> Any:
        """What `draw` gives now, and on a page again after each look: as the output of the cell that runs."""
        count = self._count
        drawn = draw()
        if mo.running_in_notebook():
            shown = mo.as_html(drawn).text
            mo.Thread(target=self._redraw, args=(draw, shown, count), daemon=True).start()
        return drawn

    def _redraw(self, draw: Callable[[], Any], shown: str, count: int) -> None:
        """Until the cell runs again; one panel draws at a time, so that a look asks the cluster no faster."""
        thread = mo.current_thread()
        while not thread.should_exit:
            seen, count = count, self._next(count)
            with self._drawing:
                if thread.should_exit or seen == count:
                    continue
                drawn = draw()
            text = mo.as_html(drawn).text
            if text != shown and not thread.should_exit:
                shown = text
                mo.output.replace(drawn)

    def _next(self, count: int) -> int:
        """The number of looks once there are more than `count`; the same number after a while."""
        with self._taken:
            self._taken.wait_for(lambda: self._count != count, timeout=_REST_S)
            return self._count
