"""Hints that come one step at a time: each one opens the next, nothing is remembered.

The first one begins with what the learner has: the value that a check saw, or that stands in the cell above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import marimo as mo
from markupsafe import Markup

from helpers.notebook.html import course, inline
from helpers.notebook.session import LabSession, of_report

if TYPE_CHECKING:
    from helpers.grading import CheckResult

_WRONG = ("FAIL", "PARTIAL")


def hints(*steps: str, solution: str = "", yours: str = "") -> mo.Html:
    """Folded hints, from a nudge to the way.

    Args:
        solution: where the solved notebook is, last of all.
        yours: what is wrong in what the learner has, with its value; the first hint begins with it.
    """
    body = Markup()
    texts = [*steps, *([solution] if solution else [])]
    for number, text in reversed(list(enumerate(texts, start=1))):
        title = "Hint" if len(texts) == 1 else f"Hint {number} of {len(texts)}"
        # Always there, so that a hint that is open stays open when the value changes.
        own = Markup('<div class="yours">{}</div>').format(inline(yours)) if number == 1 else ""
        body = Markup("<details><summary>{}</summary><div>{}{}{}</div></details>").format(
            title, own, inline(text), body
        )
    return course(body)


@of_report
def task_hints(lab: LabSession, task: str, *steps: str, solution: str = "") -> mo.Html:
    """The hints of one task: the first begins with what its checks saw that is wrong."""
    live = lab.report
    measured = [result for result in live.task(task) if live.is_measured(result.check)]
    wrong = [result for result in measured if result.status.value in _WRONG]
    return hints(*steps, solution=solution, yours=" ".join(map(_seen, wrong)))


def _seen(result: CheckResult) -> str:
    return f"Yours: {result.observed}; expected: {result.expected}."
