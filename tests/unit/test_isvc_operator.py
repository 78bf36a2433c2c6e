"""The controller under kopf itself: real watches, on a loopback API server that a fake cluster answers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import kopf
import pytest
from aiohttp import web

from helpers.apps.isvc.api import ApiProblem, KubeApi
from helpers.apps.isvc.decisions import FILE, PLUG_POINTS, TYPES, example_runtime, example_service
from helpers.apps.isvc.operator import WATCHED, Controller, quiet, registered
from helpers.apps.isvc.passes import Reconciler
from helpers.apps.orchestrator.decisions import load
from helpers.cluster.fake import FakeCluster
from helpers.labs.lab09_models.proof_controller import functions_text
from tests.unit.isvc_fakes import NAMESPACE, cluster_with, runs

SOLVED = Reconciler(load(FILE, functions_text().encode(), PLUG_POINTS, TYPES), "abc")
SOON_S = 20.0


class Server:
    """A fake cluster's API server over HTTP, with discovery and watches as kopf asks for them."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.asked: list[str] = []
        self.app = web.Application()
        self.app.router.add_route("*", "/{path:.*}", self.answer)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if found := self._discovery(request.path):
            return web.json_response(found)
        if request.query.get("watch") == "true":
            return await self._watch(request)
        text = await request.text()
        said = self.cluster.backend.request(
            request.method,
            request.path,
            query={key: value for key, value in request.query.items() if key != "resourceVersion"},
            body=json.loads(text) if text else None,
            content_type=request.content_type,
        )
        return web.Response(status=said.status, body=said.body, content_type="application/json")

    def _discovery(self, path: str) -> Any:
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        groups: dict[str, list[str]] = {}
        # kopf waits until it knows the kind Namespace, also where it looks into one alone.
        for group, version, _, _ in WATCHED:
            if group:
                groups.setdefault(group, []).append(version)
        if path == "/apis":
            listed = [
                {
                    "name": group,
                    "versions": [{"groupVersion": f"{group}/{item}", "version": item} for item in versions],
                    "preferredVersion": {"groupVersion": f"{group}/{versions[0]}", "version": versions[0]},
                }
                for group, versions in groups.items()
            ]
            return {"kind": "APIGroupList", "groups": listed}
        for group, version in {(group, version) for group, version, _, _ in WATCHED}:
            if path == (f"/apis/{group}/{version}" if group else f"/api/{version}"):
                resources = [
                    {
                        "name": plural,
                        "singularName": kind.lower(),
                        "kind": kind,
                        "namespaced": True,
                        "verbs": ["get", "list", "watch", "patch"],
                    }
                    for of, at, plural, kind in (*WATCHED, ("", "v1", "namespaces", "Namespace"))
                    if (of, at) == (group, version)
                ]
                return {
                    "kind": "APIResourceList",
                    "groupVersion": f"{group}/{version}",
                    "resources": resources,
                }
        return None

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        with suppress(ConnectionError):  # whoever watched has gone
            await self._tell(request, stream)
        return stream

    async def _tell(self, request: web.Request, stream: web.StreamResponse) -> None:
        known = {name: version for name, version, _ in self._listed(request.path)}
        # kopf waits for every task that began after it: one that fails because nobody listens would be its own fault.
        with suppress(ConnectionResetError):
            while True:
                await asyncio.sleep(0.02)
                now = self._listed(request.path)
                for name, version, item in now:
                    if known.get(name) != version:
                        event = {"type": "MODIFIED" if name in known else "ADDED", "object": item}
                        await stream.write(json.dumps(event).encode() + b"\n")
                for name in known.keys() - {name for name, _, _ in now}:
                    gone = {
                        "metadata": {
                            "name": name,
                            "namespace": NAMESPACE,
                            "uid": name,
                            "resourceVersion": "1",
                        }
                    }
                    await stream.write(json.dumps({"type": "DELETED", "object": gone}).encode() + b"\n")
                known = {name: version for name, version, _ in now}
        return stream

    def _listed(self, path: str) -> list[tuple[str, str, Any]]:
        items = self.cluster.backend.request("GET", path).json(path)["items"]
        return [(item["metadata"]["name"], item["metadata"]["resourceVersion"], item) for item in items]


@asynccontextmanager
async def operating(
    cluster: FakeCluster, reconciler: Reconciler = SOLVED
) -> AsyncIterator[tuple[Server, Controller]]:
    """kopf with this controller, from its first list to its end."""
    server = Server(cluster)
    runner = web.AppRunner(server.app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = runner.addresses[0]
    url = f"http://{address[0]}:{address[1]}"
    controller = Controller(
        KubeApi(NAMESPACE, server=url, account=Path("/nowhere")), reconciler, clock_s=3600
    )
    # No clock: whatever happens in these tests was told by a watch.
    registry = registered(
        controller, lambda **_: kopf.ConnectionInfo(server=url, default_namespace=NAMESPACE)
    )
    settings = kopf.OperatorSettings()
    quiet(settings)
    ready, stop = asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(
        kopf.operator(
            registry=registry,
            settings=settings,
            namespaces=[NAMESPACE],
            standalone=True,
            ready_flag=ready,
            stop_flag=stop,
        )
    )
    try:
        await asyncio.wait_for(ready.wait(), SOON_S)
        yield server, controller
    finally:
        stop.set()
        await asyncio.wait_for(task, SOON_S)
        await controller.api.close()  # type: ignore[attr-defined]
        await runner.cleanup()


async def until(is_so: Callable[[], bool]) -> bool:
    """Whether it comes to that soon."""
    end = time.monotonic() + SOON_S
    while time.monotonic() < end:
        if is_so():
            return True
        await asyncio.sleep(0.02)
    return False


async def comes_to_rest(controller: Controller) -> bool:
    """Whether there are no more passes for a while."""
    end, seen, since = time.monotonic() + SOON_S, controller.passes, time.monotonic()
    while time.monotonic() < end:
        await asyncio.sleep(0.05)
        if controller.passes != seen:
            seen, since = controller.passes, time.monotonic()
        if time.monotonic() - since > 0.5:
            return True
    return False


def has(cluster: FakeCluster, kind: str, name: str = "smol-predictor") -> bool:
    return cluster.view().find(kind, name, NAMESPACE) is not None


def ready(cluster: FakeCluster) -> str:
    conditions = cluster.view().get("InferenceService", "smol", NAMESPACE).path("status.conditions", [])
    return next((str(item["status"]) for item in conditions if item["type"] == "Ready"), "")


def test_kopf_tells_it_what_is_there_what_comes_what_is_edited_and_what_goes() -> None:
    async def play() -> None:
        cluster = cluster_with(example_runtime(), example_service())
        async with operating(cluster) as (_, controller):
            assert await until(lambda: has(cluster, "Service")), "it was there before the watch began"
            cluster.delete("Deployment", "smol-predictor", NAMESPACE)
            assert await until(lambda: has(cluster, "Deployment")), "somebody deleted it"
            cluster.patch("Deployment", "smol-predictor", {"spec": {"replicas": 5}}, NAMESPACE)
            view = cluster.view()
            assert await until(
                lambda: view.get("Deployment", "smol-predictor", NAMESPACE).path("spec.replicas") == 1
            ), "somebody edited it"
            runs(cluster, "smol")
            assert await until(lambda: ready(cluster) == "True"), "its pods are ready"
            assert await comes_to_rest(controller), "its own status is no reason to go on and on"
            second = example_service("other")
            del second["metadata"]["uid"]
            cluster.apply(second)
            assert await until(lambda: has(cluster, "Deployment", "other-predictor")), "another one came"

    asyncio.run(play())


def test_it_writes_neither_finalizers_nor_annotations_of_kopf_s(tmp_path: Path) -> None:
    async def play() -> None:
        cluster = cluster_with(example_runtime(), example_service())
        async with operating(cluster) as (server, _):
            assert await until(lambda: ready(cluster) == "False")
            metadata = cluster.view().get("InferenceService", "smol", NAMESPACE).metadata
            assert not metadata.get("finalizers") and not metadata.get("annotations")
            writes = {line for line in server.asked if not line.startswith("GET")}
            assert {line.rpartition("/")[2] for line in writes} == {"smol-predictor", "status"}
            outside = [line for line in server.asked if "/namespaces/" in line and NAMESPACE not in line]
            assert not outside, "a Role in one namespace is all it has"

    asyncio.run(play())


def test_a_runtime_that_comes_later_wakes_it() -> None:
    async def play() -> None:
        cluster = cluster_with(example_service())
        async with operating(cluster):
            assert await until(lambda: ready(cluster) == "False") and not has(cluster, "Deployment")
            runtime = example_runtime()
            runtime["metadata"] = {"name": "vllm", "namespace": NAMESPACE}
            cluster.apply(runtime)
            assert await until(lambda: has(cluster, "Deployment"))

    asyncio.run(play())


def test_an_answer_that_is_no_yes_is_told_in_the_api_server_s_words() -> None:
    async def play() -> None:
        cluster = cluster_with()
        async with operating(cluster) as (_, controller):
            assert await controller.api.find("Deployment", "nobody") is None
            with pytest.raises(ApiProblem, match=r"404 .*not found"):
                await controller.api.put_status("InferenceService", "nobody", {})

    asyncio.run(play())


def test_an_api_server_that_is_away_is_told() -> None:
    async def play() -> None:
        api = KubeApi(NAMESPACE, server="http://127.0.0.1:9", account=Path("/nowhere"))
        with pytest.raises(ApiProblem, match="ClientConnectorError"):
            await api.list("Deployment")
        await api.close()

    asyncio.run(play())
