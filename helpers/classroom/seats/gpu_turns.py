"""One GPU, many learners: whose turn it is, enforced by the API server and not by goodwill.

While the queue runs, every namespace of the class carries a quota of zero GPUs (`gpu-turn`), but for
those of the learner whose turn it is. A learner joins with a Lease of their own, in their own
namespace; its creation time, which the API server writes, is their place. The instructor's
`course class gpu run` reads the Leases, decides, and writes what was decided into a ConfigMap that
the whole class can read and nobody else can write. Each decision replaces the ConfigMap at the
version that it was made from, so that two instructors cannot give the card away twice; the quotas are
then brought in line with it, again at every look, so that a process that was killed is caught up with.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from helpers.classroom.folder import Member
from helpers.classroom.seats.rights import (
    APPS,
    CALLER_NAMESPACES,
    CLASS_LABEL,
    MANAGER,
    QUEUE,
    TURN,
    WORK_NAMESPACES,
    closed_turn,
    prefix,
)
from helpers.cluster.faults import Asked
from helpers.cluster.scope import Scope
from helpers.errors import Forbidden, LabError, ObjectMissing, Refused
from helpers.stack import gpu

if TYPE_CHECKING:
    from helpers.cluster import Cluster, Pod, Resource

LEASE = "gpu-turn"
SCHEMA = "course.gpu-queue/v1"
IDLE_MIN, TURN_MIN = 10.0, 45.0
GUARDED_NAMESPACES = (*WORK_NAMESPACES, *CALLER_NAMESPACES)
WORKERS = 8
_TRIES = 5


class QueueOff(LabError):
    """This class has no GPU queue at the moment: whoever asks first gets the card."""


@dataclass(frozen=True)
class Request:
    """A learner who wants the card, and since when, by the API server's clock."""

    suffix: str
    asked_at: datetime


@dataclass(frozen=True)
class Queue:
    """What was decided: who has the card since when, how long it lay idle, and who is next."""

    holder: str = ""
    since: str = ""
    idle_since: str = ""
    waiting: tuple[str, ...] = ()
    idle_min: float = IDLE_MIN
    turn_min: float = TURN_MIN
    said: str = ""

    def to_json(self) -> str:
        """As the ConfigMap keeps it."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Queue:
        """Read what `to_json` wrote; an empty queue for anything else."""
        try:
            tree = json.loads(text)
            names = set(cls.__dataclass_fields__)
            known = {key: value for key, value in tree.items() if key in names}
            return cls(**{**known, "waiting": tuple(known.get("waiting", ()))})
        except (ValueError, AttributeError, TypeError):
            return cls()


# Deciding


def decide(queue: Queue, requests: Iterable[Request], in_use: Mapping[str, int], now: datetime) -> Queue:
    """The queue a moment later: pure, so that every rule can be seen in a test.

    Args:
        requests: every learner with a Lease.
        in_use: by suffix, how many GPUs a learner's pods hold now.
    """
    order = [item.suffix for item in sorted(requests, key=lambda item: (item.asked_at, item.suffix))]
    waiting = tuple(suffix for suffix in order if suffix != queue.holder)
    ended = _why_it_ends(queue, order, waiting, in_use, now)
    if queue.holder and not ended:
        idle = "" if in_use.get(queue.holder) else queue.idle_since or now.isoformat()
        return replace(queue, waiting=waiting, idle_since=idle)
    first, rest = (waiting[0], waiting[1:]) if waiting else ("", ())
    start = now.isoformat() if first else ""
    said = ended or (f"{first} was first in line" if first else queue.said)
    return replace(queue, holder=first, since=start, idle_since=start, waiting=rest, said=said)


def _why_it_ends(
    queue: Queue, order: Sequence[str], waiting: Sequence[str], in_use: Mapping[str, int], now: datetime
) -> str:
    """Why the holder's turn is over; empty while it is not."""
    if not queue.holder:
        return ""
    if queue.holder not in order:
        return f"{queue.holder} left"
    idle = not in_use.get(queue.holder) and queue.idle_since
    if idle and now - datetime.fromisoformat(queue.idle_since) >= timedelta(minutes=queue.idle_min):
        return f"{queue.holder} did not use the card for {queue.idle_min:g} min"
    if waiting and now - datetime.fromisoformat(queue.since) >= timedelta(minutes=queue.turn_min):
        return f"{queue.holder} had the card for {queue.turn_min:g} min, and others wait"
    return ""


# The learner


def join(cluster: Cluster) -> bool:
    """Get in line, with a Lease in one's own `llm-apps`; False when one stands there already."""
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": LEASE, "namespace": APPS},
        "spec": {"holderIdentity": cluster.scope.suffix},
    }
    try:
        cluster.create(lease)
    except Refused as refusal:
        if "already exists" in str(refusal):
            return False
        raise
    return True


def leave(cluster: Cluster) -> bool:
    """Give the card, or the place in line, back; False when one had neither."""
    return cluster.delete("Lease", LEASE, APPS)


def read(cluster: Cluster, class_name: str) -> Queue:
    """The queue as it was decided last.

    Raises:
        QueueOff: the class has none.
    """
    found = cluster.view().find("ConfigMap", QUEUE, prefix(class_name))
    if found is None:
        raise QueueOff(
            f"class {class_name} has no GPU queue: whoever asks first gets the card",
            next_command="course class gpu run (for instructors)",
        )
    return Queue.from_json(found.path("data.queue", ""))


# The instructor


@dataclass(frozen=True)
class Look:
    """One look at the class: what was decided, and what had to be done for it."""

    queue: Queue
    done: tuple[str, ...] = field(default=())


def advance(
    cluster: Cluster,
    class_name: str,
    members: Sequence[Member],
    *,
    now: datetime | None = None,
    idle_min: float | None = None,
    turn_min: float | None = None,
) -> Look:
    """Look, decide, write the decision, and bring every quota in line with it."""
    now = now or datetime.now(UTC)
    suffixes = [member.suffix for member in members if member.suffix]
    for _ in range(_TRIES):
        stored = cluster.view().find("ConfigMap", QUEUE, prefix(class_name))
        before = Queue.from_json(stored.path("data.queue", "")) if stored else Queue()
        wanted = replace(
            before,
            idle_min=before.idle_min if idle_min is None else idle_min,
            turn_min=before.turn_min if turn_min is None else turn_min,
        )
        if wanted.holder not in suffixes:
            wanted = replace(wanted, holder="", since="", idle_since="")
        pods = _gpu_pods(cluster, suffixes)
        queue = decide(wanted, _requests(cluster, suffixes), _in_use(pods), now)
        if (stored is None or queue != before) and not _write(cluster, class_name, queue, stored):
            continue  # another instructor decided meanwhile: look again
        done = [f"turn of {queue.holder}: {queue.said}"] if queue.holder != before.holder else []
        if before.holder and before.holder != queue.holder and before.holder in suffixes:
            cluster.delete("Lease", LEASE, Scope(before.holder).namespace(APPS))
        return Look(queue, (*done, *_enforce(cluster, class_name, suffixes, queue.holder, pods)))
    raise LabError("somebody else changes this class's GPU queue all the time: is another one running?")


def turn_off(cluster: Cluster, class_name: str, members: Sequence[Member]) -> list[str]:
    """End the queue: no decisions any more, and no closed quota."""
    done = []
    if cluster.delete("ConfigMap", QUEUE, prefix(class_name)):
        done.append("the queue is gone")
    selector = f"{CLASS_LABEL}={class_name}"
    for quota in cluster.view().list("ResourceQuota", labels=selector, all_namespaces=True):
        if quota.name == TURN and cluster.delete("ResourceQuota", TURN, quota.namespace):
            done.append(f"opened {quota.namespace}")
    for member in members:
        if member.suffix and cluster.delete("Lease", LEASE, Scope(member.suffix).namespace(APPS)):
            done.append(f"{member.suffix} is out of the line")
    return done


def _write(cluster: Cluster, class_name: str, queue: Queue, stored: Resource | None) -> bool:
    """Replace the ConfigMap at the version that was read; False when it is not that version any more."""
    home = prefix(class_name)
    metadata = {"name": QUEUE, "namespace": home, "labels": {CLASS_LABEL: class_name}}
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"queue": queue.to_json()}}
    asked = Asked("the GPU queue", "ConfigMap", QUEUE, home)
    try:
        if stored is None:
            cluster.create(body | {"metadata": metadata})
        else:
            versioned = body | {"metadata": metadata | {"resourceVersion": stored.resource_version}}
            path = f"/api/v1/namespaces/{home}/configmaps/{QUEUE}"
            cluster.api.call("PUT", path, asked, query={"fieldManager": MANAGER}, body=versioned)
    except Refused:
        return False
    return True


def _requests(cluster: Cluster, suffixes: Sequence[str]) -> list[Request]:
    owners = {Scope(suffix).namespace(APPS): suffix for suffix in suffixes}
    leases = cluster.view().list("Lease", all_namespaces=True, fields=f"metadata.name={LEASE}")
    found = []
    for lease in leases:
        asked_at = gpu.moment(lease.metadata.get("creationTimestamp"))
        if lease.namespace in owners and asked_at and not lease.is_terminating:
            found.append(Request(owners[lease.namespace], asked_at))
    return found


def _gpu_pods(cluster: Cluster, suffixes: Sequence[str]) -> list[tuple[str, Pod]]:
    """The pods of the class that ask for GPUs and are not over, with whose they are."""
    from helpers.cluster import Pod

    owners = {Scope(who).namespace(name): who for who in suffixes for name in GUARDED_NAMESPACES}
    pods = (Pod.of(item) for item in cluster.view().list("Pod", all_namespaces=True))
    return [
        (owners[pod.namespace or ""], pod)
        for pod in pods
        if pod.namespace in owners
        and pod.phase not in ("Succeeded", "Failed")
        and gpu.requested(pod.path("spec", {}))
    ]


def _in_use(pods: Iterable[tuple[str, Pod]]) -> dict[str, int]:
    held: dict[str, int] = {}
    for who, pod in pods:
        if pod.node:
            held[who] = held.get(who, 0) + sum(gpu.requested(pod.path("spec", {})).values())
    return held


def _enforce(
    cluster: Cluster,
    class_name: str,
    suffixes: Sequence[str],
    holder: str,
    pods: Iterable[tuple[str, Pod]],
) -> list[str]:
    """Close every namespace but the holder's, end what still holds the card there, open the holder's."""
    offered = {offer.resource: offer.count for offer in gpu.offers(cluster.view().nodes())}
    resources = sorted({gpu.WHOLE, *offered})
    selector = f"{CLASS_LABEL}={class_name}"
    quotas = cluster.view().list("ResourceQuota", labels=selector, all_namespaces=True)
    closed = {quota.namespace: set(quota.path("spec.hard", {})) for quota in quotas if quota.name == TURN}
    wanted = {f"requests.{resource}" for resource in resources}

    def settle(suffix: str) -> str:
        reals = [Scope(suffix).namespace(name) for name in GUARDED_NAMESPACES]
        if suffix == holder:
            opened = [
                real for real in reals if real in closed and cluster.delete("ResourceQuota", TURN, real)
            ]
            return f"opened the seat of {suffix}" if opened else ""
        shut = [
            closed_turn(class_name, real, resources)
            for real in reals
            if not wanted <= closed.get(real, set())
        ]
        if shut:
            cluster.apply(shut, field_manager=MANAGER)
        return f"closed the seat of {suffix}" if shut else ""

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        done = [line for line in pool.map(settle, suffixes) if line]
    return done + _end_pods(cluster, holder, pods, offered)


def _end_pods(
    cluster: Cluster, holder: str, pods: Iterable[tuple[str, Pod]], offered: Mapping[str, int]
) -> list[str]:
    """Delete pods that hold a card out of turn, or would take it as soon as it is free.

    A pod that asks for more than any node offers can never take it: it stays, as an exercise may need.
    """
    done = []
    for who, pod in pods:
        wants = gpu.requested(pod.path("spec", {}))
        could = all(count <= offered.get(resource, 0) for resource, count in wants.items())
        out_of_turn = who != holder and (pod.node or could) and not pod.is_terminating
        if out_of_turn and cluster.delete("Pod", pod.name, pod.namespace):
            done.append(f"ended {pod.namespace}/{pod.name}")
    return done


def class_of(cluster: Cluster) -> str:
    """The class in which these credentials have a seat.

    Raises:
        LabError: these are no learner's credentials.
    """
    try:
        return str(cluster.view().config_map("course-seat", APPS).data["class"])
    except (ObjectMissing, Forbidden, KeyError) as error:
        raise LabError(
            "this kubeconfig is not a learner's handout",
            next_command="course use --context NAME --kubeconfig HANDOUT",
        ) from error
