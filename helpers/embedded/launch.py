"""`course up` and `course down`: from whatever state the machine is in to the one asked for."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import string
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from helpers.atomic_file import write_atomically
from helpers.embedded import addons, addresses, gpu, observe, preflight, registry
from helpers.embedded.binaries import KUBERNETES, Binaries, ensure_binaries
from helpers.embedded.images.system import ETCD_TAG
from helpers.embedded.layers import Ground, ensure_ground
from helpers.embedded.loading import Store, at_up, built, load_images, named
from helpers.embedded.registry import Source
from helpers.embedded.sandbox import SCRIPTS, Sandbox
from helpers.embedded.seed import copy_seed, ensure_seed
from helpers.embedded.steps import DISK_FULL_NEXT, DiskFull, Step, StepFailed, Steps, run
from helpers.errors import EnvironmentFault, LabError, NoClusterChosen
from helpers.settings import kubeconfig_path, node_dir

READY_S = 180.0
# Its database is synced to the disk at the first start: 20 s were not enough beside a copy of some GB.
CONTAINERD_S = 60.0
API_PORT = 6443
INITIALISED = "etc/course/initialised"
# A copy that was never finished (helpers/embedded/kept.py); beside the state, not in it.
UNFINISHED = "data.new"


class BadName(LabError):
    """A cluster's name is part of file and interface names."""


class OtherVersion(EnvironmentFault):
    """The state that was kept belongs to another version of Kubernetes."""


@dataclass(frozen=True)
class Parts:
    """What a node lies on, from the cache."""

    binaries: Binaries
    ground: Ground

    def layers(self) -> list[Path]:
        ground = self.ground
        return [ground.course, ground.site_packages, *self.binaries.node_layers, ground.root]


def keep_kubeconfig(name: str, text: str) -> None:
    """Write a cluster's kubeconfig, readable by this user only."""
    target = kubeconfig_path(name)
    if not target.exists() or target.read_text() != text:
        write_atomically(target, text)


def up(
    name: str,
    steps: Steps,
    *,
    source: Source | None = None,
    hand_out: Callable[[str, str], None] = keep_kubeconfig,
) -> Sandbox:
    """Bring the cluster up, new or as it was left; returns when everything it needs was observed.

    `hand_out` is given the cluster's name and the text of its kubeconfig, as soon as there is one.
    Raises BadGround for a machine that cannot run it, StepFailed when a step fails.
    """
    folder = checked(name)
    preflight.require(steps)
    with disk_faults(), locked(folder, steps):
        parts = ensure_parts(steps)
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
        sandbox = Sandbox(folder, addresses.choose(folder))
        source = registry.settled(source, sandbox.data(registry.REMEMBERED))
        pid = sandbox.pid()
        if pid is None or not _initialised(sandbox):
            pid = (
                _start(sandbox, parts, steps) if _initialised(sandbox) else _start_new(sandbox, parts, steps)
            )
        if not _initialised(sandbox):
            with _stopped_on_failure(sandbox):
                _initialise(sandbox, pid, source, steps)
        hand_out(name, _kubeconfig(sandbox, pid, name))
        _wait(sandbox, pid, steps)
        addons.renew(sandbox, pid, source, steps)
        load_images(Store.of(sandbox, pid, parts.binaries), at_up(), source, steps)
    return sandbox


def down(name: str, steps: Steps, *, delete: bool = False) -> bool:
    """Stop the cluster and leave nothing running; returns whether it ran. `delete` deletes its state too."""
    folder = checked(name)
    if not folder.exists():
        return False
    with locked(folder, steps):
        sandbox = existing(name)
        ran = sandbox is not None and sandbox.pid() is not None
        if sandbox is not None:
            sandbox.stop()
        if delete:
            shutil.rmtree(folder)
            _lock_file(folder).unlink()
    return ran


def change_gpus(
    name: str,
    steps: Steps,
    *,
    shape: str = "",
    replicas: int = 4,
    second_card: bool | None = None,
    unhealthy: Sequence[str] = (),
    healthy: Sequence[str] = (),
) -> str:
    """Change the node's GPUs and wait until the API server shows it; returns what is advertised.

    Args:
        second_card: whether there is one; None for as it is.
    """
    sandbox, pid = running(name)
    folder = sandbox.data("etc/course")
    marked = set(gpu.read_unhealthy(folder)) | set(unhealthy)
    marked = set() if "all" in healthy else marked - set(healthy)
    with steps.step("Waiting for the node to advertise it") as step:
        if shape:
            kept = gpu.has_second_card(folder)
            gpu.write_shape(folder, gpu.shape_named(shape), replicas=replicas, second_card=kept)
        if second_card is not None and second_card != gpu.has_second_card(folder):
            gpu.put_second_card(folder, there=second_card)
        gpu.write_unhealthy(folder, marked)
        source = registry.settled(None, sandbox.data(registry.REMEMBERED))
        addons.publish_profile(sandbox, pid, source)
        _wait_for(observe.gpus(sandbox, pid), sandbox, pid, time.monotonic() + READY_S, step)
        return step.detail


def load(name: str, names: Sequence[str], steps: Steps) -> list[str]:
    """Make and import images into the running cluster; returns the names of those it lacked."""
    sandbox, pid = running(name)
    with disk_faults():
        store = Store.of(sandbox, pid, ensure_binaries(steps))
        source = registry.settled(None, sandbox.data(registry.REMEMBERED))
        return load_images(store, named(names), source, steps)


def fetch_ahead(name: str, names: Sequence[str], steps: Steps) -> None:
    """Make images before anybody asks for them, and import them where the cluster runs."""
    sandbox = existing(name)
    if sandbox is not None and sandbox.pid() is not None:
        load(name, names, steps)
        return
    preflight.require(steps)
    source = registry.settled(None, sandbox.data(registry.REMEMBERED)) if sandbox else Source.LOCAL
    with disk_faults():
        for spec in named(names):
            if (
                registry.reference(spec, source) == spec.reference
            ):  # any other is pulled into a cluster that runs
                built(spec, steps)


def existing(name: str) -> Sandbox | None:
    """The cluster of that name, running or kept; None when there is none."""
    folder = checked(name)
    known = addresses.stored(folder)
    return Sandbox(folder, known) if known is not None else None


def running(name: str) -> tuple[Sandbox, int]:
    """The cluster of that name and its node's PID 1; raises NoClusterChosen when it does not run."""
    sandbox = existing(name)
    pid = sandbox.pid() if sandbox else None
    if sandbox is None or pid is None:
        raise NoClusterChosen(f"the cluster {name} is not running", next_command="course up")
    return sandbox, pid


def ensure_parts(steps: Steps) -> Parts:
    """Build or find everything a node lies on; what waits for the network comes in while commands are compiled."""
    with ThreadPoolExecutor(1) as pool:
        ground = pool.submit(ensure_ground, steps)
        return Parts(ensure_binaries(steps), ground.result())


def checked(name: str) -> Path:
    """The node's folder of the cluster of that name; raises BadName for what cannot name one."""
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise BadName(
            f"{name!r} cannot name a cluster: lower-case letters, digits and hyphens",
            next_command="course up",
        )
    return node_dir(name).absolute()


@contextmanager
def disk_faults() -> Iterator[None]:
    """A full disk is the machine's fault and not the course's."""
    try:
        yield
    except OSError as cause:
        # A whole tree that is copied collects its faults in one without a number.
        if cause.errno != errno.ENOSPC and os.strerror(errno.ENOSPC) not in str(cause):
            raise
        where = f" for {cause.filename}" if cause.filename else ""
        raise DiskFull(f"no space left{where}", next_command=DISK_FULL_NEXT) from cause


@contextmanager
def locked(folder: Path, steps: Steps) -> Iterator[None]:
    """One `up` or `down` of a cluster at a time; the lock lies beside the folder, which may be deleted."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = _lock_file(folder)
    while True:
        with path.open("w") as lock:
            with steps.step("Waiting for another `course up` or `course down`"):
                fcntl.flock(lock, fcntl.LOCK_EX)
            # A `course down --delete` that was waited for took its lock file along: that one locks nobody.
            if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                yield
                return


def _lock_file(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.lock"


def _initialised(sandbox: Sandbox) -> bool:
    return all(sandbox.data(path).exists() for path in (INITIALISED, observe.ADMINISTRATOR))


def _require_same_version(sandbox: Sandbox) -> None:
    """State of another Kubernetes version is not upgraded: a teaching cluster is made anew in seconds."""
    made_by = sandbox.data(INITIALISED).read_text().strip()
    if made_by != KUBERNETES:
        raise OtherVersion(
            f"the kept cluster {sandbox.folder.name} was made by Kubernetes {made_by}, this is {KUBERNETES}",
            next_command=f"course down --delete --name {sandbox.folder.name}; then: course up",
        )


def _start(sandbox: Sandbox, parts: Parts, steps: Steps) -> int:
    """Start a kept cluster's node, after whatever is left of it has ended."""
    _require_same_version(sandbox)
    with steps.step("Starting the node"):
        sandbox.stop()
        preflight.require_subnet(sandbox.addresses)
        return sandbox.start(parts.layers())


def _start_new(sandbox: Sandbox, parts: Parts, steps: Steps) -> int:
    """Start a node without a past: of a first boot that was interrupted nothing is worth keeping."""
    seed = ensure_seed(parts.binaries, parts.ground.root, [built(spec, steps) for spec in at_up()], steps)
    with steps.step("Starting the node") as step:
        sandbox.stop()
        preflight.require_subnet(sandbox.addresses)
        shutil.rmtree(sandbox.folder / "data", ignore_errors=True)
        step.detail = "copying the images"
        copy_seed(seed, sandbox.data("var/lib/containerd"))
        gpu.write_shape(sandbox.data("etc/course"), gpu.Shape.FULL)
        return sandbox.start(parts.layers())


@contextmanager
def _stopped_on_failure(sandbox: Sandbox) -> Iterator[None]:
    """Half a cluster is of no use to anybody; its logs stay until the next `up`."""
    try:
        yield
    except BaseException:
        sandbox.stop()
        raise


def _initialise(sandbox: Sandbox, pid: int, source: Source, steps: Steps) -> None:
    """`kubeadm init`, and the add-ons as soon as the API server takes them, not after its last phase."""
    with steps.step("Initialising the cluster with kubeadm") as step, ThreadPoolExecutor() as pool:
        _render_kubeadm(sandbox)
        _wait_for_containerd(sandbox, pid)
        failed = threading.Event()
        adding = pool.submit(addons.add_when_possible, sandbox, pid, source, failed)
        try:
            _kubeadm_init(sandbox, pid, step)
        except BaseException:
            failed.set()
            raise
        adding.result()
    sandbox.data(registry.REMEMBERED).write_text(f"{source}\n")
    sandbox.data(INITIALISED).write_text(f"{KUBERNETES}\n")


def _kubeadm_init(sandbox: Sandbox, pid: int, step: Step) -> None:
    skipped = "--skip-phases=preflight,show-join-command,addon/coredns,addon/kube-proxy"
    command = sandbox.run(["kubeadm", "init", "--config", "/etc/course/kubeadm.yaml", skipped], pid=pid)
    log = sandbox.folder / "kubeadm.log"
    run(command, step=step, log=log, next_command="course doctor")


def _render_kubeadm(sandbox: Sandbox) -> None:
    template = string.Template((SCRIPTS / "kubeadm.yaml").read_text())
    text = template.substitute(
        ADDRESS=sandbox.addresses.inside, NAME=sandbox.folder.name, KUBERNETES=KUBERNETES, ETCD=ETCD_TAG
    )
    sandbox.data("etc/course/kubeadm.yaml").write_text(text)


def _wait_for_containerd(sandbox: Sandbox, pid: int) -> None:
    deadline = time.monotonic() + CONTAINERD_S
    socket = sandbox.path("run/containerd/containerd.sock", pid=pid)
    while not socket.exists():
        if time.monotonic() > deadline:
            raise StepFailed(f"containerd did not start\n{sandbox.log_tails(['containerd.log'])}")
        time.sleep(0.05)


def _kubeconfig(sandbox: Sandbox, pid: int, name: str) -> str:
    """kubeadm's administrator, under the cluster's name."""
    document = yaml.safe_load(sandbox.path("etc/kubernetes/admin.conf", pid=pid).read_text())
    context = f"course-{name}"
    document["clusters"][0]["name"] = document["users"][0]["name"] = context
    document["clusters"][0]["cluster"]["server"] = f"https://{sandbox.addresses.node}:{API_PORT}"
    document["contexts"] = [{"name": context, "context": {"cluster": context, "user": context}}]
    document["current-context"] = context
    return yaml.safe_dump(document)


def _wait(sandbox: Sandbox, pid: int, steps: Steps) -> None:
    """Until everything has answered, and then everything at once: what came first may have gone again."""
    deadline = time.monotonic() + READY_S
    asked = observe.observations(sandbox, pid, observe.started_at(pid))
    for observation in asked:
        with steps.step(f"Waiting for: {observation.title}") as step:
            _wait_for(observation, sandbox, pid, deadline, step)
    while lost := [observation for observation in asked if not observation.answer()]:
        for observation in lost:
            with steps.step(f"Waiting again for: {observation.title}") as step:
                _wait_for(observation, sandbox, pid, deadline, step)


def _wait_for(
    observation: observe.Observation, sandbox: Sandbox, pid: int, deadline: float, step: Step
) -> None:
    while not (seen := observation.answer()):
        if not Path(f"/proc/{pid}").exists():
            raise StepFailed(f"the node ended\n{sandbox.log_tails(['boot.log'])}", next_command="course up")
        if time.monotonic() > deadline:
            raise StepFailed(
                f"no answer from: {observation.title}\n{sandbox.log_tails(observation.logs)}",
                next_command="course doctor",
            )
        time.sleep(0.05)
    step.detail = seen
