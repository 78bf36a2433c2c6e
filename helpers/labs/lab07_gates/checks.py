"""Lab 07, gates and traces: a release is stopped by what it answers, and a trace says why an answer is what it is.

The checks of parts 1 to 4 are in `checks_gate`, of 5 to 7 in `checks_traces`, of 8 in `checks_loop`: importing
a module declares them, in the order in which the page has them.
"""

from __future__ import annotations

from importlib import import_module

from helpers.labs.lab07_gates.lab import lab

__all__ = ["lab"]

for _name in ("checks_gate", "checks_traces", "checks_loop"):
    import_module(f"{__package__}.{_name}")
