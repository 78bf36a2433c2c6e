"""A small Debian root for images that run a program of Debian's: packages extracted, nothing configured."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from helpers.embedded import cache
from helpers.embedded.images.build import Progress, run

SUITE = "bookworm"
PYTHON_PACKAGES = (
    "util-linux",
    "python3",
    "libstdc++6",
    "libgomp1",
    "libnuma1",
    "zlib1g",
    "busybox-static",
    "tzdata",
)
UNNEEDED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
    "var/log",
)
USER_ID = 1000
RECIPE = "1"  # raise it when a step below changes what it makes
ACCOUNTS = {
    "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\ncourse:x:{USER_ID}:{USER_ID}:course:/tmp:/bin/sh\n",
    "etc/group": f"root:x:0:\ncourse:x:{USER_ID}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


def python_root(progress: Progress) -> Path:
    """A folder with Debian's Python 3.11, a shell, and the libraries that PyTorch and ONNX ask for."""
    return root("python", PYTHON_PACKAGES, progress)


def root(name: str, packages: Iterable[str], progress: Progress) -> Path:
    """A folder with the given packages and all they depend on, kept in the cache.

    The packages are extracted, their installation scripts are not run: no package manager, no
    caches, no daemon. An unprivileged user `course` (uid 1000) is there, and busybox's tools where
    it is among the packages.
    """
    key = cache.key_of([SUITE, *sorted(packages), *UNNEEDED, repr(ACCOUNTS), RECIPE])

    def make(folder: Path) -> None:
        progress(f"Debian root for {name}: {', '.join(packages)}")
        include = f"--include={','.join(packages)}"
        command: list[str | Path] = ["mmdebstrap", "--variant=extract", "--quiet", include, SUITE, folder]
        run(command, what=f"the Debian root for {name}")
        _tidy(folder)

    return cache.ensure("roots", key, make)


def _tidy(tree: Path) -> None:
    for name in (*UNNEEDED, "dev", "proc", "sys"):
        shutil.rmtree(tree / name, ignore_errors=True)
    for name in ("etc", "root", "dev", "proc", "sys", "tmp", "var/tmp"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (tree / name).chmod(0o1777)
    for path, content in ACCOUNTS.items():
        (tree / path).write_text(content)
    busybox = tree / "bin" / "busybox"
    for tool in run([busybox, "--list"], what="listing busybox's tools").split() if busybox.exists() else ():
        link = tree / "bin" / tool
        if not any((tree / place / tool).exists() for place in ("bin", "usr/bin", "sbin", "usr/sbin")):
            link.symlink_to("/bin/busybox")
