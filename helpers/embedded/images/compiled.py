"""An image of one static command, compiled from its Go module and put where the official image has it."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.binaries import BIN, Source, ensure_source
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import Progress, archive
from helpers.embedded.images.system import base
from helpers.embedded.steps import Steps


def build_compiled(
    name: str, source: Source, command: str, at: str, repository: str, progress: Progress
) -> Path:
    """The image's archive, from the cache or made now.

    Args:
        name: of the image, in the list of images.
        command: which of the source's commands; its file's name after the build.
        at: the command's path in the image, its entry point.
        repository: where the source is from, for the image's label.

    Raises:
        StepFailed: the source does not compile; the log's last lines are in the message.
    """
    progress(f"compiling {source.title}")
    compiled = ensure_source(source, Steps()) / BIN / command
    key = cache.key_of([source.key(), command, at, repository, Path(__file__)])

    def write(target: Path) -> str:
        return oci.write_image(
            target,
            image(name).reference,
            [base(), oci.Layer.of_files({at: compiled}, mode=0o755)],
            entrypoint=[at],
            env={"PATH": str(Path(at).parent), "HOME": "/tmp"},
            user=str(debian.USER_ID),
            labels={"org.opencontainers.image.source": f"https://{repository}"},
        )

    return archive(name, key, write)
