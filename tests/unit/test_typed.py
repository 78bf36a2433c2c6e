"""Every command that a message tells a learner to run works as it is printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import cli, settings, shell
from helpers.settings import REPOSITORY
from helpers.terminal import typed

COURSE = Path(sys.prefix) / "bin" / "course"


@pytest.fixture
def plain_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell in which nothing of the course is on the PATH."""
    monkeypatch.delenv("COURSE_SHELL")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.chdir(REPOSITORY)


@pytest.mark.usefixtures("plain_shell")
def test_where_course_is_not_on_the_path_it_is_named_by_its_path() -> None:
    assert typed("Next: course doctor") == "Next: .venv/bin/course doctor"


@pytest.mark.usefixtures("plain_shell")
def test_from_another_folder_the_path_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("course up") == f"{COURSE} up"


@pytest.mark.usefixtures("plain_shell")
def test_kubectl_is_reached_through_course_where_it_would_not_know_the_cluster() -> None:
    assert typed("kubectl get pods -n llm-system") == ".venv/bin/course kubectl get pods -n llm-system"


@pytest.mark.usefixtures("plain_shell")
@pytest.mark.parametrize(
    "text",
    [
        "of course it is",
        "The course itself failed",
        "the course use",
        ".venv/bin/course up",
        "A learner who prefers kubectl",
    ],
)
def test_sentences_about_the_course_are_left_alone(text: str) -> None:
    assert typed(text) == text


def test_in_course_shell_commands_stay_as_they_are() -> None:
    assert typed("course up; kubectl get pods") == "course up; kubectl get pods"


@pytest.mark.usefixtures("plain_shell")
def test_every_command_of_the_course_is_known_to_it() -> None:
    cli._register_parts()
    import typer

    for name in getattr(typer.main.get_command(cli.app), "commands", {}):
        assert typed(f"course {name}") == f".venv/bin/course {name}"


@pytest.mark.usefixtures("plain_shell")
def test_a_printed_next_command_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cli.run(["status", "--name", "nothing-here"])
    printed = capsys.readouterr().out.split("Next: ")[1].split("\n")[0]
    done = subprocess.run([*printed.split(), "--help"], capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_a_shell_keeps_the_course_after_its_own_start_up_files(name: str, tmp_path: Path) -> None:
    """The user's start-up file sets a PATH of its own; the course is on it all the same."""
    words, _ = shell.words_for(f"/bin/{name}", "", {**os.environ, **shell.variables()})
    text = " ".join(words) + "".join(path.read_text() for path in (settings.home_dir() / "shell").glob("*rc"))
    text += "".join(path.read_text() for path in (settings.home_dir() / "shell").glob(".*rc"))
    assert str(COURSE.parent) in text
    assert "KUBECONFIG" in text
    assert "(course)" in text


def test_bash_finds_course_and_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("export PATH=/usr/bin:/bin KUBECONFIG=/nowhere\n")
    environment = {**os.environ, **shell.variables(), "HOME": str(tmp_path)}
    words, _ = shell.words_for("/bin/bash", "", environment)
    done = subprocess.run(
        words,
        input="command -v course; echo $KUBECONFIG; exit\n",
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(COURSE), str(settings.kubeconfig_path(settings.cluster_name()))]


def test_one_command_can_be_run_there() -> None:
    done = subprocess.run(
        [str(COURSE), "shell", "-c", "echo $KUBECONFIG"], capture_output=True, text=True, env={**os.environ}
    )
    assert done.stdout.strip() == str(settings.kubeconfig_path(settings.cluster_name())), done.stderr


@pytest.mark.usefixtures("plain_shell")
def test_helm_is_reached_through_course_too_and_neither_is_named_twice() -> None:
    assert typed("helm rollback qdrant 2") == ".venv/bin/course helm rollback qdrant 2"
    assert typed("course helm list -A") == ".venv/bin/course helm list -A"
    assert typed("course kubectl get pods") == ".venv/bin/course kubectl get pods"
    assert typed("the helm chart") == "the helm chart"


def test_the_pages_terminal_has_the_course_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """marimo's terminal inherits what the page's server was started with."""
    started: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda path, words, environment: started.append(environment))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert cli.run(["open", "03", "--headless"]) == 0
    (environment,) = started
    assert environment["PATH"].split(os.pathsep)[0] == str(COURSE.parent)
    assert environment["KUBECONFIG"] == str(settings.kubeconfig_path(settings.cluster_name()))


def test_helm_is_told_which_cluster_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda path, words, environment: started.append((words, environment)))
    monkeypatch.setenv("KUBECONFIG", "/somebody/elses")
    shell.helm(Path("/bin/helm"), ["list", "-A"])
    ((words, environment),) = started
    assert words == ["helm", "list", "-A"]
    assert environment["KUBECONFIG"] == str(settings.kubeconfig_path(settings.cluster_name()))
