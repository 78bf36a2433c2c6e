"""The image of the course's controller for KServe's InferenceService: `helpers/apps/isvc` on kopf and Debian's Python.

Every package is pinned by hash. Beside kopf it holds the one module of the orchestrator that reads learners' functions.
"""

from __future__ import annotations

from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.images import debian, image, packages
from helpers.embedded.images.build import (
    SOURCES,
    Progress,
    archive,
    only_one_builder,
    require_space,
    stage,
    work_folder,
)
from helpers.settings import REPOSITORY

NAME = "isvc-controller"
REQUIREMENTS = SOURCES / "isvc_controller" / "requirements.txt"
HOME = "opt/course"
BUILD_SPACE_GIB = 0.5
OPTIMIZE = 2
SHARED = (
    "__init__.py",
    "apps/__init__.py",
    "apps/orchestrator/__init__.py",
    "apps/orchestrator/decisions.py",
)
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONPATH": f"/{HOME}",
    "PYTHONUNBUFFERED": "1",
    # The root filesystem is read-only; modules are compiled while the image is built, without docstrings.
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONOPTIMIZE": str(OPTIMIZE),
}
UNNEEDED = ("**/tests", "bin")


def sources() -> list[Path]:
    """The controller's own modules and what they share with the course, in a fixed order."""
    root = REPOSITORY / "helpers"
    return sorted([*(root / name for name in SHARED), *(root / "apps" / "isvc").glob("*.py")])


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([*sources(), *_made_from()])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or built now."""

    def write(target: Path) -> str:
        folder = work_folder(f"{NAME}-packages", cache.key_of(_made_from()))
        with only_one_builder(folder):
            root = environment(folder, progress)
            service = packages.compiled_service(root, sources(), optimize=OPTIMIZE)
            progress("Controller image: writing its layers")
            return oci.write_image(
                target,
                image(NAME).reference,
                [oci.Layer.of_tree(root), oci.Layer.of_tree(service, f"/{HOME}")],
                entrypoint=["python3", "-m", "helpers.apps.isvc"],
                env=ENVIRONMENT,
                user=str(debian.USER_ID),
                workdir="/tmp",
            )

    return archive(NAME, key(), write)


def environment(folder: Path, progress: Progress) -> Path:
    """A root folder with Python and the pinned packages, shared by every version of the controller's own files.

    Raises:
        ImageBuildFailed: too little disk, or a step failed.
    """
    require_space(folder, BUILD_SPACE_GIB, "the controller's image")
    root = folder / "root"
    base = debian.python_root(progress)

    def install() -> None:
        packages.install(root, REQUIREMENTS, what="installing the controller's packages", unneeded=UNNEEDED)

    def compile_modules() -> None:
        folders = packages.SITE_PACKAGES, packages.STANDARD_LIBRARY
        packages.compile_modules(root, *folders, optimize=OPTIMIZE)

    stage(folder, "root", lambda: packages.copy_base(base, root), progress, "Controller image: Python root")
    stage(folder, "packages", install, progress, "Controller image: packages from PyPI (3 MB)")
    stage(folder, "bytecode", compile_modules, progress, "Controller image: compiling Python modules")
    return root


def _made_from() -> list[Path]:
    return [REQUIREMENTS, Path(__file__), Path(packages.__file__), Path(debian.__file__)]
