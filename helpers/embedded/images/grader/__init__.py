"""The grader's image: the course's checks on Debian's Python, for `course class grade --in-cluster`.

It holds `helpers/` as it is in this checkout and the few packages that checks import, every file
pinned by hash. Its key is made of both, so another checkout makes another image.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from helpers.embedded import cache, oci, pinned
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import (
    SOURCES,
    Progress,
    archive,
    clear,
    require_space,
    run,
    stage,
    work_folder,
)
from helpers.settings import REPOSITORY, graded_files

REQUIREMENTS = SOURCES / "grader" / "requirements.txt"
SITE_PACKAGES = "usr/local/lib/python3.11/dist-packages"
HOME = "opt/course"
BUILD_SPACE_GIB = 0.5
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONPATH": f"/{HOME}",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
}


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([REQUIREMENTS, *graded_files(), Path(__file__), Path(debian.__file__)])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or built now (about 5 s once the packages are there)."""

    def write(target: Path) -> str:
        root = packages(progress)
        files: dict[str, Path | bytes] = {
            f"/{HOME}/{path.relative_to(REPOSITORY)}": path for path in graded_files()
        }
        progress("Grader image: writing its layers")
        return oci.write_image(
            target,
            image("grader").reference,
            [
                oci.Layer.of_tree(debian.python_root(progress)),
                oci.Layer.of_tree(root, f"/{SITE_PACKAGES}"),
                oci.Layer.of_files(files, mode=0o644),
            ],
            entrypoint=["python3", "-m", "helpers.classroom.marking.shard"],
            env=ENVIRONMENT,
            user=str(debian.USER_ID),
            workdir="/tmp",
        )

    return archive("grader", key(), write)


def packages(progress: Progress) -> Path:
    """A folder with the pinned packages, shared by every version of the course's own files.

    Raises:
        ImageBuildFailed: too little disk, or the package index does not answer.
    """
    folder = work_folder("grader-packages", cache.key_of([REQUIREMENTS, Path(debian.__file__)]))
    require_space(folder, BUILD_SPACE_GIB, "the grader's image")
    site = folder / "site"
    stage(folder, "packages", lambda: _install(site), progress, "Grader image: packages from PyPI (3 MB)")
    return site


def _install(site: Path) -> None:
    """Install the pinned packages, nothing resolved, every file checked against its hash."""
    clear(site)
    run(pinned.install(REQUIREMENTS, site, python="3.11"), what="installing the grader")
    shutil.rmtree(site / "bin", ignore_errors=True)
