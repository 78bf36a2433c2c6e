"""What runs in the pod of a witness of the controller: it asks what was made, and keeps what it is told.

Making, deleting, editing and looking is done by whoever started it, at a word in the log ("WITNESS word" is answered by
a file of that name in /tmp). The record is the container's termination message.

The text of this file and of `witness_base` is the pod's command.
"""

from __future__ import annotations

import sys
import time
import urllib.parse
from collections.abc import Callable

from helpers.labs.witness_base import Record, ask_runner, call, leave_record

LONG_S = 240.0
ANSWER_S = 30.0


def reached(host: str) -> bool:
    """Whether the server behind this name answers, within half a minute."""
    until = time.monotonic() + ANSWER_S
    while True:
        if call(f"http://{host}/hostname", timeout_s=5).status == 200:
            return True
        if time.monotonic() > until:
            return False
        time.sleep(0.5)


def run(host: str, command: str) -> str:
    """What a command says in the server's container; empty where nobody answers."""
    said = call(f"http://{host}/shell?cmd={urllib.parse.quote(command)}", timeout_s=10).object
    return str(said.get("output") or said.get("error") or "")


def children() -> Record:
    """Two models, one in an image and one on a claim; the one in the image is read, and written to."""
    seen = ask_runner("made", timeout_s=LONG_S)
    seen["answers"] = reached(seen["host"])
    if seen["answers"]:
        seen["reads"] = "architectures" in run(seen["host"], "cat /mnt/models/config.json")
        seen["writes"] = "done" in run(seen["host"], "touch /mnt/models/x && echo done")
    return seen


def repair() -> Record:
    """Children that somebody deletes and edits, also while the controller is away; and then calm."""
    seen = ask_runner("begun", timeout_s=LONG_S)
    if seen["made"]:
        seen |= ask_runner("deleted", timeout_s=LONG_S)
        seen |= ask_runner("edited", timeout_s=LONG_S)
        seen |= ask_runner("missed", timeout_s=LONG_S)
        seen |= ask_runner("calm", timeout_s=LONG_S)
        seen["answers"] = reached(seen["host"])
    return seen


def conditions() -> Record:
    """A server that needs a while, a change that never serves, and its repair."""
    seen = ask_runner("waited", timeout_s=LONG_S)
    if seen["ready"]:
        seen["answers"] = reached(seen["host"])
        seen |= ask_runner("broken", timeout_s=LONG_S)
        seen |= ask_runner("mended", timeout_s=LONG_S)
    return seen


def refusals() -> Record:
    """What cannot be served, a name that is taken, and a service that becomes wrong later."""
    seen = ask_runner("refused", timeout_s=LONG_S)
    return seen | ask_runner("came", timeout_s=LONG_S)


def endings() -> Record:
    """Another name, and an end while the controller is away."""
    seen = ask_runner("renamed", timeout_s=LONG_S)
    return seen | ask_runner("ended", timeout_s=LONG_S)


WITNESSES: dict[str, Callable[[], Record]] = {
    "children": children,
    "repair": repair,
    "conditions": conditions,
    "refusals": refusals,
    "endings": endings,
}


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], WITNESSES))
