"""Front and workers of the queue as their image runs them: processes of their own, on loopback."""

from __future__ import annotations

from pathlib import Path

from tests.contract.service_process import TOKEN, ServiceProcess

__all__ = ["TOKEN", "JobsProcess"]


class JobsProcess(ServiceProcess):
    """A front or a worker; all of one folder have the same decisions."""

    def __init__(self, folder: Path, role: str, name: str, **environment: str) -> None:
        words = ["helpers.apps.jobs", role]
        super().__init__(folder / name, words, folder / "decisions", environment, ready_s=60)
        self.role = role

    @property
    def probe_url(self) -> str:
        """Beside the metrics: a worker has no other port."""
        return f"http://127.0.0.1:{self.metrics_port}"
