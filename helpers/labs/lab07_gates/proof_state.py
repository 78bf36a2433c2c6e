"""Lab 07's cluster as fakes keep it: the start, and the solution but for the witnesses' records.

Both halves of the lab's proofs (`mutants_gate`, `mutants_traces`) begin here and leave the records of their
own witnesses (`records`). Objects come from the manifests and from the solution's cells, so that both are
proved with the checks.
"""

from __future__ import annotations

import ast
import json
from copy import deepcopy
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from helpers import kubeyaml
from helpers.apps.evals import gatefile, rows, scores
from helpers.cluster.patches import merge
from helpers.grading.changes import Manifest, applied, manifest, pod, rolled_out, solved, yaml_cells
from helpers.labs.lab06_orchestration.mutants import gateway_objects
from helpers.labs.lab06_orchestration.mutants import start as start_of_lab_06
from helpers.labs.lab07_gates import ground, sets
from helpers.settings import REPOSITORY
from helpers.stack import assistant, evals, gateway, releases, rollouts, traces

APPS, OBSERVABILITY = assistant.NAMESPACE, assistant.OBSERVABILITY
SOLVED = REPOSITORY / "solutions" / "07_gates.py"
STACK = REPOSITORY / "manifests" / "stack"
ARGO = ("argoproj.io", "v1alpha1")
# The revision that users have.
STABLE_HASH = "6d5f8b9c7"
FUNCTIONS = {
    "metrics.py": ("citation", "refusal", "retrieval_precision"),
    "trace.py": ("span_attributes", "span_events"),
}
# What the witness `judge` measured, as `gate.yaml` quotes it.
KAPPA = {"agreement": 0.52, "chance": 0.5, "kappa": 0.04, "low": -0.27, "high": 0.35}
# The baseline's means: what the stable release scores.
MEANS = {
    "answered": 1.0,
    "retrieval_hit": 1.0,
    "retrieval_precision": 0.33,
    "citation": 1.0,
    "refusal": 0.8,
    "similarity": 0.33,
}


def start(cluster: Any) -> None:
    """What `course start 07` leaves: lab 06's ground, the assistant's stable release, Phoenix and a naive Collector.

    What another lab has put there stays as it is.
    """
    start_of_lab_06(cluster)
    serves_rollouts(cluster)
    view = cluster.view()
    if view.find("ConfigMap", gateway.CONFIG, gateway.NAMESPACE) is None:
        applied(*gateway_objects())(cluster)
    applied(manifest("Namespace", OBSERVABILITY), *assistant_objects())(cluster)
    applied(manifest("ConfigMap", assistant.SETS, APPS, data=sets.given_sets()))(cluster)
    released(releases.STABLE)(cluster)
    rolled_out(*observability_objects())(cluster)
    collector_config(ground.first_collector())(cluster)
    phoenix_holds()(cluster)


def solution(cluster: Any) -> None:
    """All eight parts as the page's solution leaves them, without any witness's record."""
    reviewed = sets.reviewed(yaml_cells("07")["review"])
    applied(manifest("ConfigMap", assistant.SETS, APPS, data=sets.as_data(reviewed)))(cluster)
    applied(manifest("ConfigMap", assistant.GATE, APPS, data=gate_files()))(cluster)
    applied(manifest("ConfigMap", assistant.BASELINE, APPS, data={evals.BASELINE_FILE: baseline()}))(cluster)
    applied(*solved("07", "analysis_yaml"))(cluster)
    released(releases.STABLE, strategy=yaml.safe_load(yaml_cells("07")["strategy_yaml"]))(cluster)
    settings(yaml.safe_load(yaml_cells("07")["otel_settings"]))(cluster)
    applied(manifest("ConfigMap", assistant.DECISIONS, APPS, data={"trace.py": functions_text("trace.py")}))(
        cluster
    )
    collector_config(yaml_cells("07")["collector_yaml"])(cluster)
    prices = yaml_cells("07")["prices"].replace("$SERVED_MODEL", _model(cluster))
    applied(manifest("ConfigMap", assistant.PRICES, APPS, data={traces.PRICES_FILE: prices}))(cluster)


def _model(cluster: Any) -> str:
    return str(cluster.profile().served_model_name)


# Objects


def serves_rollouts(cluster: Any) -> None:
    """The kinds of Argo Rollouts, as its CustomResourceDefinitions bring them."""
    for kind in ("Rollout", "AnalysisTemplate", "AnalysisRun", "Experiment"):
        cluster.serve_kind(kind, *ARGO, f"{kind.lower()}s")


@cache
def _text(part: str, *names: str) -> str:
    base = STACK / part / "base"
    found = [item for name in names for item in yaml.safe_load_all((base / f"{name}.yaml").read_text())]
    return json.dumps(found)


def assistant_objects() -> list[Manifest]:
    """Everything of the assistant but its Rollout."""
    found: list[Manifest] = json.loads(
        _text("assistant", "config", "service-account", "service", "network-policy", "ways")
    )
    return found


def observability_objects() -> list[Manifest]:
    """Phoenix and the Collector, with their Services and policies."""
    found = [
        *json.loads(_text("phoenix", "service", "network-policy", "deployment")),
        *json.loads(_text("otel-collector", "service", "network-policy", "deployment")),
    ]
    for item in found:
        item["metadata"]["namespace"] = OBSERVABILITY
    return found


def rollout(release: str = releases.STABLE, *, strategy: Manifest | None = None) -> Manifest:
    """The Rollout with a release in its pod template, and a fragment with a strategy laid over it."""
    (found,) = json.loads(_text("assistant", "rollout"))
    releases.with_release(found["spec"]["template"], release, assistant.CONTAINER)
    if strategy is not None:
        canary = found["spec"]["strategy"]["canary"]
        canary.pop("steps", None)
        found["spec"] = merge(found["spec"], deepcopy(strategy["spec"]), keyed=False)
    result: Manifest = found
    return result


def released(
    release: str, *, revision: str = STABLE_HASH, strategy: Manifest | None = None, **status: Any
) -> Any:
    """A Rollout at rest with this release stable, its ReplicaSet and its pods; `status` is laid over the usual one."""

    def change(cluster: Any) -> None:
        wanted = rollout(release, strategy=strategy)
        count = wanted["spec"]["replicas"]
        usual = {
            "phase": "Healthy",
            "observedGeneration": "1",
            "stableRS": revision,
            "currentPodHash": revision,
            **dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count),
        }
        wanted["metadata"]["generation"] = 1
        cluster.put({**wanted, "status": {**usual, **status}})
        for old in cluster.view().pods(APPS, labels=assistant.LABELS):
            cluster.delete("Pod", old.name, APPS)
        labels = {"app": assistant.ROLLOUT, rollouts.HASH: revision}
        template = wanted["spec"]["template"]
        template["metadata"]["labels"] = labels
        cluster.put(
            manifest(
                "ReplicaSet",
                f"{assistant.ROLLOUT}-{revision}",
                APPS,
                labels=labels,
                spec={"replicas": count, "selector": {"matchLabels": labels}, "template": template},
            )
        )
        for number in range(count):
            name = f"{assistant.ROLLOUT}-{revision}-{number}"
            cluster.put(pod(name, template["spec"], APPS, labels=labels))

    return change


def settings(wanted: dict[str, str]) -> Any:
    """These settings over those that the assistant has."""

    def change(cluster: Any) -> None:
        data = {**assistant.data_in(cluster.view(), assistant.CONFIG), **wanted}
        applied(manifest("ConfigMap", assistant.CONFIG, APPS, data=data))(cluster)

    return change


def collector_config(text: str) -> Any:
    """The Collector's configuration."""
    data = {assistant.COLLECTOR_FILE: text}
    return applied(manifest("ConfigMap", assistant.COLLECTOR_CONFIG, OBSERVABILITY, data=data))


def phoenix_holds(*lost: str) -> Any:
    """Phoenix has whatever trace it is asked for, but for these: a root of one span, by its REST interface."""

    def answer(method: str, path: str, body: Any) -> tuple[int, str]:
        asked = parse_qs(urlsplit(path).query).get("trace_id", [])
        return 200, json.dumps({"data": [_root(name) for name in asked if name not in lost]})

    return lambda cluster: cluster.serve(OBSERVABILITY, assistant.PHOENIX, traces.PORT, answer)


def _root(trace_id: str) -> Manifest:
    at = "2026-01-01T12:00:00+00:00"
    return {
        "name": traces.ROOT,
        "context": {"trace_id": trace_id, "span_id": trace_id[:16]},
        "parent_id": None,
        "start_time": at,
        "end_time": at,
        "status_code": "OK",
        "attributes": {},
        "events": [],
    }


# What the page's cells write


def functions_text(file: str) -> str:
    """`metrics.py` or `trace.py` as the page delivers the solution's functions."""
    tree = ast.parse(SOLVED.read_text())
    named = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    texts = [
        ast.unparse(ast.FunctionDef(**{**vars(named[name]), "decorator_list": []}))
        for name in FUNCTIONS[file]
    ]
    return assistant.HEAD + "\n\n\n".join(texts) + "\n"


def gate_files() -> dict[str, str]:
    """ConfigMap `llm-eval-gate`: metrics, bounds, and the judge's part with the figures that were measured."""
    cells = yaml_cells("07")
    judge = cells["judgement"]
    for name, value in KAPPA.items():
        judge = judge.replace(f"${name.upper()}", f"{value:.2f}")
    gate = {**yaml.safe_load(cells["gate_yaml"]), "judge": yaml.safe_load(judge)}
    return {evals.METRICS_FILE: functions_text("metrics.py"), evals.GATE_FILE: kubeyaml.dump(gate)}


def baseline(release: str = releases.STABLE, **means: float) -> str:
    """`main.json` of this release, measured on the gate's rows; `means` are laid over those of the stable one."""
    from helpers.cluster.fake import default_profile

    gate = gatefile.read(gate_files()[evals.GATE_FILE])
    texts = {
        name.removesuffix(".jsonl"): text
        for name, text in sets.as_data(sets.reviewed(yaml_cells("07")["review"])).items()
    }
    chosen = rows.chosen(texts, gate.rows)
    averaged = [row for name in gatefile.AVERAGED for row in chosen.get(name, ())]
    answered = len([row for row in averaged if not row.refuses])
    counts = {"refusal": len(averaged) - answered}
    found = {
        name: scores.Score(mean, 0.2 if mean < 1 else 0.0, counts.get(name, answered), (mean,))
        for name, mean in {**MEANS, **means}.items()
    }
    pins = {
        "model": default_profile().served_model_name,
        "prompt": "0" * 12,
        "collection": "course_docs",
        "release": release,
        "rows": rows.fingerprint(averaged),
    }
    return scores.Baseline(pins, found).text()
