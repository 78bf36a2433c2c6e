"""The API server in memory behind FakeCluster: routes, storage, selectors, patches, admission."""

from __future__ import annotations

import json
import re
import socketserver
import threading
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from helpers.cluster import admission, fixed_fields
from helpers.cluster.backend import APPLY, JSON, JSON_PATCH, STRATEGIC, ExecResult, Forward
from helpers.cluster.deadline import SYSTEM_CLOCK, Clock, Deadline
from helpers.cluster.faults import Response
from helpers.cluster.kinds import BUILTIN, ResourceType
from helpers.cluster.patches import drop, json_patch, merge
from helpers.cluster.quantity import is_binary, quantity, quantity_text
from helpers.cluster.resource import dig, now_text
from helpers.cluster.selectors import matches
from helpers.errors import ObjectMissing, ProbeInconclusive

Key = tuple[str, str, str, str]
ExecAnswer = ExecResult | Callable[[list[str], str | None], ExecResult]
ExecHandler = Callable[[str, str, list[str], str | None], ExecResult]
HttpHandler = Callable[[str, str, Any], tuple[int, str]]
# Method, path, JSON and headers; an answer's status, text and headers.
HttpServer = Callable[[str, str, Any, Mapping[str, str]], tuple[int, str, Mapping[str, str]]]
PortHandler = Callable[[bytes], bytes]
FakeState = dict[str, Any]
_TABLES = (
    "objects",
    "applied",
    "types",
    "exec_answers",
    "exec_handler",
    "http_handlers",
    "port_handlers",
    "log_texts",
    "fault",
    "_version",
)
_PROXY = re.compile(r"/api/v1/namespaces/([^/]+)/services/http:([^:/]+):(\d+)/proxy(/.*)")
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<ns>[^/]+)(?=/[^/]))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>.+))?"
)


@dataclass(frozen=True)
class _Address:
    """Where a handler listens on loopback."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


@contextmanager
def answering(handler: PortHandler) -> Iterator[Forward]:
    """A listener on loopback that answers what it reads by the handler, until the block ends."""

    class Answers(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            while data := self.request.recv(1 << 16):
                self.request.sendall(handler(data))

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answers) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield _Address("127.0.0.1", int(server.server_address[1]))
        finally:
            server.shutdown()


class ApiProblem(Exception):
    """An unsuccessful answer on its way out."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.details = code, reason, details or {}

    def response(self) -> Response:
        """As the API server writes it: a Status."""
        status = {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": str(self), "reason": self.reason, "details": self.details, "code": self.code,
        }  # fmt: skip
        return Response(self.code, json.dumps(status).encode())


class FakeBackend:
    """The API server in memory. Every request is answered under one lock."""

    address = "fake://cluster"

    def __init__(self, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        self.objects: dict[Key, dict[str, Any]] = {}
        self.applied: dict[tuple[Key, str], dict[str, Any]] = {}
        self.types: list[ResourceType] = list(BUILTIN)
        self.exec_answers: list[tuple[str, str, str, ExecAnswer]] = []
        self.exec_handler: ExecHandler | None = None
        self.http_handlers: dict[tuple[str, str, int], HttpServer] = {}
        self.port_handlers: dict[tuple[str, str, int], PortHandler] = {}
        self.log_texts: dict[tuple[str, str, str, bool], str] = {}
        self.fault: Callable[[str, str], Response | None] | None = None
        self.requests: list[tuple[str, str]] = []
        self._version = 1000
        self._is_dry = False
        self._lock = threading.RLock()

    def state(self) -> FakeState:
        """A copy of all tables. Stored objects are replaced and never changed, so that the tables are enough."""
        with self._lock:
            return {name: copy(getattr(self, name)) for name in _TABLES}

    def restore(self, state: FakeState) -> None:
        """Put the tables back; the same state can be restored again."""
        with self._lock:
            for name, table in state.items():
                setattr(self, name, copy(table))

    def put(self, type_: ResourceType, item: dict[str, Any]) -> dict[str, Any]:
        """Store an object with its status and without admission, as controllers do."""
        namespace = item["metadata"].get("namespace", "default") if type_.namespaced else ""
        with self._lock:
            key = self._key(type_, namespace, item["metadata"]["name"])
            self._version += 1
            before = self.objects.get(key, {"metadata": {}})["metadata"]
            item["metadata"] = {
                "uid": before.get("uid") or str(uuid.uuid4()),
                "creationTimestamp": before.get("creationTimestamp") or now_text(),
                "generation": before.get("generation", 1),
                **item["metadata"],
                "resourceVersion": str(self._version),
            }
            _complete(type_, item, namespace)
            self.objects[key] = item
            self._count_quotas(namespace)
            return deepcopy(item)

    # The wire

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
        accept: str = JSON,
        headers: Mapping[str, str] | None = None,
        deadline: Deadline | None = None,
    ) -> Response:
        """Answer one request as an API server does."""
        if deadline:
            deadline.grant(10, f"{method} {path}")
        with self._lock:
            self.requests.append((method, path))
            broken = self.fault(method, path) if self.fault else None
            if broken:
                return broken
            try:
                proxied = _PROXY.fullmatch(path)
                if proxied:
                    return self._proxy(method, proxied, deepcopy(body), headers or {})
                return self._route(method, path, dict(query or {}), deepcopy(body), content_type)
            except ApiProblem as problem:
                return problem.response()

    def exec(
        self,
        namespace: str,
        pod: str,
        command: list[str],
        container: str | None,
        stdin: str | None,
        deadline: Deadline,
    ) -> ExecResult:
        """Give the first prepared answer that fits, else ask the handler."""
        if ("", "pods", namespace, pod) not in self.objects:
            raise ObjectMissing("Pod", pod, namespace)
        line = " ".join(command)
        for where, name, pattern, answer in self.exec_answers:
            if where == namespace and re.fullmatch(name, pod) and re.search(pattern, line):
                return answer(command, stdin) if callable(answer) else answer
        if self.exec_handler:
            return self.exec_handler(namespace, pod, command, stdin)
        raise ProbeInconclusive(f"pod {namespace}/{pod} has no answer to {line!r}")

    def forward(
        self, target: Callable[[], tuple[str, str, int]], local_port: int = 0
    ) -> AbstractContextManager[Forward]:
        """A port that `FakeCluster.answer_port` answers; behind any other pod in memory nothing runs."""
        namespace, pod, port = target()
        handler = self.port_handlers.get((namespace, pod, port))
        if handler is None:
            raise ProbeInconclusive(f"pod {namespace}/{pod} has no server behind it")
        return answering(handler)

    # Routes

    def _route(self, method: str, path: str, query: dict[str, str], body: Any, content_type: str) -> Response:
        if path in ("/version", "/readyz", "/livez", "/api", "/apis"):
            return self._root(path)
        match = _PATH.fullmatch(path)
        type_ = self._type(match) if match else None
        if match is None or type_ is None:
            return Response(404, b"404 page not found\n")
        namespace, name, sub = (unquote(match[key] or "") for key in ("ns", "name", "sub"))
        if sub == "log":
            return self._log(namespace, name, query)
        if sub == "eviction":
            method, sub = "DELETE", ""
        if method == "GET":
            return self._get(type_, namespace, name, query)
        with self._dry(query.get("dryRun") == "All"):
            if method == "POST":
                return self._create(type_, namespace, body)
            if method == "PATCH" and content_type == APPLY:
                return self._apply(type_, namespace, name, body, query["fieldManager"])
            if method == "PATCH":
                return self._patch(type_, namespace, name, sub, body, content_type)
            if method == "PUT":
                return self._put(type_, namespace, name, sub, body)
            return self._delete(type_, namespace, name)

    def _type(self, match: re.Match[str]) -> ResourceType | None:
        group, version = match["group"] or "", match["version"] or match["core"]
        for type_ in self.types:
            if (type_.group, type_.version, type_.plural) == (group, version, match["plural"]):
                return type_
        return None

    @contextmanager
    def _dry(self, dry: bool) -> Iterator[None]:
        """Run a change, and forget it afterwards when it was a dry run.

        Stored objects are replaced and never changed, so a copy of the table is enough.
        """
        kept = (dict(self.objects), dict(self.applied), self._version) if dry else None
        self._is_dry = dry
        try:
            yield
        finally:
            self._is_dry = False
            if kept:
                self.objects, self.applied, self._version = kept

    def _root(self, path: str) -> Response:
        if path == "/version":
            return _json({"major": "1", "minor": "36", "gitVersion": "v1.36.3"})
        if path in ("/readyz", "/livez"):
            return Response(200, b"ok")
        groups: dict[str, dict[str, list[ResourceType]]] = {}
        for type_ in self.types:
            if bool(type_.group) == (path == "/apis"):
                groups.setdefault(type_.group, {}).setdefault(type_.version, []).append(type_)
        return _json({"kind": "APIGroupDiscoveryList", "items": [_group(*item) for item in groups.items()]})

    def _get(self, type_: ResourceType, namespace: str, name: str, query: dict[str, str]) -> Response:
        if name:
            return _json(self._one(type_, namespace, name))
        selector = parse_selector(query.get("labelSelector", ""))
        items = [
            item
            for key, item in sorted(self.objects.items())
            if key[:2] == (type_.group, type_.plural)
            and (not namespace or key[2] == namespace)
            and matches(selector, item["metadata"].get("labels"))
            and _matches_fields(item, query.get("fieldSelector", ""))
        ]
        # As a real API server does: the items of a list carry no kind of their own.
        bare = [{k: v for k, v in item.items() if k not in ("kind", "apiVersion")} for item in items]
        listed = {"kind": f"{type_.kind}List", "apiVersion": type_.api_version, "items": bare}
        return _json({**listed, "metadata": {"resourceVersion": str(self._version)}})

    def _log(self, namespace: str, name: str, query: dict[str, str]) -> Response:
        self._one(self._kind("Pod"), namespace, name)
        key = (namespace, name, query.get("container", ""), query.get("previous") == "true")
        text = self.log_texts.get(key, self.log_texts.get((namespace, name, "", key[3]), ""))
        lines = text.splitlines(keepends=True)[-int(query.get("tailLines", "1000000")) :]
        return Response(200, "".join(lines).encode())

    def _proxy(self, method: str, match: re.Match[str], body: Any, headers: Mapping[str, str]) -> Response:
        namespace, service, port, path = match.groups()
        self._one(self._kind("Service"), namespace, service)
        handler = self.http_handlers.get((namespace, service, int(port)))
        if handler is None:
            message = f'no endpoints available for service "http:{service}:{port}"'
            raise ApiProblem(503, "ServiceUnavailable", message)
        status, text, said = handler(method, path, body, headers)
        return Response(status, text.encode(), said)

    # Changes

    def _create(self, type_: ResourceType, namespace: str, body: dict[str, Any]) -> Response:
        metadata = body.setdefault("metadata", {})
        if not metadata.get("name"):
            metadata["name"] = f"{metadata.get('generateName', '')}{uuid.uuid4().hex[:5]}"
        namespace = namespace if type_.namespaced else ""
        key = self._key(type_, namespace, metadata["name"])
        self._check_namespace(type_, namespace)
        if key in self.objects:
            # As upstream: validated and admitted first, and only then is the name looked for.
            self._admit(type_, key, deepcopy(body), None)
            message = f'{type_.resource} "{key[3]}" already exists'
            raise ApiProblem(409, "AlreadyExists", message, {"name": key[3], "kind": type_.plural})
        return _json(self._store(type_, key, body, None), 201)

    def _apply(
        self, type_: ResourceType, namespace: str, name: str, body: dict[str, Any], manager: str
    ) -> Response:
        """Server-side apply: lay the manifest over, and drop what this manager no longer writes."""
        key = self._key(type_, namespace, name)
        before = self.objects.get(key)
        last = self.applied.get((key, manager))
        if before is None:
            body.setdefault("metadata", {})["name"] = name
            response = self._create(type_, namespace, deepcopy(body))
        else:
            kept = drop(deepcopy(before), last, body) if last else deepcopy(before)
            response = _json(self._store(type_, key, merge(kept, deepcopy(body), keyed=True), before))
        self.applied[key, manager] = body
        return response

    def _patch(
        self, type_: ResourceType, namespace: str, name: str, sub: str, body: Any, content_type: str
    ) -> Response:
        key = self._key(type_, namespace, name)
        before = self._one(type_, namespace, name)
        if content_type == JSON_PATCH:
            after = json_patch(deepcopy(before), body)
        else:
            after = merge(deepcopy(before), _only(body, sub), keyed=content_type == STRATEGIC)
        return _json(self._store(type_, key, after, before, sub))

    def _put(self, type_: ResourceType, namespace: str, name: str, sub: str, body: Any) -> Response:
        key = self._key(type_, namespace, name)
        before = self._one(type_, namespace, name)
        sent = (body.get("metadata") or {}).get("resourceVersion")
        if sent and sent != before["metadata"]["resourceVersion"]:
            message = (
                f'Operation cannot be fulfilled on {type_.resource} "{name}": the object has been modified; '
                "please apply your changes to the latest version and try again"
            )
            raise ApiProblem(409, "Conflict", message)
        after = {**before, "status": body.get("status")} if sub == "status" else {**body}
        after["metadata"] = {**before["metadata"], **(body.get("metadata") or {})}
        return _json(self._store(type_, key, after, before))

    def _delete(self, type_: ResourceType, namespace: str, name: str) -> Response:
        found = self._one(type_, namespace, name)
        self._forget(self._key(type_, namespace, name))
        if type_.kind == "Namespace":
            for key in [key for key in self.objects if key[2] == name]:
                self._forget(key)
        uid = found["metadata"].get("uid")
        for key, item in list(self.objects.items()):
            if any(owner.get("uid") == uid for owner in item["metadata"].get("ownerReferences") or []):
                self._forget(key)
        self._count_quotas(namespace)
        details = {"name": name, "kind": type_.plural, "uid": uid}
        return _json({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": details})

    def _forget(self, key: Key) -> None:
        del self.objects[key]
        for applied in [found for found in self.applied if found[0] == key]:
            del self.applied[applied]

    def _store(
        self,
        type_: ResourceType,
        key: Key,
        item: dict[str, Any],
        before: dict[str, Any] | None,
        sub: str = "",
    ) -> dict[str, Any]:
        item["apiVersion"], item["kind"] = type_.api_version, type_.kind
        self._admit(type_, key, item, before, sub)
        metadata = item["metadata"]
        kept = before["metadata"] if before else {}
        metadata["uid"] = kept.get("uid") or str(uuid.uuid4())
        metadata["creationTimestamp"] = kept.get("creationTimestamp") or now_text()
        metadata["resourceVersion"] = kept.get("resourceVersion")
        if "spec" in item:
            same = before is not None and before.get("spec") == item["spec"]
            metadata["generation"] = kept.get("generation", 0) + (0 if same else 1)
        # As upstream does: the answer to a dry run carries the version of the object as it is.
        if before is None or (item != before and not self._is_dry):
            self._version += 1
            metadata["resourceVersion"] = str(self._version)
        self.objects[key] = deepcopy(item)
        self._count_quotas(key[2])
        return deepcopy(self.objects[key])

    def _admit(
        self,
        type_: ResourceType,
        key: Key,
        item: dict[str, Any],
        before: dict[str, Any] | None,
        sub: str = "",
    ) -> None:
        try:
            _complete(type_, item, key[2])
            ranges = self._in(key[2], "LimitRange")
            admission.apply_limit_ranges(type_, item, ranges, creating=before is None)
            _requests_from_limits(type_, item)
            if before:
                fixed_fields.validate_update(type_.kind, item, before, sub)
            fixed_fields.validate_creation(type_.kind, item)
            used = admission.usage_of(type_, before) if before else None
            admission.admit_quota(type_, item, self._in(key[2], "ResourceQuota"), used)
        except fixed_fields.Invalid as invalid:
            message = f'{type_.kind} "{key[3]}" is invalid: {invalid}'
            raise ApiProblem(422, "Invalid", message, {"name": key[3], "kind": type_.kind}) from None
        except admission.Denied as denied:
            message = f'{type_.resource} "{key[3]}" is forbidden: {denied}'
            raise ApiProblem(403, "Forbidden", message, {"name": key[3], "kind": type_.plural}) from None
        except ValueError as error:
            raise ApiProblem(
                400, "BadRequest",
                f'{type_.kind} in version "{type_.version}" cannot be handled as a {type_.kind}: {error}',
            ) from None  # fmt: skip

    # Store

    def _kind(self, kind: str) -> ResourceType:
        return next(type_ for type_ in self.types if type_.kind == kind)

    def _key(self, type_: ResourceType, namespace: str, name: str) -> Key:
        return type_.group, type_.plural, namespace if type_.namespaced else "", name

    def _one(self, type_: ResourceType, namespace: str, name: str) -> dict[str, Any]:
        found = self.objects.get(self._key(type_, namespace, name))
        if found is None:
            raise _not_found(type_, name)
        return deepcopy(found)

    def _in(self, namespace: str, kind: str) -> list[dict[str, Any]]:
        plural = self._kind(kind).plural
        return [item for key, item in self.objects.items() if key[1:3] == (plural, namespace) and namespace]

    def _check_namespace(self, type_: ResourceType, namespace: str) -> None:
        if type_.namespaced and ("", "namespaces", "", namespace) not in self.objects:
            raise _not_found(self._kind("Namespace"), namespace)

    def _count_quotas(self, namespace: str) -> None:
        """What the quota controller does, at once."""
        keys = [key for key in self.objects if key[1:3] == ("resourcequotas", namespace) and namespace]
        if not keys:
            return
        types = {(type_.group, type_.plural): type_ for type_ in self.types}
        objects = [(types[key[:2]], item) for key, item in self.objects.items() if key[2] == namespace]
        for key in keys:
            quota = self.objects[key]
            status = admission.quota_status(quota, objects)
            if quota.get("status") != status:
                self._version += 1
                metadata = {**quota["metadata"], "resourceVersion": str(self._version)}
                self.objects[key] = {**quota, "metadata": metadata, "status": status}


def _json(tree: dict[str, Any], code: int = 200) -> Response:
    return Response(code, json.dumps(tree).encode())


def _not_found(type_: ResourceType, name: str) -> ApiProblem:
    details = {"name": name, "kind": type_.plural, **({"group": type_.group} if type_.group else {})}
    return ApiProblem(404, "NotFound", f'{type_.resource} "{name}" not found', details)


def _group(name: str, versions: dict[str, list[ResourceType]]) -> dict[str, Any]:
    return {
        "metadata": {"name": name},
        "versions": [
            {
                "version": version,
                "resources": [
                    {
                        "resource": type_.plural,
                        "responseKind": {"kind": type_.kind},
                        "scope": "Namespaced" if type_.namespaced else "Cluster",
                    }
                    for type_ in types
                ],
            }
            for version, types in versions.items()
        ],
    }


def _complete(type_: ResourceType, item: dict[str, Any], namespace: str) -> None:
    """The defaults that checks may meet."""
    if namespace:
        item["metadata"]["namespace"] = namespace
    if type_.kind == "Namespace":
        labels = item["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = item["metadata"]["name"]
        item.setdefault("status", {"phase": "Active"})
    if type_.kind == "Secret" and item.get("stringData"):
        encoded = {key: b64encode(value.encode()).decode() for key, value in item.pop("stringData").items()}
        item["data"] = {**(item.get("data") or {}), **encoded}
    if type_.kind in ("Deployment", "StatefulSet", "ReplicaSet"):
        item.setdefault("spec", {}).setdefault("replicas", 1)
    if type_.kind in ("Pod", "PersistentVolumeClaim"):
        item.setdefault("status", {"phase": "Pending"})
    _canonical(item.get("spec") or {})


def _canonical(spec: dict[str, Any]) -> None:
    """Quantities in the API server's own spelling: `1` becomes "1" and 10000m becomes "10"."""
    containers = [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]
    holders = [(holder.get("resources") or {}) for holder in (spec, *containers)]
    for holder, key in [
        (spec, "hard"),
        *((found, side) for found in holders for side in ("requests", "limits")),
    ]:
        if isinstance(holder.get(key), dict):
            holder[key] = {
                name: quantity_text(quantity(value), binary=is_binary(value))
                for name, value in holder[key].items()
            }


def _requests_from_limits(type_: ResourceType, item: dict[str, Any]) -> None:
    """Kubernetes' own default: a container that writes only a limit requests as much."""
    if type_.kind != "Pod":
        return
    spec = item.get("spec") or {}
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        resources = container.get("resources") or {}
        limits = resources.get("limits") or {}
        if limits:
            resources["requests"] = {**limits, **(resources.get("requests") or {})}


def _only(body: Any, sub: str) -> Any:
    return {"status": body.get("status")} if sub == "status" else body


_REQUIREMENT = re.compile(r"\s*(!?)\s*([\w./-]+)\s*(?:(==|=|!=)\s*([\w.-]*)|\s(in|notin)\s*\(([^)]*)\))?\s*")


def parse_selector(text: str) -> dict[str, Any]:
    """A selector as queries write it (`a=b,c in (d,e),!f`) in its JSON form."""
    parts = re.split(r",(?![^(]*\))", text) if text else []
    return {"matchExpressions": [_requirement(part) for part in parts]}


def _requirement(part: str) -> dict[str, Any]:
    match = _REQUIREMENT.fullmatch(part)
    if not match:
        raise ApiProblem(400, "BadRequest", f"unable to parse requirement: {part}")
    absent, key, operator, value, among, listed = match.groups()
    if among:
        values = [item.strip() for item in listed.split(",")]
        return {"key": key, "operator": "In" if among == "in" else "NotIn", "values": values}
    if operator:
        return {"key": key, "operator": "NotIn" if operator == "!=" else "In", "values": [value]}
    return {"key": key, "operator": "DoesNotExist" if absent else "Exists"}


def _matches_fields(item: dict[str, Any], selector: str) -> bool:
    for part in selector.split(",") if selector else []:
        key, operator, value = re.split(r"(!=|==?)", part, maxsplit=1)
        if (str(dig(item, key) or "") == value) != (operator != "!="):
            return False
    return True
