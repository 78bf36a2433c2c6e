"""What runs beside a witness of the gate: copies of the orchestrator, a process a release, until one of them ends.

`RELEASES` says which, each with its variables. What they import is imported once, before they part: seven
interpreters would need the seconds and the memory of seven. The text of this file is the container's command.
"""

from __future__ import annotations

import json
import os
import sys


def copy(variables: dict[str, str]) -> None:
    """A copy, in a process of its own, with these variables; it serves until it is told to end."""
    os.environ.update(variables)
    from helpers.apps.orchestrator.__main__ import main

    main()


def main() -> int:
    """Start the copies and wait; the exit code of the first that ends, which ends the others."""
    import helpers.apps.orchestrator.service  # noqa: F401 - imported for all of them

    for variables in json.loads(os.environ["RELEASES"]).values():
        if os.fork() == 0:
            try:
                copy(variables)
            finally:
                os._exit(1)
    _, status = os.wait()
    return os.waitstatus_to_exitcode(status) or 1


if __name__ == "__main__":
    sys.exit(main())
