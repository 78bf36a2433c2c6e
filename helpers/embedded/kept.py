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
from pathlib import Path

import yaml

from helpers.embedded import addresses, launch, preflight
from helpers.embedded.binaries import ensure_binaries
from helpers.embedded.sandbox import Sandbox
from helpers.embedded.steps import StepFailed, Steps, run
from helpers.errors import LabError

STORE = "var/lib/containerd"
COPIED = "etc/course/copied-from"


class ClusterExists(LabError):
    """A copy would take the place of a cluster that somebody may still want."""


def state_of(folder: Path) -> Path:
    """The state of the stopped cluster in `folder`, made ready to be copied.

    Raises StepFailed while the cluster has no state to copy.
    """
    known = addresses.stored(folder)
    state = folder / "data"
    if known is None or not (state / launch.INITIALISED).exists():
        raise StepFailed(f"{folder} holds no cluster", next_command="course up")
    (folder / addresses.BORN).write_text(f"{known.slot if known.born is None else known.born}\n")
    return state


def place(name: str, state: Path, steps: Steps, *, label: str, replace: bool = False) -> Sandbox:
    """Start a copy of the cluster in `state` as the cluster `name`; returns when it is ready.

    `label` says what it is a copy of. Raises ClusterExists where one has that name, unless `replace`,
    or where another cluster of this home is a copy of the same: they could not be told apart.
    """
    folder = launch.checked(name)
    preflight.require(steps)
    with launch.disk_faults(), launch.locked(folder, steps):
        _require_place(folder, label, replace=replace)
        work = folder / launch.UNFINISHED
        try:
            with steps.step("Copying the cluster's state"):
                copy_state(state, work)
                (work / COPIED).write_text(f"{label}\n")
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
    return launch.up(name, steps)


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


def _require_place(folder: Path, label: str, *, replace: bool) -> None:
    if (folder / "data").exists() and not replace:
        raise ClusterExists(
            f"the cluster {folder.name} exists, and everything on it would be replaced",
            next_command="the same command with --replace, or with --name NAME for another cluster",
        )
    for other in folder.parent.glob(f"*/data/{COPIED}"):
        twin = other.relative_to(folder.parent).parts[0]
        if twin != folder.name and other.read_text().strip() == label:
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
