"""`python -m qdrant_server`: serve until SIGTERM, then flush and close every collection."""

from __future__ import annotations

import logging

import uvicorn

from . import API_VERSION, ENGINE_LABEL
from .app import create_app
from .settings import Settings


def main() -> None:
    settings = Settings.from_environment()
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("qdrant").info("Qdrant API %s (%s)", API_VERSION, ENGINE_LABEL)
    uvicorn.run(
        create_app(settings),
        host=settings.host,
        port=settings.http_port,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=10,
    )


if __name__ == "__main__":
    main()
