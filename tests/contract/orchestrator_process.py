"""The orchestrator as its image runs it: a process of its own, on loopback."""

from __future__ import annotations

from pathlib import Path

from tests.contract.service_process import TOKEN, ServiceProcess

__all__ = ["TOKEN", "OrchestratorProcess"]


class OrchestratorProcess(ServiceProcess):
    """Start, stop, kill; settings are the service's own environment variables."""

    def __init__(self, folder: Path, name: str = "pod", **environment: str) -> None:
        own = folder / name
        settings = {"LANGGRAPH_STRICT_MSGPACK": "true", **environment}
        super().__init__(own, ["helpers.apps.orchestrator"], own / "decisions", settings, ready_s=30)

    def decide(self, file: str, source: str) -> None:
        """Mount a decision, before the start."""
        self.decisions.mkdir(parents=True, exist_ok=True)
        (self.decisions / file).write_text(source)
