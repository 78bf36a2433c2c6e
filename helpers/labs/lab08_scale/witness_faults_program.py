"""The witness `faults`, as it runs in its pod: a rollout, workers that are killed while they hold work, and Redis.

It asks whoever runs it for what is to be broken. This text is the pod's command, with those of `witness_base` and
`witness_asking`.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from contextlib import suppress

import redis

from helpers.labs.lab08_scale.witness_asking import (
    FINISHED,
    ME,
    SETTLED_S,
    Stream,
    Unseen,
    database,
    is_answered,
    number_of,
    question,
    request,
    settled,
    submit,
    until,
)
from helpers.labs.witness_base import Record, leave_record

ROLLOUT_TOKENS = 24
KILLS = 3
LOAD = int(os.environ.get("WITNESS_JOBS", "30"))


class Faults:
    """Jobs that are submitted while something ends, and what became of them."""

    def __init__(self) -> None:
        self.client, self.stream = database(), Stream()
        self.names: list[str] = []
        self.refused = 0

    def add(self, count: int, about: str, *, max_tokens: int = 8) -> list[str]:
        """Leave jobs until they are accepted, however often that has to be asked."""
        added = []
        for number in range(count):
            key, end = f"{about}-{number}-{ME}", time.monotonic() + SETTLED_S
            while True:
                answer = submit(question(f"{about} {number}"), key=key, max_tokens=max_tokens)
                if answer.status == 202:
                    added.append(number_of(answer))
                    break
                if answer.status not in (0, 429, 503) or time.monotonic() > end:
                    raise Unseen(f"a job was not accepted: {answer.status} {answer.text[:200]}")
                self.refused += answer.status in (0, 503)
                time.sleep(0.3)
        self.names += added
        return added

    def working(self) -> dict[str, int]:
        """How many of these jobs each worker is at, by what the jobs themselves say."""
        found = Counter[str]()
        with suppress(redis.RedisError), self.client.pipeline(transaction=False) as pipeline:
            for name in self.names:
                pipeline.hmget(f"job:{name}", "status", "worker")
            found.update(worker for status, worker in pipeline.execute() if status == "running")
        return dict(found)

    def backlog(self) -> int:
        """How many entries nobody has read or acknowledged."""
        from helpers.apps.jobs.store import StoreUnavailable

        with suppress(StoreUnavailable):
            return self.stream.in_work()
        return 0


def faults() -> Record:
    stand = Faults()
    seen: Record = {"rollout": _rolled_out(stand), "kills": _kills(stand), "redis": _redis_gone(stand)}
    last = settled(stand.names)
    letters = {letter.get("job") for letter in stand.stream.letters()}
    jobs_of = [last.get(name, {}) for name in stand.names]
    seen["jobs"] = {
        "accepted": len(stand.names),
        "done": sum(is_answered(job) for job in jobs_of),
        "unfinished": sum(job.get("status") not in FINISHED for job in jobs_of),
        "dead": len(letters & set(stand.names)),
        "second": sum(int(stand.client.hget(f"job:{name}", "second_results") or 0) for name in stand.names),
        "redelivered": sum(int(job.get("attempts") or 0) > 1 for job in jobs_of),
    }
    return seen


def _rolled_out(stand: Faults) -> Record:
    """Jobs while all workers are replaced: which of them had to begin twice.

    Each so short that a worker which ends has its own done in time, on a slow machine too, behind those of the new ones.
    """
    mine = stand.add(12, "rollout", max_tokens=ROLLOUT_TOKENS)
    until(stand.working, "no worker took a job", 60)
    old = set(stand.working())
    said = request("rollout")
    while not said.is_file():
        mine += stand.add(1, f"rollout-{len(mine)}", max_tokens=ROLLOUT_TOKENS)
        until(lambda: said.is_file() or stand.backlog() < 8, "the workers do not go on", 300)
        time.sleep(0.5)
    done = settled(mine, within_s=60)
    jobs_of = [done.get(name, {}) for name in mine]
    return {
        "jobs": len(mine),
        "held": len(old),
        "done": sum(is_answered(job) for job in jobs_of),
        "twice": sum(int(job.get("attempts") or 0) > 1 for job in jobs_of),
        "by_old": sum(job.get("worker") in old for job in jobs_of),
    }


def _kills(stand: Faults) -> Record:
    """A worker is killed while it is at work, several times; each time another one."""
    stand.add(LOAD, "kill", max_tokens=32)  # so long that the worker is still at it when it is killed
    gone, held = set[str](), 0

    def holders() -> dict[str, int]:
        return {name: count for name, count in stand.working().items() if name not in gone}

    for number in range(KILLS):
        until(holders, "no worker is at a job", 60)
        found = holders()
        victim = max(found, key=lambda name: found[name])
        gone.add(victim)
        said = request(f"kill-{number}", victim)
        held += found[victim]
        until(said.is_file, "the worker was not killed", 60)
        stand.add(4, f"after-kill-{number}", max_tokens=32)
    return {"killed": len(gone), "held": held}


def _redis_gone(stand: Faults) -> Record:
    """Redis ends while jobs are accepted and worked on."""
    stand.add(8, "before-redis")
    said = request("redis")
    stand.add(20, "redis")
    until(said.is_file, "Redis did not come back", 180)
    return {"gone": said.read_text() == "back", "refused": stand.refused}


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], {"faults": faults}))
