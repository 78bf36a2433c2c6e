"""Root for the node alone: one helper process, started once through sudo, doas or pkexec.

`course` itself stays the user's. It starts `helpers.embedded.privileged` as root, sends it one request
a line, and reads what it does and answers, a line each. The helper ends when this process does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from helpers import errors, settings
from helpers.embedded.steps import Step, StepFailed, Steps
from helpers.errors import EnvironmentFault, LabError

WHY = "The cluster's node runs as root: it makes namespaces and mounts. Everything else stays yours."
# What a request may need of the user's environment; everything else is root's own.
PASSED_ON = (
    "COURSE_MAVEN_REPOSITORY",
    "COURSE_REGISTRY_HOSTS",
    "COURSE_TORCH_INDEX",
    "CURL_CA_BUNDLE",
    "LANG",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    *(f"{protocol}_proxy" for protocol in ("http", "https", "no", "all")),
    *(f"{protocol}_PROXY" for protocol in ("HTTP", "HTTPS", "NO", "ALL")),
)
PASSED_ON_PREFIXES = ("PIP_",)


class NoRoot(EnvironmentFault):
    """Nobody here may start the node: it needs root, and this user cannot become it."""


class Root:
    """The helper that runs as root, and what it is asked."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._to, self._from = process.stdin, process.stdout
        self._lock = threading.Lock()

    def call(
        self,
        operation: str,
        steps: Steps,
        *,
        on_kubeconfig: Callable[[str, str], None] | None = None,
        **arguments: Any,
    ) -> Any:
        """Ask for one operation, show its steps as they come, and return its answer or raise its error."""
        with self._lock, ExitStack() as opened:
            self._send({"operation": operation, "arguments": arguments})
            shown = _Shown(steps, opened)
            for event in self._events():
                if "answer" in event:
                    return event["answer"]
                if "error" in event:
                    raise _error(event["error"])
                if "kubeconfig" in event and on_kubeconfig is not None:
                    on_kubeconfig(*event["kubeconfig"])
                shown.take(event)
        raise StepFailed(f"the helper that runs as root ended in the middle of `{operation}`")

    def begin(self) -> None:
        """Say where everything lies; raises NoRoot when there is no helper after all."""
        with suppress(BrokenPipeError):
            self._send({"environment": _environment()})
        if next(self._events(), None) != {"ready": True}:
            code = self._process.wait()
            raise NoRoot(
                f"the node needs root, and {self._words()[0]} did not give it (exit code {code})",
                next_command="ask an administrator of this machine, or: course use --context NAME",
            )

    def end(self) -> None:
        """Let the helper go: it ends when nobody speaks to it any more, and undoes what is half done."""
        if self._to is not None:
            with suppress(BrokenPipeError):
                self._to.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=60)

    def _words(self) -> list[str]:
        return list(map(str, self._process.args)) if isinstance(self._process.args, list) else ["sudo"]

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._to is not None
        self._to.write(json.dumps(message) + "\n")
        self._to.flush()

    def _events(self) -> Iterator[dict[str, Any]]:
        assert self._from is not None
        return map(json.loads, iter(self._from.readline, ""))


class _Shown:
    """The helper's steps, repeated here so that a learner sees them where all the others are."""

    def __init__(self, steps: Steps, opened: ExitStack) -> None:
        self._steps, self._opened = steps, opened
        self._running: dict[int, tuple[Step, ExitStack]] = {}

    def take(self, event: Mapping[str, Any]) -> None:
        """Begin, describe or end a step; any other event is none of ours."""
        number = event.get("step", -1)
        if "title" in event:
            stack = self._opened.enter_context(ExitStack())
            self._running[number] = (stack.enter_context(self._steps.step(event["title"])), stack)
        elif number in self._running and "detail" in event:
            self._running[number][0].detail = event["detail"]
        elif number in self._running and "ended" in event:
            step, stack = self._running.pop(number)
            with suppress(StepFailed), stack:
                if not event["ended"]:
                    raise StepFailed(step.title)  # marks the step; the helper's error itself comes next


@contextmanager
def root() -> Iterator[Root]:
    """The helper, running as root until the block ends.

    Raises NoRoot when this user cannot become root, or only with a password that nobody is there to type.
    """
    helper = start()
    try:
        yield helper
    finally:
        helper.end()


def start() -> Root:
    """Start the helper; the caller ends it."""
    words = [*elevator(), sys.executable, "-I", "-B", "-m", "helpers.embedded.privileged"]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", bufsize=1
    )
    helper = Root(process)
    helper.begin()
    return helper


def as_root(command: Sequence[str]) -> list[str]:
    """The words that run a command as root from here; for what tests and benchmarks ask inside a node."""
    return list(command) if os.geteuid() == 0 else [*elevator(), *command]


def elevator() -> list[str]:
    """The words before a command that make it root's, after having said why where a password is asked for."""
    for name in ("sudo", "doas", "pkexec"):
        if shutil.which(name) is not None:
            return _with_password(name) if name != "pkexec" else _pkexec()
    raise NoRoot(
        "the node needs root (it makes namespaces and mounts), and there is no sudo, doas or pkexec here",
        next_command="su -c 'apt-get install sudo'; or, for a cluster elsewhere: course use --context NAME",
    )


def _with_password(name: str) -> list[str]:
    quietly = [name, "-n", "true"]
    if subprocess.run(quietly, capture_output=True, stdin=subprocess.DEVNULL).returncode == 0:
        return [name, "-n"]
    if not _has_terminal():
        raise NoRoot(
            f"the node needs root; {name} asks for a password, and there is no terminal to type it in",
            next_command="in a terminal: course up",
        )
    print(f"{WHY} {name} asks for your password, once:", file=sys.stderr, flush=True)
    return [name]


def _pkexec() -> list[str]:
    print(f"{WHY} pkexec asks for a password, once:", file=sys.stderr, flush=True)
    return ["pkexec"]


def _has_terminal() -> bool:
    """Whether a password could be typed: sudo and doas read it from the terminal, not from standard input."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
    except OSError:
        return False
    return True


def _environment() -> dict[str, str]:
    passed = {
        name: value
        for name, value in os.environ.items()
        if name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES)
    }
    folders = {
        "COURSE_HOME": settings.home_dir(),
        "COURSE_CACHE": settings.cache_dir(),
        "COURSE_NODE_HOME": settings.node_home(),
        "COURSE_NODE_CACHE": settings.node_cache_dir(),
    }
    return {**passed, **{name: str(path.absolute()) for name, path in folders.items()}}


def _error(told: Mapping[str, str]) -> Exception:
    """The helper's error as one of ours: of its own kind where that is known, else an environment's fault."""
    if not told["kind"]:
        bug = RuntimeError(told["message"])
        bug.add_note(told["next_command"])
        return bug
    kind = next((one for one in _kinds(errors.LabError) if one.__name__ == told["kind"]), EnvironmentFault)
    failed = kind.__new__(kind)
    LabError.__init__(failed, told["message"], next_command=told["next_command"])
    return failed


def _kinds(base: type[LabError]) -> Iterator[type[LabError]]:
    yield base
    for kind in base.__subclasses__():
        yield from _kinds(kind)
