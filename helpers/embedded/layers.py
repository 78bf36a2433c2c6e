"""The node's lower layers: the course's own files over the commands over the Debian root."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from helpers.embedded import cache
from helpers.embedded.root import ensure_root, python_version
from helpers.embedded.steps import Steps, run
from helpers.settings import REPOSITORY, node_cache_dir

HERE = Path(__file__).parent
# grpcio needs typing-extensions; the rest is what the node's daemons import themselves.
DAEMON_PACKAGES = ("grpcio", "protobuf", "pyyaml", "typing-extensions")
COURSE = Path("opt/course")


@dataclass(frozen=True)
class Ground:
    """What a node lies on apart from the compiled commands, from the cache."""

    root: Path
    site_packages: Path
    course: Path


def ensure_ground(steps: Steps) -> Ground:
    """Build or find what needs no compiled command."""
    root = ensure_root(steps)
    return Ground(root, ensure_site_packages(root, steps), ensure_course_layer(root))


def ensure_course_layer(root: Path) -> Path:
    """`/opt/course`: the node's scripts and its daemons' code, as they are in this checkout."""
    files = dict(_course_files())
    key = cache.key_of(
        [str(root), *(part for path, source in sorted(files.items()) for part in (path, source))]
    )

    def make(content: Path) -> None:
        for path, source in files.items():
            target = content / COURSE / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
        (content / COURSE / "helpers/cluster/__init__.py").touch()
        _compile(content, root)

    return cache.ensure("layers", key, make)


def ensure_site_packages(root: Path, steps: Steps) -> Path:
    """`/opt/course/site-packages`: what the daemons import, for the node's own Python."""
    version = python_version(root)
    pins = "".join(_pins(REPOSITORY / "requirements.lock"))
    key = cache.key_of([version, pins, str(root)])

    def make(content: Path) -> None:
        with steps.step("Installing the node daemons' packages"):
            _install(content / COURSE / "site-packages", version, pins)
            _compile(content, root)

    return cache.ensure("site-packages", key, make)


def _course_files() -> Iterator[tuple[str, Path]]:
    yield "helpers/__init__.py", HERE.parent / "__init__.py"
    yield "helpers/cluster/selectors.py", HERE.parent / "cluster" / "selectors.py"
    for name in ("__init__.py", "kubeapi.py"):
        yield f"helpers/embedded/{name}", HERE / name
    for folder, prefix in (("devices", "helpers/embedded"), ("policy", "helpers/embedded"), ("node", ".")):
        for source in sorted((HERE / folder).rglob("*")):
            if source.is_file() and source.suffix != ".pyc":
                yield f"{prefix}/{source.relative_to(HERE)}", source


def _pins(lock: Path) -> Iterator[str]:
    """The lock file's entries of the daemons' packages, hashes included."""
    for entry in re.findall(r"^\S+==[^\n]*(?:\n +[^\n]*)*\n", lock.read_text(), flags=re.MULTILINE):
        if entry.split("==")[0] in DAEMON_PACKAGES:
            yield entry


def _install(target: Path, version: str, pins: str) -> None:
    target.mkdir(parents=True)
    requirements = target.parent / "requirements.txt"
    requirements.write_text(pins)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes"]
    only = ["--only-binary=:all:", "--python-version", version, "--no-compile", "--target", str(target)]
    run([*command, *only, "-r", requirements], log=node_cache_dir() / "logs" / "site-packages.log")


def _compile(content: Path, root: Path) -> None:
    """Byte-compile a layer with the node's own Python: its daemons then start in half the time."""
    inside = f"mount --bind {shlex.quote(str(content))} {shlex.quote(str(root))}/mnt && exec chroot {shlex.quote(str(root))}"
    compiler = "python3 -m compileall -q --invalidation-mode unchecked-hash -s /mnt -p / /mnt/opt/course"
    run(["unshare", "--mount", "sh", "-c", f"{inside} {compiler}"])
