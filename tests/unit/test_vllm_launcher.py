"""The program that starts vLLM in its image, with stand-ins for vLLM's own modules."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.embedded.images.vllm import LAUNCHER

ENGINE = "import multiprocessing\n\ndef get_mp_context():\n    return multiprocessing.get_context('spawn')\n"
SERVES = """\
def main():
    import gc
    from vllm.v1.engine import utils
    print(utils.get_mp_context().get_start_method(), gc.isenabled(), flush=True)
    return 3
"""
LOADS_FOR_EVER = "import time\nprint('loading', flush=True)\ntime.sleep(60)\n"


@pytest.fixture
def started(tmp_path: Path):
    """Start the launcher beside a vLLM whose command-line module is this text."""
    processes: list[subprocess.Popen[str]] = []

    def start(main: str) -> subprocess.Popen[str]:
        for name, text in (("entrypoints/cli/main", main), ("v1/engine/utils", ENGINE)):
            target = tmp_path / "vllm" / f"{name}.py"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        command = [sys.executable, str(LAUNCHER)]
        process = subprocess.Popen(
            command, env={"PYTHONPATH": str(tmp_path)}, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.wait()


def test_the_engine_is_forked_and_the_exit_code_is_vllms_own(started) -> None:
    process = started(SERVES)
    said, _ = process.communicate(timeout=30)
    assert said.split() == ["fork", "True"]
    assert process.returncode == 3


def test_a_server_that_is_still_loading_ends_at_sigterm(started) -> None:
    process = started(LOADS_FOR_EVER)
    assert process.stdout is not None and process.stdout.readline().strip() == "loading"
    process.send_signal(signal.SIGTERM)
    # 128 + 15 comes from the launcher's handler; without one the kernel ends a process that is not PID 1 with -15.
    assert process.wait(timeout=30) == 143
