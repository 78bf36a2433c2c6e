"""When work counts, and how much: due dates, penalties, cut-offs, and which attempt is taken.

The class folder's `policy.toml` is written by `course class policy` and can be edited by hand:

    count = "best"            # or "latest"
    time_zone = "Europe/Rome" # where the class is; this machine's unless it is said

    [labs.01]
    due = 2026-12-01T23:59:00+01:00
    grace_minutes = 10        # not late within it; past it, lateness counts from the due date
    penalty_per_day = 10      # percent of what was earned, for each day begun
    cutoff = 2026-12-08T23:59:00+01:00

A date without a time of day means the end of that day, in the class's time zone.
Nothing here is kept in attempts: a policy that changes changes every grade that is shown from then on.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from helpers.atomic_file import write_atomically
from helpers.errors import LabError

Count = Literal["best", "latest"]
_DAY = timedelta(days=1)
_END_OF_DAY = time(23, 59, 59)
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
    """The class's policy: which attempt counts, each lab's dates, and the class's time zone, as IANA names it."""

    count: Count = "best"
    labs: Mapping[str, LabPolicy] = field(default_factory=dict)
    time_zone: str = ""

    def of(self, lab: str) -> LabPolicy:
        """The lab's dates; none of them is set where the policy does not name the lab."""
        return self.labs.get(lab, LabPolicy())

    def with_lab(self, lab: str, dates: LabPolicy) -> Policy:
        """The policy with other dates for one lab.

        Raises:
            PolicyInvalid: the cut-off would be before the due date.
        """
        _require_order(f"lab {lab}", dates)
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
    strangers = sorted(set(tree) - {"count", "labs", "time_zone"})
    if strangers:
        raise PolicyInvalid(f"{path}: {strangers[0]!r} is neither count nor time_zone nor labs")
    count = tree.get("count", "best")
    if count not in get_args(Count):
        raise PolicyInvalid(f'{path}: count is "best" or "latest", not {count!r}')
    labs = tree.get("labs", {})
    if not isinstance(labs, dict):
        raise PolicyInvalid(f"{path}: labs must be tables such as [labs.01]")
    zone = tree.get("time_zone", "")
    zone_of(zone)
    return Policy(count, {lab: _dates(path, lab, table, zone) for lab, table in labs.items()}, zone)


def save_policy(path: Path, policy: Policy) -> None:
    """Write the policy in one step."""
    lines = [f'count = "{policy.count}"']
    lines += [f'time_zone = "{policy.time_zone}"'] if policy.time_zone else []
    for lab, dates in sorted(policy.labs.items()):
        lines += ["", f'[labs."{lab}"]']
        for name in _TIMES:
            moment = getattr(dates, name)
            lines += [f"{name} = {moment.isoformat()}"] if moment else []
        lines += [f"{name} = {getattr(dates, name):g}" for name in _NUMBERS if getattr(dates, name)]
    write_atomically(path, "\n".join(lines) + "\n")


def zone_of(name: Any) -> ZoneInfo | None:
    """The time zone with this name; this machine's, as None, for an empty one.

    Raises:
        PolicyInvalid: there is no such zone.
    """
    try:
        return ZoneInfo(name) if name else None
    except (KeyError, ValueError, OSError, TypeError) as problem:
        raise PolicyInvalid(f"{name!r} is not a time zone: write it as Europe/Rome") from problem


def is_date(text: str) -> bool:
    """Whether this is a day without a time of day."""
    try:
        date.fromisoformat(text.strip())
    except ValueError:
        return False
    return True


def moment(text: str, *, time_zone: str = "") -> datetime:
    """A time as an instructor writes it; a date alone is the end of that day.

    Args:
        time_zone: the class's, for what is written without one; this machine's unless given.

    Raises:
        PolicyInvalid: neither a date nor a time in ISO 8601, or an unknown zone.
    """
    try:
        if is_date(text):
            return _placed(date.fromisoformat(text.strip()), time_zone)
        return _placed(datetime.fromisoformat(text.strip()), time_zone)
    except (ValueError, OverflowError) as problem:
        raise PolicyInvalid(
            f"{text!r} is not a time: write it as 2026-12-01 (the end of that day), 2026-12-01T23:59, or with +01:00"
        ) from problem


def said(moment: datetime) -> str:
    """A time in words: the day, the time of day and the zone."""
    offset = moment.strftime("%z")
    name = moment.tzname() or ""
    zone = f"UTC{offset[:3]}:{offset[3:5]}" + (f" ({name})" if name.isalpha() and name != "UTC" else "")
    return f"{moment:%A, %Y-%m-%d %H:%M:%S} {zone}"


def _placed(value: date | datetime, time_zone: str) -> datetime:
    """The moment that a date (its end) or a time without a zone means where the class is."""
    known = value if isinstance(value, datetime) else datetime.combine(value, _END_OF_DAY)
    if known.tzinfo is None and time_zone:
        return known.replace(tzinfo=zone_of(time_zone))
    return known.astimezone()


def _dates(path: Path, lab: str, table: Any, time_zone: str) -> LabPolicy:
    where = f"{path}, lab {lab}"
    if not isinstance(table, dict):
        raise PolicyInvalid(f"{where}: must be a table")
    strangers = sorted(set(table) - {*_TIMES, *_NUMBERS})
    if strangers:
        raise PolicyInvalid(f"{where}: {strangers[0]!r} is not one of {', '.join((*_TIMES, *_NUMBERS))}")
    table = dict(table)
    for name in _TIMES:
        value = table.get(name)
        if value is None or (isinstance(value, datetime) and value.tzinfo):
            continue
        if not isinstance(value, date) or not time_zone:
            raise PolicyInvalid(
                f"{where}: {name} needs a time with its zone, such as 2026-12-01T23:59:00+01:00, "
                'or a day with time_zone = "Europe/Rome" at the top of the file'
            )
        table[name] = _placed(value, time_zone)
    for name in _NUMBERS:
        value = table.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise PolicyInvalid(f"{where}: {name} must be a number that is not negative")
    dates = LabPolicy(**table)
    _require_order(where, dates)
    return dates


def _require_order(where: str, dates: LabPolicy) -> None:
    if dates.due and dates.cutoff and dates.cutoff < dates.due:
        raise PolicyInvalid(f"{where}: the cut-off is before the due date")
