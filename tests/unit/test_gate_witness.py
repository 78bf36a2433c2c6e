"""The witness of the gate without a cluster: it starts the learner's Job as a process, between releases from a table."""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from helpers.apps.evals import __main__ as runner_command
from helpers.apps.evals import rows
from helpers.labs.lab07_gates import witness_gate_program as program
from helpers.settings import REPOSITORY
from tests.unit.release_server import DATA, Answer, changed, release, right

GATE = """
rows: {golden: tier=pr, adversarial: all, regression: all}
metrics:
  answered: {floor: 0.9, max_drop: 0.1}
  retrieval_hit: {floor: 0.8, max_drop: 0.15}
  citation: {floor: 0.7, max_drop: 0.2}
  tokens_ratio: {ceiling: 1.6}
"""
# The most that one test lets a gate judge.
RUNS = 10
RELEASES: dict[str, Answer] = {
    "stable": right,
    "good": changed(usage={"completion_tokens": 22}),
    "no-citations": changed(answer="A passage says so."),
    "lost-page": right,
}


@pytest.fixture
def bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Any]:
    """What makes a bench of a command: the learner's files with a baseline, and the releases behind their ports."""
    for part in ("sets", "gate", "baseline"):
        (tmp_path / part).mkdir()
    for name in rows.SETS:
        (tmp_path / "sets" / f"{name}.jsonl").write_text((DATA / f"{name}.jsonl").read_text())
    (tmp_path / "gate" / "gate.yaml").write_text(GATE)
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port = free.getsockname()[1]
    monkeypatch.setattr(program, "EVALS", tmp_path)
    monkeypatch.setattr(program, "PORT", port)
    monkeypatch.setenv("INTERNAL_API_TOKEN", "token")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setattr("helpers.apps.evals.asking.CONNECT_PAUSE_S", 0)
    with ExitStack() as stack:
        ports = {}
        for name, answer in RELEASES.items():
            url = stack.enter_context(release(answer))
            ports[name] = int(url.rpartition(":")[2])
        monkeypatch.setenv("COPIES", json.dumps(ports))
        code = runner_command.main(
            [
                *("baseline", "--target", f"http://127.0.0.1:{ports['stable']}"),
                *("--sets", str(tmp_path / "sets"), "--gate", str(tmp_path / "gate")),
            ]
        )
        assert code == 0
        (tmp_path / "baseline" / "main.json").write_text(capsys.readouterr().out)

        def made(*, at: str = program.CANARY, behind: str = "") -> program.Bench:
            command = [
                *(sys.executable, "-m", "helpers.apps.evals", "gate"),
                *(f"--candidate=http://{at}:{port}", f"--stable=http://{program.STABLE}:{port}"),
                *("--sets=/etc/evals/sets", "--gate=/etc/evals/gate"),
                "--baseline=/etc/evals/baseline/main.json",
            ]
            if behind:
                command = ["sh", "-c", f"{shlex.join(command)} {behind}"]
            job = {
                "command": command,
                "env": {"INTERNAL_API_TOKEN": None},
                "folders": {f"/etc/evals/{part}": part for part in ("sets", "gate", "baseline")},
            }
            monkeypatch.setenv("REVISION", json.dumps(job))
            found = program.Bench()
            found._runs = secrets.randbelow(
                10**9
            )  # its cases are folders of /tmp, which a pod has for itself
            stack.callback(_ended, found)
            return found

        yield made


def _ended(bench: program.Bench) -> None:
    for name in (bench.canary, bench.stable):
        name.shutdown()
        name.server_close()
    for number in range(bench._runs + 1 - RUNS, bench._runs + 1):
        shutil.rmtree(f"/tmp/case-{number}", ignore_errors=True)


def verdict(run: dict[str, Any]) -> tuple[int, str]:
    return run["exit"], run["verdict"]


def test_a_right_gate_is_seen_to_be_right(bench: Any) -> None:
    made = bench()
    good = made.run("good", anew=True)
    assert verdict(good) == (0, "pass") and good["asked"] == 41
    made.ahead(["no-citations"], program._questions_of_fewer())
    bad = made.run("no-citations", edit=program.fewer)
    assert verdict(bad) == (1, "quality") and 10 <= bad["asked"] < 30
    assert "citation floor" in bad["failed"]
    assert verdict(made.run("good", fault="reset")) == (2, "infrastructure")
    assert verdict(made.run("good", edit=program._unknown_metric)) == (3, "configuration")
    assert verdict(made.run("good", edit=program._other_model)) == (3, "configuration")


def test_what_was_to_be_asked_ahead_and_has_not_begun_is_asked_at_once(bench: Any) -> None:
    copies = bench().copies
    question = program._fewer_rows(program.EVALS)["golden"][0].question
    body = {"question": question, "return_retrieval_context": True}
    asked = ("POST", "/v1/chat", json.dumps(body).encode())
    copies._known["good", asked] = Future()  # in a line that does not move
    status, said = copies.answer("good", asked)
    assert status == 200
    assert copies._known["good", asked].result(timeout=0) == (status, said), "whoever comes next need not ask"
    copies._known["good", asked] = Future()
    copies._known["good", asked].set_result((504, b""))
    assert copies.answer("good", asked) == (status, said), "a failure is nobody's answer"


def test_or_true_is_seen(bench: Any) -> None:
    made = bench(behind="|| true")
    assert made.run("no-citations")["exit"] == 0
    assert made.run("good", fault="reset")["exit"] == 0


def test_a_gate_at_the_stable_release_asks_the_canary_nothing(bench: Any) -> None:
    run = bench(at=program.STABLE).run("no-citations")
    assert verdict(run) == (0, "pass") and run["asked"] == 0


def test_one_exit_code_for_everything_is_seen(bench: Any) -> None:
    made = bench(behind="|| exit 1")
    assert made.run("good", fault="reset")["exit"] == 1


def test_a_job_without_the_token_is_no_pass(bench: Any) -> None:
    made = bench()
    made.job["env"] = {}
    assert verdict(made.run("good")) == (3, "configuration")


def test_a_command_that_is_not_there_says_nothing(bench: Any) -> None:
    made = bench()
    made.job["command"] = ["/no/such/gate"]
    assert verdict(made.run("good")) == (124, "")
