"""Lab 05, chaos: what broke, who saw it, and what the application should do about it.

Everything is graded from journals that the cluster keeps: sealed entry by entry, and compared with
what the cluster itself still knows (UIDs, restart counts, creation times). What a notebook says does
not count here, and a journal that was edited does not verify.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import wraps
from statistics import median
from typing import TYPE_CHECKING, Any

from helpers.chaos import evidence
from helpers.chaos.backoff import DOWN_BUDGET_S, GRACE_S, Trial
from helpers.chaos.faults import BACKENDS, CLIENT_OF, SYSTEM, not_on_the_list
from helpers.chaos.journal import NAMESPACE, JournalBroken, Record, published
from helpers.evidence import Evidence
from helpers.grading import Lab, Status, Verdict, all_of, expect, expect_true, falls_short, not_attempted
from helpers.grading.declare import CheckFunction, Progress, quiet

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

FINDINGS, FINDINGS_NAMESPACE = "chaos-findings", "llm-apps"
# A bystander's client may lose an attempt to a busy node; a real interruption loses many.
BYSTANDER_AVAILABILITY = 0.97
MOST_ATTEMPTS = 40
CLOCK_SKEW_S = 120.0
# The herd is judged by when its clients came back, which the clock decides, and not by samples of
# vLLM's queue: on a busy node vLLM answers those late, or not before the queue is gone.
HERD_TOGETHER = 16
HERD_CROWD = 8
JITTER_HELPS_TO = 2 / 3
HERD_SERVED = 16  # of 24: the last ones may still wait when the watch ends
OBJECTIVE = 0.97

lab = Lab("05", "Chaos", namespaces=(), images=("vllm", "model", "qdrant"))


# Journals


def journal(cluster: ClusterView, name: str) -> Record | Verdict:
    """The verified journal of an experiment; a FAIL in its place when it does not verify."""
    try:
        return published(cluster, name)
    except JournalBroken as broken:
        config_map = cluster.find("ConfigMap", f"journal-{name}", NAMESPACE)
        return Verdict(
            Status.FAIL,
            expected="a journal as the experiment wrote it",
            observed=f"the journal {name} does not verify: {broken}",
            evidence=(config_map.evidence(),) if config_map else (),
        )


def with_journals(*names: str) -> Callable[[Callable[..., Verdict]], CheckFunction]:
    """A check that also gets the verified journals of these experiments; one that does not verify is its verdict."""

    def wrap(check: Callable[..., Verdict]) -> CheckFunction:
        @wraps(check)
        def reading(cluster: ClusterView) -> Verdict:
            records = [journal(cluster, name) for name in names]
            broken = [record for record in records if isinstance(record, Verdict)]
            return broken[0] if broken else check(cluster, *records)

        return reading

    return wrap


def reference(cluster: ClusterView, name: str) -> Evidence:
    """The journal as evidence."""
    return cluster.get("ConfigMap", f"journal-{name}", NAMESPACE).evidence()


def interrupted(cluster: ClusterView, backend: str) -> Verdict:
    """One backend's pod was deleted and replaced, its client saw it, and the other backend noticed nothing."""
    name, other = f"delete-{backend}", evidence.OTHER[backend]
    record = journal(cluster, name)
    if isinstance(record, Verdict):
        return record
    about = reference(cluster, name)
    return all_of(
        replaced(cluster, record, backend),
        was_interrupted(record, backend),
        bystander(cluster, record, other),
        expect_true(
            (record.first("steady-after") or {}).get("steady"),
            "the steady state came back",
            "steady again" if record.is_finished else "not steady at the end",
            about,
        ),
    )


def replaced(cluster: ClusterView, record: Record, backend: str) -> Verdict:
    """A pod ended inside the experiment, another took its place, and the cluster knows the new one."""
    pods = evidence.pods(record, backend)
    at = evidence.injected_at(record)
    if at is None or len(pods) < 2 or pods[0].first_t > at:
        return falls_short(
            f"{backend}'s pod deleted and replaced by another",
            f"nothing was deleted, and the journal knows {len(pods)} pod(s) of {backend}",
        )
    new = pods[-1]
    told = evidence.told(record, pods[0], new)
    # A StatefulSet's new pod has the old one's name.
    both = f"the old and the new {new.name}" if new.name == pods[0].name else f"{pods[0].name} and {new.name}"
    return all_of(
        expect_true(
            told,
            f"the cluster's events tell of the replacement of {pods[0].name}",
            f"events about {both}: {len(told)}",
        ),
        known(cluster, new, backend),
    )


def known(cluster: ClusterView, pod: evidence.PodSeen, backend: str) -> Verdict:
    """The journal's pod is the cluster's, or the cluster's is younger: it cannot be older."""
    for live in cluster.pods(SYSTEM, labels=BACKENDS[backend].labels):
        if live.uid == pod.uid:
            return expect_true(True, f"{pod.name} is known", f"{pod.name} {pod.uid}", live)
        created = datetime.fromisoformat(live.metadata["creationTimestamp"]).timestamp()
        if created >= pod.first_t - CLOCK_SKEW_S:
            return expect_true(True, f"{pod.name} is known", f"{live.name} came later", live)
        return expect(
            live.uid,
            "the pod of the journal in the cluster",
            f"{live.name} ({live.uid}) is older than the pod that the journal says replaced it",
            live,
            equals=pod.uid,
        )
    return expect(None, f"a pod of {backend}", f"no pod of {backend} in the cluster", equals=pod.uid)


def was_interrupted(record: Record, backend: str) -> Verdict:
    """Its client failed and was served again; its Service had no ready endpoint for a while."""
    client = CLIENT_OF[backend]
    failed = sum(evidence.failures(record, client).values())
    gap_s = evidence.endpoint_gap_s(record, backend)
    return all_of(
        expect(failed, f"{client} is interrupted", f"{client}: {failed} failed attempts", at_least=1),
        expect_true(gap_s > 0, f"no ready endpoint of {backend} for a while", f"{gap_s:.1f} s without"),
        expect_true(
            evidence.recovered(record, client),
            f"{client} is served again",
            f"{client} at the end: {'served' if evidence.recovered(record, client) else 'still failing'}",
        ),
    )


def bystander(cluster: ClusterView, record: Record, backend: str) -> Verdict:
    """The other backend: one pod, the same UID, no restart, and its client served throughout."""
    pods = evidence.pods(record, backend)
    restarts = sum(pod.restarts_last - pod.restarts_first for pod in pods)
    client = CLIENT_OF[backend]
    served = evidence.availability(evidence.attempts(record, client))
    return all_of(
        expect(
            len(pods),
            f"{backend}'s pod untouched",
            f"{backend} had {len(pods)} pods during the experiment",
            equals=1,
        ),
        expect(restarts, f"{backend} not restarted", f"{backend} restarted {restarts} times", equals=0),
        expect(
            served,
            f"{client} goes on",
            f"{client}: {served:.1%} of attempts served" if served is not None else f"{client}: no attempts",
            at_least=BYSTANDER_AVAILABILITY,
        ),
    )


@lab.check("chaos.vllm", points=3, task="inference", timeout_s=10)
def vllm_was_interrupted(cluster: ClusterView) -> Verdict:
    """Deleting vLLM's pod interrupted inference; Qdrant stayed ready, unchanged and served.

    Why: When the model server is replaced, inference pauses and nothing else does: restarting other things makes it worse.
    Hint: Run the experiment delete-vllm to its end: it writes the journal that is read here.
    Next: course experiment delete-vllm
    """
    return interrupted(cluster, "vllm")


@lab.check("chaos.qdrant", points=3, task="memory", timeout_s=10)
def qdrant_was_interrupted(cluster: ClusterView) -> Verdict:
    """Deleting Qdrant's pod interrupted retrieval; direct inference went on, on the same vLLM pod.

    Why: Without the memory layer answers have no documents behind them, but the model still answers: two different incidents.
    Hint: Run the experiment delete-qdrant to its end: it writes the journal that is read here.
    Next: course experiment delete-qdrant
    """
    return interrupted(cluster, "qdrant")


@lab.check(
    "chaos.findings",
    points=3,
    needs=[vllm_was_interrupted, qdrant_was_interrupted],
    task="attribution",
    timeout_s=10,
)
def findings_are_right(cluster: ClusterView) -> Verdict:
    """The findings name, for both experiments, the failing layer, the client's symptom, and who was unaffected.

    Why: An incident report that names the wrong layer sends the wrong people to the wrong logs.
    Hint: Read each time line: which client fails, which goes on, and which error did the client report most often?
    Next: kubectl get configmap -n llm-apps chaos-findings -o yaml
    """
    written = cluster.config_map(FINDINGS, FINDINGS_NAMESPACE)
    parts = []
    for backend, layer in (("vllm", "inference"), ("qdrant", "memory")):
        name = f"delete-{backend}"
        record = journal(cluster, name)
        if isinstance(record, Verdict):
            return record
        symptoms = set(evidence.failures(record, CLIENT_OF[backend]))
        said = written.data.get(f"{name}.symptom", "")
        parts += [
            _finding(written, f"{name}.layer", layer),
            expect_true(
                said in symptoms,
                f"{name}.symptom is what the client saw",
                named(f"{name}.symptom", said),
                written,
            ),
            _finding(written, f"{name}.unaffected", {"inference": "memory", "memory": "inference"}[layer]),
        ]
    return all_of(*parts)


def _finding(written: Any, key: str, right: str) -> Verdict:
    said = written.data.get(key, "")
    # The right word is not shown: what was said and that it does not hold is enough.
    return expect_true(said == right, f"{key} as the journal shows it", named(key, said), written)


def named(key: str, said: str) -> str:
    """What was named, and where that cannot be, what can."""
    return next(iter(not_on_the_list({key: said})), f"{key}: {said or 'nothing'}")


# Backoff


def trials(cluster: ClusterView) -> dict[str, Trial] | Verdict:
    """What the judge saw of the learner's function."""
    record = journal(cluster, "backoff")
    if isinstance(record, Verdict):
        return record
    during = record.first("during")
    found = [Trial.from_json(item) for item in (during or {}).get("result") or []]
    return {trial.scenario: trial for trial in found}


def judged(cluster: ClusterView, scenarios: Sequence[str], rule: Callable[[Trial], Verdict]) -> Verdict:
    """One rule over some scenarios; a scenario that is not in the journal was not judged."""
    found = trials(cluster)
    if isinstance(found, Verdict):
        return found
    missing = [name for name in scenarios if name not in found]
    if missing:
        return not_attempted("a judged function", f"the journal has no trial {', '.join(missing)}")
    return all_of(*(rule(found[name]) for name in scenarios))


@lab.check("backoff.restart", points=3, task="backoff", timeout_s=10)
def survives_a_restart(cluster: ClusterView) -> Verdict:
    """Through a real restart of Qdrant the call comes back with an answer, after several and not too many attempts.

    Why: A replaced pod means seconds of errors. The caller decides whether users see them.
    Hint: Which exceptions does httpx raise when a connection is reset, refused or silent? They have one base class.
    Next: course backoff labs/05_chaos.py
    """

    def rule(trial: Trial) -> Verdict:
        # How long the node took is not the function's affair: attempts are counted against the time.
        pace = most_within(60, trial.attempts)
        outage = f", the outage {trial.outage_s:.1f} s" if trial.outage_s is not None else ""
        return all_of(
            expect(
                trial.ended, "the call returns an answer", f"the call ended: {trial.ended}", equals="returned"
            ),
            expect_true(
                any(outcome != "200" for outcome in trial.outcomes),
                "attempts that failed first",
                f"{len(trial.outcomes)} attempts: {', '.join(sorted(set(trial.outcomes)))}",
            ),
            expect(
                pace,
                f"at most {MOST_ATTEMPTS} attempts in a minute",
                f"{pace} attempts in the fullest minute",
                at_most=MOST_ATTEMPTS,
            ),
            expect(
                trial.elapsed_s,
                f"within {trial.budget_s:g} s and the attempt under way",
                f"{trial.elapsed_s:.1f} s in all{outage}",
                at_most=trial.budget_s + GRACE_S,
            ),
        )

    return judged(cluster, ["restart"], rule)


@lab.check("backoff.retries", points=2, task="backoff", timeout_s=10)
def retries_what_passes(cluster: ClusterView) -> Verdict:
    """Connection resets, time-outs and 503 answers are retried until they end.

    Why: A reset, a time-out and a 503 often mean the same: a pod is not ready yet.
    Hint: An HTTP error answer is raised as an exception too: its status code tells whether waiting helps.
    Next: course backoff labs/05_chaos.py
    """

    def rule(trial: Trial) -> Verdict:
        return expect(
            trial.ended,
            f"{trial.scenario}: retried until answered",
            f"{trial.scenario}: {trial.ended} after {len(trial.attempts)} attempts",
            equals="returned",
        )

    return judged(cluster, ["not-ready", "reset", "timeout"], rule)


@lab.check("backoff.fail_fast", points=3, task="backoff", timeout_s=10)
def fails_fast(cluster: ClusterView) -> Verdict:
    """400, 401 and 404 are not retried, and are not reported as BackendUnavailable.

    Why: A wrong model name is still wrong in thirty seconds: retrying it hides the mistake and adds load.
    Hint: What would have to change for the next attempt to succeed? If only you can change it, do not wait.
    Next: course backoff labs/05_chaos.py
    """

    def rule(trial: Trial) -> Verdict:
        return all_of(
            expect(
                len(trial.attempts),
                f"{trial.scenario}: one attempt",
                f"{trial.scenario}: {len(trial.attempts)} attempts",
                equals=1,
            ),
            expect_true(
                trial.ended not in ("BackendUnavailable", "returned", "returned nothing", "never stopped"),
                f"{trial.scenario}: its own error",
                f"{trial.scenario}: {trial.ended}",
            ),
        )

    return judged(cluster, ["bad-request", "unauthorized", "not-found"], rule)


DOWN = tuple(f"down-{number}" for number in range(4))


@lab.check("backoff.bounded", points=3, task="backoff", timeout_s=10)
def gives_up_in_time(cluster: ClusterView) -> Verdict:
    """When a backend does not come back, the call ends in BackendUnavailable with its cause, within the budget.

    Why: A caller that waits for ever holds a connection, a thread and a user for ever.
    Hint: Look at the clock before you sleep: would the pause end after the budget? `raise … from …` keeps the cause.
    Next: course backoff labs/05_chaos.py
    """

    def rule(trial: Trial) -> Verdict:
        return all_of(
            expect(
                trial.ended,
                "BackendUnavailable",
                f"{trial.scenario}: {trial.ended}",
                equals="BackendUnavailable",
            ),
            expect_true(trial.cause != "", "with its cause", f"cause: {trial.cause or 'none'}"),
            expect(
                trial.elapsed_s,
                f"within {DOWN_BUDGET_S:g} s and the attempt under way",
                f"{trial.scenario}: {trial.elapsed_s:.1f} s",
                at_most=DOWN_BUDGET_S + GRACE_S,
            ),
            expect(len(trial.attempts), "at least 3 attempts", f"{len(trial.attempts)} attempts", at_least=3),
            expect(
                len(trial.attempts),
                f"at most {MOST_ATTEMPTS} attempts",
                f"{len(trial.attempts)} attempts",
                at_most=MOST_ATTEMPTS,
            ),
        )

    return judged(cluster, DOWN, rule)


@lab.check("backoff.jitter", points=2, needs=gives_up_in_time, task="backoff", timeout_s=10)
def pauses_grow_and_differ(cluster: ClusterView) -> Verdict:
    """Pauses grow from attempt to attempt, and four clients that start together do not stay together.

    Why: Clients that fail together and wait equally long come back together.
    Hint: Pauses should grow, and no two clients should choose the same one.
    Next: course backoff labs/05_chaos.py
    """
    found = trials(cluster)
    if isinstance(found, Verdict):
        return found
    gaps = [found[name].gaps for name in DOWN if name in found and found[name].gaps]
    if len(gaps) < len(DOWN):
        return not_attempted("four judged clients with pauses", f"{len(gaps)} of them paused")
    early = median(client[0] for client in gaps)
    late = median(max(client[1:] or client) for client in gaps)
    spread = max(max(column) - min(column) for column in zip(*gaps, strict=False))
    return all_of(
        expect_true(late > 1.5 * early, "pauses that grow", f"first {early:.2f} s, longest {late:.2f} s"),
        expect_true(
            spread > 0.1 * late,
            "pauses that differ between clients",
            f"clients differ by at most {spread:.2f} s",
        ),
    )


# The herd


def returned(record: Record) -> list[tuple[float, float]]:
    """When each served client's last attempt began and ended: its way back to the backend."""
    arrivals = ((record.last("after") or {}).get("result") or {}).get("arrivals") or []
    last = {int(row[1]): (float(row[0]), float(row[4])) for row in arrivals if int(row[3]) == 200}
    return sorted(last.values())


def fullest_second(record: Record) -> int:
    """How many clients came back within the one second in which most of them did."""
    return most_within(1, [start for start, _ in returned(record)])


def most_within(seconds: float, moments: Sequence[float]) -> int:
    """The most moments that are within so many seconds of each other."""
    return max((sum(first <= other < first + seconds for other in moments) for first in moments), default=0)


def crowd(record: Record) -> int:
    """The most clients that waited for their answer at one time."""
    back = returned(record)
    return max((sum(start <= moment < end for start, end in back) for moment, _ in back), default=0)


@lab.check("herd.queue", points=2, task="herd", timeout_s=10)
@with_journals("herd-none", "herd-full")
def jitter_thins_the_herd(cluster: ClusterView, plain: Record, spread: Record) -> Verdict:
    """Twenty-four clients without jitter come back in one second and crowd at vLLM; with jitter they come back spread out.

    Why: Clients that all come back at once after an outage often cause the next one.
    Hint: Run both herds to their end. The ticks under the chart are clients that came back: compare how close together they are.
    Next: course experiment herd-none; course experiment herd-full
    """
    together, apart = fullest_second(plain), fullest_second(spread)
    return all_of(
        expect(
            together,
            f"at least {HERD_TOGETHER} of 24 back within one second without jitter",
            f"{together} back within one second without jitter",
            at_least=HERD_TOGETHER,
        ),
        expect(
            crowd(plain),
            f"at least {HERD_CROWD} that wait for vLLM at the same time",
            f"{crowd(plain)} wait for vLLM at the same time without jitter",
            at_least=HERD_CROWD,
        ),
        expect(
            apart,
            f"with jitter at most {JITTER_HELPS_TO:.0%} of it",
            f"{apart} back within one second with jitter, {together} without",
            reference(cluster, "herd-full"),
            at_most=JITTER_HELPS_TO * together,
        ),
        expect(
            min(len(returned(plain)), len(returned(spread))),
            "the herd is served in the end",
            f"{len(returned(plain))} and {len(returned(spread))} of 24 clients served",
            at_least=HERD_SERVED,
        ),
    )


# The game day


@lab.check("gameday.diagnosis", points=4, task="gameday", timeout_s=10)
@with_journals("game-day")
def diagnosed(cluster: ClusterView, record: Record) -> Verdict:
    """On the game day, layer and cause were named while the fault was being repaired.

    Why: In an incident, first find the layer, then the cause, and then make one change.
    Hint: Go through the layers: does the Service have endpoints, is a pod there, is it Ready, what do its events say?
    Next: kubectl get events -n llm-system --sort-by=.lastTimestamp
    """
    truth = record.first("reveal") or {}
    moment = record.first("repaired") or record.first("time-over") or {}
    answer = moment.get("answer") or {}
    about = reference(cluster, "game-day")
    return all_of(
        *(
            expect_true(
                answer.get(key) == truth.get(key),
                f"the {key} of this seed's fault",
                named(key, str(answer[key])) if answer.get(key) else f"{key}: no answer",
                about,
            )
            for key in ("layer", "cause")
        )
    )


@lab.check("gameday.repair", points=3, task="gameday", timeout_s=10)
@with_journals("game-day")
def repaired(cluster: ClusterView, record: Record) -> Verdict:
    """The fault was repaired by you, before the time was over, and clients were served again.

    Why: A repair is finished when clients are served again, not when a command has returned.
    Hint: Undo the one thing that is wrong. Restarting everything else costs availability and hides the cause.
    Next: course game-day
    """
    about = reference(cluster, "game-day")
    fixed = record.first("repaired")
    failed = sum(not item.ok for item in evidence.attempts(record))
    return all_of(
        expect_true(
            fixed is not None,
            "repaired before the time was over",
            f"repaired after {fixed['after_s']} s" if fixed else "undone when the time was over",
            about,
        ),
        expect(failed, "a fault that clients felt", f"{failed} failed attempts", at_least=1),
    )


@lab.check("gameday.objective", points=2, needs=repaired, task="gameday", timeout_s=10)
@with_journals("game-day")
def objective_held(cluster: ClusterView, record: Record) -> Verdict:
    """Over the whole game day, the backend that was not hit kept 97 % of its requests.

    Why: An objective over a window measures what users feel; it also shows a repair that breaks something healthy.
    Hint: Whose requests never failed? Leave that backend alone.
    Next: course game-day
    """
    hit = str((record.first("reveal") or {}).get("backend", ""))
    other = evidence.OTHER.get(hit, "vllm")
    share = evidence.availability(evidence.attempts(record, CLIENT_OF[other]))
    return expect(
        share,
        f"{CLIENT_OF[other]} at {OBJECTIVE:.0%} over the window",
        f"{CLIENT_OF[other]}: {share:.1%}" if share is not None else "no attempts were recorded",
        reference(cluster, "game-day"),
        at_least=OBJECTIVE,
    )


# Life cycle


@lab.start
def start(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """Both backends and the grader's probe pods; what an interrupted experiment left is undone."""
    from helpers.chaos.experiment import recover
    from helpers.stack.bring_up import bring_up_with_probes

    undone = recover(cluster)
    return [f"undone: {name}" for name in undone] + bring_up_with_probes(cluster, progress)


@lab.reset
def reset(cluster: Cluster, progress: Progress = quiet) -> list[str]:
    """The journals and findings go; a fault that was left is undone."""
    from helpers.chaos.experiment import recover
    from helpers.chaos.gameday import ANSWER, ANSWER_NAMESPACE
    from helpers.chaos.journal import LABEL

    done = [f"undone: {name}" for name in recover(cluster)]
    objects = [
        ("ConfigMap", item.name, NAMESPACE)
        for item in cluster.view().list("ConfigMap", NAMESPACE, labels=LABEL)
    ]
    objects += [("ConfigMap", FINDINGS, FINDINGS_NAMESPACE), ("ConfigMap", ANSWER, ANSWER_NAMESPACE)]
    for kind, name, namespace in objects:
        if cluster.delete(kind, name, namespace):
            done.append(f"deleted {kind} {name}")
    return done
