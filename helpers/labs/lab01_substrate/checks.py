"""Lab 01, the GPU substrate: who may have an accelerator, which node gives one, and who says no.

The quota is asked by dry run, the scheduler by what it did to the probes that the learner left in
`llm-workshop`: finished pods, conditions and events stay after the shape of the card has changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from helpers.cluster.leftovers import CLASS_LABEL, delete_leftovers
from helpers.cluster.past_events import events_are_gone
from helpers.errors import ProbeInconclusive
from helpers.grading import Lab, Verdict, all_of, expect, expect_true, falls_short, not_attempted
from helpers.grading.declare import Progress, quiet
from helpers.stack import gpu
from helpers.stack.given import namespaces_given
from helpers.stack.quota import (
    BRAKES,
    COMPUTE,
    GPU,
    PLANNED,
    VLLM,
    amount_text,
    amounts,
    arithmetic,
    counted,
    exceeded,
    limits_of,
    question_claim,
    question_pod,
    tightest,
    total_of,
)

if TYPE_CHECKING:
    from helpers.cluster import Admission, Cluster, ClusterView, Pod, Resource, ResourceQuota

SYSTEM, APPS, WORKSHOP = "llm-system", "llm-apps", "llm-workshop"
ROLE_LABEL, ROLE = "kubedojo.dev/role", "llm-apps"
TINY = amounts({"requests.cpu": "1m", "limits.cpu": "1m", "requests.memory": "1Mi", "limits.memory": "1Mi"})
MOST_OBJECTS = 20
CLASS_SIZE = 20
SHORTEST_WAIT_S = 10

lab = Lab("01", "Substrate", namespaces=(SYSTEM, APPS, WORKSHOP))


@lab.reset
def reset(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """Back to nothing: the lab's namespaces, and what no namespace holds, the taint and the card's shape."""
    mine = not cluster.scope.suffix  # the nodes of a class are everybody's
    done = [f"took the guard from node {name}" for name in (gpu.set_guard(cluster, on=False) if mine else ())]
    done += [f"node {name} offers its card whole again" for name in gpu.offer_whole_cards(cluster)]
    for name in lab.namespaces:
        if not mine:  # in a class the namespaces are the instructor's, what is in them the learner's
            done += delete_leftovers(cluster, name)
        elif cluster.delete_namespace(name, wait_s=120):
            done.append(f"deleted Namespace {name}")
    return done


# a. Namespaces


@lab.check("namespaces", points=2)
def three_namespaces(cluster: ClusterView) -> Verdict:
    """`llm-system`, `llm-apps` and `llm-workshop` exist and are Active.

    Why: Quota, policy and clean-up all work by namespace: backends, applications and experiments are kept apart.
    Hint: A Namespace is an object like any other: `kind: Namespace` and a name.
    Next: kubectl get namespaces
    """
    return all_of(*(_active(cluster, name) for name in lab.namespaces)).summed_up("all three are Active")


def _active(cluster: ClusterView, name: str) -> Verdict:
    found = cluster.find("Namespace", name)
    if found is None:
        return not_attempted(f"namespace {name}", f"no namespace {name}")
    phase = "Terminating" if found.is_terminating else found.path("status.phase", "Active")
    return expect(phase, f"{name} Active", f"{name} {phase}", found, equals="Active")


@lab.check("namespaces.label", needs=three_namespaces)
def only_the_apps_are_labelled(cluster: ClusterView) -> Verdict:
    """Selecting `kubedojo.dev/role=llm-apps` finds the namespace of the applications, and no other.

    Why: The policy of lab 04 lets in every namespace with this label: one extra label is a hole; no label is an outage.
    Hint: Labels go under `metadata.labels`, and a selector compares key and value letter by letter.
    Next: kubectl get namespaces -L kubedojo.dev/role
    """
    names, own = _namespaces_with_the_role(cluster), cluster.scope.namespace(APPS)
    strangers = sorted(names - {own} - namespaces_given(f"{ROLE_LABEL}={ROLE}"))
    apps = cluster.namespace(APPS)
    shown = f"{ROLE_LABEL}={apps.labels[ROLE_LABEL]}" if ROLE_LABEL in apps.labels else "no such label"
    return all_of(
        expect_true(own in names, f"{APPS} is selected", f"{APPS} has {shown}"),
        expect(
            strangers,
            "no other namespace is selected",
            f"also selected: {', '.join(strangers) or 'none'}",
            equals=[],
        ),
    ).about(apps)


def _namespaces_with_the_role(cluster: ClusterView) -> set[str]:
    """On a shared cluster the learner's own: all others are somebody else's, and may not be listed."""
    if not cluster.scope.suffix:
        return {item.name for item in cluster.list("Namespace", labels=f"{ROLE_LABEL}={ROLE}")}
    found = (cluster.find("Namespace", name) for name in lab.namespaces)
    return {item.name for item in found if item and item.labels.get(ROLE_LABEL) == ROLE}


# b. Quota


def _ask(cluster: ClusterView, manifest: dict[str, Any]) -> Admission:
    """A dry run whose refusal means what it says."""
    answer = cluster.dry_run(manifest)
    if not answer.allowed and (
        "status unknown for quota" in answer.reason or "service account" in answer.reason
    ):
        raise ProbeInconclusive(f"the namespace is not ready to be asked yet: {answer.reason}")
    return answer


def _quotas(cluster: ClusterView) -> list[ResourceQuota]:
    """The course's quota and any other of the namespace; ObjectMissing without the course's own."""
    from helpers.cluster import ResourceQuota

    cluster.resource_quota()
    found = cluster.list("ResourceQuota", SYSTEM)
    return [ResourceQuota.of(item) for item in found if not _is_the_classes(item)]


def _is_the_classes(quota: Resource) -> bool:
    """Whether an instructor put the quota there: it bounds a seat, and is no answer of the learner's."""
    return CLASS_LABEL in quota.labels and quota.name != "llm-system-quota"


def _is_out_of_turn(cluster: ClusterView) -> bool:
    """Whether a class's GPU queue keeps this namespace from any GPU now: then one cannot be asked for."""
    quotas = cluster.list("ResourceQuota", SYSTEM) if cluster.scope.suffix else []
    return any(quota.path("spec.hard", {}).get(GPU) == "0" for quota in quotas if _is_the_classes(quota))


def _tightest(quotas: Iterable[ResourceQuota], storage_class: str = "") -> dict[str, Decimal]:
    """What really limits each dimension, by the course's names."""
    return tightest(limits_of(quota.path("spec", {}), storage_class) for quota in quotas)


def _used(quotas: Iterable[ResourceQuota], storage_class: str = "") -> dict[str, Decimal]:
    used: dict[str, Decimal] = {}
    for quota in quotas:
        if limits_of(quota.path("spec", {}), storage_class):
            used |= counted(quota.path("status.used", {}), storage_class)
    return used


@lab.check("quota.gpu", points=3, needs=three_namespaces)
def one_gpu_and_not_two(cluster: ClusterView) -> Verdict:
    """The namespace `llm-system` admits one GPU and refuses the second.

    Why: Extended resources are never overcommitted, and nothing else limits how many cards a namespace takes.
    Hint: A ResourceQuota counts a GPU by its request: the dimension is called `requests.` and the resource's name.
    Next: kubectl describe quota -n llm-system
    """
    quotas = _quotas(cluster)
    hard = _tightest(quotas).get(GPU)
    two = _ask(cluster, question_pod({**TINY, GPU: Decimal(2)}, "question-two-gpus"))
    refused = GPU in exceeded(two.reason)
    parts = [
        expect(hard, "one GPU at most", _limit(hard), quotas[0], equals=1),
        expect_true(
            refused,
            "a pod with two GPUs is refused",
            "a pod with two GPUs " + (f"was refused: {two.reason}" if not two.allowed else "was admitted"),
            two,
        ),
    ]
    if not _used(quotas).get(GPU) and not _is_out_of_turn(cluster):
        parts.append(
            _admitted(_ask(cluster, question_pod({**TINY, GPU: Decimal(1)}, "question-one-gpu")), "one GPU")
        )
    return all_of(*parts).summed_up(f"one is admitted; two: {two.reason}")


def _limit(hard: Decimal | None) -> str:
    if hard is None:
        return "GPUs are not limited"
    return f"{hard.normalize():f} GPU{'' if hard == 1 else 's'} at most"


def _admitted(answer: Admission, what: str) -> Verdict:
    return expect_true(
        answer.allowed,
        f"{what} is admitted",
        f"{what}: " + ("admitted" if answer.allowed else answer.reason),
        answer,
    )


@lab.check("quota.fits", points=3, needs=one_gpu_and_not_two)
def both_workloads_fit(cluster: ClusterView) -> Verdict:
    """vLLM and Qdrant, as planned, are admitted together: in every dimension.

    Why: A quota refuses a pod as soon as one dimension is exceeded: whichever starts second is not created.
    Hint: Add up what vLLM and Qdrant take, dimension by dimension, and compare each sum with the quota.
    Next: kubectl describe quota -n llm-system
    """
    quotas, storage_class = _quotas(cluster), cluster.profile.storage_class
    hard = _tightest(quotas, storage_class)
    lines = arithmetic(hard)
    over = [f"{line.dimension}: {line.says()}" for line in lines if not line.fits]
    fits = expect(
        over,
        "the sum of both within the quota, in every dimension",
        "; ".join(over) or "every sum is within the quota",
        quotas[0],
        equals=[],
    )
    if over:
        return fits
    verdict = all_of(fits, *_nothing_else_refuses(cluster, hard, _used(quotas, storage_class)))
    return verdict.summed_up(f"both fit in all {len(lines)} dimensions")


def _nothing_else_refuses(
    cluster: ClusterView, hard: Mapping[str, Decimal], used: Mapping[str, Decimal]
) -> list[Verdict]:
    """Each workload asked alone, where there is room for it: a LimitRange may refuse what the quota admits."""
    answers = []
    unasked = {GPU} if _is_out_of_turn(cluster) else set()
    for workload in PLANNED:
        if all(line.fits for line in arithmetic(hard, [workload], used=used)):
            name = workload.name.lower()
            takes = {key: amount for key, amount in workload.takes.items() if key not in unasked}
            asked = _ask(cluster, question_pod(takes, f"question-{name}"))
            claim = _ask(cluster, question_claim(workload.takes["requests.storage"], f"question-{name}"))
            answers += [
                _admitted(asked, f"a pod of {workload.name}'s size"),
                _admitted(claim, f"{workload.name}'s claim"),
            ]
    return answers


@lab.check("quota.brake", points=3, needs=one_gpu_and_not_two)
def no_room_for_another_model_server(cluster: ClusterView) -> Verdict:
    """Every dimension is limited, so that the plan and one more model server do not fit.

    Why: A quota that admits everything is useless: it must stop somebody who starts the same model twice by mistake.
    Hint: The plan must fit, but not a second model server beside it: which dimension still has room, or no limit?
    Next: kubectl describe quota -n llm-system
    """
    hard = _tightest(_quotas(cluster), cluster.profile.storage_class)
    too_much = total_of([*PLANNED, VLLM])
    claim = _ask(cluster, question_claim(too_much["requests.storage"], "question-storage"))
    refused = _refused_dimensions(cluster, too_much) | exceeded(claim.reason)
    asked = [_refuses(name, name in refused, too_much[name], claim) for name in BRAKES]
    counted = [
        expect(
            hard.get(name, Decimal(10**9)),
            f"at most {MOST_OBJECTS} {name}",
            f"{name}: " + (f"{hard[name]:f} at most" if name in hard else "not limited"),
            claim,
            at_most=MOST_OBJECTS,
        )
        for name in ("persistentvolumeclaims", "pods")
    ]
    verdict = all_of(*asked, *counted)
    return verdict.summed_up(f"refused in {len(asked)} dimensions; claims and pods are counted")


def _refused_dimensions(cluster: ClusterView, amount: Mapping[str, Decimal]) -> set[str]:
    """Which compute dimensions refuse these amounts; one by one where one quota spoke for several."""
    found = exceeded(_ask(cluster, question_pod(amount, "question-one-more")).reason)
    for dimension in set(COMPUTE) - found:
        alone = {**TINY, dimension: amount[dimension]}
        side, _, resource = dimension.partition(".")
        if side == "requests":  # a request above its limit would be refused for that
            alone[f"limits.{resource}"] = max(alone.get(f"limits.{resource}", Decimal(0)), amount[dimension])
        found |= exceeded(_ask(cluster, question_pod(alone, "question-one-more")).reason) & {dimension}
    return found


def _refuses(dimension: str, refused: bool, amount: Decimal, answer: Admission) -> Verdict:
    text = amount_text(dimension, amount)
    return expect_true(
        refused,
        f"{dimension}: {text} refused",
        f"{dimension}: {text} " + ("refused" if refused else "admitted"),
        answer,
    )


# c. Who said no?


@lab.check("refusal.admission", points=2, needs=one_gpu_and_not_two)
def admission_refused(cluster: ClusterView) -> Verdict:
    """In `llm-system` a ReplicaSet has no pod, because admission refused its GPUs.

    Why: A Deployment is accepted even when its pods never are: the ReplicaSet reports the refusal, `kubectl apply` does not.
    Hint: Ask for more GPUs than the quota holds, and state CPU and memory too, or the quota refuses for that first.
    Next: kubectl describe replicaset -n llm-system
    """
    expected = "a ReplicaSet whose pods the quota refuses for their GPUs"
    stuck = _stuck_replica_sets(cluster)
    if not stuck:
        admitted = [pod for pod in cluster.pods(SYSTEM) if gpu.requested(pod.path("spec", {}))]
        if not admitted:
            return not_attempted(expected, "no ReplicaSet in llm-system is refused")
        return falls_short(expected, f"{admitted[0]} was admitted", admitted[0])
    by_gpu = [(item, words) for item, words in stuck if any(map(gpu.is_gpu, _resources(exceeded(words))))]
    replica_set, words = (by_gpu or stuck)[0]
    return expect_true(by_gpu, expected, f"{replica_set.name}: {words}", replica_set)


def _stuck_replica_sets(cluster: ClusterView) -> list[tuple[Resource, str]]:
    """ReplicaSets that cannot create their pods, with the controller's words."""
    found = []
    for item in cluster.list("ReplicaSet", SYSTEM):
        failure = item.conditions("ReplicaFailure")
        if (
            failure
            and failure.is_true
            and failure.reason == "FailedCreate"
            and not item.path("status.replicas", 0)
        ):
            found.append((item, failure.message))
    return found


def _resources(dimensions: Iterable[str]) -> set[str]:
    return {dimension.removeprefix("requests.") for dimension in dimensions}


@lab.check("refusal.scheduling", points=2, needs=admission_refused)
def scheduler_refused(cluster: ClusterView) -> Verdict:
    """In `llm-workshop` a pod with the same request exists and stays Pending, because no node has enough GPUs.

    Why: Pending comes from the scheduler: the pod exists, no quota refused it, and no node has what it asks for.
    Hint: The same Deployment, in a namespace without a quota.
    Next: kubectl describe pod -n llm-workshop
    """
    wanted = [gpu.requested(item.path("spec.template.spec", {})) for item, _ in _stuck_replica_sets(cluster)]
    same = [pod for pod in cluster.pods(WORKSHOP) if gpu.requested(pod.path("spec", {})) in wanted]
    expected = (
        "a Pending pod with the request that admission refused in llm-system, reason: Insufficient GPUs"
    )
    if not same:
        return not_attempted(expected, "no pod in llm-workshop asks for the same GPUs")
    # While the guard of part 5 is up, the scheduler names the taint first: what it said before still holds.
    waiting = [
        pod for pod in same if not pod.node and any(map(_insufficient_gpu, _scheduler_history(cluster, pod)))
    ]
    pod = (waiting or same)[0]
    says = _scheduler_says(pod) or f"phase {pod.phase}, placed on {pod.node or 'no node'}"
    return expect_true(waiting, expected, f"{pod.name}: {says}", pod)


def _scheduler_says(pod: Resource) -> str:
    placed = pod.conditions("PodScheduled")
    return placed.message if placed and not placed.is_true and placed.reason == "Unschedulable" else ""


def _insufficient_gpu(words: str) -> bool:
    return f"Insufficient {gpu.PREFIX}" in words


# d. Shapes


def _class_run(cluster: ClusterView, name: str) -> tuple[Resource, dict[str, Any], list[Pod]]:
    """A situation's Job, its pod's specification and its pods."""
    job = cluster.get("Job", name, WORKSHOP)
    pods = cluster.pods(WORKSHOP, labels=f"batch.kubernetes.io/job-name={name}")
    return job, job.path("spec.template.spec", {}), pods


def _asks(job: Resource, spec: Mapping[str, Any], right: bool, expected: str) -> Verdict:
    asked = ", ".join(f"{resource}: {count}" for resource, count in gpu.requested(spec).items()) or "no GPU"
    return expect_true(right, expected, f"each pod asks for {asked}", job)


def _served(cluster: ClusterView, job: Resource, pods: list[Pod], *, at_least: int) -> list[Verdict]:
    """All runs finished; on a cluster whose shape the learner cannot change, a fitting refusal is enough."""
    done = int(job.path("status.succeeded", 0))
    wanted = max(at_least, int(job.path("spec.completions", 1)))
    says = next((words for words in map(_scheduler_says, pods) if words), "")
    if done < wanted and says and _fixed(cluster) and not _is_offered(cluster, job):
        observed = f"the administrator of this cluster does not offer this shape, so nothing ran: {says}"
        return [expect_true(True, "asked for rightly", observed, job)]
    observed = f"{done} of {wanted} finished" + (f"; the scheduler says: {says}" if says else "")
    return [expect(done, f"{wanted} finished", observed, job, at_least=wanted)]


def _is_offered(cluster: ClusterView, job: Resource) -> bool:
    """Whether a node has what the pods ask for, though perhaps not now: then waiting is all there is to do."""
    spec = job.path("spec.template.spec", {})
    asked = gpu.requested(spec).keys()
    return any(
        asked <= node.path("status.allocatable", {}).keys() and gpu.accepts(spec, node.labels)
        for node in cluster.nodes()
    )


def _gpu_labels(cluster: ClusterView) -> list[dict[str, str]]:
    """The labels of nodes that tell whether their card is shared; none where no feature discovery runs."""
    return [
        node.labels for node in cluster.nodes() if gpu.SHARING in node.labels or gpu.REPLICAS in node.labels
    ]


def _refuses_cards(
    cluster: ClusterView, job: Resource, spec: Mapping[str, Any], *, shared: bool
) -> list[Verdict]:
    """Whether the request cannot land on a shared (or an unshared) card: only labels tell them apart."""
    nodes = [gpu.as_if(labels, shared=shared) for labels in _gpu_labels(cluster)]
    if not nodes:
        return []
    kind = "a shared card" if shared else "a card of one's own"
    lands = any(gpu.accepts(spec, labels) for labels in nodes)
    observed = f"the request accepts {kind} too" if lands else f"the request does not accept {kind}"
    return [expect(lands, f"a request that cannot land on {kind}", observed, job, equals=False)]


@lab.check("shapes.one", points=2, needs=three_namespaces)
def one_learner(cluster: ClusterView) -> Verdict:
    """`one-learner` ran on a card of its own, and asked so that it could not land on a shared one.

    Why: Latency can only be explained on a card that nobody else uses, and the resource name alone does not ensure that.
    Hint: Full and time-sliced cards have the same resource name: which node label tells them apart?
    Next: kubectl get pods -n llm-workshop -o wide; kubectl get events -n llm-workshop
    """
    job, spec, pods = _class_run(cluster, "one-learner")
    served = _served(cluster, job, pods, at_least=1)
    verdict = all_of(
        _asks(job, spec, gpu.requested(spec) == {gpu.WHOLE: 1}, "one whole card"),
        *_refuses_cards(cluster, job, spec, shared=True),
        *served,
    )
    return verdict.summed_up(f"asked for a card of its own; {_words(served)}")


@lab.check("shapes.twenty", points=2, needs=three_namespaces)
def twenty_learners(cluster: ClusterView) -> Verdict:
    """`twenty-learners`: twenty pods finished, several at the same time on one shared card.

    Why: Twenty short experiments on one card: in turns, nineteen wait; side by side, they share memory, time and faults.
    Hint: Which shape advertises one card several times? Ask for that, in a way that an unshared card does not satisfy.
    Next: kubectl get pods -n llm-workshop -o wide; kubectl get events -n llm-workshop
    """
    job, spec, pods = _class_run(cluster, "twenty-learners")
    asked = gpu.requested(spec)
    right = sum(asked.values()) == 1 and not any(name.startswith(gpu.MIG_PREFIX) for name in asked)
    served = [*_served(cluster, job, pods, at_least=CLASS_SIZE), *_side_by_side(job, pods)]
    verdict = all_of(
        _asks(job, spec, right, "a share of a card"),
        *_refuses_cards(cluster, job, spec, shared=False),
        *served,
    )
    return verdict.summed_up(f"asked for a shared card; {_words(served)}")


@lab.check("shapes.tenants", points=2, needs=three_namespaces)
def two_tenants(cluster: ClusterView) -> Verdict:
    """`two-tenants`: two pods ran at the same time, each on a hardware slice of its own.

    Why: Time-slicing isolates neither memory nor faults: tenants that must not harm each other need slices in hardware.
    Hint: Which shape gives each pod its own memory? It also has its own resource name.
    Next: kubectl get pods -n llm-workshop -o wide; kubectl get events -n llm-workshop
    """
    job, spec, pods = _class_run(cluster, "two-tenants")
    asked = gpu.requested(spec)
    right = len(asked) == 1 and all(name.startswith(gpu.MIG_PREFIX) for name in asked)
    served = [*_served(cluster, job, pods, at_least=2), *_side_by_side(job, pods)]
    verdict = all_of(_asks(job, spec, right, "a slice with memory of its own"), *served)
    return verdict.summed_up(f"asked for slices; {_words(served)}")


def _words(parts: Iterable[Verdict]) -> str:
    return "; ".join(part.observed for part in parts)


def _side_by_side(job: Resource, pods: list[Pod]) -> list[Verdict]:
    """Once pods have run: whether some of them ran at the same time."""
    if not int(job.path("status.succeeded", 0)):
        return []
    most = gpu.ran_at_once(pods)
    observed = f"at most {most} ran at the same time"
    return [expect(most, "at least 2 at the same time", observed, job, at_least=2)]


# e. The guard


@lab.check("guard.kept_out", points=2, needs=three_namespaces, mode="edge")
def the_guard_keeps_guests_out(cluster: ClusterView) -> Verdict:
    """While the node was guarded, `guest` was kept out by the taint and `model-server` was let in.

    Why: A pod without a GPU can fill a GPU node's CPU and memory, and then the card stays idle.
    Hint: Taint the node, then start both pods: only the one that asks for the GPU gets a toleration for the taint's key and effect.
    Next: kubectl describe pods -n llm-workshop; kubectl describe nodes
    """
    guest, server = cluster.pod("guest", WORKSHOP), cluster.pod("model-server", WORKSHOP)
    if cluster.scope.suffix:
        return _tolerations_alone(guest, server)
    says = _scheduler_history(cluster, guest)
    # After an hour the scheduler's events are gone; only the time that guest waited is left.
    waited = bool(gpu.waited_s(guest)) and not says and events_are_gone(gpu.placed_at(guest))
    kept_out = waited or any("untolerated taint" in words for words in says)
    let_in = gpu.placed_at(server)
    meanwhile = _between(guest, server)
    return all_of(
        expect_true(
            kept_out,
            "guest kept out by an untolerated taint",
            f"guest: {says[-1] if says else _unsaid(guest, waited)}",
            guest,
        ),
        expect_true(
            gpu.requested(server.path("spec", {})),
            "model-server asks for a GPU",
            "model-server asks for " + ("a GPU" if gpu.requested(server.path("spec", {})) else "no GPU"),
        ),
        expect_true(
            gpu.tolerates(server.path("spec", {}), gpu.GUARD) and meanwhile,
            "model-server tolerated the taint and was placed while guest waited",
            "model-server "
            + (
                _scheduler_says(server) or "not placed yet"
                if not let_in
                else _placed_words(server, meanwhile)
            ),
        ),
    ).about(server)


def _unsaid(guest: Resource, waited: bool) -> str:
    return f"waited {gpu.waited_s(guest):.0f} s" if waited else "the scheduler had nothing against it"


def _tolerations_alone(guest: Resource, server: Resource) -> Verdict:
    """On a shared cluster no learner may taint the node that all of them use: the requests speak alone."""
    tolerant = {pod.name: gpu.tolerates(pod.path("spec", {}), gpu.GUARD) for pod in (guest, server)}
    shown = "; ".join(
        f"{name} {'tolerates' if yes else 'does not tolerate'} it" for name, yes in tolerant.items()
    )
    observed = f"the guard of a shared cluster is its instructor's; {shown}"
    placed = gpu.placed_at(server) is not None and bool(gpu.requested(server.path("spec", {})))
    return all_of(
        expect(tolerant["guest"], "guest does not tolerate the guard", observed, guest, equals=False),
        expect(tolerant["model-server"], "model-server does", observed, equals=True),
        expect_true(
            placed,
            "model-server was placed with a GPU",
            "model-server " + ("was placed with a GPU" if placed else "has no GPU or no place"),
        ),
    ).about(server)


def _placed_words(server: Resource, meanwhile: bool) -> str:
    if not gpu.tolerates(server.path("spec", {}), gpu.GUARD):
        return "was placed, and tolerates no guard"
    return "was placed while guest waited" if meanwhile else "was placed, but not while guest waited"


def _between(guest: Resource, server: Resource) -> bool:
    """Whether the server was placed after the guest had come and before the guest was placed."""
    came, out, let_in = (
        gpu.moment(guest.metadata.get("creationTimestamp")),
        gpu.placed_at(guest),
        gpu.placed_at(server),
    )
    # Whole seconds: a guest that was kept out and placed in the same second came after the server.
    return bool(came and let_in and came <= let_in and (out is None or let_in <= out))


def _scheduler_history(cluster: ClusterView, pod: Resource) -> list[str]:
    """What the scheduler said about a pod: its events, and its present condition."""
    events = cluster.events(WORKSHOP, involved=("Pod", pod.name), reason="FailedScheduling")
    about = [event for event in events if event.path("involvedObject.uid") in (None, pod.uid)]
    return [words for words in (*(event.message for event in about), _scheduler_says(pod)) if words]


@lab.check("guard.lifted", needs=the_guard_keeps_guests_out)
def a_node_is_open_again(cluster: ClusterView) -> Verdict:
    """A pod without tolerations finds a node again.

    Why: On a cluster of one node the guard keeps out every pod without a toleration: cluster DNS too, the next time it is replaced.
    Hint: `kubectl taint` removes a taint when a minus sign follows it.
    Next: kubectl describe nodes | grep -A3 Taints
    """
    nodes = cluster.nodes()
    open_nodes = [
        node for node in nodes if node.is_ready and not node.path("spec.unschedulable") and not _closed(node)
    ]
    shown = "; ".join(f"{node.name}: {_taint_words(node)}" for node in nodes) or "no nodes"
    return expect_true(
        open_nodes,
        "a Ready node without a NoSchedule taint",
        shown,
        (open_nodes or nodes)[0] if nodes else None,
    )


def _closed(node: Any) -> bool:
    return any(taint.get("effect") in ("NoSchedule", "NoExecute") for taint in node.taints)


def _taint_words(node: Any) -> str:
    if node.path("spec.unschedulable"):
        return "cordoned"
    return ", ".join(f"{item['key']}:{item['effect']}" for item in node.taints) or "no taint"


# f. The idle GPU


@lab.check("idle.waited", points=2, needs=three_namespaces, mode="edge")
def the_next_in_line_waited(cluster: ClusterView) -> Verdict:
    """`next-in-line` waited for a GPU that an idle pod held, and got it when the pod was gone.

    Why: A pod that holds a GPU and does nothing costs as much as a busy one. A quota limits how many are held, but frees none.
    Hint: Start the holder first, then `next-in-line`; look at the events of `next-in-line`, then delete the holder.
    Next: kubectl describe pod next-in-line -n llm-workshop
    """
    pod = cluster.pod("next-in-line", WORKSHOP)
    waited_s = gpu.waited_s(pod) or 0.0
    says = _scheduler_history(cluster, pod)
    placed = gpu.placed_at(pod) is not None
    # After an hour the scheduler's events are gone; only the time that the pod waited is left.
    unsaid = not says and events_are_gone(gpu.placed_at(pod)) and waited_s >= SHORTEST_WAIT_S
    lacked = unsaid or any(map(_insufficient_gpu, says))
    waiting = "still waits" if not placed else f"waited {waited_s:.0f} s"
    why = "for a GPU" if lacked else "not for a GPU"
    return all_of(
        expect_true(
            bool(gpu.requested(pod.path("spec", {}))) and lacked,
            "next-in-line lacked a GPU for a while",
            f"next-in-line {waiting}, {why}",
        ),
        expect_true(
            placed and waited_s >= SHORTEST_WAIT_S,
            f"placed after at least {SHORTEST_WAIT_S} s",
            f"next-in-line {waiting}",
        ),
    ).about(pod)


# Handover


@lab.check("handover", points=2, needs=the_next_in_line_waited, task="handover")
def the_card_is_free(cluster: ClusterView) -> Verdict:
    """No experiment holds a GPU any more, and a node offers a whole card.

    Why: Lab 02 starts a model server that needs a whole card: no other pod may hold it, and it must be offered whole.
    Hint: Who holds a GPU now, and in which shape does the node offer its card?
    Next: kubectl get pods -n llm-workshop; course gpu --shape full
    """
    experiments = [*cluster.pods(WORKSHOP), *cluster.pods(SYSTEM, labels="app!=vllm")]
    held = gpu.holders(experiments)
    whole = [offer for offer in gpu.offers(cluster.nodes()) if offer.shape == "full" or _fixed(cluster)]
    shown = ", ".join(
        f"{item.count} × {item.resource} ({item.shape})" for item in gpu.offers(cluster.nodes())
    )
    nodes = cluster.nodes()
    return all_of(
        expect(
            held,
            "no experiment holds a GPU",
            f"{held[0].pod} holds {held[0].resource}" if held else "no experiment holds a GPU",
            cluster.namespace(WORKSHOP),
            equals=[],
        ),
        expect_true(
            whole, "a whole card is offered", f"offered: {shown or 'no GPU'}", nodes[0] if nodes else None
        ),
    )


def _fixed(cluster: ClusterView) -> bool:
    """Whether the shape is the business of an administrator that the learner is not."""
    return cluster.profile.name != "embedded" or bool(cluster.scope.suffix)
