"""What `make test` runs once more is each file that failed, whole and once, and nothing of a run before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.failed_files import LAST_FAILED, failed_files

RIGHT, WRONG = "def test_{}():\n    assert True\n", "def test_{}():\n    assert False\n"


def run(folder: Path) -> int:
    command = [sys.executable, "-m", "pytest", "-q", "--cache-clear", "--rootdir", str(folder), "."]
    return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode


def test_a_file_that_failed_is_named_once_until_it_passes(tmp_path: Path) -> None:
    (tmp_path / "test_right.py").write_text(RIGHT.format("one"))
    mixed = tmp_path / "test_mixed.py"
    mixed.write_text(RIGHT.format("one") + WRONG.format("two") + WRONG.format("three"))
    (tmp_path / "test_wrong.py").write_text(WRONG.format("one"))
    assert run(tmp_path) != 0
    assert failed_files((tmp_path / LAST_FAILED).read_text()) == ["test_mixed.py", "test_wrong.py"]

    (tmp_path / "test_wrong.py").unlink()
    mixed.write_text(RIGHT.format("one"))
    assert run(tmp_path) == 0
    assert not (tmp_path / LAST_FAILED).exists()
