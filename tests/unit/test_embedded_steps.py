"""Progress on every long step, and failures that say why."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from helpers.embedded import steps as module
from helpers.embedded.steps import DiskFull, NoNetwork, StepFailed, Steps, run


@pytest.fixture
def steps() -> Steps:
    return Steps(console=Console(file=io.StringIO(), width=200))


def shown(steps: Steps) -> str:
    return steps.console.file.getvalue()


def test_a_quick_step_says_nothing_but_is_timed(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", 600.0)
    with steps.step("Quick"):
        pass
    assert shown(steps) == ""
    assert steps.durations["Quick"] >= 0


def test_a_step_over_the_limit_shows_its_time(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    with steps.step("Slow"):
        pass
    assert "✓ Slow 0.0 s" in shown(steps)


def test_a_failing_step_is_marked_and_the_fault_goes_on(steps: Steps) -> None:
    with pytest.raises(ValueError), steps.step("Broken"):
        raise ValueError
    assert "✗ Broken" in shown(steps)


def test_the_latest_line_of_output_is_the_steps_detail(steps: Steps) -> None:
    with steps.step("Build") as step:
        output = run(["sh", "-c", "echo one; echo two"], step=step)
    assert output == "one\ntwo\n"
    assert step.detail == "two"


def test_a_failing_command_shows_its_last_lines_and_keeps_the_rest(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with pytest.raises(StepFailed, match="line 100") as failure:
        run(["sh", "-c", "seq -f 'line %g' 100; exit 3"], log=log, next_command="course doctor")
    assert "line 80" not in str(failure.value)
    assert "line 80" in log.read_text()
    assert failure.value.next_command == "course doctor"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("dial tcp: lookup proxy.golang.org: no such host", NoNetwork),
        ("E: Temporary failure resolving 'deb.debian.org'", NoNetwork),
        ("write x: No space left on device", DiskFull),
        ("undefined: x", StepFailed),
    ],
)
def test_the_cause_is_told_apart_by_the_commands_words(words: str, kind: type[StepFailed]) -> None:
    with pytest.raises(StepFailed) as failure:
        run(["sh", "-c", f'echo "{words}" >&2; exit 1'])
    assert type(failure.value) is kind
