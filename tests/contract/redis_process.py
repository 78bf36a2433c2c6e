"""Redis with its modules as its image runs it: a process of its own, on loopback."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import redis

from helpers.embedded.images import redis as image
from tests.contract.qdrant_process import free_port

READY_TIMEOUT_S = 20


class RedisProcess:
    """Start, stop, kill and start again, on the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        files = image.files(print)
        modules = [
            word for name in ("redisearch.so", "rejson.so") for word in ("--loadmodule", str(files / name))
        ]
        command = [str(files / "redis-server"), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--save", "", *modules]
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(command, stdout=log, stderr=log)
        self._wait_ready()

    def _wait_ready(self) -> None:
        end = time.monotonic() + READY_TIMEOUT_S
        with self.client() as client:
            while time.monotonic() < end:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    pass
                assert self._process and self._process.poll() is None, self.log()
                time.sleep(0.02)  # the only way to learn that another process listens
        raise AssertionError(f"not ready within {READY_TIMEOUT_S} s: {self.log()}")

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self, signal_number: int = signal.SIGTERM) -> int:
        assert self._process is not None
        self._process.send_signal(signal_number)
        return self._process.wait(timeout=20)

    def kill(self) -> None:
        self.stop(signal.SIGKILL)
