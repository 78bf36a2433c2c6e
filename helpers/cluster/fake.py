"""FakeCluster: a small API server in memory, for checks and their authors.

It keeps objects, answers selectors, applies, patches and deletes, and runs the admission that labs
teach (namespaces, quotas, limit ranges), on the same paths and with the same answers as a real one.
It has no controllers: pods, events, statuses, exec answers and logs are put in by the test. The
contract tests run the same cases here and on a live cluster, so that the two cannot drift apart.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from helpers.cluster.backend import Api
from helpers.cluster.cluster import Cluster
from helpers.cluster.deadline import SYSTEM_CLOCK, Clock
from helpers.cluster.fake_server import (
    ExecAnswer,
    ExecHandler,
    FakeBackend,
    FakeState,
    HttpHandler,
    HttpServer,
    PortHandler,
)
from helpers.cluster.faults import Response
from helpers.cluster.kinds import ResourceType
from helpers.cluster.manifests import Manifests, load
from helpers.cluster.profile import PROFILE_NAME, PROFILE_NAMESPACE, Profile
from helpers.cluster.resource import Resource, now_text
from helpers.cluster.scope import Scope
from helpers.errors import ClusterUnreachable


def default_profile() -> Profile:
    """The profile of the embedded cluster, as far as checks care."""
    return Profile(
        name="embedded", gpu="simulated", storage_class="fast-nvme", overlay="embedded", allows_faults=True
    )


class FakeCluster(Cluster):
    """A Cluster on a FakeBackend, with hands to put it in any state.

    It starts with kube-system, kube-public and default, one node `substrate` with one simulated GPU,
    the default storage class `fast-nvme`, and the embedded profile.
    """

    backend: FakeBackend

    def __init__(
        self,
        *manifests: Manifests,
        profile: Profile | None = None,
        scope: Scope | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(FakeBackend(clock), scope=scope, clock=clock)
        for name in ("kube-system", "kube-public", "default"):
            self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.apply([_NODE, _STORAGE_CLASS, _profile_map(profile or default_profile())])
        for item in manifests:
            self.apply(item)

    def state(self) -> FakeState:
        """All that the cluster holds and answers now, to come back to with `restore`."""
        return self.backend.state()

    def restore(self, state: FakeState) -> None:
        """Be again as when the state was taken; what a check remembers of this connection is forgotten."""
        self.backend.restore(state)
        self.api = Api(self.backend)

    def put(self, manifests: Manifests) -> list[Resource]:
        """Store objects as they are, with their status and without admission (what controllers do)."""
        return [self._put(self.scope.manifest(item)) for item in load(manifests)]

    def _put(self, item: dict[str, Any]) -> Resource:
        return Resource(self.backend.put(self.api.type_of(item["kind"], item["apiVersion"]), item))

    def set_status(
        self, kind: str, name: str, status: dict[str, Any], namespace: str | None = None
    ) -> Resource:
        """Replace one object's status, as its controller or kubelet would."""
        found = self.view().get(kind, name, namespace)
        return self._put({**deepcopy(found.raw), "status": status})

    def add_pod(
        self,
        name: str,
        namespace: str,
        *,
        labels: dict[str, str] | None = None,
        phase: str = "Running",
        ready: bool = True,
        spec: dict[str, Any] | None = None,
        status: dict[str, Any] | None = None,
    ) -> Resource:
        """A pod as the kubelet would report it; `status` is laid over the usual one."""
        spec = spec or {"containers": [{"name": "main", "image": "registry.k8s.io/pause:3.10.2"}]}
        running = phase == "Running"
        conditions = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": str(ready and running)},
        ]
        usual = {"phase": phase, "conditions": conditions, "podIP": "10.244.0.10" if running else None}
        return self.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
                "spec": {"nodeName": "substrate" if running else None, **spec},
                "status": {**usual, **(status or {})},
            }
        )[0]

    def add_event(
        self,
        namespace: str,
        involved: tuple[str, str],
        reason: str,
        message: str,
        *,
        type: str = "Warning",
        count: int = 1,
    ) -> Resource:
        """An event about an object (kind, name)."""
        kind, name = involved
        return self.put(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "type": type,
                "reason": reason,
                "message": message,
                "metadata": {"name": f"{name}.{uuid.uuid4().hex[:12]}", "namespace": namespace},
                "involvedObject": {"kind": kind, "name": name, "namespace": self.scope.namespace(namespace)},
                "count": count,
                "firstTimestamp": now_text(),
                "lastTimestamp": now_text(),
            }
        )[0]

    def answer_exec(self, namespace: str, pod: str, command: str, answer: ExecAnswer) -> None:
        """Answer commands in a pod (patterns over the name and the command line); the newest wins."""
        real = self.scope.namespace(namespace)
        self.backend.exec_answers.insert(0, (real, pod, command, answer))

    def set_log(
        self, namespace: str, pod: str, text: str, *, container: str = "", previous: bool = False
    ) -> None:
        """What the log of a pod says."""
        self.backend.log_texts[self.scope.namespace(namespace), pod, container, previous] = text

    def serve(self, namespace: str, service: str, port: int, handler: HttpHandler) -> None:
        """Answer HTTP requests to a service: `handler(method, path, json)` gives status and body."""
        self.serve_http(
            namespace, service, port, lambda method, path, body, _: (*handler(method, path, body), {})
        )

    def serve_http(self, namespace: str, service: str, port: int, server: HttpServer) -> None:
        """The same with headers: `server(method, path, json, headers)` gives status, body and headers."""
        self.backend.http_handlers[self.scope.namespace(namespace), service, port] = server

    def answer_port(self, namespace: str, pod: str, port: int, handler: PortHandler) -> None:
        """Answer whoever connects to a pod's port through a port-forward: bytes in, bytes out."""
        self.backend.port_handlers[self.scope.namespace(namespace), pod, port] = handler

    def serve_kind(
        self, kind: str, group: str, version: str, plural: str, *, namespaced: bool = True
    ) -> None:
        """Serve one more kind, as a CustomResourceDefinition would."""
        self.backend.types.append(ResourceType(kind, group, version, plural, namespaced))

    @property
    def exec_handler(self) -> ExecHandler | None:
        """Answers every command that `answer_exec` does not: (namespace, pod, command, stdin)."""
        return self.backend.exec_handler

    @exec_handler.setter
    def exec_handler(self, handler: ExecHandler | None) -> None:
        self.backend.exec_handler = handler

    def fail_with(self, fault: Callable[[str, str], Response | None] | None) -> None:
        """Answer requests (method, path) with a fault where it returns one; None mends the server."""
        self.backend.fault = fault

    def go_down(self) -> None:
        """Answer nothing from now on, like an API server that is not there."""

        def refuse(method: str, path: str) -> Response | None:
            raise ClusterUnreachable("the fake cluster is down", next_command="course up")

        self.backend.fault = refuse


_NODE = {
    "apiVersion": "v1",
    "kind": "Node",
    "metadata": {
        "name": "substrate",
        "labels": {"kubernetes.io/hostname": "substrate", "course.llm-stack/gpu": "simulated"},
    },
    "status": {
        "allocatable": {"cpu": "2", "memory": "24Gi", "pods": "110", "nvidia.com/gpu": "1"},
        "capacity": {"cpu": "2", "memory": "24Gi", "pods": "110", "nvidia.com/gpu": "1"},
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
    },
}
_STORAGE_CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "fast-nvme",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "rancher.io/local-path",
}


def _profile_map(profile: Profile) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": PROFILE_NAME, "namespace": PROFILE_NAMESPACE},
        "data": {"profile": profile.to_json()},
    }
