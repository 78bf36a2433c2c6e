"""The controller of `helpers/apps/isvc` on a fake cluster: its Api, the kinds that it needs, and children that run."""

from __future__ import annotations

from typing import Any

from helpers.apps.isvc.api import PATHS, ApiProblem
from helpers.apps.isvc.decisions import GROUP, Object
from helpers.cluster.backend import APPLY, MERGE
from helpers.cluster.fake import FakeCluster
from helpers.grading.changes import endpoints, manifest

NAMESPACE = "llm-models"
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
