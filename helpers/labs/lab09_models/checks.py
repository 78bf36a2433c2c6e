"""Lab 09, models as data: one model staged in four ways, its versions by digest, and a controller that serves them.

The checks of parts 1 to 5 are in `checks_staging`, of 6 and 7 in `checks_versions`, of the rest in
`checks_controller`: importing a module declares them, in the order in which the page has them.
"""

from __future__ import annotations

from importlib import import_module

from helpers.labs.lab09_models.lab import lab

__all__ = ["lab"]

for _name in ("checks_staging", "checks_versions", "checks_controller"):
    import_module(f"{__package__}.{_name}")
