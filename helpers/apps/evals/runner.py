"""A run from end to end: what is configured is checked first, then the release is asked, then judged."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers.apps.evals import measures, plug, scores
from helpers.apps.evals.asking import AT_ONCE, Reply, Target
from helpers.apps.evals.gatefile import AVERAGED, Gate
from helpers.apps.evals.gatefile import FILE as GATE_FILE
from helpers.apps.evals.gatefile import read as read_gate
from helpers.apps.evals.outcome import ConfigurationWrong, Outcome
from helpers.apps.evals.rows import Row, chosen, fingerprint, read_sets
from helpers.apps.evals.scores import Baseline, Score
from helpers.apps.orchestrator.decisions import DecisionWrong

REGRESSION = "regression"
# So many rows are asked of the stable release too: enough for a ratio of tokens.
STABLE_ROWS = 10
Scorer = Callable[..., float | None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """A gate with its rows and functions: everything that can be wrong before anybody is asked."""

    gate: Gate
    rows: Mapping[str, Sequence[Row]]
    functions: measures.Functions
    own: tuple[str, ...] = ()
    """The names that the learner's `metrics.py` has."""

    @property
    def averaged(self) -> list[Row]:
        return [row for name in AVERAGED for row in self.rows.get(name, ())]

    @property
    def regressions(self) -> Sequence[Row]:
        return self.rows.get(REGRESSION, ())


def plan(sets: Path, gate: Path) -> Plan:
    """What these folders say.

    Raises:
        ConfigurationWrong: a file is missing, a row malformed, a set empty, a metric unknown or broken.
    """
    file = gate / GATE_FILE
    if not file.is_file():
        raise ConfigurationWrong(f"there is no {file}")
    found = read_gate(file.read_text())
    functions: dict[str, Callable[..., float]] = {}
    if (source := gate / plug.FILE).is_file():
        try:
            functions = plug.read(source.read_text())
        except DecisionWrong as wrong:
            raise ConfigurationWrong(f"metric unusable: {wrong}") from wrong
    rows = chosen(read_sets(sets), found.rows)
    return Plan(found, rows, {**measures.OWN, **functions}, tuple(functions))


def read_baseline(file: Path) -> Baseline:
    """The baseline in this file.

    Raises:
        ConfigurationWrong: there is none, or it cannot be read.
    """
    if not file.is_file():
        raise ConfigurationWrong(f"baseline missing: there is no {file}")
    return Baseline.read(file.read_text())


def run_gate(
    the_plan: Plan,
    baseline: Baseline,
    candidate: Target,
    stable: Target | None,
    *,
    scorer: Scorer = measures.score,
    at_once: int = AT_ONCE,
    say: Say = lambda line: None,
) -> Outcome:
    """Ask the candidate, and judge it.

    Raises:
        ConfigurationWrong, InfrastructureFailed: nothing can be said of the candidate.
    """
    if measures.RATIO in the_plan.gate.bounds and stable is None:
        raise ConfigurationWrong(f"{measures.RATIO} needs --stable")
    pins = pins_of(the_plan, candidate)
    scores.check_pins(baseline, pins)
    say(f"asking {candidate.url}: {len(the_plan.averaged) + len(the_plan.regressions)} rows")
    replies = candidate.ask_all([*the_plan.averaged, *the_plan.regressions], at_once=at_once)
    found = means(the_plan, [replies], scorer=scorer)
    if stable is not None and measures.RATIO in the_plan.gate.bounds:
        found |= _ratio(the_plan, replies, stable, at_once)
    failed = scores.failures(found, the_plan.gate.bounds, baseline)
    failed += regressions(the_plan, replies, scorer=scorer)
    for line in table(found, the_plan.gate, baseline):
        say(line)
    told = {name: score.told() for name, score in found.items()}
    if failed:
        return Outcome("quality", f"stopped: {', '.join(failed[:5])}", failed, told, pins)
    return Outcome("pass", f"every bound holds over {pins['count']} rows", (), told, pins)


def pins_of(the_plan: Plan, target: Target) -> dict[str, Any]:
    """What was asked, of whom, and with what: what a result is worth nothing without."""
    about = target.about()
    named = ("release", "model", "prompt_version", "prompt", "collection", "retrieval")
    return {name: about.get(name, "") for name in named} | {
        "rows": fingerprint(the_plan.averaged),
        "count": len(the_plan.averaged) + len(the_plan.regressions),
        "image": os.environ.get("RUNNER_IMAGE", ""),
    }


def means(
    the_plan: Plan, runs: Sequence[Mapping[str, Reply]], *, scorer: Scorer = measures.score
) -> dict[str, Score]:
    """Every metric's score over the rows it applies to, run by run."""
    found = {}
    for name in measures.ROW_METRICS:
        values = [
            [
                value
                for row in the_plan.averaged
                if (value := scorer(name, row, replies[row.id], functions=the_plan.functions)) is not None
            ]
            for replies in runs
        ]
        if all(values):
            found[name] = Score.of(*values)
    return found


def regressions(
    the_plan: Plan, replies: Mapping[str, Reply], *, scorer: Scorer = measures.score
) -> list[str]:
    """The regression rows that fail, each by its first metric: these are never averaged."""
    failed = []
    for row in the_plan.regressions:
        for name in the_plan.gate.every:
            value = scorer(name, row, replies[row.id], functions=the_plan.functions)
            if value is not None and value < 1:
                failed.append(f"{REGRESSION} {row.id} {name}")
                break
    return failed


def _ratio(the_plan: Plan, replies: Mapping[str, Reply], stable: Target, at_once: int) -> dict[str, Score]:
    """The candidate's length against the stable release's, over some of the rows that expect an answer."""
    asked = [row for row in the_plan.averaged if not row.refuses][:STABLE_ROWS]
    stable.about()
    ratios = measures.tokens_ratio(
        {row.id: replies[row.id] for row in asked}, stable.ask_all(asked, at_once=at_once)
    )
    if not ratios:
        raise ConfigurationWrong(f"no row says anything of the metric {measures.RATIO!r}")
    return {measures.RATIO: Score.of(ratios)}


def run_baseline(
    the_plan: Plan,
    target: Target,
    *,
    runs: int = 1,
    scorer: Scorer = measures.score,
    at_once: int = AT_ONCE,
    say: Say = lambda line: None,
) -> Baseline:
    """Ask the target, several times where its spread between runs is wanted; its scores.

    Raises:
        ConfigurationWrong, InfrastructureFailed: as `run_gate`.
    """
    pins = pins_of(the_plan, target)
    seen = []
    for number in range(1, runs + 1):
        say(f"run {number} of {runs}: {len(the_plan.averaged)} rows")
        seen.append(target.ask_all(the_plan.averaged, at_once=at_once))
    return Baseline(
        pins | {"count": len(the_plan.averaged), "runs": runs}, means(the_plan, seen, scorer=scorer)
    )


def table(found: Mapping[str, Score], gate: Gate, baseline: Baseline | None) -> list[str]:
    """The scores as people read them: mean and spread, the bound, the baseline."""
    lines = [
        f"{'metric':22}{'mean':>7}{'sd':>7}{'n':>5}   {'floor':>6}{'drop':>6}{'ceiling':>8}{'baseline':>9}"
    ]
    for name, score in found.items():
        bound = gate.bounds.get(name)
        before = baseline.scores.get(name) if baseline else None
        limits = (bound.floor, bound.max_drop, bound.ceiling) if bound else (None, None, None)
        floor, drop, ceiling = ("" if value is None else f"{value:.2f}" for value in limits)
        stands = f"{before.mean:.3f}" if before else ""
        lines.append(
            f"{name:22}{score.mean:7.3f}{score.deviation:7.3f}{score.count:5}   "
            f"{floor:>6}{drop:>6}{ceiling:>8}{stands:>9}"
        )
    return lines
