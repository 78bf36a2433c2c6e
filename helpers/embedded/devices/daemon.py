"""The loop that keeps the kubelet and the Node in step with the configuration.

It polls: two files, one socket and, now and then, the Node. Each step is a comparison of what is
wanted with what is there, so that any restart, of this daemon, the kubelet or the API server,
is healed by the next step.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from helpers.embedded.devices.config import BadConfig, Resource, Shape, load_shape, load_unhealthy
from helpers.embedded.devices.node import label_node, stale_resources
from helpers.embedded.devices.plugin import KUBELET_SOCKET, DevicePlugin
from helpers.embedded.kubeapi import TRANSIENT, Api, wait_for_api

log = logging.getLogger(__name__)

FileState = tuple[int, int, int] | None


@dataclass(frozen=True)
class Paths:
    """The files and folders the daemon works with."""

    config: Path
    unhealthy: Path
    kubeconfig: Path
    socket_dir: Path


class PluginSet:
    """The plugin servers of the current shape."""

    def __init__(self, socket_dir: Path) -> None:
        self._socket_dir = socket_dir
        self._plugins: dict[str, DevicePlugin] = {}
        self._kubelet: FileState = None
        self._lock = threading.Lock()

    def reconcile(self, shape: Shape, unhealthy: frozenset[str]) -> None:
        """Start, update and retire plugins; a kubelet that is not there yet is met at a later step."""
        with self._lock:
            self._reconcile(shape, unhealthy)

    def _reconcile(self, shape: Shape, unhealthy: frozenset[str]) -> None:
        kubelet = file_state(self._socket_dir / KUBELET_SOCKET)
        if kubelet is None:
            return
        restarted, self._kubelet = kubelet != self._kubelet, kubelet
        wanted = {resource.name: resource for resource in shape.resources}
        for name in set(self._plugins) - set(wanted):
            log.info("retiring %s", name)
            self._plugins.pop(name).retire()
        for name, resource in wanted.items():
            self._keep(name, resource, unhealthy, restarted)

    def retire_stale(self, names: list[str]) -> None:
        """Take back resources that a former run of this daemon advertised: register them, empty."""
        with self._lock:
            for name in set(names) - set(self._plugins):
                plugin = DevicePlugin(Resource(name, ()), frozenset(), self._socket_dir)
                if self._started(plugin):
                    plugin.retire()

    def stop(self) -> None:
        """Close every server; the kubelet keeps the devices' state in its checkpoint."""
        for plugin in self._plugins.values():
            plugin.stop()

    def _keep(self, name: str, resource: Resource, unhealthy: frozenset[str], restarted: bool) -> None:
        plugin = self._plugins.setdefault(name, DevicePlugin(resource, unhealthy, self._socket_dir))
        plugin.update(resource, unhealthy)
        if (restarted or not plugin.is_served()) and not self._started(plugin):
            self._kubelet = None  # met too early: try again at the next step

    def _started(self, plugin: DevicePlugin) -> bool:
        try:
            plugin.start()
        except (grpc.RpcError, RuntimeError, OSError) as fault:
            log.warning("could not register %s: %s", plugin.resource.name, fault)
            plugin.stop()
            return False
        return True


class Settings:
    """The configuration files, read again when they change; a bad one leaves the last good one in force."""

    def __init__(self, paths: Paths, node_name: str) -> None:
        self._paths, self._node_name = paths, node_name
        self._seen: tuple[FileState, FileState] | None = None
        self.shape, self.unhealthy = Shape(), frozenset[str]()

    def refresh(self) -> bool:
        """Read what changed; True when the wanted state is now another."""
        now = (file_state(self._paths.config), file_state(self._paths.unhealthy))
        if now == self._seen:
            return False
        self._seen, before = now, (self.shape, self.unhealthy)
        try:
            self.shape = load_shape(self._paths.config, self._node_name)
            self.unhealthy = load_unhealthy(self._paths.unhealthy)
        except FileNotFoundError:
            self.shape = Shape()
        except (BadConfig, OSError, TypeError, ValueError) as fault:
            log.error("configuration not used: %s", fault)
        return before != (self.shape, self.unhealthy)


def file_state(path: Path) -> FileState:
    """What changes when a file is replaced or rewritten; None when it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def run(paths: Paths, node_name: str, stop: threading.Event, *, poll_s: float, node_check_s: float) -> None:
    """Reconcile until `stop` is set. The node is looked at on every change, and each `node_check_s`."""
    settings = Settings(paths, node_name)
    plugins = PluginSet(paths.socket_dir)
    labeller = threading.Thread(
        target=_keep_node, args=(paths, node_name, settings, plugins, stop, poll_s, node_check_s), daemon=True
    )
    labeller.start()
    try:
        while not stop.is_set():
            settings.refresh()
            plugins.reconcile(settings.shape, settings.unhealthy)
            stop.wait(poll_s)
    finally:
        stop.set()
        plugins.stop()


def _keep_node(
    paths: Paths,
    node_name: str,
    settings: Settings,
    plugins: PluginSet,
    stop: threading.Event,
    poll_s: float,
    node_check_s: float,
) -> None:
    """Its own thread: an API server that hangs must not keep the kubelet from being served."""
    labelled: Shape | None = None
    next_look = 0.0
    api: Api | None = None
    while not stop.wait(poll_s):
        shape = settings.shape
        if shape == labelled and time.monotonic() < next_look:
            continue
        try:
            api = api or wait_for_api(paths.kubeconfig, stop)
            if api is None:
                return
            node = label_node(api, node_name, shape)
            plugins.retire_stale(stale_resources(node, shape))
            labelled, next_look = shape, time.monotonic() + node_check_s
        except TRANSIENT as fault:
            log.info("node not labelled yet: %s", fault)
            api = None


def default_node_name() -> str:
    """The kubelet names its Node after the host, in lower case."""
    return os.uname().nodename.lower()
