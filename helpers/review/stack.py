"""The stack under review: its workloads, pods, Services and policies, read once, in the namespaces that are named.

What a workload is to the review follows from what it asks for and what leads to it: one that asks for cards is a
model server, one in an application's namespace to which no Service leads is a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from helpers.cluster.selectors import matches
from helpers.errors import InvalidManifest
from helpers.stack.policy_forecast import Party, World

if TYPE_CHECKING:
    from helpers.cluster import ClusterView
    from helpers.cluster.resource import Pod, Resource

_WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Rollout")
CARDS = ("nvidia.com/", "amd.com/", "gpu.intel.com/", "habana.ai/")
HTTP_PORTS = ("http", "web", "api")


@dataclass(frozen=True)
class Places:
    """Where the stack is.

    Args:
        backends: what answers and remembers: model servers, stores, queues.
        apps: what users and their jobs reach.
        traces: where spans go.
        monitoring: where Prometheus is.
        prometheus: its Service as "name" or "name:port", where it cannot be found by itself.
    """

    backends: tuple[str, ...] = ("llm-system", "llm-batch")
    apps: tuple[str, ...] = ("llm-apps", "llm-gateway")
    traces: tuple[str, ...] = ("llm-observability",)
    monitoring: tuple[str, ...] = ("llm-monitoring",)
    prometheus: str = ""

    @property
    def stack(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.backends, *self.apps, *self.traces)))


@dataclass(frozen=True)
class Work:
    """A Deployment, StatefulSet, DaemonSet or Rollout, with the pods that it runs and the Services that lead to them.

    `namespace` is the name that the view takes.
    """

    resource: Resource
    namespace: str
    pods: tuple[Pod, ...] = ()
    services: tuple[Resource, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.resource.kind} {self.resource.namespace}/{self.resource.name}"

    @property
    def is_wanted(self) -> bool:
        """Whether it is to run: one that is scaled to nothing has nobody to look at, nor one that admission refuses."""
        return bool(self.pods) or (int(self.resource.path("spec.replicas", 1)) > 0 and not self.is_refused)

    @property
    def is_refused(self) -> bool:
        """Whether it has no pod because none may be made, by a quota for example."""
        conditions = self.resource.path("status.conditions", []) or []
        failed = any(
            item.get("type") == "ReplicaFailure" and item.get("status") == "True" for item in conditions
        )
        return failed and not self.pods and not self.resource.path("status.replicas", 0)

    @property
    def template(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.resource.path("spec.template.spec", {}) or {}
        return found

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = self.resource.path("spec.template.metadata.labels", {}) or {}
        return found

    @property
    def spec(self) -> Mapping[str, Any]:
        """The spec of a pod as it was admitted, with what a LimitRange wrote into it; else the template's."""
        found: Mapping[str, Any] = self.pods[-1].path("spec", {}) if self.pods else self.template
        return found

    @property
    def containers(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self.spec.get("containers") or ())

    @property
    def cards(self) -> dict[str, int]:
        """The accelerators that one pod asks for."""
        found: dict[str, int] = {}
        for container in self.containers:
            resources = container.get("resources") or {}
            for name, count in {
                **(resources.get("requests") or {}),
                **(resources.get("limits") or {}),
            }.items():
                if name.startswith(CARDS):
                    found[name] = found.get(name, 0) + int(count)
        return found

    @property
    def is_model_server(self) -> bool:
        return bool(self.cards)

    @property
    def speaks_http(self) -> bool:
        """Whether a Service leads to it by a port that is named for HTTP."""
        ports = [port for service in self.services for port in service.path("spec.ports", []) or []]
        return any(
            str(port.get("name", "")).startswith(HTTP_PORTS)
            or str(port.get("appProtocol", "")).startswith(("http", "kubernetes.io/h2c"))
            or port.get("port") in (80, 443, 8080, 8000)
            for port in ports
        )


@dataclass(eq=False)
class Stack:
    """What the criteria ask; everything is read at first use, and once."""

    view: ClusterView
    places: Places = field(default_factory=Places)
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def once(self, key: Any, read: Callable[[], Any]) -> Any:
        """What `read` gives, remembered under a key."""
        if key not in self._kept:
            self._kept[key] = read()
        return self._kept[key]

    def objects(self, kind: str, namespace: str) -> list[Resource]:
        """Objects of a kind; none where the cluster does not serve the kind."""

        def read() -> list[Resource]:
            try:
                return self.view.list(kind, namespace)
            except InvalidManifest:
                return []

        found: list[Resource] = self.once((kind, namespace), read)
        return found

    def real(self, namespace: str) -> str:
        """The namespace as the cluster has it."""
        return self.view.scope.namespace(namespace)

    def works(self, *namespaces: str) -> list[Work]:
        """The workloads that are to run in these namespaces; in the whole stack where none is given."""
        where = namespaces or self.places.stack
        return [work for namespace in where for work in self.all_works(namespace) if work.is_wanted]

    def all_works(self, namespace: str) -> list[Work]:
        """The same, with those that are scaled to nothing."""
        found: list[Work] = self.once(("works", namespace), lambda: [*self._works(namespace)])
        return found

    def _works(self, namespace: str) -> Iterator[Work]:
        from helpers.cluster.resource import Pod

        pods = [Pod.of(item) for item in self.objects("Pod", namespace)]
        live = [pod for pod in pods if pod.is_live]
        services = self.objects("Service", namespace)
        for kind in _WORKLOADS:
            for item in self.objects(kind, namespace):
                labels = item.path("spec.template.metadata.labels", {}) or {}
                selector = item.path("spec.selector", None)
                yield Work(
                    item,
                    namespace,
                    tuple(pod for pod in live if selector and matches(selector, pod.labels)),
                    tuple(
                        service
                        for service in services
                        if (chosen := service.path("spec.selector", {}))
                        # What a controller of releases adds to the selector of a Service of its own.
                        and {k: v for k, v in chosen.items() if k != "rollouts-pod-template-hash"}.items()
                        <= labels.items()
                    ),
                )

    @property
    def model_servers(self) -> list[Work]:
        return [work for work in self.works(*self.places.backends, *self.places.apps) if work.is_model_server]

    @property
    def workers(self) -> list[Work]:
        """Workloads of applications to which no Service leads: they fetch their work."""
        return [
            work
            for namespace in self.places.apps
            for work in self.all_works(namespace)
            if not work.services and not work.is_model_server
        ]

    @property
    def fronts(self) -> list[Work]:
        """What answers users over HTTP: model servers, and applications behind a Service that speaks it."""
        apps = [work for work in self.works(*self.places.apps) if work.speaks_http]
        return [*self.model_servers, *(work for work in apps if not work.is_model_server)]

    def world(self) -> World:
        """What NetworkPolicies of the stack's namespaces see."""

        def read() -> World:
            policies = [
                item.raw
                for namespace in self.places.stack
                for item in self.objects("NetworkPolicy", namespace)
            ]
            names = (self.real(namespace) for namespace in self.places.stack)
            labels = {name: {"kubernetes.io/metadata.name": name} for name in names}
            return World(labels, tuple(policies))

        found: World = self.once("world", read)
        return found

    def party(self, work: Work) -> Party:
        """A pod of this workload, as policies see it."""
        ports = {
            (str(port["name"]), str(port.get("protocol", "TCP"))): int(port["containerPort"])
            for container in work.containers
            for port in container.get("ports") or []
            if port.get("name")
        }
        name = work.pods[-1].name if work.pods else work.resource.name
        return Party(name, self.real(work.namespace), work.labels, ports=ports)

    def command(self, line: str) -> str:
        """A command line in this cluster's own names."""
        return self.view.scope.command(line)


def settings(stack: Stack, work: Work) -> dict[str, str]:
    """What the containers of a workload are told by their environment, ConfigMaps included; Secrets are not read."""
    found: dict[str, str] = {}
    maps = {item.name: item.path("data", {}) or {} for item in stack.objects("ConfigMap", work.namespace)}
    for container in work.containers:
        for source in container.get("envFrom") or []:
            found |= maps.get((source.get("configMapRef") or {}).get("name", ""), {})
        found |= {
            item["name"]: str(item["value"])
            for item in container.get("env") or []
            if item.get("value") is not None
        }
    return found
