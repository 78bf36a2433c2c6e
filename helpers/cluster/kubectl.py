"""kubectl, for what only it can do: kustomize."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from helpers.cluster.manifests import load
from helpers.errors import EnvironmentFault, InvalidManifest
from helpers.settings import cache_dir


def find_kubectl() -> Path:
    """The newest kubectl built with the embedded cluster, else the one in PATH."""
    built = cache_dir().glob("binaries/*/content/usr/local/bin/kubectl")
    newest = max(built, key=lambda path: path.stat().st_mtime, default=None)
    found = newest or shutil.which("kubectl")
    if not found:
        raise EnvironmentFault("there is no kubectl on this machine", next_command="course up")
    return Path(found)


def kustomize(path: Path) -> list[dict[str, Any]]:
    """The objects that a kustomization builds; InvalidManifest with kubectl's words when it fails."""
    command = [str(find_kubectl()), "kustomize", "--load-restrictor=LoadRestrictionsNone", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFault(f"kubectl kustomize {path} did not run: {error}") from error
    if done.returncode:
        raise InvalidManifest(f"kustomize cannot build {path}: {done.stderr.strip()}")
    return load(done.stdout)
