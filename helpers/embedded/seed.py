"""containerd's store with the system images already in it: a new cluster starts from a copy.

Importing and unpacking the images takes seconds; copying the store takes a fraction of one, since
its large files are never written again and can be shared as hard links. Only containerd's
databases are copied for real.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from helpers.embedded import cache, oci
from helpers.embedded.binaries import SOURCE_LIST, Binaries
from helpers.embedded.images import system
from helpers.embedded.steps import Step, StepFailed, Steps, run

NAMESPACE = "k8s.io"
_CONFIG = """version = 3
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri"]
[grpc]
  address = "{state}/containerd.sock"
[ttrpc]
  address = "{state}/containerd.sock.ttrpc"
"""


def ensure_seed(binaries: Binaries, root: Path, workloads: Sequence[Path], steps: Steps) -> Path:
    """The seed store's folder, made now where the cache lacks it; `workloads` are image archives for it."""
    sources = [Path(module.__file__ or "") for module in (system, oci)]
    made_of = [str(root), *map(str, workloads), *[source.key() for source in SOURCE_LIST]]
    key = cache.key_of([*sources, *made_of])
    found = cache.lookup("seeds", key)
    if found is not None:
        return found

    def make(content: Path) -> None:
        with steps.step("Preparing the system images") as step:
            _fill(content, binaries, root, workloads, step)

    seed = cache.ensure("seeds", key, make)
    # Each is close to a GB; another checkout may be using one of its own.
    cache.keep_newest("seeds", 2)
    return seed


def copy_seed(seed: Path, target: Path) -> None:
    """Copy a seed store: databases for real, everything else as hard links where possible."""

    def place(source: str, destination: str) -> str:
        if not source.endswith(".db"):
            try:
                os.link(source, destination, follow_symlinks=False)
            except OSError:  # another file system, or too many links
                pass
            else:
                return destination
        return str(shutil.copy2(source, destination, follow_symlinks=False))

    shutil.copytree(seed, target, symlinks=True, copy_function=place, dirs_exist_ok=True)


def _fill(content: Path, binaries: Binaries, root: Path, workloads: Sequence[Path], step: Step) -> None:
    with tempfile.TemporaryDirectory(prefix="course-seed-") as state_folder:
        state = Path(state_folder)
        config = state / "config.toml"
        config.write_text(_CONFIG.format(root=content, state=state))
        with (state / "log").open("w") as log:
            # In a mount namespace of its own: what unpacking mounts goes with the process.
            command = [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                str(binaries.path("containerd")),
                "--config",
                str(config),
            ]
            daemon = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            _wait_for_socket(daemon, state)
            for image in system.system_images(binaries, root):
                step.detail = image.reference
                archive = state / "image.tar"
                image.write(archive, root)
                _import(binaries, state, archive)
            for archive in workloads:
                step.detail = archive.name
                _import(binaries, state, archive)
        finally:
            daemon.terminate()
            daemon.wait(timeout=30)


def _wait_for_socket(daemon: subprocess.Popen[bytes], state: Path) -> None:
    deadline = time.monotonic() + 30
    while not (state / "containerd.sock").exists():
        if daemon.poll() is not None or time.monotonic() > deadline:
            last = "".join((state / "log").read_text().splitlines(keepends=True)[-15:])
            raise StepFailed(f"containerd did not start\n{last}", next_command="course doctor")
        time.sleep(0.05)


def _import(binaries: Binaries, state: Path, archive: Path) -> None:
    command: list[str | Path] = [
        binaries.path("ctr"),
        "--address",
        state / "containerd.sock",
        "--namespace",
        NAMESPACE,
        "images",
        "import",
        "--local",
        archive,
    ]
    run(command)
