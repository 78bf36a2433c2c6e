"""Checks of parts 6 and 7: an incident that was named before its name was told, and the review of the whole stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

from helpers.chaos import incident as incidents
from helpers.chaos.incident_figures import BY_NAME, SIGNS
from helpers.chaos.journal import JournalBroken, Record, published
from helpers.errors import ObjectMissing, ProbeInconclusive
from helpers.grading import Verdict, all_of, expect, expect_true, falls_short, not_attempted
from helpers.labs.lab08_scale.lab import lab
from helpers.review.criteria import review

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.review.answers import Line

# What this lab's own parts bring: where none of it is there yet, nobody has asked for a review.
OF_THIS_LAB = ("targets", "alerts", "scaling")
LEAST_SAMPLES = 3


@lab.check("incident.named", points=4, task="incident", timeout_s=15)
def an_incident_is_named_by_its_figures(cluster: ClusterView) -> Verdict:
    """An incident whose name was never told was diagnosed from its figures, and the diagnosis committed before it was.

    Why: Slow is not broken: every pod is Ready, and only figures say which part is to blame. Who guesses repairs what is whole.
    Hint: What is gone explains what is slow, and what comes in explains what waits. One figure changed that no other incident changes.
    Next: course incident
    """
    try:
        record = published(cluster, incidents.NAME)
    except JournalBroken as error:
        return falls_short("a journal as it was written", str(error))
    except ObjectMissing:
        return not_attempted("the journal of an incident", "no incident was run on this cluster")
    named = record.last("reveal")
    if record.first("inject") is None or named is None:
        return falls_short("an incident that came to its end", "nothing had happened when it ended")
    if incidents.was_told(record):
        said = f"the name of seed {record.header.get('seed')} had been told before: another draw counts"
        return falls_short("an incident whose name had not been told before", said).next("course incident")
    return all_of(_looked(record), _committed(record), _undone(record))


def _looked(record: Record) -> Verdict:
    _, under = incidents.before_and_now(record, last=1000)
    return expect(
        len(under), f"figures were seen under it, {LEAST_SAMPLES} times at least", at_least=LEAST_SAMPLES
    )


def _committed(record: Record) -> Verdict:
    """The diagnosis stands in the journal before the name, and is right in both."""
    said, named = record.first("diagnosis"), record.last("reveal")
    assert named is not None
    if said is None:
        return falls_short("a diagnosis, committed before the name", "none was committed in time")
    answer, cause = said["answer"], str(named["cause"])
    sign = SIGNS[cause]
    figure = BY_NAME[sign.figure]
    before_the_name = said["n"] < named["n"]
    return all_of(
        expect_true(before_the_name, "it was committed before the name", "it came after the name"),
        expect_true(
            answer.get("cause") == cause,
            f"the diagnosis is what happened: {cause}",
            f"the diagnosis is {answer.get('cause') or 'nothing'}, and it was {cause}: {sign.says}",
        ),
        expect_true(
            answer.get("figure") == sign.figure,
            f"and names the figure that tells it: {figure.title}",
            f"the figure is {answer.get('figure') or 'none'}; what tells {cause} is “{figure.title}”",
        ),
    ).summed_up(f"{cause}, by “{figure.title}”, committed before its name was told")


def _undone(record: Record) -> Verdict:
    end = record.last("end") or {}
    return expect_true(
        end.get("steady"),
        "everything serves again after it",
        "not everything served again after it was undone",
    )


@lab.check("review.met", points=4, task="review", timeout_s=40)
def the_stack_passes_its_own_review(cluster: ClusterView) -> Verdict:
    """All twelve criteria of the readiness review are met by the running stack.

    Why: “May it go live?” is answered by the stack or by hope. Each criterion is something that once woke somebody at night.
    Hint: The review names the object and the next command; each criterion names the lab that teaches it.
    Next: course review
    """
    lines = review(cluster)
    unknown = [line for line in lines if line.answer.standing == "unknown"]
    if unknown:
        raise ProbeInconclusive(
            f"{unknown[0].criterion.id}: {unknown[0].answer.seen}", next_command="course review"
        )
    if not any(line.is_met for line in lines if line.criterion.id in OF_THIS_LAB):
        return not_attempted(
            "a stack with its monitors, its alerts and its scalers", "none of the three is met yet"
        )
    return all_of(*map(_line, lines)).summed_up(f"all {len(lines)} criteria are met")


def _line(line: Line) -> Verdict:
    about, answer = line.criterion, line.answer
    return expect_true(line.is_met, about.asks, f"{about.id}: {answer.seen}").next(answer.next)
