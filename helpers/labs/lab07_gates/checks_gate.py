"""Checks of parts 1 to 4: sets that are clean, metrics and a judge measured, floors that fit, a gate that holds.

Sets, bounds and baseline are read from their ConfigMaps and judged by what the runner makes of them. How a gate
behaves is seen by witnesses, which run the learner's own analysis Job on releases of the course's; a record
counts for as long as that Job and the files it reads are what the cluster holds now.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

from helpers.apps.evals import gatefile, measures, plug, rows, scores
from helpers.apps.evals.outcome import ConfigurationWrong
from helpers.apps.orchestrator.decisions import DecisionWrong
from helpers.grading import Status, Verdict, all_of, expect_true, falls_short, not_attempted
from helpers.labs import witnessing
from helpers.labs.lab07_gates import sets, witness_gate, witness_gate_program
from helpers.labs.lab07_gates.lab import lab
from helpers.labs.witnessing import several
from helpers.stack import assistant, evals, releases, rollouts

if TYPE_CHECKING:
    from helpers.apps.evals.gatefile import Bound, Gate
    from helpers.apps.evals.scores import Baseline
    from helpers.cluster import ClusterView
    from helpers.grading.declare import CheckFunction
    from helpers.labs.witnessing import Record

APPS = assistant.NAMESPACE
LEAST = {"golden": 30, "regression": 10, "adversarial": 10}
LEAST_COUNT = 10
# Bad releases are judged on fewer rows: a gate that asks the golden set alone asks these.
LEAST_OF_BAD = witness_gate_program.FEWER["golden"]
# A judge is sent away wrongly when even the lower end of its kappa is "moderate" (Landis and Koch 1977).
BLOCKING_KAPPA = 0.41
# A figure in words is one that was measured when it is this near, as a share, in percent, or as a count.
NEAR = 0.03
GOOD_RUNS = ("good", "good again")
# Two good releases score alike to this.
ALIKE = 0.15
BINARY = ("answered", "retrieval_hit", "citation", "refusal")
# The canary's share is a quarter of the pods; while one is replaced, a third at most.
SHARE = 1 / 3
LEAST_ANSWERS = 20
NEARLY_ALL = 0.95
# Verdicts that say nothing of a release, and where the runner's own words are.
NO_VERDICT = ("infrastructure", "configuration")
LOG = "kubectl logs -n llm-apps job/witness-gate -c witness"
FAULTS_OF_THE_ROAD = {
    "unreachable": (2, "infrastructure", "the candidate is unreachable"),
    "failing": (2, "infrastructure", "the candidate answers 500"),
    "malformed": (3, "configuration", "a row is malformed"),
    "empty": (3, "configuration", "a set is empty"),
    "metric": (3, "configuration", "a metric is unknown"),
    "baseline": (3, "configuration", "the baseline is missing"),
    "model": (3, "configuration", "the baseline is of another model"),
}


def witnessed(name: str) -> Callable[[Callable[..., Verdict]], CheckFunction]:
    """A check that gets what one of the gate's witnesses saw, if its record counts."""

    def wrap(check: Callable[..., Verdict]) -> CheckFunction:
        @wraps(check)
        def judged(cluster: ClusterView) -> Verdict:
            return witnessing.verdict_on(
                witness_gate.BOOK,
                cluster,
                name,
                check,
                changed=lambda record: _changed(cluster, name, record),
            )

        return judged

    return wrap


def _changed(cluster: ClusterView, name: str, record: Record) -> str:
    """Which of the learner's files are not as the pod had them; empty where all are."""
    if name not in ("gate", "loop"):
        return ""
    there = evals.bound_to(cluster)
    skipped = () if name == "loop" else (witness_gate.REGRESSION,)
    names = sorted({*there, *record.files} - set(skipped))
    return ", ".join(file for file in names if there.get(file) != record.files.get(file))


def _gate_in(cluster: ClusterView) -> Gate | Verdict:
    """The learner's gate, or why there is none."""
    text = assistant.data_in(cluster, assistant.GATE).get(evals.GATE_FILE)
    where = f"{evals.GATE_FILE} in ConfigMap {assistant.GATE}"
    if text is None:
        return not_attempted(where, "there is none")
    try:
        return gatefile.read(text)
    except ConfigurationWrong as wrong:
        return falls_short(f"{where} that the runner reads", str(wrong))


def _baseline_in(cluster: ClusterView) -> Baseline | Verdict:
    text = assistant.data_in(cluster, assistant.BASELINE).get(evals.BASELINE_FILE)
    where = f"{evals.BASELINE_FILE} in ConfigMap {assistant.BASELINE}"
    if text is None:
        return not_attempted(where, "there is none", next_command="course baseline")
    try:
        return scores.Baseline.read(text)
    except ConfigurationWrong as wrong:
        return falls_short(f"{where} that the runner reads", str(wrong))


# 1. Three data sets


@lab.check("sets.clean", points=3, task="sets")
def the_sets_are_clean(cluster: ClusterView) -> Verdict:
    """Thirty golden rows, ten of regression and ten adversarial ones, and nothing is wrong with any.

    Why: A gate is as good as its rows: a duplicate counts twice, a leaked answer is always right, an unknown passage never.
    Hint: `hygiene` names each row and what is wrong with it. Drop what is one too many, mend what is misspelt.
    Next: kubectl get configmap llm-eval-sets -n llm-apps -o yaml
    """
    data = assistant.data_in(cluster, assistant.SETS)
    if not data or sets.is_given(data):
        return not_attempted(f"reviewed sets in ConfigMap {assistant.SETS}", "the sets as they were found")
    there = evals.sets_in(cluster)
    flaws = rows.hygiene(there)
    counts = {name: len(rows.parse(name, there.get(name, ""))[0]) for name in rows.SETS}
    return several(
        (
            not flaws,
            "no flaw",
            f"{len(flaws)} flaws, the first: {flaws[0] if flaws else ''}",
        ),
        *(
            (counts[name] >= least, f"{least} {name} rows", f"{counts[name]} {name} rows")
            for name, least in LEAST.items()
        ),
    )


# 2. Metrics you can trust


@lab.check("metrics.right", points=3, task="metrics")
def metrics_say_what_they_should(cluster: ClusterView) -> Verdict:
    """Your three functions give each planted answer the score that a person gives it.

    Why: A metric that is wrong is wrong about every release, and nobody looks at it again.
    Hint: Which numbers were given? What counts as saying no? And of what is precision a share?
    Next: course witness gate
    """
    text = assistant.data_in(cluster, assistant.GATE).get(evals.METRICS_FILE)
    where = f"{evals.METRICS_FILE} in ConfigMap {assistant.GATE}"
    if text is None:
        return not_attempted(where, "there is none")
    try:
        found = plug.read(text)
    except DecisionWrong as wrong:
        return falls_short(f"{where} that the runner reads", str(wrong))
    if missing := [name for name in plug.NAMES if name not in found]:
        return not_attempted(f"{', '.join(plug.NAMES)} in {where}", f"no {', '.join(missing)}")
    return witnessed("gate")(_planted)(cluster)


def _planted(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    found = seen["planted"]
    if "error" in found:
        return falls_short("functions that the runner reads", str(found["error"]))
    return several(
        *(
            (found.get(name) == [], f"{name} right", f"{name}: {'; '.join(found.get(name) or ['not asked'])}")
            for name in plug.NAMES
        )
    )


@lab.check("judge.measured", points=4, task="metrics")
@witnessed("judge")
def the_judge_was_measured(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """The judge was measured on forty labelled answers, and whether it may block is decided by those figures.

    Why: A judge that agrees with people as often as a coin does stops good releases and lets bad ones through, with confidence.
    Hint: Compare agreement with what chance reaches. Does the interval of kappa hold 0? Say so in `judge.why`, with a figure.
    Next: course witness judge
    """
    if seen["labels"] != witness_gate.labels_hash():
        return not_attempted(
            "a record of the labels that there are now",
            "the witness saw others",
            next_command="course witness judge",
        )
    gate = _gate_in(cluster)
    if isinstance(gate, Verdict):
        return gate
    if "blocks" not in gate.judge:
        return not_attempted("judge.blocks in gate.yaml", "nothing was decided")
    says = bool(gate.judge["blocks"])
    # Between chance and "moderate" people decide either way, with the figures before them.
    wrong = seen["low"] <= 0 if says else seen["low"] >= BLOCKING_KAPPA
    figures = f"kappa {seen['kappa']} ({seen['low']} to {seen['high']}), chance {seen['chance']}"
    return several(
        (
            not wrong,
            "a judge that blocks if it agrees clearly beyond chance, and only then",
            f"judge.blocks is {str(says).lower()} with {figures}",
        ),
        (
            _quotes(str(gate.judge.get("why") or ""), seen),
            "a figure that was measured in judge.why",
            f"judge.why says {str(gate.judge.get('why') or 'nothing')!r}",
        ),
    )


def _quotes(text: str, seen: Mapping[str, Any]) -> bool:
    """Whether a text names one of the measured figures: as a share, in percent, or how many agreed."""
    said = [float(number) for number in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?", text)]
    shares = [seen[name] for name in ("agreement", "kappa", "low", "high", "chance")]
    return any(
        abs(number - share) <= NEAR or (abs(number - 100 * share) <= 100 * NEAR and abs(number) > 1)
        for number in said
        for share in shares
    ) or any(number in (seen["agreed"], seen["said_good"]) for number in said)


# 3. Floors and drops


@lab.check("floors.baseline", points=3, task="floors")
def a_baseline_of_what_users_have(cluster: ClusterView) -> Verdict:
    """The baseline has mean, deviation and count of every gated metric, for these rows and this model, and they are what the stable release scores.

    Why: A drop is measured from the baseline. One that was written by hand, or by the candidate itself, excuses anything.
    Hint: Measure it with the rows and metrics that the gate has now, on the release that users have.
    Next: course baseline
    """
    gate, baseline = _gate_in(cluster), _baseline_in(cluster)
    for found in (gate, baseline):
        if isinstance(found, Verdict):
            return found
    assert not isinstance(gate, Verdict) and not isinstance(baseline, Verdict)
    try:
        chosen = rows.chosen(evals.sets_in(cluster), gate.rows)
    except ConfigurationWrong as wrong:
        return falls_short("rows that the gate can ask", str(wrong))
    averaged = [row for name in gatefile.AVERAGED for row in chosen.get(name, ())]
    wanted = {name for name in gate.bounds if name != measures.RATIO}
    lacking = sorted(wanted - set(baseline.scores))
    few = sorted(name for name in wanted & set(baseline.scores) if baseline.scores[name].count < LEAST_COUNT)
    made_up = sorted(name for name, score in baseline.scores.items() if not _possible(score))
    users_had = baseline.pins.get("release") in (releases.STABLE, releases.GOOD)
    own = several(
        (
            baseline.pins.get("rows") == rows.fingerprint(averaged),
            "measured on the gate's rows",
            "measured on other rows than the gate asks",
        ),
        (not lacking, "every gated metric", f"no {', '.join(lacking)}"),
        (not few, f"at least {LEAST_COUNT} rows each", f"fewer rows than {LEAST_COUNT}: {', '.join(few)}"),
        (not made_up, "deviations that scores have", f"no scores deviate like that: {', '.join(made_up)}"),
        (bool(baseline.pins.get("model")), "pinned to a model", "no model is named"),
        (
            users_had,
            "measured on a release that users had",
            f"measured on the release {baseline.pins.get('release')!r}",
        ),
    )
    if own.status is not Status.PASS:
        # Measured again while that release serves, it would be the same one.
        return own if users_had else own.next(f"course release {releases.STABLE}")
    return witnessed("gate")(lambda view, seen: _as_measured(baseline, seen))(cluster)


def _possible(score: scores.Score) -> bool:
    """Whether numbers from 0 to 1 can have this mean and this deviation: a wide one would excuse any mean."""
    most = score.mean * (1 - score.mean) * score.count / max(1, score.count - 1)
    return 0 <= score.mean <= 1 and score.deviation**2 <= most + 0.001


def _as_measured(baseline: Baseline, seen: Mapping[str, Any]) -> Verdict:
    """The baseline beside what the witness saw of a good release, which scores what the stable one does."""
    found = _scores_of(seen, GOOD_RUNS[0])
    parts = []
    for name, score in baseline.scores.items():
        value = found.get(name)
        if value is None:
            continue
        room = max(ALIKE, 2 * score.standard_error)
        parts.append(
            (
                abs(value - score.mean) <= room,
                f"{name} as measured",
                f"{name}: {score.mean:.2f} in the baseline, {value:.2f} seen",
            )
        )
    if not parts:
        return falls_short("scores to compare with", seen.get("said") or "the gate left no scores")
    return several(*parts).summed_up("the baseline is what the stable release scores")


def _scores_of(seen: Mapping[str, Any], run: str) -> dict[str, float]:
    values = (seen["scores"].get(run) or []) if isinstance(seen.get("scores"), Mapping) else []
    pairs = zip(seen["metrics"], values, strict=False)
    return {name: float(value) for name, value in pairs if value is not None}


@lab.check("floors.noise", points=3, task="floors")
def bounds_between_noise_and_fault(cluster: ClusterView) -> Verdict:
    """The same good release passes twice with a row to spare, and each bad one falls below a floor and drops too far.

    Why: Bounds inside the noise make a coin of the gate; bounds below the worst release make a decoration of it.
    Hint: Put the scores of the good runs and of the bad ones on one line. One row of twenty is 0.05: leave it that much.
    Next: course witness gate
    """
    gate, baseline = _gate_in(cluster), _baseline_in(cluster)
    for found in (gate, baseline):
        if isinstance(found, Verdict):
            return found
    assert not isinstance(gate, Verdict) and not isinstance(baseline, Verdict)
    return witnessed("gate")(lambda view, seen: _between(gate, baseline, seen))(cluster)


def _between(gate: Gate, baseline: Baseline, seen: Mapping[str, Any]) -> Verdict:
    runs = seen["runs"]
    passed = sum(runs[name][0] == 0 and runs[name][1] == "pass" for name in GOOD_RUNS)
    if passed < len(GOOD_RUNS):
        return falls_short("the good release passes twice", f"the good release passed {passed} of 2 times")
    if loose := _loose(gate, baseline, seen):
        return falls_short("each bad release below a floor and too far down", loose)
    good = [_scores_of(seen, name) for name in GOOD_RUNS]
    parts = []
    for name, bound in gate.bounds.items():
        values = [found[name] for found in good if name in found]
        if values and bound.floor is not None:
            parts.append(_room(name, bound, baseline, values))
    if not parts:
        return falls_short("a metric with a floor", "no metric has one")
    return several(*parts).summed_up("bounds between what is noise and what is a fault")


def _loose(gate: Gate, baseline: Baseline, seen: Mapping[str, Any]) -> str:
    """Which bad release keeps every floor, or every drop; empty where each breaks one of both."""
    for name in releases.BAD:
        found = _scores_of(seen, name)
        if releases.RELEASES[name].fault == measures.RATIO or not found:
            continue
        bounds = {metric: bound for metric, bound in gate.bounds.items() if metric in found}
        if not any(_below(bound.floor, found[metric]) for metric, bound in bounds.items()):
            return f"{name} is above every floor"
        if not any(_dropped(metric, bound, baseline, found[metric]) for metric, bound in bounds.items()):
            return f"{name} drops by no more than it may"
    return ""


def _below(floor: float | None, value: float) -> bool:
    return floor is not None and value < floor


def _dropped(name: str, bound: Bound, baseline: Baseline, value: float) -> bool:
    before = baseline.scores.get(name)
    return bound.max_drop is not None and before is not None and before.mean - value > bound.max_drop


def _room(name: str, bound: Bound, baseline: Baseline, values: Sequence[float]) -> tuple[bool, str, str]:
    """Whether one row more that fails would leave the good release through."""
    before = baseline.scores.get(name)
    count = before.count if before else LEAST_COUNT
    needed = max(max(values) - min(values), (1.0 if name in BINARY else 0.25) / count)
    lowest = min(values)
    room = lowest - (bound.floor or 0.0)
    if before is not None and bound.max_drop is not None:
        room = min(room, bound.max_drop - (before.mean - lowest))
    return (
        room >= needed - 0.001,
        f"{name}: room for a row",
        f"{name}: {max(room, 0):.3f} to spare, and one row is worth {needed:.3f}",
    )


# 4. The gate in the rollout


@lab.check("gate.verdicts", points=5, task="gate", timeout_s=10)
@witnessed("gate")
def the_gate_tells_good_from_bad(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """Your gate lets the good release through and stops each of five bad ones by its quality, and it asks the canary.

    Why: A gate that is always green is a decoration, one that is always red is switched off within a week.
    Hint: Which metric gives a release away that retrieves nothing, one that cites nothing, one that is three times as long?
    Next: course witness gate
    """
    runs = seen["runs"]
    said = next((runs[name] for name in GOOD_RUNS if runs[name][1] in NO_VERDICT), None)
    if said:  # the gate could not look: which questions it asked is not the trouble
        words = f"the good release: exit code {said[0]}, {_verdict_words(said)}"
        return falls_short("a gate that can judge the good release", words).next(LOG)
    for name, run in runs.items():
        least = LEAST_COUNT if name in GOOD_RUNS else LEAST_OF_BAD
        if run[2] < least:
            return falls_short(
                f"at least {least} questions to the canary each time",
                f"{name}: the canary was asked {run[2]} questions",
            )
    # A gate that says the same of all tells nothing apart: what is stopped counts where the good one is not.
    wrong = next((name for name in GOOD_RUNS if tuple(runs[name][:2]) != (0, "pass")), "")
    if wrong:
        return falls_short(
            f"{wrong}: pass", f"{wrong}: exit code {runs[wrong][0]}, {_verdict_words(runs[wrong])}"
        )
    return several(
        *(
            (
                tuple(runs.get(name, (None, ""))[:2]) == (1, "quality"),
                f"{name}: quality",
                f"{name}: exit code {runs.get(name, ['none'])[0]}, {_verdict_words(runs.get(name))}",
            )
            for name in releases.BAD
        ),
    ).summed_up("the good release through, five bad ones stopped")


def _verdict_words(run: Sequence[Any] | None) -> str:
    if not run or not run[1]:
        return "nothing said"
    return f"{run[1]} ({', '.join(run[3])})" if run[3] else str(run[1])


@lab.check("gate.codes", points=3, task="gate")
@witnessed("gate")
def whose_fault_is_told(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A candidate that does not answer is exit code 2, rows, metrics or a baseline that cannot be used are 3, and none of them is a pass.

    Why: A gate that nobody could ask says nothing of the release. Who is woken up for it is somebody else, too.
    Hint: The runner tells them apart. Does your Job hand its exit code on?
    Next: course witness gate
    """
    parts = []
    for case, (code, verdict, words) in FAULTS_OF_THE_ROAD.items():
        found = seen["codes"].get(case) or [None, ""]
        parts.append(
            (
                tuple(found) == (code, verdict),
                f"{words}: {code}",
                f"{words}: exit code {found[0]}, {found[1] or 'nothing said'}",
            )
        )
    return several(*parts)


@lab.check("release.held", points=5, task="gate", timeout_s=10)
@witnessed("release")
def the_bad_one_is_held(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A bad release never answered more than the canary's share of users, was stopped by its gate, and then answered nobody.

    Why: What stops a bad release is not the dashboard that somebody looks at on Monday.
    Hint: The analysis belongs between the first step and the rest, and it must ask the canary.
    Next: course witness release
    """
    bad = seen["bad"]
    gate = bad["gate"] or ["no analysis", "", None, []]
    if bad["through"] or not bad["stopped"]:
        return falls_short(
            "stopped", "it got through" if bad["through"] else f"not stopped ({bad['error'] or gate[0]})"
        )
    total, own = sum(bad["answers"].values()), bad["answers"].get(bad["release"], 0)
    return several(
        (
            gate[0] == "Failed" and gate[1] == "quality" and gate[2] == 1,
            "stopped by the quality of its answers",
            f"its analysis: {gate[0]}, {gate[1] or 'nothing said'}, exit code {gate[2]}",
        ),
        (
            total >= LEAST_ANSWERS,
            f"at least {LEAST_ANSWERS} answers meanwhile",
            f"{total} answers meanwhile",
        ),
        (
            own <= SHARE * total,
            "at most the canary's share",
            f"{own} of {total} users were answered by it",
        ),
        (
            not bad["after"].get(bad["release"]),
            "afterwards nobody",
            f"afterwards still {bad['after'].get(bad['release'])} of {sum(bad['after'].values())}",
        ),
    )


@lab.check("release.through", points=3, task="gate", timeout_s=10)
@witnessed("release")
def the_good_one_goes_through(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A good release passed the same gate and then answered everybody.

    Why: A gate that nothing passes is taken out of the way, and what it should have stopped comes with the rest.
    Hint: What did the analysis of the good release say? Its Job's pod keeps the figures.
    Next: kubectl get analysisruns -n llm-apps
    """
    good = seen["good"]
    gate = good["gate"] or ["no analysis", "", None, []]
    if not good["through"]:
        return falls_short(
            "through",
            f"not through: {gate[0]}, {gate[1] or 'nothing said'} ({', '.join(gate[3]) or good['error']})",
        )
    total, own = sum(good["after"].values()), good["after"].get(good["release"], 0)
    return several(
        (
            gate[0] == "Successful" and gate[1] == "pass" and gate[2] == 0,
            "an analysis that passed",
            f"its analysis: {gate[0]}, {gate[1] or 'nothing said'}",
        ),
        (
            total > 0 and own >= NEARLY_ALL * total,
            "answers everybody",
            f"{own} of {total} users were answered by it afterwards",
        ),
    )


@lab.check("release.breakglass", points=3, task="gate", timeout_s=10)
def an_override_leaves_a_record(cluster: ClusterView) -> Verdict:
    """A stopped release that went through all the same has a record: ticket, approver, why, and the figures it went against.

    Why: There will be a night on which the gate must be overridden. The morning after, somebody asks who did it, and against what.
    Hint: Let a bad release be stopped first; `course break-glass` writes the record and then lets it through.
    Next: course break-glass --help
    """
    found = rollouts.records(cluster)
    runs = rollouts.gate_runs(cluster)
    if silent := _overridden_silently(cluster, found, runs):
        return falls_short("a record of every override", f"revision {silent} went past its gate without one")
    if not found:
        return not_attempted("a record of an override", "no glass was broken")
    newest = max(found, key=lambda record: record.at)
    return all_of(*_record_parts(newest, runs)).summed_up(f"a record for revision {newest.revision}")


def _overridden_silently(
    cluster: ClusterView, found: Sequence[rollouts.BrokenGlass], runs: Sequence[rollouts.GateRun]
) -> str:
    """The revision that users have although its newest gate failed, where nobody wrote down why."""
    if cluster.find("Rollout", rollouts.ROLLOUT, APPS) is None:
        return ""
    stable = rollouts.standing(cluster).stable
    newest = next((run for run in reversed(runs) if run.revision == stable), None)
    told = {record.revision for record in found}
    return stable if newest and newest.phase == "Failed" and stable not in told else ""


def _record_parts(record: rollouts.BrokenGlass, runs: Sequence[rollouts.GateRun]) -> list[Verdict]:
    run = next((item for item in runs if item.uid and item.uid == record.run_uid), None)
    empty = [name for name in ("ticket", "approver", "why") if not getattr(record, name).strip()]
    parts = [
        expect_true(not empty, "ticket, approver and why", f"no {', '.join(empty)}" if empty else "all three")
    ]
    if run is None:
        parts.append(
            expect_true(
                False, "the analysis it went against", f"there is no analysis {record.run or '(none named)'}"
            )
        )
        return parts
    # A Job may tidy up after itself (`ttlSecondsAfterFinished`): then the record is all that is left.
    told = run.said or record.figures
    same = {key: record.figures.get(key) for key in ("verdict", "failed", "scores")} == {
        key: told.get(key) for key in ("verdict", "failed", "scores")
    }
    parts += [
        expect_true(run.phase == "Failed", "an analysis that failed", f"{run.name} is {run.phase}"),
        expect_true(
            run.revision == record.revision, "of that revision", f"{run.name} is of revision {run.revision}"
        ),
        expect_true(
            bool(record.figures.get("failed")) and same,
            "the figures of that analysis",
            "other figures than the analysis left" if record.figures else "no figures",
        ),
    ]
    return parts
