"""`python -m helpers.apps.jobs front|worker`: serve until SIGTERM."""

from __future__ import annotations

import logging
import sys

from helpers.apps.jobs.settings import JobsSettings
from helpers.apps.orchestrator.settings import SettingsWrong

ROLES = ("front", "worker")


def main() -> None:
    role = sys.argv[1] if len(sys.argv) == 2 else ""
    if role not in ROLES:
        sys.exit(f"usage: python -m helpers.apps.jobs {'|'.join(ROLES)}")
    try:
        settings = JobsSettings.from_environment()
    except SettingsWrong as wrong:
        sys.exit(str(wrong))
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("httpx", "httpx2", "aiokafka"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    if role == "front":
        from helpers.apps.jobs.front import serve
    else:
        from helpers.apps.jobs.worker import serve
    serve(settings)


if __name__ == "__main__":
    main()
