"""Packages of PyPI that a file pins: nothing is resolved, and every file is checked against its hash."""

from __future__ import annotations

import sys
from pathlib import Path


def install(requirements: Path, target: Path, *, python: str = "") -> list[str | Path]:
    """The command that puts them into a folder, as they come.

    Args:
        python: for which Python, such as "3.11"; empty where the packages are for none.
    """
    pip: list[str | Path] = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    pip += ["--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes"]
    pip += ["--python-version", python] if python else []
    return [*pip, "--target", target, "-r", requirements]
