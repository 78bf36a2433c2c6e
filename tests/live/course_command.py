"""`course …` as a process of its own, on the cluster that the live tests use."""

from __future__ import annotations

import os
import subprocess
import sys

from helpers.settings import REPOSITORY


def environment() -> dict[str, str]:
    """This process's own; with COURSE_TEST_KUBECONFIG, that cluster is in use in it."""
    foreign = os.environ.get("COURSE_TEST_KUBECONFIG")
    return {**os.environ, **({"COURSE_KUBECONFIG": foreign} if foreign else {})}


def course(*words: str, timeout_s: float = 1500) -> subprocess.CompletedProcess[str]:
    """Run the command; with COURSE_TEST_KUBECONFIG on that cluster, as every other live test."""
    command = [sys.executable, "-m", "helpers.cli", *words]
    return subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
