"""Attempts are kept whole and once; the late policy decides what they are worth, to the second."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from helpers.classroom.records.history import Attempt, History, NotWhole, Standing, standing
from helpers.classroom.records.late_policy import (
    LabPolicy,
    Policy,
    PolicyInvalid,
    load_policy,
    moment,
    said,
    save_policy,
)
from helpers.errors import EnvironmentFault
from helpers.evidence import Evidence
from helpers.grading.declare import Check
from helpers.grading.report import Binding, CheckResult, ClusterFacts, CourseVersion, Report
from helpers.grading.verdict import Status, Verdict

DUE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
CHECK = Check("quota.gpu", "01", lambda cluster: Verdict(Status.PASS), "One GPU.", points=4)
OTHER = Check("label", "01", lambda cluster: Verdict(Status.PASS), "One label.", points=6)


def seen(uid: str = "u", version: str = "7", kind: str = "ResourceQuota") -> Evidence:
    return Evidence(kind, "q", "llm-system", uid, version, observed_at=DUE.isoformat())


def passing(*evidence: Evidence) -> Verdict:
    return Verdict(Status.PASS, "1", "1", credit=1.0, evidence=evidence or (seen(),))


def failing(observed: str = "2") -> Verdict:
    return Verdict(Status.FAIL, "1", observed, evidence=(seen(),))


def broken() -> Verdict:
    return Verdict(Status.ENV_ERROR, "1", "the API server did not answer")


def report(at: datetime, first: Verdict, second: Verdict | None = None, **changes: Any) -> dict[str, Any]:
    results = [CheckResult.of(CHECK, first, 0.1), CheckResult.of(OTHER, second or failing(), 0.1)]
    whole = Report(
        lab="01",
        cluster=ClusterFacts("uid", "v1.36.3", "embedded", "simulated"),
        graded_at=at.isoformat(),
        duration_s=0.8,
        verdicts=tuple(results),
        course=CourseVersion("0.1.0", "abc"),
        binding=Binding("class", "ada", "n" * 32, "ada"),
    )
    return replace(whole, **changes).to_dict()


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "ada")


def place(history: History, **dates: Any) -> Standing:
    count = dates.pop("count", "best")
    return standing(history.attempts(), "01", Policy(count, {"01": LabPolicy(**dates)}))


def test_an_attempt_is_kept_as_it_came(history: History) -> None:
    document = {**report(DUE, passing()), "signature": {"value": "abc"}}
    kept = history.add("attested", document)
    assert (kept.number, kept.kind, kept.submitted_at, kept.graded_at) == (1, "attested", DUE, DUE)
    assert history.attempts() == [kept] and dict(kept.document) == json.loads(json.dumps(document))
    assert kept.path.stat().st_mode & 0o777 == 0o600


def test_the_same_observation_again_adds_nothing_and_is_remembered(history: History) -> None:
    first = history.add("attested", report(DUE, failing("2")))
    newer = CourseVersion("0.1.0", "def")
    again = history.add("attested", report(DUE + DAY, failing("still 2"), duration_s=3.0, course=newer))
    assert again.number == first.number and len(history.attempts()) == 1
    assert history.last_seen(first) == DUE + DAY


@pytest.mark.parametrize(
    "changed",
    [
        report(DUE, passing()),
        report(DUE, failing(), failing(), binding=Binding("class", "ada", "m" * 32, "ada")),
        report(
            DUE, failing(), failing(), cluster=ClusterFacts("another", "v1.36.3", "embedded", "simulated")
        ),
        report(DUE, Verdict(Status.FAIL, "1", "2", evidence=(seen("another"),))),
        report(DUE, Verdict(Status.FAIL, "1", "2", evidence=(seen(version="8"),))),
    ],
    ids=["verdict", "nonce", "cluster", "object", "version of an object"],
)
def test_whatever_changes_is_a_new_attempt(history: History, changed: dict[str, Any]) -> None:
    history.add("attested", report(DUE, failing()))
    assert history.add("attested", changed).number == 2


def test_a_nodes_heartbeat_is_no_change(history: History) -> None:
    history.add("attested", report(DUE, passing(seen(kind="Node", version="7"))))
    assert history.add("attested", report(DUE, passing(seen(kind="Node", version="99")))).number == 1


def test_going_back_to_an_earlier_state_is_an_attempt_of_its_own(history: History) -> None:
    for verdict in (passing(), failing(), passing()):
        history.add("attested", report(DUE, verdict))
    assert [item.report.earned for item in history.attempts()] == [4, 0, 4]


def test_an_attempt_is_never_written_over(history: History) -> None:
    first = history.add("attested", report(DUE, passing()))
    text = first.path.read_text()
    with pytest.raises(FileExistsError):
        history._append({"report": {}}, 1)
    assert first.path.read_text() == text and not list(history.folder.glob(".attempt*"))


def test_a_damaged_attempt_is_told_and_not_skipped(history: History) -> None:
    kept = history.add("attested", report(DUE, passing()))
    kept.path.write_text(kept.path.read_text()[:100])
    with pytest.raises(EnvironmentFault, match="damaged"):
        history.attempts()


def test_a_run_of_some_checks_is_never_an_attempt(history: History) -> None:
    with pytest.raises(NotWhole):
        history.add("attested", report(DUE, passing(), only=("quota.gpu",)))
    history.add("claim", report(DUE, passing(), only=("quota.gpu",)))
    assert place(history).counted is None


def test_a_broken_environment_is_kept_and_costs_nothing(history: History) -> None:
    history.add("attested", report(DUE, passing()))
    history.add("attested", report(DUE + DAY, broken(), broken()))
    found = place(history, count="latest")
    assert found.latest and (found.latest.attempt, found.latest.earned, found.attempts) == (1, 4, 1)


@pytest.mark.parametrize(
    ("late", "days", "score"),
    [
        (-SECOND, 0, 10),
        (timedelta(0), 0, 10),
        (SECOND, 1, 9),
        (DAY, 1, 9),
        (DAY + SECOND, 2, 8),
        (5 * DAY, 5, 5),
        (5 * DAY + SECOND, 6, 0),
    ],
    ids=["before", "to the second", "a second late", "a day", "a day and a second", "cut-off", "past it"],
)
def test_lateness_counts_in_days_begun_until_the_cut_off(
    history: History, late: timedelta, days: int, score: float
) -> None:
    history.add("attested", report(DUE + late, passing(), passing()))
    counted = place(history, due=DUE, cutoff=DUE + 5 * DAY, penalty_per_day=10).counted
    assert counted and (counted.late_days, counted.score, counted.earned) == (days, score, 10)


def test_within_the_grace_nothing_is_late_and_past_it_all_of_it_is() -> None:
    dates = LabPolicy(due=DUE, grace_minutes=10)
    assert dates.late_days(DUE + timedelta(minutes=10)) == 0
    assert dates.late_days(DUE + timedelta(minutes=10, seconds=1)) == 1


def test_a_penalty_never_makes_a_grade_negative() -> None:
    assert LabPolicy(due=DUE, penalty_per_day=60).share(DUE + 3 * DAY) == 0.0


def test_best_is_best_after_the_penalty_and_latest_is_the_newest(history: History) -> None:
    history.add("attested", report(DUE, passing(), failing()))  # 4 points on time
    history.add("attested", report(DUE + DAY, passing(), passing()))  # 10 points, half of them lost
    history.add("attested", report(DUE + 2 * DAY, failing(), failing()))
    best = place(history, due=DUE, penalty_per_day=50)
    assert best.best and (best.best.attempt, best.best.score) == (2, 5)
    assert best.latest and best.latest.attempt == 3 and best.counted == best.best
    harder = place(history, due=DUE, penalty_per_day=70)
    assert harder.best and (harder.best.attempt, harder.best.score) == (1, 4)
    latest = place(history, due=DUE, penalty_per_day=50, count="latest")
    assert latest.counted and latest.counted.attempt == 3


def handed_in(history: History, document: dict[str, Any], at: datetime) -> Attempt:
    return history.add("claim", document, submitted_at=at)


def test_a_claim_is_kept_beside_the_attempts_and_never_graded(history: History) -> None:
    handed_in(history, report(DUE, passing(), passing()), DUE)
    found = place(history)
    assert (found.counted, found.claims, found.attempts) == (None, 1, 0)


def test_a_claim_that_names_the_objects_found_later_shows_when_they_were_there(history: History) -> None:
    handed_in(history, report(DUE - DAY, passing(), passing()), DUE)
    history.add("attested", report(DUE + 3 * DAY, passing(), passing()))
    counted = place(history, due=DUE, penalty_per_day=10).counted
    assert counted and (counted.submitted_at, counted.graded_at) == (DUE, DUE + 3 * DAY)
    assert (counted.late_days, counted.score, counted.backed_by_claim) == (0, 10, 1)


@pytest.mark.parametrize(
    "forged",
    [
        report(DUE, passing(seen("made-up")), passing(seen("made-up"))),
        report(DUE, passing(seen(version="6")), passing(seen(version="6"))),
        report(DUE, passing(), failing()),
        report(DUE, passing(seen(kind="Node")), passing(seen(kind="Node"))),
        report(DUE, passing(), passing(), cluster=ClusterFacts("another", "v1", "embedded", "simulated")),
    ],
    ids=["other uids", "objects changed since", "less was earned", "another kind", "another cluster"],
)
def test_a_claim_that_knows_other_objects_moves_nothing(history: History, forged: dict[str, Any]) -> None:
    handed_in(history, forged, DUE)
    history.add("attested", report(DUE + 3 * DAY, passing(), passing()))
    counted = place(history, due=DUE).counted
    assert counted and counted.submitted_at == DUE + 3 * DAY and counted.backed_by_claim is None


def test_a_claim_handed_in_after_the_observation_moves_nothing(history: History) -> None:
    history.add("attested", report(DUE + DAY, passing(), passing()))
    handed_in(history, report(DUE, passing(), passing()), DUE + 2 * DAY)
    counted = place(history).counted
    assert counted and counted.submitted_at == DUE + DAY


def test_the_policy_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    assert load_policy(path) == Policy()
    rules = Policy("latest", {"01": LabPolicy(DUE, DUE + DAY, 10, 12.5), "02": LabPolicy()})
    save_policy(path, rules)
    assert load_policy(path) == rules


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("count = ", "cannot be read"),
        ('count = "worst"', "best"),
        ("[labs.01]\ndue = 2026-03-01T12:00:00", "zone"),
        ("[labs.01]\ndue = 2026-03-01", "zone"),
        ('time_zone = "Rome"', "'Rome' is not a time zone"),
        ("time_zone = 3", "3 is not a time zone"),
        ("[labs.01]\npenalty_per_day = -1", "not negative"),
        ("[labs.01]\npenalty_per_day = nan", "not negative"),
        ("[labs.01]\ndeu = 2026-03-01T12:00:00Z", "deu"),
        ("[labs.01]\ndue = 2026-03-02T00:00:00Z\ncutoff = 2026-03-01T00:00:00Z", "before the due date"),
        ("labs = 3", "tables"),
        ("due = 2026-03-01T12:00:00Z", "'due'"),
    ],
)
def test_a_policy_that_cannot_be_followed_says_why(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    with pytest.raises(PolicyInvalid, match=words):
        load_policy(path)


@pytest.mark.parametrize("text", ["2026-12-01", " 2026-12-01 ", "20261201"])
def test_a_day_is_meant_to_its_end_where_the_class_is(text: str) -> None:
    due = moment(text, time_zone="Europe/Rome")
    assert due.isoformat() == "2026-12-01T23:59:59+01:00"
    assert LabPolicy(due=due).late_days(datetime(2026, 12, 1, 22, 30, tzinfo=UTC)) == 0
    assert LabPolicy(due=due).late_days(datetime(2026, 12, 1, 23, 0, 1, tzinfo=UTC)) == 1
    assert (moment(text).hour, moment(text).minute) == (23, 59), "this machine's zone, where none is given"


def test_summer_time_is_that_of_the_day_not_of_now() -> None:
    assert moment("2026-07-01", time_zone="Europe/Rome").isoformat() == "2026-07-01T23:59:59+02:00"
    assert moment("2026-12-01T18:00", time_zone="Europe/Rome").isoformat() == "2026-12-01T18:00:00+01:00"
    assert moment("2026-12-01T18:00Z", time_zone="Europe/Rome") == datetime(2026, 12, 1, 18, tzinfo=UTC)


def test_a_time_in_words_has_its_day_and_zone() -> None:
    assert (
        said(moment("2026-12-01", time_zone="Europe/Rome")) == "Tuesday, 2026-12-01 23:59:59 UTC+01:00 (CET)"
    )
    assert said(DUE) == "Sunday, 2026-03-01 12:00:00 UTC+00:00"


def test_days_in_a_file_are_read_in_the_class_zone_and_written_back_with_it(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('time_zone = "Europe/Rome"\n[labs.01]\ndue = 2026-12-01\ncutoff = 2026-12-08T12:00:00\n')
    rules = load_policy(path)
    assert rules.of("01").due == moment("2026-12-01T23:59:59+01:00")
    save_policy(path, rules)
    assert load_policy(path) == rules and "due = 2026-12-01T23:59:59+01:00" in path.read_text()


def test_dates_out_of_order_are_refused_before_they_are_kept() -> None:
    with pytest.raises(PolicyInvalid, match="before the due date"):
        Policy().with_lab("01", LabPolicy(due=DUE, cutoff=DUE - DAY))


def test_a_time_keeps_its_zone_and_nonsense_is_refused() -> None:
    assert moment("2026-03-01T13:00+01:00") == DUE
    assert moment("2026-03-01T12:00").tzinfo is not None
    with pytest.raises(PolicyInvalid):
        moment("tomorrow")
