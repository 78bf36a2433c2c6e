"""What a node is made of: keys, GPU shapes, names, pins."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers.embedded import binaries, entry, gpu, launch, layers, seed
from helpers.embedded.addresses import Addresses
from helpers.embedded.sandbox import Sandbox
from helpers.embedded.steps import Steps
from helpers.settings import REPOSITORY


def test_every_source_pins_its_modules_by_hash() -> None:
    for source in binaries.SOURCE_LIST:
        assert (binaries.SOURCES / source.name / "go.sum").stat().st_size > 0


def test_what_the_sources_share_is_compiled_once() -> None:
    """Another version of client-go is another two minutes of compiling, for CoreDNS alone."""
    required: dict[str, dict[str, str]] = {}
    for source in binaries.SOURCE_LIST:
        text = (binaries.SOURCES / source.name / "go.mod").read_text()
        for module, version in re.findall(r"^(?:require |\t)(\S+) (v\S+)", text, flags=re.MULTILINE):
            required.setdefault(module, {})[source.name] = version
    apart = {module: by for module, by in required.items() if len(set(by.values())) > 1}
    assert not apart, "in the folder of the older ones: go get MODULE@VERSION"


def test_a_nodes_ground_is_made_while_its_commands_are_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiling = threading.Event()
    ground = layers.Ground(tmp_path / "root", tmp_path / "site-packages", tmp_path / "course")
    roots = {"kubernetes": tmp_path / "k", "containerd": tmp_path / "c"}

    def make_ground(steps: Steps) -> layers.Ground:
        assert compiling.wait(10)
        return ground

    def compile_all(steps: Steps) -> binaries.Binaries:
        compiling.set()
        return binaries.Binaries(roots)

    monkeypatch.setattr(launch, "ensure_ground", make_ground)
    monkeypatch.setattr(launch, "ensure_binaries", compile_all)
    parts = launch.ensure_parts(Steps())
    assert parts.layers() == [ground.course, ground.site_packages, *roots.values(), ground.root]


def test_a_users_ground_is_made_by_root_while_the_user_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    compiling, asked = threading.Event(), list[str]()

    class Helper:
        def call(self, operation: str, steps: Steps, **arguments: Any) -> None:
            asked.append(operation)
            assert operation != "prepare" or compiling.wait(10)

    monkeypatch.setattr(entry, "ensure_binaries", lambda steps: compiling.set())
    monkeypatch.setattr(entry, "offer_kubectl", lambda built: None)
    monkeypatch.setattr(entry, "is_root", lambda: False)
    entry.up("lab", Steps(), helper=Helper())  # type: ignore[arg-type]
    assert asked == ["require", "prepare", "up"]


def test_a_sources_key_follows_its_flags() -> None:
    one = binaries.SOURCE_LIST[1]
    other = binaries.Source(one.name, one.title, one.packages, flags=("-race",), output=one.output)
    assert one.key() != other.key()


def test_the_daemons_packages_come_from_the_lock_with_their_hashes() -> None:
    pins = list(layers._pins(REPOSITORY / "requirements.lock"))
    assert {pin.split("==")[0] for pin in pins} == set(layers.DAEMON_PACKAGES)
    assert all("--hash=sha256:" in pin for pin in pins)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (gpu.Shape.FULL, {"nvidia.com/gpu": "1"}),
        (gpu.Shape.MIG, {"nvidia.com/mig-1g.10gb": "7"}),
        (gpu.Shape.TIME_SLICING, {"nvidia.com/gpu": "4"}),
    ],
)
def test_each_shape_advertises_its_resource(
    tmp_path: Path, shape: gpu.Shape, expected: dict[str, str]
) -> None:
    gpu.write_shape(tmp_path, shape)
    assert gpu.expected(tmp_path) == expected


@pytest.mark.parametrize("shape", list(gpu.Shape))
def test_the_second_card_comes_and_goes_and_the_first_stays_as_it_is(
    tmp_path: Path, shape: gpu.Shape
) -> None:
    gpu.write_shape(tmp_path, shape)
    first = (tmp_path / gpu.DEVICES).read_text()
    assert not gpu.has_second_card(tmp_path)
    for _ in range(2):
        gpu.put_second_card(tmp_path, there=True)
        assert gpu.has_second_card(tmp_path) and gpu.read_shape(tmp_path) is shape
        assert gpu.expected(tmp_path)["nvidia.com/mig-3g.40gb"] == "2"
    gpu.put_second_card(tmp_path, there=False)
    assert (tmp_path / gpu.DEVICES).read_text() == first


def test_another_shape_of_the_first_card_keeps_the_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    node = Sandbox(tmp_path, Addresses(1))
    folder = node.data("etc/course")
    gpu.write_shape(folder, gpu.Shape.FULL)
    monkeypatch.setattr(launch, "running", lambda name: (node, 1))
    monkeypatch.setattr(launch.addons, "publish_profile", lambda *_: None)
    monkeypatch.setattr(launch, "_wait_for", lambda *_: None)
    for change in ({"second_card": True}, {"shape": "mig"}, {"unhealthy": ["0"]}, {"shape": "time-slicing"}):
        launch.change_gpus("lab", Steps(console=Console(file=io.StringIO())), **change)
        assert gpu.has_second_card(folder)
    assert gpu.read_shape(folder) is gpu.Shape.TIME_SLICING
    launch.change_gpus("lab", Steps(console=Console(file=io.StringIO())), second_card=False)
    assert not gpu.has_second_card(folder)


def test_an_unhealthy_gpu_is_not_allocatable(tmp_path: Path) -> None:
    gpu.write_shape(tmp_path, gpu.Shape.TIME_SLICING, replicas=6)
    gpu.write_unhealthy(tmp_path, ["all"])
    assert gpu.expected(tmp_path) == {"nvidia.com/gpu": "0"}
    assert gpu.read_unhealthy(tmp_path) == ["all"]


def test_an_unknown_shape_names_the_known_ones() -> None:
    with pytest.raises(gpu.NoSuchShape, match="full, mig, time-slicing"):
        gpu.shape_named("half")


@pytest.mark.parametrize("name", ["", "Lab", "../lab", "a" * 40, "-a", "a_b"])
def test_a_name_that_cannot_be_a_folder_or_an_interface_is_refused(name: str) -> None:
    with pytest.raises(launch.BadName):
        launch.existing(name)


def test_a_seeds_copy_shares_images_but_not_databases(tmp_path: Path) -> None:
    source = tmp_path / "seed" / "store"
    source.mkdir(parents=True)
    (source / "meta.db").write_text("database")
    (source / "blob").write_text("image")
    (source / "link").symlink_to("blob")
    seed.copy_seed(tmp_path / "seed", tmp_path / "copy")
    copied = tmp_path / "copy" / "store"
    assert (copied / "blob").stat().st_ino == (source / "blob").stat().st_ino
    assert (copied / "meta.db").stat().st_ino != (source / "meta.db").stat().st_ino
    assert (copied / "link").is_symlink()
