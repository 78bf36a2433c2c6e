"""Where the course keeps things on this machine: one home for state, one for caches.

`COURSE_HOME` and `COURSE_CACHE` override the defaults, which follow the platform's own
convention. `COURSE_CLUSTER` chooses which embedded cluster commands speak of.
"""

from __future__ import annotations

import os
import re
import zlib
from pathlib import Path

import platformdirs

from helpers.errors import EnvironmentFault

APP = "llm-stack-labs"
DEFAULT_CLUSTER = "lab"
# Where a node keeps what only root may own, when the one who asked for it is not root.
NODES = Path("/var/lib") / APP
REPOSITORY = Path(__file__).resolve().parent.parent
# A cluster's name is part of file, host and interface names.
_CLUSTER_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")

_ELSEWHERE = "export {variable}=DIR (a folder of yours)"


class BadSetting(EnvironmentFault):
    """A variable of the course says something that it cannot use."""


def home_dir() -> Path:
    """Clusters, chosen context, journals, progress: what must survive.

    Raises:
        BadSetting: it cannot be a folder of this user.
    """
    folder = _folder("COURSE_HOME", platformdirs.user_data_path(APP))
    existing = _existing(folder)
    if not os.access(existing, os.W_OK | os.X_OK):
        raise BadSetting(
            f"the course keeps its state in {folder}, and this user cannot write to {existing}",
            next_command=_ELSEWHERE.format(variable="COURSE_HOME"),
        )
    return folder


def cache_dir() -> Path:
    """What can be rebuilt: keyed by content, shared by all clusters and checkouts.

    Raises:
        BadSetting: it cannot be a folder of this user.
    """
    return _folder("COURSE_CACHE", platformdirs.user_cache_path(APP))


def cluster_name() -> str:
    """The embedded cluster that commands speak of unless told `--name`.

    Raises:
        BadSetting: COURSE_CLUSTER is no name of a cluster.
    """
    return checked_name(
        os.environ.get("COURSE_CLUSTER") or DEFAULT_CLUSTER, next_command="unset COURSE_CLUSTER"
    )


def checked_name(name: str, *, next_command: str) -> str:
    """The name, if a cluster can have it.

    Raises:
        BadSetting: it has other characters, or too many.
    """
    if _CLUSTER_NAME.fullmatch(name):
        return name
    shown = name if len(name) <= 40 else f"{name[:40]}… ({len(name)} characters)"
    raise BadSetting(
        f"{shown!r} cannot name a cluster: lower-case letters, digits and hyphens, 32 at most",
        next_command=next_command,
    )


def _folder(variable: str, default: Path) -> Path:
    """The folder that a variable names; a sentence where the first write would be a traceback."""
    given = os.environ.get(variable)
    folder = Path(given or default)
    if given and given.startswith("~"):
        whole = given.replace("~", "$HOME", 1) if given[1:2] in ("", "/") else "DIR"
        raise BadSetting(
            f"{variable} is {given}, which no shell expanded", next_command=f"export {variable}={whole}"
        )
    elsewhere = _ELSEWHERE.format(variable=variable)
    try:
        existing = _existing(folder)
    except OSError as problem:
        raise BadSetting(
            f"{variable} cannot be a folder: {problem.strerror}", next_command=elsewhere
        ) from problem
    if not existing.is_dir():
        raise BadSetting(
            f"the course's folder {folder} cannot be made: {existing} is a file", next_command=elsewhere
        )
    return folder


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def node_home() -> Path:
    """The nodes' own state: root's home is theirs too; for anybody else it is a folder that root owns."""
    return _node_folder("COURSE_NODE_HOME", "COURSE_HOME", home_dir(), "home")


def node_cache_dir() -> Path:
    """What only root can make (root file systems, image stores): the cache, or a folder that root owns."""
    return _node_folder("COURSE_NODE_CACHE", "COURSE_CACHE", cache_dir(), "cache")


def for_somebody_else() -> bool:
    """Whether this process is root on behalf of a user, whose own files it must leave alone."""
    return "COURSE_NODE_HOME" in os.environ


def _node_folder(given: str, override: str, ours: Path, word: str) -> Path:
    if os.environ.get(given):
        return Path(os.environ[given])
    if os.geteuid() == 0:
        return ours
    # Two homes of one user have nodes apart, as they have everything else apart.
    apart = f"-{zlib.crc32(str(ours.absolute()).encode()):08x}" if os.environ.get(override) else ""
    return NODES / str(os.geteuid()) / f"{word}{apart}"


def cluster_dir(name: str) -> Path:
    """A user's part of one embedded cluster: its kubeconfig is `cluster_dir(name) / "kubeconfig"`."""
    return home_dir() / "clusters" / name


def node_dir(name: str) -> Path:
    """The node's part of one embedded cluster: for root the same folder."""
    return node_home() / "clusters" / name


def kubeconfig_path(name: str) -> Path:
    """The kubeconfig of an embedded cluster, mode 0600; present while the cluster exists."""
    return cluster_dir(name) / "kubeconfig"


# Of what runs in clusters: the decisions that learners write, and how the eval runner reads their files.
_SHARED_WITH_CHECKS = ("__init__.py", "orchestrator/__init__.py", "orchestrator/decisions.py", "evals")


def graded_files() -> list[Path]:
    """The course's own files that grading needs, in a fixed order: a grader's image and its digest are made of them."""
    helpers, manifests = REPOSITORY / "helpers", REPOSITORY / "manifests"
    # What draws, what builds clusters, and what runs in them: but for the words that checks share with it.
    left_out = [helpers / name for name in ("notebook", "embedded", "apps")]
    shared = [helpers / "apps" / name for name in _SHARED_WITH_CHECKS]
    return sorted(
        path
        for path in (*helpers.rglob("*"), *manifests.rglob("*.yaml"))
        if path.suffix in (".py", ".json", ".jsonl", ".yaml")
        and (
            not any(folder in path.parents for folder in left_out)
            or any(path == part or part in path.parents for part in shared)
        )
    )
