"""Where the queue's stream is: one suite runs over Redis, and over Kafka too where COURSE_TEST_KAFKA is set."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from helpers.apps.jobs.settings import JobsSettings
from helpers.apps.jobs.store import Queue
from helpers.apps.jobs.upkeep import queue_of
from tests.contract.kafka_process import KafkaProcess

T = TypeVar("T")
BACKENDS = ("redis", *(("kafka",) if os.environ.get("COURSE_TEST_KAFKA") else ()))


@contextmanager
def running(backend: str, folder: Path) -> Iterator[dict[str, str]]:
    """What front and workers are told of it; a Kafka is started, and ends with the tests."""
    if backend == "redis":
        yield {"JOBS_QUEUE": "redis"}
        return
    broker = KafkaProcess(folder)
    broker.start()
    try:
        yield {"JOBS_QUEUE": "kafka", "KAFKA_BOOTSTRAP": broker.bootstrap}
    finally:
        broker.kill()


def asked(settings: Mapping[str, str], ask: Callable[[Queue], Awaitable[T]]) -> T:
    """What the queue of these settings says, asked from outside."""

    async def work() -> T:
        queue = queue_of(JobsSettings.from_environment(settings))
        try:
            return await ask(queue)
        finally:
            await queue.close()

    return asyncio.run(work())
