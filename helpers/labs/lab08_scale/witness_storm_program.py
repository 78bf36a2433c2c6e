"""The witness `storm`, as it runs in its pod: many askers of one question, and what the cache may give to whom.

This text is the pod's command, with those of `witness_base`, `witness_asking`, `witness_copies` and `key_cases`.
"""

from __future__ import annotations

import os
import sys
import time

from helpers.apps.jobs import defaults
from helpers.apps.jobs.decisions import PLUG_POINTS, TYPES, Ask
from helpers.apps.jobs.settings import JobsSettings
from helpers.apps.orchestrator.mounted import Decisions
from helpers.labs.lab08_scale.key_cases import SIGNS, run_together
from helpers.labs.lab08_scale.witness_asking import ME, OTHER, until
from helpers.labs.lab08_scale.witness_copies import Copies
from helpers.labs.witness_base import Record, leave_record

ASKERS = 50
HOLD_S = 1.5
DEADLINE_S = 5.0
# Longer than any lease that is right for the deadline above: what is right for both is made from the deadline.
SLOW_ASKERS, SLOW_HOLD_S, SLOW_DEADLINE_S = 3, 18.0, 20.0
# For how long somebody is waited for who takes over.
LONGEST_S = 4 * DEADLINE_S
COLD = (
    "What is a quota?",
    "Who wrote Faust?",
    "Why is the sky blue?",
    "How long is a marathon?",
    "Which planet is the largest?",
    "What does a compiler do?",
    "Where do penguins live?",
    "When was the printing press invented?",
    "How do bees make honey?",
    "What is the boiling point of water?",
    "Name a river in Africa.",
    "Explain photosynthesis briefly.",
)


def storm() -> Record:
    settings = {"WORKER_CONCURRENCY": "25", "CACHE": "on"}
    stand = Copies("storm", **settings, GENERATION_DEADLINE_S=f"{DEADLINE_S:g}")
    slow = Copies("slow", **settings, GENERATION_DEADLINE_S=f"{SLOW_DEADLINE_S:g}")
    try:
        stand.start("one")
        stand.start("two")
        seen: Record = {"storm": _storm(stand), "holder": _holder(stand)}
        waiting = _slow_begun(slow)  # it takes its time beside the rest
        other = f"{stand.prefix}other:"
        stand.start("other", MODEL="another-model", QUEUE_PREFIX=other)
        seen |= {"keys": _keys(stand, other), "shared": _shared(stand, other)}
        stand.kill("other")
        return seen | {"ends": _ends(stand), "slow": _slow_over(slow, waiting)}
    finally:
        slow.close()
        stand.close()


SLOW = f"What takes nearly as long as it may? {ME}"


def _slow_begun(slow: Copies) -> list[str]:
    """Jobs of one question whose generation takes nearly as long as it may."""
    slow.engine.hold_s = SLOW_HOLD_S
    slow.start("slow")
    names = slow.submit_at_once(SLOW_ASKERS, SLOW)
    until(lambda: slow.engine.count(SLOW), "nobody generates")
    return names


def _slow_over(slow: Copies, names: list[str]) -> Record:
    found = slow.finished(names, 2 * SLOW_HOLD_S)
    return {
        "s": SLOW_HOLD_S,
        "deadline_s": SLOW_DEADLINE_S,
        "done": sum(job.get("status") == "done" for job in found.values()),
        "askers": SLOW_ASKERS,
        "generations": slow.engine.count(SLOW),
    }


def _storm(stand: Copies) -> Record:
    text = f"What does a storm of askers cost? {ME}"
    stand.engine.hold_s = HOLD_S
    found = stand.finished(stand.submit_at_once(ASKERS, text), 40)
    return {
        "askers": ASKERS,
        "done": sum(job.get("status") == "done" for job in found.values()),
        "generations": stand.engine.count(text),
        "answers": len({job.get("answer") for job in found.values()}),
    }


def _holder(stand: Copies) -> Record:
    """The worker that generates for all is killed while it does."""
    text = f"Who takes over when the one that generates is gone? {ME}"
    names = stand.submit_at_once(ASKERS, text)
    until(lambda: stand.engine.count(text), "nobody generates")
    began = time.monotonic()
    time.sleep(0.3)  # so that the others have found somebody at work
    holders = [str(stand.client.get(key) or "") for key in stand.client.scan_iter(f"{stand.prefix}flight:*")]
    victim = next((holder.partition("/")[0] for holder in holders if holder), "one")
    stand.kill(victim)
    after_s = _taken_over(stand, text, began)
    found = stand.finished(names, 3 * DEADLINE_S if after_s is not None else 0)
    seen = {
        "held": bool(holders),
        "deadline_s": DEADLINE_S,
        "after_s": after_s,
        "done": sum(job.get("status") == "done" for job in found.values()),
        "generations": stand.engine.count(text),
    }
    stand.engine.hold_s = 0.05
    for name in ("one", "two"):  # those that ask below find one worker, whichever was the victim
        stand.kill(name)
    stand.client.delete(*stand.client.keys(f"{stand.prefix}flight:*") or ["none"])
    stand.start("three")
    stand.finished(names, 30)  # what is left would be counted with what is asked below
    return seen


def _taken_over(stand: Copies, text: str, began: float) -> float | None:
    """How long after the first generation had begun the second one did; None where nobody begins it."""
    while (after_s := time.monotonic() - began) < LONGEST_S:
        if stand.engine.count(text) > 1:
            return round(after_s, 1)
        time.sleep(0.05)
    return None


def _asked(stand: Copies, text: str, **how: str) -> Record:
    """One job, and where its answer came from; `generated` by the model server's own count."""
    before = len(stand.engine.asked)
    name = stand.submit(text, **how)
    job = stand.finished([name], 20, how.get("to", ""))[name]
    return {
        "status": job.get("status"),
        "cached": job.get("cached") or "",
        "generated": len(stand.engine.asked) - before,
    }


def _came(seen: Record) -> str:
    """In a word: generated, exact, similar, or what went wrong."""
    if seen["status"] != "done":
        return str(seen["status"])
    return "generated" if seen["generated"] else str(seen["cached"])


def _keys(stand: Copies, other: str) -> Record:
    """One question, and the same with one thing changed each time.

    Args:
        other: before the keys of the queue whose worker has another model; the cache is one.
    """
    text = "Where does a worker keep what it has read?"
    asks: dict[str, dict[str, str]] = {
        "first": {},
        "same": {},
        "version": {"version": "v2"},
        "collection": {"retrieve": "on"},
        "model": {"to": other},
    }
    found = {name: _came(_asked(stand, text, **how)) for name, how in asks.items()}
    found["question"] = _came(_asked(stand, "How many legs does a spider have?"))
    return {**found, "together": _together()}


def _together() -> dict[str, list[str]]:
    """Parts that the learner's key does not keep apart, by the sign that stands between them.

    The key is asked as a worker asks it: no question that a copy could be asked has all of these parts.
    """
    folder = JobsSettings.from_environment().decisions_dir
    decisions = Decisions(folder, points=PLUG_POINTS, own=defaults, types=TYPES)

    def key(ask: Ask) -> object:
        return decisions.ask("key", ask)

    found = {sign: run_together(key, sign) for sign in SIGNS}
    return {sign: list(parts) for sign, parts in found.items() if parts}


# Pairs by what all-MiniLM-L6-v2 makes of them: 0.965 and 0.945 mean the same; 0.892 and 0.441 do not.
SAME = (
    ("What does vLLM do when its KV cache is full?", "What happens in vLLM when the KV cache is full?"),
    (
        "Why is my pod Pending although the node has a free GPU?",
        "My pod stays Pending even though a GPU is free on the node. Why?",
    ),
)
UNLIKE = (
    ("How do I turn the cache on?", "How do I turn the cache off?"),
    ("What does vLLM do when its KV cache is full?", "What does Redis do when its memory is full?"),
)


def _shared(stand: Copies, other: str) -> Record:
    """Who gets whose answer: another tenant, prompt, collection or model, another way to ask, another meaning."""
    (kept, again), (second, words) = SAME
    _asked(stand, kept)
    _asked(stand, second)
    found = {
        "exact_across": _came(_asked(stand, kept, tenant=OTHER)),
        "similar": [_came(_asked(stand, again)), _came(_asked(stand, words))],
    }
    _asked(stand, "Which metric tells that requests wait for the model?")
    asks: dict[str, dict[str, str]] = {
        "similar_across": {"tenant": OTHER},
        "similar_version": {"version": "v2"},
        "similar_collection": {"retrieve": "on"},
        "similar_model": {"to": other},
    }
    for name, how in asks.items():  # each in the same words, which none of them has asked before
        found[name] = _came(
            _asked(stand, "Which metric says that requests are waiting for the model?", **how)
        )
    _asked(stand, UNLIKE[0][0])
    found["unlike"] = [_came(_asked(stand, text)) for _, text in UNLIKE]
    return found


def _ends(stand: Copies) -> Record:
    """When answers end that were kept at the same time."""
    before = set(stand.client.scan_iter(f"{stand.prefix}cache:*"))
    stand.finished([stand.submit(text) for text in COLD], 40)
    keys = set(stand.client.scan_iter(f"{stand.prefix}cache:*")) - before
    left = [stand.client.pttl(key) / 1000 for key in keys]
    base = float(os.environ.get("CACHE_TTL_S", "600"))
    kept = [seconds for seconds in left if seconds > 0]
    return {
        "kept": len(left),
        "for_ever": sum(seconds < 0 for seconds in left),
        "least": round(min(kept, default=0) / base, 3),
        "most": round(max(kept, default=0) / base, 3),
    }


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], {"storm": storm}))
