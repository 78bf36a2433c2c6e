"""Images into a running node: made here or pulled from their registry, once."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from helpers.embedded.binaries import Binaries
from helpers.embedded.images import IMAGES, ImageSpec, image
from helpers.embedded.registry import Source, hosts_folder, reference
from helpers.embedded.sandbox import SOCKET, Sandbox
from helpers.embedded.seed import NAMESPACE
from helpers.embedded.steps import StepFailed, Steps, run


@dataclass(frozen=True)
class Store:
    """The image store of a running node, reached through its containerd's socket.

    The client runs outside the node, in the machine's own network: a pull needs no way out of it.
    """

    ctr: Path
    socket: Path

    @classmethod
    def of(cls, sandbox: Sandbox, pid: int, binaries: Binaries) -> Store:
        return cls(binaries.path("ctr"), sandbox.path(SOCKET, pid=pid))

    def digests(self) -> dict[str, str]:
        """Every image the node has: its reference and the digest it stands for."""
        done = subprocess.run(self.command("images", "list"), capture_output=True, text=True)
        if done.returncode != 0:
            raise StepFailed(f"containerd does not answer\n{done.stderr}", next_command="course doctor")
        rows = [line.split() for line in done.stdout.splitlines()[1:]]
        return {row[0]: row[2] for row in rows if len(row) > 2}

    def command(self, *words: str | Path) -> list[str]:
        """The words that run containerd's client on this store."""
        address = ["--address", str(self.socket), "--namespace", NAMESPACE]
        return [str(self.ctr), *address, *[str(word) for word in words]]

    def load(self, archive: Path, steps: Steps, title: str) -> None:
        """Import an image archive."""
        with steps.step(f"Importing {title}") as step:
            run(self.command("images", "import", "--local", "--digests", archive), step=step)

    def pull(self, name: str, steps: Steps) -> None:
        """Pull an image from its registry, by way of this machine's network."""
        hosts = hosts_folder()
        mirrors = ["--hosts-dir", str(hosts)] if hosts else []
        with steps.step(f"Pulling {name}") as step:
            run(
                self.command("images", "pull", "--local", *mirrors, name),
                step=step,
                next_command="course doctor",
            )


def load_images(store: Store, specs: Sequence[ImageSpec], source: Source, steps: Steps) -> list[str]:
    """Pull, or make and import, the images that the node lacks; returns the names of those."""
    held = store.digests()
    loaded = []
    for spec in specs:
        official = reference(spec, source)
        if official != spec.reference:
            if official not in held:
                store.pull(official, steps)
                loaded.append(spec.name)
            continue
        archive = built(spec, steps)
        if held.get(spec.reference) != digest_of(archive):
            store.load(archive, steps, spec.about)
            loaded.append(spec.name)
    return loaded


def named(names: Sequence[str]) -> list[ImageSpec]:
    """The images with these names; all of them when none is named."""
    try:
        return [image(name) for name in names] if names else list(IMAGES)
    except KeyError as cause:
        known = ", ".join(spec.name for spec in IMAGES)
        raise StepFailed(f"no image named {cause}: {known}", next_command="course images list") from cause


def at_up() -> list[ImageSpec]:
    """The images that a cluster has from its start."""
    return [spec for spec in IMAGES if spec.at_up]


def digest_of(archive: Path) -> str:
    """The digest that an image archive's name will stand for in the node."""
    with tarfile.open(archive) as tar:
        stream = tar.extractfile("index.json")
        if stream is None:
            raise StepFailed(f"{archive} is not an image archive", next_command="course images load")
        return json.load(stream)["manifests"][0]["digest"]


def built(spec: ImageSpec, steps: Steps) -> Path:
    """The image's archive, made now where the cache lacks it."""
    with steps.step(f"Making {spec.about}") as step:

        def show(line: str) -> None:
            step.detail = line

        return spec.build(show)
