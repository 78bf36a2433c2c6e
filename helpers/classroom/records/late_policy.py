"""When work counts, and how much: due dates, penalties, cut-offs, and which attempt is taken.

The class folder's `policy.toml` is written by `course class policy` and can be edited by hand:

    count = "best"            # or "latest"

    [labs.01]
    due = 2026-12-01T23:59:00+01:00
    grace_minutes = 10        # not late within it; past it, lateness counts from the due date
    penalty_per_day = 10      # percent of what was earned, for each day begun
    cutoff = 2026-12-08T23:59:00+01:00

Nothing here is kept in attempts: a policy that changes changes every grade that is shown from then on.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

from helpers.atomic_file import write_atomically
from helpers.errors import LabError

Count = Literal["best", "latest"]
_DAY = timedelta(days=1)
_TIMES, _NUMBERS = ("due", "cutoff"), ("grace_minutes", "penalty_per_day")


class PolicyInvalid(LabError):
    """The late policy cannot be followed as it is written."""


@dataclass(frozen=True)
class LabPolicy:
    """One lab's dates. Times know their zone; `penalty_per_day` is in percent of what was earned."""

    due: datetime | None = None
    cutoff: datetime | None = None
    grace_minutes: float = 0.0
    penalty_per_day: float = 0.0

    def late_days(self, submitted_at: datetime) -> int:
        """Days begun after the due date; 0 on time, or within the grace."""
        if self.due is None or submitted_at <= self.due + timedelta(minutes=self.grace_minutes):
            return 0
        return math.ceil((submitted_at - self.due) / _DAY)

    def share(self, submitted_at: datetime) -> float:
        """How much of what was earned counts, 0 to 1."""
        if self.cutoff is not None and submitted_at > self.cutoff:
            return 0.0
        return max(0.0, 1 - self.late_days(submitted_at) * self.penalty_per_day / 100)


@dataclass(frozen=True)
class Policy:
    """The class's policy: which attempt counts, and each lab's dates."""

    count: Count = "best"
    labs: Mapping[str, LabPolicy] = field(default_factory=dict)

    def of(self, lab: str) -> LabPolicy:
        """The lab's dates; none of them is set where the policy does not name the lab."""
        return self.labs.get(lab, LabPolicy())

    def with_lab(self, lab: str, dates: LabPolicy) -> Policy:
        """The policy with other dates for one lab."""
        return replace(self, labs={**self.labs, lab: dates})


def load_policy(path: Path) -> Policy:
    """Read `policy.toml`; without one every attempt counts in full and the best is taken.

    Raises:
        PolicyInvalid: not TOML, an unknown word, a time without a zone, a number out of range.
    """
    try:
        tree = tomllib.loads(path.read_text())
    except FileNotFoundError:
        return Policy()
    except (OSError, ValueError) as problem:
        raise PolicyInvalid(f"{path} cannot be read: {problem}") from problem
    strangers = sorted(set(tree) - {"count", "labs"})
    if strangers:
        raise PolicyInvalid(f"{path}: {strangers[0]!r} is neither count nor labs")
    count = tree.get("count", "best")
    if count not in get_args(Count):
        raise PolicyInvalid(f'{path}: count is "best" or "latest", not {count!r}')
    labs = tree.get("labs", {})
    if not isinstance(labs, dict):
        raise PolicyInvalid(f"{path}: labs must be tables such as [labs.01]")
    return Policy(count, {lab: _dates(path, lab, table) for lab, table in labs.items()})


def save_policy(path: Path, policy: Policy) -> None:
    """Write the policy in one step."""
    lines = [f'count = "{policy.count}"']
    for lab, dates in sorted(policy.labs.items()):
        lines += ["", f'[labs."{lab}"]']
        for name in _TIMES:
            moment = getattr(dates, name)
            lines += [f"{name} = {moment.isoformat()}"] if moment else []
        lines += [f"{name} = {getattr(dates, name):g}" for name in _NUMBERS if getattr(dates, name)]
    write_atomically(path, "\n".join(lines) + "\n")


def moment(text: str) -> datetime:
    """A time as an instructor writes it; without a zone it is this machine's.

    Raises:
        PolicyInvalid: not a time in ISO 8601.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as problem:
        raise PolicyInvalid(f"{text!r} is no time: write it as 2026-12-01T23:59 or with +01:00") from problem


def _dates(path: Path, lab: str, table: Any) -> LabPolicy:
    where = f"{path}, lab {lab}"
    if not isinstance(table, dict):
        raise PolicyInvalid(f"{where}: must be a table")
    strangers = sorted(set(table) - {*_TIMES, *_NUMBERS})
    if strangers:
        raise PolicyInvalid(f"{where}: {strangers[0]!r} is none of {', '.join((*_TIMES, *_NUMBERS))}")
    for name in _TIMES:
        value = table.get(name)
        if value is not None and not (isinstance(value, datetime) and value.tzinfo):
            raise PolicyInvalid(
                f"{where}: {name} needs a time with its zone, such as 2026-12-01T23:59:00+01:00"
            )
    for name in _NUMBERS:
        value = table.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise PolicyInvalid(f"{where}: {name} must be a number that is not negative")
    dates = LabPolicy(**table)
    if dates.due and dates.cutoff and dates.cutoff < dates.due:
        raise PolicyInvalid(f"{where}: the cut-off is before the due date")
    return dates
