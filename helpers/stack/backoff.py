"""What a caller sees when a backend does not come back: one error, with its cause."""

from __future__ import annotations


class BackendUnavailable(RuntimeError):
    """The backend did not come back within the budget; `__cause__` is the last thing that was seen."""
