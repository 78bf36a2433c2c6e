"""Lab 04, isolation: who can connect to what, proven by connections and not by YAML.

Almost every criterion is a row or a column of one observed truth table: probe pods in the callers'
namespaces try every target at once. A connection that is stopped counts as denied only while the
target is alive, which a control connection from its own node shows, and only while a pod that a
policy seals against everybody is unreachable, which shows that this cluster enforces policy at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from helpers.errors import EnvironmentFault, ProbeInconclusive
from helpers.evidence import Evidence
from helpers.grading import Lab, Verdict, all_of, expect, expect_true, not_attempted
from helpers.grading.declare import Progress, quiet
from helpers.labs.lab04_isolation import doors
from helpers.stack.network import Reachability
from helpers.stack.policy_forecast import decide, selects
from helpers.stack.stage import SharedLook, Stage, enforcement, read_stage

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

SYSTEM = "llm-system"
OPEN, CLOSED = True, False
SERVING_PORT = 8000
OUTSIDERS = ("outsider", "impostor")
# The smallest set that lets the stack work. What is not named here is neither needed nor forbidden.
EXPECTED: dict[tuple[str, str], bool] = {
    ("app", "vllm"): OPEN,
    ("app", "qdrant"): OPEN,
    ("app", "neighbour"): CLOSED,
    ("prometheus", "vllm"): OPEN,
    ("prometheus", "qdrant"): OPEN,
    ("prometheus", "neighbour"): CLOSED,
    **{(caller, target): CLOSED for caller in OUTSIDERS for target in ("vllm", "qdrant", "neighbour")},
    ("neighbour", "vllm"): CLOSED,
    ("neighbour", "qdrant"): CLOSED,
    ("neighbour", "dns"): OPEN,
    ("neighbour", "api-server"): CLOSED,
    ("neighbour", "outside"): CLOSED,
}

lab = Lab("04", "Isolation", namespaces=(), images=("vllm", "model", "qdrant"))

# One sweep serves all checks of a run; it lives as long as the connection that it was made through.
_LOOKS: WeakKeyDictionary[object, SharedLook] = WeakKeyDictionary()


def table_of(cluster: ClusterView) -> Reachability:
    """The observed matrix, shared by the checks of one run."""
    return _LOOKS.setdefault(cluster._api, SharedLook()).look(cluster)


def seen(table: Reachability, caller: str, target: str, *, open_: bool) -> Verdict:
    """One pair held against what it should be; what is not proven is the environment's fault."""
    answer = table.answer(caller, target)
    words = table.words(caller, target)
    found = table.seen.get((caller, target))
    dead = found is None or not (found.stopped and table.alive(target))
    if answer is None and dead and not (found and found.outcome == "dns"):
        raise ProbeInconclusive(
            f"{caller} to {target}: {words}, which proves nothing",
            next_command=f"course start 04{'; kubectl get pods -n llm-system' if found else ''}",
        )
    wanted = "connects" if open_ else "is stopped"
    return expect(
        answer,
        f"{caller} to {target} {wanted}",
        f"{caller} to {target}: {words}",
        evidence(table, caller, target),
        equals=open_,
    )


def evidence(table: Reachability, caller: str, target: str) -> Evidence:
    """The probe pod and what it saw."""
    source = next(item for item in table.callers if item.name == caller)
    return Evidence(
        "Pod", source.pod, source.namespace, observation=f"{target}: {table.words(caller, target)}"
    )


def pairs(table: Reachability, wanted: Iterable[tuple[str, str]]) -> Verdict:
    """Several pairs, each as the course expects it."""
    return all_of(*(seen(table, *pair, open_=EXPECTED[pair]) for pair in wanted))


def absent(cluster: ClusterView, pod: str) -> ProbeInconclusive:
    """A probe pod that is not running; a quota without room for it is named, and is nobody's mistake."""
    from helpers.stack.probes import why_missing

    why = why_missing(cluster, pod)
    refused = "exceeded quota" in why
    return ProbeInconclusive(
        f"{why}{': the grader needs room for one pod beside yours' if refused else ''}",
        next_command=f"kubectl describe quota -n {SYSTEM}" if refused else "course start 04",
    )


def isolating(stage: Stage, target: str) -> list[str]:
    """The policies in llm-system that select the pods behind a target."""
    return [
        policy["metadata"]["name"]
        for policy in stage.world.policies
        if any(selects(policy, backend) for backend in stage.backends(target))
    ]


@lab.check("isolation.enforced", points=0, timeout_s=12)
def policy_is_enforced(cluster: ClusterView) -> Verdict:
    """This cluster enforces NetworkPolicy: a pod that a policy denies to everybody cannot be reached.

    Why: A policy object that nobody enforces is stored, listed and described like any other, and stops nothing.
    Hint: This is the cluster's network plugin, not your policy: find out which one it runs.
    Next: course doctor
    """
    found = enforcement(table_of(cluster))
    if found.enforced is None:
        raise ProbeInconclusive(f"policy enforcement: {found.observed}", next_command="course start 04")
    if not found.enforced:
        raise EnvironmentFault(
            f"NetworkPolicy is stored but not enforced here: {found.observed}", next_command="course doctor"
        )
    policy = cluster.get("NetworkPolicy", "sealed", "llm-probes")
    return expect_true(True, "policy is enforced", found.observed, policy)


@lab.check("isolation.vllm", points=3, needs=policy_is_enforced, task="allowlist", timeout_s=12)
def vllm_for_the_application(cluster: ClusterView) -> Verdict:
    """The application reaches vLLM on 8000; a namespace without the label does not.

    Why: Anybody who reaches vLLM can use its GPU: here it has no users, no passwords and no rate limit.
    Hint: A policy isolates the pods that its podSelector selects, and lets in what its rules name: read both halves.
    Next: kubectl describe networkpolicy -n llm-system vllm-ingress-from-llm-apps
    """
    policy = cluster.get("NetworkPolicy", "vllm-ingress-from-llm-apps", SYSTEM)
    table = table_of(cluster)
    stored = expect(policy.name, equals="vllm-ingress-from-llm-apps", evidence=policy)
    return all_of(pairs(table, [("app", "vllm"), ("outsider", "vllm")]), stored)


@lab.check("isolation.port", points=2, needs=vllm_for_the_application, task="allowlist", timeout_s=12)
def only_the_serving_port(cluster: ClusterView) -> Verdict:
    """The application may open port 8000 of vLLM and no other port.

    Why: A rule without ports opens every port: a debugger or an admin endpoint that is added later is open at once.
    Hint: `from` says who may connect, `ports` says to which port. Without `from` it is everybody, without `ports` every port.
    Next: kubectl get networkpolicy -n llm-system
    """
    stage = read_stage(cluster)
    caller, backends = stage.parties.get("app"), stage.backends("vllm")
    if caller is None:
        raise absent(cluster, "probe-app")
    if not backends:
        raise ProbeInconclusive("vLLM is not running", next_command="course start 04")
    opened = [door for door in doors.incoming(stage, "vllm") if door.peer.namespace == doors.APPS]
    served = [decide(stage.world, caller, backend, SERVING_PORT) for backend in backends]
    return all_of(
        *(expect_true(found.allowed, "port 8000 of vLLM open", found.reason) for found in served),
        nothing_more(opened, "no other port of vLLM open to the application"),
    )


def nothing_more(opened: Sequence[doors.Door], that: str) -> Verdict:
    """No door but the needed ones: the first is named, and how many there are beside it."""
    more = f"; and {len(opened) - 1} more like it" if len(opened) > 1 else ""
    return expect_true(not opened, that, f"{opened[0]}{more}" if opened else that)


@lab.check("isolation.qdrant", points=3, needs=policy_is_enforced, task="forgotten", timeout_s=12)
def qdrant_for_the_application(cluster: ClusterView) -> Verdict:
    """The application reaches Qdrant on 6333; a namespace without the label does not.

    Why: The memory layer holds the documents themselves. A policy for vLLM does not protect Qdrant.
    Hint: Which pods does the existing policy select? Everything else in the namespace is as open as before.
    Next: kubectl get networkpolicy -n llm-system
    """
    if not isolating(read_stage(cluster), "qdrant"):
        return not_attempted("a policy that selects Qdrant's pods", "no policy selects them")
    return pairs(table_of(cluster), [("app", "qdrant"), ("outsider", "qdrant")])


@lab.check("isolation.metrics", points=2, needs=qdrant_for_the_application, task="forgotten", timeout_s=12)
def prometheus_can_scrape(cluster: ClusterView) -> Verdict:
    """Prometheus, in llm-monitoring, reaches the metrics of vLLM and of Qdrant.

    Why: A scrape that policy drops looks like a dead backend on every dashboard, and pages somebody at night.
    Hint: Prometheus is a pod in a namespace, like the application. Every namespace has its own name as a label.
    Next: kubectl get namespaces --show-labels
    """
    return pairs(table_of(cluster), [("prometheus", "vllm"), ("prometheus", "qdrant")])


@lab.check("isolation.default_deny", points=3, needs=policy_is_enforced, task="deny", timeout_s=12)
def everything_else_is_closed(cluster: ClusterView) -> Verdict:
    """Any other pod of llm-system can neither be reached nor open connections of its own, except to DNS.

    Why: Without a default, every pod that is added tomorrow starts open, in both directions.
    Hint: An empty podSelector selects every pod of the namespace; a direction that is named, but has no rules, allows nothing.
    Next: kubectl get networkpolicy -n llm-system
    """
    stage = read_stage(cluster)
    if "neighbour" not in stage.parties:
        raise absent(cluster, "probe-neighbour")
    if not isolating(stage, "neighbour"):
        return not_attempted(
            "a policy that selects every pod of llm-system", "no policy selects the neighbour"
        )
    callers = [(name, "neighbour") for name in ("app", "outsider", "prometheus")]
    targets = [("neighbour", name) for name in ("api-server", "outside", "qdrant", "vllm")]
    return pairs(table_of(cluster), [*callers, *targets])


@lab.check("isolation.dns", points=2, needs=everything_else_is_closed, task="deny", timeout_s=12)
def names_resolve(cluster: ClusterView) -> Verdict:
    """Every pod of llm-system can still ask the cluster's DNS.

    Why: A pod that cannot reach DNS fails everywhere at once, and its errors name the services that it calls, not DNS.
    Hint: DNS queries go to pods in kube-system, over UDP and, when answers are long, over TCP.
    Next: kubectl get pods -n kube-system --show-labels
    """
    return pairs(table_of(cluster), [("neighbour", "dns")])


@lab.check(
    "isolation.impostor",
    points=3,
    needs=[vllm_for_the_application, qdrant_for_the_application],
    task="label",
    timeout_s=12,
)
def a_label_is_not_enough(cluster: ClusterView) -> Verdict:
    """A namespace that gave itself the label reaches neither vLLM nor Qdrant; the application still does.

    Why: Anybody who may create or edit a namespace can also set its labels: a label alone is a claim, not an identity.
    Hint: One label of every namespace is set by the API server itself, and nobody else can change it.
    Next: kubectl get namespace llm-impostor --show-labels
    """
    wanted = [("impostor", "vllm"), ("impostor", "qdrant")]
    table = table_of(cluster)
    closed = pairs(table, wanted)
    if all(table.answer(*pair) for pair in wanted):
        # Nothing done yet: that the application connects was another task.
        return closed
    return all_of(closed, pairs(table, [("app", "vllm"), ("app", "qdrant")]))


@lab.check(
    "isolation.smallest",
    points=2,
    needs=[
        everything_else_is_closed,
        names_resolve,
        a_label_is_not_enough,
        prometheus_can_scrape,
        only_the_serving_port,
    ],
    task="matrix",
    timeout_s=12,
)
def nothing_more_than_needed(cluster: ClusterView) -> Verdict:
    """The whole matrix is as it should be, and no rule opens more than the stack needs.

    Why: A rule that is too narrow breaks something, and somebody repairs it. One that is too wide goes unnoticed until it is misused.
    Hint: Take each rule and ask who else it lets in: another pod of that namespace, another port of that pod.
    Next: kubectl get networkpolicy -n llm-system
    """
    stage = read_stage(cluster)
    return all_of(
        pairs(table_of(cluster), EXPECTED),
        nothing_more(doors.unneeded(stage), "no rule opens more than the stack needs"),
    )


@lab.start
def start(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """Both backends with the policy of vLLM's manifests, and the grader's probe pods."""
    from helpers.stack.bring_up import bring_up_with_probes

    return bring_up_with_probes(cluster, progress)


@lab.reset
def reset(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """Back to the policy of lab 02 alone: the others in llm-system go, but for another lab's; the probes stay."""
    from helpers.stack.bring_up import first_policy

    done = []
    for policy in cluster.view().network_policies(SYSTEM):
        if policy.name not in ("vllm-ingress-from-llm-apps", *doors.OF_OTHER_LABS):
            cluster.delete("NetworkPolicy", policy.name, SYSTEM)
            done.append(f"deleted NetworkPolicy {policy.name}")
    changed = [item for item in cluster.apply(first_policy()) if item.action != "unchanged"]
    return done + [f"{item.action} {item.kind} {item.name}" for item in changed]
