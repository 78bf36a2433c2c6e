"""The images of the embedded cluster's workloads, and how each is made when no registry answers.

Only names live here: a builder is imported when it is asked to build.
"""

from __future__ import annotations

from helpers.embedded.images.build import ImageSpec, Progress

__all__ = ["IMAGES", "ImageSpec", "Progress", "image"]

IMAGES: list[ImageSpec] = [
    ImageSpec(
        "toolbox",
        "course.local/toolbox:1",
        "helpers.embedded.images.toolbox",
        at_up=True,
        about="agnhost, curl and a shell, for probes",
    ),
    ImageSpec(
        "vllm",
        "course.local/vllm-cpu:0.32.0",
        "helpers.embedded.images.vllm",
        at_up=False,
        about="vLLM 0.32.0 for CPU",
    ),
    ImageSpec(
        "model",
        "course.local/smollm2-135m-instruct:1",
        "helpers.embedded.images.model",
        at_up=False,
        about="the files of SmolLM2-135M-Instruct",
    ),
    ImageSpec(
        "qdrant",
        "course.local/qdrant-edge:1.20.0",
        "helpers.embedded.images.qdrant",
        at_up=False,
        about="Qdrant's engine, embedded server",
    ),
    ImageSpec(
        "redis",
        "course.local/redis:8.2.3",
        "helpers.embedded.images.redis",
        at_up=False,
        about="Redis 8.2 with JSON and search",
    ),
    ImageSpec(
        "envoy",
        "course.local/envoy:1.40.0",
        "helpers.embedded.images.envoy",
        at_up=False,
        about="Envoy 1.40, the gateway",
    ),
    ImageSpec(
        "ratelimit",
        "course.local/ratelimit:1",
        "helpers.embedded.images.ratelimit",
        at_up=False,
        about="Envoy's rate limit service",
    ),
    ImageSpec(
        "orchestrator",
        "course.local/orchestrator:1",
        "helpers.embedded.images.orchestrator",
        at_up=False,
        about="the course's orchestrator",
    ),
    ImageSpec(
        "argo-rollouts",
        "course.local/argo-rollouts:1.10.2",
        "helpers.embedded.images.argo_rollouts",
        at_up=False,
        about="Argo Rollouts, the controller of releases",
    ),
    ImageSpec(
        "phoenix",
        "course.local/phoenix:20.26.1",
        "helpers.embedded.images.phoenix",
        at_up=False,
        about="Phoenix 20.26, the store of traces",
    ),
    ImageSpec(
        "otel-collector",
        "course.local/otel-collector:0.161.0",
        "helpers.embedded.images.otel_collector",
        at_up=False,
        about="the OpenTelemetry Collector 0.161",
    ),
    ImageSpec(
        "eval-runner",
        "course.local/llm-eval-runner:1",
        "helpers.embedded.images.eval_runner",
        at_up=False,
        about="the course's eval runner, with DeepEval",
    ),
    ImageSpec(
        "promptfoo",
        "course.local/promptfoo:0.123.1",
        "helpers.embedded.images.promptfoo",
        at_up=False,
        about="promptfoo, on Node",
    ),
    ImageSpec(
        "keda",
        "course.local/keda:2.21.0",
        "helpers.embedded.images.keda",
        at_up=False,
        about="KEDA, the operator of scaling",
    ),
    ImageSpec(
        "keda-metrics-apiserver",
        "course.local/keda-metrics-apiserver:2.21.0",
        "helpers.embedded.images.keda_metrics_apiserver",
        at_up=False,
        about="KEDA's adapter, which the HPA asks",
    ),
    ImageSpec(
        "prometheus-operator",
        "course.local/prometheus-operator:0.85.0",
        "helpers.embedded.images.prometheus_operator",
        at_up=False,
        about="the Prometheus Operator 0.85",
    ),
    ImageSpec(
        "prometheus-config-reloader",
        "course.local/prometheus-config-reloader:0.85.0",
        "helpers.embedded.images.prometheus_config_reloader",
        at_up=False,
        about="what brings Prometheus its configuration",
    ),
    ImageSpec(
        "prometheus",
        "course.local/prometheus:3.14.0",
        "helpers.embedded.images.prometheus",
        at_up=False,
        about="Prometheus 3.14",
    ),
    ImageSpec(
        "metrics-server",
        "course.local/metrics-server:0.9.0",
        "helpers.embedded.images.metrics_server",
        at_up=False,
        about="metrics-server, which knows pods' CPU",
    ),
    ImageSpec(
        "kafka",
        "course.local/kafka:4.4.0",
        "helpers.embedded.images.kafka",
        at_up=False,
        about="Kafka 4.4, for the queue of whoever wants it",
    ),
    ImageSpec(
        "grader",
        "course.local/grader:1",
        "helpers.embedded.images.grader",
        at_up=False,
        about="the course's own checks, for a class graded in the cluster",
    ),
]


def image(name: str) -> ImageSpec:
    """The image with this name.

    Raises:
        KeyError: there is none.
    """
    for spec in IMAGES:
        if spec.name == name:
            return spec
    raise KeyError(name)
