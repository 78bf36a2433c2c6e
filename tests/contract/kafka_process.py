"""Kafka as its image runs it: one broker with KRaft, a process of its own, on loopback."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from pathlib import Path

from helpers.embedded.images import debian
from helpers.embedded.images import kafka as image
from helpers.kubeyaml import load_all
from helpers.settings import REPOSITORY
from tests.contract.qdrant_process import free_port

CONFIG = REPOSITORY / "manifests" / "stack" / "kafka" / "base" / "config.yaml"
READY_TIMEOUT_S = 60


class KafkaProcess:
    """Start, kill and start again, on the same folder, with the manifests' own configuration on ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self._controller = folder, free_port(), free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "server.properties"
        config.write_text(self._properties())
        java = debian.root("kafka", image.PACKAGES, print) / image.JAVA / "java"
        words = [str(java), "-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        words += ["-cp", f"{image.jars(print)}/*"]
        format_it = [*words, "kafka.tools.StorageTool", "format", "--ignore-formatted"]
        with (self.folder / "log").open("ab") as log:
            storage = ["-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", str(config)]
            subprocess.run([*format_it, *storage], stdout=log, stderr=log, check=True)
            self._process = subprocess.Popen([*words, "kafka.Kafka", str(config)], stdout=log, stderr=log)
        self._wait_ready()

    def _properties(self) -> str:
        """As in the ConfigMap, with this process's addresses and folder in place of the pod's."""
        (found,) = load_all(CONFIG.read_text())
        text: str = found["data"]["server.properties"]
        text = text.replace("kafka-0.kafka.llm-batch.svc.cluster.local:9092", self.bootstrap)
        text = text.replace(":9092", f":{self.port}").replace(":9093", f":{self._controller}")
        return text.replace("/var/lib/kafka", str(self.folder / "data"))

    def _wait_ready(self) -> None:
        end = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                pass
            assert self._process and self._process.poll() is None, self.log()
            time.sleep(0.1)  # the only way to learn that another process listens
        raise AssertionError(f"not ready within {READY_TIMEOUT_S} s: {self.log()}")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(timeout=20)
