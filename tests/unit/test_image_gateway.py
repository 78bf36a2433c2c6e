"""The images of the gateway: one name in manifests, list and profile, and who compiles what they hold."""

from __future__ import annotations

import pytest
import yaml

from helpers.cluster.profile import OFFICIAL_IMAGES
from helpers.embedded import binaries
from helpers.embedded.binaries import OF_IMAGES, RATELIMIT, ensure_for_images
from helpers.embedded.images import IMAGES, envoy, image
from helpers.embedded.registry import OFFICIAL
from helpers.embedded.steps import Steps
from helpers.settings import REPOSITORY

STACK = REPOSITORY / "manifests" / "stack"
WITH_OVERLAY = (
    *("qdrant", "redis", "gateway", "rollouts", "phoenix", "otel-collector"),
    *("keda", "prometheus-operator", "metrics-server"),
)


@pytest.mark.parametrize("layer", WITH_OVERLAY)
def test_what_the_embedded_overlay_names_is_in_the_list_of_images(layer: str) -> None:
    overlay = yaml.safe_load((STACK / layer / "overlays" / "embedded" / "kustomization.yaml").read_text())
    known = {spec.reference for spec in IMAGES}
    for item in overlay["images"]:
        assert f"{item['newName']}:{item['newTag']}" in known


def test_elsewhere_the_manifests_run_the_images_that_the_profile_names() -> None:
    text = "".join(path.read_text() for path in (STACK / "gateway" / "base").glob("*.yaml"))
    assert f"image: {OFFICIAL_IMAGES['envoy']}" in text
    assert f"image: {OFFICIAL_IMAGES['ratelimit']}" in text
    for name in ("qdrant", "redis", "envoy", "ratelimit"):
        assert OFFICIAL[name] == OFFICIAL_IMAGES[name]


def test_only_what_a_wanted_image_holds_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(binaries, "ensure_source", lambda source, steps: compiled.append(source.name))
    ensure_for_images(["vllm"], Steps())
    assert compiled == []
    ensure_for_images(["redis", "ratelimit"], Steps())
    ensure_for_images([], Steps())
    assert compiled == ["ratelimit", *(source.name for source in OF_IMAGES.values())], "no name: all images"


def test_an_image_that_holds_a_compiled_command_is_in_the_list() -> None:
    for name, source in OF_IMAGES.items():
        assert image(name).module.endswith(name.replace("-", "_"))
        assert source.output or len(source.packages) > 1
    assert RATELIMIT not in binaries.SOURCE_LIST, "`course up` does not wait for it"


def test_envoy_s_image_has_another_key_when_another_envoy_is_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    before = envoy.key()
    other = REPOSITORY / "helpers" / "embedded" / "images" / "envoy" / "requirements.in"
    monkeypatch.setattr(envoy, "REQUIREMENTS", other)
    assert envoy.key() != before
