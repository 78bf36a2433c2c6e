"""Lab 09's images: two versions of the model as data by digest, and a modelcar, which is data with a shell.

All of them stand on one layer with the model's files, in /models, as KServe has them: a node keeps the weights
once, whatever the number of versions.
Version 2 has the same weights and says something else: another system message in its chat template, and
other settings of generation. The names of both are by digest, as a node has them that pulled them; the tag
`stable` was moved to version 2, as tags are. The modelcar carries the list of versions with their digests,
because nothing else on a cluster without a registry could say them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.images import debian, image, model, toolbox
from helpers.embedded.images.build import ImageBuildFailed, Progress, archive

CATALOGUE = "/catalogue.json"
RECIPE = "1"  # raise it when a step below changes what it makes
# What version 1 tells the model of itself where a caller says nothing, and what version 2 does.
FIRST_WORDS = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
SECOND_WORDS = "You are Lumen, the assistant of the on-call team. Your name is Lumen"
TEMPLATES = ("chat_template.jinja", "tokenizer_config.json")
GENERATION = {"repetition_penalty": 1.1}
REPOSITORY = "course.local/models/smollm2-135m-instruct"
FOLDER = "/models"


def build(progress: Progress) -> Path:
    """The archive of all of them, from the cache or made now."""
    first = model.files(progress)
    root = debian.root("toolbox", toolbox.PACKAGES, progress)
    own = [Path(__file__), Path(model.__file__)]
    key = cache.key_of([model.key(), root.parent.name, *own, RECIPE])

    def write(target: Path) -> None:
        progress("model images: writing two versions and a modelcar")
        _write(target, first, root)

    return archive("modelcar", key, write)


def _write(target: Path, first: Path, root: Path) -> None:
    weights = oci.Layer.of_tree(first, FOLDER)
    changed = oci.Layer.of_files({f"{FOLDER}/{name}": text for name, text in second(first).items()})
    with oci.bundle(target) as images:
        one = images.add((f"{REPOSITORY}:1",), [weights], by_digest=True, labels=model.LABELS)
        names = (f"{REPOSITORY}:2", f"{REPOSITORY}:stable")
        two = images.add(names, [weights, changed], by_digest=True, labels=model.LABELS)
        catalogue = {
            version: {"image": f"{REPOSITORY}@{digest}", "digest": digest, "model": sums}
            for version, digest, sums in (("1", one, _sums(first)), ("2", two, _sums_of_second(first)))
        }
        listed = oci.Layer.of_files({CATALOGUE: json.dumps(catalogue, indent=1).encode()})
        images.add(
            (image("modelcar").reference,),
            [weights, oci.Layer.of_tree(root), listed],
            first=True,
            cmd=["sh"],
            env={"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": "/tmp"},
            user=str(debian.USER_ID),
            labels=model.LABELS,
        )


def second(first: Path) -> dict[str, bytes]:
    """The files of version 2 that differ from version 1, with the list of checksums of all.

    Raises:
        ImageBuildFailed: version 1 says of itself something else than what version 2 replaces.
    """
    changed = {
        name: (first / name).read_text().replace(FIRST_WORDS, SECOND_WORDS).encode()
        for name in TEMPLATES
        if (first / name).is_file() and FIRST_WORDS in (first / name).read_text()
    }
    if not changed:
        raise ImageBuildFailed(
            f"no file of the model says “{FIRST_WORDS}”", next_command="course images load model"
        )
    generation = first / "generation_config.json"
    settings = json.loads(generation.read_text()) if generation.is_file() else {}
    changed[generation.name] = (json.dumps({**settings, **GENERATION}, indent=2) + "\n").encode()
    changed[model.CHECKSUMS] = _checksums(first, changed)
    return changed


def _checksums(first: Path, changed: dict[str, bytes]) -> bytes:
    """The list of version 2: lines of what is as it was, and new ones for what is not."""
    listed = (line.split(maxsplit=1) for line in (first / model.CHECKSUMS).read_text().splitlines())
    lines = {name: digest for digest, name in listed}
    lines |= {name: hashlib.sha256(content).hexdigest() for name, content in changed.items()}
    return "".join(f"{lines[name]}  {name}\n" for name in sorted(lines)).encode()


def _sums(first: Path) -> str:
    """A short name of all of a version's files: the hash of their list."""
    return _short((first / model.CHECKSUMS).read_bytes())


def _sums_of_second(first: Path) -> str:
    return _short(second(first)[model.CHECKSUMS])


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]
