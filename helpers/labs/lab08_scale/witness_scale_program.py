"""What runs in the pod of a witness of scaling: it makes the load, and counts the answers.

What replicas there are it cannot see from here. Whoever started it watches, and answers what is asked in the log:
"WITNESS word about" is answered by a file of that name in /tmp. The record is the container's termination message.

The text of this file and of `witness_base` is the pod's command.
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

from helpers.labs.witness_base import Answer, Record, call, leave_record

TMP = Path("/tmp")
# vLLM takes in four at once here: twelve of these wait for one server, and eight for two.
MANY, FEW = 16, 2
TOKENS = 24
ANSWER_S = 240.0
CALM_S, DIP_S, AGAIN_S = 5.0, 25.0, 15.0
JOB_S = 240.0


def ask_runner(word: str, about: str = "", *, timeout_s: float) -> Record:
    """What whoever started this says to a word of the log.

    Raises:
        TimeoutError: nobody answers.
    """
    file, until = TMP / word, time.monotonic() + timeout_s
    print(f"WITNESS {word} {about}".strip(), flush=True)
    while not file.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"nobody answered {word!r}: run it with `course witness`")
        time.sleep(0.2)
    while True:
        try:
            found: Record = json.loads(file.read_text())
        except ValueError:  # it is being written
            time.sleep(0.1)
            continue
        if found.get("error"):
            raise RuntimeError(str(found["error"]))
        return found


class Load:
    """Callers that ask the pool again as soon as they are answered; `size` says how many of them do."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._model = _model(url)
        self._wanted = 0
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.asked = self.answered = 0
        self.lost: list[str] = []
        self._threads = [
            threading.Thread(target=self._loop, args=(number,), daemon=True) for number in range(MANY)
        ]
        for thread in self._threads:
            thread.start()

    def size(self, callers: int) -> None:
        self._wanted = callers

    def stop(self) -> None:
        """No caller asks again; those that have asked get their answers."""
        self._wanted = 0
        self._stopped.set()
        for thread in self._threads:
            thread.join(ANSWER_S)

    def _loop(self, number: int) -> None:
        while not self._stopped.is_set():
            if number >= self._wanted:
                self._stopped.wait(0.1)
                continue
            body = {
                "model": self._model,
                "prompt": "Once upon a time",
                "max_tokens": TOKENS,
                "ignore_eos": True,
            }
            with self._lock:
                self.asked += 1
            said = call(f"{self._url}/v1/completions", body, timeout_s=ANSWER_S)
            whole = said.status == 200 and said.object.get("usage", {}).get("completion_tokens") == TOKENS
            with self._lock:
                if whole:
                    self.answered += 1
                else:
                    self.lost.append(f"{said.status} {said.text[:60]}")
            if not whole:
                self._stopped.wait(0.5)

    def record(self) -> Record:
        return {"asked": self.asked, "answered": self.answered, "lost": len(self.lost), "how": self.lost[:3]}


def _model(url: str) -> str:
    said = call(f"{url}/v1/models", timeout_s=20)
    models: list[Any] = said.object.get("data") or []
    if not models:
        raise RuntimeError(f"the pool does not answer: {said.status} {said.text[:120]}")
    return str(models[0]["id"])


def wave() -> Record:
    """Calm, a step, a dip that is over soon, and calm again; which answers were lost."""
    load = Load(os.environ["POOL_URL"])
    seen: Record = {"asked_s": None, "desired": None}
    try:
        load.size(FEW)
        seen["rest"] = ask_runner("rest", timeout_s=260)["replicas"]
        time.sleep(CALM_S)
        if seen["rest"] == 1:
            load.size(MANY)
            seen |= ask_runner("second", timeout_s=330)
        if seen["asked_s"] is not None:
            load.size(FEW)
            time.sleep(DIP_S)
            load.size(MANY)
            time.sleep(AGAIN_S)
            load.size(FEW)
            seen |= ask_runner("down", timeout_s=330)
    finally:
        load.stop()
    return seen | ask_runner("changes", timeout_s=30) | load.record()


def blind() -> Record:
    """A step, and then Prometheus is gone for a while."""
    load = Load(os.environ["POOL_URL"])
    try:
        load.size(MANY)
        seen = ask_runner("second", "asked", timeout_s=330)
        if seen["asked_s"] is not None:
            seen |= ask_runner("gone", timeout_s=330)
    finally:
        load.stop()
    return seen | load.record()


def zero() -> Record:
    """One job, and nobody there to do it; then one more, for comparison."""
    asleep = ask_runner("asleep", timeout_s=400)
    seen: Record = {"replicas": asleep["replicas"]}
    if asleep["replicas"] == 0:
        seen["first"] = _job("first")
        seen["second"] = _job("second")
        seen |= ask_runner("awake", timeout_s=30)
    return seen


def _job(name: str) -> Record:
    """One job from its acceptance to its end."""
    url, began = os.environ["JOBS_URL"], time.monotonic()
    # Another question each time: an answer from the cache would wake nobody.
    question = f"What is a pod? ({name} of {os.environ.get('JOB_UID', '')[:8]})"
    body = {"question": question, "max_tokens": 8, "retrieve": False, "cache": "off"}
    said = call(f"{url}/v1/jobs", body, headers=_internal(), timeout_s=30)
    if said.status != 202:
        raise RuntimeError(f"the job was not accepted: {said.status} {said.text[:160]}")
    address, found = f"{url}/v1/jobs/{said.object['job_id']}", said
    while time.monotonic() - began < JOB_S and found.object.get("status") not in (
        "done",
        "failed",
        "cancelled",
    ):
        time.sleep(0.3)
        found = _state(address)
    took = round(time.monotonic() - began, 1)
    return {"status": found.object.get("status"), "attempts": found.object.get("attempts"), "s": took}


def _state(address: str) -> Answer:
    return call(address, headers=_internal(), timeout_s=10)


def _internal() -> dict[str, str]:
    token = os.environ.get("INTERNAL_API_TOKEN", "")
    return {
        "Authorization": f"Bearer {token}",
        "X-Internal-Token": token,
        "X-Tenant-Id": os.environ.get("TENANT", "docs"),
    }


def square() -> Record:
    """For the benchmark: high and low in turn, `SQUARE=high_s,low_s,whole_s`, and a line in the log for each step."""
    high_s, low_s, whole_s = (float(text) for text in os.environ["SQUARE"].split(","))
    load = Load(os.environ["POOL_URL"])
    began = time.monotonic()
    try:
        load.size(FEW)
        time.sleep(CALM_S)
        while time.monotonic() - began < whole_s:
            for callers, seconds in ((MANY, high_s), (FEW, low_s)):
                print(f"STEP {callers} {time.time():.1f}", flush=True)
                load.size(callers)
                time.sleep(seconds)
        ask_runner("down", timeout_s=330)
    finally:
        load.stop()
    return load.record()


WITNESSES: dict[str, Callable[[], Record]] = {"wave": wave, "blind": blind, "zero": zero, "square": square}


if __name__ == "__main__":
    sys.exit(leave_record(sys.argv[1], WITNESSES))
