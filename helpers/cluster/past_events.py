"""What a cluster still tells of the past: events for an hour, objects for as long as they stay.

A learner's own run keeps what it saw in a journal. Whoever grades later, from another machine and
with an empty journal, must judge by what is left for good.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# The default of kube-apiserver's --event-ttl.
EVENTS_KEPT = timedelta(hours=1)


def events_are_gone(happened: datetime | None, now: datetime | None = None) -> bool:
    """Whether the events of that moment have been forgotten: their absence says nothing then."""
    return happened is not None and (now or datetime.now(UTC)) - happened > EVENTS_KEPT
