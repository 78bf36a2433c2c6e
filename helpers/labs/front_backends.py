"""Redis and the gateway on a fake cluster, for the proofs of every lab that has them.

The gateway answers as the configuration says that is stored on the cluster, so that a wrong cluster is an
edit of `envoy.yaml`, as a learner makes it.
"""

from __future__ import annotations

import base64
import io
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from helpers.grading.changes import Change
from helpers.stack import gateway, state

# (tenant, body, headers) -> status and answer; a real one is the orchestrator behind the gateway.
Upstream = Callable[[str, Mapping[str, Any], Mapping[str, str]], tuple[int, dict[str, Any]]]
_RATE, _SSE, _JSON = (
    f"envoy.filters.http.{name}" for name in ("ratelimit", "sse_to_metadata", "json_to_metadata")
)


def redis_holds(
    store: state.Store, values: Mapping[str, str] | None = None, *, pod: str = state.POD
) -> Change:
    """The pod of Redis answers what `state.read` and `state.values` ask it."""

    def answer(data: bytes) -> bytes:
        stream, said = io.BytesIO(data), b""
        while stream.tell() < len(data):
            said += _redis(state.decoded(stream), store, values or {})
        return said

    return lambda cluster: cluster.answer_port(state.NAMESPACE, pod, state.PORT, answer)


def _redis(command: list[str], store: state.Store, values: Mapping[str, str]) -> bytes:
    if command[0] == "INFO":
        modules = "".join(f"module:name={name},ver=1\r\n" for name in store.modules)
        return _bulk(f"used_memory:{store.used_bytes}\r\nuptime_in_seconds:{store.uptime_s}\r\n{modules}")
    if command[:2] == ["CONFIG", "GET"]:
        return state.encoded([command[2], store.settings.get(command[2], "")])
    pattern = command[-1].removesuffix("*")
    if command[1] == state.KEYS_SCRIPT:
        found = [
            [key.name, key.kind, -1 if key.ttl_s is None else key.ttl_s * 1000, key.size]
            for key in store.named(pattern)
        ]
        return _bulk(json.dumps(found))
    return _bulk(json.dumps([item for item in values.items() if item[0].startswith(pattern)]))


def _bulk(text: str) -> bytes:
    raw = text.encode()
    return b"$%d\r\n%s\r\n" % (len(raw), raw)


def gateway_serves(upstream: Upstream | None = None) -> Change:
    """The gateway's Service answers as its stored configuration says; each answer of `upstream` says its cost."""
    return lambda cluster: cluster.serve_http(
        gateway.NAMESPACE, gateway.NAME, gateway.PORT, _Gateway(cluster, upstream or _hundred_tokens)
    )


def _hundred_tokens(
    tenant: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> tuple[int, dict[str, Any]]:
    return 200, {"answer": "…", "tenant": tenant, "usage": {"total_tokens": int(body.get("tokens", 100))}}


class _Gateway:
    """Envoy and its rate limit service, as far as checks can tell."""

    def __init__(self, cluster: Any, upstream: Upstream) -> None:
        self._cluster, self._upstream = cluster, upstream
        self._spent: Counter[str] = Counter()

    def __call__(
        self, method: str, path: str, body: Any, headers: Mapping[str, str]
    ) -> tuple[int, str, dict[str, str]]:
        view = self._cluster.view()
        tenant = self._tenant(view, headers)
        if tenant is None:
            return _said(401, {"error": {"code": "no_such_key"}})
        if not path.startswith("/v1/"):
            return _said(404, {})
        limit = self._limit(view)
        bucket, allowed = self._bucket(view, limit, tenant)
        if not view.endpoint_slices(gateway.RATELIMIT, gateway.NAMESPACE):
            if limit.denies:
                return _said(503, {"error": {"code": "budget_unknown"}})
            return self._pass_on(method, body, headers, tenant, limit)[0]
        left = max(0, allowed - self._spent[bucket])
        about = {"x-ratelimit-limit": f"{allowed}, {allowed};w=3600", "x-ratelimit-remaining": str(left)}
        if left == 0 and limit.is_there:
            error = {"code": "tokens_spent", "retry_after_s": 60}
            return _said(429, {"error": error}, {**about, "retry-after": "60"})
        answer, cost = self._pass_on(method, body, headers, tenant, limit)
        self._spent[bucket] += cost if limit.is_there else 0
        return answer[0], answer[1], {**answer[2], **(about if limit.is_there else {})}

    def _tenant(self, view: Any, headers: Mapping[str, str]) -> str | None:
        secret = view.find("Secret", gateway.KEYS, gateway.NAMESPACE)
        if secret is None:
            return None
        file = yaml.safe_load(base64.b64decode(secret.raw["data"][gateway.KEYS_FILE]))
        filter_ = file["resources"][0]["typed_config"]
        owner = {item["key"]: item["client"] for item in filter_["credentials"]}.get(
            headers.get("x-api-key", "")
        )
        return owner if filter_.get("forwarding") or owner is None else headers.get("x-tenant-id", "")

    def _limit(self, view: Any) -> _Limit:
        return _Limit(yaml.safe_load(view.config_map(gateway.CONFIG, gateway.NAMESPACE).data[gateway.FILE]))

    def _bucket(self, view: Any, limit: _Limit, tenant: str) -> tuple[str, int]:
        tokens = yaml.safe_load(view.config_map(gateway.TOKENS, gateway.NAMESPACE).data["tokens.yaml"])
        bucket = tenant if limit.key == "tenant" else "everybody"
        fitting = [item for item in tokens["descriptors"] if item["key"] == limit.key]
        named = [item for item in fitting if item.get("value") == bucket]
        found = (named or [item for item in fitting if "value" not in item] or [{}])[0]
        return bucket, int((found.get("rate_limit") or {}).get("requests_per_unit", 10**9))

    def _pass_on(
        self, method: str, body: Any, headers: Mapping[str, str], tenant: str, limit: _Limit
    ) -> tuple[tuple[int, str, dict[str, str]], int]:
        if method == "GET":
            return _said(404, {"error": {"code": "thread_not_found"}}), limit.cost(None, stream=False)
        status, answer = self._upstream(tenant, body or {}, headers)
        stream = bool((body or {}).get("stream")) and status == 200
        cost = limit.cost((answer.get("usage") or {}).get("total_tokens"), stream=stream)
        if not stream:
            return _said(status, answer), cost
        text = f"data: {json.dumps(answer)}\n\ndata: [DONE]\n\n"
        return (status, text, {"content-type": "text/event-stream"}), cost


class _Limit:
    """What an Envoy configuration counts, for whom, and what it does when it cannot."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        listener = next(item for item in config["static_resources"]["listeners"] if item["name"] == "http")
        manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
        filters = {item["name"]: item.get("typed_config") or {} for item in manager["http_filters"]}
        hosts = manager["route_config"]["virtual_hosts"]
        self._filters = filters
        self._limits = [
            limit
            for place in (*hosts, *(route for host in hosts for route in host.get("routes") or []))
            for limit in ((place.get("typed_per_filter_config") or {}).get(_RATE) or {}).get("rate_limits")
            or []
        ]
        # What stands on a route itself knows nothing of an answer's cost: it counts one for each request.
        self._on_routes = [
            limit
            for place in hosts
            for holder in (place, *((route.get("route") or {}) for route in place.get("routes") or []))
            for limit in holder.get("rate_limits") or []
        ]

    @property
    def is_there(self) -> bool:
        return _RATE in self._filters and bool(self._limits or self._on_routes)

    @property
    def denies(self) -> bool:
        return self.is_there and bool(self._filters[_RATE].get("failure_mode_deny"))

    @property
    def key(self) -> str:
        for limit in (*self._limits, *self._on_routes):
            for action in limit.get("actions") or []:
                if "request_headers" in action:
                    return str(action["request_headers"].get("descriptor_key"))
                return str(next(iter(action)))
        return ""

    def cost(self, tokens: int | None, *, stream: bool) -> int:
        """What one answer is counted as."""
        total = 0
        read = (_SSE if stream else _JSON) in self._filters
        for limit in self._limits:
            addend = limit.get("hits_addend")
            if addend is None:
                total += 1
            elif "format" in addend:
                total += (tokens or 0) if read and limit.get("apply_on_stream_done") else 0
            else:
                total += int(addend.get("number", 0))
        return total + len(self._on_routes)


def _said(
    status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> tuple[int, str, dict[str, str]]:
    return status, json.dumps(body), {"content-type": "application/json", **(headers or {})}
