"""Evaluations on the cluster: the eval runner as a Job, with the learner's sets, gate and baseline.

    text = measure_baseline(cluster, print)      # what llm-eval-baseline's main.json should be

What the runner is given stands in three ConfigMaps; a record is bound to their texts as they were (`bound_to`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from helpers.errors import LabError, StepMissing, WaitTimeout
from helpers.stack import assistant, orchestrator
from helpers.stack.orchestrator import short_hash

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.progress import Progress

NAMESPACE = assistant.NAMESPACE
IMAGE = "eval-runner"
CONTAINER = "eval-runner"
LABEL = "llm-eval-runner"
JOB = "llm-eval-baseline"
SETS = ("golden", "regression", "adversarial")
BASELINE_FILE, GATE_FILE, METRICS_FILE = "main.json", "gate.yaml", "metrics.py"
MAPS = {assistant.SETS: "sets", assistant.GATE: "gate", assistant.BASELINE: "baseline"}
FOLDER = "/etc/evals"
LONGEST_S = 420.0
TAIL = 400


class EvalFailed(LabError):
    """The runner ended without what it was asked for, in its own words."""


def sets_in(view: ClusterView) -> dict[str, str]:
    """The text of each data set in the ConfigMap, by the set's name."""
    data = assistant.data_in(view, assistant.SETS)
    return {name: data[f"{name}.jsonl"] for name in SETS if f"{name}.jsonl" in data}


def bound_to(view: ClusterView) -> dict[str, str]:
    """What a record of the gate rests on: each file of the three ConfigMaps by its short hash."""
    found = {}
    for name, part in MAPS.items():
        for file, text in assistant.data_in(view, name).items():
            found[f"{part}/{file}"] = short_hash(text)
    return found


# The runner as a Job


def image(view: ClusterView) -> str:
    """The runner's image: the profile's, or where a cluster has none in its profile, that of the learner's own Job.

    Raises:
        StepMissing: neither names one.
    """
    named = view.profile.images.get(IMAGE, "")
    if not named and view.find("AnalysisTemplate", assistant.TEMPLATE, NAMESPACE) is not None:
        containers = (analysis_job(view).get("spec") or {}).get("containers") or [{}]
        named = str(containers[0].get("image", ""))
    if not named:
        raise StepMissing(
            "This cluster's profile names no image of the eval runner: see the README on other clusters."
        )
    return named


def container(image: str, *arguments: str) -> dict[str, Any]:
    """The runner's container, as the analysis Job has it too."""
    mounts = [{"name": part, "mountPath": f"{FOLDER}/{part}", "readOnly": True} for part in MAPS.values()]
    token = {"secretKeyRef": {"name": orchestrator.SECRET, "key": orchestrator.TOKEN}}
    return {
        "name": CONTAINER,
        "image": image,
        "command": ["python3", "-m", "helpers.apps.evals", *arguments],
        "workingDir": "/tmp",
        "env": [
            {"name": "INTERNAL_API_TOKEN", "valueFrom": token},
            {"name": "RUNNER_IMAGE", "value": image},
        ],
        "resources": {
            "requests": {"cpu": "10m", "memory": "192Mi"},
            "limits": {"cpu": "1", "memory": "512Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],
    }


def pod_spec(*containers: dict[str, Any]) -> dict[str, Any]:
    """A pod around the runner's containers, with the three ConfigMaps."""
    maps = [{"name": part, "configMap": {"name": name, "optional": True}} for name, part in MAPS.items()]
    return {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": list(containers),
        "volumes": [*maps, {"name": "tmp", "emptyDir": {}}],
    }


def measure_baseline(
    cluster: Cluster,
    on_progress: Progress = lambda line: None,
    *,
    runs: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
) -> str:
    """Measure the stable release with the sets and the gate as they are; the text for `main.json`.

    Raises:
        StepMissing: there is no gate yet, or no assistant.
        EvalFailed: the runner refused, in its words.
    """
    view = cluster.view()
    if GATE_FILE not in assistant.data_in(view, assistant.GATE):
        raise StepMissing(f"There is no {GATE_FILE} in ConfigMap {assistant.GATE} yet: write the gate first.")
    target = f"http://{assistant.STABLE}:{assistant.PORT}"
    text = run_job(
        cluster,
        JOB,
        ("baseline", "--target", target, "--runs", str(runs)),
        on_progress=on_progress,
        should_stop=should_stop,
    )
    return text[text.index("{") :]


def run_job(
    cluster: Cluster,
    name: str,
    arguments: tuple[str, ...],
    *,
    on_progress: Progress = lambda line: None,
    should_stop: Callable[[], bool] = lambda: False,
    timeout_s: float = LONGEST_S,
) -> str:
    """Run the runner with these arguments as a Job; its standard output.

    Raises:
        EvalFailed: it ended with another code than 0, in its words.
        WaitTimeout: it does not end, or was given up.
    """
    cluster.delete("Job", name, NAMESPACE, wait_s=30, grace_s=1)
    cluster.apply(_job(cluster.view(), name, arguments))
    until, began = time.monotonic() + timeout_s, time.monotonic()
    while True:
        pods = cluster.view().pods(NAMESPACE, labels=f"batch.kubernetes.io/job-name={name}")
        pod = pods[0] if pods else None
        if pod is not None and pod.phase in ("Succeeded", "Failed"):
            break
        if should_stop() or time.monotonic() > until:
            cluster.delete("Job", name, NAMESPACE, grace_s=1)
            raise WaitTimeout(
                f"the Job {name} did not end", next_command=f"kubectl logs -n {NAMESPACE} job/{name}"
            )
        on_progress(f"{arguments[0]}: {time.monotonic() - began:.0f} s")
        time.sleep(0.5)
    text = cluster.logs(NAMESPACE, pod.name, container=CONTAINER, tail_lines=TAIL)
    if pod.phase == "Failed":
        last = text.strip().splitlines()[-1:] or ["it said nothing"]
        raise EvalFailed(
            f"the runner ended without a result: {last[0]}",
            next_command=f"kubectl logs -n {NAMESPACE} job/{name}",
        )
    return text


def _job(view: ClusterView, name: str, arguments: tuple[str, ...]) -> dict[str, Any]:
    labels = {"app": LABEL}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": int(LONGEST_S),
            "template": {
                "metadata": {"labels": labels},
                "spec": pod_spec(container(image(view), *arguments)),
            },
        },
    }


# The learner's analysis


def analysis_job(view: ClusterView) -> dict[str, Any]:
    """The pod template of the Job in the learner's AnalysisTemplate; empty where it has none.

    Raises:
        ObjectMissing: there is no AnalysisTemplate.
    """
    template = view.get("AnalysisTemplate", assistant.TEMPLATE, NAMESPACE)
    for metric in template.path("spec.metrics", []) or []:
        job = ((metric.get("provider") or {}).get("job") or {}).get("spec") or {}
        if job:
            found: dict[str, Any] = job.get("template") or {}
            return found
    return {}
