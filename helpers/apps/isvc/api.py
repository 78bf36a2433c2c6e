"""The few calls that the controller makes to the API server, with its ServiceAccount's token, on aiohttp."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.apps.isvc.decisions import GROUP, Object

if TYPE_CHECKING:
    import aiohttp

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = "https://kubernetes.default.svc"
MANAGER = "isvc-controller"
TIMEOUT_S = 10.0
PATHS = {
    "InferenceService": (f"/apis/{GROUP}/v1beta1", "inferenceservices"),
    "ServingRuntime": (f"/apis/{GROUP}/v1alpha1", "servingruntimes"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Service": ("/api/v1", "services"),
    "EndpointSlice": ("/apis/discovery.k8s.io/v1", "endpointslices"),
}


class ApiProblem(Exception):
    """The API server did not do what it was asked; in its words."""


class KubeApi:
    """The API server, in one namespace."""

    def __init__(self, namespace: str, *, server: str = SERVER, account: Path = ACCOUNT) -> None:
        self._namespace, self._server, self._account = namespace, server, account
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def find(self, kind: str, name: str) -> Object | None:
        """One object; None for none."""
        return await self._call("GET", self._path(kind, name), missing_is_none=True)

    async def list(self, kind: str, labels: str = "") -> list[Object]:
        """The objects of a kind."""
        found = await self._call("GET", self._path(kind), query={"labelSelector": labels} if labels else {})
        return list((found or {}).get("items") or [])

    async def apply(self, wanted: Object) -> Object:
        """Server-side apply, forced: fields that somebody else has changed are the controller's again."""
        query = {"fieldManager": MANAGER, "force": "true"}
        path = self._path(wanted["kind"], wanted["metadata"]["name"])
        return (
            await self._call("PATCH", path, query=query, body=wanted, type_="application/apply-patch+yaml")
            or {}
        )

    async def put_status(self, kind: str, name: str, status: Object) -> None:
        """Lay this over the status; None takes a field out."""
        path, body = f"{self._path(kind, name)}/status", {"status": status}
        await self._call(
            "PATCH", path, query={"fieldManager": MANAGER}, body=body, type_="application/merge-patch+json"
        )

    def _path(self, kind: str, name: str = "") -> str:
        root, plural = PATHS[kind]
        return f"{root}/namespaces/{self._namespace}/{plural}" + (f"/{name}" if name else "")

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        type_: str = "application/json",
        missing_is_none: bool = False,
    ) -> Object | None:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        headers = {"Content-Type": type_, **self._authorization()}
        try:
            async with self._session.request(
                method, f"{self._server}{path}", params=query, json=body, headers=headers, ssl=self._tls()
            ) as answer:
                said: Any = await answer.json(content_type=None)
                if answer.status == 404 and missing_is_none:
                    return None
                if answer.status >= 400:
                    raise ApiProblem(f"{method} {path}: {answer.status} {(said or {}).get('message')}")
                found: Object = said
                return found
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise ApiProblem(f"{method} {path}: {type(error).__name__}: {error}") from error

    def _authorization(self) -> dict[str, str]:
        """The kubelet writes a new token before the old one ends: it is read for each call."""
        token = self._account / "token"
        return {"Authorization": f"Bearer {token.read_text().strip()}"} if token.is_file() else {}

    def _tls(self) -> ssl.SSLContext | bool:
        authority = self._account / "ca.crt"
        if not self._server.startswith("https") or not authority.is_file():
            return True
        if not hasattr(self, "_context"):
            self._context = ssl.create_default_context(cafile=str(authority))
        return self._context
