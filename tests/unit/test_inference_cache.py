"""The init container that fills the model cache, run as it stands in the manifest, on folders of the test's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from helpers.embedded.images import model
from helpers.stack import serving

OVERLAY = serving.MANIFESTS / "overlays" / "embedded" / "deployment.yaml"


class Cache:
    """A source image, a claim, and the script between them."""

    def __init__(self, folder: Path) -> None:
        self.source, self.target = folder / "source" / "model", folder / "models" / "small"
        self.source.mkdir(parents=True)
        self.target.parent.mkdir()
        (self.source / "config.json").write_text("{}")
        (self.source / "model.safetensors").write_bytes(b"weights" * 1000)
        (self.source / model.CHECKSUMS).write_text(model.checksums(self.source))
        spec = yaml.safe_load(OVERLAY.read_text())["spec"]["template"]["spec"]
        (container,) = spec["initContainers"]
        assert container["name"] == serving.CACHE_CONTAINER
        *self.shell, script = container["command"]
        self.script = script.replace("/source/model", str(self.source))

    def fill(self) -> subprocess.CompletedProcess[str]:
        environment = {"MODEL_ID": str(self.target), "PATH": "/usr/bin:/bin"}
        return subprocess.run(
            [*self.shell, self.script], env=environment, capture_output=True, text=True, check=False
        )


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path)


def test_an_empty_claim_is_filled_and_checked(cache: Cache) -> None:
    done = cache.fill()
    assert done.returncode == 0, done.stderr
    assert "cache miss" in done.stdout and "model.safetensors: OK" in done.stdout
    assert (cache.target / "model.safetensors").read_bytes() == b"weights" * 1000


def test_a_whole_model_is_not_copied_again(cache: Cache) -> None:
    cache.fill()
    before = (cache.target / "model.safetensors").stat().st_mtime_ns
    done = cache.fill()
    assert (done.returncode, "cache hit" in done.stdout) == (0, True)
    assert (cache.target / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
def test_a_damaged_model_is_copied_anew(cache: Cache, damage: str) -> None:
    cache.fill()
    weights = cache.target / "model.safetensors"
    if damage == "missing":
        weights.unlink()
    else:
        weights.write_bytes(b"weights" if damage == "truncated" else b"")
    done = cache.fill()
    assert "cache miss" in done.stdout
    assert weights.read_bytes() == b"weights" * 1000


def test_a_copy_that_was_interrupted_is_not_taken_for_a_model(cache: Cache) -> None:
    partial = cache.target.with_name("small.partial")
    partial.mkdir()
    (partial / "config.json").write_text("{")
    assert cache.fill().returncode == 0
    assert not partial.exists() and (cache.target / "config.json").read_text() == "{}"


def test_a_source_that_is_not_what_it_should_be_fails_the_pod_and_names_the_file(cache: Cache) -> None:
    (cache.source / "model.safetensors").write_bytes(b"weightz" * 1000)
    done = cache.fill()
    assert done.returncode != 0
    assert "model.safetensors: FAILED" in done.stdout
    assert not cache.target.exists()
