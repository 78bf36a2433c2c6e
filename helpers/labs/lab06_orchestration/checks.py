"""Lab 06, the orchestration layer: one way in, and a right answer to every failure behind it.

What can be asked at any moment is asked: names, connections, Redis, what the pods say of themselves. What
needs load, a fault or time is seen by witnesses, whose records the cluster keeps. A record counts for as long
as what it was made with is what the cluster holds: a decision that is changed afterwards has to be seen again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import yaml

from helpers.errors import ProbeInconclusive
from helpers.grading import Lab, Verdict, all_of, expect, expect_true, falls_short, not_attempted
from helpers.grading.declare import CheckFunction, Progress, quiet
from helpers.labs.lab06_orchestration import roads
from helpers.labs.lab06_orchestration.witness import BOOK
from helpers.labs.witnessing import several, verdict_on
from helpers.stack import gateway, orchestrator, state

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView
    from helpers.labs.witnessing import Record

APPS, SYSTEM = orchestrator.NAMESPACE, orchestrator.SYSTEM
URLS = ("VLLM_BASE_URL", "QDRANT_BASE_URL", "REDIS_URL")
# Of the class `fast`: 12 s in all. A hop that takes more than half leaves the next ones too little.
HALF_S, DEADLINE_S = 6.0, 12.0
INPUT_TOKENS = 3200  # of the class `standard`
LONGEST_LEASE_S = 300
ANSWERS_UNDER_LOAD = 3
TRIAL_ANSWERS = 6

lab = Lab(
    "06",
    "Orchestration",
    namespaces=(),
    images=("vllm", "model", "qdrant", "redis", "orchestrator", "envoy", "ratelimit"),
)


# Witnesses


def witnessed(
    name: str, *, files: tuple[str, ...] = (), settings: tuple[str, ...] = ()
) -> Callable[[Callable[..., Verdict]], CheckFunction]:
    """A check that gets what a witness saw, if its record counts.

    Args:
        files: the decisions that it rests on; with another one in the ConfigMap the record says nothing.
        settings: the same of the settings.
    """

    def wrap(check: Callable[..., Verdict]) -> CheckFunction:
        @wraps(check)
        def judged(cluster: ClusterView) -> Verdict:
            if undecided := _undecided(cluster, files):
                return undecided
            return verdict_on(
                BOOK, cluster, name, check, changed=lambda found: _changed(cluster, found, files, settings)
            )

        return judged

    return wrap


def _undecided(cluster: ClusterView, files: tuple[str, ...]) -> Verdict | None:
    """Decisions that nobody has delivered: the course's own stand in, and earn no points."""
    there = orchestrator.decisions_in(cluster)
    missing = [f"{name}.py" for name in files if name not in there]
    if not missing:
        return None
    where = f"ConfigMap {orchestrator.DECISIONS}"
    return not_attempted(f"{' and '.join(missing)} in {where}", f"{where} has none")


def _changed(cluster: ClusterView, found: Record, files: tuple[str, ...], settings: tuple[str, ...]) -> str:
    """What is not as it was when the witness saw it; empty where all is."""
    there, said = orchestrator.decisions_in(cluster), orchestrator.settings_in(cluster)
    other = [f"{name}.py" for name in files if found.files.get(name) != there.get(name)]
    other += [name for name in settings if found.settings.get(name) != said.get(name)]
    return ", ".join(other)


# 1. The one way in


@lab.check("entry.names", points=2, task="entry", timeout_s=12)
def names_resolve(cluster: ClusterView) -> Verdict:
    """The settings name vLLM, Qdrant and Redis so that a pod of `llm-apps` finds each of them.

    Why: A bare Service name is looked up in the caller's own namespace: `vllm` means another thing in every namespace.
    Hint: A Service of another namespace is `NAME.NAMESPACE.svc.cluster.local`.
    Next: kubectl get configmap llm-orchestrator-config -n llm-apps -o yaml
    """
    config = cluster.config_map(orchestrator.CONFIG, APPS)
    hosts = {name: urlsplit(config.data.get(name, "")).hostname or "" for name in URLS}
    missing = [name for name, host in hosts.items() if not host]
    if missing:
        return not_attempted(f"{', '.join(missing)} in the settings", "not set").about(config)
    found = roads.resolved(cluster, list(hosts.values()))
    return (
        all_of(
            *(
                expect_true(
                    host in found,
                    f"{name} names a host that resolves in llm-apps",
                    f"{host} {'resolves' if host in found else 'resolves to nothing'}",
                )
                for name, host in hosts.items()
            )
        )
        .about(config)
        .summed_up("all three resolve")
    )


@lab.check("entry.current", points=2, task="entry", timeout_s=12)
def pods_run_what_is_written(cluster: ClusterView) -> Verdict:
    """All pods of `llm-orchestrator` are ready, and they run the decisions that the ConfigMap holds.

    Why: A ConfigMap that changes does not restart a pod: what is written and what runs are then two things.
    Hint: A pod reads its decisions when it starts. A change of the pod template replaces the pods.
    Next: kubectl rollout status deployment llm-orchestrator -n llm-apps
    """
    deployment = cluster.deployment(orchestrator.DEPLOYMENT, APPS)
    written = orchestrator.decisions_in(cluster)
    gap = deployment.rollout_gap()
    if gap:
        return falls_short("every pod new and ready", gap, deployment)
    infos = orchestrator.metrics(cluster).select("llm_orchestrator_decision_info")
    running = {sample.labels.get("sha256", "") for sample in infos}
    stale = sorted(name for name, short in written.items() if short not in running)
    return expect_true(
        not stale,
        "pods that run the decisions as they are written",
        f"the pods run another {', '.join(f'{name}.py' for name in stale)}"
        if stale
        else "the pods run what is written",
        deployment,
    )


@lab.check("entry.answers", points=3, needs=names_resolve, task="entry", timeout_s=12)
@witnessed("answer")
def the_service_answers(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """The Service answers a question from the documents and names them; without the token, or about another's thread, it does not.

    Why: One entry point is one place for identity, deadlines and limits; an answer without sources cannot be checked.
    Hint: `kubectl logs -n llm-apps deploy/llm-orchestrator` names the backend that does not answer.
    Next: course witness answer
    """
    return several(
        (
            seen["status"] == 200 and seen["answered"],
            "status 200 with an answer",
            f"status {seen['status']} {seen['said']}",
        ),
        (
            seen["citations"] > 0 and not seen["degraded"],
            "documents named",
            f"{seen['citations']} documents named",
        ),
        (seen["bare"] == 401, "401 without the token", f"without the token: {seen['bare']}"),
        (
            seen["theirs"] == 404,
            "404 for another tenant's thread",
            f"another tenant's thread: {seen['theirs']}",
        ),
    )


# 2. A budget is arithmetic


@lab.check("budget.stalled", points=3, task="budget", timeout_s=10)
@witnessed("budget", files=("budget",))
def retrieval_leaves_time(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """While Qdrant is silent, the caller hears within half of the budget.

    Why: A backend that hangs costs more than one that is down. A hop without a share of its own takes everybody's.
    Hint: The class `fast` has 12 s. What is left for `retrieve` must leave room for `generate`.
    Next: course witness budget
    """
    silent = seen["silent"]
    return expect(
        silent["s"],
        f"an end within {HALF_S:g} of {DEADLINE_S:g} s while Qdrant is silent",
        f"Qdrant silent: {silent['s']:g} s until the caller heard {silent['status']}",
        at_most=HALF_S,
    )


@lab.check("budget.enough", points=2, task="budget", timeout_s=10)
@witnessed("budget", files=("budget",))
def a_slow_backend_is_waited_for(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A Qdrant that takes 0.2 s and a vLLM that takes 5 s are waited for: an answer from the documents, within 12 s.

    Why: A hop that is cut too short fails on every busy day, and each failure is the budget's own.
    Hint: Generation takes longest by far. What do the other hops take in all?
    Next: course witness budget
    """
    slow = seen["slow"]
    return several(
        (slow["status"] == 200, "an answer", f"both slow: status {slow['status']} after {slow['s']:g} s"),
        (slow["citations"] > 0, "documents in it", f"both slow: {slow['citations']} documents"),
    )


# 3. State that survives


@lab.check("state.store", points=3, task="state", timeout_s=15)
def redis_keeps_what_it_is_told(cluster: ClusterView) -> Verdict:
    """Redis has a claim of its own, writes each change to its log, and refuses writes when it is full.

    Why: A store in memory ends with its pod, and one that evicts forgets threads while they run.
    Hint: `volumeClaimTemplates`, `appendonly yes`, `appendfsync everysec`, `maxmemory`, `maxmemory-policy noeviction`.
    Next: kubectl get statefulset,pvc -n llm-system -l app=redis
    """
    redis = cluster.stateful_set(orchestrator.REDIS, SYSTEM)
    claims = redis.path("spec.volumeClaimTemplates", []) or []
    if not claims:
        return not_attempted("a volumeClaimTemplate in StatefulSet redis", "Redis has no claim").about(redis)
    bound = cluster.find("PersistentVolumeClaim", f"{claims[0]['metadata']['name']}-redis-0", SYSTEM)
    phase = bound.path("status.phase", "missing") if bound else "missing"
    store = state.read(cluster)
    fsync = store.settings.get("appendfsync")
    return all_of(
        expect(phase, "a bound claim", f"claim {phase}", equals="Bound"),
        expect_true(store.append_only, "appendonly yes", f"appendonly {store.settings.get('appendonly')}"),
        expect(fsync, f"appendfsync {fsync}", one_of=("everysec", "always")),
        expect_true(store.max_bytes > 0, "a maxmemory", f"maxmemory {store.max_bytes}"),
        expect(store.policy, "noeviction", f"maxmemory-policy {store.policy}", equals="noeviction"),
    ).about(redis)


@lab.check("state.resumed", points=4, task="state", timeout_s=10)
@witnessed("survive")
def another_pod_goes_on(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A thread whose pod died while it generated was finished by another pod, and a thread outlived Redis's own end.

    Why: Pods are replaced every day. A user whose answer is lost asks again, and pays twice.
    Hint: `DURABILITY` says when a step is written. What is written only at the end is not there before the end.
    Next: course witness survive
    """
    killed, redis = seen["killed"], seen["redis"]
    cut = killed["cut"]
    if not cut:
        raise ProbeInconclusive("no answer was cut off by a pod's end", next_command="course witness survive")
    after = f"of {cut} answers that were cut off"
    return several(
        (killed["finished"] == cut, "all finished by another pod", f"{killed['finished']} {after} finished"),
        (
            killed["answered"] == cut,
            "an answer in each thread",
            f"{killed['answered']} {after} in their thread",
        ),
        (
            killed["once"] == cut,
            "the question once in each",
            f"{killed['once']} {after} with the question once",
        ),
        (
            killed["with_documents"] == cut,
            "documents kept",
            f"{killed['with_documents']} {after} with documents",
        ),
        (
            redis["same"],
            "a thread after Redis's end",
            f"a thread after Redis's end: status {redis['status']}",
        ),
    )


@lab.check("state.bounded", points=3, task="state", timeout_s=10)
@witnessed("state", settings=("THREAD_TTL_MINUTES",))
def state_is_small_and_ends(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A thread's keys have an end, and hold ids of documents, never their texts.

    Why: LangGraph's checkpoints have no end by default: with noeviction, Redis is full one day and takes no answer.
    Hint: `THREAD_TTL_MINUTES`: 0 means for ever.
    Next: course witness state
    """
    return several(
        (seen["keys"] > 0, "keys of the thread", f"{seen['keys']} keys of the thread"),
        (
            seen["for_ever"] == 0,
            "an end for each key",
            f"{seen['for_ever']} of {seen['keys']} keys without an end",
        ),
        (
            seen["texts"] == 0 and seen["sought"] > 0,
            "ids only",
            f"{seen['texts']} of {seen['sought']} documents' texts",
        ),
    )


# 4. The same question twice


@lab.check("again.once", points=3, task="again", timeout_s=10)
@witnessed("again", files=("idempotency",))
def one_generation(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """Five equal requests at once and one more later: one generation, and the same answer for all.

    Why: A gateway that timed out asks again. Without a key the engine works, and the user pays, for each try.
    Hint: `request_id` is new for each try. What is the same in all of them?
    Next: course witness again
    """
    late = seen["late"]
    return several(
        (seen["statuses"] == [200], "200 for all five", f"statuses {seen['statuses']}"),
        (seen["generations"] == 1, "one generation", f"{seen['generations']} generations for five requests"),
        (seen["answers"] == 1, "one answer", f"{seen['answers']} different answers"),
        (late["generations"] == 0, "none for the late one", f"{late['generations']} more for the late one"),
        (
            late["same"],
            "the stored answer for the late one",
            f"the late one: status {late['status']}, another answer",
        ),
    )


@lab.check("again.kept", points=2, needs=one_generation, task="again", timeout_s=10)
@witnessed("again", files=("idempotency",), settings=("IDEMPOTENCY_LEASE_S",))
def a_key_is_nobody_elses(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A key gives nobody another tenant's answer nor another question's, and is free again soon after its owner dies.

    Why: A key without its tenant is a leak; a lock that outlives its owner blocks a question until somebody cleans up.
    Hint: Two tenants may choose the same key. How long does `IDEMPOTENCY_LEASE_S` hold a key for a pod that is gone?
    Next: course witness again
    """
    lease, foreign = seen["lease_s"], seen["foreign"]["generations"]
    ends = lease is not None and 0 <= lease <= LONGEST_LEASE_S and seen["leases_for_ever"] == 0
    return several(
        (foreign == 1, "an answer of their own for another tenant", f"another tenant: {foreign} generations"),
        (
            not seen["other"]["same"],
            "no answer to another question",
            "another question got the first one's answer",
        ),
        (ends, f"a lease of at most {LONGEST_LEASE_S} s", f"the lease ends after {lease} s"),
    )


# 5. A window is finite


@lab.check("window.fits", points=3, task="window", timeout_s=10)
@witnessed("window", files=("window",))
def a_conversation_fits(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A conversation that is too long is cut to what fits: the system message, the newest turns and the question stay.

    Why: What does not fit is a 400 from the engine, after retrieval was paid; what is cut wrongly is a wrong answer.
    Hint: Ask `count` what the engine makes of a list of messages: letters and tokens differ most where it matters.
    Next: course witness window
    """
    parts = []
    for name, talk in seen.items():
        tokens = talk["prompt_tokens"] or 0
        parts += [
            (talk["status"] == 200, f"{name}: an answer", f"{name}: status {talk['status']}"),
            (
                talk["refused"] == 0,
                f"{name}: no 400",
                f"{name}: the engine refused {talk['refused']} prompts",
            ),
            (talk["system"], f"{name}: the system message", f"{name}: no system message at the head"),
            (talk["question"], f"{name}: the question", f"{name}: the question is not in the prompt"),
            (
                talk["kept"] > 0 and talk["newest"],
                f"{name}: the newest turns",
                f"{name}: not the newest turns",
            ),
            (
                0 < tokens <= INPUT_TOKENS,
                f"{name}: at most {INPUT_TOKENS} tokens",
                f"{name}: {tokens} tokens",
            ),
        ]
    return several(*parts)


# 6. Who may be asked again


@lab.check("retry.worth", points=4, task="retry", timeout_s=10)
@witnessed("retry", files=("retry",), settings=("CLIENT_MAX_RETRIES",))
def retries_what_time_heals(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """For one question vLLM is asked once where waiting cannot help, and twice at most where it can.

    Why: Retries of two layers multiply: three by two is six requests for one question, just when the engine is overloaded.
    Hint: A 400 stays a 400. And who retries beside the graph? The client library does, unless it is told not to.
    Next: course witness retry
    """
    calls, healed = seen["calls"], seen["healed"]
    once = {name: calls[name] for name in ("400", "401", "422")}
    twice = {name: calls[name] for name in ("503", "reset")}
    return several(
        *(
            (count == 1, f"{name}: asked once", f"{name}: vLLM asked {count} times")
            for name, count in once.items()
        ),
        *(
            (count == 2, f"{name}: asked twice", f"{name}: vLLM asked {count} times")
            for name, count in twice.items()
        ),
        (1 <= calls["429"] <= 2, "429: asked twice at most", f"429: vLLM asked {calls['429']} times"),
        (
            healed["status"] == 200 and healed["calls"] == 2,
            "an answer after one 503",
            f"one 503, then well again: status {healed['status']} after {healed['calls']} requests",
        ),
    )


# 7. Degrade in the product's words


@lab.check("degrade.product", points=4, task="degrade", timeout_s=10)
@witnessed("degrade", files=("degrade",))
def each_product_in_its_way(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """Without retrieval: documentation gives a labelled general answer, compliance refuses, brainstorming goes on, labelled.

    Why: An answer that does not say that its sources were away is believed like one with sources.
    Hint: `degrade` is told the product. Whatever is answered without documents has a label; a healthy answer has none.
    Next: course witness degrade
    """
    general, going_on, refused = seen["documentation"], seen["brainstorming"], seen["compliance"]
    labelled = [name for name in ("documentation", "brainstorming") if not seen[name]["label"]]
    return several(
        (
            general["status"] == 200 and general["kind"] == "general_answer",
            "documentation: a general answer",
            f"documentation: status {general['status']}, {general['kind'] or 'nothing said'}",
        ),
        (
            not refused["answered"],
            "compliance: no answer",
            f"compliance: status {refused['status']}, answered",
        ),
        (
            going_on["status"] == 200 and going_on["kind"] in ("continue", "general_answer"),
            "brainstorming: goes on",
            f"brainstorming: status {going_on['status']}, {going_on['kind'] or 'nothing said'}",
        ),
        (not labelled, "a label on each", f"no label: {', '.join(labelled)}"),
        (
            seen["healthy"]["status"] == 200 and not seen["healthy"]["degraded"],
            "no label when all is well",
            f"all well: status {seen['healthy']['status']}, degraded {seen['healthy']['degraded']}",
        ),
    )


# 8. Break the circuit, shed the load


@lab.check("pressure.circuit", points=3, task="pressure", timeout_s=10)
@witnessed("pressure", files=("circuit",))
def one_circuit_each(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A Qdrant that keeps failing is left alone, and vLLM goes on answering.

    Why: A breaker shared by all backends turns one that is ill into an outage of all.
    Hint: `circuit_of` names the circuit of a backend. `opens` sees the latest outcomes, the newest last.
    Next: course witness pressure
    """
    last, states = sum(seen["reached"][-8:]), seen["circuits"]
    return several(
        (
            seen["reached"][0] > 0,
            "Qdrant asked at first",
            f"Qdrant was asked {seen['reached'][0]} times at first",
        ),
        (last <= 4, "Qdrant left alone", f"the last 8 questions reached Qdrant {last} times"),
        (
            states.get("qdrant") in (1, 2),
            "Qdrant's circuit open",
            f"Qdrant's circuit: {states.get('qdrant')}",
        ),
        (states.get("vllm") == 0, "vLLM's circuit closed", f"vLLM's circuit: {states.get('vllm')}"),
        (
            seen["served"] == len(seen["reached"]),
            "every question generated",
            f"{seen['served']} of {len(seen['reached'])} questions reached vLLM",
        ),
    )


@lab.check("pressure.shed", points=4, task="pressure", timeout_s=10)
@witnessed("pressure", files=("admission",))
def what_does_not_fit_is_told_so(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """Of forty questions at once, what does not fit hears 429 and when to come back; a quiet tenant is served; vLLM never has more than its places.

    Why: A queue without an end makes everybody late. Without shares, one caller's burst is everybody's outage.
    Hint: `waiting` says how many of each tenant wait. How much of `limit` may one of them hold?
    Next: course witness pressure
    """
    greedy, quiet_ones = seen["greedy"], seen["quiet"]
    shed = greedy.get("429", 0)
    return several(
        (shed > 0, "some told to come back", f"the greedy tenant heard {greedy}"),
        (
            seen["retry_after"] == shed,
            "Retry-After on each 429",
            f"Retry-After on {seen['retry_after']} of {shed}",
        ),
        (set(greedy) <= {"200", "429"}, "200 or 429 only", f"the greedy tenant heard {greedy}"),
        (quiet_ones == {"200": 2}, "the quiet tenant served", f"the quiet tenant heard {quiet_ones}"),
        (
            seen["most"] <= seen["limit"],
            f"at most {seen['limit']} at vLLM",
            f"{seen['most']} at once at vLLM",
        ),
    )


# 9. Probes and the end


@lab.check("end.probes", points=3, task="end", timeout_s=10)
@witnessed("survive")
def redis_takes_no_pod_along(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """While Redis was away for twenty seconds, no pod of the orchestrator was restarted.

    Why: A liveness probe that asks a backend restarts every pod when that backend is away, and none of them is to blame.
    Hint: Liveness is about the process alone. What needs Redis belongs in readiness.
    Next: course witness survive
    """
    deployment = cluster.deployment(orchestrator.DEPLOYMENT, APPS)
    container = next(iter(deployment.containers), {})
    paths = {
        probe: ((container.get(f"{probe}Probe") or {}).get("httpGet") or {}).get("path", "nothing")
        for probe in ("liveness", "readiness")
    }
    redis = seen["redis"]
    return several(
        (redis["gone"], "Redis away and back", "Redis did not come back"),
        (redis["restarts"] == 0, "no restart", f"{redis['restarts']} restarts while Redis was away"),
        (paths["liveness"] == "/livez", "liveness asks /livez", f"liveness asks {paths['liveness']}"),
        (paths["readiness"] == "/readyz", "readiness asks /readyz", f"readiness asks {paths['readiness']}"),
    )


@lab.check("end.rollout", points=3, task="end", timeout_s=10)
@witnessed("survive")
def a_rollout_loses_no_answer(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """Every pod was replaced while questions were answered, and no answer was lost.

    Why: You will roll out more often than anything fails. What each rollout loses, you lose every week.
    Hint: New pods first, then the old ones end: `maxUnavailable`, and a grace period that outlasts the drain deadline.
    Next: course witness survive
    """
    rollout = seen["rollout"]
    return several(
        (rollout["rolled"], "a rollout that ends", "the rollout did not end"),
        (
            rollout["answered"] >= ANSWERS_UNDER_LOAD,
            f"at least {ANSWERS_UNDER_LOAD} answers meanwhile",
            f"{rollout['answered']} answers meanwhile",
        ),
        (
            rollout["lost"] == 0,
            "no answer lost",
            f"{rollout['lost']} answers lost ({', '.join(rollout['first']) or 'none'})",
        ),
    )


# 10. The gateway


@lab.check("gateway.keys", points=3, task="gateway", timeout_s=10)
@witnessed("gateway")
def a_key_is_an_identity(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """The gateway refuses who has no key, and takes the tenant from the key, whatever the caller writes.

    Why: A header that callers may set themselves is a wish. Threads and budgets belong to a tenant only if nobody can pose as one.
    Hint: Look at what the gateway does with `x-tenant-id` that comes from outside.
    Next: course witness gateway
    """
    return several(
        (seen["none"] == 401, "401 without a key", f"without a key: {seen['none']}"),
        (seen["wrong"] == 401, "401 with a wrong key", f"with a wrong key: {seen['wrong']}"),
        (seen["posing"] == 200, "200 with a key", f"with a key: {seen['posing']}"),
        (seen["own"] == 200, "the thread is the key's tenant's", f"the key's own thread: {seen['own']}"),
        (seen["theirs"] == 404, "and nobody else's", f"with another key: {seen['theirs']}"),
    )


@lab.check("gateway.tokens", points=4, task="gateway", timeout_s=10)
@witnessed("gateway")
def a_key_has_tokens(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """A key spends the tokens of its answers, streamed ones too; one that is spent hears 429, and the others go on.

    Why: One long answer costs as much as a hundred short ones: a limit on requests limits nothing that is scarce.
    Hint: When is the cost of an answer known, and which descriptor tells two keys apart?
    Next: course witness gateway
    """
    stream, trial = seen["stream"], seen["trial"]
    limit = _rate_limit_filter(cluster)
    fell = "unknown" if stream["fell"] is None else stream["fell"]
    return several(
        (
            0 < stream["tokens"] == stream["fell"],
            "a streamed answer spends its tokens",
            f"a streamed answer of {stream['tokens']} tokens: the budget fell by {fell}",
        ),
        (
            trial["refused"] and trial["answered"] <= TRIAL_ANSWERS,
            "429 when the tokens are spent",
            f"{trial['answered']} answers, then {'429' if trial['refused'] else 'no 429'}",
        ),
        (seen["beside"] == 200, "another key goes on", f"another key meanwhile: {seen['beside']}"),
        (
            bool(limit.get("failure_mode_deny")),
            "closed while the counter does not answer",
            "open while the counter does not answer (failure_mode_deny)",
        ),
    )


def _rate_limit_filter(cluster: ClusterView) -> Mapping[str, Any]:
    """The gateway's rate limit filter as its configuration has it; empty where there is none."""
    found = cluster.find("ConfigMap", gateway.CONFIG, gateway.NAMESPACE)
    text = (found.raw.get("data") or {}).get(gateway.FILE, "") if found else ""
    try:
        return roads.rate_limit_filter(yaml.safe_load(text))
    except yaml.YAMLError:
        return {}


@lab.check("gateway.closed", points=3, task="gateway", timeout_s=15)
def no_way_round(cluster: ClusterView) -> Verdict:
    """Only the gateway reaches the orchestrator, only the orchestrator and the counter reach Redis, and the orchestrator reaches nothing but its backends.

    Why: A gateway beside which the Service is open guards nothing: whoever knows the name goes round it.
    Hint: Policies at both ends: ingress where it arrives, egress where it starts. DNS is a destination, too.
    Next: kubectl get networkpolicy -n llm-apps; kubectl get networkpolicy -n llm-system
    """
    cluster.deployment(orchestrator.DEPLOYMENT, APPS)
    if not roads.is_isolated(cluster, APPS, orchestrator.LABELS):
        return not_attempted("a policy that selects the orchestrator", "no policy selects its pods")
    return all_of(
        *(
            expect_true(not road.is_open, f"{road} closed", f"{road} {road.words}")
            for road in roads.round_it(cluster)
        ),
        *(
            expect_true(road.is_open, f"{road} open", f"{road} {road.words}")
            for road in roads.needed(cluster)
        ),
    ).summed_up("every other way is closed, and the needed ones are open")


# Life cycle


@lab.start
def start(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """Backends with the documents of lab 03, Redis as a prototype has it, the gateway's namespace and keys."""
    from helpers.labs.lab06_orchestration.ground import prepare

    return prepare(cluster, progress)


@lab.reset
def reset(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """What this lab made goes, with Redis and its claim; backends and probes stay."""
    from helpers.labs.lab06_orchestration.ground import clear

    return clear(cluster, progress, BOOK.jobs())
