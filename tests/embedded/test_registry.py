"""Images from a registry: a real one, run here, that stands for the projects' own through a mirror."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.embedded import binaries, loading, registry
from helpers.embedded.images.system import BUSYBOX
from helpers.embedded.loading import Store
from helpers.embedded.registry import OFFICIAL, Source
from tests.embedded.conftest import Node, eventually, quiet

pytestmark = pytest.mark.embedded

SERVER = binaries.Source(
    "registry", "a container registry", ("github.com/google/go-containerregistry/cmd/registry",)
)


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty registry; docker.io is looked for in it."""
    command = binaries.ensure_source(SERVER, quiet()) / binaries.BIN / "registry"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = subprocess.Popen([str(command), f"-port={port}"], stderr=subprocess.DEVNULL)
    folder = tmp_path_factory.mktemp("hosts")
    (folder / "docker.io").mkdir()
    (folder / "docker.io" / "hosts.toml").write_text(f'server = "http://127.0.0.1:{port}"\n')
    try:
        _wait_for(port)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COURSE_REGISTRY_HOSTS", str(folder))
            yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=10)


def test_an_official_image_is_pulled_into_the_node_and_runs(node: Node, mirror: str) -> None:
    store = Store.of(node.sandbox, node.pid, binaries.ensure_binaries(quiet()))
    name = OFFICIAL["qdrant"]
    pushed = name.replace("docker.io", mirror)
    subprocess.run(store.command("images", "push", "--local", "--plain-http", pushed, BUSYBOX), check=True)

    specs = loading.named(["qdrant"])
    assert loading.load_images(store, specs, Source.OFFICIAL, quiet()) == ["qdrant"]
    assert loading.load_images(store, specs, Source.OFFICIAL, quiet()) == []

    node.kubectl(
        "run", "pulled", f"--image={name}", "--restart=Never", "--command", "--", "sh", "-c", "echo here"
    )
    phase = ("get", "pod", "pulled", "-o", "jsonpath={.status.phase}")
    eventually(lambda: node.kubectl(*phase) == "Succeeded", "a pod runs the pulled image")
    assert node.kubectl("logs", "pulled") == "here"
    assert "default" not in node.run("ip", "route")


def test_an_image_that_no_registry_has_is_an_error_with_a_next_command(node: Node, mirror: str) -> None:
    store = Store.of(node.sandbox, node.pid, binaries.ensure_binaries(quiet()))
    with pytest.raises(loading.StepFailed, match="not found") as failure:
        store.pull("docker.io/nobody/nothing:1", quiet())
    assert failure.value.next_command


def test_auto_takes_the_registry_where_one_answers(mirror: str, tmp_path: Path) -> None:
    assert registry.settled(Source.AUTO, tmp_path / "images-from") is Source.OFFICIAL


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the registry does not start")
