"""Lab 09's images: two versions of the model that differ in what they say, with the same weights."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import pytest

from helpers.embedded.images import model, modelcar
from helpers.embedded.images.build import ImageBuildFailed


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """A model's folder, as small as it can be."""
    folder = tmp_path / "first"
    folder.mkdir()
    (folder / "chat_template.jinja").write_text(f"system {modelcar.FIRST_WORDS} end")
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / model.CHECKSUMS).write_text(model.checksums(folder))
    return folder


def test_version_2_speaks_otherwise_and_its_list_of_checksums_is_its_own(first: Path, tmp_path: Path) -> None:
    changed = modelcar.second(first)
    assert modelcar.SECOND_WORDS.encode() in changed["chat_template.jinja"]
    assert json.loads(changed["generation_config.json"]) == {"eos_token_id": 2, "repetition_penalty": 1.1}
    whole = tmp_path / "second"
    whole.mkdir()
    for path in first.iterdir():
        (whole / path.name).write_bytes(changed.get(path.name, path.read_bytes()))
    assert (whole / model.CHECKSUMS).read_text() == model.checksums(whole)


def test_a_model_that_introduces_itself_otherwise_has_no_version_2(first: Path) -> None:
    (first / "chat_template.jinja").write_text("system You are someone else end")
    with pytest.raises(ImageBuildFailed, match="no file of the model says"):
        modelcar.second(first)


def test_the_archive_names_both_versions_by_digest_and_the_car_lists_them(
    first: Path, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "sh").write_text("a shell")
    modelcar._write(tmp_path / "a.tar", first, tmp_path / "root")
    with tarfile.open(tmp_path / "a.tar") as tar:
        index = json.load(tar.extractfile("index.json"))
        named = {
            item["annotations"]["io.containerd.image.name"]: item["digest"] for item in index["manifests"]
        }
        car = json.load(tar.extractfile(_blob(named["course.local/smollm2-135m-modelcar:1"])))
        with tarfile.open(fileobj=tar.extractfile(_blob(car["layers"][-1]["digest"]))) as last:
            catalogue = json.load(last.extractfile(modelcar.CATALOGUE.strip("/")))
    for version in ("1", "2"):
        found = catalogue[version]
        assert named[found["image"]] == named[f"{modelcar.REPOSITORY}:{version}"] == found["digest"]
    assert named[f"{modelcar.REPOSITORY}:stable"] == catalogue["2"]["digest"]
    listed = hashlib.sha256((first / model.CHECKSUMS).read_bytes()).hexdigest()
    assert catalogue["1"]["model"] == listed[:12] != catalogue["2"]["model"]


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"
