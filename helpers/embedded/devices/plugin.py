"""One device-plugin server for one resource, on a socket in the kubelet's folder.

The kubelet calls us: it opens ListAndWatch once and keeps it, and calls Allocate for each container
that was given devices. Register is the only call we make, and we make it again after each restart
of the kubelet, which deletes all sockets in the folder.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc

from helpers.embedded.devices import deviceplugin_pb2 as api
from helpers.embedded.devices.config import SIMULATED, SIMULATED_LABEL, Resource, is_healthy, physical_id

log = logging.getLogger(__name__)

API_VERSION = "v1beta1"
KUBELET_SOCKET = "kubelet.sock"
REGISTER_TIMEOUT_S = 5.0
# How often a stream looks whether its kubelet is still there; changes are sent at once.
_STREAM_CHECK_S = 1.0


class DevicePlugin:
    """Serves one resource; `update` changes what the kubelet is told, `retire` ends with no devices."""

    def __init__(self, resource: Resource, unhealthy: frozenset[str], socket_dir: Path) -> None:
        self.resource = resource
        self._unhealthy = unhealthy
        self._socket_dir = socket_dir
        self._socket = socket_dir / f"kubedojo-{resource.name.replace('/', '_')}.sock"
        self._changed = threading.Condition()
        self._version = 0
        self._sent = -1
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Serve on the socket and register with the kubelet; raises grpc.RpcError when it is not ready."""
        self.stop()
        self._socket.unlink(missing_ok=True)
        server = grpc.server(ThreadPoolExecutor(max_workers=4, thread_name_prefix=self.resource.name))
        server.add_generic_rpc_handlers((self._handlers(),))
        server.add_insecure_port(f"unix://{self._socket}")
        server.start()
        self._server = server
        self._register()

    def is_served(self) -> bool:
        """Whether the socket is still there: a restarting kubelet deletes it."""
        return self._server is not None and self._socket.exists()

    def update(self, resource: Resource, unhealthy: frozenset[str]) -> None:
        """Tell the kubelet about other devices or other health, if anything changed."""
        with self._changed:
            if (resource, unhealthy) == (self.resource, self._unhealthy):
                return
            self.resource, self._unhealthy = resource, unhealthy
            self._version += 1
            self._changed.notify_all()

    def retire(self, timeout_s: float = 2.0) -> None:
        """Tell the kubelet that no device is left, so that the node's capacity drops to 0, and stop."""
        self.update(Resource(self.resource.name, ()), frozenset())
        with self._changed:
            self._changed.wait_for(lambda: self._sent == self._version, timeout_s)
        self.stop()

    def stop(self) -> None:
        """Close the socket; the kubelet then takes the devices for unhealthy."""
        if self._server is None:
            return
        server, self._server = self._server, None
        with self._changed:
            self._changed.notify_all()
        server.stop(grace=0.2).wait()
        self._socket.unlink(missing_ok=True)

    def _register(self) -> None:
        request = api.RegisterRequest(
            version=API_VERSION,
            endpoint=self._socket.name,
            resource_name=self.resource.name,
            options=api.DevicePluginOptions(),
        )
        with grpc.insecure_channel(f"unix://{self._socket_dir / KUBELET_SOCKET}") as channel:
            call = channel.unary_unary(
                f"/{API_VERSION}.Registration/Register",
                request_serializer=api.RegisterRequest.SerializeToString,
                response_deserializer=api.Empty.FromString,
            )
            call(request, timeout=REGISTER_TIMEOUT_S)
        log.info("registered %s with %d devices", self.resource.name, len(self.resource.device_ids))

    def _handlers(self) -> grpc.GenericRpcHandler:
        """The DevicePlugin service; the two calls we do not offer are not called without their option."""
        return grpc.method_handlers_generic_handler(
            f"{API_VERSION}.DevicePlugin",
            {
                "GetDevicePluginOptions": grpc.unary_unary_rpc_method_handler(
                    lambda _request, _context: api.DevicePluginOptions(),
                    request_deserializer=api.Empty.FromString,
                    response_serializer=api.DevicePluginOptions.SerializeToString,
                ),
                "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                    self._list_and_watch,
                    request_deserializer=api.Empty.FromString,
                    response_serializer=api.ListAndWatchResponse.SerializeToString,
                ),
                "Allocate": grpc.unary_unary_rpc_method_handler(
                    self._allocate,
                    request_deserializer=api.AllocateRequest.FromString,
                    response_serializer=api.AllocateResponse.SerializeToString,
                ),
            },
        )

    def _list_and_watch(self, _request: Any, context: Any) -> Iterator[api.ListAndWatchResponse]:
        server, sent = self._server, -1
        while context.is_active() and self._server is server:
            with self._changed:
                self._changed.wait_for(partial(self._has_news, server, sent), _STREAM_CHECK_S)
                version, devices = self._version, self._devices()
            if version == sent:
                continue
            yield api.ListAndWatchResponse(devices=devices)
            sent = version
            with self._changed:  # asked for the next message: the last one has left
                self._sent = max(self._sent, sent)
                self._changed.notify_all()

    def _has_news(self, server: Any, sent: int) -> bool:
        return self._version != sent or self._server is not server

    def _devices(self) -> list[api.Device]:
        return [
            api.Device(
                ID=device,
                health="Healthy" if is_healthy(self.resource, device, self._unhealthy) else "Unhealthy",
            )
            for device in self.resource.device_ids
        ]

    def _allocate(self, request: Any, context: Any) -> api.AllocateResponse:
        known = set(self.resource.device_ids)
        responses = []
        for container in request.container_requests:
            ids = list(container.devices_ids)
            if unknown := [device for device in ids if device not in known]:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no such {self.resource.name} device: {unknown[0]}")
            if self.resource.one_per_container and len(ids) > 1:
                # NVIDIA's words for failRequestsGreaterThanOne, which learners will search for.
                context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT,
                    f"request for '{self.resource.name}: {len(ids)}' too large: "
                    "maximum request size for shared resources is 1",
                )
            visible = ",".join(dict.fromkeys(map(physical_id, ids)))
            responses.append(
                api.ContainerAllocateResponse(
                    envs={"NVIDIA_VISIBLE_DEVICES": visible},
                    annotations={SIMULATED_LABEL: SIMULATED},
                )
            )
        return api.AllocateResponse(container_responses=responses)
