"""The wrong substrates that lab 01's checks must notice, on a fake cluster.

Namespaces, quotas and admission are the fake API server's own work; what the scheduler and the Job
controller would have written is put in as they write it. Each wrong cluster is one that a learner
really produces: the quota as it was handed out, a label on one namespace too many, a toleration with
the wrong effect, a holder that was never ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

from helpers.grading.author import Mutant, Proofs
from helpers.grading.verdict import Status
from helpers.labs.lab01_substrate.checks import APPS, ROLE, ROLE_LABEL, SYSTEM, WORKSHOP
from helpers.stack.gpu import GUARD, REPLICAS, SHARING, WHOLE

Change = Callable[[Any], None]
BEGUN = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
SLICE = "nvidia.com/mig-1g.10gb"
LACKS_GPU = "0/1 nodes are available: 1 Insufficient nvidia.com/gpu."
TAINTED = "0/1 nodes are available: 1 node(s) had untolerated taint(s)."
REFUSED = (
    'pods "greedy-7c9-x" is forbidden: exceeded quota: llm-system-quota, requested: requests.nvidia.com/gpu=16, '
    "used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=1"
)
HARD = {
    "requests.nvidia.com/gpu": "1",
    "requests.cpu": "4",
    "limits.cpu": "14",
    "requests.memory": "32Gi",
    "limits.memory": "96Gi",
    "requests.storage": "400Gi",
    "persistentvolumeclaims": "4",
    "pods": "8",
}
UNSHARED, SHARED = {SHARING: "none"}, {SHARING: "time-slicing"}
TOLERATION = {"key": WHOLE, "operator": "Exists", "effect": "NoSchedule"}


def at(seconds: float) -> str:
    """A moment after the lab was begun, as the API server writes it."""
    return (BEGUN + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


# What a learner applies


def namespace(name: str, **labels: str) -> dict[str, Any]:
    """A namespace with labels; an underscore in a label's name stands for the role label's key."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def quota(name: str = "llm-system-quota", **changes: str | None) -> Change:
    """The quota with some dimensions changed (None takes one away); dots and slashes as in `requests_cpu`."""

    def change(cluster: Any) -> None:
        wanted: dict[str, str | None] = dict(HARD) if name == "llm-system-quota" else {}
        wanted |= {_DIMENSIONS.get(key, key): value for key, value in changes.items()}
        hard = {key: value for key, value in wanted.items() if value is not None}
        cluster.delete("ResourceQuota", name, SYSTEM)
        metadata = {"name": name, "namespace": SYSTEM}
        cluster.apply(
            {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": hard}}
        )

    return change


_DIMENSIONS = {name.replace("requests.nvidia.com/", "").replace(".", "_"): name for name in HARD}


def relabel(name: str, **labels: str) -> Change:
    """A namespace with other labels than the solution's."""

    def change(cluster: Any) -> None:
        found = cluster.view().get("Namespace", name)
        kept = {key: value for key, value in found.labels.items() if key != ROLE_LABEL}
        wanted = {ROLE_LABEL if key == "role" else key: value for key, value in labels.items()}
        raw = deepcopy(found.raw)
        raw["metadata"]["labels"] = {**kept, **wanted}
        cluster.put(raw)

    return change


def terminating(name: str) -> Change:
    """A namespace that is being deleted and does not come to its end."""

    def change(cluster: Any) -> None:
        raw = deepcopy(cluster.view().get("Namespace", name).raw)
        raw["metadata"]["deletionTimestamp"] = at(0)
        raw["status"] = {"phase": "Terminating"}
        cluster.put(raw)

    return change


# What the controllers and the scheduler write


def spec(gpus: Mapping[str, int], **more: Any) -> dict[str, Any]:
    """A pod's specification with these GPUs."""
    limits = {name: str(count) for name, count in gpus.items()}
    container = {"name": "run", "image": "toolbox", "resources": {"limits": limits, "requests": limits}}
    return {"containers": [container], **more}


def pod(
    name: str,
    pod_spec: Mapping[str, Any],
    *,
    created: float = 0,
    placed: float | None = None,
    ran: tuple[float, float] | None = None,
    says: str = "",
    labels: Mapping[str, str] | None = None,
    home: str = WORKSHOP,
) -> Change:
    """A pod as the scheduler and the kubelet left it: waiting with a reason, running, or finished."""
    condition = {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(placed or 0)}
    if placed is None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": says}
    status: dict[str, Any] = {"phase": "Pending" if placed is None else "Running", "conditions": [condition]}
    if ran:
        ended = {"exitCode": 0, "startedAt": at(ran[0]), "finishedAt": at(ran[1])}
        state = {"name": "run", "ready": False, "restartCount": 0, "state": {"terminated": ended}}
        status |= {"phase": "Succeeded", "containerStatuses": [state]}
    metadata = {
        "name": name,
        "namespace": home,
        "labels": dict(labels or {}),
        "creationTimestamp": at(created),
    }
    node = {} if placed is None else {"nodeName": "substrate"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**pod_spec, **node},
        "status": status,
    }
    return lambda cluster: cluster.put(manifest)


def event(about: str, message: str) -> Change:
    """What the scheduler said of a pod."""
    return lambda cluster: cluster.add_event(WORKSHOP, ("Pod", about), "FailedScheduling", message)


def job(
    name: str,
    pod_spec: Mapping[str, Any],
    *,
    wanted: int,
    runs: Sequence[tuple[float, float]],
) -> Change:
    """A Job and its pods: one for each (start, end) in seconds; the rest still wait."""

    def change(cluster: Any) -> None:
        clear(name)(cluster)
        cluster.put(
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "metadata": {"name": name, "namespace": WORKSHOP},
                "spec": {"completions": wanted, "parallelism": wanted, "template": {"spec": dict(pod_spec)}},
                "status": {"succeeded": len(runs)},
            }
        )
        labels = {"batch.kubernetes.io/job-name": name}
        for number in range(wanted):
            ran = runs[number] if number < len(runs) else None
            placed = ran[0] if ran else None
            pod(f"{name}-{number}", pod_spec, placed=placed, ran=ran, says=LACKS_GPU, labels=labels)(cluster)

    return change


def clear(job_name: str) -> Change:
    """Take a Job and its pods away."""

    def change(cluster: Any) -> None:
        cluster.delete("Job", job_name, WORKSHOP)
        for item in cluster.view().pods(WORKSHOP, labels=f"batch.kubernetes.io/job-name={job_name}"):
            cluster.delete("Pod", item.name, WORKSHOP)

    return change


def forget(name: str) -> Change:
    """Take a pod and its events away."""

    def change(cluster: Any) -> None:
        cluster.delete("Pod", name, WORKSHOP)
        for item in cluster.view().events(WORKSHOP, involved=("Pod", name)):
            cluster.delete("Event", item.name, WORKSHOP)

    return change


def stuck(message: str = REFUSED, *, gpus: int = 16, replicas: int = 0) -> Change:
    """The ReplicaSet of `greedy` in llm-system, with what its controller reports."""
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message}
    manifest = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "greedy-7c9", "namespace": SYSTEM},
        "spec": {"replicas": 1, "template": {"spec": spec({WHOLE: gpus})}},
        "status": {"replicas": replicas, "conditions": [] if replicas else [failure]},
    }
    return lambda cluster: cluster.put(manifest)


def node(
    *,
    offers: Mapping[str, int] | None = None,
    labels: Mapping[str, str] | None = None,
    taints: Sequence[Mapping[str, str]] = (),
    ready: bool = True,
    cordoned: bool = False,
) -> Change:
    """The node, with what it offers and what it keeps away."""
    given = {WHOLE: 1} if offers is None else offers

    def change(cluster: Any) -> None:
        raw = deepcopy(cluster.view().get("Node", "substrate").raw)
        amounts = {
            key: value for key, value in raw["status"]["allocatable"].items() if not key.startswith("nvidia")
        }
        amounts |= {key: str(value) for key, value in given.items()}
        raw["metadata"]["labels"] |= {REPLICAS: "1", **UNSHARED, **(labels or {})}
        raw["spec"] = {"taints": [dict(item) for item in taints], "unschedulable": cordoned}
        raw["status"] |= {"allocatable": amounts, "conditions": [{"type": "Ready", "status": str(ready)}]}
        cluster.put(raw)

    return change


def all_of(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(cluster: Any) -> None:
        for item in changes:
            item(cluster)

    return change


FOUR_AT_A_TIME = [(4.0 * (number // 4), 4.0 * (number // 4) + 3) for number in range(20)]
ONE_AT_A_TIME = [(4.0 * number, 4.0 * number + 3) for number in range(20)]
GREEDY_POD = pod("greedy-7c9-x", spec({WHOLE: 16}), says=LACKS_GPU)
ONE = job("one-learner", spec({WHOLE: 1}, nodeSelector=UNSHARED), wanted=1, runs=[(0, 3)])
TWENTY = job("twenty-learners", spec({WHOLE: 1}, nodeSelector=SHARED), wanted=20, runs=FOUR_AT_A_TIME)
TENANTS = job("two-tenants", spec({SLICE: 1}), wanted=2, runs=[(0, 3), (1, 4)])


def guard(
    *,
    tolerations: Sequence[Mapping[str, str]] = (TOLERATION,),
    gpus: Mapping[str, int] | None = None,
    kept_out: bool = True,
    let_in: float | None = 102,
) -> Change:
    """Both pods of part 5: the guest came at 100 s and was placed at 120 s."""
    server = spec({WHOLE: 1} if gpus is None else gpus, tolerations=[dict(item) for item in tolerations])
    ran = (let_in, let_in + 5) if let_in is not None else None
    return all_of(
        forget("guest"),
        forget("model-server"),
        pod("guest", spec({}), created=100, placed=120 if kept_out else 100, ran=(121, 122)),
        pod("model-server", server, created=100, placed=let_in, ran=ran, says=TAINTED),
        *([event("guest", TAINTED)] if kept_out else []),
    )


def queue(*, gpus: int = 1, placed: float | None = 230, words: str = LACKS_GPU) -> Change:
    """The pod that waits in part 6: it came at 200 s."""
    ran = (placed + 1, placed + 2) if placed is not None else None
    waiting = pod(
        "next-in-line", spec({WHOLE: gpus} if gpus else {}), created=200, placed=placed, ran=ran, says=words
    )
    return all_of(forget("next-in-line"), waiting, *([event("next-in-line", words)] if words else []))


HOLDER = pod("idle-holder", spec({WHOLE: 1}), created=200, placed=200)
NAMESPACES: Change = lambda cluster: cluster.apply(  # noqa: E731
    [namespace(SYSTEM), namespace(APPS, **{ROLE_LABEL: ROLE}), namespace(WORKSHOP)]
)
SOLUTION = all_of(NAMESPACES, quota(), stuck(), GREEDY_POD, ONE, TWENTY, TENANTS, guard(), queue())


def without(name: str) -> Change:
    """A namespace that was never created."""
    return lambda cluster: cluster.delete_namespace(name)


def limit_range(**most: str) -> Change:
    """A LimitRange in llm-system."""
    limits = [{"type": "Container", "max": most}]
    metadata = {"name": "small", "namespace": SYSTEM}
    manifest = {"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": {"limits": limits}}
    return lambda cluster: cluster.apply(manifest)


def wrong(name: str, change: Change, in_class: Mapping[str, str] | None = None, **fails: str) -> Mutant:
    """A wrong cluster; `quota__gpu="2"` says that check quota.gpu must fall short with those words."""
    dotted = {key.replace("__", "."): words for key, words in fails.items()}
    return Mutant(name, change, dotted, live=False, in_class=in_class)


# What only an administrator can do, or see: nodes, and namespaces that are nobody's.
ADMINISTRATOR: Mapping[str, str] = {}


_NAMESPACES = [
    wrong("no namespace for applications", without(APPS), namespaces="no namespace llm-apps"),
    wrong("no namespace for experiments", without(WORKSHOP), namespaces="no namespace llm-workshop"),
    wrong("the namespace is being deleted", terminating(SYSTEM), namespaces="Terminating"),
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
    wrong(
        "GPUs are not limited",
        quota(gpu=None),
        quota__gpu="not limited",
    ),
    wrong("no GPU at all", quota(gpu="0"), quota__gpu="0 GPUs at most"),
    wrong("a second quota forbids GPUs", quota("other", gpu="0"), quota__gpu="0 GPUs at most"),
    wrong(
        "the quota as it was handed out",
        quota(limits_cpu="12"),
        quota__fits="limits.cpu: 14 of 12: 2 too many",
    ),
    wrong("storage for Qdrant alone", quota(requests_storage="200Gi"), quota__fits="320 GiB of 200 GiB"),
    wrong("one claim only", quota(persistentvolumeclaims="1"), quota__fits="persistentvolumeclaims: 2 of 1"),
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
        all_of(stuck(gpus=1, replicas=1), pod("greedy-7c9-x", spec({WHOLE: 1}), placed=1, home=SYSTEM)),
        refusal__admission="was admitted",
    ),
    wrong(
        "Pending for want of CPU",
        pod("greedy-7c9-x", spec({WHOLE: 16}), says="0/1 nodes are available: 1 Insufficient cpu."),
        refusal__scheduling="Insufficient cpu",
    ),
    wrong(
        "Pending because of a taint",
        pod("greedy-7c9-x", spec({WHOLE: 16}), says=TAINTED),
        refusal__scheduling="taint",
    ),
    wrong(
        "the pod was placed",
        pod("greedy-7c9-x", spec({WHOLE: 16}), placed=1),
        refusal__scheduling="placed on substrate",
    ),
    Mutant(
        "another request than the one that was refused",
        pod("greedy-7c9-x", spec({WHOLE: 8}), says=LACKS_GPU),
        {"refusal.scheduling": "asks for the same GPUs"},
        status=Status.NOT_ATTEMPTED,
        live=False,
    ),
]
_SHAPES = [
    wrong(
        "one learner may land on a shared card",
        job("one-learner", spec({WHOLE: 1}), wanted=1, runs=[(0, 3)]),
        shapes__one="accepts a shared card too",
    ),
    wrong(
        "one learner on a slice",
        job("one-learner", spec({SLICE: 1}), wanted=1, runs=[(0, 3)]),
        shapes__one=SLICE,
    ),
    wrong(
        "one learner still waits",
        job("one-learner", spec({WHOLE: 1}, nodeSelector=UNSHARED), wanted=1, runs=[]),
        shapes__one="0 of 1 finished",
    ),
    wrong(
        "twenty learners in turns",
        job("twenty-learners", spec({WHOLE: 1}, nodeSelector=SHARED), wanted=20, runs=ONE_AT_A_TIME),
        shapes__twenty="at most 1",
    ),
    wrong(
        "twenty learners may land on full cards",
        job("twenty-learners", spec({WHOLE: 1}), wanted=20, runs=FOUR_AT_A_TIME),
        shapes__twenty="a card of one's own",
    ),
    wrong(
        "twenty learners on slices",
        job("twenty-learners", spec({SLICE: 1}), wanted=20, runs=FOUR_AT_A_TIME),
        shapes__twenty=SLICE,
    ),
    wrong(
        "a class of four",
        job("twenty-learners", spec({WHOLE: 1}, nodeSelector=SHARED), wanted=4, runs=FOUR_AT_A_TIME[:4]),
        shapes__twenty="4 of 20 finished",
    ),
    wrong(
        "tenants share a card",
        job("two-tenants", spec({WHOLE: 1}, nodeSelector=SHARED), wanted=2, runs=[(0, 3), (0, 3)]),
        shapes__tenants="nvidia.com/gpu",
    ),
    wrong(
        "tenants one after the other",
        job("two-tenants", spec({SLICE: 1}), wanted=2, runs=[(0, 3), (3, 6)]),
        shapes__tenants="at most 1",
    ),
    wrong(
        "one tenant waits",
        job("two-tenants", spec({SLICE: 1}), wanted=2, runs=[(0, 3)]),
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
        guard(tolerations=(), let_in=None),
        guard__kept_out="untolerated taint",
        in_class={"guard.kept_out": "model-server does not tolerate it"},
    ),
    wrong(
        "a toleration for another effect",
        guard(tolerations=[{**TOLERATION, "effect": "NoExecute"}], let_in=121),
        guard__kept_out="tolerates no guard",
        in_class={"guard.kept_out": "model-server does not tolerate it"},
    ),
    wrong(
        "let in after the guard was down",
        guard(let_in=125),
        guard__kept_out="not while guest waited",
        in_class=ADMINISTRATOR,
    ),
    wrong("a model server without a GPU", guard(gpus={}), guard__kept_out="no GPU"),
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
    wrong("the holder was never ended", all_of(HOLDER, queue(placed=None)), idle__waited="still waits"),
    wrong("ended at once", queue(placed=203), idle__waited="waited 3 s"),
    wrong("it waited for something else", queue(words=TAINTED), idle__waited="not for a GPU"),
]
_HANDOVER = [
    wrong(
        "the first greedy pod still runs beside the backends",
        pod("greedy-1", spec({WHOLE: 1}), placed=1, labels={"app": "greedy"}, home=SYSTEM),
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
