"""Wrong clusters for queue and cache: what learners decide wrongly, and what a witness saw of it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from helpers.grading.author import Mutant
from helpers.grading.changes import Change, Manifest, edited, steps, without
from helpers.grading.verdict import Status
from helpers.labs import witnessed_fakes
from helpers.labs.lab08_scale.witness_queue import BOOK
from helpers.labs.witnessed_fakes import forged
from helpers.stack import jobs

APPS = jobs.APPS
ACCEPTS, ONCE, POISON, FAIR, DRAIN = (
    f"queue.{name}" for name in ("accepts", "once", "poison", "fair", "drain")
)
KEY, STORM, TENANTS, EXPIRY = (f"cache.{name}" for name in ("key", "storm", "tenants", "expiry"))
CHANGED = "the service was changed since it was seen"
NOT_YET = Status.NOT_ATTEMPTED
# What each witness sees where all is well.
SEEN: dict[str, Manifest] = {
    "jobs": {
        "accepted": [202, True],
        "answered": [True, 1],
        "kept_s": 3600,
        "refused": {
            "no_token": 401,
            "tenant": 403,
            "not_json": 400,
            "empty": 422,
            "too_large": 413,
            "unknown": 404,
            "foreign": 404,
        },
        "key": {"statuses": [202], "jobs": 1, "other": 409},
        "cancelled": {"said": {"cancelled": 5, "done": 1}, "same": True},
        "garbage": {"answered": True, "dead": 2, "sent": 2},
        "fair": {
            "greedy": {"202": 58, "429": 92},
            "ahead": 40,
            "retry_after": 92,
            "modest": {"202": 3},
            "answered": 3,
            "places": 120,
        },
    },
    "faults": {
        "rollout": {"jobs": 17, "held": 1, "done": 17, "twice": 0, "by_old": 6},
        "kills": {"killed": 3, "held": 9},
        "redis": {"gone": True, "refused": 4},
        "jobs": {
            "accepted": 92,
            "done": 92,
            "unfinished": 0,
            "dead": 0,
            "second": 0,
            "redelivered": 9,
        },
    },
    "delivery": {
        "cut": {"stored": {"status": "done", "second": 0}, "acknowledged": {"status": "done", "second": 0}},
        "poison": {
            "deaths": 5,
            "dead": True,
            "deliveries": 5,
            "reason": True,
            "neighbours": 3,
            "dead_neighbours": 0,
        },
        "failing": {
            "refused": {"status": "failed", "asked": 1},
            "twice": {"status": "done", "asked": 3},
            "always": {"status": "failed", "asked": 5},
        },
    },
    "storm": {
        "storm": {"askers": 50, "done": 50, "generations": 1, "answers": 1},
        "slow": {"s": 18.0, "deadline_s": 20.0, "done": 3, "askers": 3, "generations": 1},
        "holder": {"held": True, "deadline_s": 5.0, "after_s": 10.1, "done": 50, "generations": 2},
        "keys": {
            "first": "generated",
            "same": "exact",
            "version": "generated",
            "collection": "generated",
            "model": "generated",
            "question": "generated",
            "together": {},
        },
        "shared": {
            "exact_across": "generated",
            "similar": ["similar", "similar"],
            "similar_across": "generated",
            "similar_version": "generated",
            "similar_collection": "generated",
            "similar_model": "generated",
            "unlike": ["generated", "generated"],
        },
        "ends": {"kept": 12, "for_ever": 0, "least": 0.82, "most": 1.17},
    },
}


def records(cluster: Any) -> None:
    """All four have looked, and saw what is right."""
    for name in SEEN:
        witnessed(name)(cluster)


def witnessed(
    name: str, edit: Callable[[Manifest], object] = lambda seen: None, *, error: str = ""
) -> Change:
    """A record of this witness on the cluster as it is; edited, or with why it could not look."""

    def change(cluster: Any) -> None:
        seen = deepcopy(SEEN[name])
        edit(seen)
        said = {"error": error} if error else {"seen": seen}
        witnessed_fakes.leave(cluster, BOOK, name, said)

    return change


def saw(name: str, *changes: tuple[Any, ...]) -> Change:
    """Some figures of a record are others: `saw("storm", ("storm", "generations", 50))`."""

    def edit(seen: Manifest) -> None:
        for *path, last, value in changes:
            inner: Any = seen
            for step in path:
                inner = inner[step]
            inner[last] = value

    return witnessed(name, edit)


def by_hand(name: str, edit: Callable[[Manifest], object]) -> Change:
    """A record of a Job that is not the course's own."""
    return lambda cluster: witnessed_fakes.leave(cluster, BOOK, name, {"seen": SEEN[name]}, job=edit)


def setting(name: str, value: str) -> Change:
    """Another setting than the witnesses saw."""
    return edited("ConfigMap", jobs.CONFIG, lambda found: found["data"].update({name: value}), APPS)


def decision(file: str, text: str | None) -> Change:
    """Another decision than the witnesses saw; None for none."""

    def edit(found: Manifest) -> None:
        found["data"].pop(f"{file}.py", None)
        found["data"] |= {f"{file}.py": text} if text is not None else {}

    return edited("ConfigMap", jobs.DECISIONS, edit, APPS)


def worker(edit: Callable[[Manifest], object]) -> Change:
    """Another pod template of the workers."""
    return edited("Deployment", jobs.WORKER, lambda found: edit(found["spec"]["template"]["spec"]), APPS)


def _other_program(job: Manifest) -> None:
    job["spec"]["template"]["spec"]["containers"][0]["command"][-2] = "print('all is well')"


def _other_decisions(job: Manifest) -> None:
    job["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = "somebody-elses"


def _other_queue(job: Manifest) -> None:
    job["spec"]["template"]["spec"]["containers"][0]["env"].append(
        {"name": "REDIS_URL", "value": "redis://another:6379"}
    )


LOST = {"status": "running", "second": 0}
MUTANTS: list[Mutant] = [
    # accepts
    Mutant(
        "answered at the door",
        saw("jobs", ("accepted", [200, False])),
        {ACCEPTS: "status 200"},
    ),
    Mutant(
        "the settings of the start, and the witness's button pressed",
        steps(
            setting("TENANT_LIMIT", "0"),
            setting("JOB_TTL_S", "300"),
            saw(
                "jobs",
                ("kept_s", 300),
                ("fair", "ahead", 120),
                ("fair", "modest", {"429": 3}),
                ("fair", "answered", 0),
            ),
        ),
        {
            ACCEPTS: "a finished job is forgotten after 300 s: asked is 3600 at least",
            FAIR: "one tenant had 120 of 120 places",
        },
    ),
    Mutant(
        "forgotten before anybody comes back",
        steps(setting("JOB_TTL_S", "5"), saw("jobs", ("kept_s", 5))),
        {ACCEPTS: "forgotten after 5 s"},
    ),
    Mutant(
        "kept for a year, in memory",
        steps(setting("JOB_TTL_S", "31536000"), saw("jobs", ("kept_s", 31536000))),
        {ACCEPTS: "forgotten after 31536000 s: asked is 3600 at least, 86400 at most"},
    ),
    Mutant(
        "nobody works",
        saw("jobs", ("answered", [False, 0]), ("kept_s", 0)),
        {ACCEPTS: "status 202, not answered"},
    ),
    Mutant(
        "every tenant is let in", saw("jobs", ("refused", "tenant", 202)), {ACCEPTS: "an unknown tenant: 202"}
    ),
    Mutant(
        "anybody's job is shown",
        saw("jobs", ("refused", "foreign", 200)),
        {ACCEPTS: "another tenant's job: 200"},
    ),
    Mutant("a job for each try", saw("jobs", ("key", "jobs", 5)), {ACCEPTS: "five times one key: 5 jobs"}),
    Mutant(
        "cancelled and answered all the same",
        saw("jobs", ("cancelled", "same", False)),
        {ACCEPTS: "another state later"},
    ),
    Mutant(
        "nonsense stops the workers",
        saw("jobs", ("garbage", {"answered": False, "dead": 0, "sent": 2})),
        {ACCEPTS: "0 of 2 entries of no format put aside"},
    ),
    # once
    Mutant(
        "acknowledged before it is answered",
        steps(
            saw("faults", ("jobs", "done", 83), ("jobs", "unfinished", 9), ("jobs", "redelivered", 0)),
            saw("delivery", ("cut", "acknowledged", LOST)),
        ),
        {ONCE: "83 of 92 jobs answered, 9 never finished"},
    ),
    Mutant(
        "acknowledged before it is stored",
        saw("delivery", ("cut", "acknowledged", LOST)),
        {ONCE: "a worker ended when it had acknowledged: its job is running for ever"},
    ),
    Mutant(
        "nobody takes over what a dead worker held",
        steps(
            setting("CLAIM_IDLE_MS", "3600000"),
            saw("faults", ("jobs", "done", 83), ("jobs", "unfinished", 9)),
        ),
        {ONCE: "9 never finished"},
    ),
    Mutant(
        "every lost worker's job is given up",
        saw("faults", ("jobs", "done", 83), ("jobs", "dead", 9)),
        {ONCE: "9 good jobs among the dead letters"},
    ),
    Mutant(
        "no worker was caught at work",
        saw("faults", ("jobs", "redelivered", 0)),
        {ONCE: "no worker was killed while it held a job"},
        status=Status.ENV_ERROR,
    ),
    Mutant(
        "the steps were changed afterwards",
        decision("delivery", "# another\n"),
        {ONCE: CHANGED, POISON: CHANGED, DRAIN: CHANGED},
        status=NOT_YET,
    ),
    Mutant(
        "the course's own steps",
        decision("delivery", None),
        dict.fromkeys((ONCE, POISON, DRAIN), "has no delivery.py"),
        status=NOT_YET,
    ),
    # poison
    Mutant(
        "poison is delivered for ever",
        saw(
            "delivery",
            (
                "poison",
                {
                    "deaths": 9,
                    "dead": False,
                    "deliveries": 0,
                    "reason": False,
                    "neighbours": 0,
                    "dead_neighbours": 0,
                },
            ),
            ("failing", "always", {"status": "waiting", "asked": 30}),
        ),
        {POISON: "it has ended 9 workers and comes again"},
    ),
    Mutant(
        "given up at the first failure",
        steps(
            saw(
                "delivery",
                ("poison", "deliveries", 1),
                ("failing", "twice", {"status": "failed", "asked": 1}),
            ),
            saw("faults", ("jobs", "done", 83), ("jobs", "dead", 9)),
        ),
        {POISON: "a model server failed twice: the job is failed after 1 tries", ONCE: "9 good jobs"},
    ),
    Mutant(
        "what is refused is asked again",
        saw("delivery", ("failing", "refused", {"status": "failed", "asked": 5})),
        {POISON: "a question that is too long was asked 5 times"},
    ),
    Mutant(
        "twenty tries",
        saw("delivery", ("poison", "deliveries", 20), ("poison", "dead", False)),
        {POISON: "and comes again"},
    ),
    Mutant(
        "a model server that is gone is asked twenty times",
        saw("delivery", ("failing", "always", {"status": "failed", "asked": 20})),
        {POISON: "a model server always fails: asked 20 times, where 8 are enough"},
    ),
    Mutant(
        "its neighbours are put aside with it",
        saw("delivery", ("poison", "neighbours", 0), ("poison", "dead_neighbours", 3)),
        {POISON: "3 of its neighbours put aside too"},
    ),
    Mutant(
        "its neighbours wait for ever",
        saw("delivery", ("poison", "neighbours", 1)),
        {POISON: "1 of its 3 neighbours answered"},
    ),
    # fair
    Mutant(
        "one tenant may fill the queue",
        steps(
            setting("TENANT_LIMIT", "0"),
            saw(
                "jobs",
                ("fair", "ahead", 120),
                ("fair", "modest", {"429": 3}),
                ("fair", "answered", 0),
            ),
        ),
        {FAIR: "one tenant had 120 of 120 places"},
    ),
    Mutant(
        "a queue without an end",
        steps(
            setting("QUEUE_LIMIT", "100000"),
            saw(
                "jobs",
                ("fair", "greedy", {"202": 150}),
                ("fair", "retry_after", 0),
                ("fair", "ahead", 131),
                ("fair", "places", 100000),
            ),
        ),
        {FAIR: "all 150 jobs of one tenant were accepted"},
    ),
    Mutant(
        "room for two others",
        steps(setting("TENANT_LIMIT", "110"), saw("jobs", ("fair", "ahead", 110))),
        {FAIR: "one tenant had 110 of 120 places"},
    ),
    Mutant(
        "one job at a time",
        # Its jobs without a number end the witness.
        steps(setting("TENANT_LIMIT", "1"), witnessed("jobs", error="KeyError: ''")),
        dict.fromkeys((FAIR, ACCEPTS), "TENANT_LIMIT 1 refuses 10 jobs of one tenant at once"),
    ),
    Mutant(
        "nine places for all",
        steps(setting("QUEUE_LIMIT", "9"), witnessed("jobs", error="KeyError: ''")),
        dict.fromkeys((FAIR, ACCEPTS), "QUEUE_LIMIT 9 refuses 10 jobs of one tenant at once"),
    ),
    Mutant(
        "a burst is refused all the same",
        saw("jobs", ("fair", "greedy", {"202": 6, "429": 144}), ("fair", "retry_after", 144)),
        {FAIR: "6 jobs of one tenant accepted"},
    ),
    Mutant(
        "a limit that was changed afterwards",
        setting("TENANT_LIMIT", "60"),
        {ACCEPTS: CHANGED, FAIR: CHANGED},
        status=NOT_YET,
    ),
    # drain
    Mutant(
        "dropped at SIGTERM",
        steps(setting("DRAIN_DEADLINE_S", "0"), saw("faults", ("rollout", "twice", 4))),
        {DRAIN: "4 of 17 jobs began twice"},
    ),
    Mutant(
        "a grace period that is shorter than the drain",
        steps(
            worker(lambda spec: spec.update(terminationGracePeriodSeconds=1)),
            saw("faults", ("rollout", "twice", 3)),
        ),
        {DRAIN: "3 of 17 jobs began twice"},
    ),
    Mutant(
        "lost in the rollout",
        saw("faults", ("rollout", "done", 12)),
        {DRAIN: "12 of 17 answered"},
    ),
    Mutant(
        "nobody was at work",
        saw("faults", ("rollout", "held", 0)),
        {DRAIN: "no worker held a job when it was replaced"},
        status=Status.ENV_ERROR,
    ),
    # key
    Mutant(
        "the question alone",
        saw(
            "storm",
            ("keys", "version", "exact"),
            ("keys", "collection", "exact"),
            ("keys", "model", "exact"),
            ("shared", "exact_across", "exact"),
        ),
        {KEY: "another prompt version: exact", TENANTS: "another tenant's same words: exact"},
    ),
    Mutant(
        "the key is right, and what is similar is anybody's",
        saw("storm", ("keys", "version", "similar"), ("shared", "similar_version", "similar")),
        {KEY: "another prompt version: similar, which is by `may_share`", TENANTS: "other words for another"},
    ),
    Mutant(
        "without the collection",
        saw("storm", ("keys", "collection", "exact")),
        {KEY: "another collection: exact"},
    ),
    Mutant("without the model", saw("storm", ("keys", "model", "exact")), {KEY: "another model: exact"}),
    Mutant("one key for all", saw("storm", ("keys", "question", "exact")), {KEY: "another question: exact"}),
    Mutant(
        "parts joined by nothing",
        saw("storm", ("keys", "together", {"": ["tenant", "model"]})),
        {KEY: "tenant and model run together: “ab”, “c” and “a”, “bc” have one key"},
    ),
    Mutant(
        "parts joined by nothing, the question first",
        saw("storm", ("keys", "together", {"": ["collection", "tenant"], "-": ["question", "model"]})),
        {KEY: "collection and tenant run together"},
    ),
    Mutant(
        "parts joined by a sign that names have",
        saw("storm", ("keys", "together", {"-": ["collection", "question"]})),
        {KEY: "collection and question run together at a “-”"},
    ),
    Mutant(
        "nothing is found again",
        saw("storm", ("keys", "same", "generated")),
        {KEY: "first generated, the same again: generated"},
    ),
    Mutant(
        "a cache that was written anew afterwards",
        decision("cache", "# another\n"),
        dict.fromkeys((KEY, STORM, TENANTS, EXPIRY), CHANGED),
        status=NOT_YET,
    ),
    # storm
    Mutant(
        "everybody generates",
        saw("storm", ("storm", "generations", 50), ("storm", "answers", 50), ("holder", "generations", 75)),
        {STORM: "50 generations for 50 askers"},
    ),
    Mutant(
        "a lock without an end",
        saw("storm", ("holder", "after_s", None), ("holder", "done", 0), ("holder", "generations", 1)),
        {STORM: "its worker killed: nobody took over within 15 s, where a generation may take 5 s"},
    ),
    Mutant(
        "a lease of ten minutes, whatever a generation may take",
        saw("storm", ("holder", "after_s", None), ("holder", "done", 0), ("holder", "generations", 1)),
        {STORM: "nobody took over within 15 s"},
    ),
    Mutant(
        "a lease of eighteen seconds, whatever a generation may take",
        saw("storm", ("holder", "after_s", 18.1)),
        {STORM: "somebody took over after 18.1 s, where a generation may take 5 s"},
    ),
    Mutant(
        "a lease of six seconds, whatever a generation may take",
        saw("storm", ("slow", "generations", 3), ("holder", "after_s", 6.1)),
        {STORM: "3 generations for 3 askers of what takes 18 s, where it may take 20 s"},
    ),
    Mutant(
        "a lease of one second",
        saw(
            "storm",
            ("storm", "generations", 2),
            ("slow", "generations", 3),
            ("holder", "after_s", 1.1),
            ("holder", "generations", 3),
        ),
        {STORM: "2 generations for 50 askers"},
    ),
    Mutant(
        "all who waited generate when the lease ends",
        saw("storm", ("holder", "generations", 26)),
        {STORM: "its worker killed: 25 more generations"},
    ),
    Mutant(
        "a lease that is over before its holder is gone",
        saw("storm", ("holder", "held", False)),
        {STORM: "nobody held the lease a moment after a generation had begun"},
    ),
    Mutant(
        "flight without a file",
        decision("flight", None),
        {STORM: "has no flight.py"},
        status=NOT_YET,
    ),
    # tenants
    Mutant(
        "near enough is enough, whoever asks",
        saw("storm", ("shared", "similar_across", "similar")),
        {TENANTS: "another tenant's other words: similar"},
    ),
    Mutant(
        "the old prompt's answers in other words",
        saw("storm", ("shared", "similar_version", "similar")),
        {TENANTS: "other words for another prompt version: similar"},
    ),
    Mutant(
        "what was looked up elsewhere, in other words",
        saw("storm", ("shared", "similar_collection", "similar")),
        {TENANTS: "other words for another collection: similar"},
    ),
    Mutant(
        "another model's answers in other words",
        saw("storm", ("shared", "similar_model", "similar")),
        {TENANTS: "other words for another model: similar"},
    ),
    Mutant(
        "nothing is shared at all",
        saw("storm", ("shared", "similar", ["generated", "generated"])),
        {TENANTS: "0 of 2 questions in other words were hits"},
    ),
    Mutant(
        "on is off",
        saw("storm", ("shared", "unlike", ["similar", "generated"])),
        {TENANTS: "1 of 2 other questions got a kept answer"},
    ),
    # expiry
    Mutant(
        "all end at once",
        saw("storm", ("ends", {"kept": 12, "for_ever": 0, "least": 0.996, "most": 0.999})),
        {EXPIRY: "all within 0.003 of CACHE_TTL_S: asked is 0.2 from chance 0 to chance 1"},
    ),
    Mutant(
        "a hundredth apart, which is apart",
        saw("storm", ("ends", {"kept": 12, "for_ever": 0, "least": 0.991, "most": 1.009})),
        {EXPIRY: "all within 0.018 of CACHE_TTL_S"},
    ),
    Mutant(
        "all end a minute after they were stored, one after the other",
        saw("storm", ("ends", {"kept": 12, "for_ever": 0, "least": 0.93, "most": 0.996})),
        {EXPIRY: "all within 0.066 of CACHE_TTL_S"},
    ),
    Mutant("kept for ever", saw("storm", ("ends", "for_ever", 12)), {EXPIRY: "12 of 12 without an end"}),
    Mutant(
        "some end at once",
        saw("storm", ("ends", "least", 0.01)),
        {EXPIRY: "between 0.01 and 1.17 of CACHE_TTL_S"},
    ),
    Mutant(
        "chance in days",
        saw("storm", ("ends", "most", 86.4)),
        {EXPIRY: "between 0.82 and 86.40 of CACHE_TTL_S"},
    ),
    # Records
    Mutant(
        "a decision that no worker can use",
        witnessed("storm", error="a worker does not become ready: cache.py line 3: NameError"),
        dict.fromkeys((KEY, STORM, TENANTS, EXPIRY), "cache.py line 3: NameError"),
    ),
    Mutant(
        "another program",
        by_hand("delivery", _other_program),
        {POISON: "command of witness is not the course's own"},
    ),
    Mutant(
        "somebody else's decisions",
        by_hand("storm", _other_decisions),
        {STORM: "a volume is not the course's own"},
    ),
    Mutant(
        "another queue",
        by_hand("jobs", _other_queue),
        {ACCEPTS: "REDIS_URL of witness is not the course's own"},
    ),
    Mutant("another pod's record", forged(BOOK, "faults"), {DRAIN: "the record is another pod's"}),
    Mutant(
        "workers that are gone",
        without("Deployment", jobs.WORKER, APPS),
        {DRAIN: "is gone", ONCE: "is gone"},
        status=NOT_YET,
    ),
]
