"""The eval runner's image: `helpers/apps/evals` with DeepEval and the embedding model, on Debian's Python.

Every package is pinned by hash. DeepEval brings clients of services that the runner never calls; those of them
that it does not import either are left out.
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

REQUIREMENTS = SOURCES / "eval_runner" / "requirements.txt"
HOME = "opt/course"
BUILD_SPACE_GIB = 1
# What the runner reads of this repository, beside its own folder: the sandbox of learners' functions, the corpus.
SHARED = (
    "apps/__init__.py",
    "apps/orchestrator/__init__.py",
    "apps/orchestrator/decisions.py",
    "stack/corpus.yaml",
)
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONPATH": f"/{HOME}",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "EMBEDDING_DIR": f"/{packages.MODEL}",
    "MALLOC_ARENA_MAX": "2",
    # Nothing is fetched and nothing reported at run time.
    "DEEPEVAL_TELEMETRY_OPT_OUT": "YES",
    "DEEPEVAL_UPDATE_WARNING_OPT_IN": "NO",
    "DEEPEVAL_DISABLE_DOTENV": "1",
    "ERROR_REPORTING": "NO",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
}
UNNEEDED = (
    "bin",
    "**/tests",
    "hf_xet*",
    "onnxruntime/tools",
    "onnxruntime/transformers",
    "onnxruntime/quantization",
    "onnxruntime/datasets",
)


def sources() -> list[Path]:
    """The runner's own files, data included, and what they share with the course, in a fixed order."""
    root = REPOSITORY / "helpers"
    own = [path for path in (root / "apps" / "evals").rglob("*") if path.suffix in {".py", ".jsonl", ".json"}]
    return sorted([*packages.EMBEDDINGS, *(root / name for name in SHARED), *own])


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([*sources(), *_made_from()])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or built now (about 40 s; 5 s when only the runner changed)."""

    def write(target: Path) -> str:
        folder = work_folder("eval-runner-packages", cache.key_of(_made_from()))
        with only_one_builder(folder):
            root = environment(folder, progress)
            service = packages.compiled_service(root, sources())
            progress("Eval runner: writing its layers")
            return oci.write_image(
                target,
                image("eval-runner").reference,
                [oci.Layer.of_tree(root), oci.Layer.of_tree(service, f"/{HOME}")],
                entrypoint=["python3", "-m", "helpers.apps.evals"],
                env=ENVIRONMENT,
                user=str(debian.USER_ID),
                workdir="/tmp",
            )

    return archive("eval-runner", key(), write)


def environment(folder: Path, progress: Progress) -> Path:
    """A root folder with Python and the pinned packages, shared by every version of the runner's own files.

    Raises:
        ImageBuildFailed: too little disk, or a step failed.
    """
    require_space(folder, BUILD_SPACE_GIB, "the eval runner's image")
    root = folder / "root"
    base = debian.python_root(progress)

    def install() -> None:
        packages.install(root, REQUIREMENTS, what="installing the eval runner", unneeded=UNNEEDED)

    def compile_modules() -> None:
        packages.compile_modules(root, packages.SITE_PACKAGES, packages.STANDARD_LIBRARY)

    stage(folder, "root", lambda: packages.copy_base(base, root), progress, "Eval runner: Python root")
    stage(folder, "packages", install, progress, "Eval runner: packages from PyPI (90 MB)")
    stage(
        folder,
        "model",
        lambda: packages.prepare_embedding(root),
        progress,
        "Eval runner: the embedding model",
    )
    stage(folder, "bytecode", compile_modules, progress, "Eval runner: compiling Python modules")
    return root


def _made_from() -> list[Path]:
    modules = (Path(__file__), Path(packages.__file__), Path(debian.__file__))
    return [REQUIREMENTS, *packages.EMBEDDINGS, *modules]
