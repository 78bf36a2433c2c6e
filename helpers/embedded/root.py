"""The node's root file system: a minimal Debian (or Ubuntu, where that is the host) of its own."""

from __future__ import annotations

import platform
from pathlib import Path

from helpers.embedded import cache
from helpers.embedded.steps import Steps, run
from helpers.settings import node_cache_dir

PACKAGES = (
    "busybox-static",
    "ca-certificates",
    "catatonit",
    "conntrack",
    "containernetworking-plugins",
    "ethtool",
    "iproute2",
    "iptables",
    "kmod",
    "mount",
    "nftables",
    "procps",
    "python3",
    "runc",
    "runit",
    "socat",
    "util-linux",
)
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*")
APT_SOURCES = (
    Path("/etc/apt/sources.list.d/debian.sources"),
    Path("/etc/apt/sources.list.d/ubuntu.sources"),
    Path("/etc/apt/sources.list"),
)


def ensure_root(steps: Steps) -> Path:
    """The root file system's folder, installed now where the cache lacks it."""
    suite = _suite()
    key = cache.key_of([suite, platform.machine(), *PACKAGES, *EXCLUDED])
    found = cache.lookup("roots", key)
    if found is not None:
        return found

    def make(content: Path) -> None:
        with steps.step(f"Installing the node's own {suite} root") as step:
            command: list[str | Path] = [
                "mmdebstrap",
                "--mode=root",
                "--variant=apt",
                f"--include={','.join(PACKAGES)}",
                *[f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED],
                suite,
                content,
                *[source for source in APT_SOURCES if _names(source, suite)][:1],
            ]
            run(command, step=step, log=node_cache_dir() / "logs" / "root.log", next_command="course doctor")

    return cache.ensure("roots", key, make)


def python_version(root: Path) -> str:
    """The node's own Python, such as `3.11`: what its daemons' packages must be made for."""
    return (root / "usr/bin/python3").resolve().name.removeprefix("python")


def _suite() -> str:
    """The host's own release: its mirror is configured and its keys are installed."""
    return platform.freedesktop_os_release()["VERSION_CODENAME"]


def _names(source: Path, suite: str) -> bool:
    return source.exists() and suite in source.read_text()
