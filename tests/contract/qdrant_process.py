"""The embedded Qdrant server as its image runs it: a process of its own, on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from helpers.settings import REPOSITORY

SOURCE = REPOSITORY / "helpers" / "embedded" / "images" / "qdrant"
READY_TIMEOUT_S = 30


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class QdrantProcess:
    """Start, stop, kill and start again, on the same folder."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": str(SOURCE),
            "QDRANT__STORAGE__STORAGE_PATH": str(self.folder / "storage"),
            "QDRANT__STORAGE__SNAPSHOTS_PATH": str(self.folder / "snapshots"),
            "QDRANT__SERVICE__HOST": "127.0.0.1",
            "QDRANT__SERVICE__HTTP_PORT": str(self.port),
            **self._environment,
        }
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen([sys.executable, "-m", "qdrant_server"], env=environment, stderr=log)
        self._wait_ready()

    def _wait_ready(self) -> None:
        end = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < end:
            try:
                if httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            assert self._process and self._process.poll() is None, self.log()
            time.sleep(0.02)  # the only way to learn that another process listens
        raise AssertionError(f"not ready within {READY_TIMEOUT_S} s: {self.log()}")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(signal_number)
        return self._process.wait(timeout=20)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)
