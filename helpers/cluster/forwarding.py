"""Port-forward with a real listener on loopback, for httpx, openai and qdrant-client."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Address:
    """Where a forwarded port can be reached."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """For HTTP clients."""
        return f"http://{self.host}:{self.port}"
