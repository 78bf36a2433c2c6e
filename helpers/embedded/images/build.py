"""What every image build shares: archives under the key of their inputs, and stages that can be resumed.

An image's archive lies in the cache under the key of everything it is made from, so a build is
needed only when an input changed. A long build works in a folder of its own and marks each stage
when it is done; the folder goes when the archives made from it are there.
"""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from helpers.embedded import cache
from helpers.embedded.steps import NEXT, StepFailed, fault, leaving_no_bytecode
from helpers.errors import EnvironmentFault
from helpers.progress import Progress
from helpers.settings import REPOSITORY, node_cache_dir

"""Told what is being done, one line at a time."""

SOURCES = REPOSITORY / "helpers" / "embedded" / "images"
ERROR_LINES = 12


class ImageBuildFailed(EnvironmentFault):
    """A step of an image build failed: the last lines of its output are in the message."""


@dataclass(frozen=True)
class ImageSpec:
    """One image of the embedded cluster.

    Args:
        name: the key in `Profile.images`, and on the command line.
        reference: the name that manifests use and kubelets ask for.
        module: where its builder lives: `build(progress)` makes the archive unless the cache has it.
        at_up: whether a new cluster needs it at once; the others are imported when a lab starts.
        about: what it is, in words a learner reads.
    """

    name: str
    reference: str
    module: str
    at_up: bool
    about: str

    def build(self, progress: Progress) -> Path:
        """The image's archive, from the cache or built now.

        Raises:
            ImageBuildFailed: a step failed; what was done is kept, and the next call goes on from there.
        """
        path: Path = import_module(self.module).build(progress)
        return path


def archive(name: str, key: str, write: Callable[[Path], object]) -> Path:
    """The image's archive from the cache; `write` makes it, at the path it is given, when it is absent or damaged."""

    def make(content: Path) -> None:
        write(content / f"{name}.tar")

    return cache.ensure("images", key, make) / f"{name}.tar"


def cached_archive(name: str, key: str) -> Path | None:
    """The archive if it is in the cache, whole."""
    folder = cache.lookup("images", key)
    return folder / f"{name}.tar" if folder else None


@contextmanager
def only_one_builder(folder: Path) -> Iterator[None]:
    """Hold a build's work folder: another process that wants it waits, and then finds the result.

    It is taken before any lock of the cache, so that two builds that share a folder cannot wait for
    each other in a circle.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def work_folder(name: str, key: str) -> Path:
    """The folder an unfinished build works in, and resumes from."""
    return node_cache_dir() / "image-builds" / f"{name}-{key}"


def stage(folder: Path, name: str, action: Callable[[], None], progress: Progress, message: str) -> None:
    """Run one stage of a build unless an earlier run of it was completed."""
    marker = folder / f".done-{name}"
    if marker.exists():
        return
    progress(message)
    folder.mkdir(parents=True, exist_ok=True)
    action()
    marker.write_text(f"{time.time():.0f}\n")


def run(command: Iterable[str | Path], *, what: str, env: dict[str, str] | None = None) -> str:
    """Run a command of a build; a failure names the step and carries the last lines of its output.

    Raises:
        ImageBuildFailed: the command is missing or exited with an error.
    """
    words = leaving_no_bytecode(command)
    try:
        done = subprocess.run(words, capture_output=True, text=True, env=env, check=False)
    except FileNotFoundError as error:
        raise ImageBuildFailed(
            f"{what}: {words[0]} is not installed", next_command=f"apt-get install {words[0]}"
        ) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        tail = "\n".join(said.splitlines()[-ERROR_LINES:])
        message = f"{what} failed (exit {done.returncode}):\n{tail}"
        kind = fault(said)
        if kind is StepFailed:
            raise ImageBuildFailed(message, next_command="course doctor")
        raise kind(message, next_command=NEXT[kind])
    return done.stdout


def run_in_root(root: Path, command: Iterable[str | Path], *, what: str, env: dict[str, str]) -> str:
    """Run a command inside a root folder, with /dev and /proc that vanish with it.

    Nothing of the caller's environment is passed on: a PYTHONDONTWRITEBYTECODE set here would
    silently leave an image without compiled modules.
    """
    script = 'mount --rbind /dev "$0/dev" && mount --rbind /sys "$0/sys" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
    prefix: list[str | Path] = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, root]
    return run(
        [*prefix, *command], what=what, env={**env, "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    )


def require_space(folder: Path, needed_gib: float, what: str) -> None:
    """Refuse to begin a build that the disk cannot hold.

    Raises:
        ImageBuildFailed: less than `needed_gib` is free where `folder` lies.
    """
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    free_gib = shutil.disk_usage(existing).free / 2**30
    if free_gib < needed_gib:
        raise ImageBuildFailed(
            f"{what} needs {needed_gib:.0f} GiB of disk while it is built, {free_gib:.1f} GiB are free at {existing}",
            next_command=f"df -h {existing}",
        )


def clear(folder: Path) -> None:
    """Remove a folder if it is there."""
    if folder.exists():
        shutil.rmtree(folder)
