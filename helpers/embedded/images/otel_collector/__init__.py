"""The image of the OpenTelemetry Collector: one static command, of the parts that the course uses."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.binaries import BIN, COLLECTOR, ensure_source
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import Progress, archive
from helpers.embedded.images.system import base
from helpers.embedded.steps import Steps


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (two minutes of compiling the first time)."""
    progress("compiling the OpenTelemetry Collector")
    command = ensure_source(COLLECTOR, Steps()) / BIN / COLLECTOR.output
    key = cache.key_of([COLLECTOR.key(), Path(__file__)])

    def write(target: Path) -> str:
        return oci.write_image(
            target,
            image("otel-collector").reference,
            [base(), oci.Layer.of_files({"/otelcol": command}, mode=0o755)],
            entrypoint=["/otelcol"],
            cmd=["--config", "/etc/otelcol/config.yaml"],
            env={"PATH": "/"},
            user=str(debian.USER_ID),
            labels={
                "org.opencontainers.image.source": "https://github.com/open-telemetry/opentelemetry-collector"
            },
        )

    return archive("otel-collector", key, write)
