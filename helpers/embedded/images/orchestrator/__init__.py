"""The orchestrator's image: `helpers/apps/orchestrator` and `jobs` on Debian's Python, with the embedding model in it.

Every package is pinned by hash. Modules are compiled while the image is built, without docstrings:
an orchestrator that waits for others should itself take little memory and start at once.
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

REQUIREMENTS = SOURCES / "orchestrator" / "requirements.txt"
HOME = "opt/course"
BUILD_SPACE_GIB = 1
OPTIMIZE = 2
# What the service imports of this repository, beside its own folder.
SHARED = ("__init__.py", "errors.py", "stack/__init__.py", "stack/embeddings.py", "apps/__init__.py")
# Services that run from this image; the first is what it runs unless a command says otherwise.
SERVICES = ("orchestrator", "jobs")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONPATH": f"/{HOME}",
    "PYTHONUNBUFFERED": "1",
    "EMBEDDING_DIR": f"/{packages.MODEL}",
    # The root filesystem is read-only; modules are compiled while the image is built, without docstrings.
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONOPTIMIZE": str(OPTIMIZE),
    # A checkpoint is data: it may name no class that is made when it is read (langgraph#8522).
    "LANGGRAPH_STRICT_MSGPACK": "true",
    # Threads that embed share two heaps, where glibc would give each its own.
    "MALLOC_ARENA_MAX": "2",
}
# Never imported by the service: tests, tools for training, the model of another embedder.
UNNEEDED = (
    "**/tests",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/datasets",
    "hf_xet",
    "bin",
)


def sources() -> list[Path]:
    """The service's own modules and what they share with the course, in a fixed order."""
    root = REPOSITORY / "helpers"
    services = (root / "apps" / name for name in SERVICES)
    return sorted([*(root / name for name in SHARED), *(path for at in services for path in at.glob("*.py"))])


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([*sources(), *_made_from()])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or built now (about 40 s; 5 s when only the service changed)."""

    def write(target: Path) -> str:
        folder = work_folder("orchestrator-packages", cache.key_of(_made_from()))
        with only_one_builder(folder):
            root = environment(folder, progress)
            service = packages.compiled_service(root, sources(), optimize=OPTIMIZE)
            progress("Orchestrator image: writing its layers")
            return oci.write_image(
                target,
                image("orchestrator").reference,
                [oci.Layer.of_tree(root), oci.Layer.of_tree(service, f"/{HOME}")],
                entrypoint=["python3", "-m", "helpers.apps.orchestrator"],
                env=ENVIRONMENT,
                user=str(debian.USER_ID),
                workdir="/tmp",
            )

    return archive("orchestrator", key(), write)


def environment(folder: Path, progress: Progress) -> Path:
    """A root folder with Python and the pinned packages, shared by every version of the service's own files.

    Raises:
        ImageBuildFailed: too little disk, or a step failed.
    """
    require_space(folder, BUILD_SPACE_GIB, "the orchestrator's image")
    root = folder / "root"
    base = debian.python_root(progress)

    def install() -> None:
        packages.install(root, REQUIREMENTS, what="installing the orchestrator's packages", unneeded=UNNEEDED)

    def compile_modules() -> None:
        folders = packages.SITE_PACKAGES, packages.STANDARD_LIBRARY
        packages.compile_modules(root, *folders, optimize=OPTIMIZE)

    def model() -> None:
        packages.prepare_embedding(root)

    stage(folder, "root", lambda: packages.copy_base(base, root), progress, "Orchestrator image: Python root")
    stage(folder, "packages", install, progress, "Orchestrator image: packages from PyPI (120 MB)")
    stage(folder, "model", model, progress, "Orchestrator image: the embedding model")
    stage(folder, "bytecode", compile_modules, progress, "Orchestrator image: compiling Python modules")
    return root


def _made_from() -> list[Path]:
    modules = (Path(__file__), Path(packages.__file__), Path(debian.__file__))
    return [REQUIREMENTS, *packages.EMBEDDINGS, *modules]
