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
