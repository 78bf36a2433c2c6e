"""The GPU substrate: in which shapes a card is offered, who holds it, and what holding it costs.

A shape is what the device plugin advertises: the whole card, its hardware slices (MIG), or the
same card several times over (time-slicing). Full and time-sliced cards have one resource name;
only the labels that GPU feature discovery puts on the node tell them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from helpers.cluster.quantity import quantity
from helpers.cluster.selectors import holds
from helpers.course_process import run_course
from helpers.settings import cluster_name, kubeconfig_path

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.cluster.resource import Node, Pod, Resource

PREFIX = "nvidia.com/"
WHOLE = "nvidia.com/gpu"
MIG_PREFIX = "nvidia.com/mig-"
# Half an A100: how the embedded cluster offers its second card, whatever the shape of the first.
HALF_CARD = f"{MIG_PREFIX}3g.40gb"
SHARING = "nvidia.com/gpu.sharing-strategy"
REPLICAS = "nvidia.com/gpu.replicas"
PRODUCT = "nvidia.com/gpu.product"
MIG_STRATEGY = "nvidia.com/mig.strategy"
GUARD = {"key": WHOLE, "value": "present", "effect": "NoSchedule"}


@dataclass(frozen=True)
class Shape:
    """One way to offer a card: its resource, its isolation in words, and whom it suits."""

    key: str
    title: str
    isolation: str
    price: str


SHAPES = {
    shape.key: shape
    for shape in (
        Shape("full", "Full GPU", "the card is yours alone", "a small model leaves memory idle"),
        Shape("mig", "MIG slices", "own memory and compute units, in hardware", "the model must fit a slice"),
        Shape(
            "time-slicing",
            "Time-slicing",
            "none: memory and faults are shared",
            "latency depends on neighbours",
        ),
    )
}


@dataclass(frozen=True)
class Strategy:
    """One way to advertise the slices of a card that is cut into seven: NVIDIA's `migStrategy`.

    https://docs.nvidia.com/datacenter/cloud-native/gpu-operator/latest/gpu-operator-mig.html and
    https://github.com/NVIDIA/k8s-device-plugin/blob/main/docs/gpu-feature-discovery/README.md
    """

    key: str
    resource: str
    count: int
    told_by: str
    needs: str


STRATEGIES = {
    strategy.key: strategy
    for strategy in (
        Strategy(
            "single",
            WHOLE,
            7,
            f"the product's name in a label: `{PRODUCT}` ends in `-MIG-1g.10gb`",
            "every card of the node is cut, and all slices have one size; pods and quotas stay as they are, "
            f"but `{WHOLE}: 1` now means a slice",
        ),
        Strategy(
            "mixed",
            f"{MIG_PREFIX}1g.10gb",
            7,
            f"the resource's own name, and labels such as `{MIG_PREFIX}1g.10gb.count`",
            f"sizes may differ, and whole cards may stay beside them as `{WHOLE}`; pods must ask for the size by name, "
            f"and a quota needs a line for each: `requests.{MIG_PREFIX}1g.10gb`",
        ),
    )
}


def is_gpu(resource: str) -> bool:
    """Whether a resource name is a GPU, or a slice of one."""
    return resource == WHOLE or resource.startswith((MIG_PREFIX, f"{WHOLE}.shared"))


@dataclass(frozen=True)
class Offer:
    """What one node offers of one GPU resource."""

    node: str
    resource: str
    count: int
    shape: str


def offers(nodes: Iterable[Node]) -> list[Offer]:
    """The GPU resources that nodes offer now."""
    return [
        Offer(node.name, resource, int(node.allocatable(resource)), shape_of(node, resource))
        for node in nodes
        for resource in node.resources
        if is_gpu(resource) and node.allocatable(resource) > 0
    ]


def shape_of(node: Node, resource: str) -> str:
    """full, mig or time-slicing, from the resource's name and the labels of GPU feature discovery."""
    single = node.labels.get(MIG_STRATEGY) == "single" and "-MIG-" in node.labels.get(PRODUCT, "")
    if resource.startswith(MIG_PREFIX) or (single and resource == WHOLE):
        return "mig"
    replicas = node.labels.get(REPLICAS, "1")
    shared = node.labels.get(SHARING) == "time-slicing" or (replicas.isdigit() and int(replicas) > 1)
    return "time-slicing" if shared or resource.endswith(".shared") else "full"


def requested(pod_spec: Mapping[str, Any]) -> dict[str, int]:
    """The GPUs that a pod's containers ask for, by resource name."""
    total: dict[str, int] = {}
    for container in pod_spec.get("containers") or []:
        resources = container.get("resources") or {}
        asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
        for resource, amount in asked.items():
            if is_gpu(resource):
                total[resource] = total.get(resource, 0) + int(quantity(amount))
    return total


@dataclass(frozen=True)
class Holder:
    """A pod that holds GPUs: placed on a node and not finished."""

    namespace: str
    pod: str
    node: str
    resource: str
    count: int


def holders(pods: Iterable[Pod]) -> list[Holder]:
    """Which pods hold which GPUs now, idle or not."""
    return [
        Holder(pod.namespace or "", pod.name, pod.node, resource, count)
        for pod in pods
        if pod.node and pod.phase not in ("Succeeded", "Failed")
        for resource, count in requested(pod.path("spec", {})).items()
        if count
    ]


def idle_cost(hours: float, price_per_hour: float, *, cards: int = 1) -> float:
    """What held and unused cards cost, in the price's currency."""
    return hours * price_per_hour * cards


def moment(text: str | None) -> datetime | None:
    """A time as the API server writes it."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if text else None


def placed_at(pod: Resource) -> datetime | None:
    """When the scheduler placed the pod; None while it waits."""
    for item in pod.path("status.conditions", []):
        if item.get("type") == "PodScheduled" and item.get("status") == "True":
            return moment(item.get("lastTransitionTime"))
    return None


def waited_s(pod: Resource, now: datetime | None = None) -> float | None:
    """How long the pod waited for a place, in seconds: until it was placed, or until `now`."""
    created, placed = moment(pod.metadata.get("creationTimestamp")), placed_at(pod) or now
    return (placed - created).total_seconds() if created and placed else None


def ran_at_once(pods: Iterable[Resource]) -> int:
    """The largest number of pods whose containers ran at the same moment, by the kubelet's times."""
    changes: list[tuple[datetime, int]] = []
    for pod in pods:
        for status in pod.path("status.containerStatuses", []):
            state = status.get("state") or {}
            ended = state.get("terminated") or {}
            started = moment((state.get("running") or ended).get("startedAt"))
            if started:
                changes.append((started, 1))
                finished = moment(ended.get("finishedAt"))
                changes += [(finished, -1)] if finished else []
    most = running = 0
    # The kubelet writes whole seconds: at a tie, an end comes first, so that turns never look like company.
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    return most


def tolerates(pod_spec: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    """Whether a pod tolerates a taint (the API's rules: empty key with Exists means every taint)."""
    return any(_matches(item, taint) for item in pod_spec.get("tolerations") or [])


def _matches(toleration: Mapping[str, Any], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    exists = toleration.get("operator", "Equal") == "Exists"
    if not toleration.get("key"):
        return exists
    return toleration["key"] == taint["key"] and (
        exists or toleration.get("value", "") == taint.get("value", "")
    )


def guarded(nodes: Iterable[Node]) -> list[Node]:
    """Nodes with a NoSchedule or NoExecute taint of the GPU's key."""
    return [node for node in nodes if any(_guards(taint) for taint in node.taints)]


def _guards(taint: Mapping[str, str]) -> bool:
    return taint.get("key") == WHOLE and taint.get("effect") in ("NoSchedule", "NoExecute")


def set_guard(cluster: Cluster, *, on: bool) -> list[str]:
    """Taint every node that offers GPUs, or take the taint away; the names of nodes that changed."""
    changed = []
    for node in cluster.view().nodes():
        offers_gpu = any(is_gpu(resource) and node.allocatable(resource) > 0 for resource in node.resources)
        if on == bool(guarded([node])) or (on and not offers_gpu):
            continue
        rest = [taint for taint in node.taints if not _guards(taint)]
        cluster.patch("Node", node.name, {"spec": {"taints": [*rest, GUARD] if on else rest}})
        changed.append(node.name)
    return changed


def change_shape(shape: str, *, timeout_s: float = 120) -> str:
    """As the embedded cluster's administrator: change what the node advertises; what the command said.

    Raises:
        CourseCommandFailed: the command failed, with its own words.
    """
    return run_course("gpu", "--shape", shape, timeout_s=timeout_s)


def add_second_card(*, timeout_s: float = 120) -> str:
    """As the embedded cluster's administrator: a second card beside the first; harmless when it is there.

    Raises:
        CourseCommandFailed: the command failed, with its own words.
    """
    return run_course("gpu", "--second-card", timeout_s=timeout_s)


def offer_whole_cards(cluster: Cluster) -> list[str]:
    """Give the embedded cluster's card back its first shape; the nodes that offered another one.

    On any other cluster, and in a class, the shape is its administrator's business: nothing changes.
    """
    connection = getattr(cluster.backend, "connection", None)
    ours = connection is not None and connection.kubeconfig == kubeconfig_path(cluster_name())
    if not ours or cluster.scope.suffix:
        return []
    cut = [
        offer.node
        for offer in offers(cluster.view().nodes())
        if offer.shape != "full" and offer.resource != HALF_CARD
    ]
    if cut:
        change_shape("full")
    return cut


def price_text(amount: float | Decimal) -> str:
    """Money as people write it."""
    return f"${amount:,.2f}"


def accepts(pod_spec: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a pod's node selector and required node affinity accept a node with these labels."""
    if any(labels.get(key) != value for key, value in (pod_spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms") or []
    return not terms or any(
        all(_expression_holds(item, labels) for item in term.get("matchExpressions") or []) for term in terms
    )


def _expression_holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    if expression["operator"] not in ("Gt", "Lt"):
        return holds(expression, labels)
    value, values = labels.get(expression["key"]), expression.get("values") or []
    if value is None or not value.lstrip("-").isdigit() or not values:
        return False
    return int(value) > int(values[0]) if expression["operator"] == "Gt" else int(value) < int(values[0])


def as_if(labels: Mapping[str, str], *, shared: bool) -> dict[str, str]:
    """A node's labels as GPU feature discovery would write them for a shared, or an unshared, card."""
    product = labels.get(PRODUCT, "GPU").removesuffix("-SHARED")
    return {
        **labels,
        SHARING: "time-slicing" if shared else "none",
        REPLICAS: "4" if shared else "1",
        PRODUCT: f"{product}-SHARED" if shared else product,
    }


def wait_for_job(cluster: Cluster, name: str, namespace: str, *, timeout_s: float = 240) -> None:
    """Wait until a Job has finished; WaitTimeout says what its pods were waiting for."""
    from helpers.cluster import NotYet

    def finished(view: ClusterView) -> bool:
        job = view.get("Job", name, namespace)
        complete = job.conditions("Complete")
        if complete and complete.is_true:
            return True
        raise NotYet(f"{job.path('status.succeeded', 0)} of {job.path('spec.completions', 1)} finished")

    cluster.wait_until(f"Job {name} finished", finished, timeout_s=timeout_s)


def wait_for_phase(
    cluster: Cluster, name: str, namespace: str, phases: tuple[str, ...], *, timeout_s: float = 120
) -> None:
    """Wait until a pod is in one of these phases."""
    from helpers.cluster import NotYet

    def reached(view: ClusterView) -> bool:
        pod = view.pod(name, namespace)
        if pod.phase in phases:
            return True
        raise NotYet(f"{pod.name} is {pod.phase}")

    cluster.wait_until(f"pod {name} {' or '.join(phases)}", reached, timeout_s=timeout_s)
