"""The witnesses of staging and of versions, as they run in their pod: what each server answers, and who answers when.

This text is the pod's command, with that of `witness_base`. Scaling, and looking into pods, is asked of whoever
started the witness, in a line of its log; what comes back is a file in /tmp.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from helpers.labs.witness_base import Record, call, leave_record

PORT = 8000
SERVICE = f"http://model:{PORT}"
QUESTION = "What is your name?"
WAIT_S = 400.0
ASKERS, DURING, AFTER = 3, 20, 6
# While a server loads, whoever asks without a pause takes the time that it needs.
PAUSE_S = 1.5
LONGEST_TEXT = 70


def asked(word: str, about: str) -> Record:
    """What whoever started the witness says to a request in the log."""
    file = Path(f"/tmp/{word}-{about}")
    print(f"WITNESS {word}-{about} {word} {about}", flush=True)
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        try:
            said: Record = json.loads(file.read_text())
        except (OSError, ValueError):  # not there yet, or being written
            time.sleep(0.1)
            continue
        file.unlink()
        return said
    raise TimeoutError(f"nobody did what was asked for: {word} {about}")


def question(url: str, *, tokens: int = 12) -> Record:
    """One question to one address: the status, the answer, and how long the prompt was with its template."""
    body = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0,
        "max_tokens": tokens,
    }
    found = call(f"{url}/v1/chat/completions", body, timeout_s=60)
    choices = found.object.get("choices") or [{}]
    text = str((choices[0].get("message") or {}).get("content") or "")
    return {
        "status": found.status,
        "answer": " ".join(text.split())[:LONGEST_TEXT],
        "prompt": (found.object.get("usage") or {}).get("prompt_tokens"),
    }


def serves(url: str) -> str:
    """The folder that a server says it serves."""
    models = call(f"{url}/v1/models", timeout_s=20).object.get("data") or [{}]
    return str(models[0].get("root") or "")


def stage(way: str) -> Record:
    up = asked("up", way)
    for pod in up["pods"]:
        if pod.get("ip"):
            url = f"http://{pod.pop('ip')}:{PORT}"
            pod |= {**question(url), "root": serves(url)}
    asked("down", way)
    return up


class Callers:
    """Some who ask the Service until they are told to stop; who did not get an answer counts."""

    def __init__(self) -> None:
        self.lost: list[str] = []
        self.pause_s = PAUSE_S
        self.answered = 0
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(ASKERS)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._over.is_set():
            found = question(SERVICE, tokens=4)
            if found["status"] == 200:
                self.answered += 1
            else:
                self.lost.append(f"status {found['status']}")
            self._over.wait(self.pause_s)

    def stop(self) -> Record:
        self._over.set()
        for thread in self._threads:
            thread.join()
        return {"answered": self.answered, "lost": len(self.lost), "first": self.lost[:1]}


def versions() -> Record:
    one = asked("up", "model-v1")
    seen: Record = {"one": one, "problem": one["problem"]}
    if one["problem"]:
        return seen
    _introduce(one)
    before = _who(AFTER)
    callers = Callers()
    try:
        seen["two"] = two = asked("up", "model-v2")
        _introduce(two)
        during = _who(DURING) if not two["problem"] else {}
        callers.pause_s = 0.0
        asked("down", "model-v2")
        after = _who(AFTER)
    finally:
        seen["callers"] = callers.stop()
    return {**seen, "before": before, "during": during, "after": after, "still": asked("look", "model-v1")}


def _introduce(found: Record) -> None:
    """What each pod answers when it is asked itself, past the Service."""
    for pod in found["pods"]:
        if pod.get("ip"):
            pod |= question(f"http://{pod.pop('ip')}:{PORT}")


def _who(times: int) -> dict[str, int]:
    """How often the Service gave which length of prompt: each version has a length of its own."""
    return dict(Counter(str(question(SERVICE, tokens=2)["prompt"]) for _ in range(times)))


def look() -> Record:
    """The witness that this pod is."""
    name = sys.argv[1]
    return versions() if name == "versions" else stage(name)


if __name__ == "__main__":
    os.environ.setdefault("HOSTNAME", "")
    sys.exit(leave_record(sys.argv[1], {sys.argv[1]: look}))
