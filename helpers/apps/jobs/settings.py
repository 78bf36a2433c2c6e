"""What the operator sets, for the front and the workers alike: from ConfigMap `llm-jobs-config` and one Secret."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from helpers.apps.orchestrator.settings import SWITCH, Settings, SettingsWrong

QUEUES = ("redis", "kafka")


@dataclass(frozen=True)
class JobsSettings(Settings):
    """The orchestrator's settings of backends, prompts and traces, and those of the queue.

    Args:
        queue_prefix: stands before every key, so that two queues can share one Redis; cache_prefix: of the cache's.
        queue_limit: unfinished jobs of all tenants together; tenant_limit of one of them, 0 for no limit.
        jobs_queue: where the stream is: redis, or kafka at kafka_bootstrap; a topic that is missing is made with
            kafka_partitions, each kept by kafka_copies brokers. All else stays in Redis.
        claim_idle_ms: an entry that nobody renewed for so long is taken over. Workers renew three times as often.
        generation_deadline_s: how long one generation may take.
        cache_floor: stored questions that are less similar are not even offered to `may_share`.
        poison: questions with this text end the worker at once, as a job does that is killed for its memory.
    """

    vllm_base_url: str = "http://vllm.llm-batch.svc.cluster.local:8000/v1"
    redis_url: str = "redis://queue.llm-batch.svc.cluster.local:6379"
    decisions_dir: Path = Path("/etc/jobs/decisions")
    client_max_retries: int = 0
    drain_deadline_s: float = 30.0
    tenants: str = ""
    jobs_queue: str = "redis"
    kafka_bootstrap: str = "kafka.llm-batch.svc.cluster.local:9092"
    kafka_partitions: int = 12
    kafka_copies: int = 1
    queue_prefix: str = ""
    cache_prefix: str = ""
    queue_limit: int = 1000
    tenant_limit: int = 0
    job_ttl_s: int = 3600
    worker_concurrency: int = 4
    claim_idle_ms: int = 15_000
    retrieval_chunks: int = 3
    retrieval_deadline_s: float = 5.0
    generation_deadline_s: float = 60.0
    cache: str = "on"
    cache_ttl_s: float = 600.0
    cache_floor: float = 0.5
    poison: str = ""

    @property
    def known_tenants(self) -> frozenset[str]:
        """Whose jobs are accepted; empty: everybody's."""
        return frozenset(name.strip() for name in self.tenants.split(",") if name.strip())

    def checked(self) -> Self:
        super().checked()
        above = (
            "kafka_partitions",
            "queue_limit",
            "job_ttl_s",
            "worker_concurrency",
            "claim_idle_ms",
            "generation_deadline_s",
        )
        for name in (*above, "cache_ttl_s"):
            if getattr(self, name) <= 0:
                raise SettingsWrong(f"{name.upper()} must be above 0, it is {getattr(self, name)}")
        if self.jobs_queue not in QUEUES:
            raise SettingsWrong(f"JOBS_QUEUE is one of {', '.join(QUEUES)}, not {self.jobs_queue!r}")
        if self.cache not in SWITCH:
            raise SettingsWrong(f"CACHE is one of {', '.join(SWITCH)}, not {self.cache!r}")
        return self
