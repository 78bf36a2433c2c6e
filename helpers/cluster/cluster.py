"""Cluster: one live cluster, to read, to ask and to change."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from helpers.cluster import replacement, waits
from helpers.cluster.backend import APPLY, JSON_PATCH, MERGE, STRATEGIC, Api, Backend, ExecResult, Forward
from helpers.cluster.deadline import SYSTEM_CLOCK, Clock, Deadline
from helpers.cluster.diffs import Change, field_changes
from helpers.cluster.faults import Asked
from helpers.cluster.kinds import ResourceType
from helpers.cluster.manifests import Manifests, in_order, load, name_of
from helpers.cluster.profile import Identity, Profile
from helpers.cluster.resource import Resource
from helpers.cluster.scope import Scope
from helpers.cluster.view import MANAGER, ClusterView, read_profile
from helpers.errors import (
    ClaimInUse,
    HalfReplaced,
    InvalidManifest,
    LabError,
    ObjectMissing,
    Refused,
    WaitFailed,
    WaitTimeout,
)

T = TypeVar("T")
_QUOTA_S = 20.0
_DIFF_TRIES = 3
_GONE_S = 60.0
# The API server's answer to a creation under a name that is taken.
_TAKEN = 409


@dataclass(frozen=True)
class Applied:
    """What applying one object did: created, changed, unchanged or replaced."""

    kind: str
    name: str
    namespace: str | None
    action: str
    resource: Resource


class Cluster:
    """One cluster. Safe to share between threads; nothing is read before it is asked for."""

    def __init__(self, backend: Backend, *, scope: Scope | None = None, clock: Clock = SYSTEM_CLOCK) -> None:
        self.backend, self.scope, self.clock = backend, scope or Scope(), clock
        self.api = Api(backend)
        self._profile: Profile | None = None
        self._lock = threading.Lock()

    @classmethod
    def connect(
        cls, *, kubeconfig: Path | None = None, context: str | None = None, scope: Scope | None = None
    ) -> Cluster:
        """The chosen cluster: arguments, environment, `course use`, the embedded one, in-cluster.

        Nothing is sent yet. NoClusterChosen when there is none; `~/.kube/config` is never used unasked.
        """
        from helpers.cluster.connection import choose_connection
        from helpers.cluster.live import LiveBackend

        connection = choose_connection(kubeconfig=kubeconfig, context=context)
        return cls(LiveBackend(connection), scope=scope or connection.scope)

    def close(self) -> None:
        """Close idle connections; the cluster can still be used."""
        close = getattr(self.backend, "close", None)
        if close:
            close()

    # Who it is

    @property
    def address(self) -> str:
        """The API server's address, for messages."""
        return self.backend.address

    def identity(self) -> Identity:
        """Which cluster this is; ClusterUnreachable when it does not answer."""
        view = self.view(Deadline(15, self.clock))
        system = view.get("Namespace", "kube-system")
        version = self.api.call("GET", "/version", Asked("get /version"), deadline=view.deadline)
        profile = self.profile()
        return Identity(system.uid or "", str(version.get("gitVersion", "")), profile.name, profile.gpu)

    def profile(self, *, refresh: bool = False) -> Profile:
        """What the cluster offers the labs; read once, unless `refresh`."""
        with self._lock:
            if self._profile is None or refresh:
                self._profile = read_profile(self.api)
            return self._profile

    def view(self, deadline: Deadline | None = None) -> ClusterView:
        """Reads and questions, which cannot change the cluster."""
        return ClusterView(self.api, self.scope, self.profile, deadline)

    # Change

    def apply(self, manifests: Manifests, *, field_manager: str = MANAGER) -> list[Applied]:
        """Server-side apply, forced, in the order that objects need each other.

        A changed ResourceQuota is waited for until its controller has taken it over, a moment later:
        admission goes by its status, so before that the old limits still hold.
        """
        applied = [self._apply(item, field_manager) for item in in_order(load(manifests))]
        for item in applied:
            if item.kind == "ResourceQuota" and item.action != "unchanged":
                self._wait_in_force(item)
        return applied

    def _wait_in_force(self, quota: Applied) -> None:
        def in_force(view: ClusterView) -> bool:
            found = view.resource_quota(quota.name, quota.namespace or "default")
            return found.path("status.hard") == found.path("spec.hard")

        # A cluster whose quota controller is slow or absent is for checks to find, not for apply.
        with suppress(WaitTimeout):
            self.wait_until(f"quota {quota.name} in force", in_force, timeout_s=_QUOTA_S)

    def _apply(self, manifest: dict[str, Any], manager: str) -> Applied:
        type_, namespace, name, mapped = self._place(manifest)
        before = self._raw(type_, namespace, name)
        after = self._patch_apply(type_, namespace, name, mapped, {"fieldManager": manager})
        # As the preview counts: a status that a controller wrote meanwhile, or a new owner of a field, is no change.
        action = "created" if before is None else "changed"
        if before is not None and not field_changes(before, after, mapped):
            action = "unchanged"
        return Applied(type_.kind, name, namespace, action, Resource(after))

    def diff(self, manifests: Manifests, *, replacing: bool = False) -> list[Change]:
        """What `apply` would do, object by object: asked of the API server, kept by nobody.

        With `replacing`, what `apply_or_replace` would do.
        """
        loaded = in_order(load(manifests))
        created = {item["metadata"].get("name") for item in loaded if item["kind"] == "Namespace"}
        changes = [self._diff(item, created) for item in loaded]
        if not replacing:
            return changes
        return [self._or_replaced(item, change) for item, change in zip(loaded, changes, strict=True)]

    def _or_replaced(self, manifest: dict[str, Any], change: Change) -> Change:
        """The change, or in its place a replacement where only that leads to what is written."""
        if change.action not in ("refused", "change", "none"):
            return change
        try:
            type_, namespace, name, mapped = self._place(manifest)
            before = self._raw(type_, namespace, name)
            reason = replacement.reason(before, change)
            if before is None or not reason:
                return change
            self._ask_creation(type_, namespace, mapped, before)
        except (Refused, InvalidManifest) as error:
            if str(error) == change.reason:
                return change  # the text is wrong for a new object too: that no edit leads there is not why
            said = f"it would have to be deleted and created again, and the API server refuses that: {error}"
            holder = error.pod if isinstance(error, ClaimInUse) else ""
            return dataclasses.replace(change, action="refused", fields=(), reason=said, held_by=holder)
        except ObjectMissing:
            return change
        return dataclasses.replace(
            change, action="replace", reason=f"{reason}; {replacement.cost(type_.kind)}"
        )

    def _ask_creation(
        self, type_: ResourceType, namespace: str | None, mapped: dict[str, Any], before: dict[str, Any]
    ) -> None:
        """Ask, as a creation, about an object whose name is taken; raises Refused where it would not be created.

        The API server validates and admits before it looks for the name: "already exists" is its yes.
        """
        name = mapped["metadata"]["name"]
        holder = replacement.holder(before, self.view()) if type_.kind == "PersistentVolumeClaim" else ""
        if holder:
            raise ClaimInUse(holder, name)
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict", "dryRun": "All"}
        asked = Asked(f"creation of {type_.kind} {name}", type_.kind, name, namespace)
        try:
            self.api.call("POST", type_.path(namespace), asked, query=query, body=mapped)
        except Refused as refusal:
            # What the old object holds is free again when it is gone: a quota cannot be asked before.
            if refusal.code != _TAKEN and "exceeded quota" not in str(refusal):
                raise

    def apply_or_replace(self, manifest: dict[str, Any], *, grace_s: int = 1) -> Applied:
        """Apply one object; delete and create anew what cannot be edited in place, or has ended.

        A replacement is asked about as a creation first: where that is refused nothing is deleted.

        Raises:
            Refused: neither in place nor as a new object; the cluster is as it was.
            HalfReplaced: the old object is gone, and the new one was not created.
        """
        (change,) = self.diff(manifest, replacing=True)
        if change.action == "refused":
            raise Refused(change.reason)
        if change.action != "replace":
            (applied,) = self.apply(manifest)
            return applied
        metadata = manifest["metadata"]
        self.delete(change.kind, metadata["name"], metadata.get("namespace"), wait_s=_GONE_S, grace_s=grace_s)
        try:
            (applied,) = self.apply(manifest)
        except LabError as problem:
            said = f"{change.kind} {change.name} is gone: it was deleted to be created again, and that failed: {problem}"
            raise HalfReplaced(said, next_command=problem.next_command) from problem
        return dataclasses.replace(applied, action="replaced")

    def _diff(self, manifest: dict[str, Any], new_namespaces: set[str | None]) -> Change:
        try:
            type_, namespace, name, mapped = self._place(manifest)
        except InvalidManifest as error:
            where = manifest["metadata"].get("namespace")
            return Change(manifest["kind"], name_of(manifest), where, "refused", reason=str(error))
        about = (type_.kind, name, namespace)
        try:
            before, after = self._both(type_, namespace, name, mapped)
        except (Refused, InvalidManifest) as error:
            code = error.code if isinstance(error, Refused) else 0
            return Change(*about, action="refused", reason=str(error), code=code)
        except ObjectMissing as error:
            if self.scope.course_name(namespace or "") in new_namespaces or namespace in new_namespaces:
                fields = field_changes(None, mapped, mapped)
                reason = "not asked of the API server: its namespace is created by the same manifest"
                return Change(*about, action="create", fields=fields, reason=reason)
            return Change(*about, action="refused", reason=str(error))
        fields = field_changes(before, after, mapped)
        action = "create" if before is None else ("change" if fields else "none")
        return Change(*about, action=action, fields=fields)

    def _both(
        self, type_: ResourceType, namespace: str | None, name: str, mapped: dict[str, Any]
    ) -> tuple[dict[str, Any] | None, dict[str, Any]]:
        """An object as it is and as it would be, of one resource version: controllers write meanwhile."""
        query = {"fieldManager": MANAGER, "dryRun": "All"}
        before = self._raw(type_, namespace, name)
        for _ in range(_DIFF_TRIES):
            after = self._patch_apply(type_, namespace, name, mapped, query)
            if before is None or _version(before) == _version(after):
                break
            before = self._raw(type_, namespace, name)
        return before, after

    def create(self, manifest: dict[str, Any] | str, *, namespace: str | None = None) -> Resource:
        """Create one object; unlike `apply` it fails when the object exists, and takes generateName."""
        (item,) = load(manifest)
        if namespace:
            item["metadata"]["namespace"] = namespace
        type_, real, mapped = self._mapped(item)
        asked = Asked(f"create {type_.kind} {name_of(item)}", type_.kind, name_of(item), real)
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        return Resource(self.api.call("POST", type_.path(real), asked, query=query, body=mapped))

    def patch(
        self,
        kind: str,
        name: str,
        patch: dict[str, Any] | list[dict[str, Any]],
        namespace: str | None = None,
        *,
        subresource: str = "",
        strategic: bool = False,
    ) -> Resource:
        """Change fields of one object: a merge patch, a strategic one, or a JSON patch (a list)."""
        type_, real = self._locate(kind, namespace)
        content_type = JSON_PATCH if isinstance(patch, list) else STRATEGIC if strategic else MERGE
        name = self._name(type_, name)
        raw = self.api.call(
            "PATCH",
            type_.path(real, name, subresource),
            Asked(f"patch {type_.kind} {name}", type_.kind, name, real),
            query={"fieldManager": MANAGER},
            body=patch,
            content_type=content_type,
        )
        return Resource(raw)

    def scale(self, kind: str, name: str, replicas: int, namespace: str | None = None) -> None:
        """Set the number of replicas through the scale subresource, as kubectl does."""
        self.patch(kind, name, {"spec": {"replicas": replicas}}, namespace, subresource="scale")

    def evict(self, pod: str, namespace: str, *, grace_s: int | None = None) -> None:
        """Ask for a pod's eviction; Refused when a PodDisruptionBudget forbids it."""
        real = self.scope.namespace(namespace)
        body: dict[str, Any] = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": real},
        }
        if grace_s is not None:
            body["deleteOptions"] = {"gracePeriodSeconds": grace_s}
        path = f"/api/v1/namespaces/{real}/pods/{pod}/eviction"
        self.api.call("POST", path, Asked(f"evict pod {pod}", "Pod", pod, real), body=body)

    def cordon(self, node: str, *, unschedulable: bool = True) -> None:
        """Keep new pods off a node, or let them on again."""
        self.patch("Node", node, {"spec": {"unschedulable": unschedulable or None}})

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        wait_s: float = 0,
        grace_s: int | None = None,
    ) -> bool:
        """Delete one object; False when it was not there. `wait_s` waits until it is gone."""
        type_, real = self._locate(kind, namespace)
        name = self._name(type_, name)
        asked = Asked(f"delete {type_.kind} {name}", type_.kind, name, real)
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if grace_s is not None:
            body["gracePeriodSeconds"] = grace_s
        try:
            answer = self.api.call("DELETE", type_.path(real, name), asked, body=body)
        except ObjectMissing:
            return False
        if wait_s:
            uid = (answer.get("metadata") or {}).get("uid") or (answer.get("details") or {}).get("uid")
            self._wait_gone(type_, name, namespace, uid, wait_s)
        return True

    def delete_namespace(self, name: str, wait_s: float = 60) -> bool:
        """Delete a namespace with all it holds; False when it was not there."""
        return self.delete("Namespace", name, wait_s=wait_s)

    def _wait_gone(
        self, type_: ResourceType, name: str, namespace: str | None, uid: str | None, wait_s: float
    ) -> None:
        def gone(view: ClusterView) -> bool:
            found = view.find(type_.kind, name, namespace, api_version=type_.api_version)
            # A controller may have put another object of the same name in its place.
            if found is None or (uid and found.uid != uid):
                return True
            blockers = found.metadata.get("finalizers") or []
            content = found.conditions("NamespaceContentRemaining")
            holds = f"; finalizers {', '.join(blockers)}" if blockers else ""
            raise waits.NotYet((content.message if content else "still there") + holds)

        self.wait_until(f"{type_.kind} {name} deleted", gone, timeout_s=wait_s)

    # Waiting

    def wait_until(
        self,
        description: str,
        condition: Callable[[ClusterView], T | None],
        *,
        timeout_s: float,
        reject: Callable[[ClusterView], str | None] | None = None,
        on_progress: waits.Progress | None = None,
        diagnose: Callable[[ClusterView], tuple[str, ...]] | None = None,
    ) -> T:
        """Poll until the condition gives something; see `helpers.cluster.waits`."""
        return waits.wait_until(
            self.view(),
            description,
            condition,
            deadline=Deadline(timeout_s, self.clock),
            reject=reject,
            on_progress=on_progress,
            diagnose=diagnose,
        )

    def wait_ready(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        timeout_s: float = 60,
        on_progress: waits.Progress | None = None,
    ) -> Resource:
        """Wait until a pod, workload, claim, job or node is ready; ends early when it never will be."""
        try:
            found = self.wait_until(
                f"{kind} {name} ready",
                waits.ready(kind, name, namespace),
                timeout_s=timeout_s,
                reject=waits.stuck(kind, name, namespace),
                on_progress=on_progress,
                diagnose=waits.diagnose(kind, name, namespace),
            )
        except WaitFailed as failed:
            where = f" -n {self.scope.namespace(namespace)}" if namespace else ""
            failed.next_command = failed.next_command or f"kubectl describe {kind.lower()} {name}{where}"
            raise
        assert isinstance(found, Resource)
        return found

    def wait_rollout(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        timeout_s: float = 120,
        on_progress: waits.Progress | None = None,
    ) -> Resource:
        """Wait until every pod of a workload is of its newest specification, and ready."""
        return self.wait_ready(kind, name, namespace, timeout_s, on_progress)

    # Inside pods

    def exec(
        self,
        namespace: str,
        pod: str,
        command: list[str],
        *,
        container: str | None = None,
        stdin: str | None = None,
        timeout_s: float = 30,
    ) -> ExecResult:
        """Run a command in a container; ProbeInconclusive when it did not end within `timeout_s`."""
        deadline = Deadline(timeout_s, self.clock)
        return self.backend.exec(self.scope.namespace(namespace), pod, command, container, stdin, deadline)

    def logs(
        self,
        namespace: str,
        pod: str,
        *,
        container: str | None = None,
        previous: bool = False,
        tail_lines: int = 50,
    ) -> str:
        """The end of a container's log."""
        return self.view().logs(namespace, pod, container=container, previous=previous, tail_lines=tail_lines)

    def port_forward(
        self, namespace: str, target: str, port: int, *, local_port: int = 0
    ) -> AbstractContextManager[Forward]:
        """A local address (`.url`) for a port of `pod/NAME` or `service/NAME`, while the context lasts.

        Each new connection asks afresh which pod is ready, so a service survives a pod that dies. OSError where
        `local_port` is taken; 0 is any that is free.
        """
        kind, _, name = target.partition("/")
        if kind not in ("pod", "service") or not name:
            raise ValueError(f"port_forward: {target!r} is neither pod/NAME nor service/NAME")
        real = self.scope.namespace(namespace)
        if kind == "pod":
            return self.backend.forward(lambda: (real, name, port), local_port)
        return self.backend.forward(lambda: (real, *self._pod_behind(name, namespace, port)), local_port)

    def _pod_behind(self, service: str, namespace: str, port: int) -> tuple[str, int]:
        view = self.view(Deadline(10, self.clock))
        found = view.service(service, namespace)
        entry = next((item for item in found.ports if item.get("port") == port), None)
        if entry is None:
            have = ", ".join(str(item.get("port")) for item in found.ports) or "none"
            raise ObjectMissing(f"port {port} of Service", f"{service} (it has {have})", namespace)
        labels = f"kubernetes.io/service-name={service}"
        for item in view.list("EndpointSlice", namespace, labels=labels):
            numbers = [
                number["port"]
                for number in item.raw.get("ports") or []
                if (number.get("name") or "") == (entry.get("name") or "")
            ]
            for endpoint in item.raw.get("endpoints") or []:
                target = endpoint.get("targetRef") or {}
                is_ready = (endpoint.get("conditions") or {}).get("ready", True)
                if is_ready and target.get("kind") == "Pod" and numbers:
                    return target["name"], numbers[0]
        command = f"kubectl get endpointslices -n {namespace} -l kubernetes.io/service-name={service}"
        raise ObjectMissing("ready pod behind Service", service, namespace, next_command=command)

    # Tools

    def kustomize(self, path: Path | str) -> list[dict[str, Any]]:
        """The objects that `kubectl kustomize` builds from a folder."""
        from helpers.cluster.kubectl import kustomize

        return kustomize(Path(path))

    # Details

    def _locate(self, kind: str, namespace: str | None) -> tuple[ResourceType, str | None]:
        type_ = self.api.type_of(kind)
        return type_, self.scope.namespace(namespace or "default") if type_.namespaced else None

    def _name(self, type_: ResourceType, name: str) -> str:
        return self.scope.namespace(name) if type_.kind == "Namespace" else name

    def _place(self, manifest: dict[str, Any]) -> tuple[ResourceType, str | None, str, dict[str, Any]]:
        """Where a manifest goes: its type, real namespace and name, and the mapped manifest.

        Raises:
            InvalidManifest: its name is to be generated: what is applied again must be found again.
        """
        if not manifest["metadata"].get("name"):
            raise InvalidManifest(
                f"{manifest['kind']} {name_of(manifest)}: generateName cannot be applied, only created; "
                "give it a metadata.name"
            )
        type_, namespace, mapped = self._mapped(manifest)
        return type_, namespace, mapped["metadata"]["name"], mapped

    def _mapped(self, manifest: dict[str, Any]) -> tuple[ResourceType, str | None, dict[str, Any]]:
        type_ = self.api.type_of(manifest["kind"], manifest["apiVersion"])
        mapped = self.scope.manifest(manifest)
        namespace = None
        if type_.namespaced:
            namespace = mapped["metadata"].setdefault("namespace", self.scope.namespace("default"))
        return type_, namespace, mapped

    def _raw(self, type_: ResourceType, namespace: str | None, name: str) -> dict[str, Any] | None:
        asked = Asked(f"get {type_.kind} {name}", type_.kind, name, namespace)
        try:
            return self.api.call("GET", type_.path(namespace, name), asked)
        except ObjectMissing:
            return None

    def _patch_apply(
        self,
        type_: ResourceType,
        namespace: str | None,
        name: str,
        body: dict[str, Any],
        query: dict[str, str],
    ) -> dict[str, Any]:
        asked = Asked(f"apply {type_.kind} {name}", type_.kind, name, namespace)
        query = {"force": "true", "fieldValidation": "Strict", **query}
        path = type_.path(namespace, name)
        return self.api.call("PATCH", path, asked, query=query, body=body, content_type=APPLY)


def _version(raw: dict[str, Any]) -> str:
    return str((raw.get("metadata") or {}).get("resourceVersion", ""))
