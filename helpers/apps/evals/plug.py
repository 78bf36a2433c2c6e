"""The learner's `metrics.py`: what each function is asked, what it may say, and how the file is read.

It is read as the orchestrator reads a decision: few builtins, few modules, a time limit, an example that is
tried, and one sentence for what is wrong. A gate with a broken metric has a broken configuration; nothing
stands in for it there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helpers.apps.evals.outcome import ConfigurationWrong
from helpers.apps.orchestrator.decisions import DecisionWrong, PlugPoint, answer_of, load

FILE = "metrics.py"


def _share(value: Any) -> str:
    """What is wrong with a score; empty when nothing is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"returned {value!r:.60}, not a number from 0 to 1"
    return "" if 0 <= value <= 1 else f"returned {value}, which is not from 0 to 1"


POINTS = (
    PlugPoint(
        FILE,
        "citation",
        ("answer", "contexts"),
        (("A quota counts requests [1].", ["A quota counts requests."]), ("", [])),
        _share,
    ),
    PlugPoint(FILE, "refusal", ("answer",), (("I do not know.",), ("",)), _share),
    PlugPoint(
        FILE,
        "retrieval_precision",
        ("found", "expected"),
        ((["quota-counts-requests", "mig-slices"], ["quota-counts-requests"]), ([], ["mig-slices"])),
        _share,
    ),
)
NAMES = tuple(point.name for point in POINTS)


def read(source: str) -> dict[str, Callable[..., float]]:
    """The functions of a `metrics.py`; those that it does not have are missing.

    Raises:
        DecisionWrong: it cannot be used, in one sentence.
    """
    there = tuple(point for point in POINTS if f"def {point.name}(" in source)
    found = load(FILE, source.encode(), there)
    return {point.name: _checked(point, found[point.name]) for point in there}


def _checked(point: PlugPoint, function: Callable[..., Any]) -> Callable[..., float]:
    def ask(*arguments: Any) -> float:
        try:
            return float(answer_of(point, function, arguments))
        except DecisionWrong as wrong:
            raise ConfigurationWrong(f"metric {point.name}: {wrong}") from wrong

    return ask
