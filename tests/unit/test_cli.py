"""The `course` command: what reaches stdout and stderr, the exit codes, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

import helpers.cluster
import helpers.labs.registry
from helpers import cli
from helpers.cluster.fake import FakeCluster
from helpers.errors import ClusterUnreachable, NoClusterChosen
from helpers.grading import Lab, Report, Status, Verdict, expect
from helpers.grading.engine import NothingSelected

Course = Callable[..., int]


def tiny_lab() -> Lab:
    """One check that passes, one that fails, one that waits for it and one not attempted."""
    lab = Lab("99", "Tiny", namespaces=("llm-system",))

    @lab.check("ns", task="begin")
    def namespace(cluster: Any) -> Verdict:
        """The namespace exists."""
        return expect(cluster.namespace("kube-system").name, equals="kube-system")

    @lab.check("quota.gpu", points=4, needs=["ns"], why="GPUs are shared.", hint="Look at the quota.")
    def quota(cluster: Any) -> Verdict:
        """One GPU at most."""
        return expect(2, equals=1).next("kubectl describe quota -n llm-system")

    @lab.check("after", needs=["quota.gpu"])
    def after(cluster: Any) -> Verdict:
        """Something later."""
        return expect(1, equals=1)

    @lab.check("config")
    def config(cluster: Any) -> Verdict:
        """The configuration is there."""
        return expect(cluster.config_map("vllm").name, equals="vllm")

    return lab


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def lab() -> Lab:
    return tiny_lab()


@pytest.fixture
def course(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cluster: FakeCluster, lab: Lab) -> Course:
    """Runs `course ARGUMENTS` in this process on a fake cluster with one tiny lab, 99."""
    monkeypatch.setenv("COURSE_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("COURSE_KUBECONFIG", "COURSE_CONTEXT", "COURSE_CLUSTER", "COURSE_SCOPE"):
        monkeypatch.delenv(name, raising=False)
    real = helpers.labs.registry.load_lab
    monkeypatch.setattr(
        helpers.labs.registry, "load_lab", lambda number: lab if number == "99" else real(number)
    )
    monkeypatch.setattr(helpers.cluster.Cluster, "connect", classmethod(lambda cls, **options: cluster))
    return lambda *arguments: cli.run(list(arguments))


def test_json_prints_one_report_and_nothing_else(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    code = course("grade", "99", "--json")
    captured = capsys.readouterr()
    report = Report.from_json(captured.out)
    assert code == report.exit_code == 1
    assert captured.err == ""
    assert json.loads(captured.out)["summary"]["counts"] == {
        "PASS": 1,
        "FAIL": 1,
        "NOT_ATTEMPTED": 1,
        "BLOCKED": 1,
    }


def test_the_terminal_speaks_in_words_and_in_the_courses_order(
    course: Course, capsys: pytest.CaptureFixture[str]
) -> None:
    assert course("grade", "99") == 1
    out = capsys.readouterr().out
    words = [
        "FAIL  quota.gpu",
        "expected",
        "1",
        "observed",
        "2",
        "why",
        "GPUs are shared.",
        "next",
        "kubectl",
    ]
    places = [out.index(words[0])]
    for word in words[1:]:
        places.append(out.index(word, places[-1]))
    assert "1 of 7 points" in out and "GPU simulated" in out
    assert "Look at the quota." not in out and "--hints" in out


def test_hints_are_shown_when_asked_for(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    course("grade", "99", "--hints")
    assert "Look at the quota." in capsys.readouterr().out


def test_no_colour_codes_where_nobody_sees_them(
    course: Course, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    course("grade", "99")
    out = capsys.readouterr().out
    assert "\x1b[3" not in out and "FAIL" in out


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_every_width_keeps_every_word(
    course: Course, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    course("grade", "99")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    shown = "".join(line.strip() for line in lines).replace(" ", "")
    for word in ("NOT_ATTEMPTED", "FAIL", "BLOCKED", "GPUsareshared.", "kubectldescribequota-nllm-system"):
        assert word in shown


def test_a_lab_named_twice_is_graded_once(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    course("grade", "99", "99", "--json")
    report = Report.from_json(capsys.readouterr().out)
    assert (report.lab, len(report.verdicts)) == ("99", 4)


def test_all_passed_is_exit_code_0(course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    assert course("grade", "99", "--only", "begin") == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["grade"], "Missing argument"),
        (["grade", "77"], "there is no lab '77'"),
        (["grade", "99", "77", "--json"], "there is no lab '77'"),
        (["grade", "99", "--only", "nope"], "no check or task is called nope"),
        (["grade", "99", "--nonsense"], "No such option"),
        (["nonsense"], "No such command"),
        (["start", "77"], "there is no lab '77'"),
        (["reset", "77"], "there is no lab '77'"),
        (["check-author", "77"], "there is no lab '77'"),
        (["solve", "77"], "there is no solutions/77"),
        (["open", "77"], "there is no labs/77"),
        (["use"], "give --context NAME"),
        (["use", "somewhere"], "give --context NAME"),
    ],
)
def test_what_cannot_run_is_exit_code_2_with_a_reason_and_the_next_command(
    course: Course, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert course(*arguments) == 2
    captured = capsys.readouterr()
    assert says in " ".join(captured.err.split()) and captured.out == ""
    assert "Next: course" in captured.err or "Try 'course" in captured.err


def test_an_error_of_a_deeper_command_points_to_that_commands_help(
    course: Course, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert course("class", "create", "--roster", str(tmp_path)) == 2
    assert "Next: course class create --help" in capsys.readouterr().err


def test_a_lab_without_checks_is_exit_code_2(course: Course, lab: Lab) -> None:
    lab._checks.clear()
    assert course("grade", "99") == 2


def test_an_unreachable_cluster_is_env_error_for_every_check(
    course: Course, cluster: FakeCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.go_down()
    assert course("grade", "99", "--json") == 2
    report = Report.from_json(capsys.readouterr().out)
    assert {result.status for result in report.verdicts} == {Status.ENV_ERROR}
    assert report.cluster.uid is None


def test_no_cluster_at_all_is_a_report_too(
    course: Course, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_chosen(cls: Any, **options: Any) -> Any:
        raise NoClusterChosen("no cluster is running", next_command="course up")

    monkeypatch.setattr(helpers.cluster.Cluster, "connect", classmethod(none_chosen))
    assert course("grade", "99", "--json") == 2
    report = Report.from_json(capsys.readouterr().out)
    assert {(result.status, result.next) for result in report.verdicts} == {("ENV_ERROR", "course up")}
    assert course("start", "99") == 2
    assert "Next: course up" in capsys.readouterr().err


def test_junit_tells_wrong_work_from_a_broken_environment(course: Course, tmp_path: Path) -> None:
    file = tmp_path / "new" / "out.xml"
    assert course("grade", "99", "--json", "--junit", str(file)) == 1
    xml = JUnitXml.fromfile(str(file))
    assert (xml.tests, xml.failures, xml.errors, xml.skipped) == (4, 2, 0, 1)
    (suite,) = xml
    cases = {case.name: case for case in suite}
    assert cases["quota.gpu"].classname == "lab99.quota"
    assert cases["quota.gpu"].result[0].message == "FAIL: expected 1; observed 2"
    assert {prop.name: prop.value for prop in suite.properties()}["cluster.gpu"] == "simulated"


def test_junit_survives_what_xml_cannot_hold(course: Course, lab: Lab, tmp_path: Path) -> None:
    @lab.check("odd")
    def odd(cluster: Any) -> Verdict:
        """Odd characters."""
        return expect("\x1b[31m<&>\x00\ufffe", equals="fine")

    file = tmp_path / "out.xml"
    course("grade", "99", "--junit", str(file), "--json")
    cases = {case.name: case for suite in JUnitXml.fromfile(str(file)) for case in suite}
    assert "<&>" in cases["odd"].result[0].message


def test_junit_that_cannot_be_written_is_a_sentence(
    course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert course("grade", "99", "--junit", str(tmp_path)) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_bug_is_one_line_and_a_log(
    course: Course, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("helpers.grading.engine.grade", broken)
    assert course("grade", "99") == 2
    err = capsys.readouterr().err
    assert "RuntimeError: two" in err and "Traceback" not in err
    log = tmp_path / "logs" / "course.log"
    assert str(log) in err and "Traceback" in log.read_text()


def test_a_home_that_cannot_be_written_costs_the_progress_and_not_the_grade(
    course: Course, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "home" / "progress.json").mkdir(parents=True)  # no file can be put in its place
    monkeypatch.setenv("COURSE_HOME", str(tmp_path / "home"))
    assert course("grade", "99", "--json") == 1
    captured = capsys.readouterr()
    assert Report.from_json(captured.out).exit_code == 1
    assert "progress could not be kept" in captured.err


def test_ctrl_c_ends_a_hanging_check_with_130_and_no_traceback(tmp_path: Path) -> None:
    """In a process of its own, as a learner would: the check never returns."""
    script = textwrap.dedent(
        """
        import signal, sys, threading
        # Whatever runs the tests in the background may have had it ignored, which children inherit.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        import helpers.labs.registry, helpers.cluster
        from helpers import cli
        from helpers.cluster.fake import FakeCluster
        from helpers.grading import Lab

        lab = Lab("99", "Hangs")

        @lab.check("hangs", timeout_s=600)
        def hangs(cluster):
            "Never answers."
            print("hanging", flush=True)
            threading.Event().wait()

        helpers.labs.registry.load_lab = lambda number: lab
        helpers.cluster.Cluster.connect = classmethod(lambda cls: FakeCluster())
        sys.exit(cli.run(["grade", "99"]))
        """
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COURSE_HOME": str(tmp_path)},
    )
    assert process.stdout
    assert process.stdout.readline() == "hanging\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in err


def test_help_of_every_command_names_itself_course(
    course: Course, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("grade", "start", "reset", "solve", "check-author", "open", "use"):
        assert course(command, "--help") == 0
        assert f"Usage: course {command}" in capsys.readouterr().out


def test_use_remembers_a_context_and_goes_back(
    course: Course, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("contexts: [{name: kind-lab, context: {cluster: c, user: u}}]")
    assert course("use", "--context", "kind-lab", "--kubeconfig", str(kubeconfig)) == 0
    written = json.loads((tmp_path / "settings.json").read_text())
    assert written == {"context": "kind-lab", "kubeconfig": str(kubeconfig)}
    assert "v1.36.3, GPU simulated" in capsys.readouterr().out
    assert course("use", "--context", "other", "--kubeconfig", str(kubeconfig)) == 2
    assert "has no context other; it has: kind-lab" in capsys.readouterr().err
    assert json.loads((tmp_path / "settings.json").read_text()) == written
    assert course("use", "embedded") == 0
    assert json.loads((tmp_path / "settings.json").read_text())["context"] is None


def test_use_keeps_a_context_whose_cluster_is_off(
    course: Course, cluster: FakeCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("contexts: [{name: away, context: {}}]")
    cluster.go_down()
    assert course("use", "--context", "away", "--kubeconfig", str(kubeconfig)) == 0
    assert "does not answer now" in capsys.readouterr().out


def test_open_starts_marimo_on_the_labs_notebook(
    course: Course, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "labs").mkdir()
    (tmp_path / "labs" / "99_tiny.py").touch()
    started: list[list[str]] = []
    monkeypatch.setattr("helpers.grading.solution.REPOSITORY", tmp_path)
    monkeypatch.setattr(os, "execve", lambda program, command, environment: started.append(command))
    assert course("open", "99", "--headless", "--port", "0") == 0
    assert started[0][2:] == [
        "marimo",
        "edit",
        str(tmp_path / "labs" / "99_tiny.py"),
        *("--headless", "--port", "0"),
    ]


def test_the_exceptions_of_an_empty_selection_are_lab_errors() -> None:
    assert issubclass(NothingSelected, cli.LabError) and issubclass(ClusterUnreachable, cli.LabError)


def test_progress_says_what_is_done_and_what_is_next(
    course: Course, lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helpers.labs.registry, "lab_ids", lambda: ["99"])
    course("progress")
    assert "Lab 99  Tiny  not started" in capsys.readouterr().out
    course("grade", "99")
    capsys.readouterr()
    course("progress")
    assert "1 of 4 checks passed so far" in capsys.readouterr().out
    for name in ("quota.gpu", "after", "config"):
        del lab._checks[name]
    course("grade", "99")
    capsys.readouterr()
    course("progress")
    out = " ".join(capsys.readouterr().out.split())
    assert "less than a minute after it was begun (GPU simulated)" in out and "Every lab is done." in out


@pytest.mark.parametrize(
    "words", [["exec", "-n", "llm-apps", "pod", "--", "ls", "-l"], ["-n", "x", "get", "pods", "--help"]]
)
def test_kubectl_gets_the_words_as_they_were_typed(
    course: Course, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    given: list[list[str]] = []
    monkeypatch.setattr("helpers.shell.kubectl", lambda arguments: given.append(list(arguments)))
    assert course("kubectl", *words) == 0
    assert given == [words]
