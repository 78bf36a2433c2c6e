"""The `course` command as a process of its own, for what this process must not do or know itself.

The embedded cluster is known to the command line alone: whoever needs its node or its images asks there.
"""

from __future__ import annotations

import subprocess
import sys

from helpers.errors import LabError
from helpers.settings import REPOSITORY


class CourseCommandFailed(LabError):
    """`course …` ended with an error; the message is its own last line."""


def run_course(*words: str, timeout_s: float | None = None) -> str:
    """Run `course WORDS…` to its end; what it printed.

    Raises:
        CourseCommandFailed: it failed, or took longer than `timeout_s`.
    """
    command = [sys.executable, "-m", "helpers.cli", *words]
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise CourseCommandFailed(
            f"course {' '.join(words)} took over {timeout_s:g} s", next_command="course doctor"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise CourseCommandFailed(
            said[-1] if said else f"exit code {done.returncode}", next_command="course status"
        )
    return done.stdout.strip()
