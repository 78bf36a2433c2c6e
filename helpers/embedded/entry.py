"""The embedded cluster for whoever asks: root does it all, a user does all but what the node needs.

Commands and tests call these; `launch` and its neighbours are what root runs.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from helpers import settings
from helpers.cluster.doctor import Finding
from helpers.embedded import kept, launch, turns
from helpers.embedded.binaries import ensure_binaries, ensure_for_images, offer_kubectl
from helpers.embedded.cache import cache_dir, clear, sizes_mib
from helpers.embedded.elevate import Root, root
from helpers.embedded.registry import Source
from helpers.embedded.status import State
from helpers.embedded.steps import Steps


def is_root() -> bool:
    """Whether this process may do everything itself."""
    return os.geteuid() == 0


def up(
    name: str,
    steps: Steps,
    *,
    source: Source | None = None,
    helper: Root | None = None,
    on_kubeconfig: Callable[[str, str], None] = launch.keep_kubeconfig,
) -> None:
    """Bring the cluster up, new or as it was left.

    `on_kubeconfig` is given the cluster's name and its kubeconfig, as soon as its API server answers.
    """
    launch.checked(name)
    with turns.first(), helper_of_root(helper) as helper:
        if helper is not None:
            _up_through(helper, name, steps, source, on_kubeconfig)
            return
        launch.up(name, steps, source=source, hand_out=on_kubeconfig)
        offer_kubectl(ensure_binaries(steps))


def _up_through(
    helper: Root,
    name: str,
    steps: Steps,
    source: Source | None,
    on_kubeconfig: Callable[[str, str], None],
) -> None:
    """`up` for a user: the machine is looked at first, commands are compiled here while root makes the ground."""
    helper.call("require", steps)
    with ThreadPoolExecutor(1) as pool:
        prepared = pool.submit(helper.call, "prepare", steps)
        offer_kubectl(ensure_binaries(steps))
        prepared.result()
    chosen = str(source or "")
    helper.call("up", steps, on_kubeconfig=on_kubeconfig, name=name, source=chosen)


def down(name: str, steps: Steps, *, delete: bool = False) -> bool:
    """Stop the cluster; returns whether it ran. `delete` deletes its state too."""
    if is_root():
        return launch.down(name, steps, delete=delete)
    folder = launch.checked(name)
    ran = folder.exists() and _ask("down", steps, name=name, delete=delete)
    if delete:
        shutil.rmtree(settings.cluster_dir(name), ignore_errors=True)
    return ran


def change_gpus(name: str, steps: Steps, **change: Any) -> str:
    """Change the node's GPUs; returns what is advertised."""
    if is_root():
        return launch.change_gpus(name, steps, **change)
    launch.running(name)
    return _ask("change_gpus", steps, name=name, **change)


def load(name: str, names: Sequence[str], steps: Steps) -> list[str]:
    """Make and import images into the running cluster; returns the names of those it lacked."""
    with turns.first():
        if is_root():
            return launch.load(name, names, steps)
        launch.running(name)
        ensure_binaries(steps)
        ensure_for_images(names, steps)
        return _ask("load", steps, name=name, names=list(names))


def fetch_ahead(name: str, names: Sequence[str], steps: Steps, *, helper: Root | None = None) -> None:
    """Make images before anybody asks for them, and import them where the cluster runs."""
    with helper_of_root(helper) as helper:
        if helper is None:
            launch.fetch_ahead(name, names, steps)
        else:
            ensure_for_images(names, steps)
            helper.call("fetch_ahead", steps, name=name, names=list(names))


def keep(name: str, key: str, steps: Steps, *, label: str) -> None:
    """Keep a copy of the stopped cluster, with `label` on it."""
    if is_root():
        kept.keep(name, key, steps, label=label)
    else:
        _ask("keep", steps, name=name, key=key, label=label)


def is_kept(key: str) -> bool:
    """Whether a cluster is kept under this key; whether it is whole is seen when it is put back."""
    return (cache_dir(kept.KIND) / kept.KIND / key).is_dir()


def put_back(name: str, key: str, steps: Steps, *, replace: bool = False) -> None:
    """Start a copy of the kept cluster as the cluster of that name."""
    with turns.first():
        if is_root():
            kept.put_back(name, key, steps, replace=replace)
            offer_kubectl(ensure_binaries(steps))
            return
        offer_kubectl(ensure_binaries(steps))
        with root() as helper:
            arguments = {"name": name, "key": key, "replace": replace}
            helper.call("put_back", steps, on_kubeconfig=launch.keep_kubeconfig, **arguments)


def state(name: str) -> State:
    """What there is of the cluster of that name."""
    from helpers.embedded.status import state as read

    sandbox = launch.existing(name)
    if is_root() or sandbox is None or sandbox.pid() is None:
        return read(name)
    return State(**_ask("state", Steps(), name=name))


def diagnose(name: str) -> list[Finding]:
    """What is wrong with the machine or the cluster."""
    from helpers.embedded.doctor import diagnose as look

    return look(name) if is_root() else [Finding(**found) for found in _ask("diagnose", Steps(), name=name)]


def cache_sizes(*, delete: bool) -> dict[str, float]:
    """How much each folder of the caches takes; emptied if asked."""
    from helpers.embedded.sandbox import require_none_running

    sizes = sizes_mib()
    if not is_root() and settings.node_cache_dir().exists():
        sizes |= _ask("cache", Steps(), delete=delete)
    if delete:
        require_none_running()
        clear()
    return sizes


@contextmanager
def helper_of_root(helper: Root | None = None) -> Iterator[Root | None]:
    """The helper that was given, or one until the block ends; None for root, who needs none."""
    if helper is not None or is_root():
        yield helper
        return
    with root() as own:
        yield own


def _ask(operation: str, steps: Steps, **arguments: Any) -> Any:
    with root() as helper:
        return helper.call(operation, steps, **arguments)
