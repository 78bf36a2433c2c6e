"""How commands speak to a shell: exit codes, words on standard error, a console for tables."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

FELL_SHORT, ENVIRONMENT_FAILED, INTERRUPTED = 1, 2, 130
# Under which heading `course --help` lists a command.
LABS, CLUSTERS, EXPERIMENTS, CLASSES, AUTHORS = "Labs", "Clusters", "Experiments", "Classes", "Authors"


# What follows the two commands' names in a command, and not in a sentence about them.
_COURSE = (
    "author|backoff|baseline|break-glass|cache|certificate|check-author|class|doctor|down|experiment|export|game-day|gpu|grade|images|"
    "helm|incident|kubeconfig|kubectl|lab|open|prefetch|progress|queue|recover|release|report|reset|restore|review|seat|shell|solve|start|status|up|use|"
    "verify|witness|--help"
)
_KUBECTL = (
    "annotate|api-resources|apply|config|cordon|create|delete|describe|diff|drain|edit|events|exec|explain|expose|get|"
    "label|logs|patch|port-forward|replace|rollout|run|scale|set|taint|top|uncordon|version|wait"
)
_HELM = "get|history|install|list|rollback|status|template|uninstall|upgrade|version"
_COMMANDS = re.compile(
    rf"(?<![\w./-])(?<!\bthe )(?:course(?= (?:{_COURSE})(?![\w-]))"
    rf"|(?<!course )(?:kubectl(?= (?:{_KUBECTL})(?![\w-]))|helm(?= (?:{_HELM})(?![\w-]))))"
)


def typed(text: str) -> str:
    """A message with its commands as they must be typed in this shell.

    In `course shell`, and wherever else the two are on the PATH, that is how they are written. Elsewhere
    `course` is named by its path; kubectl and helm are reached through it, because it knows the cluster.
    """
    return _COMMANDS.sub(lambda found: _here(found.group()), text)


def _here(command: str) -> str:
    ours = _path_of_course()
    if command == "kubectl":
        return command if _kubectl_fits() else f"{_here('course')} kubectl"
    if command == "helm":
        return command if os.environ.get("COURSE_SHELL") else f"{_here('course')} helm"
    on_path = shutil.which("course")
    fits = on_path is not None and ours.exists() and Path(on_path).resolve() == ours.resolve()
    return command if fits else shlex.quote(_shortest(ours))


def _kubectl_fits() -> bool:
    if os.environ.get("COURSE_SHELL"):
        return True
    return shutil.which("kubectl") is not None and bool(os.environ.get("KUBECONFIG"))


@cache
def _path_of_course() -> Path:
    return Path(sys.prefix) / "bin" / "course"


def _shortest(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # it lies elsewhere, or this folder is gone
        return str(path)


def answer(text: str) -> None:
    """A line on standard output, its commands as they are typed here."""
    print(typed(text))


def say(text: str) -> None:
    """A line on standard error: standard output belongs to what was asked for."""
    print(typed(text), file=sys.stderr)


def console(*, stderr: bool = False) -> Console:
    """Rich's console; it colours nothing by guessing, and nothing at all where NO_COLOR is set."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False)


@contextmanager
def spinner(doing: str) -> Iterator[Callable[[str], None]]:
    """A line at the bottom of a terminal: what is done, and how far it is; nothing where nobody looks."""
    if not sys.stderr.isatty():
        yield lambda how_far: None
        return
    with console(stderr=True).status(doing) as status:
        yield lambda how_far: status.update(f"{doing}: {how_far}")
