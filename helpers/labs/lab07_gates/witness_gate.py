"""The witnesses of the gate: a judge measured, a gate tried on every candidate, releases under users' eyes, the loop.

`gate` and `loop` run the learner's own analysis Job, word for word, as a process in a pod of the course's,
against copies of the orchestrator. A record of theirs is bound to that Job and to the files it reads; one of
`release` also to the Rollout's strategy. Rows of the regression set bind the loop's alone: the set grows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from helpers.cluster.manifests import load_one
from helpers.errors import LabError, StepMissing
from helpers.labs import witnessing
from helpers.labs.witnessing import Book, Witness
from helpers.settings import REPOSITORY
from helpers.stack import assistant, evals, gateway, releases, rollouts
from helpers.stack.orchestrator import short_hash

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Pod
    from helpers.labs.witnessing import Record
    from helpers.progress import Progress

MANIFESTS = REPOSITORY / "manifests" / "labs" / "07"
HERE = Path(__file__).parent
APPS, GATEWAY = assistant.NAMESPACE, gateway.NAMESPACE
LABELS_FILE = REPOSITORY / "helpers" / "apps" / "evals" / "data" / "labels.jsonl"
COPY_MIB = 96
FIRST_PORT, FIRST_METRICS_PORT = 9001, 9101
REGRESSION = "sets/regression.jsonl"
# Which releases stand in the pod as copies.
COPIES: Mapping[str, tuple[str, ...]] = {
    "judge": (),
    "gate": (releases.STABLE, releases.GOOD, *releases.BAD),
    "users": (releases.LOST_PAGE,),
    "loop": (releases.LOST_PAGE, releases.STABLE),
}
BAD_ONE = "prompt-cut"
# Names of the canary and of the stable Service, in every form that resolves to them.
_FORMS = ("", ".llm-apps", ".llm-apps.svc", ".llm-apps.svc.cluster.local")

WITNESSES: dict[str, Witness] = {
    item.name: item
    for item in (
        Witness("judge", "vLLM's model as a judge of forty labelled answers", APPS, seconds=30),
        Witness("gate", "your gate on a good release and on five bad ones", APPS, seconds=180, alone=True),
        Witness("release", "a bad and a good release, while users ask", GATEWAY, seconds=240, alone=True),
        Witness("users", "a day of users with a release that passed your gate", APPS, seconds=40),
        Witness("loop", "that release again, now that there is a row for it", APPS, seconds=90, alone=True),
    )
}


# Their Jobs


def make(view: ClusterView, name: str) -> dict[str, Any]:
    """The Job of this witness as it would be started now.

    Raises:
        ObjectMissing: what it would ask is not there.
    """
    file = "release" if name == "release" else "gate"
    images = view.profile.images
    job: dict[str, Any] = json.loads(
        _job(name, file, images.get("orchestrator", ""), "" if file == "release" else evals.image(view))
    )
    if name in ("gate", "loop", "release"):
        _variable(job, witnessing.REVISION, json.dumps(bound_to(view, name), sort_keys=True))
    if name == "release":
        rollouts.rollout(view)
    return job


@cache
def _job(name: str, file: str, orchestrator: str, runner: str) -> str:
    text = (MANIFESTS / f"witness-{file}.yaml").read_text()
    memory = f"{COPY_MIB * max(1, len(COPIES.get(name, ())))}Mi"
    names = {"NAME": name, "ORCHESTRATOR": orchestrator, "EVAL_RUNNER": runner, "COPIES_MEMORY": memory}
    job = load_one(Template(text).safe_substitute(names))
    spec = job["spec"]["template"]["spec"]
    spec["containers"][0]["command"] = witnessing.command(HERE / f"witness_{file}_program.py", name)
    if file == "gate":
        _place_copies(job, name)
    return json.dumps(job)


def _place_copies(job: dict[str, Any], name: str) -> None:
    """A copy a release, each on ports of its own; and the two names, for those that judge."""
    spec = job["spec"]["template"]["spec"]
    wanted = {release: _variables(name, release, number) for number, release in enumerate(COPIES[name])}
    if not wanted:
        spec.pop("initContainers")
        return
    (copies,) = spec["initContainers"]
    copies["command"] = ["python3", "-c", (HERE / "copies_program.py").read_text()]
    copies["env"] = [{"name": "RELEASES", "value": json.dumps(wanted)}]
    _variable(job, "COPIES", json.dumps({release: int(item["PORT"]) for release, item in wanted.items()}))
    if name == "users":
        _variable(job, "QUESTION", releases.LOST_QUESTION)
    if name in ("gate", "loop"):
        spec["hostAliases"] = [
            {"ip": ip, "hostnames": [service + form for form in _FORMS]}
            for ip, service in (("127.0.0.2", assistant.CANARY), ("127.0.0.3", assistant.STABLE))
        ]


def _variables(name: str, release: str, number: int) -> dict[str, str]:
    """What one copy has beside the assistant's settings."""
    return releases.RELEASES[release].environment | {
        "PORT": str(FIRST_PORT + number),
        "METRICS_PORT": str(FIRST_METRICS_PORT + number),
        # It takes over no thread of the real pods.
        "RUN_GROUP": f"witness-{name}-{release}",
        # Only what users asked is anybody's trace.
        **({} if name == "users" else {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}),
    }


def _variable(job: dict[str, Any], name: str, value: str) -> None:
    job["spec"]["template"]["spec"]["containers"][0].setdefault("env", []).append(
        {"name": name, "value": value}
    )


def bound_to(view: ClusterView, name: str) -> dict[str, Any]:
    """What a record rests on: the learner's Job, the files that it reads, and of a release the strategy.

    Raises:
        ObjectMissing: there is no AnalysisTemplate, or no Rollout.
    """
    files = {file: sha for file, sha in evals.bound_to(view).items() if file != REGRESSION or name == "loop"}
    found = {**learners_job(view), "files": files}
    if name == "release":
        strategy = rollouts.rollout(view).path("spec.strategy", {})
        found["strategy"] = short_hash(json.dumps(strategy, sort_keys=True))
    return found


def learners_job(view: ClusterView) -> dict[str, Any]:
    """The Job of the AnalysisTemplate: command, variables (None: from elsewhere), folders by what is mounted there.

    Raises:
        ObjectMissing: there is no AnalysisTemplate.
    """
    template = view.get("AnalysisTemplate", assistant.TEMPLATE, APPS)
    spec = (evals.analysis_job(view).get("spec") or {}) or {}
    container = (spec.get("containers") or [{}])[0]
    given = _arguments(view, template.path("spec.args", []) or [])
    command = [
        _filled(str(word), given)
        for word in [*(container.get("command") or []), *(container.get("args") or [])]
    ]
    env = {
        str(item.get("name")): _filled(str(item["value"]), given) if "value" in item else None
        for item in container.get("env") or []
    }
    return {"command": command, "env": env, "folders": _folders(spec, container)}


def _arguments(view: ClusterView, declared: list[Mapping[str, Any]]) -> dict[str, str]:
    """The analysis's arguments: what the template says, over it what the Rollout's step says."""
    found = {str(item.get("name")): str(item.get("value", "")) for item in declared}
    rollout = view.find("Rollout", rollouts.ROLLOUT, APPS)
    steps = rollout.path("spec.strategy.canary.steps", []) if rollout else []
    for step in steps or []:
        for item in (step.get("analysis") or {}).get("args") or []:
            found[str(item.get("name"))] = str(item.get("value", ""))
    return found


def _filled(text: str, given: Mapping[str, str]) -> str:
    for name, value in given.items():
        text = text.replace("{{args." + name + "}}", value).replace("{{ args." + name + " }}", value)
    return text


def _folders(spec: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, str]:
    """Where the Job has the three ConfigMaps, by path."""
    parts = {}
    for volume in spec.get("volumes") or []:
        part = evals.MAPS.get((volume.get("configMap") or {}).get("name", ""))
        if part:
            parts[volume["name"]] = part
    return {
        str(mount["mountPath"]).rstrip("/"): parts[mount["name"]]
        for mount in container.get("volumeMounts") or []
        if mount.get("name") in parts
    }


def labels_hash() -> str:
    """The labelled answers that the course has now."""
    return hashlib.sha256(LABELS_FILE.read_bytes()).hexdigest()[:12]


BOOK = Book("07", WITNESSES, make)


# Running


def run(
    cluster: Cluster,
    name: str,
    *,
    on_progress: Progress,
    should_stop: Callable[[], bool] = lambda: False,
) -> Record:
    """Run one of these witnesses to its end; its record.

    Raises:
        StepMissing: what it would look at is not there yet, or users have what it would release.
        WaitTimeout, Stopped: as `witnessing.run`.
    """
    view = cluster.view()
    if (
        name in ("gate", "loop", "release")
        and view.find("AnalysisTemplate", assistant.TEMPLATE, APPS) is None
    ):
        raise StepMissing("There is no gate yet: put the AnalysisTemplate in place in part 4.")
    asked: dict[str, witnessing.Asked] = {}
    if name == "release":
        on_progress("release: waiting until the Rollout is at rest")
        now = rollouts.wait_decided(cluster, on_progress=on_progress, should_stop=should_stop)
        if now.is_through and now.release == BAD_ONE:
            raise StepMissing(
                f"Users have {BAD_ONE} already: nobody could tell its canary from what they have.",
                next_command=f"course release {releases.STABLE}",
            )
        asked = {
            word: _released(cluster, release, on_progress, should_stop)
            for word, release in (("bad", BAD_ONE), ("good", releases.GOOD))
        }
    return witnessing.run(BOOK, cluster, name, on_progress=on_progress, should_stop=should_stop, asked=asked)


def _released(
    cluster: Cluster, release: str, say: Progress, should_stop: Callable[[], bool]
) -> witnessing.Asked:
    """Release a candidate, wait until it is decided, and tell the witness how."""

    def act(pod: Pod, _: str) -> None:
        before = rollouts.standing(cluster.view())
        rollouts.release(cluster, release)
        most = 0

        def tell(line: str) -> None:
            nonlocal most
            most = max(most, rollouts.standing(cluster.view()).weight)
            say(f"release: {line}")

        try:
            now = rollouts.wait_decided(cluster, on_progress=tell, should_stop=should_stop)
            error = ""
        except LabError as failed:
            now, error = rollouts.standing(cluster.view()), str(failed)[:200]
        gate = rollouts.gate_of(cluster.view(), now.current)
        outcome = {
            "release": release,
            "revision": now.current,
            "through": now.is_through and now.current != before.current,
            "stopped": now.is_stopped,
            "weight": most,
            "gate": [gate.phase, gate.verdict, gate.exit_code, list(gate.said.get("failed") or [])[:4]]
            if gate
            else None,
            "error": error,
        }
        witnessing.answer(cluster, pod, {releases.GOOD: "good"}.get(release, "bad"), json.dumps(outcome))

    return act
