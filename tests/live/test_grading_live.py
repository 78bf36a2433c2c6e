"""The grader against a real API server that is stopped and killed under it.

Needs the tests' own embedded cluster: the API server's process is one of its node's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from helpers.cluster import Cluster, ClusterView, NotYet
from helpers.embedded import launch
from helpers.errors import Forbidden, LabError
from helpers.grading import Lab, Report, Status, Verdict, expect, grade
from helpers.grading.author import Mutant, Proofs
from helpers.grading.author_live import prove_live
from helpers.settings import cluster_name

pytestmark = [pytest.mark.live, pytest.mark.embedded]


@pytest.fixture
def api_server(cluster: Cluster) -> Iterator[Callable[[], int]]:
    """The API server's process id, asked anew each time; the cluster is whole again afterwards."""
    # Not by the address that it was started with: a copy of a cluster keeps the one of its original.
    sandbox = launch.existing(cluster_name())
    node = sandbox.pid() if sandbox else None
    if node is None:
        pytest.skip("the live cluster's API server is no process of this machine")

    def find() -> int:
        processes = psutil.Process(node).children(recursive=True)
        return next(process.pid for process in processes if process.name() == "kube-apiserver")

    find()
    yield find
    cluster.wait_until("API server back", _lets_us_in, timeout_s=120)


def _lets_us_in(view: ClusterView) -> bool:
    """A server that has just started forbids everything until its authorizer has read the roles."""
    try:
        return bool(view.nodes())
    except Forbidden as forbidden:
        raise NotYet(str(forbidden)) from forbidden


Course = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def course(kubeconfig: Path) -> Course:
    """`course` as a learner runs it, in a process of its own."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "helpers.cli", *arguments]
        environment = {**os.environ, "COURSE_KUBECONFIG": str(kubeconfig)}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, env=environment
        )

    return run


def interrupted_lab(stop: Callable[[], None], size: int = 24) -> Lab:
    """`first` reads, then the server is stopped, then it and all checks that waited for it read again."""
    lab, stopped = Lab("99", "Interrupted"), threading.Event()

    @lab.check("early")
    def early(cluster: Any) -> Verdict:
        """Reads before anything happens."""
        return expect(len(cluster.nodes()), at_least=1)

    @lab.check("first", needs=["early"])
    def first(cluster: Any) -> Verdict:
        """Reads, loses the server, reads again."""
        cluster.nodes()
        stop()
        stopped.set()
        return expect(len(cluster.nodes()), at_least=1)

    for number in range(size):

        def later(cluster: Any) -> Verdict:
            """Reads after the server was stopped."""
            stopped.wait(30)
            return expect(len(cluster.nodes()), at_least=1)

        lab.check(f"later-{number}", needs=["early"])(later)
    return lab


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_an_api_server_lost_in_the_middle_is_env_error(
    cluster: Cluster, api_server: Callable[[], int], sign: signal.Signals, tmp_path: Path
) -> None:
    process = api_server()
    try:
        report = grade([interrupted_lab(lambda: os.kill(process, sign))], cluster, journals=tmp_path)
    finally:
        if sign is signal.SIGSTOP:
            os.kill(process, signal.SIGCONT)
    statuses = {result.check: result.status for result in report.verdicts}
    assert statuses.pop("early") is Status.PASS
    assert set(statuses.values()) == {Status.ENV_ERROR}
    assert report.exit_code == 2


def test_a_learner_sees_which_command_comes_next_and_no_traceback(
    cluster: Cluster, api_server: Callable[[], int], course: Course
) -> None:
    process = api_server()
    os.kill(process, signal.SIGSTOP)
    try:
        silent = course("grade", "01", "--json")
        shown = course("grade", "01")
    finally:
        os.kill(process, signal.SIGCONT)
    report = Report.from_json(silent.stdout)
    assert (silent.returncode, shown.returncode) == (2, 2)
    assert {result.status for result in report.verdicts} == {Status.ENV_ERROR}
    assert "Traceback" not in silent.stderr + shown.stdout + shown.stderr
    assert "ENV_ERROR" in shown.stdout and "next" in shown.stdout


def test_the_same_command_grades_again_when_the_server_is_back(
    cluster: Cluster, api_server: Callable[[], int], course: Course
) -> None:
    os.kill(api_server(), signal.SIGKILL)

    def graded(view: Any) -> Report | None:
        report = Report.from_json(course("grade", "01", "--json").stdout)
        assert report.exit_code in (1, 2)
        return report if report.exit_code == 1 else None

    try:
        report = cluster.wait_until("grading works again", graded, timeout_s=120)
    except LabError as problem:
        pytest.fail(str(problem))
    assert Status.FAIL not in {result.status for result in report.verdicts}


NOTEBOOK = """
import marimo
app = marimo.App()

@app.cell
def _():
    pressed = False
    return (pressed,)

@app.cell
def _(pressed):
    from helpers.cluster import Cluster
    if pressed:
        Cluster.connect().apply(
            [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm-proof"}},
             {"apiVersion": "v1", "kind": "ConfigMap", "data": {"gpus": "1"},
              "metadata": {"name": "settings", "namespace": "llm-proof"}}])
    return
"""


def test_proofs_on_a_live_cluster_stay_in_namespaces_of_their_own(
    cluster: Cluster, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / "99_proof.py").write_text(NOTEBOOK)
    monkeypatch.setattr("helpers.grading.solution.REPOSITORY", tmp_path)
    monkeypatch.setenv("COURSE_KUBECONFIG", str(kubeconfig))
    lab = Lab("99", "Proof", namespaces=("llm-proof",))

    @lab.check("gpus")
    def gpus(view: Any) -> Verdict:
        """One GPU."""
        return expect(view.config_map("settings", "llm-proof").data.get("gpus"), equals="1")

    def two(target: Cluster) -> None:
        target.patch("ConfigMap", "settings", {"data": {"gpus": "2"}}, "llm-proof")

    def untried(target: Cluster) -> None:
        raise AssertionError("only possible on a fake")

    proofs = Proofs(
        solution=untried,
        mutants=[
            Mutant("two", apply=two, fails={"gpus": "2"}, live=True),
            Mutant("fake only", apply=untried, fails={"gpus": "3"}),
        ],
    )
    findings = prove_live(lab, proofs, lambda text: None)
    assert [(item.state, item.status.value, item.problem) for item in findings] == [
        ("start", "NOT_ATTEMPTED", ""),
        ("solution", "PASS", ""),
        ("two", "FAIL", ""),
    ]
    view = cluster.view()
    assert view.find("Namespace", "llm-proof") is None
    assert view.find("Namespace", "llm-proof-author") is None
