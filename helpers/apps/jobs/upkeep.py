"""What front and workers do alike: the queue that the settings name, and its depth for all to see."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from helpers.apps.jobs.metrics import Metrics
from helpers.apps.jobs.settings import JobsSettings
from helpers.apps.jobs.store import Queue, StoreUnavailable

log = logging.getLogger("jobs")


def queue_of(settings: JobsSettings) -> Queue:
    """The queue that the settings name."""
    options: dict[str, Any] = {
        "prefix": settings.queue_prefix,
        "consumer": settings.pod,
        "claim_idle_ms": settings.claim_idle_ms,
        "job_ttl_s": settings.job_ttl_s,
    }
    if settings.jobs_queue == "redis":
        return Queue(settings.redis_url, **options)
    # Whoever does not switch the queue to Kafka loads no client of it.
    from helpers.apps.jobs.kafka_stream import KafkaQueue

    return KafkaQueue(
        settings.redis_url,
        bootstrap=settings.kafka_bootstrap,
        partitions=settings.kafka_partitions,
        copies=settings.kafka_copies,
        drain_s=settings.drain_deadline_s,
        **options,
    )


async def show_depth(queue: Queue, metrics: Metrics) -> None:
    """Bring the gauges of the queue up to date, once, and what was left behind into the stream."""
    await queue.relay()
    depth = await queue.depth()
    metrics.waiting.set(depth.waiting)
    metrics.pending.set(depth.pending)
    metrics.length.set(depth.length)
    metrics.dead.set(depth.dead)


async def every(seconds: float, step: Callable[[], Awaitable[None]]) -> None:
    """Do a step now and again; a Redis that does not answer is no reason to stop."""
    while True:
        try:
            await step()
        except StoreUnavailable as error:
            log.info("%s", error)
        await asyncio.sleep(seconds)
