"""The wrong memories that lab 03's checks must notice, on a fake cluster with the real server in it.

The Kubernetes objects are put in as their controllers would; behind the Service answers the embedded
Qdrant server itself, in this process, so that what a collection holds is the engine's own word.
"""

from __future__ import annotations

import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from helpers.grading.author import Mutant, Proofs
from helpers.grading.verdict import Status
from helpers.labs.lab03_memory.checks import STORAGE_PATH
from helpers.settings import REPOSITORY
from helpers.stack import memory
from helpers.stack.embeddings import DIMENSIONS, Embedder, Vector
from helpers.stack.memory import COLLECTION, FILTER_FIELD, HEADLESS, NAMESPACE, PORT, SERVICE, STATEFUL_SET

if TYPE_CHECKING:
    from helpers.cluster.fake import FakeCluster

MANIFESTS = REPOSITORY / "manifests" / "stack" / "qdrant" / "base"
SERVER = REPOSITORY / "helpers" / "embedded" / "images" / "qdrant"
POD, CLAIM = f"{STATEFUL_SET}-0", f"qdrant-storage-{STATEFUL_SET}-0"
INSTALLED = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ONE = f"/collections/{COLLECTION}"
Change = Callable[[Any], None]


# The server behind the Service


class Server:
    """The embedded Qdrant server on a folder of its own, asked without a network."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="qdrant-")
        self._answers: dict[str, tuple[int, str]] | None = None
        self._open()

    def freeze(self) -> None:
        """Nothing will be written any more: the same question has the same answer."""
        self._answers = {}

    def __call__(self, method: str, path: str, body: Any) -> tuple[int, str]:
        if self._answers is None:
            return self._ask(method, path, body)
        question = f"{method} {path} {json.dumps(body)}"
        if question not in self._answers:
            self._answers[question] = self._ask(method, path, body)
        return self._answers[question]

    def _ask(self, method: str, path: str, body: Any) -> tuple[int, str]:
        target = path if path.startswith("/") else f"/{path}"
        answer = self._client.request(method, target, json=body)
        return answer.status_code, answer.text

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """A request that must succeed."""
        status, text = self(method, path, body)
        assert status == 200, f"{method} {path}: {status} {text}"
        return yaml.safe_load(text)["result"]

    def upload(self, snapshot: str) -> None:
        """Bring one of its own snapshots back, as it comes from the outside."""
        (archive,) = Path(self._folder.name).rglob(snapshot)
        answer = self._client.post(f"{ONE}/snapshots/upload", files={"snapshot": archive.read_bytes()})
        assert answer.status_code == 200, answer.text

    def restart(self) -> None:
        """Another process on the same volume: its data is there, its counters are at zero."""
        self._app.state.server.storage.close()
        self._open()

    def _open(self) -> None:
        if str(SERVER) not in sys.path:
            sys.path.insert(0, str(SERVER))
        from starlette.testclient import TestClient

        create_app = import_module("qdrant_server.app").create_app
        settings = import_module("qdrant_server.settings").Settings
        folder = Path(self._folder.name)
        self._app = create_app(settings(folder / "storage", folder / "snapshots"))
        self._app.state.server.storage.load()
        self._client = TestClient(self._app)


@cache
def vectors() -> tuple[Vector, ...]:
    """The corpus's vectors, made once a process."""
    return tuple(Embedder().embed([passage.embedded_text for passage in memory.corpus()]))


def corpus_points() -> list[dict[str, Any]]:
    return [memory.as_point(*pair) for pair in zip(memory.corpus(), vectors(), strict=True)]


def fill(server: Server, points: Iterable[dict[str, Any]], **params: Any) -> None:
    """A collection with a keyword index and these points."""
    server.send("PUT", ONE, {"vectors": {"size": DIMENSIONS, "distance": "Cosine", **params}})
    server.send("PUT", f"{ONE}/index", {"field_name": FILTER_FIELD, "field_schema": "keyword"})
    listed = list(points)
    if listed:
        server.send("PUT", f"{ONE}/points", {"points": listed})


def note() -> dict[str, Any]:
    """The learner's note, as `Memory.write_note` stores it."""
    text = "the note that only the snapshot holds"
    return {"id": memory.point_id("note"), "vector": vectors()[0], "payload": memory.note_payload(text)}


# The Kubernetes side


def _at(seconds: float) -> str:
    return (INSTALLED + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _manifest(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = deepcopy(_read(MANIFESTS / name))
    tree["metadata"]["namespace"] = NAMESPACE
    return tree


@cache
def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def _pod(workload: dict[str, Any], at_s: float) -> dict[str, Any]:
    template = deepcopy(workload["spec"]["template"])
    claims = [
        {
            "name": t["metadata"]["name"],
            "persistentVolumeClaim": {"claimName": f"{t['metadata']['name']}-{POD}"},
        }
        for t in workload["spec"].get("volumeClaimTemplates") or []
    ]
    template["spec"]["volumes"] = [*template["spec"].get("volumes", []), *claims]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **template["metadata"],
            "name": POD,
            "namespace": NAMESPACE,
            "creationTimestamp": _at(at_s),
            "ownerReferences": [
                {"kind": "StatefulSet", "name": STATEFUL_SET, "apiVersion": "apps/v1", "uid": "1"}
            ],
        },
        "spec": {**template["spec"], "nodeName": "substrate"},
        "status": {
            "phase": "Running",
            "podIP": "10.244.0.20",
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def _claim(at_s: float) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": CLAIM,
            "namespace": NAMESPACE,
            "labels": {"app": "qdrant"},
            "creationTimestamp": _at(at_s),
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "200Gi"}}},
        "status": {"phase": "Bound"},
    }


def _slice(service: str, *, ready: bool = True, pods: Iterable[str] = (POD,)) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-x",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": PORT}],
        "endpoints": [
            {
                "addresses": ["10.244.0.20"],
                "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "name": pod},
            }
            for pod in pods
        ],
    }


def install(cluster: FakeCluster, edit: Callable[[dict[str, Any]], None] = lambda tree: None) -> None:
    """StatefulSet, Services, claim, pod and endpoints, as they stand after a good rollout."""
    workload = _manifest("statefulset.yaml")
    edit(workload)
    settle(cluster, workload, _manifest("service.yaml"), _manifest("service-headless.yaml"))


def settle(cluster: FakeCluster, workload: dict[str, Any], *others: dict[str, Any]) -> None:
    """What controllers and kubelet make of a StatefulSet, wherever it comes from."""
    workload["metadata"]["creationTimestamp"] = _at(0)
    workload["status"] = {"replicas": 1, "readyReplicas": 1}
    cluster.put([workload, *others, _claim(120)])
    cluster.put([_pod(workload, 300), _slice(SERVICE), _slice(HEADLESS)])


def solution(cluster: Any) -> None:
    """Installed, filled, restarted, lost and restored: the end of the lab."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    install(cluster)
    cluster.serve(NAMESPACE, SERVICE, PORT, _solved_server())


@cache
def _solved_server() -> Server:
    """One for all states that only read from it; who writes takes a server of its own."""
    server = _filled([*corpus_points(), note()])
    server.freeze()
    return server


def _filled(points: list[dict[str, Any]], **params: Any) -> Server:
    server = Server()
    fill(server, points, **params)
    server.restart()
    return server


def own_server(cluster: FakeCluster) -> Server:
    """A server with the solution's content that this state alone may change."""
    server = _filled([*corpus_points(), note()])
    cluster.serve(NAMESPACE, SERVICE, PORT, server)
    return server


def refill(*, points: Callable[[], list[dict[str, Any]]], with_note: bool = True, **params: Any) -> Change:
    """Another content behind the same Service, after a restart."""

    def change(cluster: Any) -> None:
        server = _filled([*points(), *([note()] if with_note else [])], **params)
        cluster.serve(NAMESPACE, SERVICE, PORT, server)

    return change


def reinstalled(edit: Callable[[dict[str, Any]], None]) -> Change:
    """The same with another StatefulSet, and the pod that follows from it."""
    return lambda cluster: install(cluster, edit)


def patched(kind: str, name: str, change: Callable[[dict[str, Any]], None]) -> Change:
    """One object, changed as it lies there (status included)."""

    def apply(cluster: Any) -> None:
        raw = deepcopy(cluster.view().get(kind, name, NAMESPACE).raw)
        change(raw)
        cluster.put(raw)

    return apply


def deleted(*objects: tuple[str, str]) -> Change:
    def apply(cluster: Any) -> None:
        for kind, name in objects:
            cluster.delete(kind, name, NAMESPACE)

    return apply


def both(*changes: Change) -> Change:
    def apply(cluster: Any) -> None:
        for change in changes:
            change(cluster)

    return apply


def sent(*requests: tuple[str, str, Any]) -> Change:
    """Requests to the server, as a learner's script would send them."""

    def apply(cluster: Any) -> None:
        server = own_server(cluster)
        for method, path, body in requests:
            server.send(method, path, body)

    return apply


# Edits


def _container(workload: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = workload["spec"]["template"]["spec"]["containers"][0]
    return container


def _probe(name: str, path: str | None) -> Callable[[dict[str, Any]], None]:
    def edit(workload: dict[str, Any]) -> None:
        if path is None:
            del _container(workload)[name]
        else:
            _container(workload)[name]["httpGet"]["path"] = path

    return edit


def _no_claim(workload: dict[str, Any]) -> None:
    workload["spec"]["volumeClaimTemplates"] = []
    workload["spec"]["template"]["spec"]["volumes"].append({"name": "qdrant-storage", "emptyDir": {}})


def _mounted_elsewhere(workload: dict[str, Any]) -> None:
    for mount in _container(workload)["volumeMounts"]:
        if mount["mountPath"] == STORAGE_PATH:
            mount["mountPath"] = "/data"


def _shared_claim(workload: dict[str, Any]) -> None:
    workload["spec"]["volumeClaimTemplates"] = []
    source = {"persistentVolumeClaim": {"claimName": CLAIM}}
    workload["spec"]["template"]["spec"]["volumes"].append({"name": "qdrant-storage", **source})


def _not_ready(pod: dict[str, Any]) -> None:
    pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]


def _image_missing(pod: dict[str, Any]) -> None:
    waiting = {"reason": "ErrImagePull", "message": "course.local/qdrant-edge: not found"}
    state = {"name": "qdrant", "ready": False, "restartCount": 0, "state": {"waiting": waiting}}
    pod["status"] = {
        "phase": "Pending",
        "conditions": [{"type": "Ready", "status": "False"}],
        "containerStatuses": [state],
    }


def _owned_by_replica_set(pod: dict[str, Any]) -> None:
    pod["metadata"]["ownerReferences"] = [
        {"kind": "ReplicaSet", "name": "qdrant-7d4", "apiVersion": "apps/v1"}
    ]


def _headful(service: dict[str, Any]) -> None:
    service["spec"]["clusterIP"] = "10.96.0.77"


def _no_endpoints(cluster: Any) -> None:
    cluster.put(_slice(SERVICE, pods=()))
    cluster.backend.http_handlers.clear()


def _not_qdrant(cluster: Any) -> None:
    cluster.serve(NAMESPACE, SERVICE, PORT, lambda method, path, body: (200, "<h1>Welcome to nginx!</h1>"))


def _blind_monitor(cluster: Any) -> None:
    cluster.serve_kind("ServiceMonitor", "monitoring.coreos.com", "v1", "servicemonitors")
    monitor = yaml.safe_load((MANIFESTS.parent / "monitoring" / "servicemonitor.yaml").read_text())
    monitor["metadata"]["namespace"] = NAMESPACE
    monitor["spec"]["selector"]["matchLabels"] = {"app": "vllm"}
    cluster.put(monitor)


def _one_by_one(cluster: Any) -> None:
    sent(*(("PUT", f"{ONE}/points", {"points": [point]}) for point in corpus_points()[:3]))(cluster)


def _guarded(cluster: Any) -> None:
    """As Qdrant guards itself: everything but its root and its health needs the key."""
    server = own_server(cluster)

    def answer(method: str, path: str, body: Any) -> tuple[int, str]:
        if path.strip("/") in ("", "healthz", "livez", "readyz"):
            return server(method, path, body)
        return 401, "Must provide an API key or an Authorization bearer token"

    cluster.serve(NAMESPACE, SERVICE, PORT, answer)


def _another_collections_snapshot(cluster: Any) -> None:
    """Its vectors have the right size and distance, so Qdrant puts it in place without a word."""
    server, other = own_server(cluster), "/collections/tickets"
    server.send("PUT", other, {"vectors": {"size": DIMENSIONS, "distance": "Cosine"}})
    tickets = [
        {"id": n, "vector": vector, "payload": {"ticket": n}} for n, vector in enumerate(vectors()[:7])
    ]
    server.send("PUT", f"{other}/points", {"points": tickets})
    server.upload(server.send("POST", f"{other}/snapshots")["name"])
    server.restart()


def _just_restored(cluster: Any) -> None:
    server = own_server(cluster)
    taken = server.send("POST", f"{ONE}/snapshots")
    server.upload(taken["name"])


def _in_a_batch(cluster: Any) -> None:
    sent(("POST", f"{ONE}/points/batch", {"operations": [{"upsert": {"points": corpus_points()}}]}))(cluster)


# Contents


def _half() -> list[dict[str, Any]]:
    return corpus_points()[: len(memory.corpus()) // 2]


def _twice() -> list[dict[str, Any]]:
    again = [{**point, "id": str(uuid.uuid5(uuid.NAMESPACE_OID, point["id"]))} for point in corpus_points()]
    return [*corpus_points(), *again]


def _without_layer() -> list[dict[str, Any]]:
    points = corpus_points()
    return [{**p, "payload": {k: v for k, v in p["payload"].items() if k != FILTER_FIELD}} for p in points]


def _one_layer() -> list[dict[str, Any]]:
    return [{**point, "payload": {**point["payload"], FILTER_FIELD: "docs"}} for point in corpus_points()]


def _shuffled() -> list[dict[str, Any]]:
    """Vectors of the right size on the wrong passages: what another model, or an off-by-one, makes."""
    turned = [*vectors()[7:], *vectors()[:7]]
    return [{**point, "vector": vector} for point, vector in zip(corpus_points(), turned, strict=True)]


def _constant() -> list[dict[str, Any]]:
    return [{**point, "vector": [1.0] * DIMENSIONS} for point in corpus_points()]


def _reversed_dimensions() -> list[dict[str, Any]]:
    return [{**point, "vector": point["vector"][::-1]} for point in corpus_points()]


def _sized(size: int) -> Change:
    """A collection for another model: the passages' vectors are cut or padded to fit."""

    def points() -> list[dict[str, Any]]:
        return [{**p, "vector": (p["vector"] + [0.0] * size)[:size]} for p in corpus_points()]

    return refill(points=points, with_note=False, size=size)


PROOFS = Proofs(
    solution=solution,
    mutants=[
        # install
        Mutant(
            "a Deployment instead of a StatefulSet",
            both(deleted(("StatefulSet", STATEFUL_SET)), patched("Pod", POD, _owned_by_replica_set)),
            {"memory.ready": "ReplicaSet"},
            live=False,
        ),
        Mutant(
            "running, never ready", patched("Pod", POD, _not_ready), {"memory.ready": "not ready"}, live=False
        ),
        Mutant(
            "the image is missing",
            patched("Pod", POD, _image_missing),
            {"memory.ready": "ErrImagePull"},
            live=False,
        ),
        Mutant("scaled to zero", deleted(("Pod", POD)), {"memory.ready": "0 pods"}, live=False),
        Mutant("something else answers", _not_qdrant, {"memory.ready": "nginx"}, live=False),
        Mutant("no claim: emptyDir", reinstalled(_no_claim), {"memory.storage": "emptyDir"}, live=False),
        Mutant(
            "mounted where Qdrant does not write",
            reinstalled(_mounted_elsewhere),
            {"memory.storage": "/data"},
            live=False,
        ),
        Mutant(
            "one claim for all replicas",
            reinstalled(_shared_claim),
            {"memory.storage": "not from"},
            live=False,
        ),
        Mutant(
            "the claim is lost",
            patched("PersistentVolumeClaim", CLAIM, lambda raw: raw.update(status={"phase": "Lost"})),
            {"memory.storage": "Lost"},
            live=False,
        ),
        Mutant(
            "no headless Service",
            deleted(("Service", HEADLESS)),
            {"memory.identity": "no such Service"},
            live=False,
        ),
        Mutant(
            "the governing Service is not headless",
            patched("Service", HEADLESS, _headful),
            {"memory.identity": "not headless"},
            live=False,
        ),
        Mutant(
            "the headless Service selects nothing",
            lambda cluster: cluster.put(_slice(HEADLESS, pods=())),
            {"memory.identity": "no pod"},
            live=False,
        ),
        Mutant("the Service selects nothing", _no_endpoints, {"memory.ready": "nobody behind"}, live=False),
        Mutant(
            "readiness asks /healthz",
            reinstalled(_probe("readinessProbe", "/healthz")),
            {"memory.probes": "/healthz"},
            live=False,
        ),
        Mutant(
            "no readiness probe",
            reinstalled(_probe("readinessProbe", None)),
            {"memory.probes": "nothing"},
            live=False,
        ),
        Mutant(
            "liveness kills while loading",
            reinstalled(_probe("livenessProbe", "/readyz")),
            {"memory.probes": "liveness asks /readyz"},
            live=False,
        ),
        # collection
        Mutant("made for a model of 768 dimensions", _sized(768), {"memory.schema": "768"}, live=False),
        Mutant("made for a model of 256 dimensions", _sized(256), {"memory.schema": "256"}, live=False),
        Mutant(
            "Euclidean distance",
            refill(points=corpus_points, distance="Euclid"),
            {"memory.schema": "Euclid"},
            live=False,
        ),
        Mutant(
            "an empty collection",
            refill(points=list, with_note=False),
            {"memory.corpus": "0 points", "memory.index": "0 hits", "memory.restore": "no note"},
            live=False,
        ),
        Mutant(
            "half of the corpus",
            refill(points=_half),
            {
                "memory.corpus": f"{len(memory.corpus()) // 2 + 1} points",
                "memory.restore": "25 passages",
                "memory.golden": "of 6 found",
            },
            live=False,
        ),
        Mutant(
            "ingested twice with random ids",
            refill(points=_twice),
            {"memory.corpus": "103 points", "memory.restore": "102 passages"},
            live=False,
        ),
        Mutant(
            "the field layer is missing",
            refill(points=_without_layer),
            {"memory.corpus": "0 with the right layer", "memory.index": "1 hits"},
            live=False,
        ),
        Mutant(
            "every passage in one layer",
            refill(points=_one_layer),
            {"memory.corpus": "0 with the right layer", "memory.index": "1 hits"},
            live=False,
        ),
        Mutant(
            "no payload index",
            sent(("DELETE", f"{ONE}/index/{FILTER_FIELD}", None)),
            {"memory.index": "indexes: none"},
            live=False,
        ),
        Mutant(
            "a text index where words must match exactly",
            sent(
                ("DELETE", f"{ONE}/index/{FILTER_FIELD}", None),
                ("PUT", f"{ONE}/index", {"field_name": FILTER_FIELD, "field_schema": "text"}),
            ),
            {"memory.index": "layer (text)"},
            live=False,
        ),
        Mutant(
            "vectors of other passages", refill(points=_shuffled), {"memory.golden": "0 of 6"}, live=False
        ),
        Mutant(
            "the same vector everywhere",
            refill(points=_constant),
            {"memory.golden": "of 6 found"},
            live=False,
        ),
        Mutant(
            "vectors of another model",
            refill(points=_reversed_dimensions),
            {"memory.golden": "of 6 found"},
            live=False,
        ),
        Mutant(
            "guarded by a key that the grader does not have",
            _guarded,
            {"memory.schema": "asks for an API key"},
            status=Status.ENV_ERROR,
            live=False,
        ),
        # restart
        Mutant(
            "written to again after the restart",
            lambda cluster: sent(("PUT", f"{ONE}/points", {"points": corpus_points()}))(cluster),
            {"memory.restart": "1 writes"},
            live=False,
        ),
        Mutant(
            "filled again after each restart, in batches",
            _in_a_batch,
            {"memory.restart": "1 writes"},
            live=False,
        ),
        Mutant(
            "filled again one by one",
            _one_by_one,
            {"memory.restart": "3 writes"},
            live=False,
        ),
        Mutant(
            "restored, and not restarted since",
            _just_restored,
            {"memory.restart": "1 writes"},
            live=False,
        ),
        # restore
        Mutant(
            "ingested anew instead of restored",
            refill(points=corpus_points, with_note=False),
            {"memory.restore": "no note"},
            live=False,
        ),
        Mutant(
            "the snapshot of another collection",
            _another_collections_snapshot,
            {
                "memory.corpus": "7 points, 0 of them the corpus's",
                "memory.index": "indexes: none",
                "memory.golden": "0 of 6 found",
                "memory.restore": "no note in the collection",
            },
            live=False,
        ),
        Mutant(
            "the volume was never lost",
            lambda cluster: cluster.put(_claim(1)),
            {"memory.restore": "first volume is still in use"},
            status=Status.NOT_ATTEMPTED,
            live=False,
        ),
        # metrics
        Mutant(
            "the headless Service lost the chart's component label",
            patched(
                "Service", HEADLESS, lambda raw: raw["metadata"]["labels"].pop("app.kubernetes.io/component")
            ),
            {"memory.metrics": "no Service with the component"},
            live=False,
        ),
        Mutant(
            "the port has another name",
            patched("Service", HEADLESS, lambda raw: raw["spec"]["ports"][0].update(name="web")),
            {"memory.metrics": "web"},
            live=False,
        ),
        Mutant(
            "a ServiceMonitor that selects nothing",
            _blind_monitor,
            {"memory.metrics": "selecting it: 0"},
            live=False,
        ),
        Mutant(
            "both Services are scraped",
            patched(
                "Service",
                SERVICE,
                lambda raw: raw["metadata"]["labels"].update(
                    {"app.kubernetes.io/component": "cluster-discovery"}
                ),
            ),
            {"memory.metrics": "qdrant: http"},
            live=False,
        ),
    ],
)
