"""The image of Argo Rollouts' controller: one static command, compiled from its Go module."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.binaries import BIN, ROLLOUTS, ensure_source
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import Progress, archive
from helpers.embedded.images.system import base
from helpers.embedded.steps import Steps


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (three minutes of compiling the first time)."""
    progress("compiling Argo Rollouts")
    command = ensure_source(ROLLOUTS, Steps()) / BIN / ROLLOUTS.output
    key = cache.key_of([ROLLOUTS.key(), Path(__file__)])

    def write(target: Path) -> str:
        return oci.write_image(
            target,
            image("argo-rollouts").reference,
            # Where the official image has it, too.
            [base(), oci.Layer.of_files({"/bin/rollouts-controller": command}, mode=0o755)],
            entrypoint=["/bin/rollouts-controller"],
            env={"PATH": "/bin", "HOME": "/tmp"},
            user=str(debian.USER_ID),
            labels={"org.opencontainers.image.source": "https://github.com/argoproj/argo-rollouts"},
        )

    return archive("argo-rollouts", key, write)
