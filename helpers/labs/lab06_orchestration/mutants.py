"""Wrong clusters for lab 06: what learners decide wrongly, and what a witness saw of it.

A record is written as the witness's pod leaves it, by the Job of the present state, so that each wrong cluster
fails for what it says; some Jobs are made by hand, to be caught. Connections are answered by the stored
policies, Redis and names by what is stored, as `front_backends` and lab 04 do it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import yaml

from helpers.cluster.backend import ExecResult
from helpers.cluster.patches import merge
from helpers.grading.author import Mutant, Proofs
from helpers.grading.changes import (
    Change,
    Manifest,
    applied,
    edited,
    manifest,
    rolled_out,
    solved,
    steps,
    yaml_cells,
)
from helpers.grading.verdict import Status
from helpers.labs.backends import both_with_probes
from helpers.labs.front_backends import redis_holds
from helpers.labs.lab06_orchestration import ground, witness
from helpers.labs.witnessed_fakes import forged, leave
from helpers.stack import gateway, orchestrator, state
from helpers.stack.policy_forecast import Party, decide
from helpers.stack.stage import read_stage

APPS, SYSTEM, GATEWAY = orchestrator.NAMESPACE, orchestrator.SYSTEM, gateway.NAMESPACE
Seen = dict[str, Any]
EditSeen = Callable[[Seen], object]
DURABLE = {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory": "201326592",
    "maxmemory-policy": "noeviction",
}
IN_MEMORY = {
    "appendonly": "no",
    "appendfsync": "everysec",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
}

# What each witness sees of a service that does everything right.
TALK = {
    "status": 200,
    "sent": 1,
    "refused": 0,
    "system": True,
    "question": True,
    "kept": 12,
    "newest": True,
    "prompt_tokens": 3100,
}
SEEN: dict[str, Seen] = {
    "answer": {
        "status": 200,
        "answered": True,
        "citations": 4,
        "degraded": False,
        "bare": 401,
        "theirs": 404,
        "said": "",
    },
    "budget": {"silent": {"status": 503, "s": 0.9}, "slow": {"status": 200, "s": 5.7, "citations": 3}},
    "state": {
        "status": 200,
        "citations": 4,
        "generations": 1,
        "keys": 12,
        "for_ever": 0,
        "texts": 0,
        "sought": 4,
    },
    "again": {
        "statuses": [200],
        "answers": 1,
        "generations": 1,
        "late": {"status": 200, "generations": 0, "same": True, "replayed": True},
        "foreign": {"status": 200, "generations": 1},
        "other": {"status": 409, "same": False},
        "lease_s": 6,
        "leases_for_ever": 0,
    },
    "window": {"words": dict(TALK), "digits": dict(TALK)},
    "retry": {
        "calls": {"400": 1, "401": 1, "422": 1, "429": 2, "503": 2, "reset": 2},
        "healed": {"status": 200, "calls": 2},
    },
    "degrade": {
        "documentation": {"status": 200, "kind": "general_answer", "label": "no documents", "answered": True},
        "compliance": {"status": 503, "kind": None, "label": "", "answered": False},
        "brainstorming": {"status": 200, "kind": "continue", "label": "no documents", "answered": True},
        "healthy": {"status": 200, "degraded": False},
    },
    "pressure": {
        "reached": [1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        "served": 14,
        "circuits": {"vllm": 0, "qdrant": 2},
        "most": 2,
        "limit": 2,
        "greedy": {"200": 6, "429": 34},
        "quiet": {"200": 2},
        "retry_after": 34,
    },
    "survive": {
        "rollout": {"rolled": True, "answered": 14, "lost": 0, "first": [], "from": 0, "to": 40},
        "killed": {"cut": 5, "finished": 5, "answered": 5, "once": 5, "with_documents": 5},
        "redis": {"gone": True, "restarts": 0, "status": 200, "same": True},
    },
    "gateway": {
        "none": 401,
        "wrong": 401,
        "posing": 200,
        "own": 200,
        "theirs": 404,
        "stream": {"status": 200, "tokens": 420, "fell": 420},
        "trial": {"answered": 2, "refused": True, "retry_after": True},
        "beside": 200,
        "direct": 200,
    },
}


# The stack


def redis_objects() -> list[Manifest]:
    """Redis as the solution leaves it, with its Service."""
    service = next(yaml.safe_load_all((ground.MANIFESTS / "start" / "redis.yaml").read_text()))
    return [service, *solved("06", "redis_yaml")]


@cache
def _orchestrator_text() -> str:
    base = orchestrator.MANIFESTS / "base"
    found = [
        item
        for name in ("config", "service-account", "service", "deployment")
        for item in yaml.safe_load_all((base / f"{name}.yaml").read_text())
    ]
    for item in found:
        item["metadata"]["namespace"] = APPS
        if item["kind"] == "ConfigMap":
            item["data"] |= {
                name: value
                for cell in ("names_settings", "state_settings", "lease_settings", "client_settings")
                for name, value in yaml.safe_load(yaml_cells("06")[cell]).items()
            }
        if item["kind"] == "Deployment":
            item.update(merge(item, yaml.safe_load(yaml_cells("06")["rollout_yaml"]), keyed=True))
            item["spec"]["replicas"] = 1  # `rolled_out` makes one pod
    return json.dumps(found)


def orchestrator_objects() -> list[Manifest]:
    """Settings, Service and Deployment as the solution leaves them."""
    found: list[Manifest] = json.loads(_orchestrator_text())
    return found


def decisions(**changed: str | None) -> Manifest:
    """The ConfigMap with the decisions' files; what is in them only has to differ from one another."""
    files: dict[str, str | None] = {name: f"# {name}, as solved\n" for name in orchestrator.DECISION_FILES}
    data = {f"{name}.py": text for name, text in {**files, **changed}.items() if text is not None}
    return manifest("ConfigMap", orchestrator.DECISIONS, APPS, data=data)


def gateway_objects() -> list[Manifest]:
    """The gateway's ConfigMaps and policies, with the solution's limits."""
    base = gateway.MANIFESTS / "base"
    limits = yaml.safe_load(yaml_cells("06")["limits_yaml"])
    envoy = ground.with_limits((base / "envoy.yaml").read_text(), limits)
    policies = list(yaml.safe_load_all((base / "network-policy.yaml").read_text()))
    for policy in policies:
        policy["metadata"]["namespace"] = GATEWAY
    return [
        manifest("ConfigMap", gateway.CONFIG, GATEWAY, data={gateway.FILE: envoy}),
        manifest(
            "ConfigMap", gateway.TOKENS, GATEWAY, data={"tokens.yaml": (base / "tokens.yaml").read_text()}
        ),
        *policies,
    ]


def start(cluster: Any) -> None:
    """Both backends, probes, keys, and Redis in memory."""
    both_with_probes(cluster)
    applied(manifest("Namespace", GATEWAY))(cluster)
    gateway.ensure_keys(cluster)
    if cluster.view().find("StatefulSet", orchestrator.REDIS, SYSTEM) is None:
        rolled_out(*ground.prototype_redis(cluster))(cluster)
        redis_holds(state.Store(settings=IN_MEMORY))(cluster)
    _answers_probes(cluster)


def solution(cluster: Any) -> None:
    """All ten parts as they should be."""
    rolled_out(*redis_objects())(cluster)
    redis_holds(state.Store(settings=DURABLE))(cluster)
    applied(decisions())(cluster)
    rolled_out(*orchestrator_objects())(cluster)
    _tells_decisions(cluster)
    applied(*solved("06", "policies_yaml"), *gateway_objects())(cluster)
    for name in witness.WITNESSES:
        witnessed(name)(cluster)


def _tells_decisions(cluster: Any) -> None:
    """The pods say which decisions they were started with: those in the ConfigMap at this moment."""
    lines = [
        f'llm_orchestrator_decision_info{{decision="{name}",source="mounted",sha256="{short}"}} 1'
        for name, short in orchestrator.decisions_in(cluster.view()).items()
    ]
    text = "\n".join(lines) + "\n"
    cluster.serve(
        APPS, orchestrator.SERVICE, orchestrator.METRICS_PORT, lambda method, path, body: (200, text)
    )


def witnessed(name: str, edit: EditSeen = lambda seen: None, **other: Any) -> Change:
    """A witness's Job and its pod, ended with a record of the present state; `other` stands in the record too."""

    def change(cluster: Any) -> None:
        seen = deepcopy(SEEN[name])
        edit(seen)
        _leave(cluster, name, {"seen": seen, **other})

    return change


def _leave(cluster: Any, name: str, said: Mapping[str, Any], job: EditSeen = lambda job: None) -> None:
    """The Job as it would be started now, edited, its pod, and what the pod says."""
    leave(cluster, witness.BOOK, name, said, made_with=_made_with, job=job)


def _made_with(view: Any) -> Manifest:
    return {"files": orchestrator.decisions_in(view), "settings": orchestrator.settings_in(view)}


# What probe pods see


def _answers_probes(cluster: Any) -> None:
    """Names resolve where there is such a Service; connections to the stack in front go by the stored policies."""
    pattern = r"llm-orchestrator|redis|https?://[^ ]+:80/"
    for namespace, name in (
        (APPS, "probe-app"),
        ("llm-outside", "probe-outsider"),
        ("llm-impostor", "probe-impostor"),
        ("llm-probes", "probe-node"),
    ):
        cluster.answer_exec(namespace, name, pattern, _Probe(cluster, name))


class _Probe:
    """What curl in one probe pod prints."""

    def __init__(self, cluster: Any, name: str) -> None:
        self._cluster, self._name = cluster, name

    def __call__(self, command: list[str], stdin: str | None) -> ExecResult:
        urls = [part for part in command if re.match(r"https?://", part)]
        lines = [f"PROBE {number} {self._answer(url)}" for number, url in enumerate(urls)]
        return ExecResult(0, "\n".join(lines) + "\n", "")

    def _answer(self, url: str) -> str:
        place = urlsplit(url)
        view = self._cluster.view()
        name, _, rest = str(place.hostname).partition(".")
        namespace = rest.removesuffix(".svc.cluster.local") or APPS
        if view.find("Service", name, view.scope.course_name(namespace)) is None:
            return "6 000 0.000000 0.001000 Could not resolve host"
        if place.port == 80 or self._allowed(name, view.scope.course_name(namespace), place.port or 0):
            return "0 200 0.001000 0.002000 "
        return "28 000 0.000000 1.001000 Connection timed out after 1001 milliseconds"

    def _allowed(self, service: str, namespace: str, port: int) -> bool:
        stage = read_stage(self._cluster.view())
        caller = next(item for item in stage.callers if item.pod == self._name)
        target = Party(service, namespace, {"app": service}, "10.244.0.99")
        return caller.control or decide(stage.world, stage.parties[caller.name], target, port).allowed


# What goes wrong


def _seen(name: str, *path_and_value: Any) -> Change:
    """One figure of a record is another: `_seen("again", "late", "generations", 1)`."""
    *path, last, value = path_and_value

    def edit(seen: Seen) -> None:
        for step in path:
            seen = seen[step]
        seen[last] = value

    return witnessed(name, edit)


def _many(name: str, *changes: tuple[Any, ...]) -> Change:
    def edit(seen: Seen) -> None:
        for *path, last, value in changes:
            inner = seen
            for step in path:
                inner = inner[step]
            inner[last] = value

    return witnessed(name, edit)


def _setting(name: str, value: str | None) -> Change:
    def edit(config: Manifest) -> None:
        if value is None:
            config["data"].pop(name, None)
        else:
            config["data"][name] = value

    return edited("ConfigMap", orchestrator.CONFIG, edit, APPS)


def _by_hand(name: str, edit: EditSeen) -> Change:
    """A Job that the learner changed, with a record that says that all is well."""
    return lambda cluster: _leave(cluster, name, {"seen": SEEN[name]}, edit)


def _other_program(job: Manifest) -> None:
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["sh", "-c", "echo all is well"]


def _other_decisions(job: Manifest) -> None:
    volume = job["spec"]["template"]["spec"]["volumes"][0]
    volume["configMap"]["name"] = "decisions-of-somebody-else"


def _store(**settings: str) -> Change:
    return redis_holds(
        state.Store(settings={**DURABLE, **{k.replace("_", "-"): v for k, v in settings.items()}})
    )


def _deployment(edit: Callable[[Manifest], object]) -> Change:
    return edited("Deployment", orchestrator.DEPLOYMENT, edit, APPS)


def _probe_path(probe: str, path: str) -> Change:
    """Another probe, and what `survive` then sees, of the Deployment as it is now."""

    def edit(deployment: Manifest) -> None:
        deployment["spec"]["template"]["spec"]["containers"][0][probe]["httpGet"]["path"] = path

    return _deployment(edit)


def _policy(name: str, namespace: str, edit: Callable[[Manifest], object]) -> Change:
    return edited("NetworkPolicy", name, lambda policy: edit(policy["spec"]), namespace)


def _fails_open(config: Manifest) -> None:
    envoy = yaml.safe_load(config["data"][gateway.FILE])
    ground.roads.rate_limit_filter(envoy)["failure_mode_deny"] = False  # type: ignore[index]
    config["data"][gateway.FILE] = yaml.safe_dump(envoy, sort_keys=False)


def _stale(file: str) -> Change:
    """A decision that is changed, and neither rolled out nor seen again."""
    return applied(decisions(**{file: "# changed\n"}))


NOT_YET = Status.NOT_ATTEMPTED
MUTANTS = [
    # 1
    Mutant(
        "bare names",
        steps(_setting("VLLM_BASE_URL", "http://vllm:8000/v1"), witnessed("answer"), witnessed("survive")),
        {"entry.names": "vllm resolves to nothing"},
    ),
    Mutant(
        "a namespace that is spelt wrongly",
        steps(_setting("QDRANT_BASE_URL", "http://qdrant.llm-sytem:6333"), witnessed("answer")),
        {"entry.names": "resolves to nothing"},
    ),
    Mutant(
        "Redis is sought beside the orchestrator",
        steps(_setting("REDIS_URL", "redis://redis:6379"), witnessed("answer")),
        {"entry.names": "redis resolves to nothing"},
    ),
    Mutant(
        "a decision that no pod was started with",
        _stale("retry"),
        {"entry.current": "the pods run another retry.py"},
    ),
    Mutant(
        "a rollout that does not end",
        _deployment(lambda item: item["status"].update(readyReplicas=0, availableReplicas=0)),
        {"entry.current": "0 of 1 pods are ready"},
    ),
    Mutant(
        "an old pod beside the new one",
        _deployment(lambda item: item["status"].update(replicas=2)),
        {"entry.current": "1 old pods are still there"},
    ),
    Mutant(
        "nothing answers",
        _many("answer", ("status", 503), ("answered", False), ("said", "vllm_unreachable")),
        {"entry.answers": "status 503 vllm_unreachable"},
    ),
    Mutant("an answer from nowhere", _seen("answer", "citations", 0), {"entry.answers": "0 documents named"}),
    Mutant(
        "open without the token", _seen("answer", "bare", 200), {"entry.answers": "without the token: 200"}
    ),
    Mutant(
        "another tenant reads the thread",
        _seen("answer", "theirs", 200),
        {"entry.answers": "another tenant's thread: 200"},
    ),
    # 2
    Mutant(
        "all that is left for each hop",
        _many("budget", ("silent", "s", 12.0), ("silent", "status", 504)),
        {"budget.stalled": "Qdrant silent: 12 s until the caller heard 504"},
    ),
    Mutant(
        "two thirds for retrieval",
        _seen("budget", "silent", "s", 8.1),
        {"budget.stalled": "Qdrant silent: 8.1 s"},
    ),
    Mutant(
        "an equal share for each hop",
        _many("budget", ("slow", "status", 504), ("slow", "citations", 0)),
        {"budget.enough": "both slow: status 504"},
    ),
    Mutant(
        "no time for retrieval at all",
        _seen("budget", "slow", "citations", 0),
        {"budget.enough": "both slow: 0 documents"},
    ),
    Mutant(
        "generation given up after two seconds",
        _seen("budget", "slow", "status", 503),
        {"budget.enough": "both slow: status 503"},
    ),
    Mutant(
        "a budget that is changed after it was seen",
        _stale("budget"),
        {"budget.stalled": "budget.py was changed", "budget.enough": "budget.py was changed"},
        status=NOT_YET,
    ),
    # 3
    Mutant(
        "Redis on an emptyDir",
        lambda cluster: rolled_out(*ground.prototype_redis(cluster))(cluster),
        {"state.store": "Redis has no claim"},
        status=NOT_YET,
    ),
    Mutant("no log of writes", _store(appendonly="no"), {"state.store": "appendonly no"}),
    Mutant(
        "a Redis that forgets when it is full",
        _store(maxmemory_policy="allkeys-lru"),
        {"state.store": "allkeys-lru"},
    ),
    Mutant("a Redis without a bound", _store(maxmemory="0"), {"state.store": "maxmemory 0"}),
    Mutant(
        "a claim that is not bound",
        edited(
            "PersistentVolumeClaim",
            "redis-data-redis-0",
            lambda claim: claim.update(status={"phase": "Pending"}),
        ),
        {"state.store": "claim Pending"},
    ),
    Mutant(
        "written only at the end",
        _many(
            "survive",
            ("killed", "finished", 0),
            ("killed", "answered", 0),
            ("killed", "once", 0),
            ("killed", "with_documents", 0),
        ),
        {"state.resumed": "0 of 5 answers that were cut off finished"},
    ),
    Mutant(
        "a new thread for what was cut off",
        _seen("survive", "killed", "once", 2),
        {"state.resumed": "2 of 5 answers that were cut off with the question once"},
    ),
    Mutant(
        "gone with Redis",
        _many("survive", ("redis", "same", False), ("redis", "status", 404)),
        {"state.resumed": "a thread after Redis's end: status 404"},
    ),
    Mutant(
        "threads for ever", _seen("state", "for_ever", 12), {"state.bounded": "12 of 12 keys without an end"}
    ),
    Mutant(
        "the documents' texts in each step",
        _seen("state", "texts", 4),
        {"state.bounded": "4 of 4 documents' texts"},
    ),
    Mutant("nothing is kept", _many("state", ("keys", 0)), {"state.bounded": "0 keys of the thread"}),
    Mutant("some keys without an end", _seen("state", "for_ever", 2), {"state.bounded": "2 of 12 keys"}),
    # 4
    Mutant(
        "a key that is new for each try",
        _many("again", ("generations", 5), ("late", "generations", 1), ("late", "same", False)),
        {"again.once": "5 generations for five requests"},
    ),
    Mutant(
        "a key that contains the time",
        _many("again", ("late", "generations", 1), ("late", "same", False)),
        {"again.once": "1 more for the late one"},
    ),
    Mutant(
        "some are turned away", _seen("again", "statuses", [200, 409]), {"again.once": "statuses [200, 409]"}
    ),
    Mutant(
        "five answers to one question", _seen("again", "answers", 3), {"again.once": "3 different answers"}
    ),
    Mutant(
        "a key without its tenant",
        _seen("again", "foreign", "generations", 0),
        {"again.kept": "another tenant: 0 generations"},
    ),
    Mutant(
        "a key without its question",
        _seen("again", "other", "same", True),
        {"again.kept": "another question got"},
    ),
    Mutant(
        "a lock that outlives its owner",
        _seen("again", "lease_s", 86399),
        {"again.kept": "the lease ends after 86399 s"},
    ),
    Mutant(
        "a lock without an end",
        _many("again", ("lease_s", -1), ("leases_for_ever", 1)),
        {"again.kept": "the lease ends after -1 s"},
    ),
    # 5
    Mutant(
        "the newest turns are cut",
        _many("window", ("words", "newest", False), ("digits", "newest", False)),
        {"window.fits": "words: not the newest turns"},
    ),
    Mutant(
        "the question is cut",
        _seen("window", "words", "question", False),
        {"window.fits": "words: the question is not in the prompt"},
    ),
    Mutant(
        "the system message is cut",
        _seen("window", "digits", "system", False),
        {"window.fits": "digits: no system message"},
    ),
    Mutant(
        "letters are counted, not tokens",
        _many("window", ("digits", "status", 503), ("digits", "refused", 1)),
        {"window.fits": "digits: status 503"},
    ),
    Mutant(
        "nothing but the question is kept",
        _seen("window", "words", "kept", 0),
        {"window.fits": "words: not the newest turns"},
    ),
    # 6
    Mutant(
        "everything is asked again",
        _many("retry", ("calls", "400", 2), ("calls", "401", 2), ("calls", "422", 2)),
        {"retry.worth": "400: vLLM asked 2 times"},
    ),
    Mutant(
        "retries in two layers",
        _many("retry", ("calls", "503", 6), ("calls", "429", 6), ("calls", "reset", 6)),
        {"retry.worth": "503: vLLM asked 6 times"},
    ),
    Mutant(
        "nothing is asked again",
        _many(
            "retry",
            ("calls", "503", 1),
            ("calls", "reset", 1),
            ("healed", "status", 503),
            ("healed", "calls", 1),
        ),
        {"retry.worth": "503: vLLM asked 1 times"},
    ),
    Mutant(
        "an overloaded vLLM is asked again and again",
        _seen("retry", "calls", "429", 9),
        {"retry.worth": "429: vLLM asked 9 times"},
    ),
    # 7
    Mutant(
        "a degraded answer without its label",
        _many("degrade", ("documentation", "label", ""), ("brainstorming", "label", "")),
        {"degrade.product": "no label: documentation, brainstorming"},
    ),
    Mutant(
        "compliance answers from memory",
        _seen("degrade", "compliance", "answered", True),
        {"degrade.product": "compliance: status 503, answered"},
    ),
    Mutant(
        "every product refuses",
        _many(
            "degrade",
            ("documentation", "status", 503),
            ("documentation", "kind", None),
            ("brainstorming", "status", 503),
            ("brainstorming", "kind", None),
        ),
        {"degrade.product": "documentation: status 503"},
    ),
    Mutant(
        "a label that is always there",
        _seen("degrade", "healthy", "degraded", True),
        {"degrade.product": "degraded True"},
    ),
    # 8
    Mutant(
        "a breaker shared by all backends",
        _many("pressure", ("served", 6), ("circuits", "vllm", 2)),
        {"pressure.circuit": "vLLM's circuit: 2"},
    ),
    Mutant(
        "a breaker that never opens",
        _many("pressure", ("reached", [2] * 14), ("circuits", "qdrant", 0)),
        {"pressure.circuit": "the last 8 questions reached Qdrant 16 times"},
    ),
    Mutant(
        "a breaker that is open from the start",
        _many("pressure", ("reached", [0] * 14)),
        {"pressure.circuit": "Qdrant was asked 0 times at first"},
    ),
    Mutant(
        "a queue without an end",
        _many("pressure", ("greedy", {"200": 40}), ("retry_after", 0)),
        {"pressure.shed": "the greedy tenant heard {'200': 40}"},
    ),
    Mutant(
        "the greedy tenant takes all places",
        _many("pressure", ("quiet", {"429": 2})),
        {"pressure.shed": "the quiet tenant heard {'429': 2}"},
    ),
    Mutant(
        "the fallback passes the semaphore",
        _seen("pressure", "most", 9),
        {"pressure.shed": "9 at once at vLLM"},
    ),
    Mutant(
        "nobody is told when to come back",
        _seen("pressure", "retry_after", 0),
        {"pressure.shed": "Retry-After on 0 of 34"},
    ),
    # 9
    Mutant(
        "liveness asks deeply",
        steps(_probe_path("livenessProbe", "/readyz"), _seen("survive", "redis", "restarts", 4)),
        {"end.probes": "4 restarts while Redis was away"},
    ),
    Mutant(
        "liveness asks deeply, and the outage was short",
        steps(_probe_path("livenessProbe", "/readyz"), witnessed("survive")),
        {"end.probes": "liveness asks /readyz"},
    ),
    Mutant(
        "readiness asks whether the process lives",
        steps(_probe_path("readinessProbe", "/livez"), witnessed("survive")),
        {"end.probes": "readiness asks /livez"},
    ),
    Mutant(
        "Redis did not come back",
        _seen("survive", "redis", "gone", False),
        {"end.probes": "Redis did not come back"},
    ),
    Mutant(
        "a grace period that is too short",
        _many("survive", ("rollout", "lost", 3), ("rollout", "first", ["0"])),
        {"end.rollout": "3 answers lost (0)"},
    ),
    Mutant(
        "no pod while the new one starts",
        _many("survive", ("rollout", "lost", 9), ("rollout", "first", ["503"])),
        {"end.rollout": "9 answers lost (503)"},
    ),
    Mutant(
        "nobody asked meanwhile",
        _seen("survive", "rollout", "answered", 0),
        {"end.rollout": "0 answers meanwhile"},
    ),
    Mutant(
        "the rollout did not end",
        _seen("survive", "rollout", "rolled", False),
        {"end.rollout": "the rollout did not end"},
    ),
    Mutant(
        "another revision than the witness saw",
        _setting("DURABILITY", "exit"),
        dict.fromkeys(
            ("state.resumed", "end.probes", "end.rollout"), "the service was changed since it was seen"
        ),
        status=NOT_YET,
    ),
    Mutant(
        "no pod was caught while it generated",
        witnessed("survive", lambda seen: seen.update(killed={"cut": 0})),
        {"state.resumed": "no answer was cut off"},
        status=Status.ENV_ERROR,
    ),
    # 10
    Mutant(
        "open to whoever has no key", _seen("gateway", "none", 200), {"gateway.keys": "without a key: 200"}
    ),
    Mutant(
        "the tenant is what the caller says",
        _many("gateway", ("own", 404)),
        {"gateway.keys": "the key's own thread: 404"},
    ),
    Mutant(
        "one tenant for all keys", _seen("gateway", "theirs", 200), {"gateway.keys": "with another key: 200"}
    ),
    Mutant(
        "a limit on requests",
        _many("gateway", ("stream", "fell", 1), ("trial", "refused", False), ("trial", "answered", 8)),
        {"gateway.tokens": "the budget fell by 1"},
    ),
    Mutant(
        "a streamed answer is never counted",
        _seen("gateway", "stream", "fell", 0),
        {"gateway.tokens": "the budget fell by 0"},
    ),
    Mutant(
        "a limit per address instead of per key",
        _seen("gateway", "beside", 429),
        {"gateway.tokens": "another key meanwhile: 429"},
    ),
    Mutant(
        "open while the counter does not answer",
        steps(edited("ConfigMap", gateway.CONFIG, _fails_open, GATEWAY), witnessed("gateway")),
        {"gateway.tokens": "open while the counter does not answer"},
    ),
    Mutant(
        "the Service is open beside the gateway",
        _policy("llm-orchestrator", APPS, lambda spec: spec["ingress"].append({"ports": [{"port": 8080}]})),
        {"gateway.closed": "app to the orchestrator HTTP 200"},
    ),
    Mutant(
        "only ingress was thought of",
        _policy("llm-orchestrator", APPS, lambda spec: spec.update(policyTypes=["Ingress"])),
        {"gateway.closed": "a server outside the cluster"},
    ),
    Mutant(
        "the gateway is locked out too",
        _policy("llm-orchestrator", APPS, lambda spec: spec.update(ingress=[])),
        {"gateway.closed": "the gateway to the orchestrator"},
    ),
    Mutant(
        "Redis open to every namespace",
        _policy("redis", SYSTEM, lambda spec: spec.update(ingress=[{}])),
        {"gateway.closed": "to Redis HTTP 200"},
    ),
    Mutant(
        "the counter cannot count",
        _policy("redis", SYSTEM, lambda spec: spec["ingress"][0]["from"].pop()),
        {"gateway.closed": "the counter to Redis"},
    ),
    Mutant(
        "DNS forgotten in egress",
        _policy("llm-orchestrator", APPS, lambda spec: spec["egress"].pop(0)),
        {"gateway.closed": "DNS on 53"},
    ),
    # Records
    Mutant(
        "a Job with another program",
        _by_hand("degrade", _other_program),
        {"degrade.product": "command of witness is not the course's own"},
    ),
    Mutant(
        "a Job with somebody else's decisions",
        _by_hand("retry", _other_decisions),
        {"retry.worth": "a volume is not the course's own"},
    ),
    Mutant(
        "a record of another pod",
        forged(witness.BOOK, "window"),
        {"window.fits": "the record is another pod's"},
    ),
    Mutant(
        "a service that cannot start",
        lambda cluster: _leave(cluster, "pressure", {"error": "circuit.py line 3: NameError", "seen": {}}),
        {"pressure.circuit": "circuit.py line 3: NameError", "pressure.shed": "circuit.py line 3: NameError"},
    ),
]

PROOFS = Proofs(start=start, solution=solution, mutants=MUTANTS)
