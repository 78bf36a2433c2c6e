"""The gateway as a caller sees it: what a key is answered, and how many tokens it has left.

    key = keys(view)["docs"]
    answer = ask(view, key, "why is my pod Pending?")
    answer.status, answer.body["answer"], left(view, key)

Asked through the API server, which keeps an `Authorization` header for itself: keys go as `x-api-key`. Who may
reach the gateway is another question; connections between pods answer that one.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from helpers.errors import EnvironmentFault
from helpers.settings import REPOSITORY
from helpers.stack.serving import config_checksum

if TYPE_CHECKING:
    from helpers.cluster import Cluster, ClusterView

NAMESPACE = "llm-gateway"
NAME = "llm-gateway"
PORT = 8080
RATELIMIT = "ratelimit"
CONFIG, TOKENS, KEYS = "llm-gateway-config", "ratelimit-config", "llm-gateway-keys"
FILE, KEYS_FILE, TOKEN = "envoy.yaml", "api-keys.yaml", "INTERNAL_API_TOKEN"
MANIFESTS = REPOSITORY / "manifests" / "stack" / "gateway"
# Whose keys the course makes: three that learners use, and the checks' own.
TRIAL, OWN = "trial", "course"
TENANTS = ("docs", "research", TRIAL, OWN)
APPS, APPS_SECRET = "llm-apps", "llm-orchestrator-secrets"
CANARY = {"x-orchestrator-version": "canary"}
CHECKSUM = "checksum/config"
ASK_TIMEOUT_S = 30.0
# No thread has this name: asking for it costs no token, and the answer says what is left.
NO_THREAD = "none"
_KIND = "type.googleapis.com/envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth"


class GatewaySilent(EnvironmentFault):
    """Nobody answered in the gateway's place: it has no ready pod."""


@dataclass(frozen=True)
class GatewayAnswer:
    """One answer. `left` is what the key had before it; None where nothing was counted.

    `events` are those of a stream, in their order; `body` is then the last that says what it cost.
    """

    status: int
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    events: tuple[Mapping[str, Any], ...] = ()

    @property
    def left(self) -> int | None:
        return _number(self.headers.get("x-ratelimit-remaining"))

    @property
    def limit(self) -> int | None:
        """What the key may spend in one window, as `x-ratelimit-limit: 600, 600;w=3600` begins."""
        return _number(self.headers.get("x-ratelimit-limit", "").split(",")[0])

    @property
    def retry_after_s(self) -> int | None:
        return _number(self.headers.get("retry-after"))

    @property
    def code(self) -> str:
        """The error's own word; empty where there is none."""
        error = self.body.get("error")
        return str(error.get("code", "")) if isinstance(error, Mapping) else ""

    @property
    def tokens(self) -> int | None:
        """What the answer says that it cost."""
        usage = self.body.get("usage")
        return usage.get("total_tokens") if isinstance(usage, Mapping) else None


def ask(
    view: ClusterView,
    key: str,
    question: str,
    *,
    stream: bool = False,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    timeout_s: float = ASK_TIMEOUT_S,
) -> GatewayAnswer:
    """Ask a question with a key (none, where it is empty); `body` is laid over what is sent.

    Raises:
        ObjectMissing: there is no gateway.
        GatewaySilent: it has no ready pod.
    """
    sent = {"question": question, **({"stream": True} if stream else {}), **(body or {})}
    return request(view, "POST", "/v1/chat", key, body=sent, headers=headers, timeout_s=timeout_s)


def left(view: ClusterView, key: str) -> GatewayAnswer:
    """What a key has left, asked at no cost: 404 while it may ask, 429 when it is spent.

    Raises:
        ObjectMissing, GatewaySilent: as `ask`.
    """
    return request(view, "GET", f"/v1/threads/{NO_THREAD}", key, timeout_s=10)


def request(
    view: ClusterView,
    method: str,
    path: str,
    key: str = "",
    *,
    body: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = ASK_TIMEOUT_S,
) -> GatewayAnswer:
    """Any request to the gateway.

    Raises:
        ObjectMissing, GatewaySilent: as `ask`.
    """
    sent = {**(headers or {}), **({"x-api-key": key} if key else {})}
    answer = view.http(
        NAMESPACE, NAME, PORT, path, method=method, json=body, headers=sent, timeout_s=timeout_s
    )
    if not answer.from_service:
        raise GatewaySilent(
            f"the gateway does not answer: {answer.body}",
            next_command=f"kubectl get pods -n {NAMESPACE} -l app={NAME}",
        )
    return parse(answer.status, answer.body, answer.headers)


def parse(status: int, text: str, headers: Mapping[str, str]) -> GatewayAnswer:
    """An answer from its parts: JSON, or a stream of events."""
    if headers.get("content-type", "").startswith("text/event-stream"):
        events = tuple(_events(text))
        whole: Mapping[str, Any] = next((event for event in reversed(events) if event.get("usage")), {})
        return GatewayAnswer(status, whole, headers, events)
    return GatewayAnswer(status, _object(text), headers)


def _events(text: str) -> list[Mapping[str, Any]]:
    lines = (line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:"))
    return [event for event in map(_object, lines) if event]


def _object(text: str) -> Mapping[str, Any]:
    """A JSON object; empty for anything else, such as `[DONE]` or a page of a proxy."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdigit() else None


# Keys


def keys(view: ClusterView) -> dict[str, str]:
    """Each tenant's key, from the Secret; a tenant with several has the last.

    Raises:
        ObjectMissing: there is no such Secret.
    """
    return {tenant: key for key, tenant in _credentials(view.get("Secret", KEYS, NAMESPACE).raw)}


def _credentials(secret: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(key, tenant) of each credential; none where the file is not what Envoy reads."""
    try:
        file = yaml.safe_load(base64.b64decode((secret.get("data") or {}).get(KEYS_FILE, "")))
        found = file["resources"][0]["typed_config"]["credentials"]
        return [(str(item["key"]), str(item.get("client", ""))) for item in found]
    except (ValueError, TypeError, KeyError, IndexError, yaml.YAMLError):
        return []


def ensure_keys(cluster: Cluster) -> list[str]:
    """The Secrets of gateway and orchestrator with one token in both, made at random where they are missing.

    Returns what was done, a line each; what is there stays as it is.
    """
    view = cluster.view()
    theirs, ours = view.find("Secret", APPS_SECRET, APPS), view.find("Secret", KEYS, NAMESPACE)
    token = next((known for item in (theirs, ours) if item and (known := _token(item.raw))), "")
    token = token or secrets.token_urlsafe(24)
    wanted = []
    if theirs is None:
        wanted.append(secret(APPS_SECRET, APPS, {TOKEN: token}))
    if ours is None:
        file = keys_file({tenant: secrets.token_urlsafe(24) for tenant in TENANTS})
        wanted.append(secret(KEYS, NAMESPACE, {KEYS_FILE: file, TOKEN: token}))
    return [f"{item.action} {item.kind} {item.name}" for item in cluster.apply(wanted)] if wanted else []


def keys_file(tenants: Mapping[str, str]) -> str:
    """Envoy's own file of keys, from each tenant's key: the part of its configuration that is secret."""
    filter_: dict[str, Any] = {
        "@type": _KIND,
        "credentials": [{"key": key, "client": tenant} for tenant, key in tenants.items()],
        "key_sources": [{"header": "authorization"}, {"header": "x-api-key"}],
        # The tenant is the key's, whatever the caller says; and the key stays here.
        "forwarding": {"header": "x-tenant-id", "hide_credentials": True},
    }
    extension = {
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": "api-keys",
        "typed_config": filter_,
    }
    return str(yaml.safe_dump({"resources": [extension]}, sort_keys=False))


def secret(name: str, namespace: str, data: Mapping[str, str]) -> dict[str, Any]:
    """A Secret as a manifest."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
    }


def _token(secret_: Mapping[str, Any]) -> str:
    return base64.b64decode((secret_.get("data") or {}).get(TOKEN, "")).decode()


# Configuration


def with_checksums(objects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The manifests with each Deployment's checksum annotation as its ConfigMap's data gives it.

    So another configuration makes other pods. A Deployment whose ConfigMap is not among them stays as it is.
    """
    sums = {
        item["metadata"]["name"]: config_checksum(item.get("data") or {})
        for item in objects
        if item["kind"] == "ConfigMap"
    }
    return [_summed(dict(item), sums) if item["kind"] == "Deployment" else dict(item) for item in objects]


def _summed(deployment: dict[str, Any], sums: Mapping[str, str]) -> dict[str, Any]:
    template = deployment["spec"]["template"]
    volumes = template["spec"].get("volumes") or []
    mounted = [str((volume.get("configMap") or {}).get("name")) for volume in volumes]
    found = next((sums[name] for name in mounted if name in sums), None)
    if found is None:
        return deployment
    metadata = template.get("metadata") or {}
    annotations = {**(metadata.get("annotations") or {}), CHECKSUM: found}
    template = {**template, "metadata": {**metadata, "annotations": annotations}}
    return {**deployment, "spec": {**deployment["spec"], "template": template}}
