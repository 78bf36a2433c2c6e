"""`python -m helpers.apps.orchestrator`: serve until SIGTERM."""

from __future__ import annotations

import logging
import sys

from helpers.apps.orchestrator.settings import Settings, SettingsWrong


def main() -> None:
    try:
        settings = Settings.from_environment()
    except SettingsWrong as wrong:
        sys.exit(str(wrong))
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    from helpers.apps.orchestrator.service import serve

    serve(settings)


if __name__ == "__main__":
    main()
