"""What a learner's functions of lab 08 would do, worked out on the page: no cluster is asked, every edit redraws it.

The cases are the course's own. What a function raises, or returns in the wrong shape, is told in a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import marimo as mo
from markupsafe import Markup

from helpers.apps.jobs.decisions import AGAIN, DEAD_LETTER, GENERATE, STEPS, WAIT, Ask
from helpers.labs.lab06_orchestration.draw_decisions import _asked, _or_sentence, _Wrong
from helpers.labs.lab08_scale import key_cases
from helpers.labs.lab08_scale.bounds import LEAST_TTL, MOST_DELIVERIES, MOST_LEASES, MOST_TTL, TTL_SPREAD
from helpers.notebook.html import card, code, table, word


def _held(right: bool, said: str) -> Markup:
    return word("PASS" if right else "FAIL", said)


def _number(value: Any, name: str, unit: str) -> float:
    """A learner's number.

    Raises:
        _Wrong: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Wrong(f"{name} says {value!r:.40}: it is a number of {unit}")
    return float(value)


# 1. Delivery


@_or_sentence
def order_table(order: Any) -> mo.Html:
    """What becomes of one job when its worker dies before, between and after the three steps."""
    steps = _asked(order)
    if not isinstance(steps, Sequence) or isinstance(steps, str) or sorted(map(str, steps)) != sorted(STEPS):
        raise _Wrong(f"order says {steps!r:.80}: each of {', '.join(STEPS)} once, in a list")
    rows = []
    for done in range(len(steps) + 1):
        before = list(steps[:done])
        where = f"after {before[-1]}" if before else "before the first step"
        rows.append((where, code(*before) if before else "nothing", _left(before)))
    return card(table(("the worker dies", "done by then", "what becomes of the job"), rows), live=True)


def _left(done: Sequence[str]) -> Markup:
    """What becomes of a job of which so much was done."""
    if "acknowledge" in done and "store" not in done:
        return _held(False, "lost: nobody gets it again, and it has no answer")
    if "store" in done and "answer" not in done:
        return _held(False, "stored before there was an answer: the caller reads nothing")
    if "acknowledge" in done:
        return _held(True, "finished, once")
    if "store" in done:
        return _held(True, "given to another worker, which finds the answer stored")
    return _held(True, "given to another worker, which answers it")


_FAILURES: tuple[tuple[str, str, int, str], ...] = (
    ("its worker ended without a word, the first time", "worker_lost", 1, AGAIN),
    (
        f"the same, {MOST_DELIVERIES} times by now: it kills its workers",
        "worker_lost",
        MOST_DELIVERIES,
        DEAD_LETTER,
    ),
    ("vLLM did not answer, the first time", "backend_failed", 1, AGAIN),
    ("the same, the second time", "backend_failed", 2, AGAIN),
    (f"the same, {MOST_DELIVERIES} times by now", "backend_failed", MOST_DELIVERIES, DEAD_LETTER),
    ("the model does not take such a question", "refused", 1, DEAD_LETTER),
)


@_or_sentence
def failure_table(after_failure: Any) -> mo.Html:
    """Failures of a job, and whether it goes round once more."""
    rows = []
    for name, kind, deliveries, right in _FAILURES:
        said = _asked(after_failure, kind, deliveries)
        if said not in (AGAIN, DEAD_LETTER):
            raise _Wrong(f'after_failure says {said!r:.40}: it is "{AGAIN}" or "{DEAD_LETTER}"')
        rows.append((name, right, _held(said == right, said)))
    return card(table(("what happened", "right", "your function"), rows), live=True)


# 2. The cache

_ONE = key_cases.BASE
_PAIRS: tuple[tuple[str, Ask, bool], ...] = (
    ("the same question once more", _ONE, True),
    ("another question", Ask("docs", "a-model", "v1", "course_docs", "What is a taint?"), False),
    ("another model", Ask("docs", "b-model", "v1", "course_docs", "What is a quota?"), False),
    ("another version of the prompt", Ask("docs", "a-model", "v2", "course_docs", "What is a quota?"), False),
    ("another collection", Ask("docs", "a-model", "v1", "new_docs", "What is a quota?"), False),
    ("another tenant", Ask("research", "a-model", "v1", "course_docs", "What is a quota?"), False),
)


@_or_sentence
def key_table(key: Any) -> mo.Html:
    """Pairs of questions: whether the key takes them for one, and whether they are."""
    rows = []
    first = _text(_asked(key, _ONE))
    for name, other, same in _PAIRS:
        is_same = _text(_asked(key, other)) == first
        rows.append(
            (
                name,
                "the stored answer" if same else "an answer of its own",
                _held(is_same == same, "the stored answer" if is_same else "an answer of its own"),
            )
        )
    nothing, *signs = key_cases.SIGNS
    rows += [
        _apart(key, "parts that run together", nothing),
        _apart(key, "or meet at a sign of theirs", *signs),
    ]
    return card(table(("beside “What is a quota?” of docs", "right", "with your key"), rows), live=True)


def _apart(key: Any, name: str, *signs: str) -> tuple[Any, ...]:
    """Two questions whose parts make one text when they are joined by one of these signs."""
    found = [key_cases.run_together(lambda ask: _text(_asked(key, ask)), sign) for sign in signs]
    pair = next((pair for pair in found if pair), None)
    one, other = code(f"docs{signs[0]}x", "a-model"), code("docs", f"x{signs[0]}a-model")
    about = Markup("{}: {} beside {}, and their like").format(name, one, other)
    said = f"one answer for both: {' and '.join(pair)}" if pair else "an answer of its own"
    return about, "an answer of its own", _held(pair is None, said)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _Wrong(f"key says {value!r:.60}: it is a text that is not empty")
    return value


_CHANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
_BASE_S = 600.0


@_or_sentence
def ttl_table(ttl_s: Any) -> mo.Html:
    """When five answers that were stored in one moment are forgotten."""
    ends = [_number(_asked(ttl_s, _BASE_S, chance), "ttl_s", "seconds") for chance in _CHANCES]
    least, most = LEAST_TTL * _BASE_S, MOST_TTL * _BASE_S
    rows = [
        (
            f"chance {chance:g}",
            f"{end:.0f} s",
            _held(least <= end <= most, f"right: {least:.0f} to {most:.0f} s"),
        )
        for chance, end in zip(_CHANCES, ends, strict=True)
    ]
    spread, wanted = max(ends) - min(ends), TTL_SPREAD * _BASE_S
    said = f"the first ends {spread:.0f} s before the last: {wanted:.0f} s at least are asked"
    told = _held(round(spread, 6) >= wanted, said)
    head = Markup("<small>Stored in one moment, for {} s by the settings; </small>{}").format(
        f"{_BASE_S:.0f}", told
    )
    return card(head + table(("answer", "forgotten after", ""), rows), live=True)


# What the page says of a pair: question asked, similarity, whether the stored answer fits. Measured with the embedder's
# own model, all-MiniLM-L6-v2 with int8 weights.
_STORED = Ask("docs", "a-model", "v1", "course_docs", "How do I turn the cache on?")
_SHARED: tuple[tuple[str, Ask, float, bool], ...] = (
    (
        "“How can I turn on the cache?”, 0.986",
        Ask("docs", "a-model", "v1", "course_docs", "How can I turn on the cache?"),
        0.986,
        True,
    ),
    (
        "“How do I turn the cache off?”, 0.892",
        Ask("docs", "a-model", "v1", "course_docs", "How do I turn the cache off?"),
        0.892,
        False,
    ),
    (
        "the same words, another tenant, 1.0",
        Ask("research", "a-model", "v1", "course_docs", "How do I turn the cache on?"),
        1.0,
        False,
    ),
    (
        "the same words, another model, 1.0",
        Ask("docs", "b-model", "v1", "course_docs", "How do I turn the cache on?"),
        1.0,
        False,
    ),
    (
        "the same words, another collection, 1.0",
        Ask("docs", "a-model", "v1", "new_docs", "How do I turn the cache on?"),
        1.0,
        False,
    ),
    (
        "the same words, another prompt, 1.0",
        Ask("docs", "a-model", "v2", "course_docs", "How do I turn the cache on?"),
        1.0,
        False,
    ),
)


@_or_sentence
def share_table(may_share: Any) -> mo.Html:
    """Questions that are near a stored one: whether its answer may be given."""
    rows = []
    for name, asker, similarity, right in _SHARED:
        said = _asked(may_share, asker, _STORED, similarity)
        if not isinstance(said, bool):
            raise _Wrong(f"may_share says {said!r:.40}: it is True or False")
        rows.append(
            (name, "yes" if right else "no", _held(said == right, "shared" if said else "answered anew"))
        )
    return card(
        table(
            ("asked, while “How do I turn the cache on?” of docs is stored", "may share", "your function"),
            rows,
        ),
        live=True,
    )


# 3. One flight

_DEADLINES = (5.0, 60.0)


@_or_sentence
def flight_table(lease_s: Any, while_another_works: Any) -> mo.Html:
    """Fifty askers of one cold question: who generates, when all goes well and when the holder dies."""
    rows = []
    for deadline_s in _DEADLINES:
        lease = _number(_asked(lease_s, deadline_s), "lease_s", "seconds")
        said = [_said(_asked(while_another_works, share * lease, lease)) for share in (0.2, 0.9, 1.1)]
        work = f"a generation may take {deadline_s:g} s"
        rows.append((work, f"{lease:g} s", *_flight(deadline_s, lease, *said)))
    return card(table(("", "your lease", "all goes well", "the holder dies"), rows), live=True)


def _said(value: Any) -> str:
    if value not in (WAIT, GENERATE):
        raise _Wrong(f'while_another_works says {value!r:.40}: it is "{WAIT}" or "{GENERATE}"')
    return str(value)


def _flight(deadline_s: float, lease_s: float, early: str, late: str, after: str) -> tuple[Markup, Markup]:
    """What 49 askers do while one generates, and when that one has died and its lease ends.

    Args:
        early, late: what they do while the lease holds; `after` just after its end.
    """
    if lease_s < deadline_s:
        meanwhile = _held(False, "the lease ends while its holder works: a second generation")
    elif GENERATE in (early, late):
        meanwhile = _held(False, "the others do not wait: up to 50 generations")
    else:
        meanwhile = _held(True, "the others wait: 1 generation")
    if GENERATE in (early, late):
        died = _held(False, "nobody has waited: up to 50 generations")
    elif lease_s > MOST_LEASES * deadline_s:
        died = _held(False, f"all wait {lease_s:g} s for somebody who is gone")
    elif after == GENERATE:
        died = _held(False, "all 49 begin in the moment in which the lease ends")
    else:
        died = _held(True, f"after {lease_s:g} s one takes the lease over: 1 more")
    return meanwhile, died
