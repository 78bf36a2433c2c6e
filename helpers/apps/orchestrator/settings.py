"""What the operator sets: environment variables, from ConfigMap `llm-orchestrator-config` and one Secret."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

PRODUCTS = ("documentation", "compliance", "brainstorming")
DURABILITIES = ("sync", "async", "exit")
SWITCH = ("on", "off")
PROCESSORS = ("batch", "simple")
PROMPT_PREFIX = "PROMPT_"


class SettingsWrong(Exception):
    """A variable has a value that the service cannot run with; the message names it."""


@dataclass(frozen=True)
class Settings:
    """The service's configuration; the names in the environment are the same in capitals."""

    vllm_base_url: str = "http://vllm.llm-system.svc.cluster.local:8000/v1"
    qdrant_base_url: str = "http://qdrant.llm-system.svc.cluster.local:6333"
    redis_url: str = "redis://redis.llm-system.svc.cluster.local:6379"
    internal_api_token: str = ""
    model: str = ""  # the first that vLLM serves, unless named
    qdrant_collection: str = "course_docs"
    retrieval: str = "on"  # off: the model answers from what it knows, and nothing says so
    retrieval_min_score: float = (
        0.0  # passages below it are no passages; 0: the nearest ones, whatever they are
    )
    product: str = "documentation"
    default_budget_class: str = "standard"
    default_prompt_version: str = "v1"
    max_output_tokens: int = 0  # 0: as the budget class says
    generation_concurrency: int = 12
    retrieval_concurrency: int = 32
    request_queue_limit: int = 100
    client_max_retries: int = 2
    durability: str = "sync"
    thread_ttl_minutes: int = 0  # 0: for ever, as LangGraph's own default
    idempotency_lease_s: float = 6.0
    idempotency_ttl_s: int = 3600
    circuit_open_s: float = 5.0
    drain_deadline_s: float = 30.0
    run_group: str = "llm-orchestrator"
    release: str = ""  # what whoever rolls it out calls it
    otel_exporter_otlp_endpoint: str = ""  # without one, nothing is traced
    otel_propagators: str = "tracecontext"
    otel_span_processor: str = "batch"  # simple: each span is sent before the request goes on
    decisions_dir: Path = Path("/etc/orchestrator/decisions")
    embedding_dir: Path = (
        Path()
    )  # where the image has its prepared model; elsewhere the package's own is loaded
    host: str = "0.0.0.0"
    port: int = 8080
    metrics_port: int = 9090
    log_level: str = "INFO"
    pod: str = field(default_factory=socket.gethostname)
    prompts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Read what is set; everything else keeps its default.

        Raises:
            SettingsWrong: a value cannot be read, or is out of range.
        """
        found: dict[str, object] = {}
        for name, default in vars(cls()).items():
            text = environment.get(name.upper(), "").strip()
            if name != "prompts" and text:
                found[name] = _read(name.upper(), text, Path if isinstance(default, Path) else type(default))
        prompts = {
            name.removeprefix(PROMPT_PREFIX).lower(): text
            for name, text in environment.items()
            if name.startswith(PROMPT_PREFIX)
        }
        return cls(**found, prompts=prompts).checked()  # type: ignore[arg-type]

    def checked(self) -> Self:
        """These settings, when the service can run with them.

        Raises:
            SettingsWrong: it cannot.
        """
        for name in ("generation_concurrency", "retrieval_concurrency", "idempotency_lease_s"):
            if getattr(self, name) <= 0:
                raise SettingsWrong(f"{name.upper()} must be above 0, it is {getattr(self, name)}")
        for name, allowed in (
            ("durability", DURABILITIES),
            ("product", PRODUCTS),
            ("retrieval", SWITCH),
            ("otel_span_processor", PROCESSORS),
        ):
            if getattr(self, name) not in allowed:
                raise SettingsWrong(
                    f"{name.upper()} is one of {', '.join(allowed)}, not {getattr(self, name)!r}"
                )
        return self


def _read(name: str, text: str, kind: Callable[[str], object]) -> object:
    try:
        return kind(text)
    except ValueError as error:
        raise SettingsWrong(f"{name} cannot be read: {text!r}") from error
