"""The proof that a lab's checks judge rightly, which every author owes.

Beside the `checks.py` of a lab's folder lies `mutants.py` with one `PROOFS`: how to bring a
cluster into the lab's start state, into its solved state, and into the wrong states that learners
really produce. `course check-author NN` runs all checks on all of them and prints the table: on
FakeCluster, where `put` and `set_status` play the controllers, or with `--live` on a real cluster.

On fakes every proof runs in several settings: alone, and in those that the caller brings: in a class's
scope with the class's own objects, and beside all other labs, solved on the same cluster.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from helpers.grading.changes import Change
from helpers.grading.declare import Lab
from helpers.grading.engine import grade
from helpers.grading.report import CheckResult
from helpers.grading.runtime import Runtime
from helpers.grading.testing import VirtualRuntime
from helpers.grading.verdict import Status

if TYPE_CHECKING:
    from helpers.cluster import Cluster

Judge = Callable[[Sequence[CheckResult]], Iterable["Finding"]]
START, SOLUTION = "start", "solution"
WRONG_CLUSTERS_PER_CHECK = 3
_FALLS_SHORT = (Status.FAIL, Status.PARTIAL)


def _nothing(cluster: Any) -> None:
    """An empty cluster is the start state."""


@dataclass(frozen=True)
class Mutant:
    """A plausible wrong cluster: what is changed, and which checks must notice, by which words.

    Args:
        name: what the learner did wrong, in a few words.
        apply: makes the cluster wrong; it starts from the state named by `base`.
        fails: for each check that must fall short, a text that its `observed` must contain.
        status: the status they must have; FAIL or PARTIAL unless given.
        base: "solution" or "start".
        live: whether it can be made on a real cluster too, where only controllers write statuses.
        in_class: what to find in a class where that differs; empty where only an administrator could do it.
    """

    name: str
    apply: Change
    fails: Mapping[str, str]
    status: Status | None = None
    base: Literal["solution", "start"] = "solution"
    live: bool = False
    in_class: Mapping[str, str] | None = None

    def inside(self, setting: Setting) -> Mutant | None:
        """The same mistake as it shows in a setting; None where a learner of a class cannot make it."""
        if not setting.suffix or self.in_class is None:
            return self
        return replace(self, fails=self.in_class) if self.in_class else None


@dataclass(frozen=True)
class Proofs:
    """All that `course check-author` needs to know of a lab.

    Args:
        start: brings an empty cluster to the lab's start state.
        solution: brings the start state to the solved state; with --live the notebook does it.
        mutants: the wrong clusters; at least three for every check.
        start_statuses: checks that are not NOT_ATTEMPTED (or BLOCKED) in the start state, and what they are.
        class_statuses: the same in a class, where the instructor has done some of the learner's work.
    """

    solution: Change
    mutants: Sequence[Mutant]
    start: Change = _nothing
    start_statuses: Mapping[str, Status] = field(default_factory=dict)
    class_statuses: Mapping[str, Status] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """What one check said in one state, and what is wrong with that (empty: nothing)."""

    state: str
    check: str
    status: Status
    observed: str
    problem: str = ""
    setting: str = "alone"


@dataclass(frozen=True)
class Setting:
    """Where a proof runs: what is on the cluster beside the lab's own, and in which scope the learner works.

    Args:
        name: in a word or two, for the table.
        put: brings an empty cluster there, before the lab's start.
        suffix: the learner's suffix in a class; empty on a cluster of their own.
        untouched: what a check may say in the start state. Other labs may have done some of this one's
            work, which earns its points; what they did is never a mistake of this lab's.
    """

    name: str
    put: Change = _nothing
    suffix: str = ""
    untouched: tuple[Status, ...] = (Status.NOT_ATTEMPTED, Status.BLOCKED)


ALONE = Setting("alone")


def prove_on_fakes(lab: Lab, proofs: Proofs, settings: Sequence[Setting] = (ALONE,)) -> list[Finding]:
    """Every state in every setting on a FakeCluster, in virtual time."""
    findings: list[Finding] = []
    for setting in settings:
        possible = [shown for mutant in proofs.mutants if (shown := mutant.inside(setting))]
        found = prove(
            lab,
            replace(
                proofs,
                mutants=possible,
                start_statuses={**proofs.start_statuses, **(proofs.class_statuses if setting.suffix else {})},
            ),
            fake_clusters(proofs, setting),
            runtime=VirtualRuntime(),
            untouched=setting.untouched,
        )
        findings += [replace(finding, setting=setting.name) for finding in found]
    return findings


def prove(
    lab: Lab,
    proofs: Proofs,
    clusters: Callable[[str], Cluster],
    *,
    runtime: Runtime,
    untouched: tuple[Status, ...] = ALONE.untouched,
    patience_s: float = 0,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Finding]:
    """Grade every state and compare.

    Args:
        clusters: gives a cluster that is already in the named base state.
        runtime: threads and clock.
        untouched: what a check may say in the start state.
        patience_s: how long a state may take to show: controllers need a moment on a real cluster.
        progress: told which state comes next.
    """

    def settle(state: str, cluster: Cluster, judge: Judge) -> list[Finding]:
        progress(state)
        until = runtime.monotonic() + patience_s
        while True:
            findings = list(judge(_grade(lab, cluster, runtime)))
            if runtime.monotonic() >= until or not any(finding.problem for finding in findings):
                return findings
            runtime.sleep(1)

    findings = settle(START, clusters(START), lambda results: _prove_start(proofs, untouched, results))
    findings += settle(SOLUTION, clusters(SOLUTION), _prove_solution)
    for mutant in proofs.mutants:
        cluster = clusters(mutant.base)
        mutant.apply(cluster)
        findings += settle(mutant.name, cluster, partial(_prove_mutant, mutant))
    return findings


def fake_clusters(proofs: Proofs, setting: Setting = ALONE) -> Callable[[str], Cluster]:
    """A FakeCluster in the named base state; each is built once, and taken back to it for every further state."""
    from helpers.cluster import Scope
    from helpers.cluster.fake import FakeCluster

    built: dict[str, tuple[FakeCluster, Any]] = {}

    def make(base: str) -> Cluster:
        if base in built:
            cluster, state = built[base]
            cluster.restore(state)
            return cluster
        cluster = FakeCluster(scope=Scope(setting.suffix))
        setting.put(cluster)
        proofs.start(cluster)
        if base == SOLUTION:
            proofs.solution(cluster)
        built[base] = cluster, cluster.state()
        return cluster

    return make


def missing_proofs(lab: Lab, proofs: Proofs) -> list[str]:
    """What the author still owes: checks with too few wrong clusters, and names that do not exist."""
    known = {check.id for check in lab.checks}
    named = {name for mutant in proofs.mutants for name in mutant.fails} | set(proofs.start_statuses)
    owed = [f"{name}: there is no such check" for name in sorted(named - known)]
    for check in lab.checks:
        proven = sum(check.id in mutant.fails for mutant in proofs.mutants)
        if proven < WRONG_CLUSTERS_PER_CHECK:
            owed.append(f"{check.id}: {proven} of {WRONG_CLUSTERS_PER_CHECK} wrong clusters")
    names = [mutant.name for mutant in proofs.mutants]
    return owed + [
        f"two mutants are called “{name}”" for name in dict.fromkeys(names) if names.count(name) > 1
    ]


def _grade(lab: Lab, cluster: Cluster, runtime: Runtime) -> Sequence[CheckResult]:
    # A journal of its own each time: what one state left must not speak in the next.
    with tempfile.TemporaryDirectory() as home:
        return grade([lab], cluster, journals=Path(home), runtime=runtime).verdicts


def _prove_start(
    proofs: Proofs, untouched: tuple[Status, ...], results: Sequence[CheckResult]
) -> Iterator[Finding]:
    for result in results:
        documented = proofs.start_statuses.get(result.check)
        expected = (documented,) if documented else untouched
        yield _finding(START, result, "" if result.status in expected else f"not {' or '.join(expected)}")


def _prove_solution(results: Sequence[CheckResult]) -> Iterator[Finding]:
    for result in results:
        yield _finding(SOLUTION, result, "" if result.status is Status.PASS else "not PASS")


def _prove_mutant(mutant: Mutant, results: Sequence[CheckResult]) -> Iterator[Finding]:
    expected = (mutant.status,) if mutant.status else _FALLS_SHORT
    for result in results:
        if result.check in mutant.fails:
            word = mutant.fails[result.check]
            problem = "" if result.status in expected else f"not {' or '.join(expected)}"
            if not problem and word not in result.observed:
                problem = f"“{word}” is not in what it observed"
            yield _finding(mutant.name, result, problem)
        elif result.status is Status.ENV_ERROR:
            yield _finding(mutant.name, result, "a wrong cluster is not a broken one")


def _finding(state: str, result: CheckResult, problem: str) -> Finding:
    return Finding(state, result.check, result.status, result.observed, problem)
