"""What a page sees of the cluster: it looks again and again, and redraws only what has changed.

Running a cell again costs a browser far more than its output is worth: every editor of the page is measured
anew. So no panel runs again because time has passed. Each look wakes the panels that follow it, one thread
a panel; they draw, and send what they drew only where it differs from what the page shows.

A page that opens does not wait for its first look: every panel shows at once what is known, and the rest as
the answers come. What was observed before the page changed the cluster is being measured again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import marimo as mo

from helpers.errors import LabError
from helpers.notebook.html import problem_card

if TYPE_CHECKING:
    from helpers.grading import CheckResult, Report
    from helpers.stack.images import Bringing

# How long a panel that nobody wakes may take to notice that its cell has run again.
_REST_S = 30.0
# No count of wake-ups: a panel with this one draws at once.
_NEVER = -1

Told = Callable[["CheckResult"], None]


@dataclass(frozen=True)
class LiveReport:
    """One grading run for a page: a Report, or the reason why there is none.

    `measured` are the verdicts that have come since the cluster was changed; None once all of them have.
    """

    report: Report | None = None
    problem: LabError | None = None
    connected: bool = True
    images: Bringing | None = None
    measured: Mapping[str, CheckResult] | None = None

    def task(self, task: str) -> list[CheckResult]:
        """The latest verdicts of one task, in the lab's order."""
        return [result for result in self.latest if result.task == task]

    @property
    def latest(self) -> list[CheckResult]:
        """Each check's latest verdict, which may be older than the last change."""
        seen = {result.check: result for result in self.report.verdicts} if self.report else {}
        return list({**seen, **(self.measured or {})}.values())

    @property
    def is_known(self) -> bool:
        """Whether there are verdicts to show, or will be soon."""
        return self.connected and (self.report is not None or self.measured is not None)

    def is_measured(self, check: str) -> bool:
        """Whether this check's verdict is no older than the last change."""
        return self.measured is None or check in self.measured

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


class _Beat:
    """Wakes the panels that wait for one kind of news; they draw one at a time."""

    def __init__(self) -> None:
        self.count = 0
        self.turn = threading.Lock()
        self._struck = threading.Condition()

    def strike(self) -> None:
        with self._struck:
            self.count += 1
            self._struck.notify_all()

    def next(self, count: int) -> int:
        """The count once it is not this one; the same one after a while."""
        with self._struck:
            self._struck.wait_for(lambda: self.count != count, timeout=_REST_S)
            return self.count


class Looks:
    """The looks of one page: what the latest one saw, and the panels that wait for the next.

    Args:
        grade: looks at the cluster, and tells of each verdict as it comes.
    """

    def __init__(self, grade: Callable[[Told], LiveReport]) -> None:
        self._grade = grade
        self._report: LiveReport | None = None
        self._measured: Mapping[str, CheckResult] = {}
        self._changes = self._seen_changes = 0
        self._under_way: int | None = None
        self._first = threading.Lock()
        self._grading = threading.Lock()
        # A look asks the cluster no faster than one panel at a time; words of a verdict need not wait for that.
        self._looked, self._told = _Beat(), _Beat()

    @property
    def report(self) -> LiveReport:
        """What is known: on a page at once, however little that is; elsewhere whoever asks first looks."""
        if self._is_old and not mo.running_in_notebook():
            self.look()
        if self._report is None or self._is_old:
            return replace(self._report or LiveReport(), measured=self._measured)
        return self._report

    @property
    def _is_old(self) -> bool:
        return self._report is None or self._seen_changes < self._changes

    @property
    def is_first(self) -> bool:
        """Whether nothing has been seen yet."""
        return self._report is None

    def changed(self) -> None:
        """The page changes the cluster: what was seen until now is being measured again."""
        self._measured = {}
        self._changes += 1
        self._told.strike()

    def look(self) -> None:
        """Look now, and wake every panel that follows; a look that began since the last change is enough."""
        if self._under_way == self._changes:
            return
        with self._grading:
            self._under_way = began = self._changes
            try:
                seen = self._grade(lambda result: self._tell(result, began))
            finally:
                self._under_way = None
            if self._report is None or not seen.says_the_same(self._report):
                self._report = seen
            self._seen_changes = began
        self._told.strike()
        self._looked.strike()

    def _tell(self, result: CheckResult, began: int) -> None:
        if began == self._changes and self._is_old:
            self._measured = {**self._measured, result.check: result}
            self._told.strike()

    def follow(
        self, draw: Callable[[], Any], *, first: Callable[[], Any] | None = None, of_report: bool = False
    ) -> Any:
        """What `draw` gives now, and on a page again after each look: as the output of the cell that runs.

        Args:
            first: what is known before the first look; in place of `draw` until the page is open.
            of_report: it asks the cluster nothing, and follows each verdict.
        """
        if not mo.running_in_notebook():
            return draw()
        self._begin()
        beat = self._told if of_report else self._looked
        count = beat.count
        if first is not None and not of_report and self.is_first:
            drawn, count = first(), _NEVER
        else:
            drawn = draw()
        # Sent from here and not returned: what the cell returns is sent last, after what the thread has drawn.
        mo.output.replace(drawn)
        shown = mo.as_html(drawn).text
        mo.Thread(target=self._redraw, args=(draw, shown, beat, count), daemon=True).start()
        return None

    def _begin(self) -> None:
        """The first look of a page, beside its cells: nobody waits for it."""
        if self.is_first and self._first.acquire(blocking=False):
            threading.Thread(target=self.look, daemon=True).start()

    def _redraw(self, draw: Callable[[], Any], shown: str, beat: _Beat, count: int) -> None:
        """Until the cell runs again; one panel draws at a time, so that a look asks the cluster no faster."""
        thread = mo.current_thread()
        while not thread.should_exit:
            seen, count = count, beat.next(count)
            with beat.turn:
                if thread.should_exit or seen == count:
                    continue
                drawn = _drawn(draw)
            text = mo.as_html(drawn).text
            if text != shown and not thread.should_exit:
                shown = text
                mo.output.replace(drawn)


def _drawn(draw: Callable[[], Any]) -> Any:
    """What `draw` gives; a panel that fails beside its cell says so, for no traceback is shown there."""
    try:
        return draw()
    except Exception as fault:  # noqa: BLE001 - a thread's last words
        return problem_card(f"{type(fault).__name__}: {fault}", title="This part cannot be drawn.")
