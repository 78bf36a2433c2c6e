"""What the library needs of a cluster: the same few calls, answered by a real one or by a fake.

Everything above speaks in HTTP paths and objects, so that the fake is a small API server and not a
second client: both are read by the same code, and one set of contract tests runs on both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlencode

from helpers.cluster.deadline import Deadline
from helpers.cluster.faults import Asked, Response, error_of, is_settling
from helpers.cluster.kinds import BUILTIN, ResourceType, choose
from helpers.errors import InvalidManifest, ServerFault

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
# A new namespace's service account and a new quota's first count take their controllers a moment.
_SETTLE_S = 3.0
_TO_ESCAPE = re.compile("[\x7f-\uffff]")


@dataclass(frozen=True)
class ExecResult:
    """What a command in a container did: its exit code and its streams, each whole."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.exit_code == 0


@dataclass(frozen=True)
class HttpAnswer:
    """What a service answered through the API server's proxy.

    `from_service` is False when the API server answered in its place, as it does when there is
    nobody behind the service. `headers` have lower-case names.
    """

    status: int
    body: str
    from_service: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return self.from_service and 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; ValueError when it is none."""
        return json.loads(self.body)


class Forward(Protocol):
    """A local address that leads to a port of a pod."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def url(self) -> str: ...


class Backend(Protocol):
    """A cluster as seen from the wire."""

    @property
    def address(self) -> str:
        """How messages call the cluster: its API server's address."""
        ...

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
        """One HTTP exchange; ClusterUnreachable when there was none."""
        ...

    def exec(
        self, namespace: str, pod: str, command: list[str], container: str | None, stdin: str | None,
        deadline: Deadline,
    ) -> ExecResult:  # fmt: skip
        """Run a command; ProbeInconclusive when it did not end in time or could not start."""
        ...

    def forward(
        self, target: Callable[[], tuple[str, str, int]], local_port: int = 0
    ) -> AbstractContextManager[Forward]:
        """Listen on loopback; each connection goes to the (namespace, pod, port) that `target` names."""
        ...


class Api:
    """A backend with errors raised and kinds resolved; safe to share between threads."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._discovered: tuple[ResourceType, ...] = ()

    def request(self, method: str, path: str, **options: Any) -> Response:
        """One exchange; asked again for a moment while a new namespace or quota is being completed."""
        patience = Deadline(_SETTLE_S)
        while True:
            response = self.backend.request(method, path, **options)
            if not is_settling(response) or patience.is_over:
                return response
            patience.clock.sleep(0.05)

    def call(self, method: str, path: str, asked: Asked, **options: Any) -> dict[str, Any]:
        """One exchange whose answer must be a JSON object."""
        response = self.request(method, path, **options)
        if not response.ok:
            raise error_of(response, asked)
        return response.json(asked.doing)

    def text(self, path: str, asked: Asked, **options: Any) -> str:
        """One GET whose answer is text: logs, metrics."""
        response = self.backend.request("GET", path, accept="*/*", **options)
        if not response.ok:
            raise error_of(response, asked)
        return response.body.decode("utf-8", "replace")

    def type_of(
        self, kind: str, api_version: str | None = None, deadline: Deadline | None = None
    ) -> ResourceType:
        """The resource type of a kind; kinds that are not built in are asked of this cluster."""
        found = choose(BUILTIN, kind, api_version) or choose(self._discovered, kind, api_version)
        if found:
            return found
        self._discovered = self.discover(deadline)
        found = choose(self._discovered, kind, api_version)
        if not found:
            served = f"{api_version} {kind}" if api_version else kind
            raise InvalidManifest(
                f"this cluster does not serve {served}", next_command="kubectl api-resources"
            )
        return found

    def discover(self, deadline: Deadline | None = None) -> tuple[ResourceType, ...]:
        """Every kind that the cluster serves, from its aggregated discovery (two requests)."""
        accept = f"application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,{JSON}"
        types: list[ResourceType] = []
        for root in ("/api", "/apis"):
            asked = Asked(f"discovery of {root}")
            tree = self.call("GET", root, asked, accept=accept, deadline=deadline)
            if tree.get("kind") != "APIGroupDiscoveryList":
                raise ServerFault(f"the API server has no aggregated discovery at {root}")
            types += [found for group in tree.get("items") or [] for found in _types_of(group)]
        return tuple(types)


def _types_of(group: dict[str, Any]) -> list[ResourceType]:
    name = (group.get("metadata") or {}).get("name", "")
    return [
        ResourceType(
            kind=item["responseKind"]["kind"],
            group=name,
            version=version["version"],
            plural=item["resource"],
            namespaced=item.get("scope") == "Namespaced",
        )
        for version in group.get("versions") or []
        for item in version.get("resources") or []
        if (item.get("responseKind") or {}).get("kind")
    ]


def encode(body: Any) -> bytes | None:
    """A request body as JSON, which is YAML too where a content type asks for it.

    YAML has no surrogate pairs (`\\ud83d\\ude80`), and takes few control characters as they are: what
    lies beyond the first plane is written as itself, and what else is not ASCII as its number.
    """
    if body is None:
        return None
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
    return _TO_ESCAPE.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def with_query(path: str, query: Mapping[str, str] | None) -> str:
    """A path with its query string."""
    return f"{path}?{urlencode(query)}" if query else path
