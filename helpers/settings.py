"""Where the course keeps things on this machine: one home for state, one for caches.

`COURSE_HOME` and `COURSE_CACHE` override the defaults, which follow the platform's own
convention. `COURSE_CLUSTER` chooses which embedded cluster commands speak of.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

APP = "llm-stack-labs"
DEFAULT_CLUSTER = "lab"
REPOSITORY = Path(__file__).resolve().parent.parent


def home_dir() -> Path:
    """Clusters, chosen context, journals, progress: what must survive."""
    return Path(os.environ.get("COURSE_HOME") or platformdirs.user_data_path(APP))


def cache_dir() -> Path:
    """What can be rebuilt: keyed by content, shared by all clusters and checkouts."""
    return Path(os.environ.get("COURSE_CACHE") or platformdirs.user_cache_path(APP))


def cluster_name() -> str:
    """The embedded cluster that commands speak of unless told `--name`."""
    return os.environ.get("COURSE_CLUSTER") or DEFAULT_CLUSTER


def cluster_dir(name: str) -> Path:
    """All state of one embedded cluster; its kubeconfig is `cluster_dir(name) / "kubeconfig"`."""
    return home_dir() / "clusters" / name


def kubeconfig_path(name: str) -> Path:
    """The kubeconfig of an embedded cluster, mode 0600; present while the cluster exists."""
    return cluster_dir(name) / "kubeconfig"
