"""Wrong clusters for parts 1 to 4 and 8 of lab 07: what learners gate wrongly, and what a witness saw of it.

A record is written as the witness's pod leaves it, by the Job of the present state; some Jobs are made by hand,
to be caught. The scores in the records are those that the releases have on the embedded cluster's model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import yaml

from helpers import kubeyaml
from helpers.grading.author import Mutant
from helpers.grading.changes import Change, Manifest, edited, pod, steps, without
from helpers.grading.verdict import Status
from helpers.labs.lab07_gates import proof_state, sets, witness_gate, witness_gate_program
from helpers.labs.witnessed_fakes import forged, leave
from helpers.stack import assistant, evals, releases, rollouts

APPS = assistant.NAMESPACE
Seen = dict[str, Any]
EditSeen = Callable[[Seen], object]
NOT_YET = Status.NOT_ATTEMPTED
OVERRIDDEN, RUN, RUN_UID = (
    "58c7d9b44f",
    "llm-assistant-58c7d9b44f-3-1",
    "9f1c2a7e-0000-4000-8000-0000000000aa",
)
FIGURES = {
    "verdict": "quality",
    "failed": ["citation floor", "citation drop"],
    "scores": {"citation": [0.0, 0.0, 30]},
}
METRICS = [
    "answered",
    "citation",
    "refusal",
    "retrieval_hit",
    "retrieval_precision",
    "similarity",
    "tokens_ratio",
]
SCORES: dict[str, list[float]] = {
    "good": [1.0, 1.0, 0.8, 1.0, 0.33, 0.34, 1.05],
    "good again": [1.0, 0.97, 0.8, 1.0, 0.33, 0.34, 1.05],
    "prompt-cut": [1.0, 0.03, 0.8, 1.0, 0.33, 0.3, 1.4],
    "no-retrieval": [1.0, 0.0, 0.0, 0.0, 0.0, 0.25, 1.5],
    "wrong-collection": [1.0, 0.9, 0.8, 0.05, 0.01, 0.15, 1.1],
    "no-citations": [1.0, 0.0, 0.8, 1.0, 0.33, 0.34, 0.9],
    "long-winded": [1.0, 1.0, 0.8, 1.0, 0.33, 0.32, 3.1],
}
FAILED = {
    "prompt-cut": ["citation floor", "citation drop"],
    "no-retrieval": ["retrieval_hit floor", "retrieval_hit drop", "citation floor", "citation drop"],
    "wrong-collection": ["retrieval_hit floor", "retrieval_hit drop"],
    "no-citations": ["citation floor", "citation drop"],
    "long-winded": ["tokens_ratio ceiling"],
}
ROWS = 50
TRACE = witness_gate_program.trace_id("witness-users-x", 7)
SEEN: dict[str, Seen] = {
    "judge": {
        "count": 40,
        "agreed": 21,
        "agreement": 0.52,
        "chance": 0.5,
        "kappa": 0.04,
        "low": -0.27,
        "high": 0.35,
        "said_good": 33,
        "labels": witness_gate.labels_hash(),
    },
    "gate": {
        "planted": {"citation": [], "refusal": [], "retrieval_precision": []},
        "runs": {
            **{name: [0, "pass", ROWS, []] for name in ("good", "good again")},
            **{name: [1, "quality", ROWS, failed] for name, failed in FAILED.items()},
        },
        "metrics": METRICS,
        "scores": SCORES,
        "said": "",
        "codes": {
            "unreachable": [2, "infrastructure"],
            "failing": [2, "infrastructure"],
            **{name: [3, "configuration"] for name in ("malformed", "empty", "metric", "baseline", "model")},
        },
    },
    "release": {
        "bad": {
            "release": "prompt-cut",
            "revision": "7c9d",
            "through": False,
            "stopped": True,
            "weight": 25,
            "gate": ["Failed", "quality", 1, ["citation floor", "citation drop"]],
            "error": "",
            "answers": {"stable": 152, "prompt-cut": 48},
            "after": {"stable": 24},
            "asked": "stable",
        },
        "good": {
            "release": "good",
            "revision": "5b6f",
            "through": True,
            "stopped": False,
            "weight": 25,
            "gate": ["Successful", "pass", 0, []],
            "error": "",
            "answers": {"stable": 180, "good": 120},
            "after": {"good": 24},
            "asked": "good",
        },
        "lost": 0,
    },
    "users": {
        "release": "lost-page",
        "question": releases.LOST_QUESTION,
        "asked": witness_gate_program.USERS,
        "answered": witness_gate_program.USERS,
    },
    "loop": {
        "before": [0, "pass", ROWS, []],
        "after": [1, "quality", ROWS + 1, ["regression r-after-a-restore retrieval_hit"]],
        "stable": [0, "pass", ROWS + 1, []],
    },
}
ROW = {
    "id": "r-after-a-restore",
    "question": releases.LOST_QUESTION,
    "expected": {
        "behaviour": "answer",
        "chunks": [releases.LOST_KEY],
        "reference": "Everything written after the snapshot; how much you accept is the recovery point objective.",
    },
    "tags": ["tier=pr", "domain=memory"],
    "source": f"trace:{TRACE}",
}


def records(cluster: Any) -> None:
    """What the witnesses of the gate leave of a solved cluster, the row of part 8, and a record of break-glass."""
    with_row(ROW)(cluster)
    for name in witness_gate.WITNESSES:
        witnessed(name)(cluster)
    overridden()(cluster)


def witnessed(name: str, edit: EditSeen = lambda seen: None, **other: Any) -> Change:
    """A witness's Job and its pod, ended with a record of the present state; `other` stands in the record too."""

    def change(cluster: Any) -> None:
        seen = deepcopy(SEEN[name])
        edit(seen)
        leave(cluster, witness_gate.BOOK, name, {"seen": seen, **other}, made_with=_made_with)

    return change


def _made_with(view: Any) -> dict[str, Any]:
    return {"files": evals.bound_to(view)}


def with_row(row: dict[str, Any]) -> Change:
    """This row at the end of the regression set."""

    def change(cluster: Any) -> None:
        texts = evals.sets_in(cluster.view())
        lines = [line for line in texts["regression"].splitlines() if '"trace:' not in line]
        text = "\n".join([*lines, json.dumps(row)]) + "\n"
        assistant.put_data(cluster, assistant.SETS, {"regression.jsonl": text})

    return change


def overridden(
    edit: Callable[[Manifest], object] = lambda record: None,
    *,
    phase: str = "Failed",
    revision: str = OVERRIDDEN,
) -> Change:
    """A revision that its gate stopped, its analysis with the Job's pod, and the record of who let it through."""

    def change(cluster: Any) -> None:
        analysed(revision, phase=phase)(cluster)
        record = rollouts.BrokenGlass(
            revision,
            "prompt-cut",
            "INC-7",
            "on call",
            "a fix for tonight",
            FIGURES,
            RUN,
            RUN_UID,
            "2026-01-01T00:00:00Z",
        ).manifest()
        edit(record)
        cluster.put(record)

    return change


def analysed(revision: str, *, phase: str = "Failed", said: Any = None) -> Change:
    """An AnalysisRun of a revision, and the pod of its Job with what the runner left."""

    def change(cluster: Any) -> None:
        job = f"{RUN_UID}.quality.1"
        owner = {
            "kind": "Rollout",
            "name": rollouts.ROLLOUT,
            "apiVersion": "argoproj.io/v1alpha1",
            "uid": "r",
        }
        run = {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "AnalysisRun",
            "metadata": {
                "name": RUN,
                "namespace": APPS,
                "uid": RUN_UID,
                "labels": {rollouts.HASH: revision},
                "ownerReferences": [owner],
            },
            "status": {
                "phase": phase,
                "metricResults": [
                    {"name": "quality", "measurements": [{"phase": phase, "metadata": {"job-name": job}}]}
                ],
            },
        }
        cluster.put(run)
        ended = pod(
            f"{job}-x",
            {"containers": [{"name": "eval-runner", "image": "r"}]},
            APPS,
            labels={"batch.kubernetes.io/job-name": job},
            ran=(0, 10),
        )
        for status in ended["status"]["containerStatuses"]:
            status["state"]["terminated"] |= {"message": json.dumps(said or FIGURES), "exitCode": 1}
        cluster.put(ended)

    return change


# What goes wrong


def _seen(name: str, *path_and_value: Any) -> Change:
    """One figure of a record is another."""
    return _many(name, path_and_value)


def _many(name: str, *changes: tuple[Any, ...]) -> Change:
    def edit(seen: Seen) -> None:
        for *path, last, value in changes:
            inner = seen
            for step in path:
                inner = inner[step]
            inner[last] = value

    return witnessed(name, edit)


def _set(name: str, edit: Callable[[list[dict[str, Any]]], object]) -> Change:
    """A data set with another content; what the witnesses saw of it goes along."""

    def change(cluster: Any) -> None:
        text = assistant.data_in(cluster.view(), assistant.SETS)[f"{name}.jsonl"]
        found = [json.loads(line) for line in text.splitlines()]
        edit(found)
        text = "".join(json.dumps(row) + "\n" for row in found)
        assistant.put_data(cluster, assistant.SETS, {f"{name}.jsonl": text})

    return change


def _gate(edit: Callable[[Manifest], object]) -> Change:
    """Another gate.yaml, which the witness saw."""

    def change(cluster: Any) -> None:
        gate = yaml.safe_load(assistant.data_in(cluster.view(), assistant.GATE)[evals.GATE_FILE])
        edit(gate)
        assistant.put_data(cluster, assistant.GATE, {evals.GATE_FILE: kubeyaml.dump(gate)})

    return change


def _baseline(edit: Callable[[Manifest], object]) -> Change:
    """Another main.json, which the witness saw."""

    def change(cluster: Any) -> None:
        found = json.loads(assistant.data_in(cluster.view(), assistant.BASELINE)[evals.BASELINE_FILE])
        edit(found)
        assistant.put_data(cluster, assistant.BASELINE, {evals.BASELINE_FILE: json.dumps(found)})

    return change


def _metrics(text: str) -> Change:
    return applied_data(assistant.GATE, {evals.METRICS_FILE: text})


def applied_data(name: str, data: dict[str, str]) -> Change:
    """These entries in a ConfigMap."""
    return lambda cluster: assistant.put_data(cluster, name, dict(data))


def _bounds(**changed: dict[str, float]) -> Change:
    return _gate(lambda gate: gate["metrics"].update(changed))


def _judge(**changed: Any) -> Change:
    return _gate(lambda gate: gate["judge"].update(changed))


def _runs(**changed: list[Any]) -> Change:
    return witnessed(
        "gate", lambda seen: seen["runs"].update({k.replace("_", "-"): v for k, v in changed.items()})
    )


def _always(code: int, verdict: str) -> Change:
    """A gate that says the same whatever it is asked."""

    def edit(seen: Seen) -> None:
        seen["runs"] = {name: [code, verdict, run[2], []] for name, run in seen["runs"].items()}
        seen["codes"] = {name: [code, verdict] for name in seen["codes"]}

    return witnessed("gate", edit)


def _other_program(job: Manifest) -> None:
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-c", "echo all is well"]


def _other_copies(job: Manifest) -> None:
    (copies,) = job["spec"]["template"]["spec"]["initContainers"]
    copies["env"][0]["value"] = copies["env"][0]["value"].replace('"off"', '"on"')


def _by_hand(name: str, edit: EditSeen) -> Change:
    """A Job that the learner changed, with a record that says that all is well."""
    return lambda cluster: leave(
        cluster, witness_gate.BOOK, name, {"seen": SEEN[name]}, made_with=_made_with, job=edit
    )


def _analysis(edit: Callable[[Manifest], object]) -> Change:
    return edited("AnalysisTemplate", assistant.TEMPLATE, edit, APPS)


def _arguments(template: Manifest) -> list[str]:
    job = template["spec"]["metrics"][0]["provider"]["job"]
    found: list[str] = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return found


def _at_stable(template: Manifest) -> None:
    words = _arguments(template)
    words[1] = words[1].replace(assistant.CANARY, assistant.STABLE)


MUTANTS = [
    # 1
    Mutant(
        "the sets as they were found",
        applied_data(assistant.SETS, sets.given_sets()),
        {"sets.clean": "the sets as they were found"},
        status=NOT_YET,
    ),
    Mutant(
        "a duplicate is left",
        _set("golden", lambda rows: rows.append({**rows[0], "id": "again"})),
        {"sets.clean": "asks the same"},
    ),
    Mutant(
        "an answer stands in its question",
        _set("golden", lambda rows: rows[0].update(question=f"Is it so: {rows[0]['expected']['reference']}")),
        {"sets.clean": "gives the reference away"},
    ),
    Mutant(
        "a passage that the corpus does not have",
        _set("golden", lambda rows: rows[0]["expected"].update(chunks=["kv-cash"])),
        {"sets.clean": "the corpus has no passage"},
    ),
    Mutant(
        "an id twice",
        _set("golden", lambda rows: rows[1].update(id=rows[0]["id"])),
        {"sets.clean": "the id stands"},
    ),
    Mutant(
        "a set is emptied", _set("adversarial", lambda rows: rows.clear()), {"sets.clean": "the set is empty"}
    ),
    Mutant(
        "every row that is hard is gone",
        _set("golden", lambda rows: rows.__delitem__(slice(8, None))),
        {"sets.clean": "8 golden rows"},
    ),
    # 2
    Mutant(
        "any bracket is a citation",
        _seen("gate", "planted", "citation", ["a passage that was not given: 1.0 and not 0"]),
        {"metrics.right": "a passage that was not given"},
    ),
    Mutant(
        "sorry is the only refusal",
        _seen("gate", "planted", "refusal", ["I do not know: 0.0 and not 1"]),
        {"metrics.right": "refusal: I do not know"},
    ),
    Mutant(
        "a share of what was expected",
        _seen("gate", "planted", "retrieval_precision", ["one of two: 1.0 and not 0.5"]),
        {"metrics.right": "retrieval_precision: one of two"},
    ),
    Mutant(
        "a function that does not compile",
        _metrics("def citation(answer, contexts)\n    return 1\n"),
        {"metrics.right": "metrics.py line 1"},
    ),
    Mutant(
        "a function that asks the clock",
        _metrics("import time\n\n\ndef citation(answer, contexts):\n    return time.time() % 1\n"),
        {"metrics.right": "may not import time"},
    ),
    Mutant(
        "functions that nobody wrote", _metrics("# later\n"), {"metrics.right": "no citation"}, status=NOT_YET
    ),
    Mutant(
        "functions that no witness saw",
        lambda cluster: assistant.put_data(
            cluster,
            assistant.GATE,
            {evals.METRICS_FILE: f"{proof_state.gate_files()[evals.METRICS_FILE]}\n# mended\n"},
        ),
        {"metrics.right": "the service was changed since it was seen"},
        status=NOT_YET,
    ),
    Mutant("a judge like a coin may block", _judge(blocks=True), {"judge.measured": "judge.blocks is true"}),
    Mutant("no word why", _judge(why=""), {"judge.measured": "judge.why says 'nothing'"}),
    Mutant(
        "a feeling instead of a figure",
        _judge(why="small models are not good judges"),
        {"judge.measured": "small models are not good judges"},
    ),
    Mutant("a figure of somebody else's", _judge(why="kappa 0.91"), {"judge.measured": "kappa 0.91"}),
    Mutant(
        "a good judge is sent away",
        _many("judge", ("kappa", 0.8), ("low", 0.61), ("high", 0.99), ("agreement", 0.9)),
        {"judge.measured": "judge.blocks is false"},
    ),
    Mutant(
        "nothing was decided of the judge",
        _gate(lambda gate: gate.pop("judge")),
        {"judge.measured": "nothing was decided"},
        status=NOT_YET,
    ),
    # 3
    Mutant(
        "a baseline written by hand",
        steps(
            _baseline(lambda found: [score.update(mean=0.5) for score in found["scores"].values()]),
            witnessed("gate"),
        ),
        {"floors.baseline": "0.50 in the baseline"},
    ),
    Mutant(
        "a baseline that the candidate wrote for itself",
        _baseline(lambda found: found["pins"].update(release="no-citations")),
        {"floors.baseline": "measured on the release 'no-citations'"},
    ),
    Mutant(
        "a baseline of other rows",
        _gate(lambda gate: gate["rows"].update(golden="all")),
        {"floors.baseline": "measured on other rows"},
    ),
    Mutant(
        "a metric that the baseline lacks",
        _bounds(similarity={"floor": 0.2, "max_drop": 0.1})
        if "similarity" not in proof_state.MEANS
        else steps(
            _bounds(similarity={"floor": 0.2, "max_drop": 0.1}),
            _baseline(lambda found: found["scores"].pop("similarity")),
        ),
        {"floors.baseline": "no similarity"},
    ),
    Mutant(
        "a deviation that excuses any mean",
        _baseline(lambda found: found["scores"]["citation"].update(mean=0.2, deviation=9)),
        {"floors.baseline": "no scores deviate like that: citation"},
    ),
    Mutant(
        "four rows carry the mean",
        _baseline(lambda found: found["scores"]["citation"].update(count=4)),
        {"floors.baseline": "fewer rows than 10: citation"},
    ),
    Mutant(
        "no baseline at all",
        without("ConfigMap", assistant.BASELINE, APPS),
        {"floors.baseline": "there is none", "floors.noise": "there is none"},
        status=NOT_YET,
    ),
    Mutant(
        "floors at nothing",
        steps(_bounds(citation={"floor": 0.0, "max_drop": 0.2}), witnessed("gate")),
        {"floors.noise": "prompt-cut is above every floor"},
    ),
    Mutant(
        "drops of any size",
        steps(_bounds(citation={"floor": 0.7, "max_drop": 1.0}), witnessed("gate")),
        {"floors.noise": "prompt-cut drops by no more than it may"},
    ),
    Mutant(
        "a floor at what was measured",
        steps(_bounds(citation={"floor": 0.97, "max_drop": 0.2}), witnessed("gate")),
        {"floors.noise": "citation: 0.000 to spare"},
    ),
    Mutant(
        "no drop at all is allowed",
        steps(_bounds(answered={"floor": 0.9, "max_drop": 0.0}), witnessed("gate")),
        {"floors.noise": "answered: 0.000 to spare"},
    ),
    Mutant(
        "the good release passes once",
        _runs(**{"good again": [1, "quality", ROWS, ["citation floor"]]}),
        {"floors.noise": "passed 1 of 2 times", "gate.verdicts": "good again: exit code 1"},
    ),
    # 4
    Mutant(
        "`|| true` behind the gate",
        _always(0, "pass"),
        {
            "gate.verdicts": "prompt-cut: exit code 0",
            "gate.codes": "the candidate is unreachable: exit code 0",
        },
    ),
    Mutant(
        "a gate that says nothing and lets all through",
        _always(0, ""),
        {"gate.verdicts": "good: exit code 0, nothing said", "gate.codes": "exit code 0, nothing said"},
    ),
    Mutant(
        "a gate that is always red",
        _always(1, "quality"),
        {"gate.verdicts": "good: exit code 1", "gate.codes": "exit code 1, quality"},
    ),
    Mutant(
        "the gate asks the stable release",
        steps(
            _analysis(_at_stable),
            witnessed(
                "gate",
                lambda seen: seen.update(
                    runs={name: [0, "pass", 0, []] for name in seen["runs"]},
                ),
            ),
        ),
        {"gate.verdicts": "the canary was asked 0 questions"},
    ),
    Mutant(
        "the gate calls vLLM past the orchestrator",
        witnessed("gate", lambda seen: [run.__setitem__(2, 0) for run in seen["runs"].values()]),
        {"gate.verdicts": "the canary was asked 0 questions"},
    ),
    Mutant(
        "a gate that nobody has given a baseline",
        _runs(**{name: [3, "configuration", 0, []] for name in ("good", "good again")}),
        {"gate.verdicts": "the good release: exit code 3, configuration"},
    ),
    Mutant(
        "nobody looks at the length",
        _runs(long_winded=[0, "pass", ROWS, []]),
        {"gate.verdicts": "long-winded: exit code 0, pass"},
    ),
    Mutant(
        "nobody looks at what was retrieved",
        _runs(no_retrieval=[0, "pass", ROWS, []], wrong_collection=[0, "pass", ROWS, []]),
        {"gate.verdicts": "no-retrieval: exit code 0, pass"},
    ),
    Mutant(
        "an unreachable target passes",
        _seen("gate", "codes", "unreachable", [0, "pass"]),
        {"gate.codes": "the candidate is unreachable: exit code 0"},
    ),
    Mutant(
        "an empty set passes",
        _seen("gate", "codes", "empty", [0, "pass"]),
        {"gate.codes": "a set is empty: exit code 0"},
    ),
    Mutant(
        "every failure is exit code 1",
        _many(
            "gate",
            *(("codes", name, [1, verdict]) for name, (_, verdict) in SEEN["gate"]["codes"].items()),
        ),
        {"gate.codes": "exit code 1, infrastructure"},
    ),
    Mutant(
        "the analysis was changed since",
        _analysis(lambda template: _arguments(template).append("--at-once=8")),
        dict.fromkeys(
            ("gate.verdicts", "gate.codes", "release.held", "release.through", "loop.stops"),
            "the service was changed since it was seen",
        ),
        status=NOT_YET,
    ),
    Mutant(
        "no analysis in the steps",
        _many(
            "release",
            ("bad", "through", True),
            ("bad", "stopped", False),
            ("bad", "gate", None),
            ("bad", "answers", {"stable": 60, "prompt-cut": 140}),
            ("bad", "after", {"prompt-cut": 24}),
        ),
        {"release.held": "it got through"},
    ),
    Mutant(
        "half of the users see the canary",
        _seen("release", "bad", "answers", {"stable": 100, "prompt-cut": 100}),
        {"release.held": "100 of 200 users were answered by it"},
    ),
    Mutant(
        "stopped because the gate could not ask",
        _seen("release", "bad", "gate", ["Failed", "infrastructure", 2, []]),
        {"release.held": "its analysis: Failed, infrastructure"},
    ),
    Mutant(
        "stopped, and a pod of it goes on",
        _seen("release", "bad", "after", {"stable": 18, "prompt-cut": 6}),
        {"release.held": "afterwards still 6 of 24"},
    ),
    Mutant(
        "nothing gets through",
        _many(
            "release",
            ("good", "through", False),
            ("good", "gate", ["Failed", "quality", 1, ["similarity floor"]]),
            ("good", "after", {"stable": 24}),
        ),
        {"release.through": "quality (similarity floor)"},
    ),
    Mutant(
        "through without an analysis",
        _seen("release", "good", "gate", None),
        {"release.through": "its analysis: no analysis"},
    ),
    Mutant(
        "through by a word and not by pods",
        _seen("release", "good", "after", {"stable": 18, "good": 6}),
        {"release.through": "6 of 24 users"},
    ),
    Mutant(
        "past the gate without a record",
        steps(
            without("ConfigMap", f"{rollouts.BREAK_GLASS}-{OVERRIDDEN}", APPS),
            proof_state.released(releases.STABLE, revision=OVERRIDDEN),
            witnessed("release"),
        ),
        {"release.breakglass": "went past its gate without one"},
    ),
    Mutant(
        "no glass was broken",
        without("ConfigMap", f"{rollouts.BREAK_GLASS}-{OVERRIDDEN}", APPS),
        {"release.breakglass": "no glass was broken"},
        status=NOT_YET,
    ),
    Mutant(
        "nobody approved it",
        overridden(lambda record: record["data"].update(approver=" ")),
        {"release.breakglass": "no approver"},
    ),
    Mutant(
        "figures that look better",
        overridden(
            lambda record: record["data"].update(figures=json.dumps({**FIGURES, "failed": ["citation drop"]}))
        ),
        {"release.breakglass": "other figures than the analysis left"},
    ),
    Mutant(
        "a record without figures",
        overridden(lambda record: record["data"].update(figures="{}")),
        {"release.breakglass": "no figures"},
    ),
    Mutant(
        "a record of an analysis that passed",
        overridden(phase="Successful"),
        {"release.breakglass": "is Successful"},
    ),
    Mutant(
        "a record of an analysis that nobody ran",
        overridden(lambda record: record["data"].update(run_uid="made-up")),
        {"release.breakglass": "there is no analysis"},
    ),
    # 8
    Mutant(
        "no row from a trace",
        _set("regression", lambda rows: rows.pop()),
        {"loop.row": "no row comes from a trace"},
        status=NOT_YET,
    ),
    Mutant(
        "a row whose trace is made up",
        with_row({**ROW, "source": f"trace:{'0' * 32}"}),
        {"loop.row": "no user's question has the trace"},
    ),
    Mutant(
        "a row with the wrong passage",
        with_row({**ROW, "expected": {**ROW["expected"], "chunks": ["snapshot-not-backup"]}}),  # type: ignore[dict-item]
        {"loop.row": "expects snapshot-not-backup"},
    ),
    Mutant(
        "a row with another question",
        with_row({**ROW, "question": "How do I take a snapshot before an upgrade?"}),
        {"loop.row": "asks something else than the trace"},
    ),
    Mutant(
        "a row that always passes",
        _many("loop", ("after", [0, "pass", ROWS + 1, []])),
        {"loop.stops": "with the row: exit code 0"},
    ),
    Mutant(
        "a row that stops everything",
        _many("loop", ("stable", [1, "quality", ROWS + 1, ["regression r-after-a-restore retrieval_hit"]])),
        {"loop.stops": "the stable release: exit code 1"},
    ),
    Mutant(
        "stopped by something else",
        _many("loop", ("after", [1, "quality", ROWS + 1, ["similarity floor"]])),
        {"loop.stops": "stopped by similarity floor"},
    ),
    Mutant(
        "stopped without the row too",
        _many("loop", ("before", [1, "quality", ROWS, ["citation floor"]])),
        {"loop.stops": "without the row: exit code 1"},
    ),
    # Records
    Mutant(
        "a witness with another program",
        _by_hand("judge", _other_program),
        {"judge.measured": "command of witness is not the course's own"},
    ),
    Mutant(
        "a witness with other releases",
        _by_hand("gate", _other_copies),
        dict.fromkeys(("gate.verdicts", "gate.codes"), "is not the course's own"),
    ),
    Mutant(
        "a record of another pod", forged(witness_gate.BOOK, "release"), {"release.held": "another pod's"}
    ),
    Mutant(
        "a gate that cannot be tried",
        lambda cluster: leave(
            cluster,
            witness_gate.BOOK,
            "gate",
            {"error": "RuntimeError: the release good does not become ready"},
            made_with=_made_with,
        ),
        {"gate.verdicts": "does not become ready"},
    ),
]
