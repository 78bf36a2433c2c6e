"""The files in which a test failed in pytest's last run, for `make test` to run them once more, alone."""

from __future__ import annotations

import json
from pathlib import Path

LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def failed_files(last_failed: str) -> list[str]:
    """The files, in order, of what pytest's cache holds as `{"file::test": true}` in JSON."""
    return sorted({name.partition("::")[0] for name in json.loads(last_failed)})


if __name__ == "__main__":
    print(*failed_files(LAST_FAILED.read_text()))
