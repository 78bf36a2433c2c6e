"""ClusterView: everything that can be asked of a cluster without changing it."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from helpers.cluster import profile as profiles
from helpers.cluster.backend import APPLY, Api, ExecResult, Forward, HttpAnswer
from helpers.cluster.deadline import Deadline
from helpers.cluster.faults import Asked, Response, error_of
from helpers.cluster.kinds import ResourceType
from helpers.cluster.manifests import load_one, name_of
from helpers.cluster.profile import Profile
from helpers.cluster.resource import (
    ConfigMap,
    Endpoint,
    Event,
    Namespace,
    NetworkPolicy,
    Node,
    PersistentVolumeClaim,
    Pod,
    Resource,
    ResourceQuota,
    Service,
    Workload,
    endpoints_of,
    now_text,
)
from helpers.cluster.scope import Scope
from helpers.errors import Forbidden, InvalidManifest, LogGone, ObjectMissing, Refused
from helpers.evidence import Evidence

Kind = TypeVar("Kind", bound=Resource)
MANAGER = "course"
# The kubelet's own sentence: readLogs of pkg/kubelet/kuberuntime, when the runtime no longer has the container.
_NO_LOG = "unable to retrieve container logs for "
# The label of pods that the grader brought itself; their images and commands are its own.
PROBE_LABEL = "course.llm-stack/probe"


@dataclass(frozen=True)
class Admission:
    """What the API server says to an object it was asked about and did not keep."""

    allowed: bool
    reason: str
    code: int
    object: dict[str, Any] | None
    kind: str = ""
    name: str = ""
    namespace: str | None = None
    observed_at: str = ""

    def evidence(self) -> Evidence:
        """A reference to the question and its answer."""
        return Evidence(
            kind=self.kind,
            name=self.name,
            namespace=self.namespace,
            observed_at=self.observed_at,
            observation=f"dry run: {'admitted' if self.allowed else self.reason}",
        )


class ClusterView:
    """Reads and dry-runs, in the course's namespaces, until a deadline.

    It remembers about whose pods it was asked (namespace and labels) and which Services (namespace and
    name), so that whoever sees too little can be told why those pods do not run.
    """

    def __init__(
        self,
        api: Api,
        scope: Scope,
        read_profile: Callable[[], Profile],
        deadline: Deadline | None = None,
    ) -> None:
        self._api, self.scope, self._read_profile, self._deadline = api, scope, read_profile, deadline
        self.asked_pods: set[tuple[str, str]] = set()
        self.asked_services: set[tuple[str, str]] = set()

    @property
    def profile(self) -> Profile:
        """What this cluster offers the labs; read once for a connection."""
        return self._read_profile()

    @property
    def deadline(self) -> Deadline | None:
        """When what uses this view must have ended."""
        return self._deadline

    def within(self, deadline: Deadline) -> ClusterView:
        """The same view with another deadline."""
        view = ClusterView(self._api, self.scope, self._read_profile, deadline)
        view.asked_pods, view.asked_services = self.asked_pods, self.asked_services
        return view

    # Any kind

    def get(
        self, kind: str, name: str, namespace: str | None = None, *, api_version: str | None = None
    ) -> Resource:
        """One object; ObjectMissing when there is none."""
        type_ = self._api.type_of(kind, api_version, self._deadline)
        real = self._real(type_, namespace)
        wanted = self.scope.namespace(name) if type_.kind == "Namespace" else name
        asked = Asked(f"get {type_.kind} {wanted}", type_.kind, wanted, real)
        raw = self._api.call("GET", type_.path(real, wanted), asked, deadline=self._deadline)
        return Resource(raw)

    def find(
        self, kind: str, name: str, namespace: str | None = None, *, api_version: str | None = None
    ) -> Resource | None:
        """One object, or None."""
        try:
            return self.get(kind, name, namespace, api_version=api_version)
        except ObjectMissing:
            return None

    def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        all_namespaces: bool = False,
        api_version: str | None = None,
    ) -> builtins.list[Resource]:
        """The objects of a kind in a namespace (or all), by label and field selector; may be empty."""
        type_ = self._api.type_of(kind, api_version, self._deadline)
        if type_.namespaced and not namespace and not all_namespaces:
            raise ValueError(f"list {type_.kind}: give a namespace, or all_namespaces=True")
        real = None if all_namespaces else self._real(type_, namespace)
        query = {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        asked = Asked(f"list {type_.resource}", type_.kind, "", real)
        tree = self._api.call("GET", type_.path(real), asked, query=query, deadline=self._deadline)
        defaults = {"apiVersion": type_.api_version, "kind": type_.kind}
        observed_at = now_text()
        return [Resource({**defaults, **item}, observed_at) for item in tree.get("items") or []]

    # The kinds that checks speak of

    def namespace(self, name: str) -> Namespace:
        """A namespace by its course name."""
        return Namespace.of(self.get("Namespace", name))

    def resource_quota(self, name: str = "llm-system-quota", namespace: str = "llm-system") -> ResourceQuota:
        """A quota; the course's own unless told otherwise."""
        return ResourceQuota.of(self.get("ResourceQuota", name, namespace))

    def pod(self, name: str, namespace: str) -> Pod:
        """One pod."""
        return Pod.of(self.get("Pod", name, namespace))

    def pods(self, namespace: str, *, labels: str | None = None) -> builtins.list[Pod]:
        """The pods of a namespace, by label selector."""
        self.asked_pods.add((namespace, labels or ""))
        return self._many(Pod, "Pod", namespace, labels)

    def deployment(self, name: str, namespace: str = "llm-system") -> Workload:
        """One Deployment."""
        return Workload.of(self.get("Deployment", name, namespace))

    def stateful_set(self, name: str, namespace: str = "llm-system") -> Workload:
        """One StatefulSet."""
        return Workload.of(self.get("StatefulSet", name, namespace))

    def service(self, name: str, namespace: str = "llm-system") -> Service:
        """One Service."""
        return Service.of(self.get("Service", name, namespace))

    def config_map(self, name: str, namespace: str = "llm-system") -> ConfigMap:
        """One ConfigMap."""
        return ConfigMap.of(self.get("ConfigMap", name, namespace))

    def secret_keys(self, name: str, namespace: str = "llm-system") -> tuple[str, ...]:
        """The keys of a Secret; its values never leave this method."""
        raw = self.get("Secret", name, namespace).raw
        return tuple(sorted(raw.get("data") or {}))

    def pvc(self, name: str, namespace: str = "llm-system") -> PersistentVolumeClaim:
        """One PersistentVolumeClaim."""
        return PersistentVolumeClaim.of(self.get("PersistentVolumeClaim", name, namespace))

    def pvcs(self, namespace: str, *, labels: str | None = None) -> builtins.list[PersistentVolumeClaim]:
        """The claims of a namespace."""
        return self._many(PersistentVolumeClaim, "PersistentVolumeClaim", namespace, labels)

    def network_policies(self, namespace: str) -> builtins.list[NetworkPolicy]:
        """The network policies of a namespace."""
        return self._many(NetworkPolicy, "NetworkPolicy", namespace, None)

    def nodes(self) -> builtins.list[Node]:
        """All nodes."""
        return [Node.of(item) for item in self.list("Node")]

    def endpoints(self, service: str, namespace: str = "llm-system") -> builtins.list[Endpoint]:
        """Every address behind a service, ready or not, from its EndpointSlices."""
        self.asked_services.add((namespace, service))
        labels = f"kubernetes.io/service-name={service}"
        return list(endpoints_of(self.list("EndpointSlice", namespace, labels=labels)))

    def endpoint_slices(self, service: str, namespace: str = "llm-system") -> builtins.list[str]:
        """The ready addresses behind a service, without duplicates."""
        ready = (item.address for item in self.endpoints(service, namespace) if item.ready)
        return list(dict.fromkeys(ready))

    def events(
        self,
        namespace: str,
        *,
        involved: tuple[str, str] | None = None,
        reason: str | None = None,
    ) -> builtins.list[Event]:
        """The events of a namespace, oldest first: about one object (kind, name), with one reason."""
        wanted = {"reason": reason}
        if involved:
            wanted |= {"involvedObject.kind": involved[0], "involvedObject.name": involved[1]}
        selector = ",".join(f"{key}={value}" for key, value in wanted.items() if value)
        found = self.list("Event", namespace, fields=selector or None)
        return sorted((Event.of(item) for item in found), key=lambda event: event.last_seen)

    def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        previous: bool = False,
        tail_lines: int = 50,
    ) -> str:
        """The end of a container's log; `previous` is the one before its last restart.

        Raises:
            LogGone: the container has been deleted. The kubelet says so in place of the log, with status 200.
        """
        real = self.scope.namespace(namespace)
        query = {"tailLines": str(tail_lines)}
        if container:
            query["container"] = container
        if previous:
            query["previous"] = "true"
        path = f"/api/v1/namespaces/{real}/pods/{pod}/log"
        asked = Asked(f"the log of pod {pod}", "Pod", pod, real)
        text = self._api.text(path, asked, query=query, deadline=self._deadline)
        if text.startswith(_NO_LOG):
            raise LogGone(
                f"the log of pod {pod} went with its container; the next one writes a new log",
                next_command=f"kubectl logs -n {real} {pod}",
            )
        return text

    def http(
        self,
        namespace: str,
        service: str,
        port: int,
        path: str = "/",
        *,
        method: str = "GET",
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 5,
    ) -> HttpAnswer:
        """Ask a service over HTTP, through the API server's proxy.

        The proxy is not one of the cluster's pods, so network policies do not see this as their
        traffic: it tells whether the service works, never who may reach it. It keeps an `Authorization`
        header for itself, and passes any other on.
        """
        self.asked_services.add((namespace, service))
        real = self.scope.namespace(namespace)
        proxy = f"/api/v1/namespaces/{real}/services/http:{service}:{port}/proxy/{path.lstrip('/')}"
        response = self._api.backend.request(
            method, proxy, body=json, accept="*/*", headers=headers, deadline=self._sooner(timeout_s)
        )
        text = response.body.decode("utf-8", "replace")
        if response.ok or not response.is_status:
            return HttpAnswer(response.status, text, headers=response.headers)
        error = error_of(response, Asked(f"{method} {path} of service {service}", "Service", service, real))
        if isinstance(error, Forbidden):
            raise error
        if isinstance(error, ObjectMissing):
            # The API server says the same of a service whose endpoints have yet to be written.
            self.get("Service", service, namespace)
            return HttpAnswer(503, "the service has no endpoints yet", from_service=False)
        return HttpAnswer(response.status, str(error), from_service=False)

    def exec(
        self,
        namespace: str,
        pod: str,
        command: builtins.list[str],
        *,
        container: str | None = None,
        stdin: str | None = None,
        timeout_s: float = 10,
    ) -> ExecResult:
        """Run a command in one of the grader's own probe pods; ValueError for any other pod."""
        found = self.pod(pod, namespace)
        if PROBE_LABEL not in found.labels:
            raise ValueError(f"a check may run commands only in pods labelled {PROBE_LABEL}, not in {pod}")
        real, deadline = self.scope.namespace(namespace), self._sooner(timeout_s)
        return self._api.backend.exec(real, pod, command, container, stdin, deadline)

    def forward(self, namespace: str, pod: str, port: int) -> AbstractContextManager[Forward]:
        """A local address for a port of a pod, while the context lasts; for reading what speaks no HTTP."""
        real = self.scope.namespace(namespace)
        return self._api.backend.forward(lambda: (real, pod, port))

    def _sooner(self, timeout_s: float) -> Deadline:
        """The nearer of this view's deadline and a time limit."""
        if self._deadline is None:
            return Deadline(timeout_s)
        return Deadline(min(timeout_s, self._deadline.remaining_s), self._deadline.clock)

    # Questions

    def dry_run(self, manifest: dict[str, Any] | str, *, namespace: str | None = None) -> Admission:
        """Ask the API server, with all its admission, what it would say to this object.

        An object that exists already is asked about as a change to it. ObjectMissing when the
        namespace does not exist: nothing was asked then.
        """
        wanted = load_one(manifest)
        type_ = self._api.type_of(wanted["kind"], wanted.get("apiVersion"), self._deadline)
        if namespace and type_.namespaced:
            wanted.setdefault("metadata", {})["namespace"] = namespace
        wanted = self.scope.manifest(wanted)
        metadata = wanted.get("metadata") or {}
        real = (metadata.get("namespace") or "default") if type_.namespaced else None
        asked = Asked(
            f"dry run of {type_.kind} {name_of(wanted)}", type_.kind, metadata.get("name", ""), real
        )
        response = self._ask(type_, real, wanted)
        about = Admission(True, "", response.status, None, type_.kind, name_of(wanted), real, now_text())
        if response.ok:
            return replace(about, object=response.json(asked.doing))
        error = error_of(response, asked)
        # Forbidden is about the user and ObjectMissing about the namespace: nothing was asked then.
        if not isinstance(error, Refused | InvalidManifest):
            raise error
        return replace(about, allowed=False, reason=str(error))

    def _ask(self, type_: ResourceType, namespace: str | None, wanted: dict[str, Any]) -> Response:
        query = {"dryRun": "All", "fieldManager": MANAGER, "fieldValidation": "Strict"}
        options: dict[str, Any] = {"body": wanted, "deadline": self._deadline}
        response = self._api.request("POST", type_.path(namespace), query=query, **options)
        name = wanted["metadata"].get("name")
        if response.status != 409 or not name:
            return response
        # The object exists: ask about the change instead.
        return self._api.request(
            "PATCH",
            type_.path(namespace, name),
            query={**query, "force": "true"},
            content_type=APPLY,
            **options,
        )

    def raw(self, path: str) -> str:
        """The text behind a path of the API server, such as `/version` or a proxied `/metrics`."""
        return self._api.text(path, Asked(f"get {path}"), deadline=self._deadline)

    def _many(self, cls: type[Kind], kind: str, namespace: str, labels: str | None) -> builtins.list[Kind]:
        return [cls.of(item) for item in self.list(kind, namespace, labels=labels)]

    def _real(self, type_: ResourceType, namespace: str | None) -> str | None:
        if not type_.namespaced:
            return None
        return self.scope.namespace(namespace or "default")


def read_profile(api: Api) -> Profile:
    """The profile that `course up` wrote into the cluster, or what the cluster's objects say."""
    view = ClusterView(api, Scope(), Profile)

    def observed() -> Profile:
        return profiles.derive(view.nodes(), view.list("StorageClass"))

    written = view.find("ConfigMap", profiles.PROFILE_NAME, profiles.PROFILE_NAMESPACE)
    if written is None:
        return observed()
    return Profile.from_json(ConfigMap.of(written).data.get("profile", ""), observed)
