"""What the witnesses of queue and cache share: asking the front as the gateway does, and looking into the queue.

The stream itself is asked through the service's own client of it, in Redis or in Kafka: what is seen is judged alike.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import time
import urllib.parse
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

import redis

from helpers.labs.witness_base import Answer, Record

FRONT = os.environ.get("JOBS_URL", "")
ME = os.environ.get("HOSTNAME", "witness")
ONE, OTHER = "witness-a", "witness-b"
SETTLED_S = 90.0
FINISHED = ("done", "failed", "cancelled")


class Unseen(Exception):
    """The witness could not look; it says why."""


def ask(
    method: str,
    path: str,
    body: Any = None,
    *,
    tenant: str = ONE,
    key: str = "",
    token: str | None = None,
    raw: bytes | None = None,
) -> Answer:
    """One request to the front, as the gateway sends it; what breaks is an answer of status 0."""
    place, began = urllib.parse.urlsplit(FRONT), time.monotonic()
    headers = {"Content-Type": "application/json", "X-Tenant-Id": tenant}
    headers["X-Internal-Token"] = os.environ.get("INTERNAL_API_TOKEN", "") if token is None else token
    headers |= {"Idempotency-Key": key} if key else {}
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    try:
        text = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        connection.request(method, path, text, headers)
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        said = response.read().decode("utf-8", "replace")
        return Answer(response.status, said, found, time.monotonic() - began)
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, f"{type(error).__name__}: {error}", {}, time.monotonic() - began)
    finally:
        connection.close()


def question(number: object) -> str:
    """A question that nobody asked before."""
    return f"In two words: what is {number}? ({ME})"


def submit(text: str, *, tenant: str = ONE, key: str = "", max_tokens: int = 4) -> Answer:
    """Leave a job whose answer nobody has given before."""
    body = {"question": text, "max_tokens": max_tokens, "retrieve": False, "cache": "off"}
    return ask("POST", "/v1/jobs", body, tenant=tenant, key=key)


def number_of(answer: Answer) -> str:
    return str(answer.object.get("job_id") or "")


def settled(names: Iterable[str], *, tenant: str = ONE, within_s: float = SETTLED_S) -> dict[str, Record]:
    """These jobs, each as it stood when it was finished, or when the time was over."""
    left, found, end = dict.fromkeys(names), dict[str, Record](), time.monotonic() + within_s
    while left and time.monotonic() < end:
        for name in list(left):
            answer = ask("GET", f"/v1/jobs/{name}", tenant=tenant)
            if answer.status == 200:
                found[name] = answer.object
                if answer.object.get("status") in FINISHED:
                    del left[name]
        time.sleep(0.2)
    return found


def is_answered(job: Record) -> bool:
    return job.get("status") == "done" and bool(str(job.get("answer") or "").strip())


def database(url: str = "") -> Any:
    """The queue's Redis."""
    url = url or os.environ["REDIS_URL"]
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=5, socket_connect_timeout=3)


class Stream:
    """The stream of one queue, wherever the settings have it, for a program that does one thing at a time."""

    def __init__(self, prefix: str = "") -> None:
        from helpers.apps.jobs.store import Queue

        self._loop = asyncio.new_event_loop()
        self.queue = Queue(os.environ["REDIS_URL"], prefix=prefix)
        if self.is_kafka():
            from helpers.apps.jobs.kafka_stream import KafkaQueue

            self.queue = KafkaQueue(
                os.environ["REDIS_URL"], bootstrap=os.environ["KAFKA_BOOTSTRAP"], prefix=prefix
            )

    @staticmethod
    def is_kafka() -> bool:
        return os.environ.get("JOBS_QUEUE") == "kafka"

    def wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """What the queue says to one question."""
        return self._loop.run_until_complete(work)

    def letters(self) -> list[Record]:
        found: list[Record] = self.wait(self.queue.letters())
        return found

    def in_work(self) -> int:
        """How many entries nobody has read, or nobody is done with."""
        depth = self.wait(self.queue.depth())
        return int(depth.waiting + depth.pending)

    def acknowledged(self) -> int:
        """How many entries are done with."""
        depth = self.wait(self.queue.depth())
        return int(depth.length - depth.waiting - depth.pending)

    def close(self) -> None:
        self.wait(self.queue.close())
        self._loop.close()


# Asking whoever runs it


def request(word: str, about: str = "") -> Path:
    """Ask whoever started this for something; the answer is this file, once it is there."""
    name, _, _ = word.partition("-")
    print(f"WITNESS {name} {word} {about}".rstrip(), flush=True)
    return Path(f"/tmp/{word}")


def until(condition: Callable[[], Any], what: str, within_s: float = SETTLED_S) -> None:
    """Until it holds.

    Raises:
        Unseen: it does not, in time.
    """
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            raise Unseen(what)
        time.sleep(0.1)
