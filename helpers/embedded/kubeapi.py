"""A very small client of the Kubernetes API for the daemons inside the node.

They must start in a fraction of a second and stay small, so they use the standard library's HTTP
client with the admin kubeconfig's client certificate, and not the `kubernetes` package (0.9 s and
100 MB). It offers what two daemons need: a request, and a list-and-watch that survives everything
an API server does to watches: closed streams, bookmarks, 410 Gone, restarts.
"""

from __future__ import annotations

import base64
import http.client
import json
import logging
import os
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

log = logging.getLogger(__name__)

JsonObject = dict[str, Any]

# The API server sends a bookmark about once a minute: a watch that is silent for longer is dead.
WATCH_SILENCE_S = 150.0
WATCH_LENGTH_S = 280
PAGE_SIZE = 500
MERGE_PATCH = "application/merge-patch+json"


class ApiError(Exception):
    """The API server answered with an error status; `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class WatchExpired(Exception):
    """The resource version is too old (410 Gone): list again."""


@dataclass(frozen=True)
class Endpoint:
    """Where the API server is, and the TLS context that carries our client certificate."""

    host: str
    port: int
    tls: ssl.SSLContext | None

    @classmethod
    def from_kubeconfig(cls, path: Path) -> Endpoint:
        """Read a kubeconfig with embedded certificates, as kubeadm writes it."""
        document = yaml.safe_load(path.read_text())
        context = _named(document["contexts"], document["current-context"])["context"]
        cluster = _named(document["clusters"], context["cluster"])["cluster"]
        user = _named(document["users"], context["user"])["user"]
        server = urllib.parse.urlsplit(cluster["server"])
        tls = _client_tls(cluster, user) if server.scheme == "https" else None
        return cls(server.hostname or "", server.port or 443, tls)


def _named(entries: list[JsonObject], name: str) -> JsonObject:
    return next(entry for entry in entries if entry["name"] == name)


def _client_tls(cluster: JsonObject, user: JsonObject) -> ssl.SSLContext:
    authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
    context = ssl.create_default_context(cadata=authority)
    pair = base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"])
    # ssl reads certificates from files only: an anonymous one keeps the key off the disk.
    descriptor = os.memfd_create("client-certificate")
    try:
        os.write(descriptor, pair)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


class Api:
    """Requests to one API server; each call opens its own connection, so threads may share it."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
        timeout_s: float = 10.0,
    ) -> JsonObject:
        """One request; returns the decoded object, raises ApiError for an error status."""
        connection = self._connect(timeout_s)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, body=data, headers={"Content-Type": content_type})
            return _decoded(connection.getresponse())
        finally:
            connection.close()

    def list_all(self, path: str, project: Callable[[JsonObject], Any]) -> tuple[list[Any], str]:
        """All objects under a collection path, each reduced by `project`, and the list's resource version."""
        items: list[Any] = []
        token = ""
        while True:
            query = urllib.parse.urlencode({"limit": PAGE_SIZE, "continue": token})
            page = self.request("GET", f"{path}?{query}")
            items.extend(project(item) for item in page.get("items") or [])
            token = page["metadata"].get("continue") or ""
            if not token:
                return items, page["metadata"]["resourceVersion"]

    def watch(self, path: str, resource_version: str) -> Iterator[tuple[str, JsonObject]]:
        """Events after `resource_version`, bookmarks included, until the server ends the stream."""
        query = urllib.parse.urlencode(
            {
                "watch": "true",
                "resourceVersion": resource_version,
                "allowWatchBookmarks": "true",
                "timeoutSeconds": WATCH_LENGTH_S,
            }
        )
        connection = self._connect(WATCH_SILENCE_S)
        try:
            connection.request("GET", f"{path}?{query}")
            response = connection.getresponse()
            if response.status == 410:
                raise WatchExpired(path)
            if response.status != 200:
                _decoded(response)
            while line := response.readline():
                yield _event(json.loads(line), path)
        finally:
            connection.close()

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        where = self._endpoint
        if where.tls is None:
            return http.client.HTTPConnection(where.host, where.port, timeout=timeout_s)
        return http.client.HTTPSConnection(where.host, where.port, timeout=timeout_s, context=where.tls)


def _decoded(response: http.client.HTTPResponse) -> JsonObject:
    text = response.read()
    try:
        document = json.loads(text)
    except ValueError as cause:
        raise ApiError(response.status, f"not JSON: {text[:80]!r}") from cause
    if response.status >= 400:
        raise ApiError(response.status, str(document.get("message", "")))
    return document


def _event(event: JsonObject, path: str) -> tuple[str, JsonObject]:
    kind, item = event["type"], event["object"]
    if kind == "ERROR":
        if item.get("code") == 410:
            raise WatchExpired(path)
        raise ApiError(int(item.get("code") or 500), str(item.get("message", "")))
    return kind, item


class Sink(Protocol):
    """What follows a collection: told of whole lists and of single changes."""

    def replace(self, items: list[Any]) -> None: ...

    def changed(self, item: Any) -> None: ...

    def deleted(self, uid: str) -> None: ...


# What goes wrong between a client and a restarting server; ValueError is a line cut in its middle.
TRANSIENT = (OSError, http.client.HTTPException, ApiError, ValueError, KeyError)


def follow(
    api: Api,
    path: str,
    project: Callable[[JsonObject], Any],
    sink: Sink,
    stop: threading.Event,
    *,
    longest_pause_s: float = 0.5,
) -> None:
    """List, then watch, for ever: the sink always converges to what the server holds.

    A stream that ends normally is resumed from the last resource version; 410 lists again at once;
    other failures back off from 0.1 s to `longest_pause_s` and then list again.
    """
    version: str | None = None
    pause_s = 0.1
    while not stop.is_set():
        try:
            if version is None:
                items, version = api.list_all(path, project)
                sink.replace(items)
            started = time.monotonic()
            for kind, item in api.watch(path, version):
                version = item["metadata"]["resourceVersion"]
                pause_s = 0.1
                _deliver(kind, item, project, sink)
            if time.monotonic() - started < 1.0:  # a server that ends streams at once must not be hammered
                stop.wait(pause_s)
        except WatchExpired:
            version = None
        except TRANSIENT as fault:
            log.warning("watch %s: %s: %s; again in %.1f s", path, type(fault).__name__, fault, pause_s)
            version = None
            stop.wait(pause_s)
            pause_s = min(pause_s * 2, longest_pause_s)


def _deliver(kind: str, item: JsonObject, project: Callable[[JsonObject], Any], sink: Sink) -> None:
    if kind == "BOOKMARK":
        return
    if kind == "DELETED":
        sink.deleted(item["metadata"]["uid"])
    else:
        sink.changed(project(item))


def wait_for_api(kubeconfig: Path, stop: threading.Event, *, poll_s: float = 0.1) -> Api | None:
    """Wait until the kubeconfig exists and can be read; None when told to stop first."""
    while not stop.is_set():
        try:
            return Api(Endpoint.from_kubeconfig(kubeconfig))
        except (OSError, KeyError, TypeError, ValueError, StopIteration, yaml.YAMLError):
            stop.wait(poll_s)
    return None
