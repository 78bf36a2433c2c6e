"""Grading a class on fakes: everybody once, nobody for another's trouble, nothing lost on the way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from helpers.classroom.marking.marking import WrongCluster, mark
from helpers.classroom.marking.observed import Observed
from helpers.classroom.marking.runs import GradingBusy, NothingToResume, Run, only_grader
from helpers.classroom.marking.scheduler import KNOCK_S, PATIENCE_S, Place, Scheduler, Seen
from helpers.classroom.records.history import History
from helpers.cluster import Cluster
from helpers.cluster.fake import FakeCluster
from helpers.errors import ClusterUnreachable, Forbidden, NoClusterChosen
from helpers.evidence import Evidence
from helpers.grading import Lab, Report, Verdict, expect, grade
from helpers.grading.engine import environment_report
from helpers.grading.journal import journal_for
from helpers.grading.testing import VirtualRuntime
from helpers.grading.verdict import Status
from tests.unit.class_world import Room, do, graded, room, statuses, tiny_lab

SEAT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "course-seat", "namespace": "llm-apps"}}


def unreachable() -> Cluster:
    raise ClusterUnreachable("nobody answers there")


@pytest.fixture
def folder(tmp_path: Path) -> Room:
    """Good, partial, wrong and absent learners on one cluster, and one whose own cluster is dead."""
    made = room(tmp_path / "class", "good", "partial", "wrong", "absent", own={"dead": unreachable})
    do(made.of("good"), "yes", moment="now")
    do(made.of("partial"), "yes")
    do(made.of("wrong"), "no", moment="never")
    return made


def test_everybody_gets_the_verdicts_that_are_theirs(folder: Room) -> None:
    found = graded(folder)
    assert {name: statuses(item) for name, item in found.items()} == {
        "good": "PASS PASS PASS",
        "partial": "PASS PASS FAIL",
        "wrong": "PASS FAIL FAIL",
        "absent": "NOT_ATTEMPTED BLOCKED BLOCKED",
        "dead": "ENV_ERROR ENV_ERROR ENV_ERROR",
    }
    assert {name: item.report.exit_code for name, item in found.items() if name in ("good", "dead")} == {
        "good": 0,
        "dead": 2,
    }
    assert "nobody answers there" in found["dead"].report.verdicts[0].observed


def test_what_is_kept_is_attested_signed_and_bound_to_its_learner(folder: Room) -> None:
    kept = graded(folder)["good"].attempt
    member = folder.member("good")
    assert kept.report.attested_by and kept.document["signature"]["value"]
    assert kept.report.binding and kept.report.binding.nonce == member.nonce
    assert (kept.report.binding.learner, kept.report.binding.scope) == ("good", member.suffix)
    assert kept.path.parent == folder.history_dir(member)


def test_grading_again_without_a_change_adds_nothing(folder: Room) -> None:
    assert all(item.is_new for item in graded(folder).values())
    assert not any(item.is_new for item in graded(folder).values())
    do(folder.of("wrong"), "yes")
    again = graded(folder)
    assert [name for name, item in again.items() if item.is_new] == ["wrong"]
    assert len(History(folder.history_dir(folder.member("wrong"))).attempts()) == 2


def test_an_interrupted_run_goes_on_where_it_was_and_grades_nobody_twice(folder: Room) -> None:
    lab, looked = counting_lab()
    run = Run.begin(folder.path, ["01"], ["good", "partial", "wrong", "absent"], {})
    members = [folder.member(name) for name in run.learners]
    marking = mark(folder, run, members, lambda member: [lab], jobs=1)
    first = [next(marking).member.learner.id for _ in range(2)]
    marking.close()  # what Ctrl-C does between two learners
    assert len(History(folder.history_dir(folder.member(first[0]))).attempts()) == 1
    resumed = Run.last_unfinished(folder.path)
    assert resumed == run and set(resumed.left()) == set(run.learners) - set(first)
    looked.clear()
    rest = graded(folder, lab=lab, run=resumed)
    assert set(rest) == set(resumed.learners) - set(first) and not set(first) & set(looked)
    with pytest.raises(NothingToResume):
        Run.last_unfinished(folder.path)


def counting_lab() -> tuple[Lab, list[str]]:
    """A lab that notes whom it looked at."""
    lab, looked = Lab("01", "Counting"), []

    @lab.check("seen")
    def look(cluster: Any) -> Verdict:
        """It is looked at."""
        looked.append(cluster.scope.suffix)
        return expect(1, equals=1)

    return lab, looked


def test_who_could_not_be_judged_is_left_for_the_next_time(folder: Room) -> None:
    graded(folder)
    assert Run.last_unfinished(folder.path).left() == ["dead"]
    mended = FakeCluster()
    do(mended, "yes", moment="now")
    folder.own["dead"] = lambda: mended
    found = graded(folder, run=Run.last_unfinished(folder.path))
    assert list(found) == ["dead"] and statuses(found["dead"]) == "PASS PASS PASS"


def test_a_line_that_was_cut_short_is_as_if_it_had_not_been_written(folder: Room) -> None:
    run = Run.begin(folder.path, ["01"], ["good", "wrong"], {})
    run.record("good", 1, broken=False)
    with run.path.open("a") as file:
        file.write('{"learner": "wrong", "att')
    assert Run.last_unfinished(folder.path).left() == ["wrong"]
    run.record("wrong", 1, broken=False)
    assert run.left() == []


def test_a_second_grader_is_sent_away(folder: Room) -> None:
    with only_grader(folder.path), pytest.raises(GradingBusy), only_grader(folder.path):
        pass


# Learners who cheat


def test_a_forged_journal_of_the_learners_own_is_not_read(folder: Room, tmp_path: Path) -> None:
    cluster = folder.of("partial")
    uid = cluster.identity().uid
    found = cluster.view().get("ConfigMap", "work", "llm-apps").evidence()
    lie = Verdict(Status.PASS, "now", "now", credit=1.0, evidence=(found,))
    journal = journal_for("01", uid, suffix=cluster.scope.suffix, home=tmp_path / "learner")
    journal.record("once", lie, datetime.now(UTC))
    own = grade([tiny_lab()], cluster, journals=tmp_path / "learner")
    assert own.exit_code == 0, "the learner's own run believes the journal: it is a claim"
    assert statuses(graded(folder)["partial"]) == "PASS PASS FAIL"


def test_what_the_instructor_saw_once_stays_seen(folder: Room) -> None:
    graded(folder)
    do(folder.of("good"), "yes", moment="over")
    assert statuses(graded(folder)["good"]) == "PASS PASS PASS"


def test_a_seat_that_was_deleted_changes_nothing(folder: Room) -> None:
    cluster = folder.of("good")
    cluster.apply({**SEAT, "data": {"learner": "good", "class": "class", "nonce": "made up"}})
    assert statuses(graded(folder)["good"]) == "PASS PASS PASS"
    cluster.delete("ConfigMap", "course-seat", "llm-apps")
    assert statuses(graded(folder)["good"]) == "PASS PASS PASS"


def test_a_neighbours_cluster_handed_in_as_ones_own_is_not_graded(tmp_path: Path) -> None:
    one = FakeCluster()
    do(one, "yes", moment="now")
    made = room(tmp_path / "class", own={"ada": lambda: one, "copycat": lambda: Cluster(one.backend)})
    found = graded(made, jobs=1)
    broken = [item for item in found.values() if item.is_broken]
    assert len(broken) == 1 and "one of them is not theirs" in broken[0].report.verdicts[0].observed
    one.apply({**SEAT, "data": {"learner": "ada", "class": "class", "nonce": "n"}})
    found = graded(made, jobs=1)
    assert statuses(found["ada"]) == "PASS PASS PASS"
    assert "the seat in this cluster is ada's" in found["copycat"].report.verdicts[0].observed


def test_another_cluster_in_place_of_the_shared_one_grades_nobody(folder: Room) -> None:
    other = FakeCluster()
    folder.shared.backend.objects = other.backend.objects
    found = graded(folder, learners=["good"])
    assert "is another one" in found["good"].report.verdicts[0].observed


# The environment


def test_an_api_server_killed_in_the_middle_costs_no_learner_a_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After thirty requests the server is killed; the next fifteen fail; then it is back."""
    monkeypatch.setattr("helpers.classroom.marking.scheduler.KNOCK_AGAIN_S", 0.01)
    made = room(tmp_path / "class", *(f"s{number}" for number in range(8)))
    for member in made.members:
        do(made.instructor_cluster(member), "yes", moment="now")
    asked: list[str] = []
    lock = threading.Lock()

    def die(method: str, path: str) -> None:
        with lock:
            asked.append(path)
            if 30 < len(asked) <= 45:
                raise ClusterUnreachable("the API server was killed")

    made.shared.fail_with(die)
    found = graded(made, per_server=2)
    assert {statuses(item) for item in found.values()} == {"PASS PASS PASS"}
    assert {len(History(made.history_dir(member)).attempts()) for member in made.members} == {1}


def test_two_hundred_learners_are_graded_each_in_their_own_namespaces(tmp_path: Path) -> None:
    names = [f"s{number:03d}" for number in range(200)]
    made = room(tmp_path / "class", *names)
    for number, member in enumerate(made.members):
        if number % 4:
            do(made.instructor_cluster(member), "yes" if number % 2 else "no")
    found = graded(made, lab=one_check())
    expected = {0: "NOT_ATTEMPTED", 1: "PASS", 2: "FAIL", 3: "PASS"}
    assert {name: statuses(item) for name, item in found.items()} == {
        name: expected[number % 4] for number, name in enumerate(names)
    }


def one_check() -> Lab:
    lab = Lab("01", "One")

    @lab.check("right", timeout_s=60)
    def right(cluster: Any) -> Verdict:
        """The work says yes."""
        return expect(cluster.get("ConfigMap", "work", "llm-apps").path("data.answer"), equals="yes")

    return lab


def test_a_broken_environment_does_not_hide_what_was_known(folder: Room) -> None:
    graded(folder)
    folder.shared.fail_with(lambda method, path: unreachable_when(path, "configmaps/work"))
    found = graded(folder, learners=["good"], deadline_s=3)
    assert found["good"].is_broken
    seen = Observed(folder.path, folder.member("good").key).labs()["01"].checks["right"]
    assert seen.status == "PASS" and "gone" in seen.broken


def unreachable_when(path: str, part: str) -> None:
    if part in path:
        raise ClusterUnreachable("gone")


# The scheduler, in virtual time


def fine() -> Report:
    lab = Lab("01", "Fine")

    @lab.check("fine")
    def look(cluster: Any) -> Verdict:
        """Fine."""
        return expect(1, equals=1)

    return grade([lab], FakeCluster(), runtime=VirtualRuntime())


FINE, BROKEN = fine(), environment_report([tiny_lab()], ClusterUnreachable("away"))
Look = Callable[[str, Cluster, float], Report]


class Hall:
    """Learners "server/name" on fake servers, and a log of who was looked at when."""

    def __init__(self, look: Look | None = None, **opens: Callable[[], Cluster]) -> None:
        self.runtime = VirtualRuntime()
        self.log: list[tuple[float, str]] = []
        self.most: dict[str, int] = {}
        self._look, self._opens = look, opens

    def run(self, *names: str, seconds: float = 1.0, **options: Any) -> dict[str, tuple[Seen[str], float]]:
        """Everybody's result, and when it came."""
        places = [Place(name, name.partition("/")[0], self._open(name.partition("/")[0])) for name in names]

        def look(who: str, cluster: Cluster, left_s: float) -> Report:
            self.log.append((self.runtime.monotonic(), who))
            self.runtime.sleep(seconds)
            return self._look(who, cluster, left_s) if self._look else FINE

        options = {"deadline_s": 60.0, "runtime": self.runtime, **options}
        scheduler = Scheduler(places, look, **options)
        return {seen.who: (seen, self.runtime.monotonic()) for seen in scheduler.results()}

    def _open(self, server: str) -> Callable[[], Cluster]:
        return self._opens.get(server, FakeCluster)

    def starts(self) -> list[float]:
        return [at for at, _ in self.log]


def test_no_api_server_is_asked_by_more_than_its_share() -> None:
    hall = Hall()
    found = hall.run(*(f"one/{number}" for number in range(10)), per_server=2, jobs=12)
    assert len(found) == 10 and sorted(hall.starts()) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_all_servers_together_are_asked_by_no_more_than_the_jobs() -> None:
    hall = Hall()
    hall.run(*(f"{server}/x" for server in "abcdefghi"), jobs=3)
    assert sorted(hall.starts()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def slow_and_dead(runtime: VirtualRuntime) -> Callable[[], Cluster]:
    def open_() -> Cluster:
        runtime.sleep(KNOCK_S)
        raise ClusterUnreachable("did not answer")

    return open_


def test_dead_clusters_cost_their_own_time_out_and_nobody_elses() -> None:
    hall = Hall()
    dead = {f"dead{number}": slow_and_dead(hall.runtime) for number in range(30)}
    hall._opens = dead
    found = hall.run(*(f"{name}/x" for name in dead), *(f"alive/{number}" for number in range(4)), jobs=4)
    alive = [at for who, (_, at) in found.items() if who.startswith("alive")]
    gone = [(seen, at) for who, (seen, at) in found.items() if who.startswith("dead")]
    assert max(alive) == 1
    assert {at for _, at in gone} == {KNOCK_S}
    assert all(isinstance(seen.fault, ClusterUnreachable) and seen.report is None for seen, _ in gone)


def test_a_cluster_that_cannot_even_be_found_says_so() -> None:
    def nowhere() -> Cluster:
        raise NoClusterChosen("there is no kubeconfig")

    found = Hall(lost=nowhere).run("lost/a", "lost/b", "fine/c")
    assert str(found["lost/a"][0].fault) == str(found["lost/b"][0].fault) == "there is no kubeconfig"
    assert found["fine/c"][0].report is FINE


def test_a_knock_that_never_ends_is_not_waited_for() -> None:
    hall = Hall()

    def stuck() -> Cluster:
        hall.runtime.sleep(10_000)
        return FakeCluster()

    hall._opens = {"stuck": stuck}
    found = hall.run("stuck/a", "fine/b")
    assert isinstance(found["stuck/a"][0].fault, ClusterUnreachable) and found["stuck/a"][1] < 15
    assert found["fine/b"][1] == 1


def away_between(
    runtime: VirtualRuntime, start: float, end: float, fault: Exception
) -> Callable[[], Cluster]:
    """A server that is away between two moments; before and after it answers."""
    fake = FakeCluster()

    def answer(method: str, path: str) -> None:
        if start <= runtime.monotonic() < end:
            raise fault

    fake.fail_with(answer)
    return lambda: fake


@pytest.mark.parametrize(
    "fault", [ClusterUnreachable("away"), Forbidden("no roles yet")], ids=["down", "starting"]
)
def test_a_server_that_comes_back_is_waited_for_and_its_learners_looked_at_again(fault: Exception) -> None:
    hall = Hall()

    def look(who: str, cluster: Cluster, left_s: float) -> Report:
        try:
            cluster.view().get("Namespace", "kube-system")
        except (ClusterUnreachable, Forbidden):
            return BROKEN
        return FINE

    hall._look = look
    hall._opens = {"one": away_between(hall.runtime, 0.5, 10, fault)}
    found = hall.run("one/a", "one/b", "one/c", "two/d", per_server=2)
    assert all(seen.report is FINE for seen, _ in found.values())
    assert [found[f"one/{name}"][0].looks for name in "ab"] == [2, 2]
    assert found["two/d"][1] == 1, "the other server's learner waited for nobody"


def test_a_server_that_stays_away_is_given_up_after_a_while() -> None:
    hall = Hall(look=lambda who, cluster, left_s: BROKEN)
    hall._opens = {"one": away_between(hall.runtime, 0.5, 10_000, ClusterUnreachable("away"))}
    found = hall.run(*(f"one/{number}" for number in range(6)), per_server=2)
    assert len(found) == 6 and all(seen.fault or seen.report is BROKEN for seen, _ in found.values())
    assert max(at for _, at in found.values()) < PATIENCE_S + 5
    assert len(hall.log) == 2, "nobody was looked at while it was away"


def test_one_learners_trouble_is_looked_at_once_more_within_one_deadline() -> None:
    left: list[float] = []

    def look(who: str, cluster: Cluster, left_s: float) -> Report:
        left.append(left_s)
        return BROKEN

    found = Hall(look=look).run("one/a", seconds=20, deadline_s=30)
    assert left == [30, 10] and found["one/a"][0].looks == 2


def test_trouble_halves_what_a_server_is_asked_and_success_brings_it_back() -> None:
    hall = Hall()
    seen: list[str] = []

    def look(who: str, cluster: Cluster, left_s: float) -> Report:
        seen.append(who)
        return BROKEN if len(seen) <= 4 else FINE

    hall._look = look
    found = hall.run(*(f"one/{number:02d}" for number in range(20)), per_server=4)
    starts = sorted(hall.starts())
    together = [starts.count(moment) for moment in sorted(set(starts))]
    assert together[0] == 4 and together[1] == 1 and max(together[2:]) > 1
    assert all(item.report is FINE for item, _ in found.values())


def test_a_look_that_never_ends_frees_its_place() -> None:
    def look(who: str, cluster: Cluster, left_s: float) -> Report:
        if who == "one/stuck":
            hall.runtime.sleep(10_000)
        return FINE

    hall = Hall(look=look)
    found = hall.run("one/stuck", "one/fine", per_server=1, deadline_s=30)
    assert isinstance(found["one/stuck"][0].fault, ClusterUnreachable)
    assert found["one/fine"][0].report is FINE and found["one/fine"][1] < 40


def test_a_bug_in_the_grader_is_one_learners_and_goes_to_the_log(tmp_path: Path) -> None:
    def look(who: str, cluster: Cluster, left_s: float) -> Report:
        if who == "one/a":
            raise ZeroDivisionError("division by zero")
        raise WrongCluster("not theirs") if who == "one/b" else ClusterUnreachable("x")

    found = Hall(look=look).run("one/a", "one/b")
    assert "the grader itself failed: ZeroDivisionError" in str(found["one/a"][0].fault)
    assert str(found["one/b"][0].fault) == "not theirs"


def test_evidence_and_reports_survive_the_way_to_disk(folder: Room) -> None:
    kept = graded(folder)["good"].attempt
    again = Report.from_json(json.dumps(dict(kept.document)))
    marks: Sequence[Evidence] = again.verdicts[0].evidence
    assert marks and marks[0].uid and marks[0].resource_version and again == kept.report
