"""The image of Envoy's rate limit service: one static command, compiled from its Go module."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.binaries import BIN, RATELIMIT, ensure_source
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import Progress, archive
from helpers.embedded.images.system import base
from helpers.embedded.steps import Steps


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (a minute of compiling the first time)."""
    progress("compiling the rate limit service")
    command = ensure_source(RATELIMIT, Steps()) / BIN / RATELIMIT.output
    key = cache.key_of([RATELIMIT.key(), Path(__file__)])

    def write(target: Path) -> str:
        return oci.write_image(
            target,
            image("ratelimit").reference,
            # Where the official image has it, too.
            [base(), oci.Layer.of_files({"/bin/ratelimit": command}, mode=0o755)],
            cmd=["/bin/ratelimit"],
            env={"PATH": "/bin"},
            user=str(debian.USER_ID),
            labels={"org.opencontainers.image.source": "https://github.com/envoyproxy/ratelimit"},
        )

    return archive("ratelimit", key, write)
