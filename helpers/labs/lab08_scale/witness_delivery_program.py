"""The witness `delivery`, as it runs in its pod: what a worker leaves at each step, and what cannot be done.

This text is the pod's command, with those of `witness_base`, `witness_asking` and `witness_copies`.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import closing

from helpers.labs.lab08_scale.witness_asking import FINISHED, ME, Stream, Unseen, question, until
from helpers.labs.lab08_scale.witness_copies import Copies, Cutter
from helpers.labs.witness_base import Record, leave_record

MARKS = {"stored": b"citations", "acknowledged": b"\r\nXACK\r\n"}
MOST_DEATHS = 8
POISON = "POISON-OF-THE-WITNESS"
NEIGHBOURS = 3


def delivery() -> Record:
    stand = Copies("delivery", POISON=POISON, WORKER_CONCURRENCY="4", CACHE="off")
    try:
        seen: Record = {"cut": {name: _cut(stand, name) for name in MARKS}}
        return seen | {"poison": _poison(stand), "failing": _failing(stand)}
    finally:
        stand.close()


def _cut(stand: Copies, step: str) -> Record:
    """A worker ends just after one step was carried out; another one comes."""
    cutter = Cutter(os.environ["REDIS_URL"])
    stand.start("cut", REDIS_URL=cutter.url)
    if step == "acknowledged" and Stream.is_kafka():
        _cut_at_the_offset(stand, cutter)
    else:
        cutter.mark = MARKS[step]
    name = stand.submit(question(f"cut {step}"))
    if not cutter.end.wait(30):
        raise Unseen(f"no worker got so far that a job was {step}")
    stand.kill("cut")
    stand.start("next")
    job = stand.finished([name], 15)[name]
    stand.kill("next")
    return {"status": job.get("status"), "second": int(job.get("second_results") or 0)}


def _cut_at_the_offset(stand: Copies, cutter: Cutter) -> None:
    """Between a copy and Kafka no proxy stands: the offset is looked at, and the copy ends as soon as it has moved.

    A result that is about to be stored waits for a look, so that a copy which acknowledges first does not store it.
    """
    stream = stand.stream()
    until(lambda: not stream.in_work(), "what was left before is not done with")
    prefix, before = stand.prefix, stream.acknowledged()

    def has_moved() -> bool:
        with closing(Stream(prefix)) as stream:
            return stream.acknowledged() > before

    def watch() -> None:
        with closing(Stream(prefix)) as stream:
            while not cutter.end.is_set():
                if stream.acknowledged() > before:
                    cutter.end.set()
                time.sleep(0.01)

    cutter.mark, cutter.is_late = MARKS["stored"], has_moved
    threading.Thread(target=watch, daemon=True).start()


def _poison(stand: Copies) -> Record:
    """A question that ends its worker, among others that do not."""
    names = [stand.submit(question(f"neighbour {number}")) for number in range(NEIGHBOURS)]
    poison = stand.submit(f"{POISON} {ME}")
    deaths = 0
    while deaths <= MOST_DEATHS:
        copy = stand.start("worker", ready=False)
        end = time.monotonic() + 60
        while copy.poll() is None and stand.look(poison).get("status") not in FINISHED:
            if time.monotonic() > end:
                break
            time.sleep(0.05)
        if copy.poll() is None:
            break
        deaths += 1
    found = stand.finished(names, 20)
    letters = stand.stream().letters()
    mine: Record = next((letter for letter in letters if letter.get("job") == poison), {})
    stand.kill("worker")
    return {
        "deaths": deaths,
        "dead": bool(mine),
        "deliveries": int(mine.get("deliveries") or 0),
        "reason": bool(mine.get("reason")),
        "neighbours": sum(job.get("status") == "done" for job in found.values()),
        "dead_neighbours": sum(letter.get("job") in names for letter in letters),
    }


def _failing(stand: Copies) -> Record:
    """A model server that refuses one question, fails twice with another, and always with a third."""
    rules = {"refused": (400, 10**6), "twice": (503, 2), "always": (503, 10**6)}
    texts = {name: f"{name.upper()}-FAILS {ME}" for name in rules}
    stand.engine.fails = {texts[name]: rule for name, rule in rules.items()}
    stand.engine.hold_s = 0.02
    stand.start("last")
    names = {name: stand.submit(text) for name, text in texts.items()}
    found = stand.finished(names.values(), 25)
    return {
        name: {"status": found[names[name]].get("status"), "asked": stand.engine.count(texts[name])}
        for name in rules
    }


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], {"delivery": delivery}))
