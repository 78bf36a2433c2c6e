"""A whole stopped cluster as something to copy: it starts again under any name and in any slot.

All state of a node lies in one folder, so a copy of the folder is a copy of the cluster, with its
objects, its images and its volumes. containerd's store is most of it and is shared as hard links: its
files are written once, under a name of their own, and a node that starts makes all containers anew.
Its databases and everything else are copied for real.

Certificates, etcd and the static pods carry the address that the cluster was made with. A copy keeps
that address for itself alone, inside its own network; beside it, it gets the address of its slot, by
which this machine knows it, and its API server a certificate for both.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import yaml

from helpers.embedded import addresses, cache, launch, preflight
from helpers.embedded.binaries import ensure_binaries
from helpers.embedded.sandbox import Sandbox
from helpers.embedded.steps import StepFailed, Steps, run
from helpers.errors import LabError

KIND, LABEL = "solved", "labs"
STORE = "var/lib/containerd"
COPIED = "etc/course/copied-from"


class ClusterExists(LabError):
    """A copy would take the place of a cluster that somebody may still want."""


def keep(name: str, key: str, steps: Steps, *, label: str) -> None:
    """Put a copy of the stopped cluster into the cache; `label` says what is on it.

    Raises StepFailed where there is no whole cluster of that name.
    """
    folder = launch.checked(name)
    known = addresses.stored(folder)
    if known is None or not (folder / "data" / launch.INITIALISED).exists():
        raise StepFailed(f"{folder} holds no cluster", next_command="course up")

    def fill(content: Path) -> None:
        copy_state(folder / "data", content / "data")
        (content / "data" / addresses.BORN_INSIDE).write_text(
            f"{known.slot if known.born is None else known.born}\n"
        )
        (content / LABEL).write_text(f"{label}\n")

    with launch.disk_faults(), launch.locked(folder, steps), steps.step("Copying the cluster's state"):
        content = cache.renew(KIND, key, fill)
    _forget_older(label, content)


def _forget_older(label: str, newest: Path) -> None:
    """Keep two of each: another checkout may be using one of its own."""
    entries = [path.parent.parent for path in newest.parent.parent.glob(f"*/{cache.CONTENT}/{LABEL}")]
    same = [entry for entry in entries if (entry / cache.CONTENT / LABEL).read_text().strip() == label]
    same.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in same[2:]:
        cache.forget(KIND, entry.name)


def put_back(
    name: str,
    key: str,
    steps: Steps,
    *,
    replace: bool = False,
    hand_out: Callable[[str, str], None] = launch.keep_kubeconfig,
) -> Sandbox:
    """Start a copy of the kept cluster as the cluster `name`; returns when it is ready.

    Raises ClusterExists where one has that name, unless `replace`, or where another cluster of this home
    is a copy of the same: they could not be told apart.
    """
    folder = launch.checked(name)
    preflight.require(steps)
    content = cache.lookup(KIND, key)
    if content is None:
        cache.forget(KIND, key)
        raise StepFailed("the kept cluster is damaged", next_command="the same command with --make")
    with launch.disk_faults(), launch.locked(folder, steps):
        _require_place(folder, key, replace=replace)
        work = folder / launch.UNFINISHED
        try:
            with steps.step("Copying the cluster's state"):
                copy_state(content / "data", work)
                (work / COPIED).write_text(f"{key}\n")
            kubeadm = ensure_binaries(steps).path("kubeadm")
            with steps.step("Putting it in its place"):
                slot = addresses.choose(folder)
                _renew_certificate(work, slot.node, kubeadm)
                Sandbox(folder, slot).stop()
                shutil.rmtree(folder / "data", ignore_errors=True)
                work.rename(folder / "data")
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return launch.up(name, steps, hand_out=hand_out)


def copy_state(source: Path, target: Path) -> None:
    """Copy a stopped node's state, its image store as hard links where both lie on one file system."""
    shutil.rmtree(target, ignore_errors=True)
    folders = [path.relative_to(source) for path in (*source.glob("var/lib/*"), *source.glob("*/*"))]
    for folder in folders:
        if folder == Path("var/lib"):
            continue
        (target / folder).parent.mkdir(parents=True, exist_ok=True)
        if folder == Path(STORE):
            _share(source / folder, target / folder)
        else:
            _copy(source / folder, target / folder, "--reflink=auto", "--sparse=always")


def _share(source: Path, target: Path) -> None:
    try:
        _copy(source, target, "--link")
    except StepFailed:  # another file system, or too many links
        shutil.rmtree(target, ignore_errors=True)
        _copy(source, target, "--reflink=auto")
        return
    for database in source.glob("*/*.db"):
        copied = target / database.relative_to(source)
        copied.unlink()
        shutil.copy2(database, copied)


def _copy(source: Path, target: Path, *how: str) -> None:
    run(["cp", "--archive", *how, "--no-target-directory", source, target])


def _require_place(folder: Path, key: str, *, replace: bool) -> None:
    if (folder / "data").exists() and not replace:
        raise ClusterExists(
            f"the cluster {folder.name} exists, and everything on it would be replaced",
            next_command="the same command with --replace, or with --name NAME for another cluster",
        )
    for other in folder.parent.glob(f"*/data/{COPIED}"):
        twin = other.relative_to(folder.parent).parts[0]
        if twin != folder.name and other.read_text().strip() == key:
            raise ClusterExists(
                f"the cluster {twin} is a copy of the same one, and its journals would count for both",
                next_command=f"course down --delete --name {twin}",
            )


def _renew_certificate(state: Path, address: str, kubeadm: Path) -> None:
    """A certificate of the API server for this address too, from the cluster's own authority."""
    pki = state / "etc/kubernetes/pki"
    documents = list(yaml.safe_load_all((state / "etc/course/kubeadm.yaml").read_text()))
    for document in documents:
        if document["kind"] == "ClusterConfiguration":
            document["certificatesDir"] = str(pki)
            document["apiServer"]["certSANs"] = [address]
    for file in ("apiserver.crt", "apiserver.key"):
        (pki / file).unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        yaml.safe_dump_all(documents, config)
        config.flush()
        run([kubeadm, "init", "phase", "certs", "apiserver", "--config", config.name])
