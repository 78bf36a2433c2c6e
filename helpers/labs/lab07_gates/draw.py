"""What lab 07 draws: texts and functions on their way to the cluster, witnesses at work, and what they saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from string import Template
from typing import TYPE_CHECKING, Any

import marimo as mo
import yaml
from markupsafe import Markup

from helpers import kubeyaml
from helpers.apps.evals.gatefile import Bound
from helpers.apps.evals.gatefile import read as read_gate
from helpers.apps.evals.outcome import ConfigurationWrong
from helpers.apps.evals.scores import Baseline, Score
from helpers.errors import InvalidInput, InvalidManifest
from helpers.labs.draw_settings import settings_change
from helpers.labs.draw_witness import Panels, beside_the_page, in_the_background
from helpers.labs.draw_witness import run_or_stop as run_or_stop
from helpers.labs.lab06_orchestration.draw import settings_of
from helpers.labs.lab07_gates import draw_pictures, ground, history, sets
from helpers.labs.lab07_gates.run import BOOK, run, run_all
from helpers.labs.witnessing import NoRecord
from helpers.notebook.html import (
    card,
    code,
    course,
    inline,
    note,
    spinner,
    table,
    with_outcome,
    word,
)
from helpers.notebook.panel import applied, apply_button, preview
from helpers.notebook.reset import reset_button, reset_part
from helpers.notebook.session import LabSession, needs_cluster, waiting_card
from helpers.stack import assistant, evals, orchestrator, releases, rollouts, traces

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.progress import Progress

APPS = assistant.NAMESPACE
_PANELS = Panels(BOOK, run)
# What stands in the gate's file before part 3 has written its bounds: the runner reads no file without any.
_FIRST_BOUNDS = {
    "rows": {"golden": "all", "adversarial": "all"},
    "metrics": {"answered": {"floor": 0.9, "max_drop": 0.1}},
}
_FIGURES = ("kappa", "low", "high", "agreement", "chance")


def witness_panel(lab: LabSession, name: str, buttons: Any) -> Any:
    """Buttons that run a witness in the background, and what its record says."""
    return _PANELS.panel(lab, name, buttons)


def seen_by(cluster: Cluster, name: str) -> Mapping[str, Any]:
    """What a witness saw; empty where it has no record that counts."""
    return _PANELS.seen(cluster, name)


# Files of ConfigMaps


def _mapping(text: object) -> Mapping[str, Any]:
    """A learner's text as one mapping.

    Raises:
        InvalidInput: it is none.
    """
    try:
        documents = kubeyaml.load_all(text) if isinstance(text, str) else []
    except kubeyaml.NotYaml as error:
        raise InvalidInput(f"this is not YAML: {error}") from error
    if len(documents) != 1 or not isinstance(documents[0], Mapping) or not documents[0]:
        raise InvalidInput("this is no mapping: in each line a name, a colon and a value")
    return documents[0]


def _put_panel(
    lab: LabSession,
    button: Any,
    name: str,
    wanted: Mapping[str, str],
    *,
    first: Mapping[str, str | None],
    namespace: str = APPS,
    then: Callable[[Cluster], object] = lambda cluster: None,
) -> Any:
    """A button that puts files into a ConfigMap, the way back, and whether they are there.

    Args:
        first: what this part begins with; None takes a file out.
        then: what brings the change to who reads it.
    """
    assert lab.cluster is not None
    cluster = lab.cluster

    def back() -> str:
        assistant.put_data(cluster, name, first, namespace)
        then(cluster)
        return f"{', '.join(first)} in ConfigMap {name} is as the part begins."

    row = mo.hstack(
        [button, reset_button(lab, back, tooltip="Puts back what this part begins with.")], justify="start"
    )
    if lab.asked(button):
        with spinner("Delivering", ", ".join(wanted)):
            assistant.put_data(cluster, name, wanted, namespace)
            then(cluster)
    there = assistant.data_in(cluster.view(), name, namespace)
    is_there = all(there.get(file) == text for file, text in assistant.scoped(cluster, wanted).items())
    state_word = word("PASS", "delivered") if is_there else word("open", "not delivered")
    files = ", ".join(f"`{file}`" for file in wanted)
    said = (
        f"ConfigMap `{name}` holds this {files}."
        if is_there
        else f"ConfigMap `{name}` holds no such {files}."
    )
    return mo.vstack([row, course(Markup("{} {}").format(state_word, inline(said)), live=True)], gap=0.5)


@needs_cluster
def sets_panel(lab: LabSession, text: str, button: Any) -> Any:
    """A button that puts the reviewed rows into the ConfigMap of the sets."""
    wanted = sets.as_data(sets.reviewed(text))
    return _put_panel(lab, button, assistant.SETS, wanted, first=sets.given_sets())


@needs_cluster
def metrics_panel(lab: LabSession, button: Any, *functions: Callable[..., Any]) -> Any:
    """A button that puts the learner's metrics where the gate reads them."""
    wanted = {evals.METRICS_FILE: orchestrator.decision_text(*functions, head=assistant.HEAD)}
    return _put_panel(lab, button, assistant.GATE, wanted, first={evals.METRICS_FILE: None})


def _judgement(lab: LabSession, judge: object) -> Mapping[str, Any]:
    """A learner's decision about the judge, with the figures that were measured in place of their names."""
    assert lab.cluster is not None
    seen = seen_by(lab.cluster, "judge")
    figures = {name.upper(): f"{seen[name]:.2f}" for name in _FIGURES if name in seen}
    return _mapping(Template(judge).safe_substitute(figures) if isinstance(judge, str) else judge)


def gate_text(gate: object, judge: object) -> str:
    """The gate's file: bounds and the judge's part, as the runner reads it.

    Raises:
        InvalidInput: the runner would refuse it, in its own words.
    """
    whole = {**_mapping(gate), "judge": dict(_mapping(judge))}
    text = str(yaml.safe_dump(whole, sort_keys=False, width=110))
    try:
        read_gate(text)
    except ConfigurationWrong as wrong:
        raise InvalidInput(str(wrong)) from wrong
    return text


@needs_cluster
def judge_panel(lab: LabSession, judge: str, button: Any) -> Any:
    """A button that puts the learner's decision about the judge into the gate's file; its bounds stay."""
    assert lab.cluster is not None
    said = _judgement(lab, judge)
    if not isinstance(said.get("blocks"), bool) or not str(said.get("why") or "").strip():
        raise InvalidInput("`blocks` is true or false, and `why` says by which figures")
    there = assistant.data_in(lab.cluster.view(), assistant.GATE).get(evals.GATE_FILE, "")
    found = yaml.safe_load(there) if there else {}
    bounds = {
        key: value for key, value in (found if isinstance(found, dict) else {}).items() if key != "judge"
    }
    whole = {**(bounds or _FIRST_BOUNDS), "judge": dict(said)}
    wanted = yaml.safe_dump(whole, sort_keys=False, width=110)
    first = yaml.safe_dump(bounds, sort_keys=False, width=110) if bounds else None
    return _put_panel(lab, button, assistant.GATE, {evals.GATE_FILE: wanted}, first={evals.GATE_FILE: first})


@needs_cluster
def gate_preview(lab: LabSession, gate: str) -> mo.Html:
    """What the runner makes of the bounds, and what would change in the ConfigMap."""
    assert lab.cluster is not None
    read = read_gate(_read(gate))
    rows = [
        (code(name), *(_figure(value) for value in (bound.floor, bound.max_drop, bound.ceiling)))
        for name, bound in read.bounds.items()
    ]
    chosen = ", ".join(f"{name}: {tag}" for name, tag in read.rows.items())
    head = Markup("<small>Rows: {}. Each regression row must have 1 in {}.</small>").format(
        chosen, code(*read.every)
    )
    return card(head + table(("metric", "floor", "largest drop", "ceiling"), rows), live=True)


def _read(gate: str) -> str:
    return gate_text(gate, "{blocks: false, why: not yet said}")


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


@needs_cluster
def gate_panel(lab: LabSession, gate: str, judge: str, button: Any) -> Any:
    """A button that puts the bounds, with the decision about the judge, where the gate reads them."""
    wanted = {evals.GATE_FILE: gate_text(gate, kubeyaml.dump(dict(_judgement(lab, judge))))}
    return _put_panel(lab, button, assistant.GATE, wanted, first={evals.GATE_FILE: None})


@needs_cluster
def prices_panel(lab: LabSession, prices: str, button: Any) -> Any:
    """A button that puts the price table into its ConfigMap."""
    assert lab.profile is not None
    text = Template(lab.render(prices)).safe_substitute(SERVED_MODEL=lab.profile.served_model_name)
    traces.prices(text)
    wanted = {traces.PRICES_FILE: text}
    return _put_panel(lab, button, assistant.PRICES, wanted, first={traces.PRICES_FILE: None})


# Settings and the trace decision


@needs_cluster
def settings_preview(lab: LabSession, text: str) -> mo.Html:
    """Which settings of the assistant would change, and from what."""
    assert lab.cluster is not None
    return settings_change(
        assistant.CONFIG, settings_of(text), assistant.data_in(lab.cluster.view(), assistant.CONFIG)
    )


@needs_cluster
def settings_panel(lab: LabSession, text: str, button: Any) -> Any:
    """A button that delivers the assistant's settings, with a rollout that the gate does not judge."""
    wanted = settings_of(text)
    first = {name: ground.first_settings().get(name) for name in wanted}
    return _put_panel(lab, button, assistant.CONFIG, wanted, first=first, then=_rolls_out(lab))


@needs_cluster
def trace_panel(lab: LabSession, button: Any, *functions: Callable[..., Any]) -> Any:
    """A button that puts the learner's `trace.py` among the assistant's decisions."""
    wanted = {"trace.py": orchestrator.decision_text(*functions, head=assistant.HEAD)}
    return _put_panel(
        lab, button, assistant.DECISIONS, wanted, first={"trace.py": None}, then=_rolls_out(lab)
    )


def _rolls_out(lab: LabSession) -> Callable[[Cluster], object]:
    """Telemetry changes no answer, so its rollout passes no gate; where a solution runs, one brings all of it."""
    return (lambda cluster: None) if lab.pressed else rollouts.roll_out


# Analysis and strategy


def _rollout_text(lab: LabSession, fragment: str) -> str:
    assert lab.cluster is not None
    trees = kubeyaml.load_all(fragment) if isinstance(fragment, str) else []
    if len(trees) != 1 or not isinstance(trees[0], Mapping) or not isinstance(trees[0].get("spec"), Mapping):
        raise InvalidManifest("the fragment is not a mapping: it begins with `spec:`")
    return kubeyaml.dump(ground.with_strategy(lab.cluster, trees[0]))


@needs_cluster
def strategy_preview(lab: LabSession, fragment: str) -> mo.Html:
    """What Apply would change in the Rollout with this strategy."""
    return preview(lab, _rollout_text(lab, fragment))


@needs_cluster
def strategy_panel(lab: LabSession, fragment: str, button: Any) -> Any:
    """Apply the Rollout with a learner's strategy, and the way back to the one that goes by the clock."""
    assert lab.cluster is not None
    text = _rollout_text(lab, fragment)
    first = kubeyaml.dump(ground.with_strategy(lab.cluster, ground.first_strategy()))
    row = mo.hstack([button, reset_part(lab, text, first=first)], justify="start")
    return with_outcome(row, applied(lab, text) if lab.asked(button) else None)


# The Collector


@needs_cluster
def collector_panel(lab: LabSession, config: str, button: Any) -> Any:
    """A button that gives the Collector this configuration and replaces its pod."""
    assert lab.cluster is not None
    from helpers.labs.lab07_gates.draw_decisions import pipeline_of

    pipeline_of(config)
    wanted = {assistant.COLLECTOR_FILE: config}
    first = {assistant.COLLECTOR_FILE: ground.first_collector()}
    panel = _put_panel(
        lab,
        button,
        assistant.COLLECTOR_CONFIG,
        wanted,
        first=first,
        namespace=assistant.OBSERVABILITY,
        then=ground.roll_collector,
    )
    if lab.asked(button):
        with spinner("The Collector", "waiting until it is ready"):
            lab.cluster.wait_rollout("Deployment", assistant.COLLECTOR, assistant.OBSERVABILITY)
    return panel


# The baseline


def baseline_panel(lab: LabSession, buttons: Any) -> Any:
    """Buttons that measure the release that users have, and put the result where the gate reads it."""

    def work(cluster: Cluster, say: Progress, should_stop: Callable[[], bool]) -> object:
        text = evals.measure_baseline(cluster, say, should_stop=should_stop)
        assistant.put_data(cluster, assistant.BASELINE, {evals.BASELINE_FILE: text})
        return text

    return beside_the_page(lab, buttons, work, lambda: _baseline(lab), failed="Nothing was measured.")


@needs_cluster
def _baseline(lab: LabSession) -> mo.Html:
    """Which baseline there is: of what, over how many rows."""
    assert lab.cluster is not None
    text = assistant.data_in(lab.cluster.view(), assistant.BASELINE).get(evals.BASELINE_FILE)
    if not text:
        return note("There is no baseline yet. In a terminal: `course baseline`")
    pins = Baseline.read(text).pins
    said = ", ".join(f"{name} {pins[name]}" for name in ("release", "model", "prompt") if pins.get(name))
    return course(Markup("{} {}").format(word("PASS", "measured"), said), live=True)


def measured(lab: LabSession) -> Any:
    """Where a solution runs: the baseline of the stable release."""
    if lab.cluster is None or not lab.pressed:
        return note("")
    with spinner("The baseline") as say:
        text = evals.measure_baseline(lab.cluster, say)
    assistant.put_data(lab.cluster, assistant.BASELINE, {evals.BASELINE_FILE: text})
    return note("The stable release was measured.")


# Releases


def release_buttons() -> Any:
    """The buttons of `release_panel`: a candidate each, and the way back."""
    labels = {
        "good": "Release good",
        "prompt-cut": "Release prompt-cut",
        "long-winded": "Release long-winded",
        releases.STABLE: "Back to stable",
        "stop": "Stop looking",
    }
    return mo.ui.dictionary({name: apply_button(label, kind="neutral") for name, label in labels.items()})


def release_panel(lab: LabSession, buttons: Any) -> Any:
    """Release a candidate of the course's, and what becomes of it; its way is in the picture below."""
    if lab.cluster is None:
        return waiting_card(lab)
    pressed = next(
        (name for name, button in buttons.items() if name != "stop" and lab.asked(button, by_hand=True)), ""
    )

    def work(cluster: Cluster, say: Progress, should_stop: Callable[[], bool]) -> object:
        if pressed == releases.STABLE:
            rollouts.back_to(cluster, releases.STABLE)
        else:
            rollouts.release(cluster, pressed)
        return rollouts.wait_decided(cluster, on_progress=say, should_stop=should_stop)

    return in_the_background(
        lab,
        list(buttons.values()),
        work if pressed else None,
        lambda: _standing(lab),
        failed="The release is not decided.",
    )


@needs_cluster
def _standing(lab: LabSession) -> mo.Html:
    """Where the Rollout is, in one line, and what its last analysis said."""
    assert lab.cluster is not None
    view = lab.cluster.view()
    now = rollouts.standing(view)
    run = rollouts.gate_of(view, now.current)
    if now.is_stopped:
        said = word("FAIL", "stopped"), f"`{now.release}` was stopped; users have the stable release again."
    elif now.is_through:
        said = word("PASS", "stable"), f"`{now.release}` is what users have."
    else:
        said = word("open", now.phase.lower() or "waiting"), f"`{now.release}` at {now.weight} per cent."
    line = Markup("<div>{} {}</div>").format(said[0], inline(said[1]))
    if run is not None and run.said:
        failed = ", ".join(run.said.get("failed") or []) or str(run.said.get("message") or "")
        about = f"The gate said **{run.verdict}** (exit code {run.exit_code}): {failed}"
        line += Markup("<div><small>{}</small></div>").format(inline(about))
    return course(line, live=True)


@needs_cluster
def weight_picture(lab: LabSession) -> Any:
    """The latest releases' shares of the pods over time, with each verdict on it."""
    assert lab.cluster is not None
    found = history.steps(lab.cluster.view())
    if not found:
        return note("The picture appears with the first release.")
    begun = found[0].at
    return draw_pictures.weight_chart(
        [
            draw_pictures.Moment(
                (step.at - begun).total_seconds(), step.weight, verdict=step.verdict, release=step.release
            )
            for step in found
        ]
    )


@needs_cluster
def glass_panel(lab: LabSession, text: str, button: Any) -> Any:
    """A button that lets a stopped release through and leaves a record; the records that there are."""
    assert lab.cluster is not None
    said = _mapping(text)
    wanted = {key: str(said.get(key) or "") for key in ("ticket", "approver", "why")}
    if lab.asked(button):
        with spinner("Breaking the glass", wanted["ticket"]):
            if lab.pressed and not rollouts.standing(lab.cluster.view()).is_stopped:
                rollouts.release(lab.cluster, "prompt-cut")
                rollouts.wait_decided(lab.cluster)
            rollouts.break_glass(lab.cluster, **wanted)
            if lab.pressed:
                rollouts.wait_decided(lab.cluster)
                rollouts.back_to(lab.cluster, releases.STABLE)
                ground.wait_for_assistant(lab.cluster)
    return with_outcome(button, _glasses(lab.cluster))


def _glasses(cluster: Cluster) -> mo.Html:
    found = rollouts.records(cluster.view())
    if not found:
        return note("No record of a broken glass yet.", live=True)
    rows = [
        (
            code(item.release),
            item.ticket,
            item.approver,
            item.why,
            ", ".join(item.figures.get("failed") or []),
        )
        for item in found
    ]
    return card(table(("release", "ticket", "approver", "why", "against"), rows), live=True)


# What witnesses saw


@needs_cluster
def judge_picture(lab: LabSession) -> Any:
    """How the judge agrees with the labels, beside chance."""
    assert lab.cluster is not None
    seen = seen_by(lab.cluster, "judge")
    if "kappa" not in seen:
        return note("The picture appears when the judge has labelled the forty answers.")
    shares, kappa = draw_pictures.judge_chart(
        *(float(seen[name]) for name in ("agreement", "chance", "kappa", "low", "high"))
    )
    line = f"Agreement {seen['agreement']:.2f}, by chance {seen['chance']:.2f}; kappa {seen['kappa']:.2f}, from {seen['low']:.2f} to {seen['high']:.2f}. It called {seen['said_good']} of {seen['count']} good."
    return mo.vstack([shares, kappa, note(line)], gap=0.2)


@needs_cluster
def scores_picture(lab: LabSession, gate: str) -> Any:
    """The baseline's scores with their spread, and what the bounds ask of a candidate."""
    assert lab.cluster is not None
    text = assistant.data_in(lab.cluster.view(), assistant.BASELINE).get(evals.BASELINE_FILE)
    if not text:
        return note("The picture appears when the stable release was measured.")
    bounds, baseline = read_gate(_read(gate)).bounds, Baseline.read(text)
    scores = [_score(name, score, bounds.get(name, Bound())) for name, score in baseline.scores.items()]
    others = _tried(seen_by(lab.cluster, "gate"), {score.name for score in scores})
    said = "Diamonds: what the releases scored that the witness sent to your gate." if others else ""
    return mo.vstack([draw_pictures.scores_chart(scores, others), note(said)], gap=0.2)


def _score(name: str, score: Score, bound: Bound) -> draw_pictures.Score:
    return draw_pictures.Score(
        name,
        score.mean,
        score.deviation,
        score.count,
        floor=bound.floor,
        ceiling=bound.ceiling,
        baseline=score.mean,
        max_drop=bound.max_drop,
    )


def _tried(seen: Mapping[str, Any], known: set[str]) -> list[tuple[str, str, float]]:
    """What each release scored in the witness's runs: (metric, release, mean)."""
    runs = seen.get("scores") if isinstance(seen.get("scores"), Mapping) else {}
    return [
        (name, release, float(value))
        for release, values in (runs or {}).items()
        for name, value in zip(seen.get("metrics") or [], values or [], strict=False)
        if value is not None and name in known
    ]


def run_now(lab: LabSession, name: str) -> Any:
    """Where a solution runs: this witness looks, because a later part needs what it saw."""
    if lab.cluster is None or not lab.pressed:
        return note("")
    with spinner(f"The witness {name}") as say:
        run(lab.cluster, name, on_progress=say)
    return note(f"The witness {name} has looked.")


def brought_to_the_pods(lab: LabSession) -> Any:
    """Where a solution runs: one rollout brings settings and decisions to the pods."""
    if lab.cluster is None or not lab.pressed:
        return note("")
    with spinner("The assistant", "rolling out its settings"):
        rollouts.roll_out(lab.cluster)
        ground.wait_for_assistant(lab.cluster)
    return note("The pods have the settings.")


def all_witnesses(lab: LabSession) -> Any:
    """Where a solution runs: every witness looks that has not looked yet."""
    if lab.cluster is None or not lab.pressed:
        return note("")
    view = lab.cluster.view()
    missing = [name for name in BOOK.witnesses if not _has_looked(view, name)]
    with spinner("Witnesses") as say:
        run_all(lab.cluster, missing, on_progress=say)
    return note("Every witness has looked.")


def _has_looked(view: ClusterView, name: str) -> bool:
    try:
        return not BOOK.record(view, name).error
    except NoRecord:
        return False
