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
from functools import partial
from pathlib import Path

import grpc

from helpers.embedded.devices.config import BadConfig, Resource, Shape, load_shape, load_unhealthy
from helpers.embedded.devices.exporter import started
from helpers.embedded.devices.holders import read_holders, read_usage
from helpers.embedded.devices.metrics import exposition
from helpers.embedded.devices.node import label_node, stale_resources
from helpers.embedded.devices.plugin import KUBELET_SOCKET, DevicePlugin
from helpers.embedded.kubeapi import TRANSIENT, Api, wait_for_api

log = logging.getLogger(__name__)

FileState = tuple[int, int, int] | None


@dataclass(frozen=True)
class Options:
    """The files and folders the daemon works with, its node, and how often it looks at them.

    `metrics` is the `HOST:PORT` at which Prometheus may ask; without one nobody can.
    """

    config: Path
    unhealthy: Path
    kubeconfig: Path
    socket_dir: Path
    node_name: str
    poll_s: float = 0.25
    node_check_s: float = 15.0
    metrics: str = ""
    pod_resources: Path = Path("/var/lib/kubelet/pod-resources/kubelet.sock")
    runtime: Path = Path("/run/containerd/containerd.sock")


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

    def __init__(self, options: Options) -> None:
        self._options = options
        self._seen: tuple[FileState, FileState] | None = None
        self.shape, self.unhealthy = Shape(), frozenset[str]()

    def refresh(self) -> bool:
        """Read what changed; True when the wanted state is now another."""
        now = (file_state(self._options.config), file_state(self._options.unhealthy))
        if now == self._seen:
            return False
        self._seen, before = now, (self.shape, self.unhealthy)
        try:
            self.shape = load_shape(self._options.config, self._options.node_name)
            self.unhealthy = load_unhealthy(self._options.unhealthy)
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


class NodeKeeper:
    """Keeps the Node's labels, and takes back what an earlier run of this daemon left on it."""

    def __init__(self, options: Options, settings: Settings, plugins: PluginSet) -> None:
        self._options, self._settings, self._plugins = options, settings, plugins
        self._api: Api | None = None
        self._labelled: Shape | None = None
        self._next_look = 0.0

    def run(self, stop: threading.Event) -> None:
        """Look on every change of the shape, and each `node_check_s`, until `stop` is set."""
        while not stop.wait(self._options.poll_s):
            shape = self._settings.shape
            if shape == self._labelled and time.monotonic() < self._next_look:
                continue
            try:
                self._label(shape, stop)
            except TRANSIENT as fault:
                log.info("node not labelled yet: %s", fault)
                self._api = None  # the kubeconfig may be another by now

    def _label(self, shape: Shape, stop: threading.Event) -> None:
        self._api = self._api or wait_for_api(self._options.kubeconfig, stop)
        if self._api is None:
            return
        node = label_node(self._api, self._options.node_name, shape)
        self._plugins.retire_stale(stale_resources(node, shape))
        self._labelled, self._next_look = shape, time.monotonic() + self._options.node_check_s


def run(options: Options, stop: threading.Event) -> None:
    """Serve and reconcile until `stop` is set."""
    settings, plugins = Settings(options), PluginSet(options.socket_dir)
    keeper = NodeKeeper(options, settings, plugins)
    # Its own thread: an API server that hangs must not keep the kubelet from being served.
    threading.Thread(target=keeper.run, args=(stop,), name="node", daemon=True).start()
    exporter = started(options.metrics, partial(metrics, options, settings)) if options.metrics else None
    try:
        while not stop.is_set():
            settings.refresh()
            plugins.reconcile(settings.shape, settings.unhealthy)
            stop.wait(options.poll_s)
    finally:
        stop.set()
        if exporter is not None:
            exporter.stop()
        plugins.stop()


def metrics(options: Options, settings: Settings) -> str:
    """What Prometheus is told now; raises grpc.RpcError when the kubelet or the runtime does not answer."""
    usage = read_usage(options.runtime, read_holders(options.pod_resources))
    return exposition(settings.shape, settings.unhealthy, usage, options.node_name)


def default_node_name() -> str:
    """The kubelet names its Node after the host, in lower case."""
    return os.uname().nodename.lower()
