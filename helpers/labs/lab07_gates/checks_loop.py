"""Checks of part 8: a failing trace becomes a row, and the row stops the release that caused it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from helpers.apps.evals import rows
from helpers.grading import Verdict, falls_short, not_attempted
from helpers.labs import witnessing
from helpers.labs.lab07_gates import regression, witness_gate, witness_gate_program
from helpers.labs.lab07_gates.checks_gate import LEAST_COUNT, witnessed
from helpers.labs.lab07_gates.lab import lab
from helpers.labs.witnessing import NoRecord, several
from helpers.stack import evals, releases, traces

if TYPE_CHECKING:
    from helpers.cluster import ClusterView

SOURCE = "trace:"
# Whose questions the witness `users` asks.
USERS = "users"


@lab.check("loop.row", points=3, task="loop", timeout_s=15)
def a_trace_became_a_row(cluster: ClusterView) -> Verdict:
    """A row of the regression set comes from a trace that Phoenix holds: its question, and the passage that a right answer needs.

    Why: A failure that is not kept as a row comes back with the next release, and with another name.
    Hint: Find the users' question in Phoenix, and look at which passages were retrieved. Which one of the corpus is missing?
    Next: course witness users
    """
    found = [row for row in regression.regression_rows(cluster) if row.source.startswith(SOURCE)]
    if not found:
        return not_attempted("a regression row with `source: trace:…`", "no row comes from a trace")
    asked = _asked_by_users(cluster)
    if isinstance(asked, Verdict):
        return asked
    by_users = (item for item in found if _trace(item) in asked or _of_users(cluster, _trace(item)))
    row = next(by_users, None)
    is_users, row = row is not None, row or found[-1]
    trace = _trace(row)
    flaws = [flaw for flaw in rows.hygiene(evals.sets_in(cluster)) if f"({row.id})" in flaw.where]
    return several(
        (
            is_users,
            "a trace of the users' questions",
            f"{row.id}: no user's question has the trace {trace[:12]}",
        ),
        (
            not is_users or trace not in asked or bool(traces.of_trace(cluster, trace)),
            "a trace that Phoenix holds",
            f"{row.id}: Phoenix has no trace {trace[:12]}",
        ),
        (
            rows.normal(row.question) == rows.normal(releases.LOST_QUESTION),
            "the question that was asked",
            f"{row.id} asks something else than the trace",
        ),
        (
            releases.LOST_KEY in row.chunks,
            "the passage that a right answer needs",
            f"{row.id} expects {', '.join(row.chunks) or 'no passage'}, and that does not answer it",
        ),
        (not flaws, "a clean row", str(flaws[0]) if flaws else ""),
    )


def _asked_by_users(cluster: ClusterView) -> set[str] | Verdict:
    """The traces of the users' day, by the name of the pod that asked."""
    book, name = witness_gate.BOOK, "users"
    again = f"course witness {name}"
    try:
        record = book.record(cluster, name)
    except NoRecord as missing:
        return witnessing.without_record(missing, "a day of users")
    if record.error:
        return falls_short("a release that can be asked", record.error, record.job).next(again)
    pod = witnessing.own_pod(cluster, book.witnesses[name], record.job)
    return {
        witness_gate_program.trace_id(pod.name if pod else "", number)
        for number in range(witness_gate_program.USERS)
    }


def _trace(row: rows.Row) -> str:
    return row.source.removeprefix(SOURCE).strip()


def _of_users(cluster: ClusterView, trace: str) -> bool:
    """Whether Phoenix has it as a question of the users': of a day before the last one, whose pod is gone."""
    tree = traces.of_trace(cluster, trace) if trace else None
    root = tree.root if tree else None
    return root is not None and root.attributes.get(traces.TENANT) == USERS


@lab.check("loop.stops", points=3, task="loop")
@witnessed("loop")
def the_row_stops_that_release(cluster: ClusterView, seen: Mapping[str, Any]) -> Verdict:
    """The release that lost a page passed the gate without the row, is stopped with it, and by it; a release that has the page passes.

    Why: The gate that let it through once must not do so twice, and must not pay for that by stopping everything.
    Hint: Rows of the regression set are judged one by one: `every` in gate.yaml says by which metrics.
    Next: course witness loop
    """
    before, after, stable = (seen[name] for name in ("before", "after", "stable"))
    told = {"without the row": (before, [0, "pass"]), "with the row": (after, [1, "quality"])}
    for words, (run, wanted) in told.items():
        if run[:2] != wanted:  # a gate that always says the same shows nothing here
            return falls_short(
                f"{words}: {wanted[1]}",
                f"{words}: exit code {run[0]}, {run[1] or 'nothing said'}{_list(run[3])}",
            )
    named = [row.id for row in regression.regression_rows(cluster) if row.source.startswith(SOURCE)]
    by_row = [words for words in after[3] if any(words.startswith(f"regression {name} ") for name in named)]
    asked = min(run[2] for run in (before, after, stable))
    return several(
        (bool(by_row), "stopped by that row", f"stopped by {', '.join(after[3]) or 'nothing'}"),
        (
            stable[:2] == [0, "pass"],
            "a release that has the page passes",
            f"the stable release: exit code {stable[0]}, {stable[1] or 'nothing said'}{_list(stable[3])}",
        ),
        (asked >= LEAST_COUNT, "the canary was asked", f"the canary was asked {asked} questions"),
    )


def _list(failed: list[str]) -> str:
    return f" ({', '.join(failed)})" if failed else ""
