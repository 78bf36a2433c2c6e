"""`course shell`, `course kubectl` and `course helm`: a terminal in which every command of the course works as it is written."""

from __future__ import annotations

import os
import pwd
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from helpers import settings
from helpers.cluster.connection import choose_connection
from helpers.cluster.kubectl import find_kubectl
from helpers.errors import LabError, NoClusterChosen
from helpers.terminal import say

MARK = "(course) "


class NoShell(LabError):
    """The shell that this user has is not there."""


def enter(command: str = "") -> None:
    """Become the user's own shell, with the course in it; or run one command there."""
    environment = {**os.environ, **variables()}
    own = os.environ.get("SHELL") or pwd.getpwuid(os.getuid()).pw_shell or "/bin/sh"
    words, more = words_for(own, command, environment)
    if not command:
        say(f"course, kubectl, helm and KUBECONFIG fit here ({environment['KUBECONFIG']}). `exit` goes back.")
    sys.stderr.flush()
    try:
        os.execvpe(words[0], words, {**environment, **more})
    except OSError as problem:
        raise NoShell(
            f"{words[0]}: {problem.strerror}", next_command="SHELL=/bin/bash course shell"
        ) from problem


def variables() -> dict[str, str]:
    """What makes `course`, `kubectl`, `helm` and the cluster in use known to a process."""
    ours = str(Path(sys.prefix) / "bin")
    others = [part for part in os.environ.get("PATH", os.defpath).split(os.pathsep) if part != ours]
    return {
        "PATH": os.pathsep.join([ours, *others]),
        "VIRTUAL_ENV": sys.prefix,
        "KUBECONFIG": _kubeconfig(),
        "COURSE_SHELL": "1",
    }


def kubectl(arguments: Sequence[str]) -> None:
    """Become kubectl, on the cluster in use."""
    found = str(find_kubectl())
    choose_connection()  # without a cluster this says what comes first, and kubectl would not
    os.execve(found, [found, *arguments], {**os.environ, "KUBECONFIG": _kubeconfig()})


def helm(command: Path, arguments: Sequence[str]) -> None:
    """Become helm, on the cluster in use; where there is none, `helm template` and `helm version` need none."""
    os.execve(command, ["helm", *arguments], {**os.environ, "KUBECONFIG": _kubeconfig()})


def words_for(shell: str, command: str, environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """How a shell is started so that its own start-up files neither undo the PATH nor the mark."""
    if command:
        return [shell, "-c", command], {}
    name = Path(shell).name
    restore = "".join(f"export {key}={shlex.quote(environment[key])}\n" for key in variables())
    folder = settings.home_dir() / "shell"
    if name == "bash":
        text = f'[ -f ~/.bashrc ] && . ~/.bashrc\n{restore}PS1={shlex.quote(MARK)}"$PS1"\n'
        return [shell, "--rcfile", str(_written(folder / "bashrc", text)), "-i"], {}
    if name == "zsh":
        theirs = environment.get("ZDOTDIR") or "$HOME"
        text = f'ZDOTDIR="{theirs}"\n[ -f "$ZDOTDIR/.zshrc" ] && . "$ZDOTDIR/.zshrc"\n{restore}PROMPT={shlex.quote(MARK)}"$PROMPT"\n'
        return [shell, "-i"], {"ZDOTDIR": str(_written(folder / ".zshrc", text).parent)}
    if name == "fish":
        export = "".join(f"set -gx {key} {shlex.quote(environment[key])}; " for key in variables())
        prompt = f"functions -c fish_prompt course_prompt; function fish_prompt; echo -n {shlex.quote(MARK)}; course_prompt; end"
        return [shell, "--init-command", f"{export}{prompt}"], {}
    return [shell, "-i"], {"PS1": f"{MARK}$ "}


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _kubeconfig() -> str:
    """The kubeconfig in use; where another context of it is in use than it names itself, that one first."""
    try:
        connection = choose_connection()
    except NoClusterChosen:
        return str(settings.kubeconfig_path(settings.cluster_name()))
    if connection.kubeconfig is None:
        return os.environ.get("KUBECONFIG", "")
    if connection.kubeconfig == settings.kubeconfig_path(settings.cluster_name()):
        return str(connection.kubeconfig)
    chosen = settings.home_dir() / "shell" / "context.yaml"
    text = f"apiVersion: v1\nkind: Config\ncurrent-context: {connection.context}\n"
    return f"{_written(chosen, text)}{os.pathsep}{connection.kubeconfig}"
