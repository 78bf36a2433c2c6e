"""What runs in the pod of the witness `release`: users at the gateway, while releases come and go.

It asks for what is served, several times a second, as it asks a question now and then; the course's own process
releases a bad candidate and then a good one when this program says so in its log, and answers with how each
ended. The record is the container's termination message. The text of this file
and of `witness_base` is the pod's command.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.labs.witness_base import Record, call, keys, leave_record

EVERY_S = 0.2
DECIDED_S = 330.0
AFTER = 24
QUESTION = "Does an idle pod still use up the GPU quota?"


class Users:
    """Whoever asks through the gateway; what they were answered, by release."""

    def __init__(self) -> None:
        self._url = os.environ["GATEWAY_URL"]
        self._headers = {"x-api-key": keys()["course"]}
        self.answers: dict[str, int] = {}
        self.lost = 0
        self._over = threading.Event()
        self._lock = threading.Lock()

    def served(self) -> str:
        """Which release answers now; empty where none does."""
        status, body = self._call("/assistant/v1/release")
        return str(body.get("release") or "") if status == 200 else ""

    def question(self) -> str:
        """A question, as users ask it: the release's prompt version, which its answer carries."""
        asked = {"question": QUESTION, "max_tokens": 4}
        status, body = self._call("/assistant/v1/chat", asked)
        return str(body.get("prompt_version") or "") if status == 200 else ""

    def _call(self, path: str, body: Any = None) -> tuple[int, Record]:
        answer = call(f"{self._url}{path}", body, headers=self._headers, timeout_s=40)
        return answer.status, answer.object

    def ask_on(self) -> None:
        """Ask until told to stop."""
        while not self._over.wait(EVERY_S):
            self.count(self.served())

    def count(self, release: str) -> None:
        with self._lock:
            if release:
                self.answers[release] = self.answers.get(release, 0) + 1
            else:
                self.lost += 1

    def taken(self) -> dict[str, int]:
        """The answers since this was asked last."""
        with self._lock:
            found, self.answers = self.answers, {}
            return found

    def stop(self) -> None:
        self._over.set()


def until_answered(word: str) -> Record:
    """Ask the course's process for something, and wait for what it says."""
    file = Path("/tmp") / word
    print(f"WITNESS {word} now", flush=True)
    until = time.monotonic() + DECIDED_S
    while not file.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"nobody did what was asked for: {word}")
        time.sleep(0.3)
    time.sleep(0.1)
    found: Record = json.loads(file.read_text())
    return found


def after(users: Users) -> dict[str, int]:
    """Who answers now that all is decided, and Envoy's view of the pods has followed."""
    time.sleep(12)
    found: dict[str, int] = {}
    for _ in range(AFTER):
        name = users.served()
        found[name] = found.get(name, 0) + 1
    return found


def release() -> Record:
    """Part 4: a bad candidate and a good one under users' eyes."""
    users = Users()
    if not users.served():
        raise RuntimeError("the gateway has no way to the assistant: /assistant/v1/release does not answer")
    asking = threading.Thread(target=users.ask_on, daemon=True)
    asking.start()
    seen: Record = {}
    for word in ("bad", "good"):
        users.taken()
        outcome = until_answered(word)
        meanwhile = users.taken()
        seen[word] = {**outcome, "answers": meanwhile, "after": after(users), "asked": users.question()}
    users.stop()
    return {**seen, "lost": users.lost}


WITNESSES: dict[str, Callable[[], Record]] = {"release": release}


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], WITNESSES))
