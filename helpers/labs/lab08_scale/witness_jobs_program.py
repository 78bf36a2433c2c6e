"""The witness `jobs`, as it runs in its pod: what the front says, and what it does not let one tenant do to another.

This text is the pod's command, with those of `witness_base` and `witness_asking`.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from helpers.labs.lab08_scale.witness_asking import (
    ME,
    ONE,
    OTHER,
    Stream,
    Unseen,
    ask,
    database,
    is_answered,
    number_of,
    question,
    settled,
    submit,
)
from helpers.labs.witness_base import Record, leave_record


def jobs() -> Record:
    first = submit(question("a quota"))
    if first.status == 0:
        raise Unseen(f"the front does not answer: {first.text}")
    seen: Record = {"accepted": [first.status, "location" in first.headers], "refused": _refused()}
    if not number_of(first):
        raise Unseen(f"the front did not take a job: {first.status} {first.text[:200]}")
    seen |= {"key": _same_key(), "cancelled": _cancelled(), "garbage": _garbage()}
    done = settled([number_of(first)])[number_of(first)]
    seen["answered"] = [is_answered(done), done.get("attempts")]
    seen["kept_s"] = _kept_s(number_of(first))
    seen["fair"] = _fair()
    return seen


def _kept_s(name: str) -> int:
    """For how many seconds a finished job is found; 0 for one that is not finished."""
    with database() as client:
        (seconds, micros), done_ms = client.time(), int(client.hget(f"job:{name}", "done_ms") or 0)
        left_ms = client.pttl(f"job:{name}")
    return round(left_ms / 1000 + seconds + micros / 10**6 - done_ms / 1000) if done_ms else 0


def _refused() -> Record:
    """What is heard of requests that are wrong."""
    good = {"question": "What is a quota?"}
    whose = number_of(submit(question("a secret")))
    return {
        "no_token": ask("POST", "/v1/jobs", good, token="").status,
        "tenant": ask("POST", "/v1/jobs", good, tenant="nobody-knows-me").status,
        "not_json": ask("POST", "/v1/jobs", raw=b"{").status,
        "empty": ask("POST", "/v1/jobs", {"question": " "}).status,
        "too_large": ask("POST", "/v1/jobs", {"question": "x" * 140_000}).status,
        "unknown": ask("GET", "/v1/jobs/j-unknown").status,
        "foreign": ask("GET", f"/v1/jobs/{whose}", tenant=OTHER).status,
    }


def _same_key() -> Record:
    """One key five times at once, and once more for another question."""
    key, text = f"key-{ME}", question("a key")
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: submit(text, key=key), range(5)))
    other = submit(question("another key"), key=key)
    return {
        "statuses": sorted({answer.status for answer in answers}),
        "jobs": len({number_of(answer) for answer in answers}),
        "other": other.status,
    }


def _cancelled() -> Record:
    """Several that are cancelled at once, before a worker can have answered all."""
    names = [number_of(submit(question(f"cancelled {number}"), max_tokens=32)) for number in range(6)]
    said = [ask("DELETE", f"/v1/jobs/{name}").object.get("status") for name in reversed(names)]
    later = settled(names)
    stays = [later[name].get("status") for name in reversed(names)]
    return {"said": dict(Counter(said)), "same": said == stays}


def _garbage() -> Record:
    """Entries of no known format in the stream, and a job after them."""
    with closing(Stream()) as stream:
        entries = [
            stream.wait(stream.queue.put(fields)) for fields in ({"nonsense": "1"}, {"v": "0", "job": "j-0"})
        ]
        name = number_of(submit(question("after nonsense")))
        after = settled([name]).get(name, {})
        end, dead = time.monotonic() + 20, set[str]()
        while len(dead & set(entries)) < len(entries) and time.monotonic() < end:
            dead = {str(letter.get("entry")) for letter in stream.letters()}
            time.sleep(0.2)
    return {"answered": is_answered(after), "dead": len(dead & set(entries)), "sent": len(entries)}


GREEDY = 150


def _fair() -> Record:
    """One tenant asks without an end; another one asks three times."""
    with ThreadPoolExecutor(8) as pool:
        flood = list(pool.map(lambda number: submit(question(f"flood {number}")), range(GREEDY)))
        heard = Counter(str(answer.status) for answer in flood)
        waiting = [number_of(answer) for answer in flood if answer.status == 202]
        ahead = database().zcard(f"jobs:unfinished:{ONE}")
        modest = [submit(question(f"modest {number}"), tenant=OTHER) for number in range(3)]
        mine = [number_of(answer) for answer in modest if answer.status == 202]
        done = settled(mine, tenant=OTHER)
        list(pool.map(lambda name: ask("DELETE", f"/v1/jobs/{name}"), waiting))
    refused = [answer for answer in flood if answer.status == 429]
    return {
        "greedy": dict(heard),
        "ahead": int(ahead),
        "retry_after": sum("retry-after" in answer.headers for answer in refused),
        "modest": dict(Counter(str(answer.status) for answer in modest)),
        "answered": sum(is_answered(job) for job in done.values()),
        "places": int(os.environ.get("QUEUE_LIMIT", "0")),
    }


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], {"jobs": jobs}))
