"""Looking at a class without grading it: what is seen is shown, and adds no attempt."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from helpers.classroom.marking.marking import Progress, observer, places
from helpers.classroom.marking.observed import Observed
from helpers.classroom.marking.scheduler import JOBS, PER_SERVER, Scheduler
from helpers.errors import EnvironmentFault
from helpers.grading.engine import RUN_TIMEOUT_S, environment_report

if TYPE_CHECKING:
    from helpers.classroom.folder import ClassFolder, Member
    from helpers.grading.declare import Lab


def look_at(
    folder: ClassFolder,
    members: Sequence[Member],
    labs: Sequence[Lab],
    *,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Look at every member once and keep what was seen.

    False when somebody else is looking now, on the board or in another terminal: two would only
    double the load, and both would show the same.
    """
    folder.path.joinpath("observed").mkdir(parents=True, exist_ok=True)
    with (folder.path / "observed" / "looking.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        windows_s = sum(check.window_s for lab in labs for check in lab.checks)
        scheduler = Scheduler(
            places(folder, members),
            observer(folder, lambda member: labs),
            deadline_s=RUN_TIMEOUT_S + windows_s,
            jobs=JOBS,
            per_server=PER_SERVER,
        )
        for done, seen in enumerate(scheduler.results(), start=1):
            fault = seen.fault or EnvironmentFault("the learner was not observed")
            report = seen.report or environment_report(labs, fault)
            Observed(folder.path, seen.who.key).take(report)
            if on_progress:
                on_progress(Progress(done, len(members), scheduler.running, tuple(scheduler.away)))
            if should_stop():
                return True
    return True
