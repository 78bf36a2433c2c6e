"""The toolbox image: agnhost and curl with a shell, for probes from inside the cluster. Not root."""

from __future__ import annotations

from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.binaries import ensure_binaries
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import Progress, archive
from helpers.embedded.steps import Steps

PACKAGES = ("busybox-static", "bash", "curl", "ca-certificates")


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now."""
    agnhost = ensure_binaries(Steps()).path("agnhost")
    root = debian.root("toolbox", PACKAGES, progress)
    key = cache.key_of([root.parent.name, agnhost.parents[4].name, "1"])

    def write(target: Path) -> str:
        return oci.write_image(
            target,
            image("toolbox").reference,
            [oci.Layer.of_tree(root), oci.Layer.of_files({"/usr/local/bin/agnhost": agnhost}, mode=0o755)],
            cmd=["agnhost", "pause"],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/tmp"},
            user=str(debian.USER_ID),
            workdir="/tmp",
        )

    return archive("toolbox", key, write)
