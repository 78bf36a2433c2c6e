"""The wrong substrates that lab 01's checks must notice, on a fake cluster.

Namespaces, quotas and admission are the fake API server's own work; what the scheduler and the Job
controller would have written is put in as they write it. Each wrong cluster is one that a learner
really produces: the quota as it was handed out, a label on an extra namespace, a toleration with
the wrong effect, a holder that was never ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from helpers.grading.author import Mutant, Proofs
from helpers.grading.changes import (
    Change,
    Manifest,
    applied,
    at,
    edited,
    event,
    job,
    manifest,
    one,
    pod,
    solved,
    steps,
    stored,
    without,
)
from helpers.grading.verdict import Status
from helpers.labs.lab01_substrate.checks import APPS, ROLE, ROLE_LABEL, SYSTEM, WORKSHOP
from helpers.stack.gpu import GUARD, REPLICAS, SHARING, WHOLE

RIGHT = solved(
    "01",
    *("namespaces_yaml", "quota_yaml", "greedy_yaml", "one_learner_yaml", "twenty_learners_yaml"),
    *("two_tenants_yaml", "guard_yaml", "idle_yaml"),
)
QUOTA = one(RIGHT, "ResourceQuota")
HARD: Mapping[str, str] = QUOTA["spec"]["hard"]
SLICE = "nvidia.com/mig-1g.10gb"
LACKS_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
TAINTED = "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
REFUSED = (
    'pods "greedy-7c9-x" is forbidden: exceeded quota: llm-system-quota, requested: requests.nvidia.com/gpu=16, '
    "used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=1"
)
UNSHARED, SHARED = {SHARING: "none"}, {SHARING: "time-slicing"}
TOLERATION = {"key": WHOLE, "operator": "Exists", "effect": "NoSchedule"}


# What a learner applies


def quota(name: str = QUOTA["metadata"]["name"], **changes: str | None) -> Change:
    """The quota with some dimensions changed (None takes one away); dots and slashes as in `requests_cpu`."""
    wanted: dict[str, str | None] = dict(HARD) if name == QUOTA["metadata"]["name"] else {}
    wanted |= {_DIMENSIONS.get(key, key): value for key, value in changes.items()}
    hard = {key: value for key, value in wanted.items() if value is not None}
    return steps(
        without("ResourceQuota", name), applied(manifest("ResourceQuota", name, spec={"hard": hard}))
    )


_DIMENSIONS = {name.replace("requests.nvidia.com/", "").replace(".", "_"): name for name in HARD}


def relabel(name: str, role: str | None = None) -> Change:
    """A namespace with another role label than the solution's; None for one without."""

    def edit(namespace: Manifest) -> None:
        labels = namespace["metadata"]["labels"]
        labels.pop(ROLE_LABEL, None)
        labels.update({ROLE_LABEL: role} if role else {})

    return edited("Namespace", name, edit)


def _ending(namespace: Manifest) -> None:
    namespace["metadata"]["deletionTimestamp"] = at(0)
    namespace["status"] = {"phase": "Terminating"}


def asking(workload: Manifest, gpus: Mapping[str, int], **spec: Any) -> Manifest:
    """A workload or pod of the solution that asks for these GPUs, with other parts of a pod's specification."""
    changed = deepcopy(workload)
    inside = changed["spec"].get("template", changed)["spec"]
    resources = inside["containers"][0].setdefault("resources", {})
    others = {
        key: value for key, value in resources.get("limits", {}).items() if not key.startswith("nvidia")
    }
    resources["limits"] = others | {name: str(count) for name, count in gpus.items()}
    inside |= spec
    return changed


def in_workshop(name: str, asked: Manifest, **state: Any) -> Change:
    """A pod of that name in llm-workshop, as scheduler and kubelet left it."""
    return stored(pod(name, asked["spec"].get("template", asked)["spec"], WORKSHOP, **state))


# What the controllers and the scheduler write

GREEDY = one(RIGHT, "Deployment", "greedy")
JOBS = {name: one(RIGHT, "Job", name) for name in ("one-learner", "twenty-learners", "two-tenants")}
GUEST, SERVER = one(RIGHT, "Pod", "guest"), one(RIGHT, "Pod", "model-server")
IDLE, NEXT = one(RIGHT, "Pod", "idle-holder"), one(RIGHT, "Pod", "next-in-line")


def forget(name: str) -> Change:
    """Take a pod and its events away."""

    def change(cluster: Any) -> None:
        without("Pod", name, WORKSHOP)(cluster)
        for item in cluster.view().events(WORKSHOP, involved=("Pod", name)):
            without("Event", item.name, WORKSHOP)(cluster)

    return change


def stuck(message: str = REFUSED, *, gpus: int = 16, replicas: int = 0) -> Change:
    """The ReplicaSet of `greedy` in llm-system, with what its controller reports."""
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    spec = {"replicas": 1, "template": asking(GREEDY, {WHOLE: gpus})["spec"]["template"]}
    status = {"replicas": replicas, "conditions": [] if replicas else [failure]}
    return stored(manifest("ReplicaSet", "greedy-7c9", spec=spec, status=status))


def greedy(gpus: int = 16, **state: Any) -> Change:
    """The pod of `greedy` in llm-workshop."""
    return in_workshop(
        "greedy-7c9-x", asking(GREEDY, {WHOLE: gpus}), **{"placed": None, "says": LACKS_GPU} | state
    )


def runs(name: str, when: Sequence[tuple[float, float]], *, of: int | None = None, **changed: Any) -> Change:
    """A Job of the solution with its pods, as `job` puts them: `of` so many; `changed` as `asking` takes it."""
    asked = asking(JOBS[name], **changed) if changed else deepcopy(JOBS[name])
    asked["spec"] |= {"completions": of} if of else {}
    return job(asked, runs=when, says=LACKS_GPU)


def node(
    *,
    offers: Mapping[str, int] | None = None,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[Mapping[str, str]] = (),
    cordoned: bool = False,
) -> Change:
    """The node, with what it offers and what it keeps away."""
    given = {WHOLE: 1} if offers is None else offers

    def edit(raw: Manifest) -> None:
        amounts = {
            key: value for key, value in raw["status"]["allocatable"].items() if not key.startswith("nvidia")
        }
        amounts |= {key: str(value) for key, value in given.items()}
        raw["metadata"]["labels"] |= {REPLICAS: "1", **UNSHARED, **(labels or {})}
        raw["spec"] = {"taints": [dict(item) for item in taints], "unschedulable": cordoned}
        raw["status"] |= {"allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]}

    return edited("Node", "substrate", edit)


FOUR_AT_A_TIME = [(4.0 * (number // 4), 4.0 * (number // 4) + 3) for number in range(20)]
ONE_AT_A_TIME = [(4.0 * number, 4.0 * number + 3) for number in range(20)]
BOTH = [(0.0, 3.0), (1.0, 4.0)]


def guard(server: Manifest = SERVER, *, kept_out: bool = True, let_in: float | None = 102) -> Change:
    """Both pods of part 5: the guest came at 100 s and was placed at 120 s."""
    ran = (let_in, let_in + 5) if let_in is not None else None
    return steps(
        forget("guest"),
        forget("model-server"),
        in_workshop("guest", GUEST, created=100, placed=120 if kept_out else 100, ran=(121, 122)),
        in_workshop("model-server", server, created=100, placed=let_in, ran=ran, says=TAINTED),
        *([event("guest", "FailedScheduling", TAINTED, WORKSHOP)] if kept_out else []),
    )


def tolerating(*tolerations: Mapping[str, str]) -> Manifest:
    """The model server with these tolerations."""
    return asking(SERVER, {WHOLE: 1}, tolerations=list(tolerations))


def queue(*, placed: float | None = 230, words: str = LACKS_GPU) -> Change:
    """The pod that waits in part 6: it came at 200 s."""
    ran = (placed + 1, placed + 2) if placed is not None else None
    waiting = in_workshop("next-in-line", NEXT, created=200, placed=placed, ran=ran, says=words)
    said = [event("next-in-line", "FailedScheduling", words, WORKSHOP)] if words else []
    return steps(forget("next-in-line"), waiting, *said)


HOLDER = in_workshop("idle-holder", IDLE, created=200, placed=200)
SOLUTION = steps(
    applied(*(item for item in RIGHT if item["kind"] == "Namespace")),
    quota(),
    stuck(),
    greedy(),
    runs("one-learner", [(0, 3)]),
    runs("twenty-learners", FOUR_AT_A_TIME),
    runs("two-tenants", BOTH),
    guard(),
    queue(),
)


def limit_range(**most: str) -> Change:
    """A LimitRange in llm-system."""
    return applied(manifest("LimitRange", "small", spec={"limits": [{"type": "Container", "max": most}]}))


def wrong(name: str, change: Change, in_class: Mapping[str, str] | None = None, **fails: str) -> Mutant:
    """A wrong cluster; `quota__gpu="2"` says that check quota.gpu must fall short with those words."""
    dotted = {key.replace("__", "."): words for key, words in fails.items()}
    return Mutant(name, change, dotted, in_class=in_class)


# What only an administrator can do, or see: nodes, and namespaces that are nobody's.
ADMINISTRATOR: Mapping[str, str] = {}


_NAMESPACES = [
    wrong("no namespace for applications", without("Namespace", APPS), namespaces="no namespace llm-apps"),
    wrong(
        "no namespace for experiments", without("Namespace", WORKSHOP), namespaces="no namespace llm-workshop"
    ),
    wrong("the namespace is being deleted", edited("Namespace", SYSTEM, _ending), namespaces="Terminating"),
    wrong("the label is misspelled", relabel(APPS, role="llm-app"), namespaces__label="role=llm-app"),
    wrong("the label is missing", relabel(APPS), namespaces__label="no such label"),
    wrong("the backends are labelled too", relabel(SYSTEM, role=ROLE), namespaces__label="llm-system"),
    wrong(
        "a namespace outside the course is labelled",
        relabel("default", role=ROLE),
        namespaces__label="default",
        in_class=ADMINISTRATOR,
    ),
]
_QUOTA = [
    wrong("two GPUs admitted", quota(gpu="2"), quota__gpu="2 GPUs at most"),
    wrong("GPUs are not limited", quota(gpu=None), quota__gpu="not limited"),
    wrong("no GPU at all", quota(gpu="0"), quota__gpu="0 GPUs at most"),
    wrong("a second quota forbids GPUs", quota("other", gpu="0"), quota__gpu="0 GPUs at most"),
    wrong(
        "the quota as it was handed out",
        quota(limits_cpu="12"),
        quota__fits="limits.cpu: 14 of 12: 2 too many",
    ),
    wrong("storage for Qdrant alone", quota(requests_storage="200Gi"), quota__fits="320 GiB of 200 GiB"),
    wrong("one claim only", quota(persistentvolumeclaims="1"), quota__fits="persistentvolumeclaims: 2 of 1"),
    wrong("CPU under its other name", quota(requests_cpu=None, cpu="2"), quota__fits="requests.cpu: 3 of 2"),
    wrong(
        "claims counted under their other name",
        quota("other", **{"count/persistentvolumeclaims": "1"}),
        quota__fits="persistentvolumeclaims: 2 of 1",
    ),
    wrong("a second quota is tighter", quota("other", limits_cpu="12"), quota__fits="14 of 12"),
    wrong("a LimitRange forbids large containers", limit_range(cpu="4"), quota__fits="maximum cpu"),
    wrong("limits.cpu far too generous", quota(limits_cpu="100"), quota__brake="limits.cpu: 24 admitted"),
    wrong("memory is not limited", quota(limits_memory=None), quota__brake="limits.memory: 144 GiB admitted"),
    wrong(
        "storage far too generous",
        quota(requests_storage="2Ti"),
        quota__brake="requests.storage: 440 GiB admitted",
    ),
    wrong("pods are not counted", quota(pods=None), quota__brake="pods: not limited"),
]
_EXPLICIT = (
    'pods "greedy-7c9-x" is forbidden: failed quota: llm-system-quota: must specify limits.cpu for: greedy'
)
_BY_CPU = REFUSED.replace("requests.nvidia.com/gpu", "limits.cpu")
_REFUSAL = [
    wrong("refused for what it does not state", stuck(_EXPLICIT), refusal__admission="must specify"),
    wrong("refused for its CPU", stuck(_BY_CPU), refusal__admission="limits.cpu=16"),
    wrong(
        "the request was within the quota",
        steps(
            stuck(gpus=1, replicas=1),
            stored(pod("greedy-7c9-x", asking(GREEDY, {WHOLE: 1})["spec"]["template"]["spec"], placed=1)),
        ),
        refusal__admission="was admitted",
    ),
    wrong(
        "Pending for want of CPU",
        greedy(says="0/1 nodes are available: 1 Insufficient cpu."),
        refusal__scheduling="Insufficient cpu",
    ),
    wrong("Pending because of a taint", greedy(says=TAINTED), refusal__scheduling="taint"),
    wrong("the pod was placed", greedy(placed=1), refusal__scheduling="placed on substrate"),
    Mutant(
        "another request than the one that was refused",
        greedy(8),
        {"refusal.scheduling": "asks for the same GPUs"},
        status=Status.NOT_ATTEMPTED,
    ),
]
_SHAPES = [
    wrong(
        "one learner may land on a shared card",
        runs("one-learner", [(0, 3)], gpus={WHOLE: 1}, nodeSelector={}),
        shapes__one="accepts a shared card too",
    ),
    wrong("one learner on a slice", runs("one-learner", [(0, 3)], gpus={SLICE: 1}), shapes__one=SLICE),
    wrong("one learner still waits", runs("one-learner", []), shapes__one="0 of 1 finished"),
    wrong("twenty learners in turns", runs("twenty-learners", ONE_AT_A_TIME), shapes__twenty="at most 1"),
    wrong(
        "twenty learners may land on full cards",
        runs("twenty-learners", FOUR_AT_A_TIME, gpus={WHOLE: 1}, nodeSelector={}),
        shapes__twenty="a card of one's own",
    ),
    wrong(
        "twenty learners on slices",
        runs("twenty-learners", FOUR_AT_A_TIME, gpus={SLICE: 1}, nodeSelector={}),
        shapes__twenty=SLICE,
    ),
    wrong(
        "a class of four",
        runs("twenty-learners", FOUR_AT_A_TIME[:4], of=4),
        shapes__twenty="4 of 20 finished",
    ),
    wrong(
        "tenants share a card",
        runs("two-tenants", BOTH, gpus={WHOLE: 1}, nodeSelector=SHARED),
        shapes__tenants="nvidia.com/gpu",
    ),
    wrong("tenants one after the other", runs("two-tenants", [(0, 3), (3, 6)]), shapes__tenants="at most 1"),
    wrong(
        "one tenant waits",
        runs("two-tenants", [(0, 3)]),
        shapes__tenants="1 of 2",
        in_class={"shapes.tenants": "at most 1"},
    ),
]
_GUARD = [
    wrong(
        "the guard was not up",
        guard(kept_out=False),
        guard__kept_out="had nothing against it",
        in_class=ADMINISTRATOR,
    ),
    wrong(
        "no toleration",
        guard(tolerating(), let_in=None),
        guard__kept_out="untolerated taint",
        in_class={"guard.kept_out": "model-server does not tolerate it"},
    ),
    wrong(
        "a toleration for another effect",
        guard(tolerating({**TOLERATION, "effect": "NoExecute"}), let_in=121),
        guard__kept_out="tolerates no guard",
        in_class={"guard.kept_out": "model-server does not tolerate it"},
    ),
    wrong(
        "let in after the guard was down",
        guard(let_in=125),
        guard__kept_out="not while guest waited",
        in_class=ADMINISTRATOR,
    ),
    wrong("a model server without a GPU", guard(asking(SERVER, {})), guard__kept_out="no GPU"),
    wrong("the guard is still up", node(taints=[GUARD]), guard__lifted="nvidia.com/gpu:NoSchedule"),
    wrong("the node is cordoned", node(cordoned=True), guard__lifted="cordoned"),
    wrong(
        "a guard that evicts",
        node(taints=[{**GUARD, "effect": "NoExecute"}]),
        guard__lifted="nvidia.com/gpu:NoExecute",
    ),
]
_IDLE = [
    wrong("nobody held the card", queue(placed=200, words=""), idle__waited="waited 0 s, not for a GPU"),
    wrong("the holder was never ended", steps(HOLDER, queue(placed=None)), idle__waited="still waits"),
    wrong("ended at once", queue(placed=203), idle__waited="waited 3 s"),
    wrong("it waited for something else", queue(words=TAINTED), idle__waited="not for a GPU"),
]
_HANDOVER = [
    wrong(
        "the first greedy pod still runs beside the backends",
        stored(pod("greedy-1", SERVER["spec"], placed=1, labels={"app": "greedy"})),
        handover="greedy-1 holds nvidia.com/gpu",
    ),
    wrong("somebody holds the card again", HOLDER, handover="idle-holder holds nvidia.com/gpu"),
    wrong(
        "the card is left in slices", node(offers={SLICE: 7}), handover=f"7 × {SLICE}", in_class=ADMINISTRATOR
    ),
    wrong(
        "the card is left shared",
        node(offers={WHOLE: 4}, labels={**SHARED, REPLICAS: "4"}),
        handover="time-slicing",
        in_class=ADMINISTRATOR,
    ),
    wrong("the card is gone", node(offers={}), handover="no GPU"),
]

PROOFS = Proofs(
    start=node(),
    solution=SOLUTION,
    class_statuses={"namespaces": Status.PASS, "namespaces.label": Status.PASS},
    mutants=[*_NAMESPACES, *_QUOTA, *_REFUSAL, *_SHAPES, *_GUARD, *_IDLE, *_HANDOVER],
)
