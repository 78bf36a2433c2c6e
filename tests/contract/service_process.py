"""A service of the course as its image runs it: a process of its own, on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from helpers.settings import REPOSITORY
from tests.contract.qdrant_process import free_port

TOKEN = "token-of-the-tests"


class ServiceProcess:
    """Start, stop, kill; settings are the service's own environment variables.

    Args:
        folder: of this process's own, for its log.
        words: what follows `python -m`.
        decisions: where its decisions are mounted.
        ready_s: how long it may take until it is ready.
    """

    def __init__(
        self,
        folder: Path,
        words: Sequence[str],
        decisions: Path,
        environment: Mapping[str, str],
        ready_s: float,
    ) -> None:
        self.folder, self.name = folder, folder.name
        self.port, self.metrics_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.decisions = decisions
        self._words, self._environment, self._ready_s = words, environment, ready_s
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def probe_url(self) -> str:
        """Where `/readyz` is."""
        return self.url

    def start(self, *, until_ready: bool = True) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "INTERNAL_API_TOKEN": TOKEN,
            "DECISIONS_DIR": str(self.decisions),
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "METRICS_PORT": str(self.metrics_port),
            "POD": self.name,
            **self._environment,
        }
        log = (self.folder / "log").open("ab")
        command = [sys.executable, "-m", *self._words]
        self.process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=log, stderr=log)
        if until_ready:
            self.wait_ready()

    def wait_ready(self, status: int = 200) -> dict[str, Any]:
        """Until `/readyz` answers with this status; what it says."""
        end = time.monotonic() + self._ready_s
        while time.monotonic() < end:
            try:
                answer = httpx.get(f"{self.probe_url}/readyz", trust_env=False)
                if answer.status_code == status:
                    said: dict[str, Any] = answer.json()
                    return said
            except httpx.TransportError:
                pass
            assert self.process and self.process.poll() is None, self.log()
            time.sleep(0.05)  # the only way to learn that another process listens
        raise AssertionError(f"readyz was not {status} within {self._ready_s} s: {self.log()}")

    def client(self, *, tenant: str = "tests", timeout_s: float = 60) -> httpx.Client:
        """A client that the gateway's token makes welcome."""
        headers = {"Authorization": f"Bearer {TOKEN}", "X-Tenant-Id": tenant}
        return httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's series that have these labels."""
        text = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False).text
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] == name]
        return sum(float(line.rpartition(" ")[2]) for line in lines if all(item in line for item in wanted))

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(signal_number)
        return self.process.wait(timeout=60)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None
