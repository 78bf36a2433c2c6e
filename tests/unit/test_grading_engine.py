"""The engine on a tiny lab, in virtual time: what every outcome of a check becomes in the Report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.cluster.deadline import Deadline
from helpers.cluster.resource import Resource
from helpers.errors import ClusterUnreachable, Forbidden, ObjectMissing, ServerFault
from helpers.evidence import Evidence
from helpers.grading import DeclarationError, Lab, Status, Verdict, expect, grade, not_attempted
from helpers.grading.engine import PARALLEL, NothingSelected, environment_report
from helpers.grading.report import CheckResult, Report
from helpers.grading.runtime import ThreadRuntime
from helpers.grading.testing import EPOCH, VirtualRuntime

UID = "11111111-2222"


class Ground:
    """A cluster of a few objects; `identity_fault` and `read_fault` break it."""

    def __init__(self, *objects: dict[str, Any]) -> None:
        self.objects = [
            {
                "kind": "Namespace",
                "metadata": {
                    "name": "kube-system",
                    "uid": UID,
                    "creationTimestamp": (EPOCH - timedelta(days=1)).isoformat(),
                },
            },
            *objects,
        ]
        self.identity_fault: Exception | None = None
        self.read_fault: Exception | None = None
        self.before_identity: Callable[[], None] = lambda: None
        self.before_read: Callable[[], None] = lambda: None
        self.scope = SimpleNamespace(suffix="")
        self.deadlines: list[Deadline | None] = []
        self.asked_pods: set[tuple[str, str]] = set()
        self.asked_services: set[tuple[str, str]] = set()

    def within(self, deadline: Deadline) -> Ground:
        return self.view(deadline)

    def identity(self) -> Any:
        self.before_identity()
        if self.identity_fault:
            raise self.identity_fault
        return SimpleNamespace(uid=UID, server_version="v1.36.3", profile="fake", gpu="simulated")

    def view(self, deadline: Deadline | None = None) -> Ground:
        self.deadlines.append(deadline)
        return self

    def find(self, kind: str, name: str, namespace: str | None = None) -> Resource | None:
        self.before_read()
        if self.read_fault:
            raise self.read_fault
        return next(
            (
                Resource(item)
                for item in self.objects
                if (item["kind"], item["metadata"]["name"]) == (kind, name)
            ),
            None,
        )

    def get(self, kind: str, name: str, namespace: str | None = None) -> Resource:
        found = self.find(kind, name, namespace)
        if found is None:
            raise ObjectMissing(kind, name, namespace)
        return found


def passing(seen: str = "yes") -> Verdict:
    return Verdict(Status.PASS, expected="yes", observed=seen, credit=1.0)


def failing(seen: str = "no") -> Verdict:
    return Verdict(Status.FAIL, expected="yes", observed=seen)


def lab_of(**functions: Callable[[Any], Verdict]) -> Lab:
    """A lab whose checks are the given functions, independent of each other."""
    lab = Lab("99", "Tiny")
    for name, function in functions.items():
        add(lab, name, function)
    return lab


def add(lab: Lab, name: str, function: Callable[[Any], Verdict], **options: Any) -> None:
    function.__doc__ = f"The criterion of {name}."
    lab.check(name, **options)(function)


def run(lab: Lab, ground: Ground | None = None, **options: Any) -> Report:
    options.setdefault("runtime", VirtualRuntime())
    return grade([lab], ground or Ground(), **options)  # type: ignore[arg-type]


def only_result(report: Report) -> CheckResult:
    (result,) = report.verdicts
    return result


def test_a_pass_earns_its_points_and_the_cluster_is_named() -> None:
    lab = Lab("99", "Tiny")
    add(lab, "quota.gpu", lambda cluster: passing(), points=4)
    report = run(lab)
    assert (report.earned, report.possible, report.exit_code) == (4, 4, 0)
    assert (report.lab, report.cluster.uid, report.cluster.gpu) == ("99", UID, "simulated")
    assert only_result(report).task == "quota"


def test_partial_earns_the_share_of_expectations_that_are_met() -> None:
    lab = Lab("99", "Tiny")
    add(lab, "a", lambda cluster: expect(1, equals=1).and_(expect(2, equals=3)), points=3)
    result = only_result(run(lab))
    assert (result.status, result.earned, result.expected, result.observed) == ("PARTIAL", 1.5, "3", "2")


def test_a_failed_check_blocks_what_needs_it_by_name_and_only_that() -> None:
    lab = lab_of(a=lambda cluster: failing(), free=lambda cluster: passing())
    add(lab, "b", lambda cluster: passing(), needs=["a"])
    add(lab, "c", lambda cluster: passing(), needs=["free", "b"])
    report = run(lab)
    statuses = {result.check: result.status for result in report.verdicts}
    assert statuses == {"a": "FAIL", "free": "PASS", "b": "BLOCKED", "c": "BLOCKED"}
    by_name = {result.check: result for result in report.verdicts}
    assert by_name["b"].observed == "waits for a, which is FAIL"
    assert by_name["c"].observed == "waits for b, which is BLOCKED"
    assert report.exit_code == 1


def test_a_missing_object_is_not_attempted_with_the_command_that_shows_it() -> None:
    lab = lab_of(a=lambda cluster: cluster.get("ResourceQuota", "llm-system-quota", "llm-system"))
    result = only_result(run(lab))
    assert result.status is Status.NOT_ATTEMPTED
    assert result.expected == "The criterion of a."
    assert "no ResourceQuota named llm-system-quota" in result.observed
    assert result.next == "kubectl get resourcequota -n llm-system"


def test_words_of_the_declaration_fill_in_what_the_verdict_lacks() -> None:
    lab = Lab("99", "Tiny")
    add(lab, "a", lambda cluster: cluster.get("Pod", "x"), why="W", hint="H", next="N")
    add(lab, "b", lambda cluster: failing().why("own"), why="W", hint="H")
    missing, wrong = run(lab).verdicts
    assert (missing.why, missing.hint, missing.next) == ("W", "H", "N")
    assert (wrong.why, wrong.hint) == ("own", "H")


@pytest.mark.parametrize("fault", [ServerFault("500 from etcd"), Forbidden("may not list pods")])
def test_a_fault_of_the_environment_is_never_a_fail(fault: Exception) -> None:
    def broken(cluster: Any) -> Verdict:
        raise fault

    report = run(lab_of(a=broken, b=lambda cluster: failing()))
    assert [result.status for result in report.verdicts] == ["ENV_ERROR", "FAIL"]
    assert str(fault) in report.verdicts[0].observed
    assert report.exit_code == 2


def test_a_bug_in_a_check_is_an_env_error_that_names_the_log(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    result = only_result(run(lab_of(a=lambda cluster: {}["key"])))
    assert result.status is Status.ENV_ERROR and "KeyError: 'key'" in result.observed
    log = tmp_path / "logs" / "course.log"
    assert str(log) in result.next and "Traceback" in log.read_text()


def test_a_check_that_returns_no_verdict_is_an_env_error() -> None:
    result = only_result(run(lab_of(a=lambda cluster: True)))  # type: ignore[arg-type, return-value]
    assert result.status is Status.ENV_ERROR and "returned bool" in result.observed


def test_an_unreachable_cluster_makes_every_check_env_error_without_running_any() -> None:
    ran: list[str] = []
    lab = lab_of(
        **{name: lambda cluster: ran.append("ran") or passing() for name in "abcdef"}  # type: ignore[func-returns-value]
    )
    ground = Ground()
    ground.identity_fault = ClusterUnreachable("connection refused", next_command="course up")
    report = run(lab, ground)
    assert {result.status for result in report.verdicts} == {Status.ENV_ERROR}
    assert {result.next for result in report.verdicts} == {"course up"}
    assert (ran, report.exit_code, report.cluster.uid) == ([], 2, None)


def test_a_silent_api_server_costs_one_time_out_and_not_one_a_check() -> None:
    ground, runtime = Ground(), VirtualRuntime()
    ground.before_identity = lambda: runtime.sleep(3600)
    report = run(lab_of(**{f"c{n}": lambda cluster: passing() for n in range(40)}), ground, runtime=runtime)
    assert {result.status for result in report.verdicts} == {Status.ENV_ERROR}
    assert report.duration_s == 5.0


def test_an_api_server_lost_during_the_run_is_asked_once_more_and_then_given_up() -> None:
    """40 checks of 5 s, 8 at once: without the probe this would take 25 s."""
    ground, runtime = Ground(), VirtualRuntime()

    def hangs(cluster: Any) -> Verdict:
        runtime.sleep(3600)
        return passing()

    ground.before_read = lambda: runtime.sleep(3600)
    report = run(lab_of(**{f"c{n}": hangs for n in range(40)}), ground, runtime=runtime)
    assert {result.status for result in report.verdicts} == {Status.ENV_ERROR}
    assert report.duration_s == pytest.approx(5.0 + 0.5 + 2.0)
    assert "stopped answering" in report.verdicts[-1].observed


def test_a_refused_connection_ends_the_run_at_once_and_keeps_what_was_seen() -> None:
    ground = Ground()

    def loses_the_cluster(cluster: Any) -> Verdict:
        ground.read_fault = ClusterUnreachable("connection refused")
        raise ground.read_fault

    lab = lab_of(first=lambda cluster: passing(), second=loses_the_cluster)
    add(lab, "third", lambda cluster: passing(), needs=["first"])
    report = run(lab, ground)
    statuses = {result.check: result.status for result in report.verdicts}
    assert statuses["first"] is Status.PASS
    assert statuses["second"] is Status.ENV_ERROR
    assert report.exit_code == 2


def test_one_slow_check_costs_its_own_deadline_and_nothing_else() -> None:
    runtime = VirtualRuntime()

    def slow(cluster: Any) -> Verdict:
        runtime.sleep(7)
        return passing()

    lab = lab_of(slow=slow, quick=lambda cluster: passing())
    add(lab, "after", lambda cluster: passing(), needs=["quick"])
    report = run(lab, runtime=runtime)
    statuses = {result.check: result.status for result in report.verdicts}
    assert statuses == {"slow": "ENV_ERROR", "quick": "PASS", "after": "PASS"}
    assert "no answer within 5 s" in report.verdicts[0].observed
    assert report.verdicts[0].duration_s == 5.5


def test_a_late_answer_is_discarded() -> None:
    runtime = VirtualRuntime()
    verdicts: list[CheckResult] = []

    def late(cluster: Any) -> Verdict:
        runtime.sleep(6)
        return passing()

    def later(cluster: Any) -> Verdict:
        runtime.sleep(8)
        return passing()

    lab = lab_of(late=late)
    add(lab, "later", later, timeout_s=20)
    report = run(lab, runtime=runtime, on_verdict=verdicts.append)
    assert [result.check for result in verdicts] == ["late", "later"]
    assert report.verdicts[0].status is Status.ENV_ERROR


def test_each_check_gets_a_view_with_its_own_deadline() -> None:
    ground = Ground()
    lab = Lab("99", "Tiny")
    add(lab, "a", lambda cluster: passing(), timeout_s=3)
    run(lab, ground)
    assert [deadline.seconds for deadline in ground.deadlines if deadline] == [3]


def test_the_run_has_a_deadline_of_its_own() -> None:
    runtime = VirtualRuntime()

    def slow(cluster: Any) -> Verdict:
        runtime.sleep(10)
        return passing()

    lab = Lab("99", "Tiny")
    add(lab, "a", slow, timeout_s=20)
    add(lab, "b", lambda cluster: passing(), needs=["a"])
    report = run(lab, runtime=runtime, deadline_s=4)
    assert [result.status for result in report.verdicts] == ["ENV_ERROR", "ENV_ERROR"]
    assert "deadline of 4 s" in report.verdicts[0].observed
    assert report.duration_s == 4


def test_a_window_holds_only_if_every_observation_passes() -> None:
    runtime = VirtualRuntime()
    seen: list[float] = []

    def holds(cluster: Any) -> Verdict:
        seen.append(runtime.monotonic())
        return passing()

    lab = Lab("99", "Tiny")
    add(lab, "slo", holds, mode="window", window_s=10)
    result = only_result(run(lab, runtime=runtime))
    assert (result.status, result.duration_s) == (Status.PASS, 10)
    assert len(seen) == 11 and "11 observations over 10 s" in result.observed


def test_a_window_ends_at_the_first_break_and_says_when() -> None:
    runtime = VirtualRuntime()
    lab = Lab("99", "Tiny")
    add(
        lab,
        "slo",
        lambda cluster: passing() if runtime.monotonic() < 4 else failing("p95 of 900 ms"),
        mode="window",
        window_s=10,
    )
    result = only_result(run(lab, runtime=runtime))
    assert result.status is Status.FAIL
    assert result.observed == "p95 of 900 ms (4 s into a window of 10 s)"


POD = {
    "kind": "Pod",
    "metadata": {
        "name": "vllm-1",
        "namespace": "llm-system",
        "uid": "pod-1",
        "resourceVersion": "40",
        "creationTimestamp": (EPOCH - timedelta(hours=1)).isoformat(),
    },
}


def edge_lab() -> Lab:
    """Passes while the pod vllm-1 is there; its evidence is the pod."""
    lab = Lab("99", "Tiny")

    def replaced(cluster: Any) -> Verdict:
        pod = cluster.get("Pod", "vllm-1", "llm-system")
        return expect(pod.annotations.get("replaced", "yes"), equals="yes", evidence=pod)

    add(lab, "pod.replaced", replaced, mode="edge", points=2)
    return lab


def edge_run(home: Any, *objects: dict[str, Any]) -> CheckResult:
    return only_result(run(edge_lab(), Ground(*objects), journals=home))


def test_an_edge_check_stays_passed_once_it_was_seen(tmp_path: Any) -> None:
    assert edge_run(tmp_path).status is Status.NOT_ATTEMPTED
    assert edge_run(tmp_path, POD).status is Status.PASS
    later = edge_run(tmp_path)
    assert (later.status, later.earned, later.evidence[0].uid) == (Status.PASS, 2, "pod-1")
    assert "seen at 2026-01-01" in later.observed


def forge(home: Any, **changes: Any) -> None:
    """Write a journal as a learner might, with some fields changed."""
    import json

    edge_run(home, POD)
    (path,) = home.rglob("99.json")
    data = json.loads(path.read_text())
    entry = data["entries"]["pod.replaced"]
    entry.update({key: value for key, value in changes.items() if key != "evidence"})
    entry["evidence"][0].update(changes.get("evidence", {}))
    path.write_text(json.dumps(data))


def with_break(pod: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {**pod, "metadata": {**pod["metadata"], "annotations": {"replaced": "no"}, **metadata}}


@pytest.mark.parametrize(
    ("changes", "live", "reason"),
    [
        ({"observed_at": (EPOCH + timedelta(days=9)).isoformat()}, POD, "still to come"),
        ({"observed_at": (EPOCH - timedelta(days=9)).isoformat()}, POD, "before the cluster existed"),
        ({"evidence": {"uid": "invented"}}, POD, "another uid"),
        ({"evidence": {"resource_version": "41"}}, POD, "never had resourceVersion 41"),
        ({"observed_at": (EPOCH - timedelta(hours=3)).isoformat()}, POD, "was created after"),
    ],
)
def test_a_journal_that_contradicts_the_cluster_does_not_count(
    tmp_path: Any, changes: dict[str, Any], live: dict[str, Any], reason: str
) -> None:
    forge(tmp_path, **changes)
    result = edge_run(tmp_path, with_break(live))
    assert result.status is Status.FAIL
    assert reason in result.observed


def test_a_journal_of_another_cluster_or_half_a_file_holds_nothing(tmp_path: Any) -> None:
    forge(tmp_path)
    (path,) = tmp_path.rglob("99.json")
    whole = path.read_text()
    path.write_text(whole.replace(UID, "another"))
    assert edge_run(tmp_path).status is Status.NOT_ATTEMPTED
    path.write_text(whole[:50])
    assert edge_run(tmp_path).status is Status.NOT_ATTEMPTED
    assert path.with_suffix(".unreadable").exists()


def test_an_edge_that_cannot_be_kept_is_the_environments_fault(tmp_path: Any) -> None:
    (tmp_path / "journals").write_text("a file where a folder should be")
    result = edge_run(tmp_path, POD)
    assert result.status is Status.ENV_ERROR and "journal cannot be written" in result.observed


def test_an_environment_fault_is_not_papered_over_by_the_journal(tmp_path: Any) -> None:
    edge_run(tmp_path, POD)
    ground = Ground()
    ground.read_fault = ServerFault("502 from the API server")
    assert only_result(run(edge_lab(), ground, journals=tmp_path)).status is Status.ENV_ERROR


def test_only_selects_by_check_or_task_and_brings_what_is_needed() -> None:
    lab = lab_of(**{"ns.exists": lambda cluster: passing(), "other": lambda cluster: passing()})
    add(lab, "quota.gpu", lambda cluster: passing(), needs=["ns.exists"])
    for wanted in ("quota.gpu", "quota"):
        report = run(lab, only={wanted})
        assert [result.check for result in report.verdicts] == ["ns.exists", "quota.gpu"]


def test_nothing_selected_is_never_a_pass() -> None:
    with pytest.raises(NothingSelected, match="has no checks"):
        run(Lab("98", "Empty"))
    with pytest.raises(NothingSelected, match="no lab was given"):
        grade([], Ground())  # type: ignore[arg-type]
    with pytest.raises(NothingSelected, match="no check or task is called nope"):
        run(lab_of(a=lambda cluster: passing()), only={"nope"})


def test_contradictory_declarations_are_refused() -> None:
    lab = lab_of(a=lambda cluster: passing())
    with pytest.raises(DeclarationError, match="twice"):
        add(lab, "a", lambda cluster: passing())
    with pytest.raises(DeclarationError, match="window_s"):
        add(lab, "w", lambda cluster: passing(), mode="window")
    with pytest.raises(DeclarationError, match="docstring"):
        lab.check("silent")(lambda cluster: passing())
    add(lab, "b", lambda cluster: passing(), needs=["c"])
    with pytest.raises(DeclarationError, match="b needs c"):
        run(lab)
    add(lab, "c", lambda cluster: passing(), needs=["b"])
    with pytest.raises(DeclarationError, match="need each other"):
        run(lab)


def test_independent_checks_run_at_the_same_time() -> None:
    together = threading.Barrier(PARALLEL)

    def meets_the_others(cluster: Any) -> Verdict:
        together.wait(timeout=30)
        return passing()

    lab = lab_of(**{f"c{n}": meets_the_others for n in range(PARALLEL)})
    assert run(lab, runtime=ThreadRuntime()).exit_code == 0


def test_a_check_that_hangs_for_ever_is_left_behind() -> None:
    release = threading.Event()

    def hangs(cluster: Any) -> Verdict:
        release.wait()
        return passing()

    report = run(lab_of(hangs=hangs), runtime=ThreadRuntime(), deadline_s=0.01)
    release.set()
    assert report.exit_code == 2


def test_a_report_without_a_cluster_says_why_for_every_check() -> None:
    lab = lab_of(a=lambda cluster: passing(), b=lambda cluster: passing())
    report = environment_report([lab], ClusterUnreachable("none chosen", next_command="course up"))
    assert [(result.status, result.next) for result in report.verdicts] == [("ENV_ERROR", "course up")] * 2
    assert report.exit_code == 2


def test_not_attempted_and_pass_together_are_partial() -> None:
    verdict = passing().and_(not_attempted("two claims"))
    assert (verdict.status, verdict.credit, verdict.expected) == (Status.PARTIAL, 0.5, "two claims")


def test_evidence_of_all_expectations_is_kept_once() -> None:
    one = Evidence("Pod", "a", uid="1")
    verdict = expect(1, equals=1, evidence=one).and_(
        expect(1, equals=1, evidence=one), expect(1, equals=1, evidence=Evidence("Pod", "b"))
    )
    assert [item.name for item in verdict.evidence] == ["a", "b"]


def test_needs_takes_the_check_itself_and_the_docstring_its_words() -> None:
    lab = Lab("99", "Tiny")

    @lab.check("first")
    def first(cluster: Any) -> Verdict:
        """It is there."""
        return passing()

    @lab.check("second", needs=first)
    def second(cluster: Any) -> Verdict:
        """It is right,
        and stays so.

        Why: Because
            of this.
        Hint: Look there.
        Next: kubectl get it
        """
        return passing()

    check = lab.checks[1]
    assert check.needs == ("first",)
    assert check.criterion == "It is right, and stays so."
    assert (check.why, check.hint, check.next) == ("Because of this.", "Look there.", "kubectl get it")


def test_a_need_that_is_no_check_and_a_misspelled_word_are_refused() -> None:
    lab = Lab("99", "Tiny")
    with pytest.raises(DeclarationError, match="passing is needed, and is not a check"):
        lab.check("a", needs=passing)(lambda cluster: passing())

    def misspelled(cluster: Any) -> Verdict:
        """It is there.

        Wy: nobody reads this.
        """
        return passing()

    with pytest.raises(DeclarationError, match="misspelled: its docstring may say why, hint, next, not wy"):
        lab.check("a")(misspelled)
