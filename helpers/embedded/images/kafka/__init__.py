"""Kafka's image, for whoever switches the queue to it (`course queue kafka`): a broker on Debian's Java.

The jars come from Maven Central, each pinned by its path and checked against its sha256; no Maven is needed. Set
COURSE_MAVEN_REPOSITORY to a mirror's address where Maven Central cannot be reached. They lie where the official image
has them, so that the same command starts both.
"""

from __future__ import annotations

import hashlib
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import SOURCES, ImageBuildFailed, Progress, archive
from helpers.embedded.steps import NoNetwork

JARS = SOURCES / "kafka" / "jars.txt"
MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
PACKAGES = ("openjdk-17-jre-headless", "busybox-static")
JAVA = "usr/lib/jvm/java-17-openjdk-amd64/bin"
LIBS = "/opt/kafka/libs"
ANSWER_S = 60


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([JARS, Path(__file__), Path(debian.__file__)])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (about half a minute)."""

    def write(target: Path) -> str:
        root, libs = debian.root("kafka", PACKAGES, progress), jars(progress)
        progress("Kafka image: writing its layers")
        return oci.write_image(
            target,
            image("kafka").reference,
            [oci.Layer.of_tree(root), oci.Layer.of_tree(libs, LIBS)],
            entrypoint=["java"],
            env={"PATH": f"/{JAVA}:/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"},
            user=str(debian.USER_ID),
            workdir="/tmp",
            labels={"org.opencontainers.image.source": "https://github.com/apache/kafka"},
        )

    return archive("kafka", key(), write)


def jars(progress: Progress) -> Path:
    """A folder with the pinned jars, in the cache.

    Raises:
        NoNetwork: Maven Central, or the mirror, does not answer.
        ImageBuildFailed: it has another file than the pinned one.
    """

    def make(folder: Path) -> None:
        wanted = pinned()
        progress(f"Kafka image: {len(wanted)} jars from Maven Central (43 MB)")
        with ThreadPoolExecutor(4) as pool:
            for path, content in zip(wanted, pool.map(_fetched, wanted.items()), strict=True):
                (folder / Path(path).name).write_bytes(content)

    return cache.ensure("kafka", cache.key_of([JARS]), make)


def pinned() -> dict[str, str]:
    """Each jar's path in Maven Central, and its sha256."""
    lines = [line.split() for line in JARS.read_text().splitlines() if not line.startswith("#")]
    return {path: sha256 for sha256, path in lines}


def _fetched(wanted: tuple[str, str]) -> bytes:
    path, sha256 = wanted
    address = f"{os.environ.get('COURSE_MAVEN_REPOSITORY') or MAVEN_CENTRAL}".rstrip("/") + f"/{path}"
    try:
        with urllib.request.urlopen(address, timeout=ANSWER_S) as answer:
            content: bytes = answer.read()
    except OSError as error:
        raise NoNetwork(
            f"{address} was not fetched: {error}",
            next_command="check the network and its proxies, or set COURSE_MAVEN_REPOSITORY to a mirror",
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ImageBuildFailed(f"{address} is not the file that is pinned", next_command="course doctor")
    return content
