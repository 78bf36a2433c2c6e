"""Settings from the same environment variables as the official image (`QDRANT__SECTION__KEY`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Where data lives and who may ask for it."""

    storage_path: Path = Path("./storage")
    snapshots_path: Path = Path("./snapshots")
    host: str = "0.0.0.0"
    http_port: int = 6333
    api_key: str | None = None
    read_only_api_key: str | None = None
    log_level: str = "INFO"
    max_request_size_mb: int = 32

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read what is set; everything else keeps Qdrant's own defaults."""
        read = environment.get
        return cls(
            storage_path=Path(read("QDRANT__STORAGE__STORAGE_PATH", "./storage")),
            snapshots_path=Path(read("QDRANT__STORAGE__SNAPSHOTS_PATH", "./snapshots")),
            host=read("QDRANT__SERVICE__HOST", "0.0.0.0"),
            http_port=int(read("QDRANT__SERVICE__HTTP_PORT", "6333")),
            api_key=read("QDRANT__SERVICE__API_KEY") or None,
            read_only_api_key=read("QDRANT__SERVICE__READ_ONLY_API_KEY") or None,
            log_level=read("QDRANT__LOG_LEVEL", "INFO"),
            max_request_size_mb=int(read("QDRANT__SERVICE__MAX_REQUEST_SIZE_MB", "32")),
        )
