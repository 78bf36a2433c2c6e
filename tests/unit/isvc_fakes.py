"""The controller of `helpers/apps/isvc` on a fake cluster: its Api, the kinds that it needs, and children that run."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from helpers.apps.isvc.api import PATHS, ApiProblem
from helpers.apps.isvc.decisions import GROUP, Object
from helpers.apps.isvc.operator import Controller
from helpers.apps.isvc.passes import Reconciler
from helpers.cluster.backend import APPLY, MERGE
from helpers.cluster.fake import FakeCluster
from helpers.cluster.resource import Resource
from helpers.errors import LabError
from helpers.grading.changes import endpoints, manifest
from helpers.labs.lab09_models import witness_controller, witness_controller_program
from helpers.labs.witness_base import Answer
from helpers.stack import models

NAMESPACE = "llm-models"
LOADS_S = 0.15
IMAGE = "registry.example/models/small@sha256:" + 64 * "a"
KINDS = (
    ("InferenceService", GROUP, "v1beta1", "inferenceservices"),
    ("ServingRuntime", GROUP, "v1alpha1", "servingruntimes"),
)


def cluster_with(*objects: Object) -> FakeCluster:
    """A cluster that serves KServe's kinds, and holds these objects."""
    cluster = FakeCluster(manifest("Namespace", NAMESPACE))
    for kind in KINDS:
        cluster.serve_kind(*kind)
    for item in objects:
        cluster.apply({**item, "metadata": {**item["metadata"], "namespace": NAMESPACE}})
    return cluster


class FakeApi:
    """What a pass asks, answered by a FakeCluster's own API server."""

    def __init__(self, cluster: FakeCluster) -> None:
        self.cluster = cluster
        self.broken = ""

    async def find(self, kind: str, name: str) -> Object | None:
        return self._call("GET", kind, name, missing_is_none=True)

    async def list(self, kind: str, labels: str = "") -> list[Object]:
        query = {"labelSelector": labels} if labels else {}
        return list((self._call("GET", kind, query=query) or {}).get("items") or [])

    async def apply(self, wanted: Object) -> Object:
        query = {"fieldManager": "isvc-controller", "force": "true"}
        name = wanted["metadata"]["name"]
        return self._call("PATCH", wanted["kind"], name, query=query, body=wanted, type_=APPLY) or {}

    async def put_status(self, kind: str, name: str, status: Object) -> None:
        self._call("PATCH", kind, f"{name}/status", body={"status": status}, type_=MERGE)

    def _call(
        self,
        method: str,
        kind: str,
        name: str = "",
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        type_: str = MERGE,
        missing_is_none: bool = False,
    ) -> Object | None:
        if self.broken:
            raise ApiProblem(self.broken)
        root, plural = PATHS[kind]
        path = f"{root}/namespaces/{NAMESPACE}/{plural}" + (f"/{name}" if name else "")
        answer = self.cluster.backend.request(method, path, query=query, body=body, content_type=type_)
        if answer.status == 404 and missing_is_none:
            return None
        if not answer.ok:
            raise ApiProblem(f"{method} {path}: {answer.status}")
        found: Object = answer.json(path)
        return found


def runs(cluster: FakeCluster, name: str, *, replicas: int = 1, serving: int | None = None) -> None:
    """What Deployment and endpoint controllers and the kubelet make of an InferenceService's children."""
    found = cluster.view().get("Deployment", f"{name}-predictor", NAMESPACE)
    serving = replicas if serving is None else serving
    status = {
        "observedGeneration": found.metadata["generation"],
        "replicas": replicas,
        "updatedReplicas": replicas,
        "readyReplicas": serving,
        "availableReplicas": serving,
    }
    cluster.set_status("Deployment", found.name, status, NAMESPACE)
    address = "10.0.0.9" if serving else ""
    endpoints(f"{name}-predictor", namespace=NAMESPACE, address=address, port=8080)(cluster)


class World:
    """A cluster in which time passes: a controller with these functions, what Kubernetes makes of its children, calls.

    A thread plays all of them. A server whose arguments say `--http-port=1` never becomes ready, and while it does not,
    the one before it serves on.
    """

    def __init__(self, reconciler: Reconciler, *objects: Object) -> None:
        self.reconciler = reconciler
        self.cluster = cluster_with(*objects)
        self.cluster.apply(_controller())
        self.cluster.apply(_catalogue())
        self.calls: list[str] = []
        self._known: dict[tuple[str, str], str] = {}
        self._serving: dict[str, str] = {}
        self._began: dict[tuple[str, str], float] = {}
        self._was_away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> World:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _loop(self) -> None:
        while not self._stop.is_set():
            view = self.cluster.view()
            is_away = view.get("Deployment", "isvc-controller", NAMESPACE).path("spec.replicas", 1) == 0
            if not is_away:
                asyncio.run(self._passes())
            self._was_away = is_away
            self._kubernetes()
            self._stop.wait(0.01)

    async def _passes(self) -> None:
        """What kopf would tell since the last time, and the clock; a controller that has just begun is told all."""
        controller = Controller(FakeApi(self.cluster), self.reconciler)
        if self._was_away:
            self._known.clear()
        seen = dict(self._objects())
        for key, item in seen.items():
            version = item["metadata"]["resourceVersion"]
            if self._known.get(key) != version:
                await controller.told(key[0], "MODIFIED" if key in self._known else "ADDED", item)
        for kind, name in self._known.keys() - seen.keys():
            await controller.told(kind, "DELETED", {"metadata": {"name": name}})
        await controller.tick()
        # What a pass writes is told the next time.
        self._known = {key: item["metadata"]["resourceVersion"] for key, item in seen.items()}
        while controller.queue.names:
            await controller.one()

    def _objects(self) -> Iterator[tuple[tuple[str, str], Object]]:
        for kind in PATHS:
            for item in self.cluster.view().list(kind, NAMESPACE):
                yield (kind, item.name), item.raw

    def _kubernetes(self) -> None:
        for item in self.cluster.view().list("Deployment", NAMESPACE):
            if not item.name.endswith("-predictor"):
                self._settle(item)
                continue
            template = json.dumps(item.path("spec.template.spec"), sort_keys=True)
            works = "--http-port=1" not in template and "registry.example/absent" not in template
            began = self._began.setdefault((item.uid or "", template), time.monotonic())
            if works and time.monotonic() - began > LOADS_S:
                self._serving[item.uid or ""] = template
            serves = item.uid in self._serving
            status = {
                "observedGeneration": item.metadata["generation"],
                "replicas": 1 if not serves or self._serving[item.uid or ""] == template else 2,
                "updatedReplicas": 1,
                "readyReplicas": int(serves),
                "availableReplicas": int(serves),
            }
            if item.path("spec.replicas", 1) == 0:
                status, serves = (
                    dict.fromkeys(status, 0) | {"observedGeneration": item.metadata["generation"]},
                    False,
                )
            with suppress(LabError):
                if item.path("status", {}) != status:
                    self.cluster.set_status("Deployment", item.name, status, NAMESPACE)
                self._lead(item.name, item.path("spec.template.metadata.labels", {}), serves)

    def _settle(self, item: Resource) -> None:
        """Any other Deployment has the pods that it asks for."""
        counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        status = dict.fromkeys(counts, item.path("spec.replicas", 1))
        status["observedGeneration"] = item.metadata["generation"]
        if item.path("status", {}) != status:
            with suppress(LabError):
                self.cluster.set_status("Deployment", item.name, status, NAMESPACE)

    def _lead(self, name: str, labels: dict[str, str], serves: bool) -> None:
        front = self.cluster.view().find("Service", name, NAMESPACE)
        selects = front is not None and (front.path("spec.selector", {}) or {}).items() <= labels.items()
        wanted = ["10.0.0.9"] if serves and selects else []
        if self.cluster.view().endpoint_slices(name, NAMESPACE) != wanted:
            endpoints(name, namespace=NAMESPACE, address=wanted[0] if wanted else "", port=8080)(self.cluster)

    # What the witness's pod asks

    def call(self, url: str, body: Any = None, *, headers: Any = None, timeout_s: float = 0) -> Answer:
        """A call of a witness's pod to a server behind a Service."""
        place = urllib.parse.urlsplit(url)
        self.calls.append(url)
        name = (place.hostname or "").partition(".")[0]
        found = self.cluster.view().find("Deployment", name, NAMESPACE)
        if found is None or not self.cluster.view().endpoint_slices(name, NAMESPACE):
            return Answer(0, "refused", {}, 0)
        asked = urllib.parse.parse_qs(place.query).get("cmd", [""])[0]
        pod = found.path("spec.template.spec")
        mount = models.mount_of(pod)
        volume = models.volume_of(pod)
        if asked.startswith("cat"):
            there = (volume.get("image") or {}) and mount.get("subPath") == "models"
            return Answer(
                200, json.dumps({"output": '{"architectures": 1}' if there else "", "error": ""}), {}, 0
            )
        if asked.startswith("touch"):
            read_only = mount.get("readOnly") or "image" in volume
            return Answer(200, json.dumps({"output": "" if read_only else "done"}), {}, 0)
        return Answer(200, name, {}, 0)


def witness_saw(world: World, name: str, monkeypatch: Any) -> dict[str, Any]:
    """What a witness's program sees in this world, with all waits shortened."""
    for constant, seconds in _SHORT.items():
        monkeypatch.setattr(witness_controller, constant, seconds)
    monkeypatch.setattr(witness_controller_program, "ANSWER_S", 0.5)
    runner = witness_controller.Runner(world.cluster, name, lambda line: None)
    monkeypatch.setattr(
        witness_controller_program, "ask_runner", lambda word, timeout_s: getattr(runner, word)()
    )
    monkeypatch.setattr(witness_controller_program, "call", world.call)
    with world:
        try:
            return witness_controller_program.WITNESSES[name]()
        finally:
            runner.clean()


_SHORT = {
    "POLL_S": 0.01,
    "SOON_S": 0.8,
    "GONE_S": 0.8,
    "READY_S": 1.5,
    "SETTLED_S": 0.1,
    "CALM_S": 0.5,
    "SETTLES_S": 0.1,
    "BROKEN_S": 0.2,
}


def _controller() -> Object:
    labels = {"app": "isvc-controller"}
    container = {"name": "isvc-controller", "image": "course.local/isvc-controller:1"}
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), 1)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "isvc-controller", "namespace": NAMESPACE, "labels": labels},
        "spec": spec,
        "status": {"observedGeneration": 1, **counts},
    }


def _catalogue() -> Object:
    said = {"1": {"image": IMAGE, "digest": IMAGE.partition("@")[2], "model": "abc"}}
    data = {models.VERSIONS: json.dumps(said)}
    metadata = {"name": models.CATALOGUE, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
