"""Grading: checks are declared, run by one engine, and reported the same everywhere.

    from helpers.grading import Lab, expect          # helpers/labs
    from helpers.grading import grade                # notebook, class, command line

Names load on first use: checks import this package while the engine imports the checks.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helpers.grading.declare import Check, DeclarationError, Lab
    from helpers.grading.engine import grade
    from helpers.grading.report import CheckResult, Report
    from helpers.grading.verdict import (
        Evidence,
        Status,
        Verdict,
        all_of,
        expect,
        expect_true,
        falls_short,
        not_attempted,
    )

_HOMES = {
    "Check": "declare",
    "DeclarationError": "declare",
    "Lab": "declare",
    "grade": "engine",
    "CheckResult": "report",
    "Report": "report",
    "Evidence": "verdict",
    "Status": "verdict",
    "Verdict": "verdict",
    "all_of": "verdict",
    "expect": "verdict",
    "expect_true": "verdict",
    "falls_short": "verdict",
    "not_attempted": "verdict",
}

__all__ = [
    "Check",
    "CheckResult",
    "DeclarationError",
    "Evidence",
    "Lab",
    "Report",
    "Status",
    "Verdict",
    "all_of",
    "expect",
    "expect_true",
    "falls_short",
    "grade",
    "not_attempted",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
