"""Witnesses on a lab's page: buttons that run one beside the page, and what its record says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import marimo as mo
from markupsafe import Markup

from helpers.errors import LabError
from helpers.labs.witnessing import Book, NoRecord
from helpers.notebook.html import course, inline, note, problem_card, word
from helpers.notebook.panel import apply_button
from helpers.notebook.session import LabSession, waiting_card

if TYPE_CHECKING:
    from helpers.cluster import Cluster
    from helpers.progress import Progress

# What runs beside the page: it is given the cluster, whom it tells, and whether it is to stop.
Work = Callable[["Cluster", "Progress", Callable[[], bool]], object]
_BUSY = ("open", "running")


def run_or_stop(label: str) -> Any:
    """The two buttons of what runs beside the page."""
    return mo.ui.dictionary({"run": apply_button(label), "stop": apply_button("Stop", kind="neutral")})


def beside_the_page(
    lab: LabSession, buttons: Any, work: Work, outcome: Callable[[], mo.Html], *, failed: str
) -> Any:
    """Two buttons that start and stop a long piece of work, and below them what it says, or how it ended.

    Args:
        outcome: what is shown when nothing runs.
        failed: the title of the card where it did not finish.
    """
    if lab.cluster is None:
        return waiting_card(lab)
    asked = lab.asked(buttons["run"], by_hand=True)
    return in_the_background(lab, list(buttons.values()), work if asked else None, outcome, failed=failed)


def in_the_background(
    lab: LabSession,
    buttons: Sequence[Any],
    work: Work | None,
    outcome: Callable[[], mo.Html],
    *,
    failed: str,
) -> Any:
    """The same for any row of buttons: `work` is what one of them has started, None where none was pressed."""
    row = mo.hstack(list(buttons), justify="start")
    if work is not None:
        mo.Thread(target=_run, args=(lab, row, work, outcome, failed)).start()
        return mo.vstack([row, course(word("open", "starting"), live=True)], gap=0.5)
    return mo.vstack([row, outcome()], gap=0.5)


def _run(lab: LabSession, row: Any, work: Work, outcome: Callable[[], mo.Html], failed: str) -> None:
    thread = mo.current_thread()
    said = [""]

    def show(line: str) -> None:
        if line != said[0]:
            said[0] = line
            shown = Markup("{} {}").format(word(*_BUSY), inline(line))
            mo.output.replace(mo.vstack([row, course(shown, live=True)], gap=0.5))

    assert lab.cluster is not None
    try:
        work(lab.cluster, show, lambda: bool(thread.should_exit))
    except LabError as problem:
        card = problem_card(str(problem), problem.next_command, title=failed)
        mo.output.replace(mo.vstack([row, card], gap=0.5))
        return
    lab.changed()
    mo.output.replace(mo.vstack([row, outcome()], gap=0.5))


@dataclass(frozen=True)
class Panels:
    """One lab's witnesses: where their records are, and what runs one.

    Args:
        run: `run(cluster, name, on_progress=, should_stop=)`.
    """

    book: Book
    run: Callable[..., Any]

    def panel(self, lab: LabSession, name: str, buttons: Any) -> Any:
        """Buttons that run a witness in the background, and what its record says."""

        def work(cluster: Cluster, say: Progress, should_stop: Callable[[], bool]) -> object:
            return self.run(cluster, name, on_progress=say, should_stop=should_stop)

        failed = f"The witness {name} did not finish."
        return beside_the_page(lab, buttons, work, lambda: self._outcome(lab, name), failed=failed)

    def _outcome(self, lab: LabSession, name: str) -> mo.Html:
        """What the newest record says, in one line; the board judges it."""
        assert lab.cluster is not None
        about = self.book.witnesses[name]
        command = f"course witness {name}"
        try:
            found = self.book.record(lab.cluster.view(), name)
        except NoRecord as missing:
            said = str(missing)
            return note(
                f"{said[:1].upper()}{said[1:]}. It shows {about.shows}, and takes about {about.seconds} s. "
                f"In a terminal: `{command}`"
            )
        except LabError as problem:
            return problem_card(str(problem), problem.next_command)
        if found.error:
            return problem_card(found.error, command, title="The service could not be asked.")
        shown = Markup("{} {}").format(word("PASS", "seen"), inline(f"{about.shows}; judged below."))
        return course(shown, live=True)

    def seen(self, cluster: Cluster, name: str) -> Mapping[str, Any]:
        """What a witness saw; empty where it has no record that counts."""
        try:
            return self.book.record(cluster.view(), name).seen
        except NoRecord:
            return {}
