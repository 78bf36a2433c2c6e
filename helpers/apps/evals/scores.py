"""Means with their spread, the baseline they are compared with, and what a gate makes of both."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from helpers.apps.evals.gatefile import Bound
from helpers.apps.evals.outcome import ConfigurationWrong

SCHEMA = "course.eval-baseline/v1"
FILE = "main.json"
# What a candidate must share with the baseline, in the words for where it does not.
SAME = {"model": "another model", "rows": "other rows"}
ROUNDING = 1e-9


@dataclass(frozen=True)
class Score:
    """A metric over rows: mean, standard deviation between rows, number of rows, and the mean of each run."""

    mean: float
    deviation: float
    count: int
    runs: tuple[float, ...] = ()

    @classmethod
    def of(cls, *runs: Sequence[float]) -> Score:
        """The score of one run or several over the same rows; each has at least one value."""
        values = [value for run in runs for value in run]
        mean = sum(values) / len(values)
        spread = sum((value - mean) ** 2 for value in values)
        deviation = math.sqrt(spread / (len(values) - 1)) if len(values) > 1 else 0.0
        return cls(mean, deviation, len(runs[0]), tuple(sum(run) / len(run) for run in runs))

    @property
    def standard_error(self) -> float:
        """How far the mean of other rows of the same kind would lie from this one."""
        return self.deviation / math.sqrt(self.count) if self.count else 0.0

    def told(self) -> tuple[float, float, int]:
        return self.mean, self.deviation, self.count


@dataclass(frozen=True)
class Baseline:
    """What the stable release scored when somebody looked, and with what it was measured."""

    pins: Mapping[str, Any]
    scores: Mapping[str, Score] = field(default_factory=dict)

    def text(self) -> str:
        """The file that is kept and reviewed."""
        scores = {
            name: {
                "mean": round(score.mean, 4),
                "deviation": round(score.deviation, 4),
                "count": score.count,
                "runs": [round(mean, 4) for mean in score.runs],
            }
            for name, score in self.scores.items()
        }
        return json.dumps({"schema": SCHEMA, "pins": dict(self.pins), "scores": scores}, indent=1) + "\n"

    @classmethod
    def read(cls, text: str) -> Baseline:
        """What the file says.

        Raises:
            ConfigurationWrong: it is no baseline.
        """
        try:
            raw = json.loads(text)
            if raw["schema"] != SCHEMA:
                raise ValueError(f"its schema is {raw['schema']!r}, not {SCHEMA!r}")
            scores = {name: _score(name, item) for name, item in raw["scores"].items()}
            return cls(dict(raw["pins"]), scores)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigurationWrong(f"baseline unreadable: {type(error).__name__}: {error}") from error


def _score(name: str, raw: Mapping[str, Any]) -> Score:
    mean, deviation, count = float(raw["mean"]), float(raw["deviation"]), int(raw["count"])
    if not (math.isfinite(mean) and math.isfinite(deviation)) or deviation < 0 or count < 1:
        raise ValueError(f"{name} has mean {mean}, deviation {deviation}, count {count}")
    return Score(mean, deviation, count, tuple(float(item) for item in raw.get("runs") or ()))


def check_pins(baseline: Baseline, pins: Mapping[str, Any]) -> None:
    """A baseline says something of a candidate with the same model and the same rows, and of no other.

    Raises:
        ConfigurationWrong: this candidate is another.
    """
    for name, words in SAME.items():
        there, here = baseline.pins.get(name), pins.get(name)
        if there != here:
            raise ConfigurationWrong(
                f"baseline of {words}: it was measured with {name} {there!r}, and this is {here!r}"
            )


def failures(
    scores: Mapping[str, Score], bounds: Mapping[str, Bound], baseline: Baseline | None
) -> list[str]:
    """The bounds that do not hold: `metric floor`, `metric drop`, `metric ceiling`.

    Raises:
        ConfigurationWrong: a bound is on a metric that no row has, or that the baseline lacks.
    """
    found = []
    for name, bound in bounds.items():
        score = scores.get(name)
        if score is None:
            raise ConfigurationWrong(f"no row says anything of the metric {name!r}")
        if bound.ceiling is not None and score.mean > bound.ceiling + ROUNDING:
            found.append(f"{name} ceiling")
        if bound.floor is not None and score.mean < bound.floor - ROUNDING:
            found.append(f"{name} floor")
        if bound.max_drop is not None and _drop(name, score, baseline) > bound.max_drop + ROUNDING:
            found.append(f"{name} drop")
    return found


def _drop(name: str, score: Score, baseline: Baseline | None) -> float:
    before = baseline.scores.get(name) if baseline else None
    if before is None:
        raise ConfigurationWrong(f"the baseline has no {name!r}: measure it again with this gate")
    return before.mean - score.mean
