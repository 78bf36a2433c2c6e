"""Checks of parts 1 and 3: what becomes of a job whatever ends meanwhile, and whose answer the cache gives to whom.

All is seen by witnesses, whose records count for as long as the decisions and settings are those that they saw.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

from helpers.errors import ProbeInconclusive
from helpers.grading import Verdict, falls_short, not_attempted
from helpers.grading.verdict import Status
from helpers.labs.lab08_scale.bounds import (
    LEAST_KEPT_S,
    LEAST_TTL,
    MOST_DELIVERIES,
    MOST_KEPT_S,
    MOST_LEASES,
    MOST_TTL,
    SEEN_OF_SPREAD,
    TTL_SPREAD,
)
from helpers.labs.lab08_scale.lab import lab
from helpers.labs.lab08_scale.witness_queue import BOOK
from helpers.labs.witnessing import several, verdict_on
from helpers.stack import jobs

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.grading.declare import CheckFunction

Seen = Mapping[str, Any]
LEAST_BURST = 10
GENERATED = "generated"
LEAST_KEPT = 6
# Stored one after the other, answers end a little apart anyway where they are kept for a short time: less than this.
LEAST_SPREAD = TTL_SPREAD * SEEN_OF_SPREAD
NEIGHBOURS = 3
# Until whoever waits for a lease has seen that it is over.
NOTICED_S = 1.0
REFUSALS = {
    "no_token": (401, "without the token"),
    "tenant": (403, "an unknown tenant"),
    "not_json": (400, "what is not JSON"),
    "empty": (422, "an empty question"),
    "too_large": (413, "140,000 characters"),
    "unknown": (404, "a job that there is not"),
    "foreign": (404, "another tenant's job"),
}


def witnessed(name: str, *files: str) -> Callable[[Callable[..., Verdict]], CheckFunction]:
    """A check that gets what a witness saw, if its record counts.

    Args:
        files: the decisions that it rests on; where the learner has delivered none, the course's own earn no points.
    """

    def wrap(check: Callable[..., Verdict]) -> CheckFunction:
        @wraps(check)
        def judged(cluster: ClusterView) -> Verdict:
            there = jobs.decisions_in(cluster)
            missing = [f"{file}.py" for file in files if file not in there]
            if missing:
                where, names = f"ConfigMap {jobs.DECISIONS}", " and ".join(missing)
                return not_attempted(f"{names} in {where}", f"{where} has no {names}")
            if name == "jobs" and (refused := _too_few_for_the_witness(cluster)):
                return refused
            return verdict_on(BOOK, cluster, name, check)

        return judged

    return wrap


def _too_few_for_the_witness(cluster: ClusterView) -> Verdict | None:
    """What is said where one tenant may not even leave the ten jobs with which the witness of the front begins."""
    said = jobs.settings_in(cluster)
    for setting in ("TENANT_LIMIT", "QUEUE_LIMIT"):
        limit = said.get(setting, "")
        if limit.isdigit() and 0 < int(limit) < LEAST_BURST:
            wanted = f"a burst of {LEAST_BURST} jobs of one tenant is accepted"
            return falls_short(wanted, f"{setting} {limit} refuses {LEAST_BURST} jobs of one tenant at once")
    return None


# 1. The queue


@lab.check("queue.accepts", points=3, task="queue", timeout_s=10)
@witnessed("jobs")
def the_front_takes_jobs_and_says_no_clearly(cluster: ClusterView, seen: Seen) -> Verdict:
    """A job is accepted with 202, and its answer is kept for a caller who comes back; wrong requests hear why; one key is one job.

    Why: Who is told 202 goes away. What was accepted must be found again, and what is wrong must be said at the door.
    Hint: `JOB_TTL_S` in ConfigMap llm-jobs-config: an hour to a day. What else is wrong, `kubectl logs -n llm-apps deploy/llm-jobs` and `deploy/llm-worker` say.
    Next: course witness jobs
    """
    refused, key, cancelled, garbage = (seen[name] for name in ("refused", "key", "cancelled", "garbage"))
    kept_s = seen["kept_s"]
    if seen["answered"][0] and not LEAST_KEPT_S <= kept_s <= MOST_KEPT_S:
        # All else the course's own front does, whatever a learner decides: alone it earns nothing.
        return falls_short(
            "a finished job that is found for an hour at least, and a day at most",
            f"a finished job is forgotten after {kept_s} s: asked is {LEAST_KEPT_S} at least, {MOST_KEPT_S} at most",
        )
    wrong = [
        f"{what}: {refused[name]}" for name, (status, what) in REFUSALS.items() if refused[name] != status
    ]
    return several(
        (
            seen["accepted"] == [202, True] and seen["answered"][0],
            "202 with its place, and an answer later",
            f"status {seen['accepted'][0]}, {'answered' if seen['answered'][0] else 'not answered'}",
        ),
        (not wrong, "wrong requests are refused", ", ".join(wrong)),
        (
            key["statuses"] == [202] and key["jobs"] == 1 and key["other"] == 409,
            "one key is one job",
            f"five times one key: {key['jobs']} jobs; for another question: {key['other']}",
        ),
        (
            cancelled["said"].get("cancelled", 0) > 0 and cancelled["same"],
            "cancelled stays cancelled",
            f"cancelled: {cancelled['said']}, {'the same' if cancelled['same'] else 'another state'} later",
        ),
        (
            garbage["answered"] and garbage["dead"] == garbage["sent"],
            "nonsense in the stream is put aside",
            f"{garbage['dead']} of {garbage['sent']} entries of no format put aside",
        ),
    )


@lab.check("queue.once", points=5, task="queue", timeout_s=15)
@witnessed("faults", "delivery")
def every_job_is_answered(cluster: ClusterView, seen: Seen) -> Verdict:
    """Workers killed at work and Redis gone: every accepted job has its answer, and no good one is a dead letter.

    Why: A worker ends at any moment. What it said to the stream before, and what it had stored by then, decides what is lost.
    Hint: `order` in delivery.py. Which step can be repeated without harm, and which one cannot be taken back?
    Next: course witness faults delivery
    """
    kills, done = seen["kills"], seen["jobs"]
    caught = done["redelivered"] + done["unfinished"] + done["dead"]
    if not kills["held"] or not caught or not seen["redis"]["gone"]:
        raise ProbeInconclusive(
            "no worker was killed while it held a job" if seen["redis"]["gone"] else "Redis did not go",
            next_command="course witness faults",
        )
    seen_from_outside = several(
        (
            done["unfinished"] == 0 and done["done"] + done["dead"] == done["accepted"],
            "all answered",
            f"{done['done']} of {done['accepted']} jobs answered, {done['unfinished']} never finished",
        ),
        (done["dead"] == 0, "no good job given up", f"{done['dead']} good jobs among the dead letters"),
    )
    if seen_from_outside.status is not Status.PASS:
        return seen_from_outside
    return verdict_on(BOOK, cluster, "delivery", _at_each_step)


def _at_each_step(cluster: ClusterView, seen: Seen) -> Verdict:
    return several(
        *(
            (
                seen["cut"][step]["status"] == "done",
                f"a worker that ends when it has {step} loses nothing",
                f"a worker ended when it had {step}: its job is {seen['cut'][step]['status']} for ever",
            )
            for step in ("stored", "acknowledged")
        )
    )


@lab.check("queue.poison", points=3, task="queue", timeout_s=10)
@witnessed("delivery", "delivery")
def poison_is_put_aside(cluster: ClusterView, seen: Seen) -> Verdict:
    """A job that ends its workers is put aside after a few deliveries; one whose model server fails twice is answered.

    Why: Delivered for ever, one job takes all workers with it. Given up at once, every restart loses jobs.
    Hint: `after_failure(kind, deliveries)`: what a try may heal gets a few. What is refused is refused again.
    Next: course witness delivery
    """
    poison, failing = seen["poison"], seen["failing"]
    refused, twice, always = (failing[name] for name in ("refused", "twice", "always"))
    return several(
        (
            poison["dead"] and poison["deliveries"] <= MOST_DELIVERIES,
            f"put aside within {MOST_DELIVERIES} deliveries",
            f"it has ended {poison['deaths']} workers and comes again",
        ),
        (poison["reason"], "with its reason", "no dead letter with a reason"),
        (
            poison["dead_neighbours"] == 0,
            "not its neighbours",
            f"{poison['dead_neighbours']} of its neighbours put aside too",
        ),
        (
            poison["neighbours"] == NEIGHBOURS or poison["dead_neighbours"] > 0,
            "which are answered",
            f"{poison['neighbours']} of its {NEIGHBOURS} neighbours answered",
        ),
        (
            twice["status"] == "done",
            "a model server that fails twice is asked again",
            f"a model server failed twice: the job is {twice['status']} after {twice['asked']} tries",
        ),
        (
            always["status"] == "failed" and always["asked"] <= MOST_DELIVERIES,
            "one that always fails is not asked for ever",
            f"a model server always fails: asked {always['asked']} times"
            + (
                ", and still tried"
                if always["status"] != "failed"
                else f", where {MOST_DELIVERIES} are enough"
            ),
        ),
        (
            refused["status"] == "failed" and refused["asked"] <= 2,
            "what is refused is not asked again",
            f"a question that is too long was asked {refused['asked']} times",
        ),
    )


@lab.check("queue.fair", points=3, task="queue", timeout_s=10)
@witnessed("jobs")
def one_tenant_leaves_room(cluster: ClusterView, seen: Seen) -> Verdict:
    """A tenant that leaves 150 jobs at once gets at most half of the places, hears 429 for the rest, and others are answered.

    Why: A queue without a limit only moves the wait. One without a limit for each tenant is the first one's.
    Hint: `TENANT_LIMIT` in ConfigMap llm-jobs-config, beside `QUEUE_LIMIT`. 0 means no limit of a tenant's own.
    Next: course witness jobs
    """
    fair = seen["fair"]
    accepted, refused = (fair["greedy"].get(status, 0) for status in ("202", "429"))
    if (
        2 * fair["ahead"] > fair["places"]
    ):  # as at the start: what else the front does well earns nothing alone
        return falls_short(
            "one tenant in half of the places at most",
            f"one tenant had {fair['ahead']} of {fair['places']} places",
        )
    return several(
        (refused > 0, "the greedy one is refused", f"all {accepted} jobs of one tenant were accepted"),
        (
            fair["retry_after"] == refused,
            "and told when to come back",
            f"Retry-After on {fair['retry_after']} of {refused} refusals",
        ),
        (
            accepted >= LEAST_BURST,
            f"a burst of {LEAST_BURST} is accepted",
            f"{accepted} jobs of one tenant accepted",
        ),
        (
            fair["modest"] == {"202": 3} and fair["answered"] == 3,
            "another tenant is accepted and answered",
            f"another tenant heard {fair['modest']}, {fair['answered']} of 3 answered",
        ),
    )


@lab.check("queue.drain", points=2, task="queue", timeout_s=10)
@witnessed("faults", "delivery")
def a_rollout_delivers_nothing_twice(cluster: ClusterView, seen: Seen) -> Verdict:
    """While all workers are replaced under load, no job has to begin twice.

    Why: Workers are replaced with every release, and by every scale-down. What they drop is paid for again.
    Hint: `DRAIN_DEADLINE_S` in the settings, within `terminationGracePeriodSeconds` of the Deployment.
    Next: course witness faults
    """
    rollout = seen["rollout"]
    if not rollout["held"]:
        raise ProbeInconclusive(
            "no worker held a job when it was replaced", next_command="course witness faults"
        )
    return several(
        (
            rollout["twice"] == 0,
            "no job began twice",
            f"{rollout['twice']} of {rollout['jobs']} jobs began twice",
        ),
        (
            rollout["done"] == rollout["jobs"],
            "all answered",
            f"{rollout['done']} of {rollout['jobs']} answered",
        ),
    )


# 3. The cache


@lab.check("cache.key", points=4, task="cache", timeout_s=10)
@witnessed("storm", "cache")
def the_key_is_all_that_an_answer_depends_on(cluster: ClusterView, seen: Seen) -> Verdict:
    """The same question again is answered from the cache; with another prompt, model, collection or question it is not.

    Why: A release changes the prompt, and users go on getting the old release's answers, for as long as they are kept.
    Hint: `key(ask)` in cache.py: which of the five fields of `Ask` may differ between two who get one answer? And is “ab”, “c” another key than “a”, “bc”? What came *similar* was let through by `may_share`.
    Next: course witness storm
    """
    keys = seen["keys"]
    words = {
        "question": "another question",
        "version": "another prompt version",
        "collection": "another collection",
        "model": "another model",
    }
    return several(
        (
            keys["first"] == GENERATED and keys["same"] in ("exact", "similar"),
            "the same question again is a hit",
            f"first {keys['first']}, the same again: {keys['same']}",
        ),
        *(
            (
                keys[name] == GENERATED,
                f"{what} is not",
                f"{what}: {keys[name]}" + (", which is by `may_share`" if keys[name] == "similar" else ""),
            )
            for name, what in words.items()
        ),
        (not keys["together"], "each part stays apart from its neighbours", _one_key(keys["together"])),
    )


def _one_key(together: Mapping[str, list[str]]) -> str:
    """Which parts run together, and what stands between them."""
    return "; ".join(
        f"{left} and {right} run together"
        + (f" at a “{sign}”: “ab{sign}c”, “d” and “ab”, “c{sign}d”" if sign else ": “ab”, “c” and “a”, “bc”")
        + " have one key"
        for sign, (left, right) in together.items()
    )


@lab.check("cache.storm", points=4, task="cache", timeout_s=10)
@witnessed("storm", "flight", "cache")
def one_generates_for_all(cluster: ClusterView, seen: Seen) -> Verdict:
    """Fifty ask one cold question: one generation, also a slow one. Its worker is killed: one more soon, and all are answered.

    Why: When a popular answer ends, all ask at once. And a lock whose owner is gone holds everybody, for as long as it lasts.
    Hint: `lease_s(deadline_s)` in flight.py: longer than a generation may take, and not much. The witness has two deadlines.
    Next: course witness storm
    """
    storm, slow, holder = seen["storm"], seen["slow"], seen["holder"]
    asked, most_s = storm["askers"], MOST_LEASES * holder["deadline_s"]
    after_s, may = holder["after_s"], f"a generation may take {holder['deadline_s']:g} s"
    return several(
        (
            storm["generations"] == 1,
            "one generation",
            f"{storm['generations']} generations for {asked} askers",
        ),
        (
            storm["done"] == asked and storm["answers"] == 1,
            "all answered alike",
            f"{storm['done']} of {asked} answered, {storm['answers']} different answers",
        ),
        (
            slow["generations"] == 1 and slow["done"] == slow["askers"],
            "one also where it takes nearly as long as it may",
            f"{slow['generations']} generations for {slow['askers']} askers of what takes {slow['s']:g} s, where it may "
            f"take {slow['deadline_s']:g} s",
        ),
        (
            holder["held"],
            "somebody holds the lease while it is generated",
            "nobody held the lease a moment after a generation had begun",
        ),
        (
            after_s is not None and after_s <= most_s + NOTICED_S,
            "somebody takes over soon when its worker is killed",
            f"its worker killed: nobody took over within {most_s:g} s, where {may}"
            if after_s is None
            else f"its worker killed: somebody took over after {after_s:g} s, where {may}",
        ),
        (
            holder["done"] == asked,
            "all answered then",
            f"its worker killed: {holder['done']} of {asked} answered",
        ),
        (
            holder["generations"] <= 2,
            "with one more generation",
            f"its worker killed: {holder['generations'] - 1} more generations",
        ),
    )


@lab.check("cache.tenants", points=4, task="cache", timeout_s=10)
@witnessed("storm", "cache")
def nobody_gets_another_tenants_answer(cluster: ClusterView, seen: Seen) -> Verdict:
    """A question in other words gets the tenant's own kept answer, of this prompt, model and collection; nobody else's.

    Why: Whoever gets another tenant's answer reads what that tenant asked about. And nearly the same words may mean the opposite.
    Hint: `may_share(asker, stored, similarity)`: who asks, what answers and from what, and how near is near enough?
    Next: course witness storm
    """
    shared = seen["shared"]
    same = sum(came in ("similar", "exact") for came in shared["similar"])
    unlike = [came for came in shared["unlike"] if came != GENERATED]
    return several(
        (
            shared["exact_across"] == GENERATED,
            "the same words of another tenant are generated",
            f"another tenant's same words: {shared['exact_across']}",
        ),
        (
            shared["similar_across"] == GENERATED,
            "other words of another tenant too",
            f"another tenant's other words: {shared['similar_across']}",
        ),
        *(
            (
                shared[name] == GENERATED,
                f"and those for {what}",
                f"other words for {what}: {shared[name]}",
            )
            for name, what in (
                ("similar_version", "another prompt version"),
                ("similar_collection", "another collection"),
                ("similar_model", "another model"),
            )
        ),
        (
            same == len(shared["similar"]),
            "one tenant's other words are hits",
            f"{same} of {len(shared['similar'])} questions in other words were hits",
        ),
        (
            not unlike,
            "other questions are not",
            f"{len(unlike)} of {len(shared['unlike'])} other questions got a kept answer",
        ),
    )


@lab.check("cache.expiry", points=2, task="cache", timeout_s=10)
@witnessed("storm", "cache")
def what_was_kept_together_does_not_end_together(cluster: ClusterView, seen: Seen) -> Verdict:
    """Answers that were kept at the same moment end at different ones, all of them about when the settings say.

    Why: A cache that is filled in a rush empties in a rush, and the next storm is on the clock.
    Hint: `ttl_s(base_s, chance)`: `chance` is between 0 and 1, and another one for each answer.
    Next: course witness storm
    """
    ends = seen["ends"]
    spread = round(ends["most"] - ends["least"], 3)
    return several(
        (ends["kept"] >= LEAST_KEPT, "answers are kept", f"{ends['kept']} answers were kept"),
        (ends["for_ever"] == 0, "each has an end", f"{ends['for_ever']} of {ends['kept']} without an end"),
        (
            ends["least"] >= LEAST_TTL and ends["most"] <= MOST_TTL,
            "near the time of the settings",
            f"between {ends['least']:.2f} and {ends['most']:.2f} of CACHE_TTL_S",
        ),
        (
            spread >= LEAST_SPREAD,
            "not at the same moment",
            f"all within {spread:.3f} of CACHE_TTL_S: asked is {TTL_SPREAD:g} from chance 0 to chance 1, of which at least "
            f"{LEAST_SPREAD:g} shows",
        ),
    )
