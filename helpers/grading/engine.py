"""The engine: every check of the labs asked for, once, in parallel, under deadlines, into one Report.

The command line, the notebook's board, the classroom and CI all call `grade`. Threads run the
checks; everything else (the dependency graph, deadlines, late answers, the journal) happens in the
caller's thread, so that it needs no locks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING

from helpers.cluster.deadline import Deadline
from helpers.errors import ClusterUnreachable, LabError
from helpers.grading.declare import Check, DeclarationError, Lab, with_needs
from helpers.grading.journal import Journal, journal_for
from helpers.grading.observe import Observation, env_error, fault_verdict, observe
from helpers.grading.report import CheckResult, ClusterFacts, Report, course_version
from helpers.grading.runtime import Runtime, ThreadRuntime
from helpers.grading.verdict import Status, Verdict

if TYPE_CHECKING:
    from helpers.cluster import Cluster

PARALLEL = 8
IDENTITY_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 2.0
RUN_TIMEOUT_S = 60.0
# A check that runs into its deadline inside the client knows what it was waiting for: let it say so.
GRACE_S = 0.5

OnVerdict = Callable[[CheckResult], None]
Key = tuple[str, str]


class NothingSelected(LabError):
    """No check was selected: nothing selected is never a pass."""


def grade(
    labs: Sequence[Lab],
    cluster: Cluster,
    *,
    on_verdict: OnVerdict | None = None,
    only: set[str] | None = None,
    deadline_s: float | None = None,
    journals: Path | None = None,
    runtime: Runtime | None = None,
) -> Report:
    """Grade labs from the cluster's state.

    Args:
        labs: lab numbers ("01"), or Lab objects.
        cluster: what is observed; checks get a view of it that cannot change anything.
        on_verdict: called in this thread with each result as it comes, in no fixed order.
        only: ids of checks or tasks; what they need runs too, and is reported.
        deadline_s: for the whole run; a minute plus the checks' windows unless given.
        journals: the home under which journals of edge checks lie; the course's home unless given.
        runtime: threads and clock; real ones unless given.

    Raises:
        NothingSelected: no lab, no check, or an `only` that names no check.
        DeclarationError: the labs' checks contradict each other.
    """
    chosen = list(dict.fromkeys(labs))
    checks = select(chosen, only)
    runtime = runtime or ThreadRuntime()
    started = runtime.monotonic()
    graded_at = runtime.now().isoformat()
    run = _Run(checks, cluster, runtime, journals, deadline_s)
    results: dict[Key, CheckResult] = {}
    for result in run.results():
        results[result.lab, result.check] = result
        if on_verdict:
            on_verdict(result)
    return Report(
        lab=",".join(lab.id for lab in chosen),
        cluster=run.facts,
        graded_at=graded_at,
        duration_s=round(runtime.monotonic() - started, 3),
        verdicts=tuple(results[check.lab, check.id] for check in checks),
        course=course_version(),
        only=tuple(sorted(only or ())),
    )


def environment_report(labs: Sequence[Lab], fault: Exception, *, only: set[str] | None = None) -> Report:
    """The Report of a run that found no cluster to ask: every check is ENV_ERROR with the cause."""
    chosen = list(dict.fromkeys(labs))
    verdict = fault_verdict(fault)
    return Report(
        lab=",".join(lab.id for lab in chosen),
        cluster=ClusterFacts(),
        graded_at=ThreadRuntime().now().isoformat(),
        duration_s=0.0,
        verdicts=tuple(
            CheckResult.of(check, replace(verdict, expected=check.criterion), 0.0)
            for check in select(chosen, only)
        ),
        course=course_version(),
        only=tuple(sorted(only or ())),
    )


def select(labs: Iterable[Lab], only: set[str] | None = None) -> list[Check]:
    """The checks to run, in declaration order, with what they need.

    Raises:
        NothingSelected: nothing is left, or a name in `only` is no check and no task of these labs.
        DeclarationError: a check needs one that does not exist, or itself.
    """
    selected: list[Check] = []
    known: set[str] = set()
    names: list[str] = []
    for lab in labs:
        checks = {check.id: check for check in lab.checks}
        _validate(lab, checks)
        known |= checks.keys() | {check.task for check in lab.checks}
        names.append(lab.id)
        wanted = {check.id for check in lab.checks if only is None or {check.id, check.task} & only}
        closure = with_needs(wanted, checks)
        selected += [check for check in lab.checks if check.id in closure]
    unknown = (only or set()) - known
    if unknown:
        raise NothingSelected(f"no check or task is called {', '.join(sorted(unknown))}")
    if not selected:
        where = f"lab {', '.join(names)} has no checks" if names else "no lab was given"
        raise NothingSelected(f"nothing to grade: {where}", next_command="course grade --help")
    return selected


def _validate(lab: Lab, checks: dict[str, Check]) -> None:
    for check in checks.values():
        for need in check.needs:
            if need not in checks:
                raise DeclarationError(f"lab {lab.id}: {check.id} needs {need}, which does not exist")
    try:
        TopologicalSorter({check.id: check.needs for check in checks.values()}).prepare()
    except CycleError as cycle:
        raise DeclarationError(
            f"lab {lab.id}: checks need each other: {' → '.join(cycle.args[1])}"
        ) from cycle


@dataclass(frozen=True)
class _Answer:
    """What comes back from a thread: about which check, or about the cluster (None)."""

    key: Key | None
    observation: Observation | None = None
    facts: ClusterFacts | None = None
    fault: Exception | None = None


@dataclass(frozen=True)
class _Started:
    check: Check
    at: float
    until: float


class _Run:
    """The state of one run; only the caller's thread touches it."""

    def __init__(
        self,
        checks: Sequence[Check],
        cluster: Cluster,
        runtime: Runtime,
        journals: Path | None,
        deadline_s: float | None,
    ) -> None:
        self.facts = ClusterFacts()
        self._checks = {(check.lab, check.id): check for check in checks}
        self._cluster = cluster
        self._runtime = runtime
        self._journals_home = journals
        self._journals: dict[str, Journal] = {}
        windows_s = sum(check.window_s for check in checks)
        self._seconds = RUN_TIMEOUT_S + windows_s if deadline_s is None else deadline_s
        self._until = runtime.monotonic() + self._seconds
        self._sorter = TopologicalSorter(
            {(check.lab, check.id): [(check.lab, need) for need in check.needs] for check in checks}
        )
        self._sorter.prepare()
        self._ready: list[Key] = []
        self._running: dict[Key, _Started] = {}
        self._statuses: dict[Key, Status] = {}
        self._probe_until: float | None = None

    def results(self) -> Iterator[CheckResult]:
        """Each check's result as it settles; ends when all have settled."""
        fault = self._identify()
        if fault:
            yield from self._give_up(fault_verdict(fault))
            return
        while len(self._statuses) < len(self._checks):
            yield from self._start_ready()
            if not self._running and self._probe_until is None:
                continue
            answer = self._runtime.receive(self._next_moment() - self._runtime.monotonic())
            if answer is not None:
                yield from self._accept(answer)
            yield from self._expire()

    def _identify(self) -> Exception | None:
        """Ask the cluster who it is; a cluster that does not answer costs this one time-out."""

        def ask() -> _Answer:
            try:
                identity = self._cluster.identity()
            except Exception as fault:  # noqa: BLE001 - becomes every check's ENV_ERROR
                return _Answer(None, fault=fault)
            return _Answer(
                None,
                facts=ClusterFacts(identity.uid, identity.server_version, identity.profile, identity.gpu),
            )

        timeout_s = min(IDENTITY_TIMEOUT_S, self._seconds)
        self._runtime.spawn(ask)
        answer = self._runtime.receive(timeout_s)
        if answer is None:
            return ClusterUnreachable(
                f"the API server did not answer within {timeout_s:g} s", next_command="course status"
            )
        self.facts = answer.facts or self.facts
        fault: Exception | None = answer.fault
        return fault

    def _start_ready(self) -> Iterator[CheckResult]:
        self._ready += self._sorter.get_ready()
        waiting: list[Key] = []
        for key in self._ready:
            blocker = self._blocker(key)
            if blocker:
                yield self._settle(key, _blocked(blocker, self._statuses[key[0], blocker]), 0.0)
            elif len(self._running) < PARALLEL and self._probe_until is None:
                self._start(key)
            else:
                waiting.append(key)
        self._ready = waiting

    def _blocker(self, key: Key) -> str | None:
        """The first needed check that has not passed."""
        needs = self._checks[key].needs
        return next((need for need in needs if self._statuses[key[0], need] is not Status.PASS), None)

    def _start(self, key: Key) -> None:
        check, now = self._checks[key], self._runtime.monotonic()
        journal = self._journal(check.lab)
        self._running[key] = _Started(check, now, now + check.timeout_s + check.window_s + GRACE_S)
        self._runtime.spawn(
            lambda: _Answer(key, observation=observe(check, self._cluster, journal, self._runtime))
        )

    def _accept(self, answer: _Answer) -> Iterator[CheckResult]:
        if answer.key is None:
            yield from self._probed(answer.fault)
            return
        started = self._running.get(answer.key)
        if started is None or answer.observation is None:
            return  # late: its verdict has been given
        verdict = answer.observation.verdict
        if (
            started.check.mode == "edge"
            and verdict.status is Status.PASS
            and not answer.observation.remembered
        ):
            verdict = self._keep(started.check, verdict)
        if answer.observation.unreachable:
            self._suspect()
        yield self._settle(answer.key, verdict, self._runtime.monotonic() - started.at)

    def _keep(self, check: Check, verdict: Verdict) -> Verdict:
        """Write an edge's PASS down; one that cannot be kept would be lost at the next look."""
        try:
            self._journal(check.lab).record(check.id, verdict, self._runtime.now())
        except OSError as problem:
            return env_error(f"the journal cannot be written: {problem}", expected=check.criterion)
        return verdict

    def _expire(self) -> Iterator[CheckResult]:
        now = self._runtime.monotonic()
        if now >= self._until:
            yield from self._give_up(env_error(f"the run's deadline of {self._seconds:g} s is over"))
            return
        if self._probe_until is not None and now >= self._probe_until:
            yield from self._probed(ClusterUnreachable("the API server stopped answering during the run"))
        for key, started in list(self._running.items()):
            if now >= started.until:
                seconds = started.check.timeout_s + started.check.window_s
                verdict = env_error(f"no answer within {seconds:g} s", expected=started.check.criterion)
                self._suspect()
                yield self._settle(key, verdict, now - started.at)

    def _suspect(self) -> None:
        """A check lost the cluster: ask once whether it is there before starting any more checks."""
        if self._probe_until is not None:
            return

        def probe() -> _Answer:
            try:
                self._cluster.view(Deadline(PROBE_TIMEOUT_S, self._runtime)).find("Namespace", "kube-system")
            except Exception as fault:  # noqa: BLE001 - becomes the remaining checks' ENV_ERROR
                return _Answer(None, fault=fault)
            return _Answer(None)

        self._probe_until = self._runtime.monotonic() + PROBE_TIMEOUT_S
        self._runtime.spawn(probe)

    def _probed(self, fault: Exception | None) -> Iterator[CheckResult]:
        if self._probe_until is None:
            return  # the probe's own answer came late
        self._probe_until = None
        if fault:
            yield from self._give_up(fault_verdict(fault))

    def _give_up(self, verdict: Verdict) -> Iterator[CheckResult]:
        """Every check that has no verdict yet gets this one."""
        now = self._runtime.monotonic()
        for key, check in self._checks.items():
            if key not in self._statuses:
                self._statuses[key] = verdict.status
                started = self._running.pop(key, None)
                words = replace(verdict, expected=check.criterion)
                yield CheckResult.of(check, words, now - started.at if started else 0.0)

    def _settle(self, key: Key, verdict: Verdict, duration_s: float) -> CheckResult:
        self._running.pop(key, None)
        self._statuses[key] = verdict.status
        self._sorter.done(key)
        return CheckResult.of(self._checks[key], verdict, duration_s)

    def _next_moment(self) -> float:
        moments = [self._until, *(started.until for started in self._running.values())]
        return min(moments if self._probe_until is None else [*moments, self._probe_until])

    def _journal(self, lab: str) -> Journal:
        if lab not in self._journals:
            suffix = self._cluster.view().scope.suffix
            self._journals[lab] = journal_for(
                lab, self.facts.uid or "unknown", suffix=suffix, home=self._journals_home
            )
        return self._journals[lab]


def _blocked(need: str, status: Status) -> Verdict:
    return Verdict(
        Status.BLOCKED,
        expected=f"{need} passed",
        observed=f"waits for {need}, which is {status}",
    )
