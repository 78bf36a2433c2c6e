"""The Qdrant image of the embedded cluster: Qdrant's engine behind its REST API.

The official server is in no package registry, its engine is (`qdrant-edge-py`). The server's source
lies in `helpers/embedded/images/qdrant/qdrant_server`; the image puts it on Debian's Python 3.11 with the
packages of `requirements.txt`, every file pinned by hash. Paths, ports, user and environment
variables are those of the official image, so that the same manifests fit both.
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
    require_space,
    run,
    run_in_root,
    stage,
    work_folder,
)

SOURCE = SOURCES / "qdrant"
REQUIREMENTS = SOURCE / "requirements.txt"
PACKAGE = "qdrant_server"
SITE_PACKAGES = "usr/local/lib/python3.11/dist-packages"
BUILD_SPACE_GIB = 1
LABEL = "Qdrant's engine, embedded server"
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    # The root filesystem is read-only; modules are compiled while the image is built.
    "PYTHONDONTWRITEBYTECODE": "1",
    "QDRANT__STORAGE__STORAGE_PATH": "/qdrant/storage",
    "QDRANT__STORAGE__SNAPSHOTS_PATH": "/qdrant/snapshots",
}
# Compiled modules are not compared with their sources at run time: nothing can change them there.
COMPILE = """\
import compileall, py_compile, sys
for folder in sys.argv[1:]:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=2, workers=0, maxlevels=40, force=True, invalidation_mode=mode)
"""


def sources() -> list[Path]:
    """The server's modules, in a fixed order."""
    return sorted((SOURCE / PACKAGE).glob("*.py"))


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([REQUIREMENTS, *sources(), Path(__file__), Path(debian.__file__)])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or built now (about 15 s)."""

    def write(target: Path) -> str:
        root = environment(progress)
        progress("Qdrant image: writing its layers")
        digest = oci.write_image(
            target,
            image("qdrant").reference,
            _layers(root),
            entrypoint=["python3", "-m", PACKAGE],
            env=ENVIRONMENT,
            user=str(debian.USER_ID),
            workdir="/qdrant",
            labels={
                "org.opencontainers.image.title": LABEL,
                "org.opencontainers.image.description": "Not the official server: its engine behind its REST API",
                "org.opencontainers.image.source": "https://github.com/qdrant/qdrant",
            },
        )
        clear(work_folder("qdrant", key()))
        return digest

    return archive("qdrant", key(), write)


def environment(progress: Progress) -> Path:
    """A root folder with Python, the pinned packages and the server; resumes an interrupted build.

    Raises:
        ImageBuildFailed: too little disk, or a step failed.
    """
    folder = work_folder("qdrant", key())
    require_space(folder, BUILD_SPACE_GIB, "the Qdrant image")
    root = folder / "root"
    base = debian.python_root(progress)
    stage(folder, "root", lambda: _copy_base(base, root), progress, "Qdrant image: Python root")
    stage(folder, "packages", lambda: _install(root), progress, "Qdrant image: 12 packages from PyPI (20 MB)")
    stage(folder, "bytecode", lambda: _compile(root), progress, "Qdrant image: compiling Python modules")
    return root


def _copy_base(base: Path, root: Path) -> None:
    clear(root)
    shutil.copytree(base, root, symlinks=True)
    for name in (SITE_PACKAGES, "qdrant/storage", "qdrant/snapshots"):
        (root / name).mkdir(parents=True, exist_ok=True)


def _install(root: Path) -> None:
    """Install the pinned packages, nothing resolved, every file checked against its hash."""
    site = root / SITE_PACKAGES
    clear(site)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    pip += ["--disable-pip-version-check", "--only-binary", ":all:", "--python-version", "3.11"]
    run([*pip, "--target", site, "--require-hashes", "-r", REQUIREMENTS], what="installing the Qdrant server")
    shutil.rmtree(site / "bin", ignore_errors=True)
    (site / PACKAGE).mkdir()
    for source in sources():
        shutil.copyfile(source, site / PACKAGE / source.name)


def _compile(root: Path) -> None:
    folders = [f"/{SITE_PACKAGES}", "/usr/lib/python3.11"]
    command = ["/usr/bin/python3", "-c", COMPILE, *folders]
    run_in_root(root, command, what="compiling Python modules", env={"LANG": "C.UTF-8"})
    if not list((root / SITE_PACKAGES / PACKAGE / "__pycache__").glob("*.pyc")):
        raise ImageBuildFailed("compiling the server's modules wrote nothing", next_command="course doctor")


def _layers(root: Path) -> list[oci.Layer]:
    """Two layers, the steadier first: Python with the packages, and the server."""
    server = Path(SITE_PACKAGES) / PACKAGE

    def is_server(path: Path) -> bool:
        return path == server or server in path.parents

    return [
        oci.Layer.of_tree(root, keep=lambda path: not is_server(path)),
        oci.Layer.of_tree(root / server, f"/{server}"),
    ]
