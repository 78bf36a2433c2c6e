"""`course …` as a process of its own, on the cluster that the live tests use."""

from __future__ import annotations

import os
import subprocess
import sys

from helpers.settings import REPOSITORY


def course(*words: str, timeout_s: float = 1500) -> subprocess.CompletedProcess[str]:
    """Run the command; with COURSE_TEST_KUBECONFIG on that cluster, as every other live test."""
    return typed([sys.executable, "-m", "helpers.cli", *words], timeout_s=timeout_s)


def typed(command: list[str], *, given: str = "", timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run any command in the course's folder, with `given` on its standard input; on the same cluster."""
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment(),
        input=given,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def environment() -> dict[str, str]:
    """This process's own variables; with COURSE_TEST_KUBECONFIG the course's name for that cluster too."""
    foreign = os.environ.get("COURSE_TEST_KUBECONFIG")
    return {**os.environ, **({"COURSE_KUBECONFIG": foreign} if foreign else {})}
