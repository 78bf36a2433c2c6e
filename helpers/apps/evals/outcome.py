"""How a run ends: passed, or by whose fault it did not. A gate that cannot look has not passed.

0  pass            every bound holds
1  quality         the release answers, and answers worse than it may
2  infrastructure  the target, or something behind it, did not answer: nothing is known of the release
3  configuration   rows, metrics, bounds or baseline cannot be used: nobody was asked
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXIT_CODES: Mapping[str, int] = {"pass": 0, "quality": 1, "infrastructure": 2, "configuration": 3}
# The kubelet keeps 4,096 bytes of a termination message.
MOST_BYTES = 3500
TERMINATION_LOG = "/dev/termination-log"


class EvalsError(Exception):
    """A run that ends without a verdict on quality."""

    verdict = "configuration"

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]


class ConfigurationWrong(EvalsError):
    """Rows, metrics, bounds or baseline cannot be used; one sentence says which and why."""

    verdict = "configuration"


class InfrastructureFailed(EvalsError):
    """Who should have answered did not; the release is neither good nor bad."""

    verdict = "infrastructure"


@dataclass(frozen=True)
class Outcome:
    """What a gate found.

    Args:
        failed: the bounds that did not hold, as `retrieval_hit floor` or `regression r-17 retrieval_hit`.
        scores: by metric: mean, standard deviation, number of rows.
        pins: what was asked, and with what.
        message: one line for people.
    """

    verdict: str
    message: str
    failed: Sequence[str] = ()
    scores: Mapping[str, tuple[float, float, int]] = field(default_factory=dict)
    pins: Mapping[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.verdict]

    def text(self) -> str:
        """JSON that fits a termination message."""
        body: dict[str, Any] = {
            "verdict": self.verdict,
            "message": self.message[:400],
            "failed": list(self.failed)[:20],
            "scores": {
                name: [round(mean, 4), round(deviation, 4), count]
                for name, (mean, deviation, count) in self.scores.items()
            },
            "pins": dict(self.pins),
        }
        text = json.dumps(body, separators=(",", ":"))
        if len(text.encode()) > MOST_BYTES:
            text = json.dumps(body | {"pins": {}, "failed": body["failed"][:5]}, separators=(",", ":"))
        return text

    @classmethod
    def of(cls, error: EvalsError) -> Outcome:
        """The end of a run that could not judge."""
        return cls(error.verdict, str(error))


def leave(outcome: Outcome) -> None:
    """The outcome where the kubelet reads it; elsewhere there is no such file, and nothing is written."""
    path = Path(os.environ.get("TERMINATION_LOG", TERMINATION_LOG))
    if path.exists():
        path.write_text(outcome.text())
