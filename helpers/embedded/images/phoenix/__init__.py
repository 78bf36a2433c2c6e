"""Phoenix's image: the store of traces and its page, from PyPI, on Debian's Python.

Every package is pinned by hash. What Phoenix asks for only when a model is called from its page, or when a
notebook runs it, is left out.
"""

from __future__ import annotations

from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.images import debian, image, packages
from helpers.embedded.images.build import (
    SOURCES,
    Progress,
    archive,
    clear,
    only_one_builder,
    require_space,
    stage,
    work_folder,
)

VERSION = "20.26.1"
REQUIREMENTS = SOURCES / "phoenix" / "requirements.txt"
BUILD_SPACE_GIB = 2
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "MALLOC_ARENA_MAX": "2",
    "OPENBLAS_NUM_THREADS": "1",
    # Nothing is fetched and nothing reported at run time.
    "PHOENIX_TELEMETRY_ENABLED": "false",
    "PHOENIX_ALLOW_EXTERNAL_RESOURCES": "false",
}
UNNEEDED = (
    "bin",
    "**/tests",
    "pyarrow/include",
    "pyarrow/src",
    "pyarrow/*.lib",
    "pyarrow/**/*.pyx",
)
LABELS = {
    "org.opencontainers.image.title": "Arize Phoenix",
    "org.opencontainers.image.version": VERSION,
    "org.opencontainers.image.source": "https://github.com/Arize-ai/phoenix",
}


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([REQUIREMENTS, Path(__file__), Path(packages.__file__), Path(debian.__file__)])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or built now (about two minutes)."""

    def write(target: Path) -> str:
        folder = work_folder("phoenix", key())
        with only_one_builder(folder):
            root = environment(folder, progress)
            progress("Phoenix image: writing its layers")
            digest = oci.write_image(
                target,
                image("phoenix").reference,
                [oci.Layer.of_tree(root)],
                entrypoint=["python3", "-m", "phoenix.server.main"],
                cmd=["serve"],
                env=ENVIRONMENT,
                user=str(debian.USER_ID),
                workdir="/tmp",
                labels=LABELS,
            )
            clear(folder)
        return digest

    return archive("phoenix", key(), write)


def environment(folder: Path, progress: Progress) -> Path:
    """A root folder with Python and the pinned packages; resumes where an interrupted build stopped.

    Raises:
        ImageBuildFailed: too little disk, or a step failed.
    """
    require_space(folder, BUILD_SPACE_GIB, "Phoenix's image")
    root = folder / "root"
    base = debian.python_root(progress)
    stage(folder, "root", lambda: packages.copy_base(base, root), progress, "Phoenix image: Python root")

    def install() -> None:
        packages.install(root, REQUIREMENTS, what="installing Phoenix", unneeded=UNNEEDED)

    def compile_modules() -> None:
        packages.compile_modules(root, packages.SITE_PACKAGES, packages.STANDARD_LIBRARY)

    stage(folder, "packages", install, progress, "Phoenix image: 143 packages from PyPI (250 MB)")
    stage(folder, "bytecode", compile_modules, progress, "Phoenix image: compiling Python modules")
    return root
