"""Criteria about bounds: quotas, who reaches whom, and what scales up to where."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from helpers.cluster.quantity import quantity
from helpers.errors import Forbidden
from helpers.review.answers import Answer, Gap, answer
from helpers.review.stack import Stack, Work
from helpers.stack.policy_forecast import Party, decide, selects

if TYPE_CHECKING:
    from helpers.cluster.resource import Resource

TOO_MANY_CARDS, TOO_MUCH_MEMORY = 1000, "1Pi"
ASKER = "readiness-review"
# Kubernetes' own name for what KEDA makes of a ScaledObject.
_KEDA_HPA = "keda-hpa-"
_BY_THE_MACHINE = ("cpu", "memory")
# KEDA's default where a ScaledObject says nothing: https://keda.sh/docs/latest/reference/scaledobject-spec/
_KEDA_MOST = 100


# Quotas


def quota(stack: Stack) -> Answer:
    """Where cards are used, a namespace takes no more than its share: too much is asked for, in dry runs."""
    wanted: dict[str, str] = {}
    for namespace in dict.fromkeys((*stack.places.backends, *stack.places.apps)):
        for work in stack.all_works(namespace):
            for card in work.cards:
                wanted.setdefault(namespace, card)
    gaps = [
        Gap(f"Namespace {stack.real(namespace)}", what)
        for namespace, card in wanted.items()
        for what in _quota_gaps(stack, namespace, card)
    ]
    names = [f"Namespace {stack.real(namespace)}" for namespace in wanted]
    return answer(
        names,
        gaps,
        met=f"{', '.join(map(stack.real, wanted))}: {TOO_MANY_CARDS} cards and {TOO_MUCH_MEMORY} of memory are refused",
        nothing="no workload of the stack asks for a card",
        next_command=stack.command(
            f"kubectl describe quota -n {next(iter(wanted), stack.places.backends[0])}"
        ),
    )


def _quota_gaps(stack: Stack, namespace: str, card: str) -> Iterator[str]:
    for name, cards, memory in ((card, {card: str(TOO_MANY_CARDS)}, "16Mi"), ("memory", {}, TOO_MUCH_MEMORY)):
        amount = TOO_MANY_CARDS if cards else memory
        admitted = _admits(stack, namespace, cards, memory)
        if admitted:
            yield f"takes {amount} of {name}: no quota bounds it"
        elif admitted is None and _hard(stack, namespace, f"requests.{name}") is None:
            yield f"has no ResourceQuota for requests.{name}"


def _admits(stack: Stack, namespace: str, cards: dict[str, str], memory: str) -> bool | None:
    """Whether a pod that asks for so much would be taken; None where that was not told.

    Who may only read may not ask, and what else stands before pods may refuse this one for a reason of its own.
    """
    amounts = {"cpu": "1m", "memory": memory, **cards}
    container = {
        "name": "asker",
        "image": "registry.k8s.io/pause:3.10.2",
        "resources": {"requests": amounts, "limits": amounts},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": ASKER, "namespace": namespace},
        "spec": {
            "containers": [container],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        },
    }
    try:
        found = stack.view.dry_run(pod, namespace=namespace)
    except Forbidden:
        return None
    # A quota and a LimitRange, in the API server's own words.
    bounded = any(words in found.reason for words in ("exceeded quota", "maximum"))
    return True if found.allowed else (False if bounded else None)


def _hard(stack: Stack, namespace: str, name: str) -> float | None:
    """The least that the quotas of a namespace allow of something; None where none counts it."""
    found = [
        quantity(hard)
        for item in stack.objects("ResourceQuota", namespace)
        if not item.path("spec.scopes") and not item.path("spec.scopeSelector")
        if (hard := (item.path("spec.hard", {}) or {}).get(name)) is not None
    ]
    return float(min(found)) if found else None


# Isolation


def isolation(stack: Stack) -> Answer:
    """In a backend's namespace a new pod is closed until a policy names it, and strangers reach no backend."""
    namespaces = [name for name in stack.places.backends if stack.works(name)]
    gaps = [gap for name in namespaces for gap in _namespace_gaps(stack, name)]
    apps = [work for work in stack.works(*stack.places.apps) if work.services]
    gaps += [
        Gap(work.name, "is reached by everybody: no policy of ingress selects it")
        for work in apps
        if not _closed(stack, stack.party(work), "Ingress")
    ]
    names = [f"Namespace {stack.real(name)}" for name in namespaces]
    return answer(
        [*names, *(work.name for work in apps)] if names else [],
        gaps,
        met=f"{', '.join(map(stack.real, namespaces))}: closed to pods that nobody named, both ways; "
        f"{len(apps)} applications say who may come",
        nothing="no backend runs in the stack's namespaces",
        next_command=stack.command(
            f"kubectl get networkpolicies -n {(namespaces or stack.places.backends)[-1]}"
        ),
    )


def _namespace_gaps(stack: Stack, namespace: str) -> Iterator[Gap]:
    real = stack.real(namespace)
    anybody = Party("a-new-pod", real, {"app": "nobody-has-named-it"})
    for side in ("Ingress", "Egress"):
        if not _closed(stack, anybody, side):
            way = "be reached by everybody" if side == "Ingress" else "reach everybody"
            yield Gap(
                f"Namespace {real}", f"lets a new pod {way}: no policy denies {side.lower()} by default"
            )
    stranger = Party("a-stranger", "some-other-namespace", {"app": "vllm"}, ip="10.255.255.254")
    for work in stack.works(namespace):
        party = stack.party(work)
        open_ports = [
            port
            for port in sorted(set(party.ports.values()))
            if decide(stack.world(), stranger, party, port).allowed
        ]
        if open_ports:
            yield Gap(work.name, f"answers a pod of any namespace on port {', '.join(map(str, open_ports))}")


def _closed(stack: Stack, party: Party, side: str) -> bool:
    """Whether a policy isolates this pod on a side, so that only what policies name is open."""
    from helpers.cluster.selectors import policy_types

    return any(
        side in policy_types(policy.get("spec") or {})
        for policy in stack.world().policies
        if selects(policy, party)
    )


# Scaling


@dataclass(frozen=True)
class _Scaler:
    """A ScaledObject, or a HorizontalPodAutoscaler that somebody wrote."""

    resource: Resource
    namespace: str
    target: tuple[str, str]
    most: int | None
    least: int
    reads: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.resource.kind} {self.resource.namespace}/{self.resource.name}"


def scaling(stack: Stack) -> Answer:
    """Model servers are scaled by what users feel, up to what the quota allows, and by one scaler each."""
    scalers = [
        item for name in (*stack.places.backends, *stack.places.apps) for item in _scalers(stack, name)
    ]
    gaps = [gap for item in scalers for gap in _scaler_gaps(stack, item)]
    gaps += [*_twice(scalers)]
    scaled = {(item.namespace, *item.target) for item in scalers}
    servers = [
        work
        for work in (w for name in stack.places.backends for w in stack.all_works(name))
        if work.is_model_server and (work.namespace, work.resource.kind, work.resource.name) in scaled
    ]
    nobody = "no model server is scaled: neither a ScaledObject nor a HorizontalPodAutoscaler has one as its target"
    if not servers:
        gaps.insert(0, Gap("", nobody))
    return answer(
        (item.name for item in scalers),
        gaps,
        met="; ".join(
            f"{item.name}: {item.least} to {item.most} by {', '.join(item.reads)}" for item in scalers
        ),
        nothing=nobody,
        next_command="kubectl get scaledobjects,hpa -A",
    )


def scaled_works(stack: Stack) -> list[Work]:
    """The workloads that a scaler changes."""
    found = []
    for namespace in (*stack.places.backends, *stack.places.apps):
        targets = {item.target for item in _scalers(stack, namespace)}
        found += [
            work for work in stack.all_works(namespace) if (work.resource.kind, work.resource.name) in targets
        ]
    return found


def _scalers(stack: Stack, namespace: str) -> list[_Scaler]:
    found = [_scaled_object(item, namespace) for item in stack.objects("ScaledObject", namespace)]
    made = {item.resource.uid for item in found}
    for item in stack.objects("HorizontalPodAutoscaler", namespace):
        owners = {owner.get("uid") for owner in item.metadata.get("ownerReferences") or []}
        if not owners & made:
            found.append(_hpa(item, namespace))
    return found


def _scaled_object(item: Resource, namespace: str) -> _Scaler:
    target = item.path("spec.scaleTargetRef", {}) or {}
    triggers = item.path("spec.triggers", []) or []
    least = item.path("spec.idleReplicaCount", item.path("spec.minReplicaCount", 0))
    return _Scaler(
        item,
        namespace,
        (str(target.get("kind") or "Deployment"), str(target.get("name", ""))),
        int(item.path("spec.maxReplicaCount")) if item.path("spec.maxReplicaCount") is not None else None,
        int(least or 0),
        tuple(str(one.get("type", "")) for one in triggers),
    )


def _hpa(item: Resource, namespace: str) -> _Scaler:
    target = item.path("spec.scaleTargetRef", {}) or {}
    reads = [_metric(one) for one in item.path("spec.metrics", []) or []]
    return _Scaler(
        item,
        namespace,
        (str(target.get("kind", "")), str(target.get("name", ""))),
        int(item.path("spec.maxReplicas", 0)),
        int(item.path("spec.minReplicas", 1) or 0),
        tuple(reads or ["cpu"]),  # what an HPA without metrics goes by
    )


def _metric(one: dict[str, Any]) -> str:
    kind = str(one.get("type", ""))
    about = one.get(kind[:1].lower() + kind[1:]) or {}
    if kind in ("Resource", "ContainerResource"):
        return str(about.get("name", ""))
    return str((about.get("metric") or {}).get("name") or kind)


def _scaler_gaps(stack: Stack, item: _Scaler) -> Iterator[Gap]:
    kind, name = item.target
    work = next(
        (
            one
            for one in stack.all_works(item.namespace)
            if (one.resource.kind, one.resource.name) == item.target
        ),
        None,
    )
    if work is None:
        yield Gap(item.name, f"scales {kind} {name}, which is not there")
        return
    felt = [one for one in item.reads if one not in _BY_THE_MACHINE]
    if not felt:
        yield Gap(item.name, f"goes by {' and '.join(item.reads) or 'nothing'}, which no user feels")
    if item.most is None:
        yield Gap(item.name, f"has no maxReplicaCount: KEDA's own is {_KEDA_MOST}")
    for card, each in work.cards.items():
        hard = _hard(stack, item.namespace, f"requests.{card}")
        most = _KEDA_MOST if item.most is None else item.most
        if hard is None:
            yield Gap(item.name, f"may ask for {most * each} of {card}, and no quota counts them")
        elif most * each > hard:
            yield Gap(item.name, f"may ask for {most * each} of {card}, and the quota has {math.floor(hard)}")
    for condition, good in (("Ready", True), ("ScalingActive", True), ("Fallback", False)):
        found = item.resource.conditions(condition)
        if found and found.status != "Unknown" and found.is_true != good:
            # An HPA of something that is scaled to nothing is told so, and is right.
            if condition == "ScalingActive" and found.reason == "ScalingDisabled":
                continue
            yield Gap(
                item.name, f"says {condition} {found.status}: {found.message or found.reason}".strip(": ")
            )


def _twice(scalers: list[_Scaler]) -> Iterator[Gap]:
    by_target: dict[tuple[str, str, str], list[_Scaler]] = {}
    for item in scalers:
        by_target.setdefault((item.namespace, *item.target), []).append(item)
    for (_, kind, name), found in by_target.items():
        if len(found) > 1:
            yield Gap(
                f"{kind} {name}",
                f"has two scalers that undo each other: {', '.join(one.name for one in found)}",
            )
