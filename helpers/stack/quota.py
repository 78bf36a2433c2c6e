"""Quota arithmetic: what a namespace may hold, what is in it, and what is planned for it.

A ResourceQuota refuses a pod as soon as *one* dimension would be exceeded, so a plan fits only if
it fits in every dimension. The figures of the planned workloads are those of a real cluster with
a real model; a teaching cluster runs smaller ones, but the arithmetic is learned with these.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from helpers.cluster import shapes
from helpers.cluster.quantity import quantity, quantity_text
from helpers.cluster.quota_scopes import counts_claims, counts_pod

GPU = "requests.nvidia.com/gpu"
GIB = Decimal(1024**3)

# In the order in which pictures and messages list them.
DIMENSIONS = (
    GPU,
    "requests.cpu",
    "limits.cpu",
    "requests.memory",
    "limits.memory",
    "requests.storage",
    "persistentvolumeclaims",
    "pods",
)
COMPUTE = DIMENSIONS[:5]
OF_CLAIMS = DIMENSIONS[5:7]
# In which a quota must stop a second model server; claims and pods are only counted.
BRAKES = DIMENSIONS[:6]


@dataclass(frozen=True)
class Workload:
    """Something planned for the namespace: what it will take of each quota dimension."""

    name: str
    layer: str
    takes: Mapping[str, Decimal]


def amounts(written: Mapping[str, str | int]) -> dict[str, Decimal]:
    """Written quantities as exact numbers (cores, bytes, counts)."""
    return {dimension: quantity(value) for dimension, value in written.items()}


VLLM = Workload(
    "vLLM",
    "inference",
    amounts(
        {
            GPU: 1,
            "requests.cpu": 2,
            "limits.cpu": 10,
            "requests.memory": "24Gi",
            "limits.memory": "64Gi",
            "requests.storage": "120Gi",
            "persistentvolumeclaims": 1,
            "pods": 1,
        }
    ),
)
QDRANT = Workload(
    "Qdrant",
    "memory",
    amounts(
        {
            "requests.cpu": 1,
            "limits.cpu": 4,
            "requests.memory": "4Gi",
            "limits.memory": "16Gi",
            "requests.storage": "200Gi",
            "persistentvolumeclaims": 1,
            "pods": 1,
        }
    ),
)
PLANNED = (VLLM, QDRANT)


@dataclass(frozen=True)
class Line:
    """The arithmetic of one dimension; `hard` is None where the quota does not limit it."""

    dimension: str
    hard: Decimal | None
    used: Decimal
    parts: tuple[tuple[str, Decimal], ...]

    @property
    def total(self) -> Decimal:
        """What is in the namespace and what is planned, together."""
        return self.used + sum((amount for _, amount in self.parts), Decimal(0))

    @property
    def over(self) -> Decimal:
        """By how much the plan overruns the quota; zero where it fits or nothing limits it."""
        return max(Decimal(0), self.total - self.hard) if self.hard is not None else Decimal(0)

    @property
    def fits(self) -> bool:
        """Whether everything planned would be admitted, as far as this dimension goes."""
        return self.over == 0

    def says(self) -> str:
        """The dimension in words: `14 of 12: 2 too many`."""
        total = amount_text(self.dimension, self.total)
        if self.hard is None:
            return f"{total}, not limited"
        hard = amount_text(self.dimension, self.hard)
        over = amount_text(self.dimension, self.over)
        return f"{total} of {hard}" + ("" if self.fits else f": {over} too many")


def arithmetic(
    hard: Mapping[str, Decimal],
    workloads: Iterable[Workload] = PLANNED,
    *,
    used: Mapping[str, Decimal] | None = None,
) -> list[Line]:
    """One line for each of the course's dimensions, and for any other that the quota limits or a plan takes."""
    planned = list(workloads)
    taken = {dimension for workload in planned for dimension in workload.takes}
    extra = sorted((set(hard) | taken) - set(DIMENSIONS))
    return [
        Line(
            dimension,
            hard.get(dimension),
            (used or {}).get(dimension, Decimal(0)),
            tuple((item.name, item.takes[dimension]) for item in planned if item.takes.get(dimension)),
        )
        for dimension in (*DIMENSIONS, *extra)
    ]


# Other names under which the API server counts the same, beside `count/…` of what has a name of its own.
_ALIASES = {
    "cpu": "requests.cpu",
    "memory": "requests.memory",
    "count/pods": "pods",
    "count/persistentvolumeclaims": "persistentvolumeclaims",
}
_OF_A_CLASS = ".storageclass.storage.k8s.io/"


def counted_as(dimension: str, storage_class: str = "") -> str:
    """The course's name of a dimension: `cpu` is `requests.cpu`, and a limit on the class in use is one on all."""
    name, of_class, rest = dimension.partition(_OF_A_CLASS)
    if of_class and name == storage_class:
        return rest
    return _ALIASES.get(dimension, dimension)


def counted(written: Mapping[str, Any], storage_class: str = "") -> dict[str, Decimal]:
    """Amounts by the course's names; of two that limit the same, the smaller.

    Raises:
        InvalidManifest: an amount is no quantity.
    """
    found: dict[str, Decimal] = {}
    for dimension, value in written.items():
        if value is not None:
            name, amount = counted_as(str(dimension), storage_class), quantity(value)
            found[name] = min(amount, found.get(name, amount))
    return found


def limits_of(spec: Mapping[str, Any], storage_class: str = "") -> dict[str, Decimal]:
    """What a ResourceQuota's spec limits of the planned workloads: a scope may leave them out."""
    hard = counted(spec.get("hard") or {}, storage_class)
    if not counts_pod(spec, question_pod(VLLM.takes, "planned")["spec"]):
        return {}
    claims = counts_claims(spec)
    return {name: amount for name, amount in hard.items() if claims or name not in OF_CLAIMS}


def tightest(limits: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    """What several quotas limit together: each of them must admit a pod."""
    hard: dict[str, Decimal] = {}
    for found in limits:
        hard |= {name: min(amount, hard.get(name, amount)) for name, amount in found.items()}
    return hard


def hard_in(manifest: Mapping[str, Any]) -> dict[str, Decimal]:
    """What a ResourceQuota manifest limits; InvalidManifest names a quantity that is none."""
    shapes.check(manifest, shapes.QUOTA)
    return limits_of(manifest.get("spec") or {})


def amount_text(dimension: str, value: Decimal) -> str:
    """An amount as people say it: bytes in GiB, everything else as a count."""
    if dimension.endswith(("memory", "storage")):
        return f"{(value / GIB).normalize():f} GiB"
    return f"{value.normalize():f}"


def total_of(workloads: Sequence[Workload]) -> dict[str, Decimal]:
    """What several workloads take together."""
    total: dict[str, Decimal] = {}
    for workload in workloads:
        for dimension, amount in workload.takes.items():
            total[dimension] = total.get(dimension, Decimal(0)) + amount
    return total


def question_pod(takes: Mapping[str, Decimal], name: str, namespace: str = "llm-system") -> dict[str, Any]:
    """A pod that takes these compute amounts: for asking admission by dry run, never for running."""
    resources: dict[str, dict[str, str]] = {"requests": {}, "limits": {}}
    for dimension, amount in takes.items():
        side, _, resource = dimension.partition(".")
        if side not in resources or resource == "storage":
            continue
        text = quantity_text(amount, binary=resource == "memory")
        resources[side][resource] = text
        if "/" in resource:  # extended resources: the limit is the request
            resources["limits"][resource] = text
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "enableServiceLinks": False,
            "containers": [{"name": "question", "image": "question", "resources": resources}],
        },
    }


def question_claim(size: Decimal, name: str, namespace: str = "llm-system") -> dict[str, Any]:
    """A claim of this size in bytes: for asking admission by dry run, never for keeping."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": quantity_text(size, binary=True)}},
        },
    }


def exceeded(reason: str) -> set[str]:
    """The dimensions that a quota's refusal names as exceeded, by the course's names.

    Upstream's words: `exceeded quota: NAME, requested: a=1,b=2, used: a=0,b=0, limited: a=0,b=1`
    (k8s.io/apiserver, plugin/pkg/admission/resourcequota): only exceeded dimensions are listed.
    """
    found: set[str] = set()
    for part in reason.split("exceeded quota:")[1:]:
        requested = part.partition("requested: ")[2].partition(", used:")[0]
        found |= {counted_as(item.partition("=")[0].strip()) for item in requested.split(",") if "=" in item}
    return found
