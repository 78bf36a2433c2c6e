"""One check, observed: what it returns or raises becomes a Verdict, whatever happens.

This is where "the cluster is broken" is told from "you are not there yet": a missing object is
NOT_ATTEMPTED, a fault of the environment or of the check itself is ENV_ERROR, and only a check that
looked and saw the wrong thing says FAIL.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from helpers.cluster.deadline import Deadline
from helpers.errors import ClusterUnreachable, EnvironmentFault, LabError, ObjectMissing
from helpers.grading.declare import Check
from helpers.grading.faultlog import log_fault
from helpers.grading.journal import Journal, contradiction
from helpers.grading.missing_image import or_missing_image
from helpers.grading.verdict import Status, Verdict, not_attempted

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.grading.runtime import Runtime

WINDOW_STEP_S = 1.0
NOT_YOU = "This is the environment, not your work: nothing is held against you."


@dataclass(frozen=True)
class Observation:
    """A verdict, whether it is the journal's and not today's, and whether the cluster went away."""

    verdict: Verdict
    remembered: bool = False
    unreachable: bool = False


def env_error(cause: str, *, expected: str = "", next_command: str = "") -> Verdict:
    """The verdict of a check that could not look."""
    return Verdict(
        Status.ENV_ERROR,
        expected=expected or "an environment that can be observed",
        observed=cause,
        why_text=NOT_YOU,
        next_command=next_command or "course doctor",
    )


def fault_verdict(fault: Exception, *, expected: str = "") -> Verdict:
    """ENV_ERROR with the cause in one line; what is not a LabError is logged with its traceback."""
    if isinstance(fault, LabError):
        return env_error(str(fault), expected=expected, next_command=fault.next_command)
    log = log_fault(fault)
    return env_error(
        f"the check itself broke: {type(fault).__name__}: {fault}".splitlines()[0],
        expected=expected,
        next_command=f"less {log}",
    )


def observe(check: Check, cluster: Cluster, journal: Journal, runtime: Runtime) -> Observation:
    """Run one check in its mode."""
    view = cluster.view(Deadline(check.timeout_s, runtime))
    if check.mode == "window":
        seen = _over_window(check, view, runtime)
    else:
        seen = _once(check, view)
        if check.mode == "edge" and seen.verdict.status in _NOT_NOW:
            seen = _or_remembered(check, cluster, journal, runtime, seen)
    if seen.verdict.status in _NOT_NOW:
        seen = replace(seen, verdict=or_missing_image(seen.verdict, check, view))
    return seen


_NOT_NOW = (Status.FAIL, Status.PARTIAL, Status.NOT_ATTEMPTED)


def _once(check: Check, view: ClusterView) -> Observation:
    try:
        verdict = check.function(view)
    except ObjectMissing as missing:
        return Observation(
            not_attempted(
                check.criterion, observed=str(missing), next_command=check.next or missing.next_command
            )
        )
    except EnvironmentFault as fault:
        return Observation(
            fault_verdict(fault, expected=check.criterion),
            unreachable=isinstance(fault, ClusterUnreachable),
        )
    except Exception as bug:  # noqa: BLE001 - whatever a check raises is never the learner's fault
        return Observation(fault_verdict(bug, expected=check.criterion))
    if not isinstance(verdict, Verdict):
        problem = f"the check {check.id} returned {type(verdict).__name__}, not a Verdict"
        return Observation(env_error(problem, expected=check.criterion))
    return Observation(verdict)


def _or_remembered(
    check: Check, cluster: Cluster, journal: Journal, runtime: Runtime, seen: Observation
) -> Observation:
    """The journal's PASS in place of what holds now, if the cluster does not contradict it."""
    entry = journal.entry(check.id)
    if entry is None:
        return seen
    try:
        problem = contradiction(entry, cluster.view(Deadline(check.timeout_s, runtime)), runtime.now())
    except LabError as fault:
        return Observation(fault_verdict(fault, expected=check.criterion))
    if problem:
        words = f"{seen.verdict.observed} (the journal's earlier PASS does not count: {problem})"
        return Observation(replace(seen.verdict, observed=words))
    return Observation(entry.verdict(), remembered=True)


def _over_window(check: Check, view: ClusterView, runtime: Runtime) -> Observation:
    """Every observation of the window must pass; the first that does not is the verdict."""
    started = runtime.monotonic()
    observations = 0
    while True:
        # Each look has the whole time-out, and what any of them asked about is remembered by one view.
        seen = _once(check, view.within(Deadline(check.timeout_s, runtime)))
        elapsed_s = runtime.monotonic() - started
        observations += 1
        if seen.verdict.status is not Status.PASS:
            words = f"{seen.verdict.observed} ({elapsed_s:.0f} s into a window of {check.window_s:g} s)"
            return replace(seen, verdict=replace(seen.verdict, observed=words))
        if elapsed_s >= check.window_s:
            words = f"{seen.verdict.observed} ({observations} observations over {elapsed_s:.0f} s)"
            return replace(seen, verdict=replace(seen.verdict, observed=words))
        runtime.sleep(min(WINDOW_STEP_S, check.window_s - elapsed_s))
